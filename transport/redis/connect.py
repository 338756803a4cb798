"""`place`: where the server is, by its URL: one server, the one that Sentinels name, or a Cluster. And clients for it.

A client that retried by itself would send once more what was accepted: whether to is for its caller to say. What is
redirected (MOVED, ASK) is sent again all the same, as the server that said so did nothing of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final, NamedTuple, Self, cast
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

import redis
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import MasterNotFoundError, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.commands.core import AsyncDataAccessCommands
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.event import EventDispatcher
from redis.exceptions import AskError, AuthenticationError, ClusterDownError, MovedError, RedisError, ResponseError
from redis.retry import Retry

ASK: Final = 1.0  # seconds for a Sentinel or a node of a Cluster to say where to go, before the next one is asked
MOST_CONNECTIONS: Final = (
    1_000  # per client and server; redis-py's 100 are fewer than what 64 partitions can use at once
)
FIRST_KEY: Final[Mapping[str, int]] = {"EVAL": 3, "EVALSHA": 3, "BZMPOP": 3, "ZMPOP": 2}
"""Where the first key of a command is, if it does not come first."""

NOT_TAKEN: Final = (
    "not a URL that redis-py takes: after redis:// come user:password@ (in them, what is no letter or digit "
    "as %XX), host, :port, /database and ?option=value; all of them may be left out"
)
NO_SENTINELS: Final = (
    "not a URL of Sentinels: after redis+sentinel:// come user:password@ for the server, host:port of each Sentinel "
    "with commas between, /service, /database and ?option=value, such as sentinel_password; only hosts and service "
    "are needed"
)
NO_CLUSTER: Final = (
    "not a URL of a Cluster: after redis+cluster:// come user:password@, host:port of some of its nodes with commas "
    "between, and ?option=value; only a host is needed, and there is no /database"
)


class Where(NamedTuple):
    host: str
    port: int


class Place:
    """A server at a URL that redis-py takes."""

    is_cluster = False
    """Whether a command's keys must all be in one slot."""

    def __init__(self, url: str) -> None:
        self.url = url
        """Of one server, for what takes no other URL."""

    def client(self, **options: Any) -> Redis:
        """A client; `options` are those of a connection, and what the URL says of them holds."""
        return _client(self.url, **options)

    async def servers(self, client: Redis) -> Sequence[Redis]:
        """A client for each of the servers that `client` asks; they end with it."""
        return [client]

    @contextmanager
    def primaries(self, keys: Sequence[str], timeout: float) -> Iterator[list[tuple[redis.Redis, list[str]]]]:
        """For a thread: a client for each server that has some of `keys`, and which. To be used at once, and left."""
        with _thread_client(self.url, timeout) as client:
            yield [(client, list(keys))]


class Sentinels(Place):
    """The server that Sentinels name as the primary of a service."""

    def __init__(self, url: str, sentinels: Sequence[str], service: str) -> None:
        super().__init__(url)
        self._sentinels, self._service = sentinels, service

    def client(self, **options: Any) -> Redis:
        options |= parse_url(self.url)
        kind = options.pop("connection_class", None)
        for each in ("host", "port"):
            options.pop(each, None)
        options = {**_WAITS, **options, "retry": AsyncRetry(NoBackoff(), 0), "ssl": kind is SSLConnection}
        return Redis.from_pool(_Pool(self._service, _Sentinels(self._sentinels), **options))  # type: ignore[no-untyped-call]

    @contextmanager
    def primaries(self, keys: Sequence[str], timeout: float) -> Iterator[list[tuple[redis.Redis, list[str]]]]:
        with _thread_client(_at(self.url, self._primary(min(ASK, timeout))), timeout) as client:
            yield [(client, list(keys))]

    def _primary(self, timeout: float) -> Where:
        problem: Exception = _unknown(self._service)
        for url in self._sentinels:
            with _thread_client(url, timeout) as sentinel:
                try:
                    where = _primary_of(self._service, sentinel.sentinel_masters())
                except (RedisError, OSError) as error:
                    problem = error
                    continue
            if where is not None:
                return where
        raise problem


