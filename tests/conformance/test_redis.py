"""What actors promise each other holds between two systems that share nothing but a server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
import redis.asyncio

from actors import (
    Actor,
    ActorRef,
    ActorSystem,
    AskCycle,
    AskTimeout,
    DeadLetter,
    HandlerFailed,
    Message,
    Outcome,
    Priority,
    Receipt,
    Refusal,
    handles,
)
from actors.pool import least_loaded
from tests.actors.waiting import until
from transport.address import Address
from transport.errors import ActorNotFound, ActorStopped, CodecError, DecodeError, MailboxFull, MessageTooLarge
from transport.keys import Keys
from transport.mailbox import Overflow
from transport.redis.transport import RedisTransport
from transport.wire import Limits, Wire

pytestmark = pytest.mark.anyio

PLACED = pytest.mark.parametrize("placed", ["together", "apart"])


class Point(Message[None]):
    x: int
    y: int


class Mirror(Message[Point]):
    point: Point


class Names(Message[dict[str, list[tuple[int, str]]]]):
    count: int


class Divide(Message[float]):
    by: int


class Buy(Message[int]):
    price: int


class Wait(Message[str]):
    """Answered when the gate of the actor opens."""


class Log(Message[None]):
    entry: str


class Odd(Message[object]):
    """Answered with what no codec knows."""


class Big(Message[bytes]):
    size: int


class Through(Message[float]):
    """Ask the actor at `path` to divide, or to pass it on, and answer with that."""

    path: list[str]
    timeout: float = 5.0


class Unheard(Message[None]):
    """Nobody handles it."""


class TooDear(Refusal):
    def __init__(self, price: int, *, limit: int) -> None:
        super().__init__(f"{price} is more than {limit}")
        self.price, self.limit = price, limit


class World:
    """What the actors of a test do, for the test to see."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.open = anyio.Event()
        self.in_hand = 0
        self.most_in_hand = 0
        self.time_left: list[float] = []

    async def logged(self, *entries: str) -> None:
        await until(lambda: len(self.log) >= len(entries))
        assert self.log == list(entries)


class Server(Actor):
    def __init__(self, world: World) -> None:
        self.world = world

    @handles(Mirror)
    async def mirror(self, message: Mirror) -> Point:
        return Point(message.point.y, message.point.x)

    @handles(Names)
    async def names(self, message: Names) -> dict[str, list[tuple[int, str]]]:
        return {"all": [(number, f"name {number}") for number in range(message.count)]}

    @handles(Divide)
    async def divide(self, message: Divide) -> float:
        return 1 / message.by

    @handles(Buy)
    async def buy(self, message: Buy) -> int:
        if message.price > 10:
            raise TooDear(message.price, limit=10)
        return message.price

    @handles(Wait)
    async def wait(self, message: Wait) -> str:
        world = self.world
        world.in_hand += 1
        world.most_in_hand = max(world.most_in_hand, world.in_hand)
        await world.open.wait()
        world.in_hand -= 1
        return str(self.ref.address)

    @handles(Log)
    async def note(self, message: Log) -> None:
        self.world.log.append(message.entry)

    @handles(Odd)
    async def odd(self, message: Odd) -> object:
        return object()

    @handles(Big)
    async def big(self, message: Big) -> bytes:
        return bytes(message.size)

    @handles(Through)
    async def through(self, message: Through) -> float:
        assert self.envelope is not None
        self.world.time_left.append(self.envelope.reply_by - anyio.current_time())
        first, *rest = message.path
        ref = self.system.ref(first, Server)
        ask = Through(rest, message.timeout) if rest else Divide(4)
        return await ref.ask(ask, timeout=message.timeout)


@pytest.fixture
def anyio_backend() -> str:
    """redis-py is for asyncio only."""
    return "asyncio"


@pytest.fixture
def world() -> World:
    return World()


Systems = tuple[ActorSystem, ActorSystem]


