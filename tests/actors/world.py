"""`World`: plays a schedule and witnesses what becomes of each message.

It is told of every send, accept, handler start and end, fate and dead letter as it happens, keeps its own idea of
where each message is, and notes every broken promise. `World.verify` then compares all the witnesses: what the
sender saw, what the handlers saw, receipts, dead letters, the middleware, and what is left in the system.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from actors import (
    Actor,
    ActorNotFound,
    ActorRef,
    ActorsError,
    ActorStopped,
    ActorSystem,
    Address,
    AskCycle,
    AskTimeout,
    Backoff,
    ChildSpec,
    DeadLetter,
    DeliveryError,
    Envelope,
    HandlerFailed,
    MailboxFull,
    Middleware,
    Outcome,
    Priority,
    Receipt,
    Refusal,
    TransportClosed,
    handles,
)
from actors.cell import Cell
from actors.testing import run_virtual
from tests.actors.schedules import (
    ATTEMPTS,
    CONCURRENCY,
    Async,
    AsyncThrice,
    Beside,
    BesideTwice,
    Do,
    Order,
    Pause,
    Plain,
    PlainTwice,
    Schedule,
    Send,
    Setup,
    Step,
    Unknown,
    Work,
)
from transport.middleware import Accept, Deliver

FATES = {"failed": "failed", "killed": "failed", "expired": "expired", "abandoned": "expired"}


class Broken(Exception):
    """What a failing handler raises."""


class No(Refusal):
    """What a refusing handler raises."""


@dataclass
class Record:
    """What is known of one message.

    `sent` and `over` are the positions, among all events, where its send began and ended. `state` is where the world
    believes it to be. `ends` says how each run of its handler ended: returned, refused, raised, cancelled, stashed.
    """

    id: int
    step: Send
    sender: str
    target: Address
    sent: int
    deadline: float
    over: int | None = None
    accepted: bool = False
    answer: int | None = None
    error: ActorsError | None = None
    receipt: Receipt | None = None
    state: Literal["sent", "queued", "running", "stashed", "over"] = "sent"
    starts: int = 0
    ends: list[str] = field(default_factory=list)
    set_aside: bool = False
    fates: list[Outcome] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)

    @property
    def reason(self) -> str | None:
        """How it ended: handled, refused, the reason of its dead letter, None where it was never accepted."""
        if self.letters:
            return self.letters[0].reason
        return {"returned": "handled", "refused": "refused"}.get(self.ends[-1]) if self.ends else None


class World(Middleware):
    """Everything that happens in one run, in one order; itself the middleware that sees accept and settled."""

    system: ActorSystem

    def __init__(self, schedule: Schedule, *, virtual: bool) -> None:
        self.schedule = schedule
        self.virtual = virtual
        self.records: list[Record] = []
        self.cells: dict[Address, Cell] = {}
        self.broken: list[str] = []
        self.events = 0
        self.in_flight: dict[Address, Counter[type[Work]]] = defaultdict(Counter)
        self.passed_over: Counter[Address] = Counter()

    def must(self, condition: bool, promise: str) -> None:
        """Note a broken promise; raised here it would only be one more failing handler."""
        if not condition:
            self.broken.append(promise)

    def event(self) -> int:
        """The position of what happens now."""
        self.events += 1
        return self.events

    def at(self, address: Address) -> Iterator[Record]:
        """Every message for `address`."""
        return (record for record in self.records if record.target == address)

    def setup(self, address: Address) -> Setup:
        return self.schedule.actors[int(address.name)]

    def ref(self, to: int) -> ActorRef[Host]:
        return self.system.ref(f"/crew/{to % len(self.schedule.actors)}", Host)

    # What senders do and see -----------------------------------------------------------------------------

    async def perform(self, step: Step, sender: str) -> None:
        """One step that concerns others."""
        match step:
            case Pause(length):
                await self.pause(length)
            case Send(patience=None):
                await self.send(step, sender)
            case Send(patience=int(patience)):
                async with anyio.create_task_group() as sending:
                    sending.start_soon(self.give_up, patience, sending.cancel_scope)
                    await self.send(step, sender)
                    sending.cancel_scope.cancel()
            case Order("stop", to):
                await self.ref(to).stop(timeout=3.0)
            case Order("kill", to):
                self.ref(to).kill()

    async def pause(self, length: int) -> None:
        if self.virtual and length:
            await anyio.sleep(length)
        else:
            for _ in range(length + 1):
                await anyio.lowlevel.checkpoint()

    async def give_up(self, patience: int, scope: anyio.CancelScope) -> None:
        await self.pause(patience)
        scope.cancel()

    async def send(self, step: Send, sender: str) -> None:
        ref = self.ref(step.to)
        limit = float(step.limit) if self.virtual and step.limit is not None else None
        if step.how == "ask" and limit is None:
            limit = 6.0 if self.virtual else 60.0
        deadline = inf if limit is None else anyio.current_time() + limit
        record = Record(len(self.records), step, sender, ref.address, self.event(), deadline)
        self.records.append(record)
        message = step.plan.kind(record.id, step.plan)
        try:
            if step.how == "ask":
                record.answer = await ref.ask(message, timeout=limit or 0.0, priority=step.priority)
            elif step.how == "receipt":
                record.receipt = await ref.tell(message, ttl=limit, priority=step.priority, receipt=True)
                self.accepted(record)
            else:
                await ref.tell(message, ttl=limit, priority=step.priority)
                self.accepted(record)
        except ActorsError as error:
            record.error = error
        finally:
            record.over = self.event()

    def accepted(self, record: Record) -> None:
        record.accepted = True
        if record.state == "sent":
            record.state = "queued"
        if (cell := self.system.cells.get(record.target)) is not None:
            put_back = sum(r.state in ("queued", "stashed") and r.starts > 0 for r in self.at(record.target))
            self.must(len(cell.mailbox) - put_back <= cell.mailbox.capacity, "12: more than the capacity")

    # What the middleware and the dead letters say --------------------------------------------------------

    async def accept(self, envelope: Envelope, next: Accept) -> None:  # noqa: A002
        if self.schedule.middleware == "slow":
            await anyio.lowlevel.checkpoint()
        await next(envelope)
        if isinstance(envelope.message, Work):
            self.accepted(self.records[envelope.message.id])

    async def deliver(self, envelope: Envelope, next: Deliver) -> Any:  # noqa: A002
        return await next(envelope)

    def settled(self, envelope: Envelope, outcome: Outcome) -> None:
        if isinstance(envelope.message, Work):
            self.records[envelope.message.id].fates.append(outcome)

    def dead_letter(self, letter: DeadLetter) -> None:
        assert isinstance(letter.message, Work)
        record = self.records[letter.message.id]
        self.must(letter.address == record.target, "a dead letter says where the message was sent")
        record.letters.append(letter)
        record.state = "over"
        if record.step.priority == Priority.LOW:
            self.passed_over[record.target] = 0  # one of them has had its turn

    # What the handlers see -------------------------------------------------------------------------------

    @contextmanager
    def handling(self, actor: Host, work: Work) -> Iterator[Record]:
        """Around one run of a handler."""
        record, address, kind, attempt = self.records[work.id], actor.ref.address, type(work), actor.envelope.attempt
        self.may_start(record, address, kind)
        self.must(attempt == record.ends.count("raised") + 1, "7: attempts are counted from 1")
        record.starts += 1
        record.state = "running"
        self.in_flight[address][kind] += 1
        end, set_aside = "cancelled", record.set_aside
        try:
            yield record
            end = "returned" if record.set_aside == set_aside else "stashed"
        except No:
            end = "refused"
            raise
        except Broken:
            end = "raised"
            raise
        finally:
            self.in_flight[address][kind] -= 1
            record.ends.append(end)
            again = end == "raised" and attempt < ATTEMPTS[kind]
            record.state = "queued" if again else "stashed" if end == "stashed" else "over"

    def may_start(self, record: Record, address: Address, kind: type[Work]) -> None:
        must, in_flight = self.must, self.in_flight[address]
        must(record.target == address, "1: handled where it was not sent")
        must(not record.letters and not record.fates, "1: handled after its fate")
        must(record.state in ("sent", "queued"), f"1: started while {record.state}")
        must(anyio.current_time() < record.deadline, "5: started after its deadline")
        if record.step.how == "ask":
            must(record.over is None, "6: started although its asker has gone")
        else:
            must(record.over is None or record.accepted, "1: handled, though its tell raised")
        if kind in CONCURRENCY:
            must(in_flight[kind] < CONCURRENCY[kind], "4: more at once than declared")
        else:
            must(not any(n for each, n in in_flight.items() if each not in CONCURRENCY), "4: two turns at a time")
        if not record.starts:
            must(not any(self.overtaken(r, by=record) for r in self.at(address)), "2: overtaken")
        self.may_be_next(record, address, kind)

    def overtaken(self, record: Record, *, by: Record) -> bool:
        """Whether it was sent before, by the same sender with the same priority, and still waits for its first turn."""
        same = (record.sender, record.step.priority) == (by.sender, by.step.priority)
        before = record.over is not None and record.over < by.sent
        return same and before and record.state == "queued" and not record.starts

    def may_be_next(self, record: Record, address: Address, kind: type[Work]) -> None:
        """Invariant 3. A concurrent handler starts in a task of its own, a little later than it was picked."""
        queued = [r for r in self.at(address) if r.state == "queued" and r is not record]
        low = [r.step.plan.kind for r in queued if r.step.priority == Priority.LOW]
        ageing = self.setup(address).ageing
        if record.step.priority == Priority.LOW or not low:
            self.passed_over[address] = 0
        elif kind not in CONCURRENCY and not CONCURRENCY.keys() & low:
            self.passed_over[address] += 1
        if ageing is not None:
            self.must(self.passed_over[address] <= ageing, f"3: LOW waited more than {ageing} picks")
        elif kind not in CONCURRENCY:
            self.must(not any(r.step.priority < record.step.priority for r in queued), "3: strict priority")

    def in_hook(self, actor: Host) -> None:
        self.must(not self.in_flight[actor.ref.address].total(), "4: a hook beside a handler")

    def began(self, actor: Host) -> None:
        self.in_hook(actor)
        self.cells[actor.ref.address] = actor._cell
        self.unstashed(actor)  # at the latest when its last incarnation ended

    def unstashed(self, actor: Host) -> None:
        for record in self.at(actor.ref.address):
            if record.state == "stashed":
                record.state = "queued"

    # Whether they all agree ------------------------------------------------------------------------------

    def verify(self) -> None:
        assert self.broken == []
        for record in self.records:
            self.verify_fate(record)
            self.verify_handling(record)
            self.verify_ask(record) if record.step.how == "ask" else self.verify_tell(record)
        letters = Counter(letter.reason for record in self.records for letter in record.letters)
        assert self.system.dead_letters == letters
        assert not self.system.cells
        assert not len(self.system.deadlines), "6: a deadline is left behind"
        for cell in self.cells.values():
            assert not len(cell.mailbox)
            assert not cell.mailbox.control
            assert not any(cell.mailbox.blocked or ())
            assert not any((cell._stash, cell._turns, cell._timers, cell.envelope, cell.waits_for))

    def verify_fate(self, record: Record) -> None:
        """One fate for what was accepted, none for what was not, and every witness says the same."""
        completed = sum(end in ("returned", "refused") for end in record.ends)
        fates = completed + len(record.letters)
        assert fates == 1 if record.accepted else fates <= 1  # without middleware nobody knows which asks were accepted
        if self.schedule.middleware == "none":
            return
        assert len(record.fates) == fates == record.accepted
        for outcome in record.fates:
            if record.letters:
                assert outcome.fate == FATES.get(record.letters[0].reason, "dead-lettered")
                assert (outcome.reason, outcome.error) == (record.letters[0].reason, record.letters[0].cause)
            else:
                assert outcome.fate == "handled"
                assert (outcome.reason == "refused") == (record.reason == "refused") == isinstance(outcome.error, No)

    def verify_handling(self, record: Record) -> None:
        """The fate fits what its handler did, and it was tried as often as its handler allows."""
        raised, allowed = record.ends.count("raised"), ATTEMPTS[record.step.plan.kind]
        last = record.ends[-1] if record.ends else None
        assert len(record.ends) == record.starts
        assert raised <= allowed
        match record.letters[0].reason if record.letters else "handled":
            case "handled":
                assert last in ("returned", "refused", None)
            case "failed":
                assert last == "raised"
                assert raised == allowed
                assert isinstance(record.letters[0].cause, Broken)
            case "killed":
                assert last in ("cancelled", "raised", None)  # a kill wins
            case "unhandled":
                assert record.step.plan.kind is Unknown
            case _:
                assert last in ("raised", "stashed", None)

    def verify_tell(self, record: Record) -> None:
        """Accepted or raised, never both, and the receipt knows."""
        assert not (record.accepted and record.error)
        assert record.accepted or not record.starts
        assert record.error is None or isinstance(record.error, DeliveryError | TransportClosed)
        if record.receipt is not None:
            outcome = record.receipt._outcome
            assert outcome is not None
            assert (outcome.reason or "handled") == record.reason

    def verify_ask(self, record: Record) -> None:
        """The asker got what its message met, or gave up before."""
        match record.error:
            case None if record.answer is not None:
                assert (record.answer, record.reason) == (record.id, "handled")
            case None:
                assert record.step.patience is not None or record.sender.startswith("/"), "nobody cancelled it"
            case HandlerFailed() as error:
                assert record.reason == ("killed" if error.kind == "Killed" else "failed")
                assert record.reason == "killed" or error.__cause__ is record.letters[0].cause
            case No():
                assert record.reason == "refused"
            case AskTimeout():
                assert self.virtual
            case AskCycle() | TransportClosed():
                assert record.reason is None
            case MailboxFull():
                assert record.reason in ("dropped", None)
            case ActorStopped() | ActorNotFound():
                assert record.reason in ("stopped", None)
            case error:
                assert (type(error), record.reason) == (DeliveryError, "unhandled")


class Host(Actor):
    """Does what each message's plan says."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def on_start(self) -> None:
        self.world.began(self)

    async def on_stop(self, reason: str) -> None:
        self.world.in_hook(self)

    async def on_restart(self, error: BaseException) -> None:
        self.world.in_hook(self)

    @handles(Async)
    async def one(self, work: Async) -> int:
        return await self.follow(work)

    @handles(AsyncThrice, attempts=3)
    async def thrice(self, work: AsyncThrice) -> int:
        return await self.follow(work)

    @handles(Beside, concurrency=2)
    async def beside(self, work: Beside) -> int:
        return await self.follow(work)

    @handles(BesideTwice, concurrency=2, attempts=2)
    async def beside_twice(self, work: BesideTwice) -> int:
        return await self.follow(work)

    @handles(Plain)
    def plain(self, work: Plain) -> int:
        return self.follow_now(work)

    @handles(PlainTwice, attempts=2)
    def plain_twice(self, work: PlainTwice) -> int:
        return self.follow_now(work)

    async def follow(self, work: Work) -> int:
        with self.world.handling(self, work) as record:
            for step in work.plan.steps:
                if isinstance(step, Do):
                    self.do(step, record)
                elif self.world.virtual or self.ends(step):
                    await self.world.perform(step, self.ref.address)
            return self.end(record)

    def follow_now(self, work: Work) -> int:
        with self.world.handling(self, work) as record:
            for step in work.plan.steps:
                if isinstance(step, Do):
                    self.do(step, record)
                elif isinstance(step, Order):
                    self.world.ref(step.to).kill()
            return self.end(record)

    def ends(self, step: Step) -> bool:
        """Without time nothing ends a circle: mail goes only upwards, nobody waits for a stop, no ask is stashed."""
        match step:
            case Send(to=to):
                return to % len(self.world.schedule.actors) > int(self.ref.address.name)
            case Order("stop"):
                return False
        return True

    def do(self, step: Do, record: Record) -> None:
        match step.what:
            case "stash" if not record.set_aside and (self.world.virtual or record.step.how != "ask"):
                with suppress(MailboxFull):
                    self.stash()
                    record.set_aside = True  # once: two that unstash each other would go on for ever
            case "unstash":
                self.unstash()
                self.world.unstashed(self)
            case "finish":
                self.stop()

    def end(self, record: Record) -> int:
        plan = record.step.plan
        if plan.end == "raise" and record.ends.count("raised") < plan.failures:
            raise Broken(record.id)
        if plan.end == "refuse":
            raise No(str(record.id))
        return record.id


