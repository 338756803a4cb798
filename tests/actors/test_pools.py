"""Pools: how a message finds its worker, and that a pool is an actor like any other."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import suppress
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from actors import (
    Actor,
    ActorNotFound,
    ActorRef,
    ActorStopped,
    ActorSystem,
    Address,
    AskCycle,
    Envelope,
    HandlerFailed,
    MailboxFull,
    Message,
    Middleware,
    Outcome,
    Overflow,
    Restart,
    Terminated,
    handles,
)
from actors.events import ActorRestarted, ActorStarted, SupervisorGaveUp
from actors.pool import Routing, consistent_hash, least_loaded, pool_of, round_robin

pytestmark = pytest.mark.anyio


def in_virtual_time(main: Callable[[], Awaitable[Any]]) -> Any:
    return anyio.run(main, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})


class Who(Message[str]):
    """Which worker handles it?"""

    key: Hashable = None


class Work(Message[None]):
    """Done when the test says so."""

    number: int


class Fail(Message[None]):
    pass


class Finish(Message[None]):
    pass


class AskPool(Message[str]):
    """Ask the pool at this address who it is, with this key; `relays` times on the way to that."""

    address: str
    key: int = 0
    relays: int = 0


class Worker(Actor):
    def __init__(self, done: dict[int, anyio.Event] | None = None, doers: dict[int, str] | None = None) -> None:
        self.done, self.doers = done or {}, {} if doers is None else doers

    @property
    def name(self) -> str:
        return self.ref.address.name

    @handles(Who)
    async def who(self, _: Who) -> str:
        return self.name

    @handles(Work)
    async def work(self, message: Work) -> None:
        self.doers[message.number] = self.name
        await self.done[message.number].wait()

    @handles(Fail)
    async def fail(self, _: Fail) -> None:
        raise ValueError("as told")

    @handles(Finish)
    async def finish(self, _: Finish) -> None:
        self.stop()

    @handles(AskPool)
    async def ask_pool(self, message: AskPool) -> str:
        pool = self.system.ref(message.address, Worker)
        if message.relays:
            return await pool.ask(AskPool(address=message.address, relays=message.relays - 1))
        return f"{self.name} asked {await pool.ask(Who(key=message.key))}"


@pytest.fixture
async def system() -> AsyncIterator[ActorSystem]:
    async with ActorSystem() as system:
        yield system


# Who gets it -------------------------------------------------------------------------------------------------


@given(st.integers(1, 6), st.integers(0, 40))
def test_round_robin_is_even(size: int, messages: int) -> None:
    async def main() -> None:
        async with ActorSystem() as system:
            pool = await system.pool(Worker, size=size, routing=round_robin)
            answers = [await pool.ask(Who()) for _ in range(messages)]
            assert answers == [str(number % size + 1) for number in range(messages)]

    in_virtual_time(main)


@given(
    st.integers(1, 4),
    st.lists(st.one_of(st.just("tell"), st.just("settle"), st.integers(0, 30)), min_size=5, max_size=40),
)
def test_least_loaded_picks_the_one_with_the_least_to_do(size: int, steps: list[str | int]) -> None:
    """A number finishes that piece of work. Judged afterwards, when it is known who did what."""
    done = {number: anyio.Event() for number in range(len(steps))}
    doers: dict[int, str] = {}
    unfinished: list[list[int]] = []  # for each tell, what had been told and not finished before it

    async def main() -> None:
        async with ActorSystem() as system:
            pool = await system.pool(Worker, done, doers, size=size, routing=least_loaded)
            await anyio.wait_all_tasks_blocked()
            working: list[int] = []
            for number, step in enumerate(steps):
                if step == "tell":
                    unfinished.append(list(working))
                    working.append(number)
                    await pool.tell(Work(number=number))
                elif isinstance(step, int) and working:
                    finished = working[step % len(working)]
                    done[finished].set()
                    await anyio.wait_all_tasks_blocked()
                    if finished in doers:
                        working.remove(finished)
                else:
                    await anyio.wait_all_tasks_blocked()
                working = [each for each in working if not (done[each].is_set() and each in doers)]
            for each in done.values():
                each.set()

    in_virtual_time(main)
    told = [number for number, step in enumerate(steps) if step == "tell"]
    assert sorted(doers) == told
    for number, before in zip(told, unfinished, strict=True):
        load = Counter({str(worker): 0 for worker in range(1, size + 1)})
        load.update(doers[each] for each in before)
        assert load[doers[number]] == min(load.values()), (number, load, doers)


async def owners(ref: ActorRef[Worker], keys: range) -> dict[int, str]:
    return {key: await ref.ask(Who(key=key)) for key in keys}


by_key = consistent_hash(lambda message: message.key)


async def test_consistent_hash_gives_one_key_to_one_worker(system: ActorSystem) -> None:
    pool = await system.pool(Worker, size=5, routing=by_key, name="p")
    other = await system.pool(Worker, size=5, routing=by_key)
    keys = range(2_000)
    first = await owners(pool, keys)
    assert await owners(other, keys) == first, "in another pool of the size, in another process"
    shares = Counter(first.values())
    assert sorted(shares) == ["1", "2", "3", "4", "5"]
    assert all(300 < share < 500 for share in shares.values()), shares
    for number in range(1, 6):
        with suppress(HandlerFailed):
            await system.ref(f"/p/{number}").ask(Fail())
    assert await owners(pool, keys) == first, "after a restart"


async def test_consistent_hash_is_the_same_everywhere_and_for_ever(system: ActorSystem) -> None:
    """Figures written down once: a change moves everybody's keys on the day of the update."""
    pool = await system.pool(Worker, size=7, routing=by_key)
    written_down: dict[Hashable, str] = {
        0: "1", 1: "4", 2: "4", "": "3", "a": "2", "customer 4711": "2", ("eu", 3): "1", None: "3",
    }  # fmt: skip
    assert {key: await pool.ask(Who(key=key)) for key in written_down} == written_down