@pytest.fixture
async def systems(redis_url: str) -> AsyncIterator[Systems]:
    """Two, as if each was in a process of its own."""
    async with two(redis_url) as both:
        yield both


@asynccontextmanager
async def two(url: str, **options: Any) -> AsyncIterator[Systems]:
    async with (
        ActorSystem("a", transport=RedisTransport(url, **options)) as a,
        ActorSystem("b", transport=RedisTransport(url, **options)) as b,
    ):
        yield a, b


async def served(systems: Systems, world: World, placed: str = "apart", name: str = "server") -> ActorRef[Server]:
    """The actor lives in `a`; the reference is one of `b`, or of `a` where they are placed together."""
    a, b = systems
    ref = await a.spawn(Server, world, name=name)
    return b.ref(str(ref.address), Server) if placed == "apart" else ref


def letters(system: ActorSystem) -> list[DeadLetter]:
    """The dead letters of `system` from now on."""
    seen: list[DeadLetter] = []
    system.subscribe(DeadLetter, seen.append)
    return seen


async def fate(receipt: Receipt) -> tuple[str, str]:
    outcome: Outcome = await receipt.wait(5.0)
    return outcome.fate, outcome.reason


# Answers ------------------------------------------------------------------------------------------------------


@PLACED
async def test_an_ask_returns_the_value_with_its_type(systems: Systems, world: World, placed: str) -> None:
    ref = await served(systems, world, placed)
    assert await ref.ask(Mirror(Point(1, 2))) == Point(2, 1)
    assert await ref.ask(Names(2)) == {"all": [(0, "name 0"), (1, "name 1")]}
    assert await ref.ask(Divide(4)) == 0.25


@PLACED
async def test_what_a_handler_raised_reaches_the_asker(systems: Systems, world: World, placed: str) -> None:
    ref = await served(systems, world, placed)
    with pytest.raises(HandlerFailed) as caught:
        await ref.ask(Divide(0))
    error = caught.value
    assert (error.kind, error.detail, str(error)) == (
        "ZeroDivisionError",
        "division by zero",
        "ZeroDivisionError: division by zero",
    )
    assert "in divide" in error.traceback
    assert "return 1 / message.by" in error.traceback
    assert await ref.ask(Divide(1)) == 1.0, "it was restarted"


@PLACED
async def test_a_refusal_reaches_the_asker_as_itself(systems: Systems, world: World, placed: str) -> None:
    ref = await served(systems, world, placed)
    with pytest.raises(TooDear) as caught:
        await ref.ask(Buy(11))
    error = caught.value
    assert (error.price, error.limit, error.args, str(error)) == (11, 10, ("11 is more than 10",), "11 is more than 10")
    assert await ref.ask(Buy(9)) == 9


@PLACED
async def test_an_ask_that_is_not_answered_times_out(systems: Systems, world: World, placed: str) -> None:
    ref = await served(systems, world, placed)
    with pytest.raises(AskTimeout):
        await ref.ask(Wait(), timeout=0.1)
    world.open.set()
    assert await ref.ask(Wait(), timeout=5.0) == "/server", "the late answer to the first is nobody's"


@PLACED
async def test_an_ask_whose_time_is_over_is_not_handled(systems: Systems, world: World, placed: str) -> None:
    ref = await served(systems, world, placed)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ref.ask, Wait())
        await until(lambda: world.in_hand)
        with pytest.raises(AskTimeout):
            await ref.ask(Wait(), timeout=0.5)  # in 0.05 s it may not even be sent
        world.open.set()
    assert await ref.ask(Divide(1)) == 1.0
    await until(lambda: systems[0].dead_letters in ({"expired": 1}, {"abandoned": 1}))


async def test_a_reply_that_does_not_encode_is_the_askers_error(systems: Systems, world: World) -> None:
    ref = await served(systems, world)
    with pytest.raises(CodecError, match="the reply to Odd does not encode"):
        await ref.ask(Odd())
    assert await ref.ask(Divide(1)) == 1.0