class Cluster(Place):
    """The primaries of a Cluster, of which the nodes at `seeds` know."""

    is_cluster = True

    def __init__(self, url: str, seeds: Sequence[Where]) -> None:
        super().__init__(url)
        self._seeds = seeds

    def client(self, **options: Any) -> Redis:
        """It takes the commands of a `Redis` that begin with a key, and EVAL, EVALSHA, ZMPOP and BZMPOP."""
        return cast(Redis, ClusterClient(self.url, self._seeds, options))

    async def servers(self, client: Redis) -> Sequence[Redis]:
        return await cast(ClusterClient, client).primaries()

    @contextmanager
    def primaries(self, keys: Sequence[str], timeout: float) -> Iterator[list[tuple[redis.Redis, list[str]]]]:
        having: dict[Where, list[str]] = {}
        owners = self._owners(min(ASK, timeout))
        for key in keys:
            having.setdefault(_owner(owners, key), []).append(key)
        with ExitStack() as stack:
            yield [
                (stack.enter_context(_thread_client(_at(self.url, where), timeout)), some)
                for where, some in having.items()
            ]

    def _owners(self, timeout: float) -> list[Where | None]:
        problem: Exception = ClusterDownError("no node is known")
        for where in self._seeds:
            with _thread_client(_at(self.url, where), timeout) as client:
                try:
                    answer = client.execute_command("CLUSTER", "SLOTS")
                except (RedisError, OSError) as error:
                    problem = error
                    continue
            owners, nodes = _slots(answer, where)
            self._seeds = _first(where, nodes, self._seeds)
            return owners
        raise problem


def place(url: str) -> Place:
    """Where `url` says. Raises `ValueError`, which does not say what it holds: that may be a password."""
    scheme, _, kind = url.partition("://")[0].partition("+")
    if not kind:
        _check(url, NOT_TAKEN)
        return Place(url)
    if scheme not in ("redis", "rediss") or kind not in ("sentinel", "cluster"):
        raise ValueError(
            "not a URL of a server: it begins with redis://, unix://, redis+sentinel:// or redis+cluster://, "
            "and with rediss in place of redis for TLS"
        )
    return _sentinels(url, scheme) if kind == "sentinel" else _cluster(url, scheme)


def _sentinels(url: str, scheme: str) -> Sentinels:
    parts, user, hosts = _split(url, scheme, 26379, NO_SENTINELS)
    service, _, database = parts.path.strip("/").partition("/")
    if not service or not (not database or database.isdecimal()):
        raise ValueError(NO_SENTINELS)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    name, password = options.pop("sentinel_username", ""), options.pop("sentinel_password", "")
    query = urlencode(options)
    theirs = f"{quote(name, safe='')}:{quote(password, safe='')}@" if name or password else ""
    server = parts._replace(netloc=f"{user}{_netloc(hosts[0])}", path=f"/{database}", query=query).geturl()
    sentinels = [parts._replace(netloc=f"{theirs}{_netloc(each)}", path="", query=query).geturl() for each in hosts]
    _check(server, NO_SENTINELS)
    return Sentinels(server, sentinels, unquote(service))


def _cluster(url: str, scheme: str) -> Cluster:
    parts, user, seeds = _split(url, scheme, 6379, NO_CLUSTER)
    server = parts._replace(netloc=f"{user}{_netloc(seeds[0])}", path="").geturl()
    if parts.path.strip("/") not in ("", "0") or "db" in dict(parse_qsl(parts.query)):
        raise ValueError(NO_CLUSTER)
    _check(server, NO_CLUSTER)
    return Cluster(server, seeds)


def _split(url: str, scheme: str, port: int, problem: str) -> tuple[SplitResult, str, list[Where]]:
    """The URL with the scheme that redis-py knows, user and password as they stand in it, and the hosts."""
    try:
        parts = urlsplit(url)._replace(scheme=scheme, fragment="")
        user, at, hosts = parts.netloc.rpartition("@")
        found = [urlsplit(f"//{each}") for each in hosts.split(",")]
        where = [Where(each.hostname or "", each.port or port) for each in found]
    except ValueError:
        where = []
    if not where or not all(each.host for each in where):
        raise ValueError(problem) from None
    return parts, user + at, where


