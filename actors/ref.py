"""`ActorRef`: how one speaks to an actor."""

from __future__ import annotations

from contextvars import ContextVar
from math import inf
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar, overload

import anyio

from actors.deadlines import TIMED_OUT
from actors.errors import AskCycle, AskTimeout
from transport.address import Address
from transport.base import unknown
from transport.envelope import NORMAL, Envelope, Failed, Outcome, Priority
from transport.errors import ActorNotFound, ActorStopped
from transport.mailbox import check_seconds
from transport.message import AnyMessage, Message, ProtobufMessage

if TYPE_CHECKING:
    from actors.actor import Actor
    from actors.cell import Cell
    from actors.system import ActorSystem
    from actors.turn import Background, Turn

A_co = TypeVar("A_co", bound="Actor", covariant=True)
R = TypeVar("R")

current: Final[ContextVar[Cell | Turn | Background | None]] = ContextVar("actors.current", default=None)
"""The actor in whose turn the running code is: it is the sender, and its envelope is the cause."""

HANDLED: Final = Outcome("handled")
_EVER: Final = 1e9  # seconds, 30 years: `reply_by` is infinite for what is no ask


class Receipt:
    """Says what became of one message, once it is settled."""

    __slots__ = ("__weakref__", "_outcome", "_system", "_waiting", "address")

    def __init__(self, system: ActorSystem, address: Address) -> None:
        self.address = address
        self._system = system
        self._outcome: Outcome | None = None
        self._waiting: list[Any] = []

    async def wait(self, timeout: float | None = None) -> Outcome:
        """The message's outcome, as soon as it has one.

        Raises `TimeoutError` after `timeout` seconds; the message goes on, and `wait` may be called again.
        """
        if self._outcome is None:
            settled = self._system.future()
            self._waiting.append(settled)
            try:
                with anyio.fail_after(timeout):
                    await settled
            finally:
                self._waiting.remove(settled)
            assert self._outcome is not None
        return self._outcome

    def done(self) -> bool:
        """Whether the outcome is known."""
        return self._outcome is not None

    def set_result(self, result: Any, /) -> None:
        """Called by the runtime, as a `Reply`."""
        self._outcome = result.outcome if type(result) is Failed else HANDLED
        for settled in self._waiting:
            if not settled.done():
                settled.set_result(None)