async def test_one_worker_more_takes_its_share_and_nothing_else_moves(system: ActorSystem) -> None:
    keys = range(3_000)
    before = await owners(await system.pool(Worker, size=1, routing=by_key), keys)
    for size in range(2, 9):
        after = await owners(await system.pool(Worker, size=size, routing=by_key), keys)
        moved = {key for key in keys if before[key] != after[key]}
        assert {after[key] for key in moved} == {str(size)}
        assert 0.8 < len(moved) * size / len(keys) < 1.2
        before = after


async def test_a_worker_that_goes_moves_its_own_keys_and_no_others(system: ActorSystem) -> None:
    pool = await system.pool(Worker, size=5, routing=by_key, name="p")
    keys = range(1_000)
    before = await owners(pool, keys)
    await system.ref("/p/2").stop()
    after = await owners(pool, keys)
    assert {key for key in keys if before[key] != after[key]} == {key for key in keys if before[key] == "2"}
    assert {after[key] for key in keys if before[key] == "2"} == {"1", "3", "4", "5"}


async def test_a_key_that_a_message_does_not_have_is_the_senders_error(system: ActorSystem) -> None:
    pool = await system.pool(Worker, size=2, routing=by_key)
    with pytest.raises(AttributeError, match="key"):
        await pool.tell(Fail())
    assert not system.dead_letters


# Like any other actor -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("routing", [round_robin, least_loaded, by_key])
async def test_a_pool_is_reached_by_its_address(system: ActorSystem, routing: Routing) -> None:
    early = system.ref("/p", Worker)
    with pytest.raises(ActorNotFound):
        await early.tell(Who())
    pool = await system.pool(Worker, size=3, routing=routing, name="p")
    assert pool == early
    assert pool.address == "/p"
    assert {await ref.ask(Who()) for ref in (pool, early, system.ref("/p", Worker))} <= {"1", "2", "3"}
    assert await system.ref("/p/2", Worker).ask(Who()) == "2", "and a worker by its own"


async def test_an_actor_has_pools_below_it(system: ActorSystem) -> None:
    class Boss(Actor):
        async def on_start(self) -> None:
            self.workers = await self.pool(Worker, size=2, name="workers")

        @handles(Who)
        async def who(self, message: Who) -> str:
            return await self.workers.ask(message)

    boss = await system.spawn(Boss, name="boss")
    assert [await boss.ask(Who()) for _ in range(4)] == ["1", "2", "1", "2"]
    assert "/boss/workers/2" in system.cells


