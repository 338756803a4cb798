"""Cancelling at the k-th suspension, for every k, loses nothing and leaves nothing behind (invariant 17).

And the other way round: cancellation reaches a handler, and one that nobody ordered is a failure.
"""

from __future__ import annotations

import types
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from actors import (
    Actor,
    ActorRef,
    ActorSystem,
    ChildSpec,
    DeadLetter,
    Envelope,
    HandlerFailed,
    Message,
    Middleware,
    Outcome,
    Priority,
    Receipt,
    Restart,
    SpawnError,
    Strategy,
    handles,
)
from actors.events import ActorRestarted
from actors.testing import StrictSystem
from tests.actors.waiting import until
from transport.middleware import Accept, Deliver

pytestmark = pytest.mark.anyio
ASYNCIO = pytest.mark.parametrize(
    "anyio_backend", [("asyncio", {"use_uvloop": uvloop}) for uvloop in (False, True)], ids=["asyncio", "uvloop"]
)


# Every k ------------------------------------------------------------------------------------------------------


@types.coroutine
def step(call: Coroutine[Any, Any, Any], k: int, scope: anyio.CancelScope) -> Generator[Any, Any, None]:
    """Run `call` to its end, whatever the event loop, and cancel `scope` where it suspends for the k-th time."""
    suspensions = 0
    send: Callable[[Any], Any] = call.send
    value: Any = None
    while True:
        try:
            trap = send(value)
        except StopIteration:
            return
        suspensions += 1
        if suspensions == k:
            scope.cancel()
        try:
            send, value = call.send, (yield trap)
        except BaseException as error:  # noqa: BLE001  # thrown on into the call
            send, value = call.throw, error


class Note(Message[int]):
    number: int


class NoteNow(Note): ...


class Hold(Message[None]):
    """Handled until the gate opens."""


class Slow(Middleware):
    """Suspends wherever middleware may, and is the witness of what was accepted and settled."""

    def __init__(self) -> None:
        self.accepted: list[Envelope] = []
        self.outcomes: list[tuple[Envelope, Outcome]] = []

    async def accept(self, envelope: Envelope, next: Accept) -> None:  # noqa: A002
        await checkpoint()
        await next(envelope)
        self.accepted.append(envelope)

    async def deliver(self, envelope: Envelope, next: Deliver) -> Any:  # noqa: A002
        await checkpoint()
        return await next(envelope)

    def settled(self, envelope: Envelope, outcome: Outcome) -> None:
        self.outcomes.append((envelope, outcome))


class Worker(Actor):
    def __init__(self, gate: anyio.Event, notes: list[int]) -> None:
        self.gate, self.notes = gate, notes

    async def on_start(self) -> None:
        await checkpoint()
        await checkpoint()

    async def on_stop(self, reason: str) -> None:
        await checkpoint()

    @handles(Note)
    async def note(self, message: Note) -> int:
        await checkpoint()
        self.notes.append(message.number)
        return message.number

    @handles(NoteNow)
    def note_now(self, message: NoteNow) -> int:
        self.notes.append(message.number)
        return message.number

    @handles(Hold)
    async def hold(self, _: Hold) -> None:
        await self.gate.wait()


class Bench:
    """A system with one worker, busy and full where `full` says so."""

    system: ActorSystem
    worker: ActorRef[Worker]
    receipt: Receipt

    def __init__(self, *, slow: bool) -> None:
        self.slow = Slow() if slow else None
        self.gate = anyio.Event()
        self.notes: list[int] = []

    @asynccontextmanager
    async def ready(self, *, full: bool) -> AsyncIterator[None]:
        async with ActorSystem(middleware=[self.slow] if self.slow else []) as self.system:
            self.worker = await self.system.spawn(Worker, self.gate, self.notes, name="worker", capacity=1)
            self.receipt = await self.worker.tell(Hold(), receipt=True)
            await anyio.wait_all_tasks_blocked()
            if full:
                await self.worker.tell(Note(0))
            else:
                self.gate.set()
                await self.receipt.wait()
                await anyio.wait_all_tasks_blocked()
            yield

    async def open_later(self) -> None:
        await anyio.wait_all_tasks_blocked()
        self.gate.set()


