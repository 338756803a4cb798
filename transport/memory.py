"""`MemoryTransport`: mailboxes of one process."""

from __future__ import annotations

from typing import Any

import anyio

from transport.address import Address
from transport.base import Inlet, Offer, unknown
from transport.envelope import Envelope
from transport.errors import ActorNotFound, AddressInUse, TransportClosed


class MemoryTransport:
    """Hands each envelope to its inlet in the sender's turn. What it carries is gone with the process."""

    def __init__(self) -> None:
        self._inlets: dict[Address, Inlet] = {}
        self._closed = False

    async def open(self) -> None:
        self._closed = False

    async def close(self) -> None:
        self._closed = True

    def bind(self, address: Address, inlet: Inlet) -> None:
        if self._inlets.setdefault(address, inlet) is not inlet:
            raise AddressInUse(f"{address} is in use: choose another name, or stop that actor first")

    async def claim(self, address: Address, *_: Any, **__: Any) -> None:
        """It is here, where everything is."""

    def prefers(self, address: Address) -> bool:
        """There is nobody else."""
        return True

    async def vacant(self, address: Address) -> None:
        """Never: nobody else has any addresses."""
        await anyio.sleep_forever()

    def unbind(self, address: Address, buried: Any = None) -> None:
        self._inlets.pop(address, None)

    def offer_to(self, address: Address) -> Offer:
        inlet = self._inlets.get(address)
        return unknown if inlet is None else inlet.offer

    async def drain(self, address: Address, deadline: float) -> None:
        """There is nothing that was not handed over."""

    async def pause(self) -> None:
        """It hands over in the sender's turn only."""

    def keeps(self, envelope: Envelope) -> bool:
        """Nothing outlives the process."""
        return False

    def tried(self, envelope: Envelope) -> None:
        """The envelope itself knows."""

    async def send(self, envelope: Envelope) -> None:
        if self._closed:
            raise TransportClosed(f"the transport is closed; {envelope.target} was not reached")
        inlet = self._inlets.get(envelope.target)
        if inlet is None:
            raise ActorNotFound(f"no actor lives at {envelope.target}", envelope)
        await inlet.put(envelope)
