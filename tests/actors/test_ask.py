"""`ask`: it resolves exactly once, with the reply or an error that says what the caller may do next."""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import (
    Actor,
    ActorNotFound,
    ActorRef,
    ActorsError,
    ActorStopped,
    ActorSystem,
    AskCycle,
    AskTimeout,
    Envelope,
    HandlerFailed,
    MailboxFull,
    Message,
    Middleware,
    Outcome,
    Refusal,
    Restart,
    handles,
)
from actors.testing import StrictSystem, run_virtual
from tests.actors.waiting import until
from tests.conftest import VIRTUAL

pytestmark = pytest.mark.anyio


class Add(Message[int]):
    number: int


class AddNow(Add):
    """For the plain handler."""


class Raise(Message[int]):
    error: Any


class RaiseNow(Raise): ...


class Sleep(Message[float]):
    """Takes `seconds`, and says when it began."""

    seconds: float


class No(Refusal):
    def __init__(self, why: str, total: int) -> None:
        super().__init__(why)
        self.total = total


class Adder(Actor):
    def __init__(self) -> None:
        self.total = 0

    @handles(Add)
    async def add(self, message: Add) -> int:
        self.total += message.number
        return self.total

    @handles(AddNow)
    def add_now(self, message: AddNow) -> int:
        self.total += message.number
        return self.total

    @handles(Raise)
    async def fail(self, message: Raise) -> int:
        raise message.error

    @handles(RaiseNow)
    def fail_now(self, message: RaiseNow) -> int:
        raise message.error

    @handles(Sleep)
    async def sleep(self, message: Sleep) -> float:
        began = anyio.current_time()
        await anyio.sleep(message.seconds)
        return began


ADD = [pytest.param(Add, id="async def"), pytest.param(AddNow, id="def")]
RAISE = [pytest.param(Raise, id="async def"), pytest.param(RaiseNow, id="def")]


def left_behind(system: ActorSystem) -> list[Any]:
    """Deadlines and mail that nobody will ever take care of."""
    mail = [cell for cell in system.cells.values() if len(cell.mailbox) or any(cell.mailbox.blocked or ())]
    return [*mail, *[f"{len(system.deadlines)} deadlines"] * (len(system.deadlines) > 0)]


# What it answers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("add", ADD)
async def test_the_return_value_is_the_reply(add: type[Add]) -> None:
    async with StrictSystem() as system:
        adder = await system.spawn(Adder)
        assert [await adder.ask(add(number)) for number in (1, 2, 3)] == [1, 3, 6]
        await adder.tell(add(10))
        assert await adder.ask(add(0)) == 16  # behind what was told
        assert not left_behind(system)


@pytest.mark.parametrize("fail", RAISE)
async def test_a_failure_reaches_the_asker_with_all_that_is_known_of_it(fail: type[Raise]) -> None:
    async with StrictSystem() as system:
        adder = await system.spawn(Adder)
        await adder.ask(Add(5))
        error = KeyError("no such column")
        with pytest.raises(HandlerFailed) as caught:
            await adder.ask(fail(error))
        failed = caught.value
        assert (failed.kind, failed.detail) == ("KeyError", "'no such column'")
        assert str(failed) == "KeyError: 'no such column'"
        assert failed.__cause__ is error
        assert "raise message.error" in failed.traceback
        assert failed.traceback.endswith("KeyError: 'no such column'\n")
        assert (await system.expect_dead_letter(fail, reason="failed")).cause is error
        assert await adder.ask(Add(1)) == 1, "fresh state after the restart"


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Unpaired(Exception):
    def __str__(self) -> str:
        return "\ud800 \x1b[31m\n"


@pytest.mark.parametrize("fail", RAISE)
@pytest.mark.parametrize("error", [Mute(), Unpaired(), Exception(), Exception("x" * 100_000)], ids="muxl")
async def test_an_exception_whose_text_is_strange_is_a_failure_like_any_other(
    error: Exception, fail: type[Raise]
) -> None:
    async with StrictSystem() as system:
        adder = await system.spawn(Adder)
        with pytest.raises(HandlerFailed) as caught:
            await adder.ask(fail(error), timeout=1.0)
        assert caught.value.kind == type(error).__name__
        assert caught.value.__cause__ is error
        assert isinstance(caught.value.traceback, str)
        assert str(caught.value).startswith(type(error).__name__)
        await system.expect_dead_letter(fail)
        assert await adder.ask(Add(1)) == 1


