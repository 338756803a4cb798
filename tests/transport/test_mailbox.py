"""The mailbox against a model of it, and its senders and its consumer on every event loop."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from math import inf
from typing import Any, Literal, NamedTuple

import anyio
import pytest
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.transport.loops import LOOPS, run_on
from transport.address import Address
from transport.envelope import Envelope, Priority
from transport.errors import ActorStopped, DeliveryError, MailboxFull
from transport.eventloop import EventLoop, Future, current_event_loop
from transport.mailbox import CONTROL, Overflow, PriorityMailbox, check_seconds
from transport.message import Message

HERE = Address("/here")
priorities = st.sampled_from(Priority)


class Letter(Message[None]):
    number: int


def letter(number: int, priority: int = Priority.NORMAL, **facts: Any) -> Envelope:
    return Envelope(Letter(number), HERE, priority, **facts)


def number_of(envelope: Envelope) -> int:
    assert isinstance(envelope.message, Letter)
    return envelope.message.number


def new_mailbox(future: Callable[[], Future] | None = None, **options: Any) -> PriorityMailbox:
    dropped: list[Envelope] = []
    return PriorityMailbox(future or Signal, dropped.append, address=HERE, **options)


# Against a model ----------------------------------------------------------------------------------------------


class Signal:
    """A `Future` without an event loop."""

    def __init__(self) -> None:
        self._done = False
        self._result: Any = None

    def done(self) -> bool:
        return self._done

    def result(self) -> Any:
        return self._result

    def set_result(self, result: Any, /) -> None:
        assert not self._done, "resolved twice"
        self._done, self._result = True, result

    def cancel(self) -> None:
        """What a loop does to the future that a cancelled task waits for."""
        self._done = True

    def __await__(self) -> Generator[Any, None, Any]:
        yield from ()  # nothing here waits


class Model:
    """A mailbox as one would explain it: sorted lists, and what is dropped or refused counted on one's fingers."""

    def __init__(self, capacity: int, overflow: Overflow, ageing: int | None) -> None:
        self.capacity, self.overflow, self.ageing = capacity, overflow, ageing
        self.closed = False
        self.control: list[Envelope] = []
        self.lanes: dict[int, list[Envelope]] = {priority: [] for priority in Priority}
        self.passed_over = dict.fromkeys(Priority, 0)
        self.accepted_as: dict[int, int] = {}
        self.dropped: list[Envelope] = []

    def messages(self) -> list[Envelope]:
        return [envelope for lane in self.lanes.values() for envelope in lane]

    def offer(self, envelope: Envelope) -> bool:
        if self.closed or len(self.messages()) >= self.capacity:
            return False
        self.accepted_as[number_of(envelope)] = len(self.accepted_as)
        self.lanes[envelope.priority].append(envelope)
        return True

    def put(self, envelope: Envelope) -> type[DeliveryError] | None:
        if self.closed:
            return ActorStopped
        too_many = len(self.messages()) + 1 - self.capacity
        if too_many > 0:
            if self.overflow is Overflow.DROP_OLDEST:
                victims = sorted(self.messages(), key=lambda each: self.accepted_as[number_of(each)])
            elif self.overflow is Overflow.DROP_LOWEST:
                victims = sorted(self.messages(), key=lambda each: -each.priority)  # stable: the oldest of a lane first
                victims = [each for each in victims if each.priority >= envelope.priority]
            else:
                victims = []
            if len(victims) < too_many:
                return MailboxFull
            for victim in victims[:too_many]:
                self.lanes[victim.priority].remove(victim)
                self.dropped.append(victim)
        assert self.offer(envelope)
        return None

    def pop(self) -> Envelope | None:
        if self.control:
            return self.control.pop(0)
        waiting = [priority for priority in Priority if self.lanes[priority]]
        if not waiting:
            return None
        too_long = [p for p in waiting if self.ageing is not None and self.passed_over[p] >= self.ageing]
        pick = max(too_long) if too_long else min(waiting)
        for priority in Priority:
            if priority == pick or priority not in waiting:
                self.passed_over[priority] = 0
            elif priority > pick:
                self.passed_over[priority] += 1
        return self.lanes[pick].pop(0)


