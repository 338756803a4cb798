"""`Middleware`: what runs around a mailbox, composed once so that nothing is paid for what is off."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from transport.envelope import Envelope, Outcome

Accept = Callable[[Envelope], Awaitable[None]]
Deliver = Callable[[Envelope], Awaitable[Any]]
Settled = Callable[[Envelope, Outcome], None]


class Middleware:
    """Override what you need; a method that is not overridden costs nothing.

    Each wraps the `next` one inward; the first middleware of a system is the outermost.
    """

    async def accept(self, envelope: Envelope, next: Accept) -> None:  # noqa: A002
        """A message enters a mailbox, in the sender's turn: ``await next(envelope)``, or raise a `DeliveryError`."""
        await next(envelope)

    async def deliver(self, envelope: Envelope, next: Deliver) -> Any:  # noqa: A002
        """A message leaves the mailbox for its handler, in the actor's turn: ``return await next(envelope)``.

        What it raises counts as raised by the handler. Called once per attempt.
        """
        return await next(envelope)

    def settled(self, envelope: Envelope, outcome: Outcome) -> None:
        """An accepted message has met its fate; called exactly once per message."""


class Gate:
    """The `Inlet` of a mailbox with `accept` middleware before it."""

    __slots__ = ("_accept",)

    def __init__(self, accept: Accept) -> None:
        self._accept = accept

    def offer(self, envelope: Envelope) -> bool:
        """Never at once: middleware may wait."""
        return False

    async def put(self, envelope: Envelope) -> None:
        """Through the middleware into the mailbox."""
        await self._accept(envelope)


def compose_accept(middleware: Sequence[Middleware], innermost: Accept) -> Accept:
    """`innermost` wrapped in every `accept` that is overridden; itself where none is."""
    for each in reversed(middleware):
        if type(each).accept is not Middleware.accept:
            innermost = partial(each.accept, next=innermost)
    return innermost


def compose_deliver(middleware: Sequence[Middleware], innermost: Deliver) -> Deliver:
    """`innermost` wrapped in every `deliver` that is overridden; itself where none is."""
    for each in reversed(middleware):
        if type(each).deliver is not Middleware.deliver:
            innermost = partial(each.deliver, next=innermost)
    return innermost


def compose_settled(middleware: Sequence[Middleware]) -> tuple[Settled, ...]:
    """Every `settled` that is overridden, innermost first."""
    return tuple(m.settled for m in reversed(middleware) if type(m).settled is not Middleware.settled)
