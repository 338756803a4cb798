"""`@handles`: what is wrong is said when the class is made; which method runs, how many at once, how often.

And the faults a user's code can have: each has its stated outcome.
"""

# No `from __future__ import annotations`: the checks at the class statement read annotations of local classes.

from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from actors import (
    Actor,
    ActorSystem,
    HandlerFailed,
    Message,
    Outcome,
    Priority,
    Refusal,
    Restart,
    RestartIntensityExceeded,
    SpawnError,
    handles,
)
from actors.events import ActorRestarted, ActorStopped, Event, HookFailed
from actors.testing import StrictSystem
from tests.actors.waiting import until

pytestmark = pytest.mark.anyio


class Count(Message[int]):
    number: int = 0


class CountMore(Count):
    """A subclass of a message is handled like it, unless it has a handler of its own."""


class Names(Message[list[str]]): ...


class Maybe(Message[int | None]): ...


class Tick(Message[None]): ...


class NoMessage: ...


# When the class is made ---------------------------------------------------------------------------------------


def no_message() -> None:
    class Bad(Actor):
        @handles(NoMessage)  # type: ignore[misc, type-var]
        async def count(self, message: NoMessage) -> None: ...


def an_instance() -> None:
    class Bad(Actor):
        @handles(Count())  # type: ignore[arg-type]
        async def count(self, message: Count) -> int:
            return 1


def two_for_one() -> None:
    class Bad(Actor):
        @handles(Count)
        async def first(self, message: Count) -> int:
            return 1

        @handles(Count)
        async def second(self, message: Count) -> int:
            return 2


def wrong_reply() -> None:
    class Bad(Actor):
        @handles(Count)  # type: ignore[arg-type]
        async def count(self, message: Count) -> str:
            return ""


def wrong_reply_of_a_def() -> None:
    class Bad(Actor):
        @handles(Count)  # type: ignore[arg-type]
        def count(self, message: Count) -> str:
            return ""


def no_reply() -> None:
    class Bad(Actor):
        @handles(Names)  # type: ignore[arg-type]
        async def names(self, message: Names) -> None: ...


def a_reply_too_many() -> None:
    class Bad(Actor):
        @handles(Tick)  # type: ignore[arg-type]
        async def tick(self, message: Tick) -> int:
            return 1


def generic_for_plain() -> None:
    class Bad(Actor):
        @handles(Count)  # type: ignore[arg-type]
        async def count(self, message: Count) -> list[int]:
            return []


def plain_for_generic() -> None:
    class Bad(Actor):
        @handles(Names)  # type: ignore[arg-type]
        async def names(self, message: Names) -> int:
            return 1


def wrong_message() -> None:
    class Bad(Actor):
        @handles(Count)  # type: ignore[arg-type]
        async def count(self, message: Tick) -> int:
            return 1


def too_few_arguments() -> None:
    class Bad(Actor):
        @handles(Tick)  # type: ignore[arg-type]
        async def tick(self) -> None: ...


def too_many_arguments() -> None:
    class Bad(Actor):
        @handles(Tick)  # type: ignore[arg-type]
        async def tick(self, message: Tick, more: int) -> None: ...


def too_few_arguments_and_an_unknown_name() -> None:
    class Bad(Actor):
        @handles(Tick)  # type: ignore[arg-type]
        async def tick(self) -> "Unknown": ...  # type: ignore[name-defined]  # noqa: F821


def concurrent_def() -> None:
    class Bad(Actor):
        @handles(Count, concurrency=8)
        def count(self, message: Count) -> int:
            return 1


def concurrency_of_nothing() -> None:
    class Bad(Actor):
        @handles(Count, concurrency=0)
        async def count(self, message: Count) -> int:
            return 1


def no_attempts() -> None:
    class Bad(Actor):
        @handles(Count, attempts=0)
        async def count(self, message: Count) -> int:
            return 1


def half_an_attempt() -> None:
    class Bad(Actor):
        @handles(Count, attempts=1.5)  # type: ignore[arg-type]
        async def count(self, message: Count) -> int:
            return 1


def generator() -> None:
    class Bad(Actor):
        @handles(Count)
        def count(self, message: Count) -> Any:
            yield 1


def async_generator() -> None:
    class Bad(Actor):
        @handles(Count)
        async def count(self, message: Count) -> Any:
            yield 1


