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

    - `send` returns once the envelope is **accepted**: by the inlet, in the sender's turn; or, where mailboxes outlive
      their process (`DurableTransportConformance`), by what keeps them, and the inlet gets it soon after. A
      `DeliveryError` means that it was not and never will be, `DeliveryUnknown` that it may have been, at most once.
    - First in, first out per (sender, receiver, priority) among the sends that one task awaits in turn.
    - An address is bound to one inlet at a time, and claimed by one process at a time.
    - A message whose sender waits, and every one that is kept, comes with a `reply`: resolving that settles it.
      What is kept and was not settled goes to whoever claims the address next, in order: at least once.
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
        self, address: Address, capacity: int = ..., overflow: Overflow = ..., program: str = ...,
        durable: bool = ..., lost: Callable[[], None] = ...,
    ) -> None:  # fmt: skip
        """Return once mail for `address`, which is bound, comes here and nowhere else. Raises `AddressInUse`.

        Where mail is kept, at most `capacity` messages are, which are waiting or not settled; `overflow` says what
        becomes of one more. An inlet that accepts in the sender's turn counts for itself. `program` is what lives
        there: only its like may take over. Without `durable`, what is sent from here is handed over at once, and is
        gone with the process. `lost` is called where the address has gone to another process: what is
        done here from then on has no effect.
        """
        ...

    def prefers(self, address: Address) -> bool:
        """Whether this process is to have `address`, of those that would; the others let it try first."""
        ...

    async def vacant(self, address: Address) -> None:
        """Return once `address`, which was in use elsewhere, waits for somebody to claim it."""
        ...

    def unbind(self, address: Address, buried: Callable[[Envelope], None] = ...) -> None:
        """Nobody lives at `address` any more; its inlet has closed before, so an offer that is kept answers False.

        `buried` is called with each envelope that was accepted and comes too late to be handed over.
        """
        ...

    def offer_to(self, address: Address) -> Offer:
        """The quickest way to `address`: a call that accepts now, or answers False, which means: `send` it.

        It may be kept.
        """
        ...

    async def drain(self, address: Address, deadline: float) -> None:
        """Take no more mail for `address`; return once its inlet has all that was accepted, or at `deadline`."""
        ...

    async def pause(self) -> None:
        """Hand over no more of what is kept, as the system is ending: that is for whoever claims its address next.

        What was handed over can still be settled, and mail can still be sent.
        """
        ...

    def keeps(self, envelope: Envelope) -> bool:
        """Whether `envelope`, which was handed over and not settled, is kept for whoever claims its address next.

        So it is after a `pause`, and where the address is lost; else it must be settled here.
        """
        ...

    def tried(self, envelope: Envelope) -> None:
        """A handler has failed on `envelope`, which is tried once more: `attempt` is the number of that."""
        ...

    async def send(self, envelope: Envelope) -> None:
        """Carry `envelope` to its target and return once it is accepted.

        Raises `ActorNotFound`, `ActorStopped`, `MailboxFull` and the other `DeliveryError`s, `TransportClosed`.
        """
        ...