Operation = Callable[[Bench], Awaitable[Any]]
OPERATIONS: dict[str, tuple[Operation, bool]] = {
    "tell": (lambda bench: bench.worker.tell(Note(1)), False),
    "tell and wait for room": (lambda bench: bench.worker.tell(Note(1)), True),
    "tell with a ttl and wait for room": (lambda bench: bench.worker.tell(Note(1), ttl=60.0), True),
    "ask": (lambda bench: bench.worker.ask(Note(1)), False),
    "ask a plain handler": (lambda bench: bench.worker.ask(NoteNow(1)), False),
    "ask and wait for room": (lambda bench: bench.worker.ask(Note(1)), True),
    "ask all": (lambda bench: bench.system.ask_all([bench.worker, bench.system.ref("/nobody")], Note(1)), True),
    "wait for a receipt": (lambda bench: bench.receipt.wait(60.0), True),
    "stop": (lambda bench: bench.worker.stop(), True),
    "spawn": (lambda bench: bench.system.spawn(Worker, bench.gate, [], name="new"), False),
    "supervise": (
        lambda bench: bench.system.supervise(
            *(ChildSpec(Worker, bench.gate, []) for _ in range(2)), strategy=Strategy.ONE_FOR_ALL, name="new"
        ),
        False,
    ),
    "pool": (lambda bench: bench.system.pool(Worker, bench.gate, [], size=2, name="new"), False),
}


@pytest.mark.parametrize("slow", [False, True], ids=["bare", "slow middleware"])
@pytest.mark.parametrize("name", OPERATIONS)
async def test_cancelling_at_any_suspension_loses_nothing(name: str, slow: bool) -> None:
    operation, full = OPERATIONS[name]
    k = 0
    cancelled = True
    while cancelled:
        k += 1
        bench = Bench(slow=slow)
        letters: list[DeadLetter] = []
        with anyio.fail_after(30.0):  # a hang
            async with bench.ready(full=full):
                bench.system.subscribe(DeadLetter, letters.append)

                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(bench.open_later)
                    with anyio.CancelScope() as scope:
                        await step(run(operation, bench), k, scope)
                cancelled = scope.cancelled_caught
                await still_works(bench, name, cancelled=cancelled)
            after(bench, letters)
        assert k < 100
    assert (k == 1) == (not slow and name in ("tell", "ask a plain handler")), "these need not suspend"


async def run(operation: Operation, bench: Bench) -> None:
    await operation(bench)


async def still_works(bench: Bench, name: str, *, cancelled: bool) -> None:
    """Whatever was cancelled: the worker answers, unless it was stopped; the name of what was begun is free again."""
    system = bench.system
    if name == "stop":
        await until(lambda: not system.cells)
        assert 0 in bench.notes, "it was drained first"
    else:
        assert await bench.worker.ask(Note(9), timeout=20.0) == 9
        assert await bench.receipt.wait(20.0) == Outcome("handled")
    if name in ("spawn", "supervise", "pool"):
        if not cancelled:
            await system.ref("/new").stop()
        await until(lambda: system.cells.keys() == {"/worker"})  # nobody has a reference to what was begun
        new = await system.spawn(Worker, bench.gate, [], name="new")
        assert await new.ask(Note(1)) == 1
    assert not len(system.deadlines)
    for cell in system.cells.values():
        assert not len(cell.mailbox)
        assert not any(cell.mailbox.blocked or ())
        assert not cell.waits_for


def after(bench: Bench, letters: list[DeadLetter]) -> None:
    """Every message that was accepted has met one fate; one whose asker was cancelled may have been abandoned."""
    assert not bench.system.cells
    assert {letter.reason for letter in letters} <= {"abandoned"}
    assert len(bench.notes) == len(set(bench.notes))
    if bench.slow is not None:
        settled = [id(envelope) for envelope, _ in bench.slow.outcomes]
        assert len(settled) == len(set(settled))
        assert {id(envelope) for envelope in bench.slow.accepted} == set(settled)