class Base(Actor):
    @handles(Count, concurrency=2)
    async def count(self, message: Count) -> int:
        return 1


def override_with_a_def() -> None:
    class Bad(Base):
        def count(self, message: Count) -> int:  # type: ignore[override]
            return 2


def override_with_a_generator() -> None:
    class Bad(Base):
        async def count(self, message: Count) -> Any:
            yield 2


def override_with_another_reply() -> None:
    class Bad(Base):
        async def count(self, message: Count) -> str:  # type: ignore[override]
            return ""


def clashing_wire_name() -> None:
    class Elsewhere(Message[int], wire_name="tests.actors.test_handlers.Count"): ...


@pytest.mark.parametrize(
    ("define", "error", "says"),
    [
        (no_message, TypeError, "NoMessage.*not a message type; derive it from Message"),
        (an_instance, TypeError, "Count.*not a message type; derive it from Message"),
        (two_for_one, TypeError, "Bad: both first and second handle Count"),
        (wrong_reply, TypeError, "Bad.count handles Count, whose reply is int, but is annotated to return str"),
        (wrong_reply_of_a_def, TypeError, "Bad.count handles Count, whose reply is int, but .* return str"),
        (no_reply, TypeError, r"Bad.names handles Names, whose reply is list\[str\], but .* return None"),
        (a_reply_too_many, TypeError, "Bad.tick handles Tick, whose reply is None, but .* return int"),
        (generic_for_plain, TypeError, r"Bad.count handles Count, whose reply is int, but .* return list\[int\]"),
        (plain_for_generic, TypeError, r"Bad.names handles Names, whose reply is list\[str\], but .* return int"),
        (wrong_message, TypeError, "Bad.count handles Count but its message is annotated Tick"),
        (too_few_arguments, TypeError, "Bad.tick takes 1 arguments; a handler takes self and the message"),
        (too_many_arguments, TypeError, "Bad.tick takes 3 arguments; a handler takes self and the message"),
        (too_few_arguments_and_an_unknown_name, TypeError, "Bad.tick takes 1 arguments"),
        (concurrent_def, TypeError, "Bad.count is a plain def; only an async def handler can share its actor"),
        (concurrency_of_nothing, ValueError, r"@handles\(Count.*concurrency"),
        (no_attempts, ValueError, r"@handles\(Count.*attempts"),
        (half_an_attempt, (TypeError, ValueError), r"@handles\(Count.*attempts"),
        (generator, TypeError, "Bad.count yields; a handler returns one reply"),
        (async_generator, TypeError, "Bad.count yields; a handler returns one reply"),
        (override_with_a_def, TypeError, "Bad.count is a plain def; only an async def handler can share its actor"),
        (override_with_a_generator, TypeError, "Bad.count yields; a handler returns one reply"),
        (override_with_another_reply, TypeError, "Bad.count handles Count, whose reply is int, but .* return str"),
        (clashing_wire_name, TypeError, "'tests.actors.test_handlers.Count' belongs to .*Count; choose another"),
    ],
)
def test_a_bad_definition_is_an_error_that_says_what_and_where(
    define: Callable[[], None], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        define()


def test_what_only_looks_strange_is_allowed() -> None:
    class Fine(Actor):
        @handles(Maybe)
        async def maybe(self, message: Maybe) -> None: ...

        @handles(Names)
        def names(self, message, verbose=False):  # type: ignore[no-untyped-def]
            return ["a"]

        @handles(CountMore)
        @handles(Count)
        async def both(self, message: Count) -> bool:
            return True

    assert {kind.__name__ for kind in Fine.__handlers__} == {"Maybe", "Names", "Count", "CountMore"}


# Which method runs --------------------------------------------------------------------------------------------


class Named(Message[str]): ...


class NamedBetter(Named): ...


class Parent(Actor):
    @handles(Named)
    async def name(self, _: Named) -> str:
        return "parent"


class Overrides(Parent):
    async def name(self, _: Named) -> str:
        return "override"


class Redefines(Parent):
    @handles(Named)
    async def another(self, _: Named) -> str:
        return "another"


class Adds(Parent):
    @handles(NamedBetter)
    def better(self, _: NamedBetter) -> str:
        return "better"


class Both(Adds, Redefines): ...


@pytest.mark.parametrize("warm", [False, True], ids=["first", "after the parent"])
@pytest.mark.parametrize(
    ("actor", "name", "better"),
    [
        (Parent, "parent", "parent"),
        (Overrides, "override", "override"),
        (Redefines, "another", "another"),
        (Adds, "parent", "better"),
        (Both, "another", "better"),
    ],
)
async def test_the_nearest_handler_of_the_nearest_type_runs(
    actor: type[Actor], name: str, better: str, warm: bool
) -> None:
    async with StrictSystem() as system:
        if warm:
            await (await system.spawn(Parent)).ask(NamedBetter())
        late: type[Actor] = type("Late", (actor,), {})  # defined after the parent has seen the message
        ref = await system.spawn(late)
        assert [await ref.ask(Named()), await ref.ask(NamedBetter())] == [name, better]


async def test_a_plain_handler_that_returns_a_coroutine_fails_and_says_so() -> None:
    class Forgot(Actor):
        @handles(Count)
        def count(self, message: Count) -> Any:
            return self.really(message)

        async def really(self, message: Count) -> int:
            return message.number

    async with StrictSystem() as system:
        forgot = await system.spawn(Forgot)
        with pytest.raises(HandlerFailed, match=r"Forgot.count is a plain def that returned a coroutine"):
            await forgot.ask(Count())
        await system.expect_dead_letter(Count, reason="failed")


# How many at once ---------------------------------------------------------------------------------------------


class Work(Message[int]):
    number: int


class Other(Message[int]):
    number: int


class Shared(Actor):
    """Handles four pieces of work at once, and everything else one at a time beside them."""

    def __init__(self, events: list[str], gates: dict[int, anyio.Event]) -> None:
        self.events, self.gates = events, gates

    @handles(Work, concurrency=4)
    async def work(self, message: Work) -> int:
        assert self.envelope.message is message
        self.events.append(f"+{message.number}")
        if message.number in self.gates:
            await self.gates[message.number].wait()
        assert self.envelope.message is message
        self.events.append(f"-{message.number}")
        return message.number

    @handles(Other)
    async def other(self, message: Other) -> int:
        self.events.append(f"other {message.number}")
        await anyio.lowlevel.checkpoint()
        return message.number


async def test_concurrent_handlers_start_in_order_and_no_more_than_declared() -> None:
    events: list[str] = []
    gates = {number: anyio.Event() for number in range(7)}
    async with StrictSystem() as system:
        shared = await system.spawn(Shared, events, gates)
        for number in range(7):
            await shared.tell(Work(number))
        await anyio.wait_all_tasks_blocked()
        assert events == ["+0", "+1", "+2", "+3"]
        for number in (2, 0, 1):
            gates[number].set()
            await anyio.wait_all_tasks_blocked()
        assert events[4:] == ["-2", "+4", "-0", "+5", "-1", "+6"]
        for gate in gates.values():
            gate.set()


async def test_a_full_set_of_concurrent_handlers_lets_more_urgent_mail_pass() -> None:
    events: list[str] = []
    gates = {number: anyio.Event() for number in range(4)}
    async with StrictSystem() as system:
        shared = await system.spawn(Shared, events, gates)
        for number in range(5):
            await shared.tell(Work(number))
        await anyio.wait_all_tasks_blocked()
        assert await shared.ask(Other(1), priority=Priority.HIGH) == 1
        assert events[4:] == ["other 1"]
        for gate in gates.values():
            gate.set()
    assert events[-2:] == ["+4", "-4"]


async def test_concurrent_handlers_finish_before_their_actor_stops() -> None:
    events: list[str] = []
    gates = {1: anyio.Event(), 2: anyio.Event(), 3: anyio.Event()}
    async with StrictSystem() as system, anyio.create_task_group() as tasks:
        shared = await system.spawn(Shared, events, gates)
        for number in (1, 2, 3):
            await shared.tell(Work(number))
        tasks.start_soon(shared.stop)
        await anyio.wait_all_tasks_blocked()
        began = anyio.current_time()
        for number in (3, 1, 2):  # in no particular order
            gates[number].set()
        await until(lambda: not system.cells)
        assert anyio.current_time() - began < 1.0
    assert sorted(events) == ["+1", "+2", "+3", "-1", "-2", "-3"]


async def test_killing_an_actor_cancels_all_its_handlers_at_once() -> None:
    gates = {number: anyio.Event() for number in range(4)}
    async with StrictSystem() as system:
        shared = await system.spawn(Shared, [], gates)
        receipts = [await shared.tell(Work(number), receipt=True) for number in range(5)]
        await anyio.wait_all_tasks_blocked()
        began = anyio.current_time()
        shared.kill()
        outcomes = [await receipt.wait(1.0) for receipt in receipts]
        assert [outcome.reason for outcome in outcomes] == ["killed"] * 4 + ["stopped"]
        assert anyio.current_time() - began < 0.5
        system.allow_dead_letters(Work)


async def test_concurrent_handlers_that_fail_together_cause_one_restart() -> None:
    gate = anyio.Event()

    class Fragile(Actor):
        @handles(Work, concurrency=3)
        async def work(self, message: Work) -> int:
            await gate.wait()
            raise ValueError(message.number)

    restarts: list[ActorRestarted] = []
    async with StrictSystem(intensity=1) as system:
        system.subscribe(ActorRestarted, restarts.append)
        fragile = await system.spawn(Fragile)
        receipts = [await fragile.tell(Work(number), receipt=True) for number in range(3)]
        await anyio.wait_all_tasks_blocked()
        gate.set()
        assert [(await receipt.wait(1.0)).fate for receipt in receipts] == ["failed"] * 3
        await anyio.wait_all_tasks_blocked()
        system.allow_dead_letters(Work)
    assert len(restarts) == 1


# How often ----------------------------------------------------------------------------------------------------


class Try(Message[int]):
    """Fails until the attempt of this number."""

    succeeds: int


class TryNow(Try): ...


class TryBeside(Try): ...


class Tired(Actor):
    def __init__(self, events: list[str]) -> None:
        self.events = events

    def attempt(self, message: Try) -> int:
        attempt = self.envelope.attempt
        self.events.append(f"{message.succeeds}/{attempt}")
        if attempt < message.succeeds:
            raise ValueError(f"attempt {attempt}")
        return attempt

    @handles(Try, attempts=3)
    async def try_(self, message: Try) -> int:
        return self.attempt(message)

    @handles(TryNow, attempts=3)
    def try_now(self, message: TryNow) -> int:
        return self.attempt(message)

    @handles(TryBeside, attempts=3, concurrency=2)
    async def try_beside(self, message: TryBeside) -> int:
        return self.attempt(message)

    @handles(Work)
    async def work(self, message: Work) -> int:
        self.events.append("work")
        return message.number


@pytest.mark.parametrize("kind", [Try, TryNow, TryBeside])
async def test_a_message_is_tried_as_often_as_its_handler_says(kind: type[Try]) -> None:
    events: list[str] = []
    async with StrictSystem(intensity=100) as system:
        tired = await system.spawn(Tired, events)
        assert await tired.ask(kind(3), timeout=1.0) == 3
        with pytest.raises(HandlerFailed, match="ValueError: attempt 3"):
            await tired.ask(kind(4), timeout=1.0)
        letter = await system.expect_dead_letter(kind, reason="failed")
        assert (str(letter.cause), letter.attempt) == ("attempt 3", 3)
    assert events == ["3/1", "3/2", "3/3", "4/1", "4/2", "4/3"]


async def test_a_restart_keeps_the_mailbox_and_what_is_tried_again_keeps_its_place() -> None:
    events: list[str] = []
    async with StrictSystem(intensity=100) as system:
        tired = await system.spawn(Tired, events)
        await tired.tell(Try(2))
        await tired.tell(Work(1))
        await tired.tell(Try(2), priority=Priority.URGENT)
    assert events == ["2/1", "2/2", "2/1", "2/2", "work"]


async def test_a_retry_whose_asker_has_gone_is_not_started() -> None:
    events: list[str] = []
    async with StrictSystem(intensity=100) as system:
        tired = await system.spawn(Tired, events, backoff=None)

        class Slow(Tired):
            async def on_restart(self, error: BaseException) -> None:
                await anyio.sleep(0.02)

        slow = await system.spawn(Slow, events)
        with anyio.move_on_after(0.01):
            await slow.ask(Try(2))
        await system.expect_dead_letter(Try, reason="abandoned")
        await tired.ask(Work(1))
    assert events == ["2/1", "work"]


async def test_a_refusal_is_not_tried_again() -> None:
    class No(Refusal): ...

    class Stern(Actor):
        @handles(Try, attempts=3)
        async def try_(self, message: Try) -> int:
            raise No(f"attempt {self.envelope.attempt}")

    async with StrictSystem() as system:
        stern = await system.spawn(Stern)
        with pytest.raises(No, match="attempt 1"):
            await stern.ask(Try(2))


# Faults -------------------------------------------------------------------------------------------------------


class Faulty(Actor):
    """Raises where it is told to."""

    def __init__(self, faults: dict[str, BaseException], events: list[str]) -> None:
        self.faults, self.events = faults, events
        self.at("__init__")

    def at(self, place: str) -> None:
        self.events.append(place)
        if place in self.faults:
            raise self.faults[place]

    async def on_start(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.at("on_start")

    async def on_stop(self, reason: str) -> None:
        await anyio.lowlevel.checkpoint()
        self.at("on_stop")

    async def on_restart(self, error: BaseException) -> None:
        await anyio.lowlevel.checkpoint()
        self.at("on_restart")

    @handles(Tick)
    async def tick(self, _: Tick) -> None:
        self.at("handler")

    @handles(Count)
    def count(self, message: Count) -> int:
        self.at("plain handler")
        return message.number


@pytest.mark.parametrize("place", ["__init__", "on_start"])
async def test_an_actor_that_cannot_start_is_a_spawn_error_with_the_cause(place: str) -> None:
    cause = ValueError("no database")
    events: list[str] = []
    async with StrictSystem() as system:
        with pytest.raises(SpawnError, match="Faulty at /faulty did not start: ValueError") as caught:
            await system.spawn(Faulty, {place: cause}, events, name="faulty")
        assert caught.value.__cause__ is cause
        assert not system.cells
        await system.spawn(Faulty, {}, [], name="faulty")  # the address is free
    assert events == ["__init__", "on_start", "on_restart"][: 1 if place == "__init__" else 3]


@pytest.mark.parametrize("place", ["__init__", "on_start"])
async def test_mail_for_an_actor_that_cannot_start_is_not_lost_silently(place: str) -> None:
    starting = anyio.Event()

    class Slow(Faulty):
        async def on_start(self) -> None:
            starting.set()
            await anyio.sleep(0.01)
            self.at("later")

    async with ActorSystem() as system, anyio.create_task_group() as tasks:

        async def spawn() -> None:
            with pytest.raises(SpawnError):
                await system.spawn(Slow, {"later": ValueError()}, [], name="slow")

        tasks.start_soon(spawn)
        await starting.wait()
        receipt = await system.ref("/slow").tell(Tick(), receipt=True)
        outcome = await receipt.wait(1.0)
        assert (outcome.fate, outcome.reason) == ("dead-lettered", "stopped")
        assert isinstance(outcome.error, ValueError)


@pytest.mark.parametrize("place", ["on_stop", "on_restart"])
async def test_a_hook_that_raises_is_said_and_changes_nothing(place: str) -> None:
    events: list[str] = []
    failed: list[HookFailed] = []
    cause = ValueError("the disk is full")
    async with StrictSystem() as system:
        system.subscribe(HookFailed, failed.append)
        faulty = await system.spawn(Faulty, {place: cause, "handler": ValueError()}, events)
        await faulty.tell(Tick())
        assert await faulty.ask(Count(7), timeout=1.0) == 7
        await faulty.stop()
        await system.expect_dead_letter(Tick, reason="failed")
    assert [(event.hook, event.error) for event in failed] == [(place, cause)]
    began = ["__init__", "on_start"]
    assert events == [*began, "handler", "on_restart", *began, "plain handler", "on_stop"]


async def test_a_hook_that_hangs_is_given_the_shutdown_time() -> None:
    class Hangs(Actor):
        async def on_stop(self, reason: str) -> None:
            await anyio.sleep(3600)

    failed: list[HookFailed] = []
    async with StrictSystem() as system:
        system.subscribe(HookFailed, failed.append)
        hangs = await system.spawn(Hangs, shutdown=0.02)
        began = anyio.current_time()
        await hangs.stop()
        assert 0.01 < anyio.current_time() - began < 1.0
    assert [type(event.error) for event in failed] == [TimeoutError]


async def test_a_handler_that_hangs_holds_up_nobody_else_and_is_cancelled_at_last() -> None:
    class Hangs(Actor):
        @handles(Tick)
        async def tick(self, _: Tick) -> None:
            await anyio.sleep(3600)

    async with StrictSystem() as system:
        hangs = await system.spawn(Hangs, shutdown=0.02)
        neighbour = await system.spawn(Faulty, {}, [])
        receipt = await hangs.tell(Tick(), receipt=True)
        assert await neighbour.ask(Count(1), timeout=1.0) == 1
        await hangs.stop()
        outcome = await receipt.wait(0.0)
        assert (outcome.fate, outcome.reason) == ("failed", "killed")
        await system.expect_dead_letter(Tick, reason="killed")


@pytest.mark.parametrize("place", ["handler", "plain handler", "beside"])
async def test_a_base_exception_is_nobodys_to_handle_and_ends_the_system_as_itself(place: str) -> None:
    class Bug(BaseException): ...

    class Faultier(Faulty):
        @handles(Work, concurrency=2)
        async def work(self, message: Work) -> int:
            self.at("beside")
            return message.number

    bug = Bug("out of the blue")
    stopped: list[ActorStopped] = []
    system = ActorSystem()
    system.subscribe(ActorStopped, stopped.append)
    with pytest.raises(Bug) as caught:
        async with system:
            await system.spawn(Faulty, {}, [], name="bystander")
            faulty = await system.spawn(Faultier, {place: bug}, [], name="faulty")
            await faulty.tell({"handler": Tick(), "plain handler": Count(), "beside": Work(1)}[place])
            await anyio.sleep(3600)
    assert caught.value is bug
    assert sorted(event.address for event in stopped) == ["/bystander", "/faulty"]
    assert system.dead_letters == {"failed": 1}


async def test_a_handler_that_always_fails_ends_in_an_error_and_not_in_a_loop() -> None:
    events: list[str] = []
    with pytest.raises(RestartIntensityExceeded, match=r"more than 3 restarts in 5.0 s.*/faulty.*no luck") as caught:
        async with ActorSystem() as system:
            faulty = await system.spawn(Faulty, {"handler": ValueError("no luck")}, events, name="faulty")
            receipts = [await faulty.tell(Tick(), receipt=True) for _ in range(10)]
            await anyio.sleep(3600)
    assert str(caught.value.__cause__) == "no luck"
    assert events.count("handler") == 4
    outcomes = [await receipt.wait(0.0) for receipt in receipts]
    assert [outcome.reason for outcome in outcomes] == ["failed"] * 4 + ["stopped"] * 6


async def test_each_event_of_a_failure_is_published_once_and_in_order() -> None:
    seen: list[Event] = []
    async with StrictSystem() as system:
        system.subscribe(Event, seen.append)
        faulty = await system.spawn(Faulty, {"handler": ValueError()}, [], restart=Restart.TRANSIENT)
        await faulty.tell(Tick())
        assert await faulty.ask(Count(1), timeout=1.0) == 1
        await system.expect_dead_letter(Tick)
    names = [type(event).__name__ for event in seen]
    assert names == ["ActorStarted", "DeadLetter", "ActorRestarted", "ActorStarted", "ActorStopped"]


async def test_a_subscriber_that_raises_ends_the_system() -> None:
    def broken(_: Event) -> None:
        raise ValueError("broken subscriber")

    with pytest.raises(ValueError, match="broken subscriber"):
        async with ActorSystem() as system:
            system.subscribe(ActorStopped, broken)
            await (await system.spawn(Faulty, {}, [])).stop()
            await anyio.sleep(3600)


async def test_a_handler_may_stop_its_own_actor() -> None:
    class Brief(Actor):
        @handles(Count)
        async def count(self, message: Count) -> int:
            await self.ref.stop()  # from within it returns at once: waiting would be waiting for itself
            return message.number

    async with StrictSystem() as system:
        brief = await system.spawn(Brief)
        queued = [await brief.tell(Count(number), receipt=True) for number in range(3)]
        assert [await receipt.wait(1.0) for receipt in queued] == [Outcome("handled")] * 3
        await until(lambda: not system.cells)