@pytest.mark.parametrize("fail", RAISE)
async def test_a_refusal_reaches_the_asker_as_itself_and_the_actor_keeps_its_state(fail: type[Raise]) -> None:
    async with StrictSystem() as system:
        adder = await system.spawn(Adder)
        await adder.ask(Add(5))
        refusal = No("enough", total=5)
        with pytest.raises(No) as caught:
            await adder.ask(fail(refusal))
        assert caught.value is refusal
        await adder.tell(fail(refusal))  # told, it is nobody's answer
        assert await adder.ask(Add(1)) == 6


async def test_errors_of_an_ask_say_whether_it_is_safe_to_ask_again() -> None:
    async with StrictSystem() as system:
        adder = await system.spawn(Adder, name="adder", restart=Restart.TEMPORARY)
        with pytest.raises(ActorNotFound):
            await system.ref("/nobody", Adder).ask(Add(1))
        with pytest.raises(AskTimeout, match=r"/adder did not answer Sleep within 0.01 s") as late:
            await adder.ask(Sleep(0.05), timeout=0.01)
        assert isinstance(late.value, TimeoutError)
        with pytest.raises(AskTimeout, match="no time left to ask /adder"):
            await adder.ask(Add(1), timeout=0.0)
        with pytest.raises(ValueError, match="timeout=nan"):
            await adder.ask(Add(1), timeout=float("nan"))
        with pytest.raises(TypeError, match="timeout="):
            await adder.ask(Add(1), timeout=None)  # type: ignore[call-overload]
        assert await adder.ask(Add(0)) == 0, "what raised has never been handled"
        await adder.stop()
        with pytest.raises(ActorStopped):
            await adder.ask(Add(1))
        assert not left_behind(system)


async def test_a_queued_ask_of_an_actor_that_stops_before_its_turn_is_safe_to_send_again() -> None:
    errors: list[Exception] = []

    async def ask(adder: ActorRef[Adder]) -> None:
        try:
            await adder.ask(Add(1))
        except ActorsError as error:
            errors.append(error)

    async with StrictSystem() as system, anyio.create_task_group() as asking:
        adder = await system.spawn(Adder)
        await adder.tell(Sleep(60.0))
        asking.start_soon(ask, adder)
        await anyio.wait_all_tasks_blocked()
        adder.kill()
        await system.expect_dead_letter(Sleep, reason="killed")
        assert (await system.expect_dead_letter(Add, reason="stopped")).message == Add(1)
    assert [type(error) for error in errors] == [ActorStopped]


async def test_ask_all_gives_one_outcome_for_each_target() -> None:
    async with StrictSystem() as system:
        system.allow_dead_letters(Raise)
        adders = [await system.spawn(Adder, name=name) for name in ("one", "two", "gone", "slow")]
        one, two, gone, slow = adders
        await two.tell(Add(1))
        await gone.stop()
        await slow.tell(Sleep(0.05))
        outcomes = await system.ask_all([*adders, one], Add(1), timeout=0.01)
        assert [str(address) for address in outcomes] == ["/one", "/two", "/gone", "/slow"]
        assert outcomes[two.address] == 2
        assert outcomes[one.address] in (1, 2)  # asked twice, named once
        assert isinstance(outcomes[gone.address], ActorStopped)
        assert isinstance(outcomes[slow.address], AskTimeout)
        failures = await system.ask_all([one, two], Raise(No("not today", total=0)))
        assert [type(error) for error in failures.values()] == [No, No]
        assert await system.ask_all([], Add(1)) == {}
        await system.expect_dead_letter(Add, reason="expired")


async def test_an_ask_of_a_plain_handler_on_an_idle_actor_needs_no_other_task() -> None:
    async with StrictSystem() as system:
        adder = await system.spawn(Adder)
        await anyio.wait_all_tasks_blocked()
        with anyio.CancelScope() as scope:
            scope.cancel()  # the first suspension would end it
            assert await adder.ask(AddNow(1)) == 1
            scope.shield = True
        assert not left_behind(system)


async def test_asks_answered_at_once_leave_the_others_their_turn() -> None:
    turns = 0

    async def another() -> None:
        nonlocal turns
        while turns < 10:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with StrictSystem() as system, anyio.create_task_group() as others:
        adder = await system.spawn(Adder)
        await anyio.wait_all_tasks_blocked()
        others.start_soon(another)
        for _ in range(1_000):
            await adder.ask(AddNow(1))
        assert turns >= 10


