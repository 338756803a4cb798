"""Whose turn it is: what stands beside a cell's own, one message at a time."""

from __future__ import annotations

from types import CoroutineType
from typing import TYPE_CHECKING, Any, ClassVar

import anyio

from actors.actor import Handler
from actors.ref import current
from transport.address import Address
from transport.envelope import Envelope
from transport.eventloop import Future, Task

if TYPE_CHECKING:
    from actors.cell import Cell


class Turn:
    """One message of a concurrent handler, in a task of its own."""

    __slots__ = (
        "_over", "address", "begun", "cancelled", "cell", "envelope", "handler", "running", "task", "waits_for",
    )  # fmt: skip

    serial: ClassVar[bool] = False

    def chain(self) -> tuple[Address, ...]:
        """As for the actor's own turn: whether another handler is free to answer is not known in advance."""
        return (self.address,)

    def __init__(self, cell: Cell, envelope: Envelope, handler: Handler) -> None:
        self.cell = cell
        self.address = cell.address
        self.envelope: Envelope | None = envelope
        self.handler = handler
        self.waits_for: Address | None = None
        self.running = self.cancelled = False
        self.begun = cell.system.future()
        self._over: list[Future] = []
        self.task: Task = cell.system.loop.start(self.run, cell.address)

    async def run(self) -> None:
        """Handle the message, settle it, make room for the next."""
        current.set(self)
        self.running = True
        cell, envelope, handler = self.cell, self.envelope, self.handler
        system, instance = cell.system, cell.instance
        assert envelope is not None
        if not self.begun.done():
            self.begun.set_result(None)
        try:
            if self.cancelled or instance is None:
                system.dead_letter(envelope, "killed")
            elif (envelope.reply is not None and envelope.reply.done()) or (
                envelope.deadline is not None and envelope.deadline <= system.now()
            ):
                cell.too_late(envelope)
            else:
                call = system.deliver(envelope) if system.deliver else handler.function(instance, envelope.message)
                result = await call
                if self.envelope is None:
                    cell.put_aside(envelope)
                else:
                    system.succeeded(envelope, result)
        except BaseException as error:  # noqa: BLE001  # failed() tells what it is
            exit = cell.failed(envelope, handler, error)  # noqa: A001
            if exit is not None and exit.reason == "failed":
                cell.mailbox.post(Envelope(exit, self.address))  # type: ignore[arg-type]
        cell.turn_over(self)
        for each in self._over:
            if not each.done():
                each.set_result(None)

    def cancel(self) -> None:
        """Cancel the handler; one that has not begun never will."""
        self.cancelled = True
        if self.running:
            self.task.cancel()

    def over(self) -> Future:
        """A future that is resolved when the turn is over."""
        over = self.cell.system.future()
        self._over.append(over)
        return over


class Background:
    """Whose turn it is in `on_start`, and in tasks that it leaves running: the actor's, but they hold up no mail."""

    __slots__ = ("address", "cell", "waits_for")

    serial: ClassVar[bool] = False
    envelope: ClassVar[Envelope | None] = None

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.address = cell.address
        self.waits_for: Address | None = None

    def chain(self) -> tuple[Address, ...]:
        """Who else waits while this asks: nobody, once `on_start` is over."""
        return () if self.cell.began else (self.address,)


async def call_handler(envelope: Envelope) -> Any:
    """Run the handler for `envelope` in the turn that is on: the innermost of the `deliver` middleware."""
    turn = current.get()
    assert turn is not None
    cell = turn.cell if isinstance(turn, Turn | Background) else turn
    handler = cell.spec.actor.__dispatch__[type(envelope.message)]
    result = handler.function(cell.instance, envelope.message)
    return await result if handler.awaits else plain(result, handler)


def plain(result: Any, handler: Handler) -> Any:
    """The result of a plain `def` handler, which must not be something to await."""
    if type(result) is CoroutineType:
        result.close()
        name = handler.function.__qualname__
        raise TypeError(f"{name} is a plain def that returned a coroutine: make it async def, or await inside")
    return result


def is_fatal(error: BaseException) -> bool:
    """Whether this, or anything in this group, is neither an `Exception` nor a cancellation."""
    if isinstance(error, BaseExceptionGroup):
        return any(map(is_fatal, error.exceptions))
    return not isinstance(error, Exception | anyio.get_cancelled_exc_class())