async def test_a_reply_that_is_too_large_is_the_askers_error(systems: Systems, world: World) -> None:
    ref = await served(systems, world)
    with pytest.raises((CodecError, MessageTooLarge), match="limit"):
        await ref.ask(Big(Limits().frame))
    assert await ref.ask(Big(3)) == bytes(3)


async def test_a_message_that_nobody_handles_is_answered(systems: Systems, world: World) -> None:
    ref = await served(systems, world)
    dead = letters(systems[0])
    with pytest.raises(Exception, match="does not handle Unheard") as caught:
        await ref.ask(Unheard())
    assert type(caught.value).__name__ == "DeliveryError"
    assert [each.reason for each in dead] == ["unhandled"]


async def test_many_asks_at_once_each_get_their_own_answer(systems: Systems, world: World) -> None:
    ref = await served(systems, world)
    answers: dict[int, float] = {}

    async def ask(number: int) -> None:
        answers[number] = await ref.ask(Divide(number))

    async with anyio.create_task_group() as tasks:
        for number in range(1, 201):
            tasks.start_soon(ask, number)
    assert answers == {number: 1 / number for number in range(1, 201)}


# Asks within asks ---------------------------------------------------------------------------------------------


async def test_an_ask_that_comes_back_is_a_cycle_at_once(systems: Systems, world: World) -> None:
    a, b = systems
    await a.spawn(Server, world, name="a")
    await b.spawn(Server, world, name="b")
    with pytest.raises(HandlerFailed) as caught:
        await b.ref("/a", Server).ask(Through(["/b", "/a", "/b"], timeout=30.0), timeout=30.0)
    assert (caught.value.kind, caught.value.detail) == ("HandlerFailed", "AskCycle: /a waits for /b waits for /a")
    assert await b.ref("/a", Server).ask(Through(["/b"])) == 0.25


async def test_a_handler_catches_the_cycle_itself(systems: Systems, world: World) -> None:
    """The error is raised where it was asked, and is an `AskCycle` there."""
    caught: list[Exception] = []

    class Back(Actor):
        @handles(Through)
        async def through(self, message: Through) -> float:
            try:
                return await self.system.ref("/server", Server).ask(Divide(1))
            except AskCycle as error:
                caught.append(error)
                return -1.0

    ref = await served(systems, world)
    await systems[1].spawn(Back, name="back")
    assert await ref.ask(Through(["/back", "/server"])) == -1.0
    assert [str(each) for each in caught] == ["/server waits for /back waits for /server"]


async def test_what_is_left_of_an_ask_is_all_that_a_nested_one_has(systems: Systems, world: World) -> None:
    a, b = systems
    await a.spawn(Server, world, name="a")
    await b.spawn(Server, world, name="b")
    await a.spawn(Server, world, name="c")
    assert await b.ref("/a", Server).ask(Through(["/b", "/c"], timeout=60.0), timeout=5.0) == 0.25
    first, second = world.time_left
    assert 0 < second < first + 0.01 <= 5.01, "the server's clock has milliseconds"


async def test_a_nested_ask_ends_with_the_ask_it_is_for(systems: Systems, world: World) -> None:
    class Patient(Actor):
        @handles(Wait)
        async def wait(self, message: Wait) -> str:
            return await self.system.ref("/server", Server).ask(Wait(), timeout=60.0)

    ref = await served(systems, world)
    patient = await systems[1].spawn(Patient)
    with pytest.raises(AskTimeout):
        await patient.ask(Wait(), timeout=0.1)
    world.open.set()
    assert await ref.ask(Divide(1)) == 1.0
    with anyio.fail_after(5.0):
        assert await patient.ask(Wait(), timeout=5.0) == "/server"


# Fates --------------------------------------------------------------------------------------------------------


