"""`Deadlines`: one heap for everything that waits for a moment; no timer of the event loop per ask."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from math import inf
from typing import Any, Final

import anyio

from transport.envelope import Reply
from transport.eventloop import Future

TIMED_OUT: Final = object()
"""What a reply is resolved with when its deadline passes."""

# [when, a number that keeps equal times in order, the reply or None]. A list: letting go is one store.
Entry = list[Any]


class Deadlines:
    """Resolves each reply with `TIMED_OUT` at its time, unless it is done before.

    A reply that is done stays in the heap until it comes up or the heap has doubled, whichever is first:
    an answered ask costs one push (0.1 µs) and no removal. Whoever is done with an entry sets its last
    element to None, so that no result is kept alive.
    """

    def __init__(self, future: Callable[[], Future], now: Callable[[], float]) -> None:
        self._heap: list[Entry] = []
        self._count = itertools.count()
        self._limit = 1024
        self._future = future
        self._now = now
        self._parked: Future | None = None

    def at(self, when: float, reply: Reply) -> Entry:
        """Resolve `reply` with `TIMED_OUT` at `when`, seconds on the event loop's clock."""
        entry: Entry = [when, next(self._count), reply]
        heap = self._heap
        heappush(heap, entry)
        if heap[0] is entry and self._parked is not None and not self._parked.done():
            self._parked.set_result(None)
        if len(heap) > self._limit:
            self._compact()
        return entry

    def _compact(self) -> None:
        heap = self._heap
        heap[:] = [entry for entry in heap if entry[2] is not None and not entry[2].done()]
        heapify(heap)
        self._limit = max(1024, 2 * len(heap))

    async def run(self) -> None:
        """Watch the clock until cancelled; runs in the system's task group."""
        heap = self._heap
        while True:
            now = self._now()
            while heap and heap[0][0] <= now:
                reply = heappop(heap)[2]
                if reply is not None and not reply.done():
                    reply.set_result(TIMED_OUT)
            with anyio.CancelScope(deadline=heap[0][0] if heap else inf):
                self._parked = self._future()
                await self._parked
