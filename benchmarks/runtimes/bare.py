"""The bare loop: a deque and `await handler`, all in the sender's own task. The ceiling; it is no runtime."""

from __future__ import annotations

from collections import deque
from typing import Any

from benchmarks.messages import Grow, Tick
from benchmarks.runtime import Done, Line, Runtime
from benchmarks.runtimes.lean import Tick


class Loop:
    """Runs what is queued once a burst is complete, as a runtime does when its sender gives way."""

    def __init__(self, burst: int) -> None:
        self.queued: deque[tuple[Any, Any]] = deque()
        self.burst = burst

    async def run(self) -> None:
        queued = self.queued
        while queued:
            handler, message = queued.popleft()
            await handler(message)


class Adapter(Runtime):
    tell_awaits = False
