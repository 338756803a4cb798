"""`Deadlines`: one place for everything that waits for a moment; no timer of the event loop per ask."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from heapq import heappop, heappush
from math import inf
from typing import Any, Final

import anyio

from transport.envelope import Reply
from transport.eventloop import Future

TIMED_OUT: Final = object()
"""What a reply is resolved with when its deadline passes."""

# [when, the reply or None]. A list: letting go is one store.
Entry = list[Any]


class Deadlines:
    """Resolves each reply with `TIMED_OUT` at its time, unless it is done before.

    A new entry only goes to the end of a list. It is sorted into the heap when its time could be the
    next to come, and most are done by then: an answered ask costs one append, where a push into the heap
    was an eighth of the whole ask. Done entries are swept out whenever the list has doubled. Whoever is
    done with an entry sets its last element to None, so that no result is kept alive.
    """

    def __init__(self, future: Callable[[], Future], now: Callable[[], float]) -> None:
        self._new: list[Entry] = []
        self._sweep_at = 1024
        self._heap: list[tuple[float, int, Entry]] = []
        self._count = itertools.count()
        self._next = inf  # no entry is due before
        self._future = future
        self._now = now
        self._parked: Future | None = None

    def at(self, when: float, reply: Reply) -> Entry:
        """Resolve `reply` with `TIMED_OUT` at `when`, seconds on the event loop's clock."""
        entry: Entry = [when, reply]
        self._new.append(entry)
        if when < self._next:
            self._next = when
            if self._parked is not None and not self._parked.done():
                self._parked.set_result(None)
        if len(self._new) > self._sweep_at:
            self._new = [entry for entry in self._new if _waits(entry)]
            self._sweep_at = max(1024, 2 * len(self._new))
        return entry

    async def run(self) -> None:
        """Watch the clock until cancelled; runs in the system's task group."""
        heap = self._heap
        while True:
            new, self._new = self._new, []
            for entry in new:
                if _waits(entry):
                    heappush(heap, (entry[0], next(self._count), entry))
            now = self._now()
            while heap and (heap[0][0] <= now or not _waits(heap[0][2])):
                entry = heappop(heap)[2]
                if _waits(entry):
                    entry[1].set_result(TIMED_OUT)
            if self._new:
                continue  # a timer has set the next one
            if self._next <= now:  # not sooner: asks of the same timeout would wake us one by one
                self._next = heap[0][0] if heap else inf
            with anyio.CancelScope(deadline=self._next):
                self._parked = self._future()
                await self._parked

    def __len__(self) -> int:
        """How many still wait."""
        return sum(map(_waits, self._new)) + sum(_waits(entry) for _, _, entry in self._heap)


def _waits(entry: Entry) -> bool:
    return entry[1] is not None and not entry[1].done()
