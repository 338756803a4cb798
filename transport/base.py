"""`Transport`: what carries envelopes to mailboxes, with its guarantees in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from transport.address import Address
from transport.envelope import Envelope
from transport.mailbox import Overflow

Offer = Callable[[Envelope], bool]


def unknown(_: Envelope) -> bool:
    """The `Offer` of an address where nobody is known to live: `send`, and see."""
    return False


class Inlet(Protocol):
    """Where the mail for one address goes in: a mailbox, or what stands before one."""

    def offer(self, envelope: Envelope) -> bool:
        """Accept now, or answer False and change nothing."""
        ...

    async def put(self, envelope: Envelope) -> None:
        """Accept, waiting if need be, or raise a `DeliveryError`."""
        ...


class Transport(Protocol):
    """Carries envelopes to the inlet bound at their target.

    Guarantees, checked by `transport.testing.TransportConformance`:

    - `send` returns once the inlet has **accepted** the envelope; a `DeliveryError` means that it did not
      and never will, `DeliveryUnknown` that it may have, at most once.
    - First in, first out per (sender, receiver, priority) among the sends that one task awaits in turn.
    - An address is bound to one inlet at a time.
    - Cancelling `send` leaves nothing behind: accepted, or not.
    """

    async def open(self) -> None:
        """Make ready to carry. Raises `TransportLost` where that fails."""
        ...

    async def close(self) -> None:
        """Carry nothing more: from now on `send` raises `TransportClosed`. Closing twice is harmless."""
        ...

    def bind(self, address: Address, inlet: Inlet) -> None:
        """Mail for `address` goes to `inlet` from now on. Raises `AddressInUse`."""
        ...

    async def claim(
        self, address: Address, *, capacity: int = ..., overflow: Overflow = ..., lost: Callable[[], None] = ...
    ) -> None:
        """Return once mail for `address`, which is bound, comes here and nowhere else. Raises `AddressInUse`.

        At most `capacity` messages wait there; `overflow` says what becomes of one more. `lost` is called where the
        address has gone to another process: what is done here from then on has no effect.
        """
        ...

    def unbind(self, address: Address) -> None:
        """Nobody lives at `address` any more; its inlet has closed before, so an offer that is kept answers False."""
        ...

    def offer_to(self, address: Address) -> Offer:
        """The quickest way to `address`: a call that accepts now, or answers False, which means: `send` it.

        It may be kept.
        """
        ...

    async def pause(self) -> None:
        """Hand no more mail to any inlet, as the system is ending; what was handed over can still be settled."""
        ...

    def keeps(self, envelope: Envelope) -> bool:
        """Whether `envelope`, which was handed over and not settled, is kept for whoever claims its address next."""
        ...

    async def send(self, envelope: Envelope) -> None:
        """Carry `envelope` to its target and return once it is accepted.

        Raises `ActorNotFound`, `ActorStopped`, `MailboxFull` and the other `DeliveryError`s, `TransportClosed`.
        """
        ...
