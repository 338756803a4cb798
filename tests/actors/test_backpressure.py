"""Mailboxes are bounded: what each policy does with one message too many; control mail is never refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import (
    Actor,
    ActorRef,
    ActorStopped,
    ActorSystem,
    ChildSpec,
    DeadLetter,
    MailboxFull,
    Message,
    Middleware,
    Outcome,
    Overflow,
    Priority,
    Strategy,
    Terminated,
    handles,
)
from actors.testing import StrictSystem, run_virtual
from tests.actors.waiting import until
from transport.middleware import Accept

pytestmark = pytest.mark.anyio


class Note(Message[int]):
    number: int


class Hold(Message[None]):
    """Handled until the gate opens; with `tick`, while a timer of the actor's goes off."""

    tick: bool = False


class Tick(Message[None]): ...


class Busy(Actor):
    """Handles nothing but control mail until its gate opens."""

    def __init__(self, gate: anyio.Event, notes: list[Any], watches: ActorRef[Any] | None = None) -> None:
        self.gate, self.notes, self.watches = gate, notes, watches

    async def on_start(self) -> None:
        if self.watches is not None:
            self.watch(self.watches)

    @handles(Hold)
    async def hold(self, message: Hold) -> None:
        if message.tick:
            self.after(0.001, Tick())
        await self.gate.wait()

    @handles(Note)
    async def note(self, message: Note) -> int:
        self.notes.append(message.number)
        return message.number

    @handles(Tick)
    async def tick(self, _: Tick) -> None:
        self.notes.append("tick")

    @handles(Terminated)
    async def ended(self, message: Terminated) -> None:
        self.notes.append(message.address.name)


class Desk:
    """A busy actor whose mailbox holds two notes and is full."""

    system: StrictSystem
    busy: ActorRef[Busy]

    def __init__(self) -> None:
        self.gate = anyio.Event()
        self.notes: list[Any] = []

    @asynccontextmanager
    async def full(self, overflow: Overflow, *priorities: Priority) -> AsyncIterator[None]:
        async with StrictSystem(drain=5.0) as self.system:
            self.busy = await self.system.spawn(Busy, self.gate, self.notes, name="busy", capacity=2, overflow=overflow)
            await self.busy.tell(Hold())
            await anyio.wait_all_tasks_blocked()
            for number, priority in enumerate(priorities or (Priority.NORMAL, Priority.NORMAL)):
                await self.busy.tell(Note(number), priority=priority)
            yield
            self.gate.set()

    async def dropped(self, number: int) -> None:
        assert (await self.system.expect_dead_letter(Note, reason="dropped")).message == Note(number)


@pytest.fixture
def desk(anyio_backend: object) -> Desk:
    return Desk()


# Each policy --------------------------------------------------------------------------------------------------


async def test_reject_says_how_deep_the_mailbox_is(desk: Desk) -> None:
    async with desk.full(Overflow.REJECT):
        for send in (desk.busy.tell, desk.busy.ask):
            with pytest.raises(MailboxFull, match="/busy has 2 messages waiting, its limit") as caught:
                await send(Note(2), priority=Priority.URGENT)
            assert caught.value.depth == 2
            assert caught.value.envelope is not None
            assert caught.value.envelope.message == Note(2)
    assert desk.notes == [0, 1]


async def test_drop_oldest_makes_room_by_what_has_waited_longest(desk: Desk) -> None:
    async with desk.full(Overflow.DROP_OLDEST, Priority.URGENT, Priority.LOW):
        await desk.busy.tell(Note(2), priority=Priority.LOW)
        await desk.dropped(0)
        await desk.busy.tell(Note(3), priority=Priority.HIGH)
        await desk.dropped(1)
    assert desk.notes == [3, 2]


async def test_drop_lowest_makes_room_by_the_least_urgent_and_refuses_what_is_less(desk: Desk) -> None:
    async with desk.full(Overflow.DROP_LOWEST, Priority.NORMAL, Priority.HIGH):
        with pytest.raises(MailboxFull):
            await desk.busy.tell(Note(2), priority=Priority.LOW)
        await desk.busy.tell(Note(3), priority=Priority.NORMAL)
        await desk.dropped(0)
        await desk.busy.tell(Note(4), priority=Priority.URGENT)
        await desk.dropped(3)
    assert desk.notes == [4, 1]