@PLACED
async def test_a_receipt_says_what_became_of_the_message(systems: Systems, world: World, placed: str) -> None:
    ref = await served(systems, world, placed)
    assert await fate(await ref.tell(Log("x"), receipt=True)) == ("handled", "")
    assert await fate(await ref.tell(Divide(0), receipt=True)) == ("failed", "failed")
    assert await fate(await ref.tell(Buy(11), receipt=True)) == ("handled", "refused")
    assert await fate(await ref.tell(Unheard(), receipt=True)) == ("dead-lettered", "unhandled")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ref.ask, Wait())
        await until(lambda: world.in_hand)
        late = await ref.tell(Log("late"), ttl=0.02, receipt=True)
        await anyio.sleep(0.03)  # its time is over
        world.open.set()
    assert await fate(late) == ("expired", "expired")
    assert world.log == ["x"]
    assert systems[0].dead_letters == {"failed": 1, "unhandled": 1, "expired": 1}


async def test_a_receipt_of_mail_that_is_left_behind_by_a_kill(systems: Systems, world: World) -> None:
    a, b = systems
    local = await a.spawn(Server, world, name="server")
    ref = b.ref("/server", Server)
    running = await ref.tell(Wait(), receipt=True)
    await until(lambda: world.in_hand)
    waiting = await ref.tell(Log("never"), receipt=True)
    local.kill()
    assert await fate(running) == ("failed", "killed")
    assert await fate(waiting) == ("dead-lettered", "stopped")
    assert world.log == []


async def test_mail_that_is_not_durable_goes_by_the_server_only_from_elsewhere(
    systems: Systems, world: World, redis_url: str
) -> None:
    a, b = systems
    local = await a.spawn(Server, world, name="server", durable=False)
    transport = a.transport
    assert isinstance(transport, RedisTransport)
    sent = transport._outbounds.copy()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(local.ask, Wait())
        await until(lambda: world.in_hand)
        await local.tell(Log("from here"))
        assert transport._outbounds == sent, "nothing was sent to any partition"
        await b.ref("/server", Server).tell(Log("from there"))
        world.open.set()
    await world.logged("from here", "from there")
    await local.stop()
    for each in (local, b.ref("/server", Server)):
        with pytest.raises((ActorStopped, ActorNotFound)):
            await each.tell(Log("more"))


async def test_who_has_stopped_takes_no_more(systems: Systems, world: World) -> None:
    a, b = systems
    local = await a.spawn(Server, world, name="server")
    ref = b.ref("/server", Server)
    for number in range(10):
        await ref.tell(Log(str(number)))
    await local.stop()
    await world.logged(*map(str, range(10)))
    for each in (local, ref):
        with pytest.raises((ActorStopped, ActorNotFound)):
            await each.tell(Log("more"))
    await a.spawn(Server, world, name="server")
    assert await ref.ask(Divide(1)) == 1.0
    assert len(world.log) == 10


# Order --------------------------------------------------------------------------------------------------------


async def test_what_is_urgent_overtakes_what_waits(systems: Systems, world: World) -> None:
    ref = await served(systems, world)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ref.ask, Wait())
        await until(lambda: world.in_hand)
        for number in range(50):
            await ref.tell(Log(str(number)))
        await ref.tell(Log("urgent"), priority=Priority.URGENT)
        await until(lambda: len(systems[0].cells[Address("/server")].mailbox) == 51)
        world.open.set()
    await world.logged("urgent", *map(str, range(50)))


async def test_a_stash_does_not_hold_up_what_comes_after_it(systems: Systems) -> None:
    """What is stashed is not settled, and still what it waits for comes in."""
    opened: list[str] = []

    class Door(Actor):
        @handles(Log)
        async def knock(self, message: Log) -> None:
            if message.entry == "key":
                opened.append("open")
                self.unstash()
            elif opened:
                opened.append(message.entry)
            else:
                self.stash()

    a, b = systems
    await a.spawn(Door, name="door")
    ref = b.ref("/door", Door)
    for entry in ("first", "second", "key"):
        await ref.tell(Log(entry))
        await anyio.wait_all_tasks_blocked()  # one by one
    await until(lambda: len(opened) == 3)
    assert opened == ["open", "first", "second"]


