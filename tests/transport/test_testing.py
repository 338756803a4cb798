"""What others test with: the faults do what they say, and the suite finds a transport that breaks its word."""

from __future__ import annotations

import inspect
import itertools
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Any, TypeAlias

import anyio
import msgspec
import pytest
import trio
from anyio import wait_all_tasks_blocked
from hypothesis import example, given
from hypothesis import strategies as st

from actors import Actor, ActorSystem, Outcome, handles
from tests.transport.durable import Durable, Settling, Shelf
from tests.transport.loops import LOOPS, run_on
from transport.address import Address
from transport.base import Inlet, Offer, Transport
from transport.envelope import Envelope, Failed, Priority, Reply
from transport.errors import ActorNotFound, ActorStopped, DeliveryError, TransportClosed
from transport.mailbox import Overflow
from transport.memory import MemoryTransport
from transport.message import Message
from transport.middleware import Accept, Middleware
from transport.testing import (
    HERE,
    THERE,
    DurableTransportConformance,
    Fault,
    FaultyTransport,
    Note,
    Recorder,
    TransportConformance,
)

scripts = st.lists(st.sampled_from(Fault), max_size=12)
# For the sender, and how many copies the inlet gets.
ENDS = {
    Fault.PASS: ("returned", 1),
    Fault.DROP: ("DeliveryUnknown", 0),
    Fault.LOSE_ACK: ("DeliveryUnknown", 1),
    Fault.REFUSE: ("DeliveryError", 0),
    Fault.DELAY: ("returned", 1),
    Fault.REORDER: ("returned", 1),
    Fault.DUPLICATE: ("returned", 2),
}


def note(number: int, *, author: int = 0, target: Address = HERE) -> Envelope:
    return Envelope(Note(author, number), target, Priority.NORMAL, sender=Address(f"/author-{author}"))


async def send(transport: FaultyTransport, envelope: Envelope) -> str:
    """Send, and say what the sender was told."""
    try:
        await transport.send(envelope)
    except DeliveryError as error:
        return type(error).__name__
    return "returned"


# Faults -------------------------------------------------------------------------------------------------------


@given(script=scripts, sends=st.integers(0, 14), authors=st.integers(1, 3))
def test_each_send_meets_its_fault_and_the_sends_of_one_task_stay_in_order(
    script: list[Fault], sends: int, authors: int
) -> None:
    async def body() -> None:
        transport = FaultyTransport(MemoryTransport(), iter(script), delay=1.0)
        await transport.open()
        transport.bind(HERE, inlet := Recorder())
        met: dict[tuple[int, int], Fault] = {}
        faults = itertools.chain(script, itertools.repeat(Fault.PASS))
        told: dict[tuple[int, int], str] = {}

        async def write(author: int) -> None:
            for number in range(sends):
                met[author, number] = next(faults)
                told[author, number] = await send(transport, note(number, author=author))

        async with anyio.create_task_group() as tasks:
            for author in range(authors):
                tasks.start_soon(write, author)
        assert told == {each: ENDS[fault][0] for each, fault in met.items()}
        assert Counter(inlet.notes) == {each: ENDS[fault][1] for each, fault in met.items() if ENDS[fault][1]}
        for author in range(authors):
            numbers = [number for by, number in inlet.notes if by == author]
            assert numbers == sorted(numbers)

    run_on("trio", body)


