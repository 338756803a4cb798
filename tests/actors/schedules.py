"""Generated schedules of senders and actors, and the `World` that witnesses what becomes of each message.

A schedule is data; `play` runs it in virtual time or, without time, on asyncio. The world is told of every
send, accept, handler start and end, fate and dead letter as it happens, keeps its own idea of where each message
is, and fails the run at the first thing that must not be. `World.verify` compares all the witnesses at the end.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, TypeVar

import anyio
from hypothesis import strategies as st
from trio.testing import MockClock

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
    Message,
    Middleware,
    Outcome,
    Overflow,
    Priority,
    Receipt,
    Refusal,
    Restart,
    Strategy,
    TransportClosed,
    handles,
)
from actors.cell import Cell
from transport.middleware import Accept, Deliver

T = TypeVar("T")

# What a schedule says -----------------------------------------------------------------------------------------


class Work(Message[int]):
    """Message number `id`; its handler does what the plan says and replies with `id`."""

    id: int
    plan: Plan


class Async(Work): ...


class AsyncThrice(Work): ...


class Plain(Work): ...


class PlainTwice(Work): ...


class Beside(Work): ...


class BesideTwice(Work): ...


class Unknown(Work): ...


ATTEMPTS = {Async: 1, AsyncThrice: 3, Plain: 1, PlainTwice: 2, Beside: 1, BesideTwice: 2, Unknown: 0}
AT_ONCE = {Beside: 2, BesideTwice: 2}


@dataclass(frozen=True)
class Plan:
    """What the handler of one message does: steps, then an end; "raise" only for the first `failures` attempts."""

    kind: type[Work]
    steps: tuple[Step, ...] = ()
    end: Literal["return", "raise", "refuse"] = "return"
    failures: int = 3


@dataclass(frozen=True)
class Pause:
    """Seconds of virtual time, or as many checkpoints and one."""

    length: int


@dataclass(frozen=True)
class Send:
    """A tell with a ttl, or an ask with a timeout; given up after `patience`."""

    how: Literal["tell", "receipt", "ask"]
    to: int
    plan: Plan
    priority: Priority = Priority.NORMAL
    limit: int | None = None
    patience: int | None = None


@dataclass(frozen=True)
class Order:
    """Stop an actor (drain first), or kill it."""

    how: Literal["stop", "kill"]
    to: int


@dataclass(frozen=True)
class Do:
    """What an actor does to itself."""

    what: Literal["stash", "unstash", "finish"]


Step = Pause | Send | Order | Do


@dataclass(frozen=True)
class Host:
    """One actor: its mailbox and how it is supervised."""

    capacity: int = 100
    overflow: Overflow = Overflow.BLOCK
    ageing: int | None = None
    restart: Restart = Restart.PERMANENT
    backoff: int | None = None


@dataclass(frozen=True)
class Schedule:
    hosts: tuple[Host, ...]
    senders: tuple[tuple[Step, ...], ...]
    strategy: Strategy = Strategy.ONE_FOR_ONE
    middleware: Literal["none", "quick", "slow"] = "quick"
    drain: int = 100
    leave_after: int | None = None
    """Leave the system after this pause, whether or not the senders have finished."""


def weighted(*choices: tuple[int, st.SearchStrategy[T]]) -> st.SearchStrategy[T]:
    """One of these, the first as often as it says."""
    return st.sampled_from([strategy for weight, strategy in choices for _ in range(weight)]).flatmap(lambda each: each)


_pauses = st.integers(0, 3).map(Pause)
_orders = st.builds(Order, how=st.sampled_from(["stop", "kill"]), to=st.integers(0, 2))


def _sends(plans: st.SearchStrategy[Plan]) -> st.SearchStrategy[Send]:
    return st.builds(
        Send,
        how=st.sampled_from(["tell", "receipt", "ask"]),
        to=st.integers(0, 2),
        plan=plans,
        priority=st.sampled_from([Priority.NORMAL, *Priority]),
        limit=weighted((2, st.none()), (1, st.integers(0, 4))),
        patience=weighted((4, st.none()), (1, st.integers(0, 3))),
    )


def _plans(steps: st.SearchStrategy[Step]) -> st.SearchStrategy[Plan]:
    return st.builds(
        Plan,
        kind=st.sampled_from(list(ATTEMPTS)),
        steps=st.lists(steps, max_size=3).map(tuple),
        end=st.sampled_from(["return", "return", "raise", "refuse"]),
        failures=st.integers(1, 3),
    )


_self = st.sampled_from([Do("stash"), Do("unstash")] * 4 + [Do("finish")])
_waits = weighted((3, _pauses), (1, _self))
_inner = _sends(_plans(_waits))
_outer = _sends(_plans(weighted((4, _waits), (8, _inner), (1, _orders))))
_script = weighted((30, _outer), (6, _pauses), (1, _orders))

schedules = st.builds(
    Schedule,
    hosts=st.lists(
        st.builds(
            Host,
            capacity=st.sampled_from([100, 1, 2, 3]),
            overflow=st.sampled_from(Overflow),
            ageing=st.none() | st.integers(1, 3),
            restart=st.sampled_from([Restart.PERMANENT] * 3 + [*Restart]),
            backoff=st.none() | st.integers(1, 2),
        ),
        min_size=1,
        max_size=3,
    ).map(tuple),
    senders=st.lists(st.lists(_script, min_size=2, max_size=10).map(tuple), min_size=1, max_size=3).map(tuple),
    strategy=st.sampled_from(Strategy),
    middleware=st.sampled_from(["quick", "none", "slow"]),
    drain=st.sampled_from([100, 5, 0]),
    leave_after=weighted((5, st.none()), (1, st.integers(0, 8))),
)
"""One to three actors, one to three senders of up to eight steps each; small numbers, so that instants collide."""


# What happens -------------------------------------------------------------------------------------------------


class Broken(Exception):
    """What a failing handler raises."""


class No(Refusal):
    """What a refusing handler raises."""


@dataclass
class Record:
    """What is known of one message. `state` is where the world believes it to be."""

    id: int
    step: Send
    sender: str
    target: Address
    sent: int
    deadline: float
    state: Literal["sent", "queued", "running", "stashed", "over"] = "sent"
    over: int | None = None
    """When the send returned or raised."""
    accepted: bool = False
    answer: int | None = None
    error: ActorsError | None = None
    receipt: Receipt | None = None
    starts: list[int] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    """For each start: returned, refused, raised, cancelled, stashed."""
    set_aside: bool = False
    """Whether it has been stashed; once is enough."""
    fates: list[Outcome] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)


class World(Middleware):
    """Everything that happens in one run, in one order; itself the middleware that sees accept and settled."""

    def __init__(self, schedule: Schedule, *, virtual: bool) -> None:
        self.schedule = schedule
        self.virtual = virtual
        self.records: list[Record] = []
        self.cells: dict[Address, Cell] = {}
        self.in_flight: dict[Address, Counter[type[Work]]] = defaultdict(Counter)
        self.passed: Counter[Address] = Counter()
        self.now = 0  # the position of the next event
        self.violations: list[str] = []

    def tick(self) -> int:
        self.now += 1
        return self.now

    def must(self, condition: bool, promise: str) -> None:
        """Note a broken promise; raised here it would only be one more failing handler."""
        if not condition:
            self.violations.append(promise)

    def at(self, address: Address) -> Iterator[Record]:
        """Every message for `address`."""
        return (record for record in self.records if record.target == address)

    def host(self, address: Address) -> Host:
        return self.schedule.hosts[int(address[-1])]

    async def pause(self, length: int) -> None:
        if self.virtual and length:
            await anyio.sleep(length)
        else:
            for _ in range(length + 1):
                await anyio.sleep(0)

    # The sender's side

    async def perform(self, step: Step, sender: str) -> None:
        """One step of a sender, or of a handler, that concerns others."""
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
                await self.ref(to).stop(timeout=3)
            case Order("kill", to):
                self.ref(to).kill()

    async def give_up(self, patience: int, scope: anyio.CancelScope) -> None:
        await self.pause(patience)
        scope.cancel()

    def ref(self, to: int) -> ActorRef[Host_]:
        return self.system.ref(f"/crew/{to % len(self.schedule.hosts)}", Host_)

    async def send(self, step: Send, sender: str) -> None:
        """Send, and write down what the sender sees."""
        ref = self.ref(step.to)
        limit = None if step.limit is None or not self.virtual else float(step.limit)
        record = Record(len(self.records), step, sender, ref.address, self.tick(), float("inf"))
        self.records.append(record)
        message = step.plan.kind(record.id, step.plan)
        timeout = 6.0 if limit is None and self.virtual else 60.0 if limit is None else limit
        if step.how == "ask":
            limit = timeout
        if limit is not None:
            record.deadline = anyio.current_time() + limit
        try:
            if step.how == "ask":
                record.answer = await ref.ask(message, timeout=timeout, priority=step.priority)
            elif step.how == "receipt":
                record.receipt = await ref.tell(message, ttl=limit, priority=step.priority, receipt=True)
            else:
                await ref.tell(message, ttl=limit, priority=step.priority)
            if step.how != "ask":
                self.is_accepted(record)
        except ActorsError as error:
            record.error = error
            error.__traceback__ = None
        finally:
            record.over = self.tick()

    def is_accepted(self, record: Record) -> None:
        record.accepted = True
        if record.state == "sent":
            record.state = "queued"
        if (cell := self.system.cells.get(record.target)) is not None:
            put_back = sum(r.state in ("queued", "stashed") and bool(r.starts) for r in self.at(record.target))
            self.must(len(cell.mailbox) - put_back <= cell.mailbox.capacity, "12: capacity exceeded")

    # As middleware, and as the one whom dead letters are told to

    async def accept(self, envelope: Envelope, next: Accept) -> None:  # noqa: A002
        if self.schedule.middleware == "slow":
            await anyio.sleep(0)
        await next(envelope)
        if isinstance(envelope.message, Work):
            self.is_accepted(self.records[envelope.message.id])

    async def deliver(self, envelope: Envelope, next: Deliver) -> Any:  # noqa: A002
        return await next(envelope)

    def settled(self, envelope: Envelope, outcome: Outcome) -> None:
        if isinstance(envelope.message, Work):
            record = self.records[envelope.message.id]
            record.fates.append(outcome)
            record.state = "over"

    def dead_letter(self, letter: DeadLetter) -> None:
        assert isinstance(letter.message, Work)
        record = self.records[letter.message.id]
        assert letter.address == record.target
        record.letters.append(letter)
        record.state = "over"
        if record.step.priority == Priority.LOW:
            self.passed[record.target] = 0  # one of them has had its turn

    # The actor's side

    @contextmanager
    def handling(self, actor: Host_, work: Work) -> Iterator[Record]:
        """Around one run of a handler: what must hold when it starts, and how it ended."""
        record, address, kind = self.records[work.id], actor.ref.address, type(work)
        self.may_start(record, address, kind)
        attempt = actor.envelope.attempt
        self.must(attempt == record.ends.count("raised") + 1, "7: attempts are counted from 1")
        record.starts.append(self.tick())
        record.state = "running"
        self.in_flight[address][kind] += 1
        end, aside_before = "cancelled", record.set_aside
        try:
            yield record
            end = "returned" if record.set_aside == aside_before else "stashed"
        except No:
            end = "refused"
            raise
        except Broken:
            end = "raised"
            raise
        finally:
            self.in_flight[address][kind] -= 1
            record.ends.append(end)
            if end == "raised" and attempt < ATTEMPTS[kind]:
                record.state = "queued"
            else:
                record.state = "stashed" if end == "stashed" else "over"

    def may_start(self, record: Record, address: Address, kind: type[Work]) -> None:
        must = self.must
        must(record.target == address, "1: handled where it was not sent")
        must(not record.letters and not record.fates, "1: handled after its fate")
        must(record.state in ("sent", "queued"), f"1: started while {record.state}")
        must(anyio.current_time() < record.deadline, "5: started after its deadline")
        if record.step.how == "ask":
            must(record.over is None, "6: started although its asker has gone")
        else:
            must(record.over is None or record.accepted, "1: handled, though its tell raised")
        running = self.in_flight[address]
        if kind in AT_ONCE:
            must(running[kind] < AT_ONCE[kind], "4: more at once than declared")
        else:
            must(not sum(n for each, n in running.items() if each not in AT_ONCE), "4: two turns at a time")
        if not record.starts:
            must(not any(self.overtakes(record, r) for r in self.at(address)), "2: overtaken")
        self.may_be_next(record, address, kind)

    def overtakes(self, record: Record, earlier: Record) -> bool:
        """Whether `earlier` should have been started first."""
        same = (earlier.sender, earlier.step.priority) == (record.sender, record.step.priority)
        in_turn = earlier.over is not None and earlier.over < record.sent
        return same and in_turn and earlier.state == "queued" and not earlier.starts

    def may_be_next(self, record: Record, address: Address, kind: type[Work]) -> None:
        """Invariant 3. A handler that shares its actor starts in a task of its own, later than it was picked."""
        queued = [r for r in self.at(address) if r.state == "queued" and r is not record]
        low = [r.step.plan.kind for r in queued if r.step.priority == Priority.LOW]
        ageing = self.host(address).ageing
        if record.step.priority == Priority.LOW or not low:
            self.passed[address] = 0
        elif kind not in AT_ONCE and not AT_ONCE.keys() & low:
            self.passed[address] += 1
        if ageing is not None:
            self.must(self.passed[address] <= ageing, f"3: LOW waited more than {ageing} picks")
        elif kind not in AT_ONCE:
            self.must(not any(r.step.priority < record.step.priority for r in queued), "3: strict priority")

    def quiet(self, actor: Host_) -> None:
        """Called in the hooks, beside which no handler may be in flight."""
        self.must(not self.in_flight[actor.ref.address].total(), "4: a hook beside a handler")

    def began(self, actor: Host_) -> None:
        self.quiet(actor)
        self.cells.setdefault(actor.ref.address, actor._cell)
        self.unstashed(actor)

    def unstashed(self, actor: Host_) -> None:
        for record in self.at(actor.ref.address):
            if record.state == "stashed":
                record.state = "queued"

    # At the end

    def verify(self) -> None:
        """All witnesses agree on the one fate of each message; nothing is left behind."""
        assert self.violations == []
        for record in self.records:
            self.verify_fate(record)
            self.verify_sender(record)
        letters = Counter(letter.reason for record in self.records for letter in record.letters)
        assert self.system.dead_letters == letters
        assert not self.system.cells
        assert not len(self.system.deadlines), "6: a deadline was left behind"
        for address, cell in self.cells.items():
            mailbox = cell.mailbox
            assert not len(mailbox), f"{address} still has mail"
            assert not mailbox.control, f"{address} still has control mail"
            assert not any(mailbox.blocked or ()), f"{address} still has waiting senders"
            assert not (cell._stash or cell._turns or cell._timers or cell.envelope), address

    def verify_fate(self, record: Record) -> None:
        completed = [end for end in record.ends if end in ("returned", "refused")]
        assert len(record.ends) == len(record.starts)
        assert len(completed) + len(record.letters) <= 1, "1: more than one fate"
        if record.accepted:
            assert len(completed) + len(record.letters) == 1, "1: no fate"
        if self.schedule.middleware != "none":
            assert len(record.fates) == record.accepted, "1: settled once for each accepted message"
            if record.letters:
                letter, outcome = record.letters[0], record.fates[0]
                assert (letter.reason, letter.cause) == (outcome.reason, outcome.error)
                assert outcome.fate == FATES.get(letter.reason, "dead-lettered")
            elif record.accepted:
                refused = completed == ["refused"]
                assert record.fates[0].fate == "handled"
                assert (record.fates[0].reason == "refused") == refused == isinstance(record.fates[0].error, No)
        self.verify_last_end(record)

    def verify_last_end(self, record: Record) -> None:
        raised, allowed = record.ends.count("raised"), ATTEMPTS[record.step.plan.kind]
        reason = record.letters[0].reason if record.letters else "handled"
        assert raised <= allowed, "7: tried more often than its handler allows"
        last = record.ends[-1] if record.ends else None
        match reason:
            case "handled":
                assert last in ("returned", "refused", None)
            case "failed":
                assert last == "raised"
                assert raised == allowed or record.set_aside, "7: not all attempts were made"
                assert isinstance(record.letters[0].cause, Broken)
            case "killed":
                assert last in ("cancelled", "raised", None)
            case "unhandled":
                assert record.step.plan.kind is Unknown
            case _:
                assert last in (None, "raised", "stashed")

    def verify_sender(self, record: Record) -> None:
        reason = record.letters[0].reason if record.letters else "handled" if record.ends else None
        if record.step.how != "ask":
            assert record.accepted == (record.over is not None and record.error is None and record.accepted)
            if record.error is not None:
                assert isinstance(record.error, DeliveryError | TransportClosed)
                assert not record.accepted
                assert not record.starts
            if record.receipt is not None:
                assert record.receipt.done()
                outcome = record.receipt._outcome
                assert outcome is not None
                assert (outcome.fate, outcome.reason) == (
                    ("handled", "refused" if "refused" in record.ends else "") if reason == "handled"
                    else (FATES.get(str(reason), "dead-lettered"), reason)
                )  # fmt: skip
            return
        match record.error:
            case None if record.answer is not None:
                assert record.answer == record.id
                assert record.ends[-1] == "returned"
            case None:
                pass  # given up
            case HandlerFailed() as error:
                assert reason in ("failed", "killed")
                assert error.__cause__ is record.letters[0].cause
            case No():
                assert record.ends[-1] == "refused"
            case AskTimeout():
                assert self.virtual
            case AskCycle() | TransportClosed():
                assert not record.accepted
            case MailboxFull():
                assert reason in ("dropped", None)
            case ActorStopped() | ActorNotFound():
                assert reason in ("stopped", None)
            case error:
                assert type(error) is DeliveryError
                assert reason == "unhandled"


FATES = {"failed": "failed", "killed": "failed", "expired": "expired", "abandoned": "expired"}


class Host_(Actor):
    """Does what each message's plan says."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def on_start(self) -> None:
        self.world.began(self)

    async def on_stop(self, reason: str) -> None:
        self.world.quiet(self)

    async def on_restart(self, error: BaseException) -> None:
        self.world.quiet(self)

    async def follow(self, work: Work) -> int:
        with self.world.handling(self, work) as record:
            for step in work.plan.steps:
                if isinstance(step, Do):
                    self.do(step, record)
                elif self.world.virtual or self.harmless(step):
                    await self.world.perform(step, self.ref.address)
            return self.finish_plan(work)

    def follow_now(self, work: Work) -> int:
        with self.world.handling(self, work) as record:
            for step in work.plan.steps:
                if isinstance(step, Do):
                    self.do(step, record)
                elif isinstance(step, Order) and step.how == "kill":
                    self.world.ref(step.to).kill()
            return self.finish_plan(work)

    def harmless(self, step: Step) -> bool:
        """Without time nothing ends a circle: mail goes only upwards, no handler waits for a stop, no ask is stashed."""
        up = isinstance(step, Send) and step.to % len(self.world.schedule.hosts) > int(self.ref.address[-1])
        return isinstance(step, Pause) or up or (isinstance(step, Order) and step.how == "kill")

    def do(self, step: Do, record: Record) -> None:
        match step.what:
            case "stash" if not record.set_aside and (self.world.virtual or record.step.how != "ask"):
                with suppress(MailboxFull):
                    self.stash()
                    record.set_aside = True
            case "unstash":
                self.unstash()
                self.world.unstashed(self)
            case "finish":
                self.stop()

    def finish_plan(self, work: Work) -> int:
        record = self.world.records[work.id]
        if work.plan.end == "raise" and record.ends.count("raised") < work.plan.failures:
            raise Broken(work.id)
        if work.plan.end == "refuse":
            raise No(str(work.id))
        return work.id

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


