"""What drives a store in the tests: nodes and producers that keep to the protocol, and a ledger that judges them."""

from __future__ import annotations

import enum
import itertools
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from tests.redis.both import ServerSide, answered, dump, immediate
from tests.redis.model import Clock, ModelStore
from transport.errors import AddressInUse
from transport.mailbox import Overflow
from transport.redis.store import (
    Answer,
    Claim,
    DeadLetter,
    Delay,
    Fetched,
    LeaseLost,
    Mail,
    Note,
    Offsets,
    Post,
    Reply,
    Sent,
    Stopped,
    Tried,
    Tries,
    Turn,
)

LEASE: Final = 10.0
GRACE: Final = 2.0
CAPACITY: Final = 4


class Fault(enum.Enum):
    """What happens to a call on its way."""

    NONE = "none"
    LOST_REPLY = "lost reply"
    LOST_REQUEST = "lost request"
    """It arrives later, or never."""
    SLOW = "slow"
    """Seconds pass on the way there, and back."""


class NoAnswer(Exception):
    """The call was made, and that is all its caller knows."""


class Ledger:
    """What is true of every message, learnt from answers and from the model's content; judges as it goes."""

    def __init__(self, model: ModelStore) -> None:
        self._model = model
        self.posts: dict[bytes, tuple[str, Post]] = {}
        """Every message that was ever posted, by its frame, with its producer."""
        self.accepted: set[bytes] = set()
        """Whose sender was told so."""
        self.refused: set[bytes] = set()
        self.seen: set[bytes] = set()
        """That were in the store at any time."""
        self.there: set[bytes] = set()
        """That are in it now."""
        self.moved: set[bytes] = set()
        """That have left their place in the order: delayed, or put back by an operator."""
        self.fates: defaultdict[bytes, list[str]] = defaultdict(list)
        self.purged: set[bytes] = set()
        self.begun: set[bytes] = set()
        self.until: dict[bytes, int | None] = {}
        """When the ttl of a message ends, in ms."""
        self._latest: dict[tuple[str, str, int], int] = {}
        self._epochs: dict[tuple[str, int], str] = {}
        self._last_epoch: dict[str, int] = {}

    def posted(self, producer: str, post: Post) -> None:
        self.posts[post.frame] = producer, post

    def answered(self, frame: bytes, sent: Sent) -> None:
        """Its sender has been told."""
        if sent.answer in (Answer.ACCEPTED, Answer.DUPLICATE):
            assert frame in self.seen, f"{frame!r} was reported as accepted and was never there"
            self.accepted.add(frame)
        else:
            self.refused.add(frame)

    def claimed(self, node: str, address: str, claim: Claim) -> None:
        """Invariant 14: epochs grow, and no two incarnations share one."""
        assert self._epochs.setdefault((address, claim.epoch), node) == node
        assert claim.epoch > self._last_epoch.get(address, 0)
        self._last_epoch[address] = claim.epoch

    def begins(self, node: str, address: str, mail: Mail) -> None:
        """A handler starts: on a message that was sent, in time, in order, and by nobody but the owner."""
        frame, now = mail.frame, self._model.clock.ms
        producer, post = self.posts[frame]
        assert (post.address, post.lane) == (address, mail.lane)
        owner = self._model.mailboxes[address].owner
        assert owner == node, f"{node} starts on {frame!r}, and {address} belongs to {owner}"
        assert self._model.leases.get(node, 0) > now, f"{node} starts on {frame!r} without a lease"
        assert frame not in self.refused, f"{frame!r} was refused for good and is handled"
        until = self.until[frame]
        assert until is None or until > now, f"{frame!r} is handled after its ttl"
        if frame not in self.begun and frame not in self.moved:
            latest = self._latest.get((producer, address, mail.lane), 0)
            assert post.number > latest, f"{frame!r}, number {post.number}, is first handled after number {latest}"
            self._latest[producer, address, mail.lane] = post.number
        self.begun.add(frame)

    def look(self) -> None:
        """Invariant 13: at most one copy of each, which once gone stays gone."""
        there: set[bytes] = set()
        for frame, until in self._content():
            assert frame not in there, f"a second copy of {frame!r}"
            there.add(frame)
            if frame not in self.seen or until is None:
                self.until[frame] = until
        back = there & (self.seen - self.there)
        assert not back, f"settled, and there again: {back}"
        refused = there & self.refused
        assert not refused, f"refused for good, and there: {refused}"
        self.seen |= there
        self.there = there

    def waiting(self, address: str) -> set[bytes]:
        """What waits in a mailbox, control mail apart."""
        mailbox = self._model.mailboxes.get(address)
        return {each.frame for lane in mailbox.lanes[1:] for each in lane} if mailbox else set()

    def listens(self, node: Node) -> None:
        """Who waits for the bell hears of all the mail that it has not read, and so need not sweep."""
        for address, reading in node.hosted.items():
            mailbox = self._model.owns(node.name, address, reading.epoch)
            if mailbox is None or not reading.waits_for_bell or node.name not in self._model.leases:
                continue
            ends = map(sum, zip(mailbox.bases, mailbox.depths, strict=True))
            unread = [lane for lane, end in enumerate(ends) if end > max(reading.next[lane], mailbox.bases[lane])]
            rung = address in self._model.ringing.get(node.name, {})
            assert rung or not unread, f"{node.name} sleeps, and mail waits in lanes {unread} of {address}"

    def judge(self, nodes: list[Node]) -> None:
        """After a drain: every message that was accepted has met a fate, and what is owned is hosted."""
        buried = {letter.frame for letter, _ in self._model.letters.values()}
        lost = self.accepted - buried - self.purged - self.fates.keys()
        assert not lost, f"lost: {lost}"
        stuck = {a: m for a, m in self._model.mailboxes.items() if any(m.lanes)}
        assert not stuck, f"stuck: {stuck}"
        for node in nodes:
            owned = self._model.owning.get(node.name, set())
            assert owned == node.hosted.keys(), f"{node.name} owns {owned} and hosts {set(node.hosted)}"

    def _content(self) -> Iterator[tuple[bytes, int | None]]:
        for mailbox in self._model.mailboxes.values():
            for stored in (each for lane in mailbox.lanes for each in lane):
                yield stored.frame, stored.until
        for waiting in self._model.waiting:
            yield waiting.stored.frame, waiting.stored.until
        for letter, until in self._model.letters.values():
            yield letter.frame, until