@given(script=st.lists(st.sampled_from(Fault), min_size=1, max_size=6))
@example([Fault.REORDER, Fault.REORDER, Fault.PASS])
@example([Fault.REORDER, Fault.DELAY, Fault.PASS, Fault.PASS])
def test_what_is_on_the_way_at_once_arrives_in_the_order_the_script_makes(script: list[Fault]) -> None:
    async def body() -> None:
        transport = FaultyTransport(MemoryTransport(), script, delay=1.0)
        transport.bind(HERE, inlet := Recorder())
        held: list[int] = []
        delayed: list[int] = []
        expected: list[int] = []

        async with anyio.create_task_group() as tasks:
            for number, fault in enumerate(script):
                tasks.start_soon(send, transport, note(number))
                await wait_all_tasks_blocked()
                if fault is Fault.DELAY:
                    delayed.append(number)
                elif fault is Fault.REORDER:
                    held.append(number)
                elif copies := ENDS[fault][1]:
                    expected += [number] * copies + held
                    held.clear()
                assert [each for _, each in inlet.notes] == expected
            await anyio.sleep(0.99)
            assert len(inlet.notes) == len(expected), "nothing comes before its time"
        rest = [each for _, each in inlet.notes[len(expected) :]]
        assert sorted(rest) == sorted(held + delayed)

    run_on("trio", body)


async def virtual(function: Callable[[FaultyTransport, Recorder], Any], *script: Fault, delay: float = 1.0) -> None:
    transport = FaultyTransport(MemoryTransport(), script, delay=delay)
    transport.bind(HERE, inlet := Recorder())
    await function(transport, inlet)


def test_an_overtaken_envelope_does_not_wait_for_mail_to_somebody_else() -> None:
    async def body(transport: FaultyTransport, inlet: Recorder) -> None:
        transport.bind(THERE, Recorder())
        began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send, transport, note(0))
            await wait_all_tasks_blocked()
            await transport.send(note(1, target=THERE))
            await wait_all_tasks_blocked()
            assert inlet.notes == []
        assert inlet.notes == [(0, 0)]
        assert anyio.current_time() - began == pytest.approx(1.0)

    run_on("trio", virtual, body, Fault.REORDER)


def test_one_that_is_cancelled_while_it_is_held_or_delayed_is_gone() -> None:
    async def body(transport: FaultyTransport, inlet: Recorder) -> None:
        with anyio.move_on_after(0.5):
            await transport.send(note(0))
        with anyio.move_on_after(0.5):
            await transport.send(note(1))
        await transport.send(note(2))
        await anyio.sleep(2)
        assert inlet.notes == [(0, 2)]

    run_on("trio", virtual, body, Fault.REORDER, Fault.DELAY)


def test_a_duplicate_has_the_same_id_and_nobody_waits_for_its_answer() -> None:
    class Answer:
        def done(self) -> bool:
            return False

        def set_result(self, result: Any, /) -> None: ...

    async def body(transport: FaultyTransport, inlet: Recorder) -> None:
        envelope = note(0)
        envelope.reply = Answer()
        await transport.send(envelope)
        first, second = inlet.accepted
        assert first is envelope
        assert second is not envelope
        assert (second.id, second.message, second.sender) == (first.id, first.message, first.sender)
        assert (first.reply, second.reply) == (envelope.reply, None)

    run_on("trio", virtual, body, Fault.DUPLICATE)


def test_a_duplicate_that_finds_no_room_is_lost_after_a_while() -> None:
    class OneByOne(Recorder):
        def offer(self, envelope: Envelope) -> bool:
            accepted = super().offer(envelope)
            self.fill()
            return accepted

    async def body() -> None:
        transport = FaultyTransport(MemoryTransport(), [Fault.DUPLICATE], delay=3.0)
        transport.bind(HERE, inlet := OneByOne())
        began = anyio.current_time()
        await transport.send(note(0))
        assert anyio.current_time() - began == pytest.approx(3.0)
        inlet.make_room()
        await wait_all_tasks_blocked()
        assert inlet.notes == [(0, 0)]

    run_on("trio", body)


def test_a_duplicate_that_is_refused_is_no_concern_of_the_sender_but_the_first_is() -> None:
    class Once(Recorder):
        def offer(self, envelope: Envelope) -> bool:
            accepted = super().offer(envelope)
            self.refusal = DeliveryError("once only", envelope)
            return accepted

    async def body() -> None:
        transport = FaultyTransport(MemoryTransport(), [Fault.DUPLICATE, Fault.DUPLICATE])
        transport.bind(HERE, inlet := Once())
        assert await send(transport, note(0)) == "returned"
        assert await send(transport, note(1)) == "DeliveryError"
        assert inlet.notes == [(0, 0)]

    run_on("trio", body)


