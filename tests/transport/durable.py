"""A durable transport to try its suite on: what a server would keep is a dictionary. On trio only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Any

import msgspec
import trio

from transport.address import Address
from transport.base import Inlet, Offer, unknown
from transport.envelope import Envelope, Failed, Outcome, Reply
from transport.errors import ActorNotFound, ActorStopped, AddressInUse, DeliveryError, MailboxFull, TransportClosed
from transport.mailbox import Overflow


@dataclass
class Shelf:
    """A mailbox: what was accepted and not settled, oldest first."""

    owner: Durable | None = None
    is_open: bool = False
    capacity: int = 10_000
    overflow: Overflow = Overflow.BLOCK
    mail: list[Envelope] = field(default_factory=list)
    tries: dict[str, int] = field(default_factory=dict)
    _changed: trio.Event = field(default_factory=trio.Event)

    def change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def changed(self) -> None:
        await self._changed.wait()


class Settling:
    """The `Reply` of what was handed over: settling it takes it from its shelf."""

    def __init__(self, shelf: Shelf, owner: Durable, envelope: Envelope) -> None:
        self.shelf, self.owner, self.envelope = shelf, owner, envelope

    def done(self) -> bool:
        return self.envelope not in self.shelf.mail or self.shelf.owner is not self.owner

    def set_result(self, result: Any, /) -> None:
        self.shelf.mail.remove(self.envelope)
        self.shelf.change()
        self.answer(self.envelope.reply, result)

    def answer(self, reply: Reply | None, result: Any) -> None:
        if reply is not None and not reply.done():
            reply.set_result(result)


class Durable:
    """Carries envelopes to `shelves`, from where whoever has claimed them gets them; they stay there until settled."""

    settling: type[Settling] = Settling

    def __init__(self, shelves: dict[Address, Shelf]) -> None:
        self.shelves = shelves
        self.inlets: dict[Address, Inlet] = {}
        self.handing_over: dict[Address, trio.CancelScope] = {}
        self.waiting: set[str] = set()
        """What was given to an inlet that has not taken it yet."""
        self.handed: dict[Address, set[str]] = {}
        self.paused = self.closed = False

    async def open(self) -> None:
        self.paused = self.closed = False

    async def close(self) -> None:
        self.paused = self.closed = True
        for address in list(self.inlets):
            self.unbind(address)

    def bind(self, address: Address, inlet: Inlet) -> None:
        if self.inlets.setdefault(address, inlet) is not inlet:
            raise AddressInUse(f"{address} is in use")

    async def claim(
        self, address: Address, capacity: int = 10_000, overflow: Overflow = Overflow.BLOCK,
        program: str = "", durable: bool = True, lost: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        shelf = self.shelves.setdefault(address, Shelf())
        await trio.lowlevel.checkpoint()
        if shelf.owner is not None:
            raise AddressInUse(f"{address} is in use elsewhere")
        shelf.owner, shelf.is_open, shelf.capacity, shelf.overflow = self, True, capacity, overflow
        self.handed[address] = set()
        scope = self.handing_over[address] = trio.CancelScope()
        trio.lowlevel.spawn_system_task(self.hand_over, scope, address, shelf, self.inlets[address])

    def prefers(self, address: Address) -> bool:
        return True

    async def vacant(self, address: Address) -> None:
        shelf = self.shelves[address]
        while shelf.owner is not None:
            await shelf.changed()

    def unbind(self, address: Address, buried: Callable[[Envelope], None] = lambda _: None) -> None:
        self.inlets.pop(address, None)
        shelf = self.shelves.get(address)
        if shelf is not None and shelf.owner is self:
            self.handing_over[address].cancel()
            if not self.paused:
                shelf.is_open = False
                for envelope in list(shelf.mail):
                    buried(msgspec.structs.replace(envelope, reply=self.settling(shelf, self, envelope)))
                shelf.mail.clear()
            shelf.owner = None
            shelf.change()

    def offer_to(self, address: Address) -> Offer:
        return unknown

    async def drain(self, address: Address, deadline: float) -> None:
        shelf = self.shelves[address]
        if shelf.owner is not self or self.paused:
            return
        shelf.is_open = False
        with trio.CancelScope(deadline=deadline):
            while self.next(address, shelf) is not None or self.waiting:
                await shelf.changed()

    async def pause(self) -> None:
        self.paused = True

    def keeps(self, envelope: Envelope) -> bool:
        return self.paused

    def tried(self, envelope: Envelope) -> None:
        self.shelves[envelope.target].tries[envelope.id] = envelope.attempt

    async def send(self, envelope: Envelope) -> None:
        if self.closed:
            raise TransportClosed("closed")
        await trio.lowlevel.checkpoint()
        shelf = self.shelves.get(envelope.target)
        deadline = inf if envelope.deadline is None else envelope.deadline
        while shelf is not None and shelf.is_open and len(shelf.mail) >= shelf.capacity:
            if shelf.overflow is Overflow.REJECT or deadline <= trio.current_time():
                raise MailboxFull("full", envelope, depth=len(shelf.mail))
            with trio.CancelScope(deadline=deadline):
                await shelf.changed()
        if shelf is None or not shelf.is_open:
            raise ActorNotFound("nobody", envelope)
        shelf.mail.append(envelope)
        shelf.change()

    async def hand_over(self, scope: trio.CancelScope, address: Address, shelf: Shelf, inlet: Inlet) -> None:
        with scope:
            while True:
                envelope = None if self.paused else self.next(address, shelf)
                if envelope is None:
                    await shelf.changed()
                    continue
                self.handed[address].add(envelope.id)
                copy = msgspec.structs.replace(envelope, reply=self.settling(shelf, self, envelope))
                copy.attempt = shelf.tries.get(envelope.id, envelope.attempt)
                self.waiting.add(copy.id)
                try:
                    await inlet.put(copy)
                except ActorStopped:
                    return
                except DeliveryError as error:
                    assert copy.reply is not None
                    copy.reply.set_result(Failed(error, Outcome("dead-lettered", "refused", error)))
                finally:
                    self.waiting.discard(copy.id)
                    shelf.change()

    def next(self, address: Address, shelf: Shelf) -> Envelope | None:
        """What is to be handed over next, the most urgent first."""
        rest = (each for each in shelf.mail if each.id not in self.handed[address])
        return min(rest, key=lambda envelope: envelope.priority, default=None)