# A handler that is cancelled ----------------------------------------------------------------------------------


class Careful(Message[str]):
    """`how` the handler takes its cancellation."""

    how: str


class Patient(Actor):
    """Waits for ever, and is not easily told to stop."""

    def __init__(self, events: list[str]) -> None:
        self.events = events

    async def on_start(self) -> None:
        self.events.append("start")

    async def on_stop(self, reason: str) -> None:
        await anyio.sleep(0.001)
        self.events.append(reason)

    @handles(Careful)
    async def wait(self, message: Careful) -> str:
        try:
            await (leave_a_mess() if message.how == "task group" else anyio.sleep(3600))
        finally:
            self.events.append("cancelled")
            match message.how:
                case "swallow":
                    return "late"  # noqa: B012
                case "translate":
                    raise ValueError("interrupted") from None
                case "clean up":
                    with anyio.CancelScope(shield=True):
                        await anyio.sleep(0.001)
        raise AssertionError


async def leave_a_mess() -> None:
    async def mess() -> None:
        try:
            await anyio.sleep(3600)
        finally:
            raise ValueError("mess")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(mess)
        tasks.start_soon(anyio.sleep, 3600)


@pytest.mark.parametrize(
    ("how", "fate", "reason"),
    [
        ("raise", "failed", "killed"),
        ("clean up", "failed", "killed"),
        ("translate", "failed", "killed"),
        ("task group", "failed", "killed"),
        ("swallow", "handled", ""),
    ],
)
async def test_a_kill_ends_the_actor_however_its_handler_takes_it(how: str, fate: str, reason: str) -> None:
    events: list[str] = []
    restarts: list[ActorRestarted] = []
    async with StrictSystem() as system:
        system.allow_dead_letters(Careful)
        system.subscribe(ActorRestarted, restarts.append)
        patient = await system.spawn(Patient, events)
        receipt = await patient.tell(Careful(how), receipt=True)
        queued = await patient.tell(Careful("never"), receipt=True)
        await anyio.wait_all_tasks_blocked()
        patient.kill()
        outcome, left = await receipt.wait(10.0), await queued.wait(10.0)
        assert (outcome.fate, outcome.reason) == (fate, reason)
        assert (left.fate, left.reason) == ("dead-lettered", "stopped")
        await until(lambda: not system.cells)
    assert events == ["start", "cancelled", "killed"]
    assert restarts == []


async def test_an_asker_learns_that_its_handler_was_killed() -> None:
    errors: list[Exception] = []

    async def ask() -> None:
        with pytest.raises(HandlerFailed, match="Killed: /patient was killed while it handled the message") as caught:
            await patient.ask(Careful("raise"))
        errors.append(caught.value)

    async with StrictSystem() as system, anyio.create_task_group() as asking:
        patient = await system.spawn(Patient, [], name="patient")
        asking.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        patient.kill()
        await system.expect_dead_letter(Careful, reason="killed")
    assert [error.__cause__ for error in errors] == [None], "a cancellation is nobody's business but the actor's"


async def test_a_handler_that_resists_is_cancelled_again() -> None:
    class Stubborn(Patient):
        @handles(Careful)
        async def wait(self, message: Careful) -> str:
            for _ in range(2):
                try:
                    await anyio.sleep(3600)
                except anyio.get_cancelled_exc_class():
                    self.events.append("no")
            return "well"

    events: list[str] = []
    async with StrictSystem() as system:
        stubborn = await system.spawn(Stubborn, events, shutdown=0.01)
        receipt = await stubborn.tell(Careful(""), receipt=True)
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(10.0):
            await stubborn.stop()
        assert await receipt.wait(0.0) == Outcome("handled")
    assert events == ["start", "no", "no", "killed"]