async def test_a_pool_of_nobody_is_refused(system: ActorSystem) -> None:
    with pytest.raises(ValueError, match="a pool of 0 Worker: at least 1"):
        await system.pool(Worker, size=0)


async def test_the_end_of_a_pool_is_told_once(system: ActorSystem) -> None:
    told: list[Terminated] = []

    class Watcher(Actor):
        async def on_start(self) -> None:
            self.watch(self.system.ref("/p"))

        @handles(Terminated)
        async def terminated(self, message: Terminated) -> None:
            told.append(message)

    pool = await system.pool(Worker, size=2, name="p")
    await system.spawn(Watcher)
    await pool.stop()
    await anyio.wait_all_tasks_blocked()
    assert told == [Terminated(Address("/p"), "stopped")]


async def test_stopping_a_pool_drains_every_worker_and_takes_no_more(system: ActorSystem) -> None:
    done = {number: anyio.Event() for number in range(6)}
    doers: dict[int, str] = {}
    pool = await system.pool(Worker, done, doers, size=3, name="p")
    receipts = [await pool.tell(Work(number=number), receipt=True) for number in range(6)]
    await anyio.wait_all_tasks_blocked()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pool.stop)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(ActorStopped):
            await pool.tell(Who())
        for each in done.values():
            each.set()
    assert [(await receipt.wait()).fate for receipt in receipts] == ["handled"] * 6
    assert not system.cells


async def test_killing_a_pool_kills_its_workers(system: ActorSystem) -> None:
    pool = await system.pool(Worker, {0: anyio.Event(), 1: anyio.Event()}, size=1)
    receipts = [await pool.tell(Work(number=number), receipt=True) for number in (0, 1)]
    await anyio.wait_all_tasks_blocked()
    pool.kill()
    assert [(await receipt.wait()).reason for receipt in receipts] == ["killed", "stopped"]
    await anyio.wait_all_tasks_blocked()
    assert not system.cells


async def test_a_reference_outlives_its_pool(system: ActorSystem) -> None:
    """It was made for the first pool at this address, used, and goes to the second."""
    first = await system.pool(Worker, size=1, name="p")
    assert await first.ask(Who()) == "1"
    await first.stop()
    with pytest.raises(ActorStopped):
        await first.tell(Who())
    await system.pool(Worker, size=1, name="p")
    assert await first.ask(Who()) == "1"


async def test_a_pool_that_has_not_started_yet_has_nobody_to_take_mail(system: ActorSystem) -> None:
    pool = system.admit(pool_of(Worker, size=1), Address("/p"), system._root)  # at its address, and not begun
    with pytest.raises(ActorStopped, match="the pool /p has no worker that takes mail"):
        await system.ref("/p", Worker).tell(Who())
    system.forget(pool)


async def test_a_worker_that_is_being_started_takes_mail_for_later(system: ActorSystem) -> None:
    gate = anyio.Event()

    class Late(Worker):
        async def on_start(self) -> None:
            await gate.wait()

    async with anyio.create_task_group() as tasks:

        async def start() -> None:
            await system.pool(Late, size=1, name="p")

        tasks.start_soon(start)
        await anyio.wait_all_tasks_blocked()
        waiting = await system.ref("/p", Worker).tell(Who(), receipt=True)
        gate.set()
    assert (await waiting.wait()).fate == "handled"


# Failures ------------------------------------------------------------------------------------------------------


async def test_a_worker_that_fails_is_restarted_alone_and_keeps_its_mail(system: ActorSystem) -> None:
    events: list[Any] = []
    system.subscribe(ActorRestarted, events.append)
    system.subscribe(ActorStarted, events.append)
    pool = await system.pool(Worker, size=3, name="p")
    await anyio.wait_all_tasks_blocked()
    events.clear()
    failing = await pool.tell(Fail(), receipt=True)
    kept = [await pool.tell(Who(), receipt=True) for _ in range(6)]
    assert (await failing.wait()).fate == "failed"
    assert [(await receipt.wait()).fate for receipt in kept] == ["handled"] * 6
    assert [(type(fact), fact.address) for fact in events] == [(ActorRestarted, "/p/1"), (ActorStarted, "/p/1")]