@pytest.mark.parametrize("fault", Fault)
def test_a_fault_hides_neither_that_nobody_lives_there_nor_that_we_closed(fault: Fault) -> None:
    async def body(transport: FaultyTransport, inlet: Recorder) -> None:
        lost = fault in (Fault.DROP, Fault.REFUSE)
        with pytest.raises(DeliveryError if lost else ActorNotFound) as caught:
            await transport.send(envelope := note(0, target=THERE))
        assert caught.value.envelope is envelope
        await transport.close()
        with pytest.raises(TransportClosed):
            await transport.send(note(1))
        await transport.open()
        await send(transport, note(2))
        assert [number for _, number in inlet.notes] == [2] * ENDS[fault][1], "while closed no fault was used up"

    run_on("trio", virtual, body, fault, fault)


def test_an_endless_script_and_one_that_is_used_up() -> None:
    async def body() -> None:
        endless = FaultyTransport(MemoryTransport(), itertools.cycle([Fault.DROP, Fault.PASS]))
        endless.bind(HERE, inlet := Recorder())
        assert [await send(endless, note(n)) for n in range(4)] == ["DeliveryUnknown", "returned"] * 2
        short = FaultyTransport(endless.inner, [Fault.DROP])
        assert [await send(short, note(n)) for n in range(4, 7)] == ["DeliveryUnknown", "returned", "returned"]
        assert [number for _, number in inlet.notes] == [1, 3, 5, 6]

    run_on("trio", body)


# Faults under a system ----------------------------------------------------------------------------------------


class Count(Message[int]):
    number: int


class Counting(Actor):
    """Keeps what it has counted for the test to see, and answers with the number."""

    def __init__(self, counted: list[int]) -> None:
        self.counted = counted

    @handles(Count)
    async def count(self, message: Count) -> int:
        self.counted.append(message.number)
        return message.number


class Ledger(Middleware):
    """Counts what was accepted and how it ended (invariant 1)."""

    def __init__(self) -> None:
        self.accepted = 0
        self.fates: Counter[str] = Counter()

    async def accept(self, envelope: Envelope, next: Accept) -> None:  # noqa: A002
        await next(envelope)
        self.accepted += 1

    def settled(self, envelope: Envelope, outcome: Outcome) -> None:
        self.fates[outcome.fate] += 1


@LOOPS
@given(script=scripts, asks=st.lists(st.booleans(), max_size=12), watched=st.booleans())
def test_a_system_keeps_its_promises_over_a_faulty_transport(
    loop: str, script: list[Fault], asks: list[bool], watched: bool
) -> None:
    async def body() -> None:
        counted: list[int] = []
        told: list[str] = []
        ledger = Ledger()
        transport = FaultyTransport(MemoryTransport(), script, delay=0.5 if loop == "trio" else 0.0)
        async with ActorSystem("faulty", transport=transport, middleware=[ledger] if watched else []) as system:
            ref = await system.spawn(Counting, counted)
            for number, ask in enumerate(asks):
                told.append("returned")
                try:
                    if ask:
                        assert await ref.ask(Count(number), timeout=5.0) == number
                    else:
                        receipt = await ref.tell(Count(number), receipt=True)
                        assert (await receipt.wait(5.0)).fate == "handled"
                except DeliveryError as error:
                    told[-1] = type(error).__name__
            await ref.stop()
        ends = [
            ENDS[fault] for fault, _ in zip(itertools.chain(script, itertools.repeat(Fault.PASS)), asks, strict=False)
        ]
        assert told == [each for each, _ in ends]
        expected = [number for number, (_, copies) in enumerate(ends) for _ in range(copies)]
        assert counted == expected
        assert not system.dead_letters
        if watched:
            assert ledger.accepted == ledger.fates["handled"] == len(expected)
            assert set(ledger.fates) <= {"handled"}

    run_on(loop, body)


