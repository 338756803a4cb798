"""The lowest primitives of each event loop: a future, a clock, a task, a yield. Nothing else knows which loop runs.

Why not anyio for these four: an anyio task group spends 30 µs and 2.7 KiB on a task where the bare loop
spends 4 µs and 1.0 KiB (Python 3.13, uvloop, 20,000 parked tasks), and an anyio `Event` per hop costs more
than the rest of an ask. Everything else in the runtime is anyio.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import types
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Protocol

import anyio

if TYPE_CHECKING:
    import trio
    from anyio.abc import TaskGroup


class Future(Protocol):
    """A result that one task waits for; a cancelled wait leaves it done."""

    def done(self) -> bool: ...
    def set_result(self, result: Any, /) -> None: ...
    def result(self) -> Any: ...
    def __await__(self) -> Generator[Any, None, Any]: ...


class Task(Protocol):
    """A running coroutine function. `cancel` may be called again where a handler swallowed the last one."""

    def cancel(self) -> Any: ...


class EventLoop(Protocol):
    """One event loop, from the inside. Tasks started here are owned by whoever keeps them."""

    @property
    def future(self) -> Callable[[], Future]:
        """Makes a future."""
        ...

    @property
    def now(self) -> Callable[[], float]:
        """The clock, in seconds."""
        ...

    def start(self, function: Callable[[], Coroutine[Any, Any, None]], name: str) -> Task:
        """Run `function` in a task of its own; it must not raise."""
        ...

    def cancelled(self) -> bool:
        """Whether the current task is being cancelled from outside, rather than by what it awaited."""
        ...

    async def absorb(self) -> None:
        """The current task has dealt with its cancellation and goes on to clean up, in a shielded scope."""
        ...

    async def checkpoint(self) -> None:
        """Let the others run once."""
        ...


def current_event_loop(tasks: TaskGroup) -> EventLoop:
    """The running loop. On trio, where a nursery must own every task, `tasks` is that nursery."""
    if "trio" in sys.modules and sys.modules["trio"].lowlevel.in_trio_task():
        return _Trio(tasks)
    return _Asyncio()


@types.coroutine
def _yield() -> Generator[None, None, None]:
    yield


class _Asyncio:
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.future = self._loop.create_future
        self.now = self._loop.time

    def start(self, function: Callable[[], Coroutine[Any, Any, None]], name: str) -> Task:
        return self._loop.create_task(function())  # unnamed: the copy of a name is 90 B of an idle actor

    def cancelled(self) -> bool:
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0

    async def absorb(self) -> None:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            with contextlib.suppress(asyncio.CancelledError):
                await _yield()  # a cancellation that has not been delivered yet comes here
            while task.cancelling():
                task.uncancel()

    async def checkpoint(self) -> None:
        await _yield()


class _Trio:
    def __init__(self, tasks: TaskGroup) -> None:
        import trio

        self._tasks = tasks
        self.future = _TrioFuture
        self.now = trio.current_time

    def start(self, function: Callable[[], Coroutine[Any, Any, None]], name: str) -> Task:
        scope = anyio.CancelScope(shield=True)  # an actor is stopped in order, also when its system is cancelled

        async def run() -> None:
            with scope:
                await function()

        self._tasks.start_soon(run, name=name)
        return scope

    def cancelled(self) -> bool:
        return True  # trio cancels through scopes only, never through what was awaited

    async def absorb(self) -> None:
        """Cancellation belongs to the scope, and a shield keeps it out."""

    async def checkpoint(self) -> None:
        import trio

        await trio.lowlevel.cancel_shielded_checkpoint()


class _TrioFuture:
    """The part of `asyncio.Future` that the runtime uses, over trio's `wait_task_rescheduled`."""

    __slots__ = ("_done", "_result", "_task")

    def __init__(self) -> None:
        self._done = False
        self._result: Any = None
        self._task: trio.lowlevel.Task | None = None

    def done(self) -> bool:
        return self._done

    def result(self) -> Any:
        return self._result

    def set_result(self, result: Any, /) -> None:
        self._done, self._result = True, result
        if self._task is not None:
            import trio

            trio.lowlevel.reschedule(self._task)
            self._task = None

    def __await__(self) -> Generator[Any, None, Any]:
        return self._wait().__await__()

    async def _wait(self) -> Any:
        import trio

        if not self._done:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        return self._result

    def _abort(self, _: object) -> Any:
        import trio

        self._done, self._task = True, None
        return trio.lowlevel.Abort.SUCCEEDED