def _check(url: str, problem: str) -> None:
    """Raise `ValueError` where redis-py does not take `url`."""
    try:
        ConnectionPool.from_url(url).make_connection()  # type: ignore[no-untyped-call]
        parts = urlsplit(url)
        database = "" if parts.scheme == "unix" else parts.path.strip("/")
    except (ValueError, TypeError, RedisError):
        database = "?"
    if database and not database.isdecimal():
        raise ValueError(problem)


def _netloc(where: Where) -> str:
    return f"[{where.host}]:{where.port}" if ":" in where.host else f"{where.host}:{where.port}"


def _at(url: str, where: Where) -> str:
    """`url` with another host."""
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user}{at}{_netloc(where)}").geturl()


# Clients -----------------------------------------------------------------------------------------------------

# With a `socket_timeout` redis-py makes a task of each write, which on Python 3.11 may swallow a cancellation.
_WAITS: Final[Mapping[str, Any]] = {"socket_timeout": None, "max_connections": MOST_CONNECTIONS}


def _client(url: str, **options: Any) -> Redis:
    return Redis.from_url(url, **{**_WAITS, **options, "retry": AsyncRetry(NoBackoff(), 0)})


def _thread_client(url: str, timeout: float) -> redis.Redis:
    return redis.Redis.from_url(
        url, retry=Retry(NoBackoff(), 0), socket_timeout=timeout, socket_connect_timeout=timeout
    )


class _Asked(Redis):
    """A Sentinel that is not waited for longer than `ASK`: the next one may know."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        try:
            async with asyncio.timeout(ASK):
                return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except TimeoutError:
            raise redis.TimeoutError(f"no answer within {ASK} s") from None


class _Sentinels:
    """What redis-py's `Sentinel` is to a pool. That one loses some where two ask at once and reorder them."""

    def __init__(self, urls: Sequence[str]) -> None:
        options = {**_WAITS, "retry": AsyncRetry(NoBackoff(), 0)}
        self._sentinels = [_Asked.from_url(url, **options) for url in urls]
        self._asking = asyncio.Lock()

    async def discover_master(self, service: str) -> Where:
        async with self._asking:
            problem: Exception = _unknown(service)
            for sentinel in self._sentinels:
                try:
                    where = _primary_of(service, await sentinel.sentinel_masters())
                except AuthenticationError as error:
                    problem = SentinelsRefuse(str(error))
                    continue
                except (RedisError, OSError) as error:
                    problem = error
                    continue
                if where is not None:
                    self._sentinels.sort(key=lambda each: each is not sentinel)  # the next time it is the first
                    return where
            raise problem

    async def aclose(self) -> None:
        for sentinel in self._sentinels:
            await sentinel.aclose()


class SentinelsRefuse(AuthenticationError):
    """Not the server itself does."""


def _unknown(service: str) -> Exception:
    return MasterNotFoundError(f"no Sentinel in reach knows of a primary of {service!r} that works")


def _primary_of(service: str, masters: Any) -> Where | None:
    state = masters.get(service)
    if state is None or not state["is_master"] or state["is_sdown"] or state["is_odown"]:
        return None
    return Where(state["ip"], state["port"])


class _Pool(SentinelConnectionPool):
    """Connections to the primary, which end together with those to the Sentinels."""

    async def aclose(self) -> None:
        await super().aclose()
        await self.sentinel_manager.aclose()