async def test_whoever_asked_or_has_a_receipt_learns_that_the_message_was_dropped(desk: Desk) -> None:
    async def ask() -> None:
        with pytest.raises(MailboxFull, match="/busy had no room"):
            await desk.busy.ask(Note(2))

    async with desk.full(Overflow.DROP_OLDEST), anyio.create_task_group() as asking:
        desk.system.allow_dead_letters(Note, reason="dropped")
        asking.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        receipt = await desk.busy.tell(Note(3), receipt=True)
        await desk.busy.tell(Note(4))
        await desk.busy.tell(Note(5))
        assert await receipt.wait() == Outcome("dead-lettered", "dropped")
    assert desk.notes == [4, 5]


async def test_block_lets_the_waiting_senders_in_by_priority_and_then_in_their_order(desk: Desk) -> None:
    let_in: list[int] = []

    async def tell(number: int, priority: Priority) -> None:
        await desk.busy.tell(Note(number), priority=priority)
        let_in.append(number)

    async with anyio.create_task_group() as senders, desk.full(Overflow.BLOCK):
        waiting = [Priority.LOW, Priority.NORMAL, Priority.URGENT, Priority.NORMAL, Priority.URGENT]
        for number, priority in enumerate(waiting, start=2):
            senders.start_soon(tell, number, priority)
            await anyio.wait_all_tasks_blocked()
        assert let_in == []
        assert len(desk.system.cells[desk.busy.address].mailbox) == 2
    assert sorted(let_in) == [2, 3, 4, 5, 6]
    assert desk.notes == [0, 4, 6, 1, 3, 5, 2]


async def test_a_sender_that_gives_up_waiting_for_room_leaves_its_place(desk: Desk) -> None:
    async with desk.full(Overflow.BLOCK):
        with anyio.move_on_after(0.01) as giving_up:
            await desk.busy.tell(Note(2))
        assert giving_up.cancelled_caught
        with pytest.raises(MailboxFull):  # never accepted, so it is safe to send it again
            await desk.busy.tell(Note(3), ttl=0.01)
        assert not any(desk.system.cells[desk.busy.address].mailbox.blocked or ())
    assert desk.notes == [0, 1]


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_senders_that_wait_for_room_learn_that_there_never_will_be_any(how: str, desk: Desk) -> None:
    errors: list[ActorStopped] = []

    async def tell(number: int) -> None:
        with pytest.raises(ActorStopped, match="/busy has stopped") as caught:
            await desk.busy.tell(Note(number))
        errors.append(caught.value)

    async with desk.full(Overflow.BLOCK), anyio.create_task_group() as senders:
        desk.system.allow_dead_letters()
        senders.start_soon(tell, 2)
        senders.start_soon(tell, 3)
        await anyio.wait_all_tasks_blocked()
        if how == "kill":
            desk.busy.kill()
        else:
            senders.start_soon(desk.busy.stop)
        await anyio.wait_all_tasks_blocked()
        assert len(errors) == 2
        desk.gate.set()
    assert desk.notes == ([0, 1] if how == "stop" else [])


async def test_senders_that_wait_for_room_outlast_a_restart() -> None:
    class Fragile(Busy):
        @handles(Hold)
        async def hold(self, _: Hold) -> None:
            await self.gate.wait()
            raise ValueError("broken")

    notes: list[Any] = []
    gate = anyio.Event()
    async with StrictSystem() as system, anyio.create_task_group() as senders:
        fragile = await system.spawn(Fragile, gate, notes, capacity=1)
        await fragile.tell(Hold())
        await anyio.wait_all_tasks_blocked()
        for number in range(4):
            senders.start_soon(fragile.tell, Note(number))
            await anyio.wait_all_tasks_blocked()
        gate.set()
        await system.expect_dead_letter(Hold, reason="failed")
    assert notes == [0, 1, 2, 3]


# Control mail -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overflow", Overflow)
async def test_control_mail_finds_room_in_a_full_mailbox_and_comes_first(overflow: Overflow) -> None:
    notes: list[Any] = []
    gate = anyio.Event()
    async with StrictSystem() as system:
        watched = await system.spawn(Busy, gate, [], name="watched")
        busy = await system.spawn(Busy, gate, notes, watched, capacity=2, overflow=overflow)
        await busy.tell(Hold(tick=True))
        await anyio.wait_all_tasks_blocked()
        for number in range(2):
            await busy.tell(Note(number))
        await watched.stop()
        mailbox = system.cells[busy.address].mailbox
        await until(lambda: len(mailbox.control or ()) == 2)
        assert len(mailbox) == 2
        gate.set()
        with anyio.fail_after(1.0):
            await busy.stop()
    assert (sorted(map(str, notes[:2])), notes[2:]) == (["tick", "watched"], [0, 1])