async def test_workers_that_have_finished_are_passed_over(system: ActorSystem) -> None:
    pool = await system.pool(Worker, size=3, name="p", restart=Restart.TRANSIENT)
    await system.ref("/p/2").ask(Finish())
    await anyio.wait_all_tasks_blocked()
    assert [await pool.ask(Who()) for _ in range(4)] == ["1", "3", "1", "3"]
    for name in "13":
        await system.ref(f"/p/{name}").ask(Finish())
    await anyio.wait_all_tasks_blocked()
    with pytest.raises(ActorStopped, match="no worker that takes mail"):
        await pool.ask(Who())


async def test_a_pool_allows_each_worker_the_restarts_of_one_actor(system: ActorSystem) -> None:
    gave_up: list[SupervisorGaveUp] = []
    system.subscribe(SupervisorGaveUp, gave_up.append)
    pool = await system.pool(Worker, size=2, name="p")
    for _ in range(2 * 3):
        with suppress(HandlerFailed):
            await pool.ask(Fail())
    assert not gave_up
    with suppress(HandlerFailed):
        await pool.ask(Fail())
    await anyio.wait_all_tasks_blocked()
    assert [fact.address for fact in gave_up] == ["/p"]
    assert await pool.ask(Who()) in "12", "restarted by the root, and the reference holds"


DEEDS = st.lists(
    st.tuples(
        st.sampled_from(["who", "who", "fail", "finish", "expire", "kill a worker", "stop a worker", "settle"]),
        st.integers(0, 5),
    ),
    min_size=5,
    max_size=30,
)


@given(
    st.integers(1, 3),
    st.sampled_from([round_robin, least_loaded, consistent_hash(lambda message: getattr(message, "key", 0))]),
    st.sampled_from(Restart),
    DEEDS,
    st.sampled_from(["stop", "kill", "leave"]),
)
def test_one_fate_for_all_that_a_pool_accepts(
    size: int, routing: Routing, restart: Restart, deeds: list[tuple[str, int]], end: str
) -> None:
    fates: list[tuple[int, str]] = []

    class Notary(Middleware):
        def settled(self, envelope: Envelope, outcome: Outcome) -> None:
            fates.append((id(envelope.message), outcome.fate))

    accepted: list[Message[Any]] = []

    async def send(pool: ActorRef[Any], message: Message[Any], ttl: float | None = None) -> None:
        with suppress(ActorStopped, ActorNotFound):
            await pool.tell(message, ttl=ttl)
            accepted.append(message)

    async def main() -> None:
        async with ActorSystem(middleware=[Notary()], intensity=100) as system:
            pool = await system.pool(Worker, size=size, routing=routing, name="p", restart=restart, intensity=3)
            for deed, number in deeds:
                worker = system.ref(f"/p/{number % size + 1}")
                match deed:
                    case "who":
                        await send(pool, Who(key=number))
                    case "fail":
                        await send(pool, Fail())
                    case "finish":
                        await send(pool, Finish())
                    case "expire":
                        await send(pool, Who(key=number), ttl=0.0)
                    case "kill a worker":
                        worker.kill()
                    case "stop a worker":
                        await worker.stop()
                    case "settle":
                        await anyio.wait_all_tasks_blocked()
            if end == "stop":
                await pool.stop()
            elif end == "kill":
                pool.kill()

    in_virtual_time(main)
    assert sorted(each for each, _ in fates) == sorted(id(message) for message in accepted)


# Round about -----------------------------------------------------------------------------------------------------


async def test_a_worker_that_asks_its_pool_gets_another(system: ActorSystem) -> None:
    pool = await system.pool(Worker, size=2, name="p")
    answers = {await pool.ask(AskPool(address="/p")) for _ in range(6)}
    assert answers <= {"1 asked 2", "2 asked 1"}