@pytest.mark.parametrize("plain", [False, True], ids=["async def", "def"])
async def test_an_actor_may_kill_itself_and_still_says_goodbye(plain: bool) -> None:
    class Weary(Patient):
        @handles(Note)
        async def note(self, message: Note) -> int:
            self.ref.kill()
            return message.number

        @handles(NoteNow)
        def note_now(self, message: NoteNow) -> int:
            self.ref.kill()
            return message.number

    events: list[str] = []
    async with StrictSystem() as system:
        weary = await system.spawn(Weary, events)
        assert await weary.ask(NoteNow(1) if plain else Note(1), timeout=1.0) == 1
        await until(lambda: not system.cells)
    assert events == ["start", "killed"]


async def test_a_kill_during_on_restart_starts_no_other_incarnation() -> None:
    class Slow(Patient):
        async def on_restart(self, error: BaseException) -> None:
            self.events.append("failed")
            await anyio.sleep(0.02)

        @handles(Note)
        async def note(self, message: Note) -> int:
            raise ValueError(message.number)

    events: list[str] = []
    async with StrictSystem() as system:
        slow = await system.spawn(Slow, events)
        await slow.tell(Note(1))
        await system.expect_dead_letter(Note, reason="failed")
        slow.kill()
        await until(lambda: not system.cells)
    assert events == ["start", "failed"]


@ASYNCIO
@pytest.mark.parametrize("concurrency", [1, 2])
async def test_a_cancellation_that_nobody_ordered_is_a_failure_like_any_other(concurrency: int) -> None:
    class Leaky(Actor):
        """Awaits something that somebody else has cancelled. On trio, only scopes cancel."""

        @handles(Note, concurrency=concurrency)
        async def note(self, message: Note) -> int:
            if message.number == 0:
                raise anyio.get_cancelled_exc_class()("from somewhere else")
            return message.number

        @handles(NoteNow)
        def note_now(self, message: NoteNow) -> int:
            raise anyio.get_cancelled_exc_class()("from somewhere else")

    restarts: list[ActorRestarted] = []
    async with StrictSystem() as system:
        system.subscribe(ActorRestarted, restarts.append)
        leaky = await system.spawn(Leaky)
        for message in (Note(0), NoteNow(0)):
            with pytest.raises(HandlerFailed, match="CancelledError: from somewhere else"):
                await leaky.ask(message, timeout=1.0)
            await system.expect_dead_letter(type(message), reason="failed")
            assert await leaky.ask(Note(7), timeout=1.0) == 7
    assert len(restarts) == 2


@ASYNCIO
@pytest.mark.parametrize("hook", ["on_start", "on_stop", "on_restart"])
async def test_a_cancellation_that_leaks_out_of_a_hook_harms_nobody_else(hook: str) -> None:
    async def leak(*_: object) -> None:
        raise anyio.get_cancelled_exc_class()

    class Fails(Actor):
        @handles(Note)
        async def note(self, message: Note) -> int:
            raise ValueError(message.number)

    async with ActorSystem() as system:
        neighbour = await system.spawn(Patient, [])
        leaky: type[Actor] = type("Leaky", (Fails,), {hook: leak})
        if hook == "on_start":
            with pytest.raises(SpawnError):
                await system.spawn(leaky, restart=Restart.TEMPORARY)
        else:
            ref = await system.spawn(leaky, restart=Restart.TEMPORARY)
            await ref.tell(Note(1)) if hook == "on_restart" else await ref.stop()
        await until(lambda: system.cells.keys() == {neighbour.address})


async def test_leaving_by_an_error_stops_the_actors_and_passes_the_error_on() -> None:
    events: list[str] = []
    with anyio.fail_after(5.0):
        with pytest.raises(ZeroDivisionError):
            async with ActorSystem() as system:
                patient = await system.spawn(Patient, events, shutdown=0.01)
                await patient.tell(Careful("raise"))
                await patient.tell(Careful("never"), priority=Priority.LOW)
                await anyio.wait_all_tasks_blocked()
                raise ZeroDivisionError
    assert events == ["start", "cancelled", "killed"]
    assert system.dead_letters == {"killed": 1, "stopped": 1}