async def test_an_ask_answered_at_once_leaves_no_trace_of_its_turn() -> None:
    class Nosy(Message[str | None]): ...

    class Nobody(Actor):
        @handles(Nosy)
        def sender(self, _: Nosy) -> str | None:
            return self.envelope.sender

    async with StrictSystem() as system:
        nobody = await system.spawn(Nobody)
        await anyio.wait_all_tasks_blocked()
        assert [await nobody.ask(Nosy()) for _ in range(2)] == [None, None]


# Time ---------------------------------------------------------------------------------------------------------


class Chain(Message[float]):
    """Ask the next of `refs` with a long timeout; the last one says how much time is left."""

    refs: list[ActorRef[Any]]


class Link(Actor):
    @handles(Chain)
    async def chain(self, message: Chain) -> float:
        await anyio.sleep(0.01)
        if message.refs:
            return await message.refs[0].ask(Chain(message.refs[1:]), timeout=100.0)
        return self.envelope.reply_by - anyio.current_time()


async def test_nested_asks_inherit_what_is_left() -> None:
    async with StrictSystem() as system:
        links = [await system.spawn(Link) for _ in range(4)]
        left = await links[0].ask(Chain(links[1:]), timeout=10.0)
        assert 9.0 < left < 10.0 - 3 * 0.01


@pytest.mark.parametrize("anyio_backend", [VIRTUAL], indirect=True)
async def test_when_the_outermost_time_is_up_nobody_goes_on_asking() -> None:
    async with StrictSystem() as system:
        links = [await system.spawn(Link) for _ in range(4)]
        with pytest.raises(AskTimeout):
            await links[0].ask(Chain(links[1:]), timeout=0.025)
        for _ in range(3):  # none of the three could ask the next in time
            assert isinstance((await system.expect_dead_letter(Chain, reason="failed")).cause, AskTimeout)
        assert all((await system.ask_all(links, Chain([]), timeout=1.0)).values())
        assert system.dead_letters == {"failed": 3}


async def test_a_late_reply_reaches_nobody_and_is_not_kept() -> None:
    replies: list[weakref.ref[Any]] = []

    class Big:
        """Something one can have a weak reference to."""

    class Ask(Message[Any]): ...

    class Late(Actor):
        @handles(Ask)
        async def answer(self, _: Ask) -> Big:
            await anyio.sleep(0.02)
            reply = Big()
            replies.append(weakref.ref(reply))
            return reply

    async with StrictSystem() as system:
        late = await system.spawn(Late)
        with pytest.raises(AskTimeout):
            await late.ask(Ask(), timeout=0.01)
        assert isinstance(await late.ask(Ask(), timeout=5.0), Big)
        await anyio.wait_all_tasks_blocked()
        gc.collect()
        assert [each() for each in replies] == [None, None]
        assert not left_behind(system)


async def test_work_whose_asker_has_gone_is_not_started() -> None:
    async with StrictSystem() as system:
        adder = await system.spawn(Adder)
        await adder.tell(Sleep(0.05))
        with pytest.raises(AskTimeout):
            await adder.ask(Add(1), timeout=0.01)
        with anyio.move_on_after(0.01) as asking:
            await adder.ask(Add(10), timeout=60.0)
        assert asking.cancelled_caught
        assert await adder.ask(Add(100)) == 100
        await system.expect_dead_letter(Add, reason="expired")
        await system.expect_dead_letter(Add, reason="abandoned")
        assert not left_behind(system)


@pytest.mark.parametrize("concurrency", [1, 2])
@pytest.mark.parametrize("checkpoints", range(6))
async def test_a_handler_never_starts_after_its_asker_was_cancelled(checkpoints: int, concurrency: int) -> None:
    class Starter(Actor):
        @handles(Add, concurrency=concurrency)
        async def add(self, message: Add) -> int:
            assert message.number == 2 or not asking.cancel_scope.cancel_called, "started although its asker had gone"
            await anyio.lowlevel.checkpoint()
            return message.number

    async with ActorSystem() as system:
        starter = await system.spawn(Starter)
        await anyio.lowlevel.checkpoint()
        async with anyio.create_task_group() as asking:
            asking.start_soon(starter.ask, Add(1))
            for _ in range(checkpoints):
                await anyio.lowlevel.checkpoint()
            asking.cancel_scope.cancel()
        assert await starter.ask(Add(2)) == 2
        assert system.dead_letters.keys() <= {"abandoned"}


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": uvloop}) for uvloop in (False, True)])
async def test_an_ask_that_expires_while_the_event_loop_is_blocked_is_a_timeout_too() -> None:
    class Block(Message[None]):
        until: float

    class Blocker(Adder):
        @handles(Block)
        def block(self, message: Block) -> None:
            while anyio.current_time() < message.until:
                pass

    async with StrictSystem() as system:
        blocker = await system.spawn(Blocker)
        await blocker.tell(Block(anyio.current_time() + 0.03))
        with pytest.raises(AskTimeout):
            await blocker.ask(Add(1), timeout=0.02)
        await system.expect_dead_letter(Add, reason="expired")