class World:
    """A model and, where there is one, a server; calls that may go wrong; what was called, for replays."""

    def __init__(self, model: ModelStore, server: ServerSide | None) -> None:
        self.model = model
        self.server = server
        self.ledger = Ledger(model)
        self.done: list[tuple[str, tuple[Any, ...]]] = []
        """The sends and turns that were carried out."""
        self.overflows = itertools.cycle(Overflow)
        self.late: list[tuple[str, tuple[Any, ...]]] = []
        """The calls that are still on their way, while nobody waits for them."""
        self.deaf: set[str] = set()
        """Nodes some of whose bells have rung on a connection that they had given up, so that they must sweep."""
        self._dump: dict[str, Any] = {}

    @property
    def clock(self) -> Clock:
        return self.model.clock

    def call(self, name: str, *arguments: Any, fault: Fault = Fault.NONE) -> Any:
        """The answer, or `NoAnswer`. Raises `LeaseLost` as the stores do."""
        if fault is Fault.LOST_REQUEST:
            self.late.append((name, arguments))
            raise NoAnswer
        if fault is Fault.SLOW:
            self.clock.advance(LEASE / 4)
        answer = self.carry_out(name, *arguments)
        if name in ("send", "turn"):
            self.done.append((name, arguments))
        if fault is Fault.SLOW:
            self.clock.advance(LEASE / 4)
        if fault is Fault.LOST_REPLY:
            raise NoAnswer
        if answer in (LeaseLost, AddressInUse):
            raise answer
        return answer

    def carry_out(self, name: str, *arguments: Any) -> Any:
        """Make the call on both sides, and compare the answers."""
        answer = immediate(answered(getattr(self.model, name)(*arguments)))
        if self.server is not None:
            self.server.set_clock(self.clock)
            theirs = self.server.call(name, *arguments)
            assert theirs == answer, f"{name}{arguments}: the server says {theirs}, the model {answer}"
        if name not in ("tend", "peek"):
            self.look()
        return answer

    def on_ids(self, name: str, listing: str, nth: int) -> Any:
        """Call `name` for the nth of a `listing`; each side has ids of its own."""
        only: Any = str if name == "requeue" else lambda id_: [id_]
        listed = immediate(getattr(self.model, listing)())
        answer = immediate(getattr(self.model, name)(only(listed[nth].id)))
        if self.server is not None:
            self.server.set_clock(self.clock)
            theirs = self.server.call(name, only(self.server.call(listing)[nth].id))
            assert theirs == answer, f"{name} the {nth}th of {listing}: the server says {theirs}, the model {answer}"
        self.look()
        return answer

    def look(self) -> None:
        """Both look the same, and the ledger finds nothing wrong."""
        self._dump = dump(self.model)
        if self.server is not None:
            theirs, ours = self.server.dump(), self._dump
            other = {key for key in theirs.keys() | ours.keys() if theirs.get(key) != ours.get(key)}
            said = "; ".join(f"{key}: {theirs.get(key)}, {ours.get(key)}" for key in sorted(other))
            assert not other, f"the server and the model differ in {said}"
        self.ledger.look()

    def replay(self, nth: int) -> None:
        """A copy of a send or turn that was carried out comes once more: it changes nothing, but may ring a bell."""
        name, arguments = self.done[nth]
        before = _but_hunger(self._dump)
        self.carry_out(name, *arguments)
        assert _but_hunger(self._dump) == before, f"a copy of {name}{arguments} has changed something"

    def arrive(self, nth: int) -> None:
        """A call that was given up arrives after all."""
        name, arguments = self.late.pop(nth)
        self.carry_out(name, *arguments)
        if name == "bells":
            self.deaf.add(*arguments)
        if name in ("send", "turn"):
            self.done.append((name, arguments))