@pytest.mark.parametrize("routing", [round_robin, least_loaded])
async def test_when_all_of_them_wait_it_is_a_cycle(system: ActorSystem, routing: Routing) -> None:
    pool = await system.pool(Worker, size=3, routing=routing, name="p")
    assert " asked " in await pool.ask(AskPool(address="/p", relays=1))
    with pytest.raises(HandlerFailed) as caught:
        await pool.ask(AskPool(address="/p", relays=2))
    error: BaseException | None = caught.value
    while isinstance(error, HandlerFailed):
        error = error.__cause__
    assert isinstance(error, AskCycle)
    assert str(error).count(" waits for ") == 3
    assert str(error).endswith(" waits for /p")


async def test_a_key_that_is_the_askers_own_is_a_cycle_and_goes_to_nobody_else(system: ActorSystem) -> None:
    pool = await system.pool(Worker, size=3, routing=by_key, name="p")
    usual = await owners(pool, range(10))
    asker = usual[0]
    for key in range(10):
        ask = system.ref(f"/p/{asker}", Worker).ask(AskPool(address="/p", key=key))
        if usual[key] == asker:
            with pytest.raises(HandlerFailed, match=f"AskCycle: /p/{asker} waits for /p"):
                await ask
        else:
            assert await ask == f"{asker} asked {usual[key]}"


async def test_a_full_worker_that_tells_its_own_pool_does_not_hang(system: ActorSystem) -> None:
    class Chatty(Worker):
        @handles(Fail)
        async def fail(self, _: Fail) -> None:
            for number in range(3):
                await self.system.ref("/p").tell(Who(key=number))

    pool = await system.pool(Chatty, size=1, name="p", capacity=2)
    with pytest.raises(HandlerFailed, match=r"MailboxFull: .*2 messages waiting"):
        await pool.ask(Fail(), timeout=1.0)


# What stands before a mailbox ---------------------------------------------------------------------------------------


async def test_a_full_worker_is_full_by_its_own_policy(system: ActorSystem) -> None:
    done = {0: anyio.Event(), 1: anyio.Event()}
    pool = await system.pool(Worker, done, size=1, name="p", capacity=1, overflow=Overflow.REJECT)
    await pool.tell(Work(number=0))
    await anyio.wait_all_tasks_blocked()
    await pool.tell(Work(number=1))
    with pytest.raises(MailboxFull, match="has 1 messages waiting") as caught:
        await pool.tell(Who())
    assert caught.value.depth == 1
    for each in done.values():
        each.set()


async def test_a_sender_waits_for_room_at_the_worker_that_was_chosen(system: ActorSystem) -> None:
    """By turns: the second is free, but this one is for the first."""
    done = {number: anyio.Event() for number in range(4)}
    doers: dict[int, str] = {}
    pool = await system.pool(Worker, done, doers, size=2, name="p", capacity=1)
    for number in (0, 1):
        await pool.tell(Work(number=number))
    await anyio.wait_all_tasks_blocked()
    for number in (2, 3):
        await pool.tell(Work(number=number))
    accepted = anyio.Event()

    async def send() -> None:
        await pool.tell(Who())
        accepted.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        await anyio.wait_all_tasks_blocked()
        done[1].set()
        done[3].set()
        await anyio.wait_all_tasks_blocked()
        assert not accepted.is_set()
        done[0].set()
        await accepted.wait()
        done[2].set()
    assert doers == {0: "1", 1: "2", 2: "1", 3: "2"}


async def test_middleware_sees_a_pools_message_once_at_each_place() -> None:
    seen: list[tuple[str, Address]] = []

    class Log(Middleware):
        async def accept(self, envelope: Envelope, next: Callable[[Envelope], Awaitable[None]]) -> None:  # noqa: A002
            seen.append(("accept", envelope.target))
            await next(envelope)

        async def deliver(self, envelope: Envelope, next: Callable[[Envelope], Awaitable[Any]]) -> Any:  # noqa: A002
            seen.append(("deliver", envelope.target))
            return await next(envelope)

        def settled(self, envelope: Envelope, outcome: Outcome) -> None:
            seen.append((outcome.fate, envelope.target))

    async with ActorSystem(middleware=[Log()]) as system:
        pool = await system.pool(Worker, size=2, name="p", routing=least_loaded)
        assert await pool.ask(Who()) in "12"
        await pool.stop()
    assert seen == [("accept", "/p"), ("deliver", "/p"), ("handled", "/p")]
