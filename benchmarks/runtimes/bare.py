"""The bare loop: one task that polls one deque and awaits one handler. No runtime, but the ceiling of all of them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from benchmarks.messages import Tick
from benchmarks.runtime import Done, Line, Runtime, Unsupported


async def poll(mail: deque[Tick], handle: Callable[[Tick], Awaitable[None]]) -> None:
    while True:
        while mail:
            await handle(mail.popleft())
        await asyncio.sleep(0)


class Adapter(Runtime):
    tell_awaits = False

    async def stop(self) -> None:
        self.task.cancel()

    async def counter(self, goal: int, done: Done) -> Line:
        if hasattr(self, "task"):
            raise Unsupported("polls one deque")
        left = goal

        async def count(_: Tick) -> None:
            nonlocal left
            left -= 1
            if not left:
                done()

        mail: deque[Tick] = deque()
        self.task = asyncio.create_task(poll(mail, count))
        return Line(mail.append, Tick)