async def test_each_sender_is_heard_in_its_order(systems: Systems, world: World) -> None:
    a, b = systems
    await served(systems, world)

    async def tell(system: ActorSystem, author: int) -> None:
        ref = system.ref("/server", Server)
        for number in range(50):
            await ref.tell(Log(f"{author} {number}"), priority=number % 2 + 1)

    async with anyio.create_task_group() as tasks:
        for author in range(8):
            tasks.start_soon(tell, (a, b)[author % 2], author)
    await until(lambda: len(world.log) >= 400)
    for author in range(8):
        numbers = [int(number) for by, number in map(str.split, world.log) if int(by) == author]
        for lane in range(2):
            assert [each for each in numbers if each % 2 == lane] == list(range(lane, 50, 2))


# Capacity -----------------------------------------------------------------------------------------------------


async def test_who_finds_no_room_waits_for_as_long_as_it_may(systems: Systems, world: World) -> None:
    a, b = systems
    await a.spawn(Server, world, name="server", capacity=1)
    ref = b.ref("/server", Server)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ref.ask, Wait())
        await until(lambda: world.in_hand)
        with pytest.raises(AskTimeout):
            await ref.ask(Divide(1), timeout=0.1)
        with pytest.raises(MailboxFull) as caught:
            await ref.tell(Log("never"), ttl=0.05)
        assert caught.value.depth == 1
        for number in range(3):
            tasks.start_soon(ref.tell, Log(f"{number}"))
        await anyio.wait_all_tasks_blocked()
        world.open.set()
    await until(lambda: len(world.log) == 3)
    assert sorted(world.log) == ["0", "1", "2"]


async def test_who_finds_no_room_is_told_at_once_where_the_actor_wants_it(systems: Systems, world: World) -> None:
    a, b = systems
    local = await a.spawn(Server, world, name="server", capacity=1, overflow=Overflow.REJECT)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(local.ask, Wait())
        await until(lambda: world.in_hand)
        for ref in (local, b.ref("/server", Server)):
            with anyio.fail_after(5.0), pytest.raises(MailboxFull) as caught:
                await ref.tell(Log("never"))
            assert caught.value.depth == 1
        world.open.set()
    assert await b.ref("/server", Server).ask(Divide(1)) == 1.0
    assert world.log == []


# Pools --------------------------------------------------------------------------------------------------------


async def test_a_pool_handles_as_many_at_once_as_it_has_workers(systems: Systems, world: World) -> None:
    a, b = systems
    await a.pool(Server, world, size=4, routing=least_loaded, name="pool")
    ref = b.ref("/pool", Server)
    workers: list[str] = []

    async def ask() -> None:
        workers.append(await ref.ask(Wait(), timeout=5.0))

    async with anyio.create_task_group() as tasks:
        for busy in range(1, 5):  # one after the other, so each has to be seen while those before it wait
            tasks.start_soon(ask)
            await until(lambda: world.in_hand == busy)  # noqa: B023
        for _ in range(4):
            tasks.start_soon(ask)
        world.open.set()
    assert len(workers) == 8
    assert set(workers) == {f"/pool/{number}" for number in range(1, 5)}
    assert world.most_in_hand == 4
    with pytest.raises(HandlerFailed):
        await ref.ask(Divide(0))
    assert [await ref.ask(Divide(1)) for _ in range(4)] == [1.0] * 4


# What is no message -------------------------------------------------------------------------------------------


async def test_a_frame_that_is_garbage_is_one_dead_letter(systems: Systems, world: World, redis_url: str) -> None:
    ref = await served(systems, world)
    dead = letters(systems[0])
    partition = RedisTransport(redis_url)._partition(Address("/server"))
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.rpush(f"{{default:{partition}}}:m:/server:3", bytes(8) + b"garbage")
    await ref.tell(Log("after it"), priority=Priority.URGENT)  # that always rings
    await until(lambda: dead)
    assert world.log == ["after it"]
    assert [each.reason for each in dead] == ["undecodable"]
    assert isinstance(dead[0].cause, DecodeError)
    assert systems[0].dead_letters == {"undecodable": 1}
    assert await ref.ask(Divide(1)) == 1.0


