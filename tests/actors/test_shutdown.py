"""How actors and systems end: drained, in order, in time, whatever goes wrong; and what a start leaves behind.

Promise 5 of the architecture and the part of invariant 10 that is about time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from trio.testing import MockClock

from actors import (
    Actor,
    ActorRef,
    ActorStopped,
    ActorSystem,
    AddressInUse,
    Backoff,
    ChildSpec,
    HandlerFailed,
    Message,
    Receipt,
    Restart,
    RestartIntensityExceeded,
    SpawnError,
    Strategy,
    handles,
)
from actors.events import ActorOverdue, ActorRestarted, Event, HookFailed, SupervisorGaveUp
from actors.events import ActorStopped as Ended

pytestmark = pytest.mark.anyio

SOON = 0.05  # seconds: real ones on two of the three event loops
LATE = 5.0


class Note(Message[None]):
    text: str = "note"


class Fail(Message[None]):
    pass


class Hang(Message[None]):
    """For ever, or until it has been cancelled once more than `deaf` times."""

    deaf: int = 0


class Gate(Message[None]):
    """Until the test opens the gate."""


class Finish(Message[None]):
    pass


class StopThat(Message[None]):
    """Stop the actor at this address."""

    address: str


class Worker(Actor):
    """Writes down what becomes of it."""

    def __init__(self, log: list[str], gate: anyio.Event | None = None) -> None:
        self.log, self.gate = log, gate

    @property
    def name(self) -> str:
        return self.ref.address.name

    async def on_start(self) -> None:
        self.log.append(f"{self.name} starts")

    async def on_stop(self, reason: str) -> None:
        self.log.append(f"{self.name} {reason}")

    async def on_restart(self, error: BaseException) -> None:
        self.log.append(f"{self.name} failed")

    @handles(Note)
    async def note(self, message: Note) -> None:
        self.log.append(f"{self.name}: {message.text}")

    @handles(Fail)
    async def fail(self, _: Fail) -> None:
        raise ValueError("as told")

    @handles(Hang)
    async def hang(self, message: Hang) -> None:
        for _ in range(message.deaf):
            with suppress(anyio.get_cancelled_exc_class()):
                await anyio.sleep_forever()
        await anyio.sleep_forever()

    @handles(Gate)
    async def wait_at_gate(self, _: Gate) -> None:
        assert self.gate is not None
        await self.gate.wait()

    @handles(Finish)
    async def finish(self, _: Finish) -> None:
        self.stop()

    @handles(StopThat)
    async def stop_that(self, message: StopThat) -> None:
        await self.system.ref(message.address).stop()
        self.log.append(f"{self.name} has stopped {message.address}")


class Parent(Worker):
    """With two children and one grandchild."""

    async def on_start(self) -> None:
        await super().on_start()
        await self.spawn(Worker, self.log, self.gate, name=f"{self.name}1")
        await self.supervise(ChildSpec(Worker, self.log, self.gate, name=f"{self.name}21"), name=f"{self.name}2")


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
async def system() -> AsyncIterator[ActorSystem]:
    """One that has to leave nobody behind."""
    async with ActorSystem("test") as system:
        yield system
    assert not system.cells


@asynccontextmanager
async def takes(at_least: float, at_most: float) -> AsyncIterator[None]:
    start = anyio.current_time()
    yield
    assert at_least * 0.9 <= anyio.current_time() - start <= at_most


def record(system: ActorSystem, *kinds: type[Event]) -> list[Any]:
    events: list[Any] = []
    for kind in kinds:
        system.subscribe(kind, events.append)
    return events


async def until(system: ActorSystem, condition: Callable[[], bool]) -> None:
    """Wait until it holds, for at most a few seconds. Looks whenever something happens."""
    met = anyio.Event()

    def look(_: Event | None = None) -> None:
        if condition():
            met.set()

    unsubscribe = system.subscribe(Event, look)
    look()
    with anyio.fail_after(LATE):
        await met.wait()
    unsubscribe()


# In order ----------------------------------------------------------------------------------------------------


async def test_stop_handles_what_is_queued_and_takes_no_more(system: ActorSystem, log: list[str]) -> None:
    gate = anyio.Event()
    worker = await system.spawn(Worker, log, gate, name="w")
    await worker.tell(Gate())
    await worker.tell(Note(text="one"))
    await anyio.wait_all_tasks_blocked()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.stop)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(ActorStopped):
            await worker.tell(Note(text="two"))
        gate.set()
    assert log == ["w starts", "w: one", "w stopped"]
    assert not system.dead_letters


async def test_its_own_stop_handles_what_is_queued_first(system: ActorSystem, log: list[str]) -> None:
    ended = record(system, Ended)
    worker = await system.spawn(Worker, log, name="w", restart=Restart.TRANSIENT)
    await worker.tell(Finish())
    receipt = await worker.tell(Note(), receipt=True)
    assert (await receipt.wait()).fate == "handled"
    await anyio.wait_all_tasks_blocked()
    assert log == ["w starts", "w: note", "w finished"]
    assert [(fact.address, fact.reason, fact.error) for fact in ended] == [("/w", "finished", None)]


async def test_leaving_stops_the_last_started_first_and_children_before_parents(log: list[str]) -> None:
    async with ActorSystem() as system:
        for name in "abc":
            await system.spawn(Parent, log, name=name)
        log.clear()
    assert log == [f"{each} stopped" for name in "cba" for each in (f"{name}21", f"{name}1", name)]


async def test_leaving_waits_until_nobody_has_anything_to_do(log: list[str]) -> None:
    """What is stopped first still gets the mail that those stopped later have for it."""

    class Relay(Worker):
        @handles(Note)
        async def note(self, message: Note) -> None:
            await super().note(message)
            if message.text:
                number = int(self.name)
                await self.system.ref(f"/{number % 3 + 1}").tell(Note(text=message.text[1:]))

    async with ActorSystem() as system:
        for name in "123":
            await system.spawn(Relay, log, name=name)
        await system.ref("/1").tell(Note(text="abcdef"))
    assert len(log) == 3 + 7 + 3
    assert not system.dead_letters


async def test_leaving_waits_for_the_drain_time_and_no_longer(log: list[str]) -> None:
    class Restless(Worker):
        @handles(Note)
        async def note(self, message: Note) -> None:
            await anyio.sleep(SOON / 10)
            await self.ref.tell(message)

    async with takes(SOON, LATE), ActorSystem(drain=SOON) as system:
        await (await system.spawn(Restless, log, name="r")).tell(Note())
    assert log[:2] == ["r starts", "r failed"], "telling itself fails once it is being stopped"
    assert not system.cells


async def test_an_error_of_the_body_comes_out_as_itself_after_the_same_stop(log: list[str]) -> None:
    error = LookupError("the body's own")
    with pytest.raises(LookupError) as caught:  # the whole block is what raises
        async with takes(0.0, 1.0), ActorSystem(drain=1_000.0) as system:
            await system.spawn(Parent, log, name="a")
            await (await system.spawn(Worker, log, name="busy", shutdown=SOON)).tell(Hang())
            b = await system.spawn(Worker, log, name="b")
            await b.tell(Note())
            raise error
    assert caught.value is error
    assert log[-6:] == ["b: note", "b stopped", "busy killed", "a21 stopped", "a1 stopped", "a stopped"]
    assert not system.cells


async def test_cancelling_the_body_is_the_same_stop_too(log: list[str]) -> None:
    with anyio.CancelScope() as scope:
        async with ActorSystem() as system:
            events = record(system, ActorOverdue)
            await system.spawn(Parent, log, name="a")
            b = await system.spawn(Worker, log, name="b", shutdown=SOON)
            c = await system.spawn(Worker, log, name="c")
            await b.tell(Hang())
            await c.tell(Note())
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert log[-6:] == ["c: note", "c stopped", "b killed", "a21 stopped", "a1 stopped", "a stopped"]
    assert [(fact.address, fact.timeout) for fact in events] == [("/b", SOON)]
    assert not system.cells


async def test_the_root_giving_up_cancels_the_body_and_stops_everybody(log: list[str]) -> None:
    with pytest.raises(RestartIntensityExceeded, match=r"/: more than 1 restarts in 5.0 s.* /b failed") as caught:
        async with ActorSystem(intensity=1) as system:
            gave_up = record(system, SupervisorGaveUp)
            await system.spawn(Parent, log, name="a")
            b = await system.spawn(Worker, log, name="b")
            await system.spawn(Worker, log, name="c")
            await b.tell(Fail())
            await b.tell(Fail())
            await anyio.sleep_forever()
    assert isinstance(caught.value.__cause__, ValueError)
    assert log.count("b starts") == 2
    assert log[-5:] == ["b failed", "c stopped", "a21 stopped", "a1 stopped", "a stopped"]
    assert [fact.error for fact in gave_up] == [caught.value]
    assert not system.cells


async def test_a_failure_travels_up_until_somebody_has_restarts_left(system: ActorSystem, log: list[str]) -> None:
    events = record(system, SupervisorGaveUp, ActorRestarted)
    inner = ChildSpec(Worker, log, name="w")
    middle = await system.supervise(inner, intensity=0, name="middle")
    await system.ref(f"{middle.address}/w").tell(Fail())
    await anyio.wait_all_tasks_blocked()
    gave_up, restarted = events
    assert (gave_up.address, restarted.address) == ("/middle", "/middle")
    assert restarted.error is gave_up.error
    assert isinstance(gave_up.error.__cause__, ValueError)
    assert log == ["w starts", "w failed", "w starts"]


async def test_a_child_that_can_never_start_ends_it_in_few_steps(log: list[str]) -> None:
    class Stillborn(Worker):
        async def on_start(self) -> None:
            await super().on_start()
            if self.log.count(f"{self.name} starts") > 1:
                raise OSError("no")

    with pytest.raises(RestartIntensityExceeded):
        async with ActorSystem() as system:
            spec = ChildSpec(Stillborn, log, name="w")
            await system.supervise(spec, name="s")
            await system.ref("/s/w").tell(Fail())
            await anyio.sleep_forever()
    assert log.count("w starts") == 1 + 3 + 3, "three times by its supervisor, then once for each restart of that one"


async def test_giving_up_while_it_drains_is_not_lost(log: list[str]) -> None:
    with pytest.raises(RestartIntensityExceeded):
        async with ActorSystem(intensity=0) as system:
            worker = await system.spawn(Worker, log, name="w")
            await worker.tell(Fail())
    assert log == ["w starts", "w failed"]


# In time -----------------------------------------------------------------------------------------------------


async def test_a_hanging_handler_is_cancelled_after_the_shutdown_time(system: ActorSystem, log: list[str]) -> None:
    events = record(system, ActorOverdue)
    worker = await system.spawn(Worker, log, name="w", shutdown=SOON)
    hanging = await worker.tell(Hang(), receipt=True)
    queued = await worker.tell(Note(), receipt=True)
    async with takes(SOON, 1.0):
        await worker.stop()
    assert [(fact.address, fact.timeout) for fact in events] == [("/w", SOON)]
    assert log == ["w starts", "w killed"]
    assert [((await each.wait()).fate, (await each.wait()).reason) for each in (hanging, queued)] == [
        ("failed", "killed"),
        ("dead-lettered", "stopped"),
    ]


async def test_stop_has_a_timeout_of_its_own(system: ActorSystem, log: list[str]) -> None:
    events = record(system, ActorOverdue)
    worker = await system.spawn(Worker, log, name="w", shutdown=1_000.0)
    await worker.tell(Hang())
    async with takes(SOON, 1.0):
        await worker.stop(timeout=SOON)
    assert [(fact.address, fact.timeout) for fact in events] == [("/w", SOON)]


async def test_two_who_stop_the_same_actor_wait_for_one_end(system: ActorSystem, log: list[str]) -> None:
    events = record(system, ActorOverdue, Ended)
    worker = await system.spawn(Worker, log, name="w", shutdown=SOON)
    await worker.tell(Hang())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.stop)
        tasks.start_soon(worker.stop)
    assert [type(fact) for fact in events] == [ActorOverdue, Ended]


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_handler_that_swallows_its_cancellation_is_cancelled_again(
    system: ActorSystem, log: list[str], how: str
) -> None:
    ended = record(system, Ended)
    worker = await system.spawn(Worker, log, name="w", shutdown=SOON)
    await worker.tell(Hang(deaf=1))
    await anyio.wait_all_tasks_blocked()
    if how == "stop":
        await worker.stop()
    else:
        worker.kill()
        await until(system, lambda: bool(ended))
    assert log == ["w starts", "w killed"]
    assert ended[0].reason == "killed"


async def test_one_that_goes_on_after_its_cancellation_dies_at_the_next_message(
    system: ActorSystem, log: list[str]
) -> None:
    class Stubborn(Worker):
        @handles(Hang)
        async def hang(self, message: Hang) -> None:
            with suppress(anyio.get_cancelled_exc_class()):
                await anyio.sleep_forever()

    worker = await system.spawn(Stubborn, log, name="w", shutdown=SOON)
    receipts = [await worker.tell(each, receipt=True) for each in (Hang(), Note())]
    await worker.stop()
    assert log == ["w starts", "w killed"]
    assert [(await each.wait()).fate for each in receipts] == ["handled", "dead-lettered"]


@pytest.mark.parametrize("hook", ["on_stop", "on_restart"])
async def test_a_hanging_last_word_is_cut_short_and_said_so(system: ActorSystem, log: list[str], hook: str) -> None:
    class Verbose(Worker):
        async def on_stop(self, reason: str) -> None:
            await anyio.sleep_forever()

        async def on_restart(self, error: BaseException) -> None:
            await anyio.sleep_forever()

    events = record(system, HookFailed, Ended)
    worker = await system.spawn(Verbose, log, name="w", shutdown=SOON, restart=Restart.TEMPORARY)
    async with takes(SOON, 1.0):
        if hook == "on_stop":
            await worker.stop(timeout=LATE)
        else:
            await worker.tell(Fail())
            await until(system, lambda: len(events) == 2)
    failed, ended = events
    assert (failed.address, failed.hook, type(failed.error)) == ("/w", hook, TimeoutError)
    assert ended.reason == ("stopped" if hook == "on_stop" else "failed")


async def test_a_last_word_that_raises_changes_nothing(system: ActorSystem, log: list[str]) -> None:
    class Clumsy(Worker):
        async def on_stop(self, reason: str) -> None:
            raise OSError(reason)

        async def on_restart(self, error: BaseException) -> None:
            raise OSError("restart") from error

    events = record(system, HookFailed, Ended)
    worker = await system.spawn(Clumsy, log, name="w")
    await worker.tell(Fail())
    await worker.tell(Note())
    await worker.stop()
    assert log == ["w starts", "w starts", "w: note"]
    assert [(fact.hook, str(fact.error)) for fact in events[:2]] == [("on_restart", "restart"), ("on_stop", "stopped")]
    assert (events[2].reason, events[2].error) == ("stopped", None)


async def test_a_start_that_hangs_is_cancelled_with_its_system(log: list[str]) -> None:
    class Slow(Worker):
        async def on_start(self) -> None:
            await super().on_start()
            await anyio.sleep_forever()

    refused: list[SpawnError] = []

    async def start(system: ActorSystem) -> None:
        try:
            await system.spawn(Slow, log, name="w", shutdown=SOON)
        except SpawnError as error:
            refused.append(error)

    async with anyio.create_task_group() as tasks, takes(SOON, LATE), ActorSystem(drain=SOON) as system:
        events = record(system, ActorOverdue)
        tasks.start_soon(start, system)
        await anyio.wait_all_tasks_blocked()
    assert [(fact.address, fact.timeout) for fact in events] == [("/w", SOON)]
    assert log == ["w starts", "w killed"]
    assert "Slow at /w did not start: killed" in str(refused[0])
    assert not system.cells


# Now ---------------------------------------------------------------------------------------------------------


async def test_kill_ends_it_at_once_with_everybody_below(system: ActorSystem, log: list[str]) -> None:
    parent = await system.spawn(Parent, log, name="p", shutdown=1_000.0)
    below = [system.ref(f"/p/{path}") for path in ("p1", "p2/p21")]
    hanging = [await ref.tell(Hang(), receipt=True) for ref in (parent, *below)]
    queued = [await ref.tell(Note(), receipt=True) for ref in (parent, *below)]
    await anyio.wait_all_tasks_blocked()
    log.clear()
    async with takes(0.0, 1.0):
        parent.kill()
        fates = [(await receipt.wait()) for receipt in (*hanging, *queued)]
    await anyio.wait_all_tasks_blocked()
    assert [(fate.fate, fate.reason) for fate in fates] == [("failed", "killed")] * 3 + [
        ("dead-lettered", "stopped")
    ] * 3
    assert sorted(log) == ["p killed", "p1 killed", "p21 killed"]
    assert log[-1] == "p killed"
    assert not system.cells


async def test_a_kill_hurries_a_stop_that_waits_for_somebody_below(system: ActorSystem, log: list[str]) -> None:
    ended = record(system, Ended)
    parent = await system.spawn(Parent, log, name="p", shutdown=1_000.0)
    await system.ref("/p/p2/p21").tell(Hang())
    await anyio.wait_all_tasks_blocked()
    async with takes(0.0, 1.0), anyio.create_task_group() as tasks:
        tasks.start_soon(parent.stop)
        await anyio.wait_all_tasks_blocked()
        parent.kill()
    assert sorted(log[-3:-1]) == ["p1 killed", "p21 killed"]
    assert [fact.reason for fact in ended] == ["killed"] * 4


@pytest.mark.parametrize("hooks", [False, True])
async def test_a_kill_in_the_middle_of_a_drain_ends_it(log: list[str], hooks: bool) -> None:
    """At any step after the failure that makes a fresh instance go on with the rest."""

    class Bare(Actor):
        def __init__(self, log: list[str], gate: anyio.Event) -> None:
            self.gate = gate

        wait_at_gate = Worker.wait_at_gate
        fail = Worker.fail
        hang = Worker.hang

    async def kill(worker: ActorRef[Any], failing: Receipt, steps: int) -> None:
        await failing.wait()
        for _ in range(steps):
            await anyio.lowlevel.checkpoint()
        worker.kill()

    for steps in range(8):
        async with takes(0.0, 1.0), ActorSystem() as system:
            gate = anyio.Event()
            worker = await system.spawn(Worker if hooks else Bare, log, gate)
            _, failing, hanging = [await worker.tell(each, receipt=True) for each in (Gate(), Fail(), Hang())]
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(kill, worker, failing, steps)
                tasks.start_soon(worker.stop)
                for _ in range(5):
                    await anyio.lowlevel.checkpoint()
                gate.set()
            assert (await hanging.wait()).reason in ("killed", "stopped")


async def test_kill_between_two_lives_ends_it_too(system: ActorSystem, log: list[str]) -> None:
    worker = await system.spawn(Worker, log, name="w", backoff=Backoff(1_000.0, 1_000.0))
    await worker.tell(Fail())
    queued = await worker.tell(Note(), receipt=True)
    await anyio.wait_all_tasks_blocked()
    worker.kill()
    assert (await queued.wait()).reason == "stopped"
    assert not system.cells
    assert log == ["w starts", "w failed"]


async def test_stopping_and_killing_nobody_is_harmless(system: ActorSystem) -> None:
    nobody = system.ref("/nobody")
    await nobody.stop()
    nobody.kill()


# From wherever it comes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["/p", "/p/p1", "/p/p2/p21"])
async def test_an_actor_can_stop_itself_and_those_above_it(system: ActorSystem, log: list[str], who: str) -> None:
    """It does not wait, as that would be for itself; whoever is stopped is not restarted, PERMANENT or not."""
    await system.spawn(Parent, log, name="p")
    log.clear()
    caller = system.ref(who)
    await caller.tell(StopThat(address="/p"))
    await caller.tell(Note())
    await until(system, lambda: not system.cells)
    name = who.rpartition("/")[2]
    assert log == [f"{name} has stopped /p", f"{name}: note", "p21 stopped", "p1 stopped", "p stopped"]


async def test_two_who_stop_each_other_both_end(system: ActorSystem, log: list[str]) -> None:
    a = await system.spawn(Worker, log, name="a", shutdown=SOON)
    b = await system.spawn(Worker, log, name="b", shutdown=SOON)
    await a.tell(StopThat(address="/b"))
    await b.tell(StopThat(address="/a"))
    await until(system, lambda: not system.cells)


async def test_a_stop_outranks_the_actors_own(system: ActorSystem, log: list[str]) -> None:
    gate = anyio.Event()
    ended = record(system, Ended, ActorRestarted)
    worker = await system.spawn(Worker, log, gate, name="w")
    for each in (Finish(), Gate()):
        await worker.tell(each)
    await anyio.wait_all_tasks_blocked()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.stop)
        await anyio.wait_all_tasks_blocked()
        gate.set()
    assert [type(fact) for fact in ended] == [Ended], "PERMANENT, and not restarted all the same"
    assert log == ["w starts", "w stopped"]


@pytest.mark.parametrize("below", [False, True])
async def test_a_stop_outranks_a_siblings_failure(system: ActorSystem, log: list[str], below: bool) -> None:
    """`a` has a message in hand when the failure of `b` takes it down, and is stopped meanwhile."""
    gate = anyio.Event()
    await system.supervise(
        ChildSpec(Worker, log, gate, name="a"),
        ChildSpec(Worker, log, name="b"),
        strategy=Strategy.ONE_FOR_ALL,
        name="s",
    )
    a, b = system.ref("/s/a"), system.ref("/s/b")
    await a.tell(Gate())
    await b.tell(Fail())
    await anyio.wait_all_tasks_blocked()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(a.stop)
        await anyio.wait_all_tasks_blocked()
        gate.set()
    await anyio.wait_all_tasks_blocked()
    assert log == ["a starts", "b starts", "b failed", "a restarting", "b starts"]
    assert [str(address) for address in system.cells] == ["/s", "/s/b"]


async def test_a_casualty_that_takes_too_long_is_cancelled_and_comes_back(system: ActorSystem, log: list[str]) -> None:
    """Also one that was about to finish: PERMANENT is for ever."""
    events = record(system, ActorOverdue)
    await system.supervise(
        ChildSpec(Worker, log, name="a", shutdown=SOON),
        ChildSpec(Worker, log, name="b", shutdown=SOON),
        ChildSpec(Worker, log, name="c"),
        strategy=Strategy.ONE_FOR_ALL,
        name="s",
    )
    a, b, c = (system.ref(f"/s/{name}") for name in "abc")
    await a.tell(Hang())
    await b.tell(Finish())
    await b.tell(Hang())
    kept = await a.tell(Note(), receipt=True)
    await anyio.wait_all_tasks_blocked()
    await c.tell(Fail())
    assert (await kept.wait()).fate == "handled"
    await anyio.wait_all_tasks_blocked()
    assert [fact.address for fact in events] == ["/s/b", "/s/a"]
    assert log[3:] == ["c failed", "b finished", "a restarting", "a starts", "b starts", "c starts", "a: note"] or log[
        3:
    ] == ["c failed", "b finished", "a restarting", "a starts", "a: note", "b starts", "c starts"]


async def test_a_stopped_actor_is_never_started_again_whatever_fails(system: ActorSystem, log: list[str]) -> None:
    """What is queued behind a failure is drained by a fresh instance, within the intensity, and that is all."""
    events = record(system, Ended, ActorOverdue, SupervisorGaveUp)
    worker = await system.spawn(Worker, log, name="w")
    notes = [await worker.tell(each, receipt=True) for each in (*[Fail(), Note()] * 5,)]
    await worker.stop()
    assert log.count("w starts") == 1 + 3
    assert log[-1] == "w failed"
    assert [(await each.wait()).fate for each in notes] == ["failed", "handled"] * 3 + ["failed"] + [
        "dead-lettered"
    ] * 3
    assert [type(fact) for fact in events] == [Ended]


# Nothing is born while its parent ends --------------------------------------------------------------------------


async def test_a_stopping_supervisor_starts_nobody(system: ActorSystem, log: list[str]) -> None:
    """`a` is between two lives and would come back while the supervisor still waits for `b`."""
    gate = anyio.Event()
    supervisor = await system.supervise(
        ChildSpec(Worker, log, name="a", backoff=Backoff(LATE, LATE)), ChildSpec(Worker, log, gate, name="b"), name="s"
    )
    await system.ref("/s/b").tell(Gate())
    await system.ref("/s/a").tell(Fail())
    await anyio.wait_all_tasks_blocked()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(supervisor.stop)
        await anyio.wait_all_tasks_blocked()
        gate.set()
    assert log == ["a starts", "b starts", "a failed", "b stopped"]


@pytest.mark.parametrize("place", [0, 1])
async def test_a_child_that_fails_while_its_parent_stops_is_nobodys_failure(
    system: ActorSystem, log: list[str], place: int
) -> None:
    """Neither that of the one being stopped, the last, nor that of the first, whose turn comes later."""
    gates = [anyio.Event(), anyio.Event()]
    events = record(system, SupervisorGaveUp, ActorRestarted, Ended)
    specs = [ChildSpec(Worker, log, gate, name=f"w{number}") for number, gate in enumerate(gates)]
    supervisor = await system.supervise(*specs, intensity=0, name="s")
    for number in range(2):
        await system.ref(f"/s/w{number}").tell(Gate())
    await system.ref(f"/s/w{place}").tell(Fail())
    await anyio.wait_all_tasks_blocked()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(supervisor.stop)
        await anyio.wait_all_tasks_blocked()
        for number in range(2):
            gates[(place + number) % 2].set()
            await anyio.wait_all_tasks_blocked()
    assert {type(fact) for fact in events} == {Ended}
    assert [fact.address for fact in events][-1] == "/s"
    assert events[-1].reason == "stopped"


async def test_an_actor_that_is_giving_up_spawns_nobody(system: ActorSystem, log: list[str]) -> None:
    """Its children are being stopped, it is still there for its mail."""
    gate = anyio.Event()

    class Crowd(Parent):
        async def on_start(self) -> None:
            await super().on_start()
            await self.spawn(Worker, self.log, name="p3")

        @handles(Note)
        async def note(self, message: Note) -> None:
            await self.spawn(Worker, self.log, name="another")

    crowd = await system.spawn(Crowd, log, gate, name="p")
    await system.ref("/p/p1").tell(Gate())
    for _ in range(4):  # a plain actor allows its children three restarts
        await system.ref("/p/p3").tell(Fail())
    await anyio.wait_all_tasks_blocked()
    with pytest.raises(HandlerFailed, match="/p is stopping and starts no Worker"):
        await crowd.ask(Note())
    gate.set()
    assert log.count("p3 starts") == 4
    assert "another starts" not in log


@pytest.mark.parametrize("hook", ["on_stop", "on_restart"])
async def test_a_last_word_gives_birth_to_nobody(system: ActorSystem, log: list[str], hook: str) -> None:
    class Late(Worker):
        async def on_stop(self, reason: str) -> None:
            await self.spawn(Worker, self.log, name="orphan")

        async def on_restart(self, error: BaseException) -> None:
            await self.spawn(Worker, self.log, name="orphan")

    events = record(system, HookFailed)
    worker = await system.spawn(Late, log, name="w", restart=Restart.TEMPORARY)
    if hook == "on_stop":
        await worker.stop()
    else:
        await worker.tell(Fail())
        await anyio.wait_all_tasks_blocked()
    assert log == ["w starts"]
    assert not system.cells
    assert [(fact.hook, type(fact.error)) for fact in events] == [(hook, SpawnError)]


@pytest.mark.parametrize("left", ["idle", "busy", "between two lives", "waiting for its group", "giving up"])
async def test_leaving_leaves_no_task_behind(log: list[str], left: str) -> None:
    """Nor does it wait for a delay that would end in an hour."""
    before = {task.id for task in anyio.get_running_tasks()}
    with suppress(RestartIntensityExceeded):
        async with takes(0.0, 1.0), ActorSystem(drain=0.0, intensity=0 if left == "giving up" else 3) as system:
            hour = Backoff(3_600.0, 3_600.0)
            a = await system.spawn(Worker, log, shutdown=SOON, backoff=hour)
            specs = [ChildSpec(Worker, log, name=name, shutdown=SOON, backoff=hour) for name in "bc"]
            await system.supervise(*specs, strategy=Strategy.ONE_FOR_ALL, name="s")
            b, c = system.ref("/s/b"), system.ref("/s/c")
            if left == "busy":
                for ref in (a, b, c):
                    await ref.tell(Hang())
            elif left != "idle":
                await a.tell(Fail())
                if left != "between two lives":
                    await b.tell(Fail())
                    await c.tell(Fail())
            await anyio.wait_all_tasks_blocked()
    assert {task.id for task in anyio.get_running_tasks()} <= before


# What a start leaves behind -----------------------------------------------------------------------------------


async def test_a_spawn_that_is_cancelled_half_way_leaves_nothing(system: ActorSystem, log: list[str]) -> None:
    class Slow(Parent):
        async def on_start(self) -> None:
            await super().on_start()
            await anyio.sleep_forever()

    with anyio.move_on_after(SOON) as scope:
        await system.spawn(Slow, log, name="w")
    assert scope.cancelled_caught
    await anyio.wait_all_tasks_blocked()
    assert log == ["w starts", "w1 starts", "w21 starts", "w21 killed", "w1 killed", "w killed"] or log == [
        "w starts", "w1 starts", "w21 starts", "w1 killed", "w21 killed", "w killed",
    ]  # fmt: skip
    assert not system.cells
    await system.spawn(Worker, log, name="w")


async def test_a_spawn_cancelled_at_any_step_leaves_all_or_nothing(log: list[str]) -> None:
    class Busy(Worker):
        async def on_start(self) -> None:
            await super().on_start()
            for number in range(3):
                await anyio.lowlevel.checkpoint()
                await self.spawn(Worker, self.log, name=f"{self.name}{number}")

    async def start(system: ActorSystem, refs: list[ActorRef[Busy]]) -> None:
        refs.append(await system.spawn(Busy, log, name="w"))

    seen = set()
    for steps in range(30):
        refs: list[ActorRef[Busy]] = []
        async with ActorSystem() as system:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(start, system, refs)
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
            for _ in range(30):
                await anyio.lowlevel.checkpoint()
            assert len(system.cells) == (4 if refs else 0)
        seen.add(len(log))
        assert sum(line.endswith("starts") for line in log) == sum(not line.endswith("starts") for line in log)
        log.clear()
    assert {2, 4, 6, 8} <= seen, "cancelled before, between and after its children"


async def test_a_start_that_fails_leaves_nothing(system: ActorSystem, log: list[str]) -> None:
    class Stillborn(Parent):
        async def on_start(self) -> None:
            await super().on_start()
            raise OSError("no")

    events = record(system, Ended)
    with pytest.raises(SpawnError, match=r"Stillborn at /w did not start: OSError: no") as caught:
        await system.spawn(Stillborn, log, name="w")
    assert isinstance(caught.value.__cause__, OSError)
    assert log == ["w starts", "w1 starts", "w21 starts", "w21 stopped", "w1 stopped", "w failed"]
    assert not system.cells
    assert [(fact.address, fact.reason) for fact in events][-1] == ("/w", "failed")
    await system.spawn(Worker, log, name="w")


async def test_a_supervisor_whose_second_child_does_not_start_stops_the_first(
    system: ActorSystem, log: list[str]
) -> None:
    class Stillborn(Worker):
        def __init__(self, log: list[str]) -> None:
            raise OSError("no")

    with pytest.raises(SpawnError) as caught:
        await system.supervise(ChildSpec(Worker, log, name="a"), ChildSpec(Stillborn, log, name="b"), name="s")
    assert isinstance(caught.value.__cause__, SpawnError)
    assert isinstance(caught.value.__cause__.__cause__, OSError)
    assert log == ["a starts", "a stopped"]
    assert not system.cells


async def test_an_address_belongs_to_one_at_a_time(system: ActorSystem, log: list[str]) -> None:
    worker = await system.spawn(Worker, log, name="w")
    with pytest.raises(AddressInUse, match="/w is in use"):
        await system.spawn(Worker, log, name="w")
    await worker.tell(Note())
    await worker.stop()
    again = await system.spawn(Worker, log, name="w")
    assert again == worker
    await worker.tell(Note(text="to the next who lives there"))
    await again.stop()
    assert log[1:3] == ["w: note", "w stopped"]
    assert log[4] == "w: to the next who lives there"


async def test_two_children_of_one_name_do_not_start(system: ActorSystem, log: list[str]) -> None:
    with pytest.raises(SpawnError, match="/s/a is in use"):
        await system.supervise(ChildSpec(Worker, log, name="a"), ChildSpec(Worker, log, name="a"), name="s")
    assert log == ["a starts", "a stopped"]
    assert not system.cells


async def test_names_are_made_where_none_is_given(system: ActorSystem, log: list[str]) -> None:
    await system.spawn(Worker, log, name="worker-2")
    refs = [await system.spawn(Worker, log) for _ in range(3)]
    assert [ref.address for ref in refs] == ["/worker-1", "/worker-3", "/worker-4"]
    supervisor = await system.supervise(ChildSpec(Worker, log))
    assert supervisor.address == "/supervisor-5"
    assert f"{supervisor.address}/worker-1" in system.cells


@pytest.mark.parametrize("name", ["a/b", "", "ä", "a b", "{a}", "a\n", "x" * 200])
async def test_a_name_that_is_none_is_refused(system: ActorSystem, log: list[str], name: str) -> None:
    with pytest.raises(ValueError, match=r"name|characters"):
        await system.spawn(Worker, log, name=name)
    assert not system.cells


async def test_two_systems_know_nothing_of_each_other(log: list[str]) -> None:
    other: list[str] = []
    async with ActorSystem("one") as one, ActorSystem("two") as two:
        await one.spawn(Worker, log, name="w")
        await two.spawn(Worker, other, name="w")
        await one.ref("/w").stop()
        await two.ref("/w").tell(Note())
    assert log == ["w starts", "w stopped"]
    assert other == ["w starts", "w: note", "w stopped"]


# What nobody here may swallow ------------------------------------------------------------------------------------


class Interrupt(KeyboardInterrupt):
    """Somebody has pressed Ctrl-C, say."""


class Weird(BaseException):
    """Neither an error nor an interrupt."""


class Interrupted(Worker):
    @handles(Fail)
    async def fail(self, _: Fail) -> None:
        raise Interrupt

    @handles(Hang)
    def hang(self, _: Hang) -> None:  # type: ignore[override]
        raise Interrupt

    @handles(Gate, concurrency=2)
    async def wait_at_gate(self, _: Gate) -> None:
        raise Interrupt

    @handles(Finish)
    async def finish(self, _: Finish) -> None:
        raise Weird


class StillInterrupted(Worker):
    async def on_start(self) -> None:
        raise Interrupt


class InterruptedAtLast(Worker):
    async def on_stop(self, reason: str) -> None:
        raise Interrupt


INTERRUPTING: dict[str, Message[None]] = {
    "handler": Fail(),
    "def handler": Hang(),
    "concurrent handler": Gate(),
    "not a KeyboardInterrupt": Finish(),
}
BACKENDS: dict[str, Callable[[], dict[str, Any]]] = {
    "asyncio": lambda: {"backend": "asyncio", "backend_options": {"use_uvloop": False}},
    "uvloop": lambda: {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
    "trio": lambda: {"backend": "trio", "backend_options": {"clock": MockClock(autojump_threshold=0)}},
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("where", [*INTERRUPTING, "on_start", "on_stop"])
def test_a_base_exception_ends_the_system_as_itself(backend: str, where: str, log: list[str]) -> None:
    reached = False

    async def main() -> None:
        nonlocal reached
        async with ActorSystem() as system:
            await system.spawn(Parent, log, name="p")
            if where == "on_start":
                await system.spawn(StillInterrupted, log, name="w")
            worker = await system.spawn(InterruptedAtLast if where == "on_stop" else Interrupted, log, name="w")
            if where == "on_stop":
                await worker.stop()
            else:
                await worker.ask(INTERRUPTING[where], timeout=1.0)
            await anyio.sleep_forever()
            reached = True

    with pytest.raises(Weird if where == "not a KeyboardInterrupt" else Interrupt):
        anyio.run(main, **BACKENDS[backend]())
    assert not reached
    assert log[-3:] == ["p21 stopped", "p1 stopped", "p stopped"], "the others end in order all the same"