def test_an_ask_that_is_slow_on_its_way_times_out_as_an_ask() -> None:
    async def body() -> None:
        counted: list[int] = []
        async with ActorSystem(
            "slow", transport=FaultyTransport(MemoryTransport(), [Fault.DELAY], delay=2.0)
        ) as system:
            ref = await system.spawn(Counting, counted)
            with pytest.raises(TimeoutError):
                await ref.ask(Count(1), timeout=1.0)
            await anyio.sleep(5)
            assert counted == []
            assert await ref.ask(Count(2), timeout=1.0) == 2

    run_on("trio", body)


def test_to_tell_where_nobody_ever_lived_is_not_to_tell_one_who_has_stopped() -> None:
    async def body() -> None:
        async with ActorSystem("nobody", transport=FaultyTransport(MemoryTransport(), [])) as system:
            ref = await system.spawn(Counting, [])
            await ref.stop()
            with pytest.raises(ActorStopped):
                await ref.tell(Count(1))
            with pytest.raises(ActorNotFound):
                await system.ref("/nobody", Counting).tell(Count(1))

    run_on("trio", body)


# The suite finds it out ---------------------------------------------------------------------------------------


class Loses(MemoryTransport):
    async def send(self, envelope: Envelope) -> None:
        pass


class Doubles(MemoryTransport):
    async def send(self, envelope: Envelope) -> None:
        await super().send(envelope)
        await super().send(envelope)


class Forgets(MemoryTransport):
    async def send(self, envelope: Envelope) -> None:
        await super().send(Envelope(envelope.message, envelope.target, envelope.priority, message_id=envelope.id))


class LosesSome(MemoryTransport):
    sent = 0

    async def send(self, envelope: Envelope) -> None:
        self.sent += 1
        if self.sent != 150:
            await super().send(envelope)


class Crosses(MemoryTransport):
    async def send(self, envelope: Envelope) -> None:
        await next(iter(self._inlets.values())).put(envelope)


class AcksEarly(MemoryTransport):
    async def send(self, envelope: Envelope) -> None:
        with anyio.move_on_after(0):
            await super().send(envelope)


class SwapsPairs(MemoryTransport):
    """Lets every second of a sender's envelopes overtake the one before."""

    def __init__(self) -> None:
        super().__init__()
        self._held: dict[Address | None, Envelope] = {}

    async def send(self, envelope: Envelope) -> None:
        held = self._held.pop(envelope.sender, None)
        if held is None and isinstance(envelope.message, Note) and envelope.message.author >= 0:
            self._held[envelope.sender] = envelope
            return
        await super().send(envelope)
        if held is not None:
            await super().send(held)


class Swallows(MemoryTransport):
    async def send(self, envelope: Envelope) -> None:
        with suppress(DeliveryError):
            await super().send(envelope)


class TriesAgain(MemoryTransport):
    """Keeps what was refused, for the next time."""

    def __init__(self) -> None:
        super().__init__()
        self._again: list[Envelope] = []

    async def send(self, envelope: Envelope) -> None:
        while self._again:
            await super().send(self._again.pop())
        try:
            await super().send(envelope)
        except BaseException:
            self._again.append(envelope)
            raise


class Anonymous(MemoryTransport):
    async def send(self, envelope: Envelope) -> None:
        if envelope.target not in self._inlets:
            raise ActorNotFound("nobody")
        await super().send(envelope)


class Rebinds(MemoryTransport):
    def bind(self, address: Address, inlet: Inlet) -> None:
        self._inlets[address] = inlet


class Sticks(MemoryTransport):
    def unbind(self, address: Address, buried: Any = None) -> None:
        pass