class MailboxMachine(RuleBasedStateMachine):
    """Whatever is done to a mailbox, it and the model answer alike and hold the same."""

    overflow = Overflow.BLOCK

    @initialize(capacity=st.integers(1, 4), ageing=st.none() | st.integers(1, 3))
    def begin(self, capacity: int, ageing: int | None) -> None:
        self.dropped: list[Envelope] = []
        self.mailbox = PriorityMailbox(
            Signal, self.dropped.append, capacity=capacity, overflow=self.overflow, ageing=ageing, address=HERE
        )
        self.mailbox.at_once = self.answer
        self.model = Model(capacity, self.overflow, ageing)
        self.made = 0
        self.in_hand: list[Envelope] = []
        self.answered: list[Envelope] = []
        self.consumer: Signal | None = None  # what it waits for
        self.low_waits = 0

    def make(self, priority: int, *, ask: bool = False) -> Envelope:
        self.made += 1
        return letter(self.made, priority, reply_by=5.0 if ask else inf)

    def answer(self, envelope: Envelope) -> bool:
        """Every other ask is answered at once."""
        if number_of(envelope) % 2:
            return False
        self.answered.append(envelope)
        return True

    def is_answered_at_once(self, envelope: Envelope) -> bool:
        idle = self.consumer is not None and not self.model.messages()
        return idle and envelope.reply_by != inf and number_of(envelope) % 2 == 0

    def consumer_wakes(self) -> None:
        assert self.consumer is None or self.consumer.done()
        self.consumer = None

    # Senders

    @rule(sends=st.lists(st.tuples(priorities, st.booleans()), min_size=1, max_size=4))
    def offer(self, sends: list[tuple[Priority, bool]]) -> None:
        for priority, ask in sends:
            envelope = self.make(priority, ask=ask)
            if self.is_answered_at_once(envelope):
                assert self.mailbox.offer(envelope)
                assert self.answered[-1] is envelope
                continue
            accepted = self.mailbox.offer(envelope)
            assert accepted == self.model.offer(envelope)
            if accepted:
                assert len(self.mailbox) <= self.model.capacity  # invariant 12
                self.consumer_wakes()

    @rule(sends=st.lists(priorities, min_size=1, max_size=4))
    def put(self, sends: list[Priority]) -> None:
        model = self.model
        for priority in sends:
            if model.overflow is Overflow.BLOCK and not model.closed and len(model.messages()) >= model.capacity:
                return  # it would wait: see the schedules below
            envelope = self.make(priority)
            putting = self.mailbox.put(envelope)
            refusal = model.put(envelope)
            with pytest.raises(refusal or StopIteration) as outcome:
                putting.send(None)
            if refusal is None:
                assert len(self.mailbox) <= model.capacity
                self.consumer_wakes()
            else:
                assert isinstance(outcome.value, DeliveryError)
                assert outcome.value.envelope is envelope
            if isinstance(outcome.value, MailboxFull):
                assert outcome.value.depth == len(model.messages())

    @rule(withdrawn=st.none() | st.integers(0, 2))
    def control(self, withdrawn: int | None) -> None:
        if withdrawn is None:
            envelope = self.make(Priority.LOW)
            self.mailbox.post(envelope)
            self.model.control.append(envelope)
            assert self.mailbox.holds(envelope)
            self.consumer_wakes()
        else:
            self.mailbox.withdraw(lambda each: number_of(each) % 3 == withdrawn)
            self.model.control = [each for each in self.model.control if number_of(each) % 3 != withdrawn]

    # The consumer

    def pick(self, take: Callable[[], Envelope | None]) -> Envelope | None:
        """The next envelope, which is the model's too and keeps invariant 3."""
        low, control = bool(self.model.lanes[Priority.LOW]), bool(self.model.control)
        envelope = take()
        assert envelope is self.model.pop()
        if envelope is not None and not control:
            self.low_waits = self.low_waits + 1 if low and envelope.priority != Priority.LOW else 0
            if self.model.ageing is not None:
                assert self.low_waits <= self.model.ageing
            else:
                assert not any(self.model.lanes[p] for p in Priority if p < envelope.priority)
        return envelope

    @precondition(lambda self: self.consumer is None)
    @rule(times=st.integers(1, 4), keep=st.booleans())
    def pop(self, times: int, keep: bool) -> None:
        for _ in range(times):
            envelope = self.pick(self.mailbox.pop)
            if keep and envelope is not None:
                self.in_hand.append(envelope)

    @precondition(lambda self: self.consumer is None and self.in_hand)
    @rule()
    def put_back(self) -> None:
        while self.in_hand:
            self.put_back_last()

    def put_back_last(self) -> None:
        envelope = self.in_hand.pop()
        self.mailbox.put_back(envelope)
        if envelope.priority == CONTROL:
            self.model.control.insert(0, envelope)
        else:
            self.model.lanes[envelope.priority].insert(0, envelope)

    @rule(cancelled=st.booleans())
    def wait(self, cancelled: bool) -> None:
        """Begin to wait where there is no mail; or end it, woken or cancelled."""
        if self.consumer is None:
            if not (self.model.messages() or self.model.control or self.model.closed):
                consumer = self.mailbox.mail()
                assert isinstance(consumer, Signal)
                assert not consumer.done()
                self.consumer = consumer
        elif cancelled:
            self.consumer.cancel()
            self.consumer = None
        else:
            self.mailbox.wake()
            self.consumer_wakes()

    @precondition(lambda self: self.consumer is None)
    @rule()
    def look(self) -> None:
        """Take the next, and put it back at once."""
        envelope = self.pick(self.mailbox.take)
        if envelope is not None:
            self.in_hand.append(envelope)
            self.put_back_last()

    # Its life

    @rule(drain=st.booleans())
    def close_or_reopen(self, drain: bool) -> None:
        for _ in range(2):  # twice is once
            if self.model.closed:
                self.mailbox.reopen()
            else:
                self.mailbox.close()
        if not self.model.closed:
            self.consumer_wakes()
        self.model.closed = not self.model.closed
        if drain and self.model.closed:
            self.model.control = []
            assert list(self.mailbox.drain()) == list(iter(self.model.pop, None))
            self.low_waits = 0

    @invariant()
    def it_holds_what_the_model_holds(self) -> None:
        if not hasattr(self, "model"):
            return
        mailbox, model = self.mailbox, self.model
        assert len(mailbox) == len(model.messages())
        assert mailbox.closed == model.closed
        assert list(mailbox.control or ()) == model.control
        assert self.dropped == model.dropped
        assert mailbox.parked == (self.consumer is not None)
        if not model.closed:
            assert mailbox.room == model.capacity - len(model.messages())

    def teardown(self) -> None:
        if hasattr(self, "model"):
            self.mailbox.close()
            self.consumer_wakes()
            self.model.control = []
            assert list(self.mailbox.drain()) == list(iter(self.model.pop, None))


