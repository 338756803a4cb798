"""What a server promises, looked at before it is used: `check`, and `CheckedTransport`, which opens by it.

Settings and INFO fields: https://valkey.io/topics/persistence/, https://valkey.io/commands/info/ (Redis: the same).
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from socket import gaierror
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import anyio
from redis.asyncio import Redis
from redis.asyncio.connection import parse_url
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    InvalidResponse,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,  # noqa: A004
    TryAgainError,
)

from transport.errors import TransportLost, mask
from transport.redis.connect import SentinelsRefuse, place
from transport.redis.transport import RedisTransport

Class: TypeAlias = Literal["unsafe", "fast", "durable", "replicated"]
CLASSES: Final[Sequence[Class]] = ("unsafe", "fast", "durable", "replicated")
"""What a server may lose: anything; the last 2 s on power loss; nothing by itself; nothing where it fails over."""

OLDEST: Final = {"Redis": (7, 0), "Valkey": (7, 2)}
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 5.0
CONNECT: Final = 3.0  # seconds for a connection, TLS included, while a server is checked
PROBE: Final = 1.0  # seconds for finding out whether a server speaks TLS

_UNKNOWN: Final = "unknown"
_NEEDS: Final[Mapping[Class, Mapping[str, Sequence[str]]]] = {
    "fast": {
        "appendonly": ("yes",),
        # Not known is everysec: the default, and nobody has found another where CONFIG is forbidden.
        "appendfsync": ("everysec", "always", _UNKNOWN),
        "no-appendfsync-on-rewrite": ("no", _UNKNOWN),  # "yes" is appendfsync no for as long as a rewrite takes
        "maxmemory-policy": ("noeviction",),
    },
    "durable": {"appendfsync": ("always",), "no-appendfsync-on-rewrite": ("no",)},
    "replicated": {"min-replicas-to-write": ("at least 1",), "min-replicas-max-lag": ("at least 1",)},
}
"""What each class needs besides the one before: the values of a setting with which it is met, the advised one first."""

_IS_LOADING: Final = "{} is loading its data: wait"
_IS_REPLICA: Final = "{} is a replica, which takes no writes: name the primary, or wait until it is one"
_PASSING: Final = ("NOREPLICAS", "MISCONF", "BUSY", "UNBLOCKED", "MASTERDOWN")


class Refused(TransportLost):
    """The server will not do, and waiting does not change that: mend what the text names, then start again."""

    lasting = True


class Guarantee(NamedTuple):
    """What a server promises. `server` is its name and version, `lacks` what keeps it from the next class."""

    kind: Class
    server: str
    lacks: str

    def is_at_least(self, kind: Class) -> bool:
        return CLASSES.index(self.kind) >= CLASSES.index(kind)


def check_url(url: str) -> None:
    """Raise `ValueError` where redis-py does not take `url`. Says nothing of what it holds: that may be a password."""
    place(url)


async def check(client: Redis, url: str) -> Guarantee:
    """What the server at `url` promises, which `client` is for.

    Raises `TransportLost`: what is wrong, where, and what to do. It is `Refused` where trying again is of no use.
    """
    try:
        info = await client.info()
        try:
            told = await client.config_get(*{name for needs in _NEEDS.values() for name in needs})
            settings = {str(name): str(value) for name, value in told.items()}
        except ResponseError:
            settings = {}  # forbidden, or renamed, as managed servers have it
    except (RedisError, OSError) as error:
        raise await explain(error, url) from error
    return judge(info, settings, url)


def judge(info: Mapping[str, Any], settings: Mapping[str, str], url: str) -> Guarantee:
    """What a server with this INFO promises, and with these `settings`, as far as it tells them. Raises as `check`."""
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = str(info.get(f"{name.lower()}_version", "of no known version"))
    server, oldest = f"{name} {version}", OLDEST[name]
    if tuple(int(part) if part.isdecimal() else 0 for part in version.split(".")[:2]) < oldest:
        needed = " or ".join(f"{each} {major}.{minor}" for each, (major, minor) in OLDEST.items())
        raise Refused(f"{mask(url)} is {server}, which is too old: update it to at least {needed}")
    if info.get("loading"):  # INFO and CONFIG are answered all the same, also by a replica that has lost its primary
        raise TransportLost(_IS_LOADING.format(mask(url)))
    if info.get("role") == "slave":
        raise TransportLost(_IS_REPLICA.format(mask(url)))
    known = {**_told_by(info), **settings}
    if (good := info.get("min_slaves_good_slaves")) is not None and good < int(known["min-replicas-to-write"]):
        wanted = known["min-replicas-to-write"]
        raise TransportLost(
            f"{mask(url)} takes no writes: min-replicas-to-write is {wanted} and its replicas in reach are {good}; "
            "start or mend them"
        )
    kind: Class = "unsafe"
    lacks: list[str] = []
    for better in CLASSES[1:]:
        for setting, values in _NEEDS[better].items():
            value = known.get(setting, _UNKNOWN)
            if value not in values and not (values == ("at least 1",) and value.isdecimal() and int(value)):
                lacks.append(f"{setting} is {value}, not {values[0]}")
        if lacks:
            note = "" if settings else " (CONFIG is forbidden)"
            return Guarantee(kind, server, f"{better} needs other settings: {', '.join(lacks)}{note}")
        kind = better
    return Guarantee(kind, server, "")


def _told_by(info: Mapping[str, Any]) -> dict[str, str]:
    """The settings that can be read off INFO."""
    told = {}
    if "aof_enabled" in info:
        told["appendonly"] = "yes" if info["aof_enabled"] else "no"
    if "maxmemory_policy" in info:
        told["maxmemory-policy"] = str(info["maxmemory_policy"])
    if "min_slaves_good_slaves" in info:  # which is there where the two are not 0
        told |= {"min-replicas-to-write": "1", "min-replicas-max-lag": "1"}
    return told


# What went wrong ---------------------------------------------------------------------------------------------


async def explain(error: RedisError | OSError, url: str) -> TransportLost:
    """What a client for `url` raised, in words that help: `Refused`, or a `TransportLost` that may pass."""
    where, server = mask(url), place(url).url
    options, is_tls = parse_url(server), server.startswith("rediss:")
    host, port = options.get("host", "localhost"), options.get("port", 6379)
    # redis-py raises its ConnectionError while it handles the OSError, without naming it as the cause.
    origin = error if isinstance(error, OSError) else error.__cause__ or error.__context__
    said = str(error)[:200]
    match error:
        case SentinelsRefuse():
            return Refused(
                f"the Sentinels of {where} want another password: ?sentinel_username=...&sentinel_password=..."
            )
        case AuthenticationError() if "username" in options or "password" in options:
            return Refused(
                f"{where} refuses this user or password: correct them in its URL, what is no letter or digit as %XX"
            )
        case AuthenticationError():
            return Refused(f"{where} wants a password: put user:password@ before the host in its URL")
        case NoPermissionError():
            return Refused(f"{where} forbids its user what a node needs: {said}; extend the user's ACL")
        case BusyLoadingError():
            return TransportLost(_IS_LOADING.format(where))
        case ReadOnlyError():
            return TransportLost(_IS_REPLICA.format(where))
        case ClusterDownError() | TryAgainError() | OutOfMemoryError():
            return TransportLost(f"{where} cannot work now: {said}")
        case ResponseError():
            passes = said.startswith(_PASSING)
            return TransportLost(f"{where} cannot work now: {said}") if passes else Refused(f"{where} says: {said}")
        case InvalidResponse() if is_tls or not await _speaks_tls(host, port):
            return Refused(f"{where} answers, and not as a Redis server does: correct host and port")
    match origin:
        case ssl.SSLCertVerificationError():
            return Refused(
                f"{where} has a certificate that is not trusted: {origin.verify_message}; "
                "name the authority that signed it, as in rediss://host?ssl_ca_certs=FILE"
            )
        case gaierror():
            return TransportLost(f"{where} is not found, as its host has no address: correct it, or wait for it")
        case ConnectionRefusedError():
            return TransportLost(f"nobody listens at {where}: start the server, or correct host and port")
        case FileNotFoundError() | PermissionError() if is_tls:
            return Refused(f"a file of certificates in the URL {where} cannot be read: {origin.strerror}")
    if is_tls and await _speaks_plainly(host, port):
        return Refused(f"{where} speaks no TLS: write redis:// instead of rediss://")
    if not is_tls and not isinstance(error, TimeoutError) and await _speaks_tls(host, port):
        return Refused(f"{where} speaks TLS only: write rediss:// instead of redis://")
    if isinstance(origin, ssl.SSLError) and not isinstance(origin, ssl.SSLEOFError):
        return Refused(f"no TLS with {where}: {origin}; see the options ssl_... of its URL")
    return TransportLost(f"{where} does not answer: {said}")


async def _speaks_tls(host: str, port: int) -> bool:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # only a handshake: nothing is entrusted to it
    with suppress(OSError, anyio.BrokenResourceError, anyio.EndOfStream), anyio.move_on_after(PROBE):
        async with await anyio.connect_tcp(host, port, ssl_context=context, tls_standard_compatible=False):
            return True
    return False


async def _speaks_plainly(host: str, port: int) -> bool:
    with suppress(OSError, anyio.BrokenResourceError, anyio.EndOfStream), anyio.move_on_after(PROBE):
        async with await anyio.connect_tcp(host, port) as stream:
            await stream.send(b"PING\r\n")
            return await stream.receive(1) in (b"+", b"-")
    return False


# The transport that looks first ------------------------------------------------------------------------------


class CheckedTransport(RedisTransport):
    """A `RedisTransport` that opens as soon as there is a server, and only where that promises at least `least`.

    `waits` is called with each error that may pass and the seconds until the next attempt, `found` with what the
    server promises. Options as `RedisTransport`. Raises `ValueError` for a bad URL.
    """

    def __init__(
        self, url: str, *, least: Class = "fast", waits: Callable[[TransportLost, float], None],
        found: Callable[[Guarantee], None], **options: Any,
    ) -> None:  # fmt: skip
        check_url(url)
        super().__init__(url, **options)
        self._least, self._waits, self._found = least, waits, found

    async def open(self) -> None:
        """Join as soon as the server is there. Raises `Refused`."""
        pause = FIRST_PAUSE
        while True:
            try:
                return await self._open()
            except Refused:
                raise
            except TransportLost as error:
                self._waits(error, pause)
            await anyio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _open(self) -> None:
        async with self._place.client(socket_connect_timeout=CONNECT) as client:
            try:
                servers = await self._place.servers(client)
            except (RedisError, OSError) as error:
                raise await explain(error, self.url) from error
            guarantees = [await check(server, self.url) for server in servers]
        guarantee = min(guarantees, key=lambda each: CLASSES.index(each.kind))
        if not guarantee.is_at_least(self._least):
            raise Refused(
                f"{mask(self.url)} is {guarantee.kind}, and {self._least} is asked for. {guarantee.lacks}; "
                "change them, or ask for less: [redis] guarantee, --allow-unsafe"
            )
        try:
            await super().open()
        except TransportLost as error:
            if isinstance(cause := error.__cause__, RedisError | OSError):
                raise await explain(cause, self.url) from cause
            raise
        self._found(guarantee)