class ClusterClient(AsyncDataAccessCommands):
    """Takes each command to the primary that has the slot of its first key.

    Who has which slot is asked again after whatever went wrong: it is one call, and the caller pauses.
    """

    _event_dispatcher = EventDispatcher()  # which redis-py has in all that has commands

    def __init__(self, url: str, seeds: Sequence[Where], options: Mapping[str, Any]) -> None:
        self._url, self._nodes, self._options = url, seeds, options
        self._clients: dict[Where, Redis] = {}
        self._owners: list[Where | None] = []
        """Of each slot; empty until it is known."""
        self._learning = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.aclose()

    async def execute_command(self, *command: Any, **options: Any) -> Any:
        async def call(client: Redis, asking: bool) -> Any:
            if asking:
                answer = (await _together(client, [("ASKING",), command]))[1]
                if isinstance(answer, Exception):
                    raise answer
                return answer
            return await client.execute_command(*command, **options)  # type: ignore[no-untyped-call]

        return await self._to_owner(command, call)

    def pipeline(self, *, transaction: bool) -> Pipeline:
        """Commands for the server of the first one's key, on one connection."""
        assert not transaction
        return Pipeline(self._pipelined)

    async def _pipelined(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        async def call(client: Redis, asking: bool) -> list[Any]:
            answers = await _together(client, [("ASKING",), *commands] if asking else commands)
            if isinstance(answers[asking], AskError):  # or MovedError
                raise answers[asking]
            return answers[asking:]

        answers: list[Any] = await self._to_owner(commands[0], call)
        return answers

    async def _to_owner(self, command: Sequence[Any], call: Callable[[Redis, bool], Awaitable[Any]]) -> Any:
        """What `call` returns for the owner of the key of `command`, to be called with ASKING where it says so."""
        owners = self._owners or await self._learn()
        where = _owner(owners, command[FIRST_KEY.get(command[0], 1)])
        try:
            try:
                return await call(self._at(where), False)
            except MovedError as moved:
                owners[moved.slot_id] = where = Where(moved.host or where.host, moved.port)
                return await call(self._at(where), False)
            except AskError as ask:  # the slot is about to move, and this part of it has
                return await call(self._at(Where(ask.host or where.host, ask.port)), True)
        except BaseException as error:  # also a cancellation: who does not answer may have been replaced
            if owners is self._owners and (isinstance(error, ClusterDownError) or not isinstance(error, ResponseError)):
                self._owners = []
            raise

    async def primaries(self) -> list[Redis]:
        """A client for each; they end with this one."""
        owners = self._owners or await self._learn()
        return [self._at(where) for where in dict.fromkeys(owners) if where is not None]

    def _at(self, where: Where) -> Redis:
        if where not in self._clients:
            self._clients[where] = _client(_at(self._url, where), **self._options)
        return self._clients[where]

    async def _learn(self) -> list[Where | None]:
        async with self._learning:
            if self._owners:
                return self._owners
            problem: Exception = ClusterDownError("no node is known")
            for where in self._nodes:
                try:
                    async with asyncio.timeout(ASK):
                        answer = await self._at(where).execute_command("CLUSTER", "SLOTS")  # type: ignore[no-untyped-call]
                except (RedisError, OSError) as error:
                    problem = error
                    continue
                self._owners, nodes = _slots(answer, where)
                self._nodes = _first(where, nodes, self._nodes)
                return self._owners
            raise problem


class Pipeline:
    """As much of redis-py's as is used here."""

    def __init__(self, run: Callable[[Sequence[Sequence[Any]]], Awaitable[list[Any]]]) -> None:
        self._run = run
        self._commands: list[Sequence[Any]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        self._commands.clear()

    def execute_command(self, *command: Any) -> None:
        self._commands.append(command)

    async def execute(self, *, raise_on_error: bool) -> list[Any]:
        assert not raise_on_error
        return await self._run(self._commands)


async def _together(client: Redis, commands: Sequence[Sequence[Any]]) -> list[Any]:
    """The answers, some of which may be errors."""
    async with client.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)
        return await pipeline.execute(raise_on_error=False)


def _slots(answer: Sequence[Any], asked: Where) -> tuple[list[Where | None], list[Where]]:
    """What CLUSTER SLOTS says: the primary of each slot, and all nodes. One that has no name is the one asked."""
    owners: list[Where | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
    nodes: dict[Where, None] = {}
    for first, last, *some in answer:
        there = [Where((host or b"").decode() or asked.host, port) for host, port, *_ in some]
        nodes.update(dict.fromkeys(there))
        owners[first : last + 1] = [there[0]] * (last + 1 - first)
    return owners, list(nodes)


def _first(where: Where, nodes: Sequence[Where], before: Sequence[Where]) -> list[Where]:
    """Whom to ask the next time: who has answered, then the others, then those that were known before."""
    return list(dict.fromkeys([where, *nodes, *before]))


def _owner(owners: Sequence[Where | None], key: str) -> Where:
    where = owners[key_slot(key.encode())]
    if where is None:
        raise ClusterDownError("a slot has no primary now")
    return where