@pytest.mark.parametrize("overflow", Overflow)
def test_a_mailbox_does_as_its_model(overflow: Overflow) -> None:
    machine = type(f"{overflow.name.title()}Machine", (MailboxMachine,), {"overflow": overflow})
    run_state_machine_as_test(machine, settings=settings(stateful_step_count=25))


@pytest.mark.parametrize("ageing", [1, 2, 3, 7])
def test_with_ageing_nobody_starves(ageing: int) -> None:
    mailbox = new_mailbox(ageing=ageing)
    for priority in Priority:
        mailbox.offer(letter(0, priority))
    picks: list[int] = []
    for _ in range(40 * ageing):
        envelope = mailbox.pop()
        assert envelope is not None
        picks.append(envelope.priority)
        mailbox.offer(letter(0, envelope.priority))  # so that every lane has mail at every pick
    for since in range(32 * ageing):
        assert set(picks[since : since + 8 * ageing]) == set(Priority), picks
    counts = [picks.count(priority) for priority in Priority]
    assert counts[Priority.LOW] >= len(picks) // (ageing + 1)


def test_strict_priority_lets_the_least_urgent_wait_for_ever() -> None:
    mailbox = new_mailbox()
    mailbox.offer(letter(0, Priority.LOW))
    for number in range(1, 1000):
        mailbox.offer(letter(number, Priority.HIGH))
        envelope = mailbox.pop()
        assert envelope is not None
        assert number_of(envelope) == number