async def test_a_full_mailbox_does_not_keep_a_sibling_from_being_restarted(desk: Desk) -> None:
    notes: list[Any] = []
    async with StrictSystem() as system, anyio.create_task_group() as senders:
        gate = anyio.Event()
        gate.set()

        class Fails(Busy):
            @handles(Hold)
            async def hold(self, _: Hold) -> None:
                raise ValueError("broken")

        await system.supervise(
            ChildSpec(Busy, desk.gate, notes, name="busy", capacity=1, shutdown=0.01),
            ChildSpec(Fails, gate, notes, name="fails"),
            strategy=Strategy.ONE_FOR_ALL,
            name="both",
        )
        system.allow_dead_letters(Hold)
        busy = system.ref("/both/busy")
        await busy.tell(Hold())
        await anyio.wait_all_tasks_blocked()
        for number in range(3):
            senders.start_soon(busy.tell, Note(number))
            await anyio.wait_all_tasks_blocked()
        await system.ref("/both/fails").tell(Hold())
    assert notes == [0, 1, 2]
    assert system.dead_letters == {"failed": 1, "killed": 1}


# However it is filled -----------------------------------------------------------------------------------------


class Put(Middleware):
    """Looks how full the mailbox is whenever a message has been accepted."""

    def __init__(self, look: Callable[[], None]) -> None:
        self.look = look
        self.settled_notes = 0

    async def accept(self, envelope: Any, next: Accept) -> None:  # noqa: A002
        await next(envelope)
        self.look()

    def settled(self, envelope: Any, outcome: Outcome) -> None:
        self.settled_notes += isinstance(envelope.message, Note)


class Beside(Note):
    """For a handler that runs two at once."""


class BesideToo(Note):
    """For another one."""


class Crowd(Busy):
    async def on_start(self) -> None:
        self.every(1, Tick())  # control mail wakes it also where there is no room for what is queued

    @handles(Beside, concurrency=2)
    async def beside(self, message: Beside) -> int:
        await anyio.sleep(message.number % 3)
        return message.number

    @handles(BesideToo, concurrency=2)
    async def beside_too(self, message: BesideToo) -> int:
        await anyio.sleep(message.number % 2)
        return message.number


KINDS: list[type[Note]] = [Note, Beside, BesideToo]


class Sent(NamedTuple):
    kind: type[Note]
    number: int
    priority: Priority


@settings(max_examples=200)
@given(
    senders=st.lists(
        st.lists(st.builds(Sent, st.sampled_from(KINDS), st.integers(0, 2), st.sampled_from(Priority))),
        min_size=1,
        max_size=4,
    ),
    capacity=st.integers(1, 3),
    overflow=st.sampled_from(Overflow),
    ageing=st.none() | st.integers(1, 2),
    shuffle=st.random_module(),
)
def test_capacity_is_never_exceeded_and_nobody_waits_while_there_is_room(
    senders: list[list[Sent]], capacity: int, overflow: Overflow, ageing: int | None, shuffle: object
) -> None:
    sent = sum(map(len, senders))
    accepted = refused = 0
    letters: list[DeadLetter] = []

    async def main() -> None:
        def look() -> None:
            assert len(mailbox) <= capacity
            assert len(mailbox) == capacity - mailbox.room

        async def send(script: list[Sent]) -> None:
            nonlocal accepted, refused
            for kind, number, priority in script:
                try:
                    await crowd.tell(kind(number), priority=priority)
                    accepted += 1
                except MailboxFull:
                    refused += 1
                look()
                await anyio.sleep(number)

        put = Put(look)
        async with ActorSystem(middleware=[put], drain=1_000.0) as system, anyio.create_task_group() as tasks:
            system.subscribe(DeadLetter, letters.append)
            gate = anyio.Event()
            gate.set()
            crowd = await system.spawn(Crowd, gate, [], capacity=capacity, overflow=overflow, ageing=ageing)
            mailbox = system.cells[crowd.address].mailbox
            for script in senders:
                tasks.start_soon(send, script)
            for _ in range(20):
                await anyio.wait_all_tasks_blocked()
                assert not any(mailbox.blocked or ()) or mailbox.room <= 0, "room, and somebody waits for it"
                await anyio.sleep(1)
            assert put.settled_notes == accepted

    run_virtual(main)
    assert accepted + refused == sent
    assert {letter.reason for letter in letters} <= {"dropped"}
    if overflow in (Overflow.BLOCK, Overflow.REJECT):
        assert not letters
    if overflow in (Overflow.BLOCK, Overflow.DROP_OLDEST):
        assert not refused