class Producer:
    """Posts with one batch on its way, and sends that again until it is answered or given up.

    Unchanged, or with more behind it: the store allows both.
    """

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self.name = name
        self._number = 0
        self._batch: list[Post] = []

    def post(
        self, wanted: list[tuple[str, int, float | None, int | None]], fault: Fault, *, more: bool = False
    ) -> None:
        """Send a batch: (address, lane, ttl, capacity) each; the last one again where it was not answered."""
        if more or not self._batch:
            self._batch = list(self._batch)  # that which is on its way stays as it is
            for address, lane, ttl, capacity in wanted:
                self._number += 1
                frame = b"%s.%d" % (self.name.encode(), self._number) + b"!" * (30 if self._number % 7 == 0 else 0)
                self._batch.append(Post(address, lane, self._number, frame, ttl, capacity))
                self._world.ledger.posted(self.name, self._batch[-1])
        try:
            answer = self._world.call("send", self.name, self._batch, fault=fault)
        except NoAnswer:
            return
        for post, sent in zip(self._batch, answer, strict=True):
            self._world.ledger.answered(post.frame, sent)
        self._batch = []

    def give_up(self) -> None:
        """The deadline is over, or the process is: whether it arrived nobody knows."""
        self._batch = []

    def settle(self) -> None:
        """Send until there is an answer."""
        if self._batch:
            self.post([], Fault.NONE)