class DeniesAccepting(MemoryTransport):
    def offer_to(self, address: Address) -> Offer:
        offer = super().offer_to(address)
        return lambda envelope: offer(envelope) and False


class ClaimsToAccept(MemoryTransport):
    def offer_to(self, address: Address) -> Offer:
        return lambda envelope: True


class FindsTheSuccessor(MemoryTransport):
    def offer_to(self, address: Address) -> Offer:
        return lambda envelope: address in self._inlets and self._inlets[address].offer(envelope)


class LeavesSomething(MemoryTransport):
    """What is cancelled on its way arrives with the next one."""

    def __init__(self) -> None:
        super().__init__()
        self._left: list[Envelope] = []

    async def send(self, envelope: Envelope) -> None:
        try:
            await anyio.lowlevel.checkpoint()
        except BaseException:
            self._left.append(envelope)
            raise
        while self._left:
            await super().send(self._left.pop())
        await super().send(envelope)


class NeverCloses(MemoryTransport):
    async def close(self) -> None:
        pass


class ClosesOnce(MemoryTransport):
    async def close(self) -> None:
        if self._closed:
            raise TransportClosed("closed already")
        await super().close()


class ClosesForStrangersOnly(MemoryTransport):
    async def send(self, envelope: Envelope) -> None:
        if self._closed and envelope.target in self._inlets:
            return
        await super().send(envelope)


class Hangs(MemoryTransport):
    async def send(self, envelope: Envelope) -> None:
        await anyio.sleep_forever()


class Ageless(MemoryTransport):
    async def send(self, envelope: Envelope) -> None:
        envelope.deadline = None
        await super().send(envelope)


class MakesAsks(MemoryTransport):
    async def send(self, envelope: Envelope) -> None:
        if envelope.deadline is not None:
            envelope.reply_by = envelope.deadline
        await super().send(envelope)


class Mute(MemoryTransport):
    async def send(self, envelope: Envelope) -> None:
        envelope.reply = None
        await super().send(envelope)


class HoldsBack(MemoryTransport):
    """Says that it was accepted, and hands it over with the next one."""

    held: Envelope | None = None

    async def send(self, envelope: Envelope) -> None:
        held, self.held = self.held, envelope
        if held is not None:
            await super().send(held)


class KeepsAll(MemoryTransport):
    def keeps(self, envelope: Envelope) -> bool:
        return True


# And of the durable ones:


class Greedy(Durable):
    """Takes what is another's."""

    async def claim(self, address: Address, *args: Any, **options: Any) -> None:
        self.shelves[address] = Shelf(mail=self.shelves.get(address, Shelf()).mail)
        await super().claim(address, *args, **options)


class Bottomless(Durable):
    async def claim(self, address: Address, *args: Any, **options: Any) -> None:
        await super().claim(address, **{**options, "capacity": 10_000})


class Polite(Durable):
    async def claim(self, address: Address, *args: Any, **options: Any) -> None:
        await super().claim(address, **{**options, "overflow": Overflow.BLOCK})


class Clings(Durable):
    def unbind(self, address: Address, buried: Any = None) -> None:
        self.inlets.pop(address, None)


class ForgetsToRelease(Durable):
    async def close(self) -> None:
        self.closed = True
        self.inlets.clear()


class NeverPauses(Durable):
    async def pause(self) -> None:
        pass


class NeverPausesButSays(Durable):
    async def pause(self) -> None:
        self.says = True

    def keeps(self, envelope: Envelope) -> bool:
        return getattr(self, "says", False)


class KeepsNothing(Durable):
    def keeps(self, envelope: Envelope) -> bool:
        return False


class KeepsNothingUnbound(Durable):
    def keeps(self, envelope: Envelope) -> bool:
        return super().keeps(envelope) and envelope.target in self.inlets


class LosesTheRest(Durable):
    """What waits is gone with the process."""

    def unbind(self, address: Address, buried: Any = None) -> None:
        self.paused = False
        super().unbind(address)
        self.shelves[address].is_open = True