class ActorRef(Generic[A_co]):
    """A reference to whatever lives at `address` in `system`, now or later. Cheap, equal by address."""

    __slots__ = ("_offer", "_system", "address")

    def __init__(self, system: ActorSystem, address: Address) -> None:
        self.address = address
        self._system = system
        self._offer = system.transport.offer_to(address)

    @overload
    async def tell(
        self, message: AnyMessage, *, priority: int = ..., ttl: float | None = ...,
        correlation_id: str | None = ..., receipt: Literal[False] = ...,
    ) -> None: ...  # fmt: skip
    @overload
    async def tell(
        self, message: AnyMessage, *, priority: int = ..., ttl: float | None = ...,
        correlation_id: str | None = ..., receipt: Literal[True],
    ) -> Receipt: ...  # fmt: skip
    async def tell(  # keyword-only in the overloads alone: four keyword defaults are 4 % of a tell
        self, message: AnyMessage, priority: int = NORMAL, ttl: float | None = None,
        correlation_id: str | None = None, receipt: bool = False,
    ) -> Receipt | None:  # fmt: skip
        """Return once the mailbox has accepted `message`; it then meets exactly one fate.

        In order per (sender, receiver, priority). A full mailbox makes the sender wait, unless its
        overflow policy says otherwise; it never waits where that would close a circle of full mailboxes.
        Not a checkpoint while there is room.

        `ttl`: seconds after which no handler starts on it. `correlation_id`: passed on to whatever the
        handler sends; by default that of the message being handled. `receipt=True` returns a `Receipt`.

        Raises a `DeliveryError` (`ActorNotFound`, `ActorStopped`, `MailboxFull`, `RateLimited`, ...) where it
        was not accepted: the handler never runs.
        """
        if priority is not NORMAL:
            priority = Priority(priority)
        turn = current.get()
        if turn is None:
            envelope = Envelope(message, self.address, priority, None, correlation_id)
        elif (cause := turn.envelope) is None:
            envelope = Envelope(message, self.address, priority, turn.address, correlation_id)
        else:
            correlation_id = correlation_id or cause.correlation_id
            envelope = Envelope(message, self.address, priority, turn.address, correlation_id, cause.message_id)
            if cause.traceparent is not None:
                envelope.traceparent = cause.traceparent
        if ttl is not None:
            check_seconds("ttl", ttl)
            envelope.deadline = self._system.now() + ttl if ttl != inf else None
        if receipt:
            envelope.reply = Receipt(self._system, self.address)
        if not self._offer(envelope):
            await self._send(envelope)
        return envelope.reply if receipt else None  # type: ignore[return-value]

    @overload
    async def ask(
        self, message: Message[R], *, timeout: float = ..., priority: int = ..., correlation_id: str | None = ...
    ) -> R: ...
    @overload
    async def ask(
        self, message: ProtobufMessage, *, timeout: float = ..., priority: int = ..., correlation_id: str | None = ...
    ) -> Any: ...
    async def ask(
        self,
        message: AnyMessage,
        *,
        timeout: float = 30.0,
        priority: int = NORMAL,
        correlation_id: str | None = None,
    ) -> Any:
        """Send `message` and return the reply. Resolves exactly once.

        `timeout` in seconds; within a handler that itself answers an ask, at most what is left of that
        one. When it is over, or the asker is cancelled, a handler that has not started never will.

        Raises the handler's `Refusal`, `HandlerFailed` (it raised; the error is chained), `AskTimeout`,
        `AskCycle` (at once, where the ask would wait for itself), or a `DeliveryError` (it never ran).
        """
        system = self._system
        now = system.now()
        try:
            deadline = now + timeout
        except TypeError:
            raise TypeError(f"timeout={timeout!r}: seconds, as a number") from None
        if deadline == inf:
            deadline = now + _EVER
        future = system.future()
        if priority is not NORMAL:
            priority = Priority(priority)
        turn = current.get()
        if turn is None:
            envelope = Envelope(message, self.address, priority, None, correlation_id, None, deadline, future, deadline)
        else:
            cause = turn.envelope
            chain = turn.chain()
            cause_id = None
            if cause is not None:
                chain = (*cause.chain, *chain)
                correlation_id = correlation_id or cause.correlation_id
                cause_id = cause.message_id
                if cause.reply_by < deadline:
                    deadline = cause.reply_by
            if self.address in chain:
                raise AskCycle(" waits for ".join([*chain, self.address]))
            if circle := system.circle(turn, self.address):
                raise AskCycle(" waits for ".join(circle))
            envelope = Envelope(
                message, self.address, priority, turn.address, correlation_id, cause_id,
                deadline, future, deadline, chain,
            )  # fmt: skip
            if cause is not None and cause.traceparent is not None:
                envelope.traceparent = cause.traceparent
        if not deadline > now:
            raise self._no_time(timeout)
        entry = None
        if turn is not None:
            turn.waits_for = self.address
        try:
            if not self._offer(envelope):
                with anyio.CancelScope(deadline=deadline):
                    await self._send(envelope)
            if future.done():
                result = future.result()
                if system.turn_is_long():
                    await system.loop.checkpoint()
            else:
                entry = system.deadlines.at(deadline, future)
                result = await future
        finally:
            if entry is not None:
                entry[1] = None
            if turn is not None:
                turn.waits_for = None
        if type(result) is Failed:
            raise result.error
        if result is TIMED_OUT:
            raise AskTimeout(f"{self.address} did not answer {type(message).__name__} within {timeout} s")
        return result

    def _no_time(self, timeout: float) -> Exception:
        if timeout != timeout:
            return ValueError(f"timeout={timeout!r}: seconds")
        return AskTimeout(f"no time left to ask {self.address}")

    async def stop(self, timeout: float | None = None) -> None:
        """Take no more mail, handle what is queued, stop; returns when it has.

        After `timeout` seconds (None: the actor's own shutdown time) it is cancelled; what is left in
        its mailbox becomes dead letters. Harmless where nobody lives. Called from within the actor
        itself, or from below it, it returns at once.
        """
        await self._system.stop(self.address, timeout)

    def kill(self) -> None:
        """End the actor now: its handler is cancelled, its queued messages become dead letters."""
        self._system.kill(self.address)

    async def _send(self, envelope: Envelope) -> None:
        """The long way: nobody there, a full mailbox, middleware, or another process."""
        met = self._offer is not unknown
        transport = self._system.transport
        try:
            await transport.send(envelope)
        except ActorNotFound as error:
            if met:
                raise ActorStopped(f"{self.address} has stopped", envelope) from error
            raise
        finally:
            self._offer = transport.offer_to(self.address)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorRef) and self.address == other.address and self._system is other._system

    def __hash__(self) -> int:
        return hash(self.address)

    def __repr__(self) -> str:
        return f"ActorRef({str(self.address)!r})"