def play(schedule: Schedule, *, virtual: bool) -> World:
    """Run the schedule to its end, on trio in virtual time or on asyncio without time, and look at what happened."""
    world = World(schedule, virtual=virtual)
    if virtual:
        run_virtual(perform, world)
    else:
        anyio.run(perform, world)
    world.verify()
    return world


async def perform(world: World) -> None:
    schedule = world.schedule

    async def follow(script: tuple[Step, ...], sender: str) -> None:
        for step in script:
            await world.perform(step, sender)

    def start(tasks: TaskGroup) -> None:
        for number, script in enumerate(schedule.senders):
            tasks.start_soon(follow, script, f"sender {number}")

    with anyio.fail_after(1_000 if world.virtual else 20):  # a hang
        async with anyio.create_task_group() as outside:
            world.system = ActorSystem(
                middleware=() if schedule.middleware == "none" else [world], drain=float(schedule.drain)
            )
            world.system.subscribe(DeadLetter, world.dead_letter)
            async with world.system:
                children = [spec(world, number, setup) for number, setup in enumerate(schedule.actors)]
                await world.system.supervise(*children, strategy=schedule.strategy, intensity=10_000, name="crew")
                if schedule.leave_after is None:
                    async with anyio.create_task_group() as inside:
                        start(inside)
                else:
                    start(outside)
                    await world.pause(schedule.leave_after)


def spec(world: World, number: int, setup: Setup) -> ChildSpec[Host]:
    backoff = Backoff(setup.backoff, setup.backoff, jitter=0.0) if world.virtual and setup.backoff else None
    return ChildSpec(
        Host, world, name=str(number), restart=setup.restart, backoff=backoff, shutdown=2.0,
        capacity=setup.capacity, overflow=setup.overflow, ageing=setup.ageing,
    )  # fmt: skip