class HandsOnBackwards(Durable):
    async def claim(self, address: Address, *args: Any, **options: Any) -> None:
        self.shelves.setdefault(address, Shelf()).mail.reverse()
        await super().claim(address, *args, **options)


class HandsOnAll(Durable):
    """Settles nothing at the server, so that all comes again."""

    class settling(Settling):  # noqa: N801
        def set_result(self, result: Any, /) -> None:
            self.answer(self.envelope.reply, result)


class Unanswering(Durable):
    class settling(Settling):  # noqa: N801
        def answer(self, reply: Reply | None, result: Any) -> None:
            pass


class AnswersTheLast(Durable):
    """Answers go to whoever sent last."""

    last: Reply | None = None

    class settling(Settling):  # noqa: N801
        def answer(self, reply: Reply | None, result: Any) -> None:
            super().answer(AnswersTheLast.last, result)

    async def send(self, envelope: Envelope) -> None:
        AnswersTheLast.last = envelope.reply
        await super().send(envelope)


class StaysOpen(Durable):
    async def drain(self, address: Address, deadline: float) -> None:
        await super().drain(address, deadline)
        self.shelves[address].is_open = True


class DrainsNothing(Durable):
    async def drain(self, address: Address, deadline: float) -> None:
        self.shelves[address].is_open = False


class DrainsForEver(Durable):
    async def drain(self, address: Address, deadline: float) -> None:
        await super().drain(address, inf)


class Amnesiac(Durable):
    def tried(self, envelope: Envelope) -> None:
        pass


class Expectant(Durable):
    async def vacant(self, address: Address) -> None:
        await anyio.sleep_forever()


class SwapsNeighbours(Durable):
    """Lets every second of a sender's envelopes overtake the one before."""

    def __init__(self, shelves: dict[Address, Shelf]) -> None:
        super().__init__(shelves)
        self._held: dict[tuple[Address, Address | None], Envelope] = {}

    async def send(self, envelope: Envelope) -> None:
        held = self._held.pop((envelope.target, envelope.sender), None)
        if held is None and isinstance(envelope.message, Note) and envelope.message.author >= 0:
            self._held[envelope.target, envelope.sender] = envelope
            return
        await super().send(envelope)
        if held is not None:
            await super().send(held)


class BuriesNothing(Durable):
    def unbind(self, address: Address, buried: Any = None) -> None:
        super().unbind(address)


class BuriesInSilence(Durable):
    """Tells nobody, but those who sent it."""

    def unbind(self, address: Address, buried: Any = None) -> None:
        error = ActorStopped("stopped")
        failed = Failed(error, Outcome("dead-lettered", "stopped", error))
        super().unbind(address, lambda envelope: envelope.reply.set_result(failed))  # type: ignore[union-attr]


class LeavesTheRefused(Durable):
    """What is refused comes when there is room."""

    refused: Envelope | None = None

    async def send(self, envelope: Envelope) -> None:
        refused, self.refused = self.refused, None
        if refused is not None:
            await super().send(refused)
        try:
            await super().send(envelope)
        except DeliveryError:
            self.refused = envelope
            raise


class Doubled(Durable):
    """Sends again what was accepted, where the sender is cancelled."""

    async def send(self, envelope: Envelope) -> None:
        await super().send(envelope)
        try:
            for _ in range(20):
                await anyio.lowlevel.checkpoint()
        except BaseException:
            self.shelves[envelope.target].mail.append(msgspec.structs.replace(envelope, message_id=None))
            raise


class Insists(Durable):
    """Hands to an inlet again what it has refused."""

    async def hand_over(self, scope: trio.CancelScope, address: Address, shelf: Shelf, inlet: Inlet) -> None:
        class Insisting:
            def offer(self, envelope: Envelope) -> bool:
                return inlet.offer(envelope)

            async def put(self, envelope: Envelope) -> None:
                while True:
                    with suppress(DeliveryError):
                        return await inlet.put(envelope)
                    await anyio.sleep(1)

        await super().hand_over(scope, address, shelf, Insisting())


