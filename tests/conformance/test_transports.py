"""Every transport against the published suite."""

from __future__ import annotations

import pytest

from transport.base import Transport
from transport.memory import MemoryTransport
from transport.testing import Fault, FaultyTransport, TransportConformance


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
