"""`Runtime`: what each competitor is asked to do. The loops that are timed stand in `workloads.py`, once for all."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

CAPACITY = 10_000  # messages; for every runtime whose mailbox can be bounded without losing mail


class Unsupported(Exception):
    """The runtime cannot do this; the reason goes into the table's notes."""


@dataclass(frozen=True, slots=True)
class Line:
    """A way to one actor: the runtime's own public call, and a message class of its own: `send(message(number))`."""

    send: Callable[[Any], Any]
    message: Callable[[int], Any]


class Done:
    """Over once it has been called `calls` times, from any thread; `wait` answers with the last call's value."""

    def __init__(self, calls: int = 1) -> None:
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[int] = self._loop.create_future()
        self._next = itertools.count(1).__next__  # atomic under the GIL, which `-= 1` is not
        self._calls = calls

    def __call__(self, value: int = 0) -> None:
        if self._next() == self._calls:
            self._loop.call_soon_threadsafe(self._future.set_result, value)

    async def wait(self) -> int:
        return await self._future


class Runtime:
    """One competitor. An adapter overrides what its runtime can do; the rest is reported as '-' with the reason.

    Every handler is `async def` where the runtime has such handlers, but for `plain_echo`.
    """

    tell_awaits = True
    """Whether its tell is awaited."""
    ask_awaits = True
    """Whether its ask is awaited; if not it blocks, and `together` is what 100 askers do."""

    async def start(self) -> None:
        """Make ready to spawn. Not timed."""

    async def stop(self) -> None:
        """Stop every actor, and return when all have stopped."""

    async def counter(self, goal: int, done: Done) -> Line:
        """Spawn an actor that counts messages and calls `done` at the last of `goal`. The line tells."""
        raise Unsupported("has no tell")

    async def filtered_counter(self, layers: int, goal: int, done: Done) -> Line:
        """The same behind `layers` middlewares that only pass on."""
        raise Unsupported("has no middleware")

    async def echo(self) -> Line:
        """Spawn an actor whose `async def` handler answers with the message's number. The line asks."""
        raise Unsupported("has no async def handlers")

    async def plain_echo(self) -> Line:
        """The same with a plain `def` handler."""
        raise Unsupported("has no plain def handlers")

    def together(self, line: Line, count: int) -> list[float]:
        """Have `count` asks under way at once; the seconds that each took. Only where `ask_awaits` is false."""
        raise Unsupported("has no asks that overlap")

    async def rally(self, hits: int, done: Done) -> Line:
        """Spawn two actors that tell each other until each has `hits` behind it. The line tells the first ball."""
        raise Unsupported("has no tell")

    async def spawn(self, count: int) -> None:
        """Spawn `count` actors and return when all have started."""
        raise Unsupported("has nothing to spawn")

    async def skynet(self, leaves: int) -> int:
        """Spawn a tree of actors, ten children each; the sum of the leaves' numbers, told from level to level."""
        raise Unsupported("has nothing to spawn")


class RuntimeType(Protocol):
    """What an adapter module calls `Adapter`."""

    def __call__(self) -> Runtime: ...