# Playing one --------------------------------------------------------------------------------------------------


def play(schedule: Schedule, *, virtual: bool) -> World:
    """Run the schedule to its end: on trio in virtual time, or on asyncio without time."""
    world = World(schedule, virtual=virtual)
    if virtual:
        anyio.run(perform, world, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})
    else:
        anyio.run(perform, world)
    world.verify()
    return world


async def perform(world: World) -> None:
    schedule = world.schedule
    with anyio.fail_after(1_000 if world.virtual else 20):  # a hang
        async with anyio.create_task_group() as senders:
            world.system = ActorSystem(
                "world", middleware=() if schedule.middleware == "none" else [world], drain=schedule.drain
            )
            world.system.subscribe(DeadLetter, world.dead_letter)
            async with world.system:
                await world.system.supervise(
                    *(spec(world, number, host) for number, host in enumerate(schedule.hosts)),
                    strategy=schedule.strategy, intensity=10_000, name="crew",
                )  # fmt: skip
                if schedule.leave_after is None:
                    async with anyio.create_task_group() as inside:
                        start_senders(world, inside)
                else:
                    start_senders(world, senders)
                    await world.pause(schedule.leave_after)


def start_senders(world: World, tasks: anyio.abc.TaskGroup) -> None:
    for number, script in enumerate(world.schedule.senders):
        tasks.start_soon(follow_script, world, script, f"sender {number}")


async def follow_script(world: World, script: tuple[Step, ...], sender: str) -> None:
    for step in script:
        await world.perform(step, sender)


def spec(world: World, number: int, host: Host) -> ChildSpec[Host_]:
    delay = host.backoff if world.virtual else None
    return ChildSpec(
        Host_, world, name=str(number), restart=host.restart, capacity=host.capacity, overflow=host.overflow,
        ageing=host.ageing, shutdown=2.0, backoff=None if delay is None else Backoff(delay, delay, jitter=0),
    )  # fmt: skip


def reasons(world: World) -> set[str]:
    """The ways in which messages of this run ended."""
    return {letter.reason for record in world.records for letter in record.letters}


playing = partial(play, virtual=True)
