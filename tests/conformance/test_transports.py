"""Every transport against the published suite."""

from __future__ import annotations

import pytest

from transport.base import Transport
from transport.compression import Gzip
from transport.keys import Keys
from transport.memory import MemoryTransport
from transport.testing import Fault, FaultyTransport, TransportConformance, WireTransport
from transport.wire import Wire


class TestMemoryTransport(TransportConformance):
    @pytest.fixture
    def transport(self) -> Transport:
        return MemoryTransport()


class TestFaultyTransportWithoutFaults(TransportConformance):
    @pytest.fixture
    def transport(self) -> Transport:
        return FaultyTransport(MemoryTransport(), [])


class TestFaultyTransportThatDelaysAndReorders(TransportConformance):
    """Slow and out of turn is no breach: the sends of one task stay in order, nothing is lost or doubled."""

    @pytest.fixture
    def transport(self) -> Transport:
        return FaultyTransport(MemoryTransport(), [Fault.DELAY, Fault.REORDER, Fault.PASS] * 20, delay=0.01)


class TestWireTransport(TransportConformance):
    @pytest.fixture
    def transport(self) -> Transport:
        return WireTransport(MemoryTransport())


class TestWireTransportThatSignsAndPacks(TransportConformance):
    @pytest.fixture
    def transport(self) -> Transport:
        return WireTransport(
            MemoryTransport(), Wire(compression=Gzip(), threshold=0, keys=Keys(("a", bytes(range(32)))))
        )