@dataclass
class Reading:
    """A mailbox on its node: what has been read of it, and what is settled."""

    epoch: int
    acked: list[int]
    next: list[int]
    tries: dict[tuple[int, int], Tries]
    waiting: list[tuple[Mail, float]] = field(default_factory=list)
    """Mail, and when its ttl ends by the node's own reckoning, in seconds."""
    in_hand: list[Mail] = field(default_factory=list)
    settled: set[tuple[int, int]] = field(default_factory=set)
    notes: list[Note] = field(default_factory=list)
    waits_for_bell: bool = False
    """The last turn was answered, and brought less than it wanted, and might."""

    def settle(self, lane: int, offset: int) -> None:
        """This one has met its fate; what is settled without a gap can be acked."""
        self.settled.add((lane, offset))
        while (lane, self.acked[lane]) in self.settled:
            self.settled.discard((lane, self.acked[lane]))
            self.acked[lane] += 1

    def turn(self, address: str, want: int) -> Turn:
        acked, next_ = _offsets(self.acked), _offsets(self.next)
        return Turn(address, self.epoch, acked, next_, want, tuple(self.notes))

    def answered(self, turn: Turn, fetched: Fetched, now: float) -> None:
        """What a turn has brought; its notes are written."""
        written = {note for note in turn.notes if isinstance(note, Tried) or note.offset < turn.acked[note.lane]}
        self.notes = [note for note in self.notes if note not in written]
        if turn.want:
            self.waits_for_bell = not fetched.more
        for mail in fetched.mails:
            for passed in range(self.next[mail.lane], mail.offset):  # thrown away by an operator
                self.settle(mail.lane, passed)
            self.next[mail.lane] = mail.offset + 1
            self.waiting.append((mail, float("inf") if mail.left is None else now + mail.left))
        self.waiting.sort(key=lambda each: each[0][:2])