suite, durable = TransportConformance, DurableTransportConformance
Test: TypeAlias = Callable[..., Any]
FOUND_OUT: list[tuple[type[MemoryTransport], Test]] = [
    (Loses, suite.test_what_is_sent_arrives_once_and_unchanged),
    (Doubles, suite.test_what_is_sent_arrives_once_and_unchanged),
    (Forgets, suite.test_what_is_sent_arrives_once_and_unchanged),
    (Hangs, suite.test_what_is_sent_arrives_once_and_unchanged),
    (Ageless, suite.test_the_time_to_live_goes_on),
    (MakesAsks, suite.test_the_time_to_live_goes_on),
    (Crosses, suite.test_mail_goes_to_its_target_and_to_nobody_else),
    (AcksEarly, suite.test_send_returns_once_there_is_room_and_not_before),
    (SwapsPairs, suite.test_the_sends_of_one_task_stay_in_order),
    (LosesSome, suite.test_many_senders_at_once_lose_and_double_nothing),
    (Mute, suite.test_what_a_message_is_settled_with_reaches_its_sender),
    (Swallows, suite.test_a_refusal_reaches_the_sender_and_is_final),
    (TriesAgain, suite.test_a_refusal_reaches_the_sender_and_is_final),
    (Swallows, suite.test_to_send_where_nobody_lives_raises_actor_not_found),
    (Anonymous, suite.test_to_send_where_nobody_lives_raises_actor_not_found),
    (Sticks, suite.test_nobody_lives_at_an_address_after_unbind),
    (ClaimsToAccept, suite.test_nobody_lives_at_an_address_after_unbind),
    (Rebinds, suite.test_an_address_is_bound_to_one_inlet_at_a_time),
    (Sticks, suite.test_an_address_is_bound_to_one_inlet_at_a_time),
    (HoldsBack, suite.test_a_drained_mailbox_has_handed_over_all_that_it_had_accepted),
    (DeniesAccepting, suite.test_an_offer_accepts_or_changes_nothing),
    (ClaimsToAccept, suite.test_an_offer_accepts_or_changes_nothing),
    (FindsTheSuccessor, suite.test_a_kept_offer_accepts_nothing_after_unbind),
    (TriesAgain, suite.test_a_send_cancelled_while_it_waits_for_room_was_not_accepted),
    (LeavesSomething, suite.test_a_send_cancelled_at_any_of_its_awaits_was_accepted_or_not),
    (Mute, suite.test_what_was_handed_over_before_a_pause_can_be_settled_after_it),
    (KeepsAll, suite.test_what_was_handed_over_before_a_pause_can_be_settled_after_it),
    (NeverCloses, suite.test_a_closed_transport_carries_nothing),
    (ClosesForStrangersOnly, suite.test_a_closed_transport_carries_nothing),
    (ClosesOnce, suite.test_closing_twice_is_harmless),
]
FOUND_OUT_DURABLE: list[tuple[type[Durable], Test]] = [
    (Bottomless, durable.test_send_returns_once_there_is_room_and_not_before),
    (Doubled, durable.test_a_send_cancelled_at_any_of_its_awaits_was_accepted_or_not),
    (Bottomless, durable.test_a_refusal_reaches_the_sender_and_is_final),
    (Polite, durable.test_a_refusal_reaches_the_sender_and_is_final),
    (LeavesTheRefused, durable.test_a_refusal_reaches_the_sender_and_is_final),
    (Insists, durable.test_an_inlet_that_refuses_what_was_accepted_settles_it),
    (StaysOpen, durable.test_a_drained_mailbox_takes_no_more),
    (DrainsNothing, durable.test_a_drained_mailbox_has_handed_over_all_that_it_had_accepted),
    (DrainsForEver, durable.test_a_mailbox_that_is_not_drained_in_time_is_waited_for_no_longer),
    (BuriesNothing, durable.test_what_comes_too_late_to_be_handed_over_is_buried),
    (BuriesInSilence, durable.test_what_comes_too_late_to_be_handed_over_is_buried),
    (Greedy, durable.test_an_address_is_claimed_by_one_transport_at_a_time),
    (Clings, durable.test_an_address_is_claimed_by_one_transport_at_a_time),
    (Expectant, durable.test_an_address_whose_owner_closes_is_vacant),
    (ForgetsToRelease, durable.test_an_address_whose_owner_closes_is_vacant),
    (SwapsNeighbours, durable.test_the_sends_of_one_task_stay_in_order_between_two),
    (Unanswering, durable.test_what_a_message_is_settled_with_reaches_its_sender),
    (Unanswering, durable.test_an_answer_goes_to_the_process_that_asked),
    (AnswersTheLast, durable.test_an_answer_goes_to_the_process_that_asked),
    (LosesTheRest, durable.test_what_was_not_settled_goes_to_whoever_claims_next_in_order),
    (KeepsNothingUnbound, durable.test_what_was_not_settled_goes_to_whoever_claims_next_in_order),
    (HandsOnBackwards, durable.test_what_was_not_settled_goes_to_whoever_claims_next_in_order),
    (HandsOnAll, durable.test_what_was_not_settled_goes_to_whoever_claims_next_in_order),
    (NeverPauses, durable.test_a_paused_transport_hands_over_nothing_more),
    (NeverPausesButSays, durable.test_a_paused_transport_hands_over_nothing_more),
    (KeepsNothing, durable.test_what_was_handed_over_before_a_pause_can_be_settled_after_it),
    (Amnesiac, durable.test_how_often_a_message_was_tried_is_not_forgotten),
]


