"""Every transport against the published suite."""

from __future__ import annotations

from typing import Any

import pytest

from transport.base import Transport
from transport.compression import Gzip
from transport.keys import Keys
from transport.memory import MemoryTransport
from transport.redis.transport import RedisTransport
from transport.testing import (
    DurableTransportConformance,
    Fault,
    FaultyTransport,
    TransportConformance,
    WireTransport,
)
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


class TestRedisTransport(DurableTransportConformance):
    @pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> Any:
        """redis-py is for asyncio only."""
        return "asyncio", {"use_uvloop": request.param}

    @pytest.fixture
    def transport(self, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Transport:
        monkeypatch.setattr("transport.redis.transport.RECONCILE", 0.1)  # what is vacant is seen by then
        return RedisTransport(redis_url)

    @pytest.fixture
    def other(self, redis_url: str) -> Transport:
        return RedisTransport(redis_url)