# Circles ------------------------------------------------------------------------------------------------------


class Through(Message[str]):
    """Ask the next of `refs` with the rest of them; the last one replies."""

    refs: list[ActorRef[Any]]


class Start(Message[str]):
    """As `Through`, as a tell: the asks begin with the actor that is told."""

    refs: list[ActorRef[Any]]
    error: list[Exception]


class Node(Actor):
    @handles(Through)
    async def through(self, message: Through) -> str:
        if message.refs:
            return await message.refs[0].ask(Through(message.refs[1:]), timeout=5.0)
        return "end"

    @handles(Start)
    async def start(self, message: Start) -> str:
        await anyio.sleep(0.01)
        try:
            return await message.refs[0].ask(Through(message.refs[1:]), timeout=5.0)
        except AskCycle as error:
            message.error.append(error)
            return str(error)


@asynccontextmanager
async def nodes(*names: str, **options: Any) -> AsyncIterator[tuple[StrictSystem, list[ActorRef[Node]]]]:
    """A system that must not need more than a second, with a node of each name."""
    async with StrictSystem() as system:
        system.allow_dead_letters(Through, reason="failed")
        refs = [await system.spawn(Node, name=name, **options) for name in names]
        with anyio.fail_after(1.0):
            yield system, refs


@pytest.mark.parametrize(
    ("route", "says"),
    [
        ("aa", "/a waits for /a"),
        ("aba", "/a waits for /b waits for /a"),
        ("abca", "/a waits for /b waits for /c waits for /a"),
        ("abcb", "/a waits for /b waits for /c waits for /b"),
    ],
)
async def test_an_ask_that_closes_a_circle_raises_at_once(route: str, says: str) -> None:
    async with nodes("a", "b", "c") as (_, refs):
        named = dict(zip("abc", refs, strict=True))
        with pytest.raises((AskCycle, HandlerFailed)) as caught:
            await named[route[0]].ask(Through([named[name] for name in route[1:]]))
        innermost: BaseException = caught.value
        while innermost.__cause__ is not None:
            innermost = innermost.__cause__
        assert isinstance(innermost, AskCycle)
        assert str(innermost) == says
        assert await refs[0].ask(Through([refs[1], refs[2]])) == "end", "a circle is no reason to be stuck"


async def test_two_actors_that_ask_each_other_from_tells_see_the_circle() -> None:
    errors: list[Exception] = []
    async with nodes("a", "b") as (_, (a, b)):
        await a.tell(Start([b], errors))
        await b.tell(Start([a], errors))
        await anyio.sleep(0.05)
        (error,) = errors
        assert str(error) in ("/a waits for /b waits for /a", "/b waits for /a waits for /b")


async def test_a_circle_is_seen_where_the_ask_had_to_wait_for_room_first() -> None:
    errors: list[Exception] = []
    async with nodes("a", "b", capacity=1) as (_, (a, b)):
        await a.tell(Start([b], errors))
        await b.tell(Start([a], errors))
        await anyio.wait_all_tasks_blocked()
        await a.tell(Through([]))  # both mailboxes are full now
        await b.tell(Through([]))
        await anyio.sleep(0.05)
        assert errors, "they wait for each other"


async def test_a_pool_whose_only_worker_asks_it_closes_a_circle() -> None:
    async with StrictSystem() as system:
        system.allow_dead_letters(Through)
        pool = await system.pool(Node, size=1, name="pool")
        with anyio.fail_after(1.0), pytest.raises(HandlerFailed) as caught:
            await pool.ask(Through([pool]))
        assert isinstance(caught.value.__cause__, AskCycle)
        assert str(caught.value.__cause__) == "/pool/1 waits for /pool"
        pair = await system.pool(Node, size=2, name="pair")
        with anyio.fail_after(1.0):
            assert await pair.ask(Through([pair])) == "end", "the other worker is free"
            with pytest.raises(HandlerFailed, match=r"/pair/. waits for /pair/. waits for /pair"):
                await pair.ask(Through([pair, pair]))