async def test_a_frame_that_another_has_signed_is_one_dead_letter(redis_url: str, world: World) -> None:
    ours, theirs = (Wire(keys=Keys(("key", bytes(range(first, first + 32))))) for first in (0, 100))
    async with (
        two(redis_url, wire=ours) as systems,
        ActorSystem("stranger", transport=RedisTransport(redis_url, wire=theirs)) as stranger,
    ):
        ref = await served(systems, world)
        dead = letters(systems[0])
        await stranger.ref("/server").tell(Log("forged"))
        receipt = await ref.tell(Log("ours"), receipt=True)
        assert await fate(receipt) == ("handled", "")
        assert [each.reason for each in dead] == ["undecodable"]
        assert world.log == ["ours"]
        with pytest.raises(AskTimeout):
            await stranger.ref("/server", Server).ask(Divide(1), timeout=0.1)
        assert await ref.ask(Divide(1)) == 1.0


async def test_systems_of_other_namespaces_are_strangers(systems: Systems, world: World, redis_url: str) -> None:
    await served(systems, world)
    other = World()
    async with ActorSystem("c", transport=RedisTransport(redis_url, namespace="elsewhere")) as c:
        with pytest.raises(ActorNotFound):
            await c.ref("/server").tell(Log("hello"))
        await c.spawn(Server, other, name="server")
        await c.ref("/server").tell(Log("here"))
        await other.logged("here")
    assert world.log == []


# From one process to another ----------------------------------------------------------------------------------


async def test_what_a_system_leaves_undone_is_done_by_the_next_in_order(redis_url: str, world: World) -> None:
    """The one in hand is cut off and begun again, the others are handled once."""
    async with ActorSystem("b", transport=RedisTransport(redis_url)) as b:
        ref = b.ref("/server", Server)
        async with ActorSystem("a", transport=RedisTransport(redis_url), drain=0.02) as a:
            await a.spawn(Server, world, name="server", shutdown=0.02)
            answer = await ref.tell(Wait(), receipt=True)
            await until(lambda: world.in_hand)
            for number in range(10):
                await ref.tell(Log(str(number)))
        assert (world.log, a.dead_letters, answer.done()) == ([], {}, False)
        with pytest.raises(AskTimeout):
            await ref.ask(Divide(1), timeout=0.05)  # it is accepted: somebody may come
        world.open.set()
        await b.spawn(Server, world, name="server")
        assert await fate(answer) == ("handled", "")
        await world.logged(*map(str, range(10)))
        assert b.dead_letters in ({"expired": 1}, {"abandoned": 1})


async def test_who_has_lost_its_lease_ends_what_it_does_and_begins_again(redis_url: str, world: World) -> None:
    async with two(redis_url, beat=0.05) as (a, b):
        await a.spawn(Server, world, name="server")
        ref = b.ref("/server", Server)
        answer = await ref.tell(Wait(), receipt=True)
        await ref.tell(Log("after it"))
        await until(lambda: world.in_hand)
        assert isinstance(a.transport, RedisTransport)
        lost = a.transport._lease.node  # it joins again under another name meanwhile
        async with redis.asyncio.Redis.from_url(redis_url) as client:  # as others do once the lease is over
            for partition in range(64):
                await client.zrem(f"{{default:{partition}}}:n", lost)
        successor = World()
        await b.spawn(Server, successor, name="server")
        await until(lambda: Address("/server") not in a.cells)
        successor.open.set()
        assert await fate(answer) == ("handled", "")
        await successor.logged("after it")
        assert (world.log, a.dead_letters, b.dead_letters) == ([], {}, {})
        await a.spawn(Server, world, name="again")
        assert await b.ref("/again", Server).ask(Divide(1)) == 1.0
        assert await a.ref("/server", Server).ask(Divide(1)) == 1.0