# Senders that wait for room -----------------------------------------------------------------------------------


class Send(NamedTuple):
    """One more sender; with a ttl (5 s) where `hurried`. It is let run until it waits or is done."""

    priority: Priority
    hurried: bool


class Cancel(NamedTuple):
    """Cancel the sender of this number, counted round."""

    number: int


Act = Literal["pop", "look", "put back", "close", "reopen", "run", "sleep"]
Step = Send | Cancel | Act

acts: st.SearchStrategy[Act] = st.sampled_from(["run", "pop", "pop", "look", "put back", "close", "reopen", "sleep"])
sends = st.builds(Send, priorities, st.booleans())
# Shorter schedules hardly ever fill a mailbox; what is not needed shrinks to "run".
steps: st.SearchStrategy[list[Step]] = st.lists(
    acts | sends | sends | st.builds(Cancel, st.integers(0, 9)), min_size=10, max_size=40
)


THREE = [Send(Priority.NORMAL, False), Send(Priority.NORMAL, True), Send(Priority.NORMAL, False)]


class Sender:
    """One `put` in a task of its own, and what it was told."""

    def __init__(self, mailbox: PriorityMailbox, envelope: Envelope) -> None:
        self.mailbox, self.envelope = mailbox, envelope
        self.scope = anyio.CancelScope()
        self.told: list[str] = []
        self.error: DeliveryError | None = None
        self.expected = {"accepted"}

    async def run(self) -> None:
        with self.scope:
            try:
                await self.mailbox.put(self.envelope)
                self.told.append("accepted")
            except DeliveryError as error:
                self.error = error
                self.told.append(type(error).__name__)
            except anyio.get_cancelled_exc_class():
                self.told.append("cancelled")
                raise