class Node:
    """One incarnation of a node after the other, by the rules of the protocol."""

    def __init__(self, world: World, names: Iterator[str], program: str = "") -> None:
        self._world = world
        self._names = names
        self._program = program
        self._leave()

    def _leave(self) -> None:
        self.name = next(self._names)
        self.lease_until = 0.0
        """By its own clock, from when the beat was sent."""
        self.hosted: dict[str, Reading] = {}
        self.stopping: set[str] = set()

    kill = _leave

    @property
    def now(self) -> float:
        return self._world.clock.us / 1e6

    @property
    def lives(self) -> bool:
        return self.now < self.lease_until

    def _call(self, name: str, *arguments: Any, fault: Fault) -> Any:
        try:
            return self._world.call(name, self.name, *arguments, fault=fault)
        except LeaseLost:
            self._leave()
            raise NoAnswer from None

    def beat(self, fault: Fault) -> None:
        sent = self.now
        self._call("beat" if self.lease_until else "join", LEASE, fault=fault)
        self.lease_until = sent + LEASE

    def claim(self, address: str, fault: Fault) -> None:
        overflow, claim = next(self._world.overflows), None
        with suppress(AddressInUse):
            claim = self._call("claim", address, CAPACITY, overflow, self._program, fault=fault)
        if claim is None:
            self.hosted.pop(address, None)
        else:
            self._world.ledger.claimed(self.name, address, claim)
            self.hosted[address] = Reading(claim.epoch, list(claim.bases), list(claim.bases), dict(claim.tries))
        self.stopping.discard(address)

    def turn(self, addresses: list[str], want: int, fault: Fault) -> None:
        sent = self.now
        turns = [self.hosted[each].turn(each, want) for each in addresses if each in self.hosted]
        for turn in turns:
            reading = self.hosted[turn.address]
            reading.waits_for_bell = reading.waits_for_bell and not want  # until it is answered
        answers: list[Fetched | None] = self._call("turn", turns, fault=fault)
        for turn, fetched in zip(turns, answers, strict=True):
            if fetched is None:
                del self.hosted[turn.address]
            else:
                self.hosted[turn.address].answered(turn, fetched, sent)

    def listen(self, fault: Fault) -> None:
        """Turn to where the bell has rung."""
        if fault in (Fault.LOST_REPLY, Fault.LOST_REQUEST):
            self.sweep()
        rung: list[str] = self._call("bells", fault=fault)
        self.turn(sorted(set(rung)), 10, Fault.NONE)

    def sweep(self) -> None:
        """A bell may be lost: turn to all that is hosted, some day."""
        for reading in self.hosted.values():
            reading.waits_for_bell = False

    def start(self, address: str) -> None:
        """Begin to handle what is next, where the lease still holds."""
        reading = self.hosted.get(address)
        if reading is None or not reading.waiting or not self.lives:
            return
        mail, until = reading.waiting.pop(0)
        if until <= self.now:
            reading.notes.append(DeadLetter(mail.lane, mail.offset, "expired"))
            reading.settle(mail.lane, mail.offset)
        else:
            self._world.ledger.begins(self.name, address, mail)
            reading.in_hand.append(mail)

    def finish(self, address: str, nth: int, how: str) -> None:
        """A handler ends, as it does also where the mailbox has gone to somebody else meanwhile."""
        reading = self.hosted.get(address)
        if reading is None or not reading.in_hand:
            return
        mail = reading.in_hand.pop(nth % len(reading.in_hand))
        lane, offset = mail.lane, mail.offset
        tries = reading.tries.get((lane, offset), Tries())
        if how == "again":  # retried in place: order is kept
            reading.tries[lane, offset] = tries = tries._replace(attempts=tries.attempts + 1)
            reading.notes.append(Tried(lane, offset, tries))
            reading.waiting.insert(0, (mail, float("inf") if mail.left is None else self.now))
            return
        if how == "delay":
            self._world.ledger.moved.add(mail.frame)
            reading.notes.append(Delay(lane, offset, 3.0, tries._replace(attempts=tries.attempts + 1)))
        elif how == "dead":
            reading.notes.append(DeadLetter(lane, offset, "failed"))
        else:
            reading.notes.append(Reply(lane, offset, b"re:" + mail.frame))
        self._world.ledger.fates[mail.frame].append(how)
        reading.settle(lane, offset)

    def reconcile(self, fault: Fault) -> None:
        """What we own and do not know of, we claim once more."""
        owned: set[str] = self._call("tend", GRACE, fault=fault).owned
        for address in sorted(owned - self.hosted.keys()):
            self.claim(address, Fault.NONE)
        for address in self.hosted.keys() - owned:
            del self.hosted[address]

    def adopt(self, fault: Fault) -> None:
        """Claim what has no owner."""
        for address in self._world.call("tend", self.name, GRACE).orphans:
            self.claim(address, fault)

    def stop(self, address: str, fault: Fault) -> None:
        """Stop an actor: take no more mail, and when what was there is handled, go."""
        reading = self.hosted.get(address)
        if reading is not None:
            stopped: Stopped | None = self._call("stop", address, reading.epoch, fault=fault)
            if stopped is None or not stopped.left:
                del self.hosted[address]
                self.stopping.discard(address)
            else:
                self.stopping.add(address)

    def release(self, addresses: list[str], fault: Fault) -> None:
        """Hand over what has nothing in hand; whatever comes of it, it is not hosted here any more."""
        claims = [(each, self.hosted.pop(each).epoch) for each in addresses if each in self.hosted]
        self._call("release", claims, fault=fault)


def _offsets(numbers: list[int]) -> Offsets:
    control, urgent, high, normal, low = numbers
    return control, urgent, high, normal, low


def _but_hunger(dump: dict[str, Any]) -> dict[str, Any]:
    return {key: {**value, b"h": None} if key[:2] == "a:" else value for key, value in dump.items()}