async def test_an_actor_that_asks_itself_while_it_starts_hears_so_at_once() -> None:
    class Eager(Node):
        async def on_start(self) -> None:
            await self.ref.ask(Through([]))

    async with StrictSystem() as system:
        with anyio.fail_after(1.0), pytest.raises(ActorsError) as caught:
            await system.spawn(Eager, name="eager", restart=Restart.TEMPORARY)
        assert isinstance(caught.value.__cause__, AskCycle)


class Visit(Message[str]):
    """Ask `to` for nothing in particular, with no time left, then in a proper way."""

    to: Any


class Visitor(Node):
    @handles(Visit)
    async def visit(self, message: Visit) -> str:
        with pytest.raises(AskTimeout):
            await message.to.ask(Through([]), timeout=0.0)
        assert await message.to.ask(Through([])) == "end"
        return "back"


async def test_an_ask_that_is_over_or_never_began_closes_no_circle_later() -> None:
    async with nodes("b") as (system, (b,)):
        visitor = await system.spawn(Visitor)
        assert await visitor.ask(Visit(b)) == "back"
        assert await b.ask(Through([visitor])) == "end"


async def test_what_an_actor_does_beside_its_mail_closes_no_circle() -> None:
    class Host(Node):
        async def on_start(self) -> None:
            self.beside.start_soon(self.ask)

        def __init__(self, beside: Any, other: ActorRef[Node]) -> None:
            self.beside, self.other = beside, other

        async def ask(self) -> None:
            answers.append(await self.other.ask(Start([self.ref], errors)))

    answers: list[str] = []
    errors: list[Exception] = []
    async with nodes("other") as (system, (other,)), anyio.create_task_group() as beside:
        await system.spawn(Host, beside, other)
        await anyio.sleep(0.05)
    assert (answers, errors) == (["end"], [])


# Full mailboxes that would wait for each other ----------------------------------------------------------------


class Write(Message[list[str]]):
    """Tell each of `to`, twice; reply with what became of it."""

    to: list[Any]


class Letter(Message[None]): ...


class Writer(Actor):
    """BLOCKs with one letter in the mailbox."""

    def __init__(self, ready: anyio.Event | None = None) -> None:
        self.ready = ready

    @handles(Write)
    async def write(self, message: Write) -> list[str]:
        if self.ready is not None:
            await self.ready.wait()
        results = []
        for ref in [ref for ref in message.to for _ in range(2)]:
            try:
                await ref.tell(Letter())
                results.append("accepted")
            except MailboxFull as error:
                results.append(f"full at {error.depth}")
        return results

    @handles(Letter)
    async def letter(self, _: Letter) -> None:
        pass


class Slow(Middleware):
    """Room that is there when the sender looks may be gone when the message comes."""

    async def accept(self, envelope: Any, next: Callable[[Any], Awaitable[None]]) -> None:  # noqa: A002
        await anyio.lowlevel.checkpoint()
        await next(envelope)


@pytest.mark.parametrize("middleware", [[], [Slow()]], ids=["plain", "slow"])
async def test_a_tell_to_itself_never_waits_for_itself(middleware: list[Middleware]) -> None:
    async with StrictSystem(middleware=middleware) as system:
        writer = await system.spawn(Writer, capacity=1)
        with anyio.fail_after(1.0):
            assert await writer.ask(Write([writer])) == ["accepted", "full at 1"]
        pool = await system.pool(Writer, size=1, capacity=1)
        with anyio.fail_after(1.0):
            assert await pool.ask(Write([pool])) == ["accepted", "full at 1"]


async def test_of_two_actors_that_tell_each_other_one_hears_that_it_would_wait_for_ever() -> None:
    both: dict[str, list[str]] = {}

    async def ask(name: str, writer: ActorRef[Writer], to: ActorRef[Writer]) -> None:
        both[name] = await writer.ask(Write([to]))

    ready = anyio.Event()
    async with StrictSystem() as system, anyio.create_task_group() as asking:
        a, b = [await system.spawn(Writer, ready, capacity=1) for _ in "ab"]
        asking.start_soon(ask, "a", a, b)
        asking.start_soon(ask, "b", b, a)
        await anyio.wait_all_tasks_blocked()
        ready.set()
        await until(lambda: len(both) == 2)
        assert sorted(both.values()) == [["accepted", "accepted"], ["accepted", "full at 1"]]


