"""The server of the tests of Redis."""

from tests.redis.conftest import redis_server, redis_url

__all__ = ["redis_server", "redis_url"]
