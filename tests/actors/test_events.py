"""Events: each with its facts, to whoever subscribed, and what the log shows of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import (
    Actor,
    ActorSystem,
    Address,
    Backoff,
    ChildSpec,
    DeadLetter,
    HandlerFailed,
    Message,
    Overflow,
    Restart,
    Strategy,
    handles,
)
from actors.events import (
    ActorOverdue,
    ActorRestarted,
    ActorStarted,
    ActorStopped,
    Event,
    HookFailed,
    SupervisorGaveUp,
    Throttle,
    describe,
)

pytestmark = pytest.mark.anyio

SOON = 0.05  # seconds: real ones on two of the three event loops


class Note(Message[None]):
    text: str = "a secret"


class Fail(Message[None]):
    pass


class Hang(Message[None]):
    pass


class Unknown(Message[None]):
    pass


class Forward(Message[None]):
    to: str


class Worker(Actor):
    @handles(Note)
    async def note(self, _: Note) -> None:
        pass

    @handles(Fail)
    async def fail(self, _: Fail) -> None:
        raise ValueError("as told")

    @handles(Hang)
    async def hang(self, _: Hang) -> None:
        await anyio.sleep_forever()

    @handles(Forward)
    async def forward(self, message: Forward) -> None:
        await self.system.ref(message.to).tell(Unknown())


class Stubborn(Worker):
    async def on_stop(self, reason: str) -> None:
        raise OSError(reason)


@pytest.fixture
async def system() -> AsyncIterator[ActorSystem]:
    async with ActorSystem("test") as system:
        yield system


@pytest.fixture
def events(system: ActorSystem) -> list[Event]:
    """All that happens, in order."""
    events: list[Event] = []
    system.subscribe(Event, events.append)
    return events


Lines = list[dict[str, Any]]


@pytest.fixture
def lines(_quiet_log: Lines) -> Lines:
    """What has been logged."""
    return _quiet_log


# Each with its facts --------------------------------------------------------------------------------------------


async def test_a_life_from_start_to_stop(system: ActorSystem, events: list[Event], lines: Lines) -> None:
    worker = await system.spawn(Worker, name="w")
    await worker.stop()
    assert events == [ActorStarted(Address("/w")), ActorStopped(Address("/w"), "stopped")]
    assert not lines, "what is as it should be is not worth a line"


async def test_a_restart_says_why_and_in_how_long(system: ActorSystem, events: list[Event], lines: Lines) -> None:
    await system.supervise(
        ChildSpec(Worker, name="a"),
        ChildSpec(Worker, name="b", backoff=Backoff(SOON, SOON, jitter=0.0)),
        strategy=Strategy.ONE_FOR_ALL,
        name="s",
    )
    with suppress(HandlerFailed):
        await system.ref("/s/b").ask(Fail())
    await system.ref("/s/b").ask(Note())
    restarted = [fact for fact in events if isinstance(fact, ActorRestarted)]
    assert [(fact.address, fact.delay, describe(fact.error)) for fact in restarted] == [
        ("/s/a", SOON, None),
        ("/s/b", SOON, "ValueError: as told"),
    ]
    assert lines[1:] == [
        {
            "event": "actor restarts", "log_level": "warning", "system": "test",
            "address": address, "delay": SOON, "error": error,
        }
        for address, error in (("/s/a", None), ("/s/b", "ValueError: as told"))
    ]  # fmt: skip


async def test_an_end_says_why(system: ActorSystem, events: list[Event]) -> None:
    failed = await system.spawn(Worker, name="failed", restart=Restart.TEMPORARY)
    await failed.tell(Fail())
    killed = await system.spawn(Worker, name="killed")
    killed.kill()
    await anyio.wait_all_tasks_blocked()
    ended = {str(fact.address): fact for fact in events if isinstance(fact, ActorStopped)}
    assert ended["/killed"].reason == "killed"
    assert ended["/failed"].reason == "failed"
    assert isinstance(ended["/failed"].error, ValueError)


async def test_one_that_takes_too_long_is_worth_a_line(system: ActorSystem, events: list[Event], lines: Lines) -> None:
    worker = await system.spawn(Worker, name="w", shutdown=SOON)
    await worker.tell(Hang())
    await worker.stop()
    assert ActorOverdue(Address("/w"), SOON) in events
    assert lines[0] == {
        "event": "actor did not stop in time and is cancelled", "log_level": "warning", "system": "test",
        "address": "/w", "timeout": SOON,
    }  # fmt: skip


async def test_a_last_word_that_raises_is_worth_a_line(system: ActorSystem, events: list[Event], lines: Lines) -> None:
    worker = await system.spawn(Stubborn, name="w")
    await worker.stop()
    assert [(fact.hook, describe(fact.error)) for fact in events if isinstance(fact, HookFailed)] == [
        ("on_stop", "OSError: stopped")
    ]
    assert lines == [
        {
            "event": "hook failed", "log_level": "error", "system": "test",
            "address": "/w", "hook": "on_stop", "error": "OSError: stopped",
        }
    ]  # fmt: skip


async def test_giving_up_names_the_supervisor_and_the_cause(
    system: ActorSystem, events: list[Event], lines: Lines
) -> None:
    await system.supervise(ChildSpec(Worker, name="w"), intensity=0, period=60.0, name="s")
    await system.ref("/s/w").tell(Fail())
    await anyio.wait_all_tasks_blocked()
    (gave_up,) = [fact for fact in events if isinstance(fact, SupervisorGaveUp)]
    assert gave_up.address == "/s"
    assert isinstance(gave_up.error.__cause__, ValueError)
    text = "/s: more than 0 restarts in 60.0 s, the last because /s/w failed: ValueError: as told"
    assert str(gave_up.error) == text
    assert lines[1] == {
        "event": "supervisor gave up", "log_level": "error", "system": "test", "address": "/s",
        "error": f"RestartIntensityExceeded: {text}", "cause": "ValueError: as told",
    }  # fmt: skip


async def test_a_dead_letter_says_which_message_was_not_handled_and_why(
    system: ActorSystem, events: list[Event], lines: Lines
) -> None:
    worker = await system.spawn(Worker, name="w", capacity=1, overflow=Overflow.DROP_OLDEST)
    other = await system.spawn(Worker, name="other")
    await worker.tell(Note(), ttl=0.0)
    await anyio.wait_all_tasks_blocked()
    await worker.tell(Fail())
    await anyio.wait_all_tasks_blocked()
    await other.ask(Forward(to="/w"))
    await anyio.wait_all_tasks_blocked()
    await worker.tell(Hang())
    await anyio.wait_all_tasks_blocked()
    await worker.tell(Note())
    await worker.tell(Note())
    worker.kill()
    await anyio.wait_all_tasks_blocked()
    letters = [fact for fact in events if isinstance(fact, DeadLetter)]
    assert [(fact.address, type(fact.message), fact.reason, fact.sender, fact.attempt) for fact in letters] == [
        ("/w", Note, "expired", None, 1),
        ("/w", Fail, "failed", None, 1),
        ("/w", Unknown, "unhandled", "/other", 1),
        ("/w", Note, "dropped", None, 1),
        ("/w", Hang, "killed", None, 1),
        ("/w", Note, "stopped", None, 1),
    ]
    assert isinstance(letters[1].cause, ValueError)
    assert dict(system.dead_letters) == dict.fromkeys([fact.reason for fact in letters], 1)
    logged = [line for line in lines if line["event"] == "dead letter"]
    assert [(line["address"], line["type"], line["reason"], line["sender"]) for line in logged] == [
        (str(fact.address), type(fact.message).__qualname__, fact.reason, fact.sender and str(fact.sender))
        for fact in letters
    ]
    assert logged[1]["cause"] == "ValueError: as told"
    assert "a secret" not in str(lines), "payloads are nobody's business"


# To whoever subscribed ------------------------------------------------------------------------------------------


async def test_one_hears_what_one_subscribed_to_until_one_does_not(system: ActorSystem) -> None:
    started: list[Event] = []
    everything: list[Event] = []
    stop_started = system.subscribe(ActorStarted, started.append)
    stop_everything = system.subscribe(Event, everything.append)
    await (await system.spawn(Worker, name="a")).stop()
    stop_started()
    await system.spawn(Worker, name="b")
    stop_everything()
    await system.spawn(Worker, name="c")
    a, b = Address("/a"), Address("/b")
    assert started == [ActorStarted(a)]
    assert everything == [ActorStarted(a), ActorStopped(a, "stopped"), ActorStarted(b)]


async def test_a_subscriber_may_end_its_subscription_while_it_is_called(system: ActorSystem) -> None:
    heard: list[Event] = []

    def once(fact: ActorStarted) -> None:
        heard.append(fact)
        end()

    end = system.subscribe(ActorStarted, once)
    after: list[Event] = []
    system.subscribe(ActorStarted, after.append)
    for name in "abc":
        await system.spawn(Worker, name=name)
    assert (len(heard), len(after)) == (1, 3), "and the one after it is not passed over"


async def test_ending_a_subscription_twice_ends_it_once(system: ActorSystem) -> None:
    heard: list[Event] = []
    end = system.subscribe(ActorStarted, heard.append)
    system.subscribe(ActorStarted, heard.append)
    end()
    end()
    await system.spawn(Worker)
    assert len(heard) == 1


class Weird(BaseException):
    """Not an `Exception`."""


@pytest.mark.parametrize("kind", [ActorStarted, ActorRestarted, ActorStopped, DeadLetter])
@pytest.mark.parametrize("error", [LookupError, Weird])
async def test_a_subscriber_that_raises_ends_the_system(kind: type[Event], error: type[BaseException]) -> None:
    """With its error, whatever it is; a sound subscriber beside it hears all the same, and everybody is stopped."""
    heard: list[Event] = []

    def broken(_: Event) -> None:
        raise error("broken")

    with pytest.raises(error, match="broken"):
        async with ActorSystem("test") as system:
            await system.spawn(Worker, name="other")
            system.subscribe(kind, broken)
            system.subscribe(kind, heard.append)
            worker = await system.spawn(Worker, name="w")
            await worker.tell(Fail())
            await anyio.wait_all_tasks_blocked()
            await worker.stop()
            await anyio.sleep_forever()
    assert heard
    assert not system.cells


async def test_a_subscriber_that_raises_on_the_way_out_is_heard_too() -> None:
    def broken(_: Event) -> None:
        raise LookupError("broken")

    with pytest.raises(LookupError, match="broken"):
        async with ActorSystem("test") as system:
            system.subscribe(ActorStopped, broken)
            for name in "abc":
                await system.spawn(Worker, name=name)
    assert not system.cells


# The log of dead letters ------------------------------------------------------------------------------------------


async def test_the_log_of_dead_letters_is_throttled_and_the_count_never(_quiet_log: Lines) -> None:  # noqa: PT019
    letters: list[DeadLetter] = []
    async with ActorSystem("test") as system:
        system.subscribe(DeadLetter, letters.append)
        worker = await system.spawn(Worker, name="w", restart=Restart.TEMPORARY)
        for _ in range(1_000):
            await worker.tell(Unknown())
        await worker.stop()
        await anyio.sleep(1.0)
        again = await system.spawn(Worker, name="w")
        await again.tell(Unknown())
        await again.stop()
    assert system.dead_letters == {"unhandled": 1_001}
    assert len(letters) == 1_001
    logged = [line["not_shown"] for line in _quiet_log if line["event"] == "dead letter"]
    assert logged == [0] * 10 + [990]


@given(st.integers(1, 5), st.sampled_from([0.5, 1.0]), st.lists(st.sampled_from([0.0, 0.0, 0.25, 1.0]), max_size=60))
def test_a_throttle_lets_so_many_through_and_counts_the_rest(limit: int, period: float, gaps: list[float]) -> None:
    throttle = Throttle(limit, period)
    now, since, passed, held_back = 0.0, float("-inf"), 0, 0
    for gap in gaps:
        now += gap
        if now - since >= period:
            since, passed = now, 0
        passed += 1
        assert throttle.allows(now) == (passed <= limit)
        held_back += passed > limit
        if gap == 1.0:
            assert throttle.held_back() == held_back
            held_back = 0
    assert throttle.held_back() == held_back


def test_an_error_in_one_line() -> None:
    assert describe(None) is None
    assert describe(ValueError("no")) == "ValueError: no"
    assert describe(ValueError()) == "ValueError"