class Schedule:
    """Plays steps on a blocking mailbox, and knows at every step who must be let in, in which order."""

    def __init__(self, capacity: int, *, in_time: bool) -> None:
        self.capacity = capacity
        self.in_time = in_time  # else nothing sleeps, as time is real
        self.lanes: dict[int, list[Envelope]] = {priority: [] for priority in Priority}
        self.blocked: dict[int, list[Sender]] = {priority: [] for priority in Priority}
        self.senders: list[Sender] = []
        self.popped: list[Envelope] = []
        self.in_hand: list[Envelope] = []
        self.waits = self.waited = 0

    @contextmanager
    def waiting(self, address: Address, envelope: Envelope) -> Iterator[None]:
        assert (address, envelope) == (HERE, self.senders[-1].envelope)
        self.waits += 1
        try:
            yield
        finally:
            self.waited += 1

    def size(self) -> int:
        return sum(map(len, self.lanes.values()))

    async def play(self, steps: list[Step]) -> None:
        async with anyio.create_task_group() as tasks:
            self.loop: EventLoop = current_event_loop(tasks)
            self.mailbox = new_mailbox(self.loop.future, capacity=self.capacity, waiting=self.waiting)
            for step in steps:
                if isinstance(step, Send):
                    await self.send(tasks, step)
                elif isinstance(step, Cancel):
                    self.cancel(step.number)
                elif step in ("run", "sleep"):
                    await self.run(step)
                else:
                    getattr(self, step.replace(" ", "_"))()
                assert len(self.mailbox) == self.size()
            self.close()
        for sender in self.senders:
            assert len(sender.told) == 1, "one put, one result"
            assert sender.told[0] in sender.expected
            assert sender.error is None or sender.error.envelope is sender.envelope
        rest = list(self.mailbox.drain())
        assert rest == [envelope for lane in self.lanes.values() for envelope in lane]
        assert self.waits == self.waited

    async def send(self, tasks: TaskGroup, step: Send) -> None:
        envelope = letter(len(self.senders), step.priority)
        if step.hurried and self.in_time:
            envelope.deadline = self.loop.now() + 5.0
        sender = Sender(self.mailbox, envelope)
        self.senders.append(sender)
        waits = self.waits
        if self.mailbox.closed:
            sender.expected = {"ActorStopped"}
        elif self.size() < self.capacity:
            self.lanes[step.priority].append(envelope)
        else:
            self.blocked[step.priority].append(sender)
            sender.expected = {"still waiting"}
            waits += 1
        tasks.start_soon(sender.run)
        await self.settle()
        assert self.waits == waits, "waits exactly where there is no room"

    def cancel(self, number: int) -> None:
        if not self.senders:
            return
        sender = self.senders[number % len(self.senders)]
        lane = self.blocked[sender.envelope.priority]
        if sender in lane:
            lane.remove(sender)
            sender.expected = {"cancelled"}
        elif not sender.told:  # it has a result already, and hears of that or of this
            sender.expected |= {"cancelled"}
        sender.scope.cancel()

    def head(self) -> Envelope | None:
        return next((lane[0] for lane in self.lanes.values() if lane), None)

    def pop(self) -> None:
        head, envelope = self.head(), self.mailbox.pop()
        assert envelope is head
        if envelope is None:
            return
        self.lanes[envelope.priority].remove(envelope)
        self.in_hand.append(envelope)
        waiting = [sender for lane in self.blocked.values() for sender in lane]
        for sender in waiting[: max(0, self.capacity - self.size())]:
            self.blocked[sender.envelope.priority].remove(sender)
            sender.expected = {"accepted"}
            self.lanes[sender.envelope.priority].append(sender.envelope)

    def look(self) -> None:
        """Take one and put it back: nobody gets in meanwhile."""
        head, envelope = self.head(), self.mailbox.take()
        assert envelope is head
        if envelope is not None:
            self.mailbox.put_back(envelope)

    def put_back(self) -> None:
        if self.in_hand:
            envelope = self.in_hand.pop()
            self.mailbox.put_back(envelope)
            self.lanes[envelope.priority].insert(0, envelope)

    def close(self) -> None:
        self.mailbox.close()
        for lane in self.blocked.values():
            for sender in lane:
                sender.expected = {"ActorStopped"}
            lane.clear()

    def reopen(self) -> None:
        self.mailbox.reopen()

    async def run(self, step: Act) -> None:
        await self.settle()
        if step == "sleep" and self.in_time:
            await anyio.sleep(7.0)
            for lane in self.blocked.values():
                for sender in [*lane]:
                    if sender.envelope.deadline is not None and sender.envelope.deadline < self.loop.now():
                        lane.remove(sender)
                        sender.expected = {"MailboxFull"}

    async def settle(self) -> None:
        for _ in range(5):
            await checkpoint()
        for sender in self.senders:
            assert bool(sender.told) == (sender.expected != {"still waiting"})


@LOOPS
@given(steps=steps, capacity=st.integers(1, 3))
@example(steps=[*THREE, "sleep", "pop"], capacity=1)
@example(steps=[*THREE, "pop", "run", "pop", "look", "pop"], capacity=1)
@example(steps=[*THREE, "pop", Cancel(1), "close"], capacity=1)
@example(steps=[*THREE, Cancel(1), "pop", "run"], capacity=1)
@example(steps=[*THREE, Cancel(1), "close", "close", "reopen", "reopen", *THREE], capacity=2)
def test_each_blocked_sender_gets_one_result_and_nothing_is_lost(loop: str, steps: list[Step], capacity: int) -> None:
    run_on(loop, Schedule(capacity, in_time=loop == "trio").play, steps)


@pytest.mark.anyio
async def test_what_guards_the_waiting_may_refuse_it() -> None:
    def waiting(address: Address, envelope: Envelope) -> AbstractContextManager[None]:
        raise MailboxFull(f"no use to wait for {address}", envelope, depth=1)

    async with anyio.create_task_group() as tasks:
        mailbox = new_mailbox(current_event_loop(tasks).future, capacity=1, waiting=waiting)
        await mailbox.put(letter(1))
        with pytest.raises(MailboxFull, match="no use to wait"):
            await mailbox.put(letter(2))
        assert [number_of(each) for each in mailbox.drain()] == [1]
        await mailbox.put(letter(3))
        assert len(mailbox) == 1


# A consumer that waits ----------------------------------------------------------------------------------------