def run_test(of: type[TransportConformance], test: Test, make: Callable[[], list[Transport]]) -> None:
    """One test of the suite `of`, with each of its parameters one after the other, each with transports of its own."""
    parameters = [mark.args[1] for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
    takes = len(inspect.signature(test).parameters) - 1 - len(parameters)
    for argument in itertools.product(*parameters):
        run_on("trio", test, of(), *make()[:takes], *argument)


def pair(of: type[Durable]) -> list[Transport]:
    shelves: dict[Address, Shelf] = {}
    return [of(shelves), of(shelves)]


def names(found_out: list[tuple[Any, Test]]) -> list[str]:
    return [f"{broken.__name__}-{test.__name__}" for broken, test in found_out]


@pytest.mark.parametrize(("broken", "test"), FOUND_OUT, ids=names(FOUND_OUT))
def test_the_suite_finds_out_a_broken_transport(broken: type[MemoryTransport], test: Test) -> None:
    run_test(suite, test, lambda: [MemoryTransport()])
    with pytest.raises((Exception, pytest.fail.Exception)):
        run_test(suite, test, lambda: [broken()])


@pytest.mark.parametrize(("broken", "test"), FOUND_OUT_DURABLE, ids=names(FOUND_OUT_DURABLE))
def test_the_suite_finds_out_a_broken_durable_transport(broken: type[Durable], test: Test) -> None:
    with pytest.raises((Exception, pytest.fail.Exception)):
        run_test(durable, test, lambda: pair(broken))


@pytest.mark.parametrize("test", sorted(name for name in dir(durable) if name.startswith("test_")))
def test_a_sound_durable_transport_passes(test: str) -> None:
    run_test(durable, getattr(durable, test), lambda: pair(Durable))


def test_every_test_of_the_suites_finds_something_out() -> None:
    for of, found_out in ((suite, FOUND_OUT), (durable, FOUND_OUT_DURABLE)):
        tests = {name for name in vars(of) if name.startswith("test_")}
        assert tests <= {test.__name__ for _, test in found_out}