async def test_whoever_is_asked_does_not_wait_for_room_at_its_askers() -> None:
    class Ask(Message[list[str]]):
        refs: list[ActorRef[Any]]

    class Asker(Writer):
        @handles(Ask)
        async def ask(self, message: Ask) -> list[str]:
            next_one, *rest = message.refs
            return await (next_one.ask(Ask(rest)) if len(rest) > 1 else next_one.ask(Write(rest)))

    async with StrictSystem() as system:
        a, b, c = [await system.spawn(Asker, capacity=1) for _ in "abc"]
        with anyio.fail_after(1.0):
            assert await a.ask(Ask([b, a])) == ["accepted", "full at 1"]
            assert await a.ask(Ask([b, c, a])) == ["accepted", "full at 1"]


# Races --------------------------------------------------------------------------------------------------------


class Race(Message[str]):
    seconds: int


class RaceNow(Message[str]): ...


class Racer(Adder):
    @handles(Race)
    async def race(self, message: Race) -> str:
        await anyio.sleep(message.seconds)
        return "reply"

    @handles(RaceNow)
    def race_now(self, _: RaceNow) -> str:
        return "reply"


class Settled(Middleware):
    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def settled(self, envelope: Envelope, outcome: Outcome) -> None:
        if isinstance(envelope.message, Race | RaceNow):
            self.outcomes.append(outcome)


async def race(
    message: Message[str],
    timeout: int,
    gives_up: int | None,
    others: dict[str, int],
    behind: int,
    witness: list[Settled],
) -> str:
    """Ask, with all of it at whole seconds of virtual time, so that much of it falls into one instant."""

    async def after(delay: int, do: Callable[[], Any]) -> None:
        await anyio.sleep(delay)
        result = do()
        if result is not None:
            await result

    result = "gave up"
    async with ActorSystem(middleware=witness) as system, anyio.create_task_group() as tasks:
        racer = await system.spawn(Racer, shutdown=1.0)
        cell = system.cells[racer.address]
        await racer.tell(Sleep(float(behind)))
        what: dict[str, Callable[[], Any]] = {
            "stop": racer.stop, "kill": racer.kill, "fail": lambda: cell.fail(ValueError("a child, say"))
        }  # fmt: skip
        for name, delay in others.items():
            tasks.start_soon(after, delay, what[name])
        async with anyio.create_task_group() as asking:
            if gives_up is not None:
                tasks.start_soon(after, gives_up, asking.cancel_scope.cancel)
            try:
                result = await racer.ask(message, timeout=timeout)
            except ActorsError as error:
                result = type(error).__name__
        assert anyio.current_time() <= timeout
        tasks.cancel_scope.cancel()
    assert not left_behind(system)
    assert not len(cell.mailbox)
    return result


FATES: dict[str, set[str | None]] = {
    "reply": {"handled"},
    "gave up": {"handled", "failed", "killed", "expired", "abandoned", "stopped", None},
    "AskTimeout": {"handled", "failed", "killed", "expired", "abandoned", "stopped", None},
    "HandlerFailed": {"failed", "killed"},
    "ActorStopped": {"stopped", None},
    "ActorNotFound": {None},
}


@settings(max_examples=300)
@given(
    message=st.just(RaceNow()) | st.builds(Race, st.integers(0, 3)),
    timeout=st.integers(1, 4),
    gives_up=st.none() | st.integers(0, 3),
    others=st.dictionaries(st.sampled_from(["stop", "kill", "fail"]), st.integers(0, 3)),
    behind=st.integers(0, 2),
    witness=st.booleans(),
    shuffle=st.random_module(),  # trio shuffles who is first
)
def test_an_ask_resolves_exactly_once_whatever_races(
    message: Race | RaceNow,
    timeout: int,
    gives_up: int | None,
    others: dict[str, int],
    behind: int,
    witness: bool,
    shuffle: object,
) -> None:
    witnesses = [Settled()] * witness
    result = run_virtual(race, message, timeout, gives_up, others, behind, witnesses)
    for each in witnesses:
        assert len(each.outcomes) <= 1
        fates: list[str | None] = [outcome.reason or outcome.fate for outcome in each.outcomes]
        assert (fates or [None])[0] in FATES[result]
    if not others:
        takes = behind + (message.seconds if isinstance(message, Race) else 0)
        ends = min(each for each in (timeout, gives_up) if each is not None)
        assert (result == "reply") == (takes < ends) or takes == ends
    if "kill" not in others and "stop" not in others:
        assert result in ("reply", "gave up", "AskTimeout"), "the turn in hand ends first"
