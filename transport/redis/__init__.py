"""Durable mailboxes on Redis or Valkey, shared by processes. Needs the extra `redis`."""

try:
    import redis  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("transport.redis needs an extra: pip install 'waooaw-actors[redis]'") from error

from transport.redis.transport import RedisTransport

__all__ = ["RedisTransport"]
