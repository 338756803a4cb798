"""What a cell keeps in the deadline heap: keyed timers, and the insistence of a cancellation."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from transport.envelope import Envelope
from transport.eventloop import Task
from transport.message import AnyMessage

if TYPE_CHECKING:
    from actors.cell import Cell


class Timer:
    """A keyed timer: rings the cell when its deadline comes, and again while it repeats."""

    __slots__ = ("_cell", "_message", "_period", "_when", "cancelled", "key", "tick")

    def __init__(self, cell: Cell, key: Hashable, message: AnyMessage, seconds: float, *, repeat: bool) -> None:
        self.key = key
        self.cancelled = False
        self.tick: Envelope | None = None
        self._cell = cell
        self._message = message
        self._period = seconds if repeat else None
        self._when = cell.system.now() + seconds
        cell.system.deadlines.at(self._when, self)

    def done(self) -> bool:
        """As a `Reply` of the deadline heap: whether it is cancelled."""
        return self.cancelled

    def set_result(self, _: object, /) -> None:
        """The time has come: put a tick in the mailbox, unless the last one still waits there."""
        cell = self._cell
        if self.tick is None or not cell.mailbox.holds(self.tick):
            self.tick = Envelope(self._message, cell.address, sender=cell.address)
            if self._period is None:
                self.tick.reply = Ticked(self)
            cell.mailbox.post(self.tick)
        if self._period is not None:
            now = cell.system.now()
            missed = (now - self._when) // self._period
            self._when += self._period * (missed + 1)
            cell.system.deadlines.at(self._when, self)


class Ticked:
    """Where the answer to the last tick of a timer goes: the timer is forgotten."""

    __slots__ = ("_timer",)

    def __init__(self, timer: Timer) -> None:
        self._timer = timer

    def done(self) -> bool:
        """Never before it is settled."""
        return False

    def set_result(self, _: object, /) -> None:
        """The tick is settled."""
        self._timer._cell.forget_timer(self._timer)


class Insistence:
    """In the deadline heap: cancels a task again that has swallowed its cancellation."""

    __slots__ = ("_cell", "_task")

    def __init__(self, cell: Cell, task: Task) -> None:
        self._cell = cell
        self._task = task

    def done(self) -> bool:
        """Whether the incarnation has ended, or is ending."""
        return self._cell.task is not self._task or not self._cell.interruptible

    def set_result(self, _: object, /) -> None:
        """It has not."""
        self._cell.interrupt()