Deed = Literal["post", "cancel", "wake", "run"]
others: st.SearchStrategy[Deed] = st.sampled_from(["run", "post", "cancel", "wake"])
deeds: st.SearchStrategy[list[Priority | Deed]] = st.lists(others | priorities, min_size=6, max_size=30)


async def consume(schedule: list[Priority | Deed]) -> None:
    """Wait, then pop, with no await in between; now and then cancelled, and begun anew."""
    got: list[Envelope] = []
    async with anyio.create_task_group() as tasks:
        mailbox = new_mailbox(current_event_loop(tasks).future)
        over = anyio.Event()

        async def serve(scope: anyio.CancelScope, over: anyio.Event) -> None:
            with scope:
                while True:
                    while (envelope := mailbox.pop()) is not None:
                        got.append(envelope)
                    if mailbox.closed:
                        break
                    await mailbox.mail()
            assert not mailbox.parked
            over.set()

        def begin() -> anyio.CancelScope:
            tasks.start_soon(serve, scope := anyio.CancelScope(), over)
            return scope

        scope = begin()
        sent = []
        for number, deed in enumerate(schedule):
            match deed:
                case "run":
                    if scope.cancel_called:
                        await over.wait()
                        over = anyio.Event()
                        scope = begin()
                    for _ in range(3):
                        await checkpoint()
                case "wake":
                    mailbox.wake()
                case "cancel":
                    scope.cancel()
                case "post":
                    sent.append(letter(number))
                    mailbox.post(sent[-1])
                case _:
                    sent.append(letter(number, deed))
                    assert mailbox.offer(sent[-1])
        if scope.cancel_called:
            await over.wait()
            begin()
        mailbox.close()
    assert sorted(got, key=number_of) == sent
    for priority in (CONTROL, *Priority):
        lane = [number_of(each) for each in got if each.priority == priority]
        assert lane == sorted(lane)


@LOOPS
@given(schedule=deeds)
def test_a_consumer_misses_nothing_however_often_it_is_cancelled(loop: str, schedule: list[Priority | Deed]) -> None:
    run_on(loop, consume, schedule)


# One by one ---------------------------------------------------------------------------------------------------


def test_an_ask_is_answered_at_once_only_by_a_consumer_that_waits_and_has_no_mail() -> None:
    mailbox = new_mailbox()
    answered: list[int] = []

    def answer(envelope: Envelope) -> bool:
        answered.append(number_of(envelope))
        return True

    mailbox.at_once = answer
    mailbox.offer(letter(1, reply_by=1.0))  # nobody waits
    assert mailbox.pop() is not None
    waiting = mailbox.mail()
    mailbox.offer(letter(2, reply_by=1.0))
    assert (answered, len(mailbox), mailbox.parked, waiting.done()) == ([2], 0, True, False)
    mailbox.offer(letter(3))  # no ask
    mailbox.offer(letter(4, reply_by=1.0))  # after 3 in the mailbox
    assert (answered, len(mailbox), mailbox.parked, waiting.done()) == ([2], 2, False, True)
    mailbox.mail()  # with mail that it cannot take yet
    mailbox.offer(letter(5, reply_by=1.0))
    assert (answered, len(mailbox), mailbox.parked) == ([2], 3, False)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"capacity": 0}, ValueError, "capacity=0"),
        ({"capacity": -1}, ValueError, "capacity=-1"),
        ({"capacity": 1.5}, ValueError, r"capacity=1\.5"),
        ({"ageing": 0}, ValueError, "ageing=0"),
        ({"overflow": "block"}, TypeError, r"overflow='block': one of Overflow\.BLOCK, "),
    ],
)
def test_options_that_make_no_sense_are_errors(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        new_mailbox(**options)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (-1, ValueError),
        (-0.1, ValueError),
        (float("nan"), ValueError),
        ("1", TypeError),
        (None, TypeError),
        (True, TypeError),
    ],
)
def test_what_is_no_time_in_seconds_is_an_error(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"shutdown=.*: seconds, "):
        check_seconds("shutdown", value)
    for fine in (0, 1, 0.5, inf):
        check_seconds("shutdown", fine)
