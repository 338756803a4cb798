"""`ModelStore`: what a `MailboxStore` does, in the plainest words: no keys, no scripts, and a clock that tests move."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from transport.errors import AddressInUse
from transport.mailbox import Overflow
from transport.redis.store import (
    LANES,
    Answer,
    Buried,
    Bytes,
    Chores,
    Claim,
    DeadLetter,
    Delay,
    Fetched,
    LeaseLost,
    Mail,
    Offsets,
    Outgoing,
    Post,
    Reply,
    Sent,
    Stopped,
    Tried,
    Tries,
    Turn,
)

FEW: Final = Bytes(30, 45)
"""What a turn may fetch here: a short frame is 12 bytes as it is stored."""


class Clock:
    """The server's clock, in µs, as it is until somebody moves it."""

    def __init__(self) -> None:
        self.us = 1_700_000_000_000_000

    @property
    def ms(self) -> int:
        return self.us // 1000

    def advance(self, seconds: float) -> None:
        self.us += round(seconds * 1_000_000)


@dataclass
class Watermark:
    """Numbers up to `accepted` are in, those after it up to `last` were refused for good."""

    accepted: int = 0
    last: int = 0

    def __str__(self) -> str:
        return f"{self.accepted}:{self.last}" if self.accepted < self.last else f"{self.last}"


@dataclass
class Stored:
    """A frame and when its ttl is over, in ms."""

    frame: bytes
    until: int | None


@dataclass
class Mailbox:
    """One mailbox and what is known of it."""

    running: bool | None = None
    """None: it was never claimed."""
    owner: str | None = None
    epoch: int = 0
    suspect: bool = False
    hungry: bool = False
    """The owner waits for the bell."""
    capacity: int = 0
    overflow: Overflow = Overflow.BLOCK
    program: str = ""
    bases: list[int] = field(default_factory=lambda: [0] * LANES)
    lanes: list[list[Stored]] = field(default_factory=lambda: [[] for _ in range(LANES)])
    watermarks: dict[tuple[str, bool], Watermark] = field(default_factory=dict)
    tries: dict[tuple[int, int], Tries] = field(default_factory=dict)

    @property
    def depth(self) -> int:
        return sum(map(len, self.lanes[1:]))

    @property
    def depths(self) -> Offsets:
        return offsets(map(len, self.lanes))

    def trim(self, lane: int, base: int) -> None:
        """Forget what is under this offset."""
        if base > self.bases[lane]:
            del self.lanes[lane][: base - self.bases[lane]]
            self.bases[lane] = base
            self.tries = {at: tries for at, tries in self.tries.items() if at[0] != lane or at[1] >= base}


@dataclass
class Waiting:
    """A delayed message: `member` orders those that are due in the same ms."""

    due: int
    member: bytes
    address: str
    lane: int
    tries: Tries
    stored: Stored


class ModelStore:
    """A partition in memory. Every call is over before it would wait."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.leases: dict[str, int] = {}
        """When each lease ends, in ms."""
        self.owning: defaultdict[str, set[str]] = defaultdict(set)
        self.ringing: dict[str, dict[str, int]] = {}
        self.mailboxes: dict[str, Mailbox] = {}
        self.orphaned: dict[str, int] = {}
        """Addresses without an owner, since when."""
        self.waiting: list[Waiting] = []
        self.letters: dict[str, tuple[Buried, int | None]] = {}
        self.outgoing: dict[str, bytes] = {}
        self._ids = 0

    # Leases and owners -----------------------------------------------------------------------------------

    async def join(self, node: str, lease: float) -> None:
        if node not in self.leases:
            self.leases[node] = self.clock.ms + round(lease * 1000)
        self.check(node)

    async def beat(self, node: str, lease: float) -> None:
        self.check(node)
        self.leases[node] = max(self.leases[node], self.clock.ms + round(lease * 1000))

    def check(self, node: str) -> None:
        """Raise `LeaseLost` where the lease has ended, or never was."""
        if self.leases.get(node, 0) <= self.clock.ms:
            raise LeaseLost(f"the lease of {node} has ended")

    async def claim(
        self, node: str, address: str, capacity: int, overflow: Overflow = Overflow.BLOCK, program: str = ""
    ) -> Claim | None:
        self.check(node)
        mailbox = self.mailboxes.setdefault(address, Mailbox())
        if mailbox.owner not in (None, node):
            if mailbox.owner in self.leases:
                if mailbox.program != program:
                    raise AddressInUse(
                        f"{address} is in use by another program, {mailbox.program!r}: choose another name"
                    )
                return None
            mailbox.suspect = True
        mailbox.epoch = max(mailbox.epoch + 1, self.clock.us)
        mailbox.owner, mailbox.running, mailbox.program = node, True, program
        mailbox.capacity, mailbox.overflow = capacity, overflow
        self.owning[node].add(address)
        self.orphaned.pop(address, None)
        return Claim(mailbox.epoch, offsets(mailbox.bases), mailbox.depths, mailbox.suspect, dict(mailbox.tries))

    def owns(self, node: str, address: str, epoch: int) -> Mailbox | None:
        """The mailbox, where it is this node's under this epoch."""
        mailbox = self.mailboxes.get(address)
        return mailbox if mailbox and (mailbox.owner, mailbox.epoch) == (node, epoch) else None

    async def stop(self, node: str, address: str, epoch: int) -> Stopped | None:
        self.check(node)
        mailbox = self.owns(node, address, epoch)
        if mailbox is None:
            return None
        mailbox.running = False
        left = sum(mailbox.depths)
        if not left:
            mailbox.owner, mailbox.suspect = None, False
            self.owning[node].discard(address)
        return Stopped(left)

    async def release(self, node: str, claims: Sequence[tuple[str, int]]) -> list[bool]:
        self.check(node)
        return [self._release(node, address, epoch) for address, epoch in claims]

    def _release(self, node: str, address: str, epoch: int) -> bool:
        mailbox = self.owns(node, address, epoch)
        if mailbox is None:
            return False
        mailbox.owner, mailbox.suspect = None, False
        self.owning[node].discard(address)
        self.orphaned.setdefault(address, self.clock.ms)
        return True

    async def leave(self, node: str) -> bool:
        if self.owning.get(node):
            return False
        self._forget(node)
        return True

    def _forget(self, node: str) -> None:
        for known in (self.leases, self.owning, self.ringing):
            known.pop(node, None)

    async def reap(self, grace: float) -> int | None:
        for ended, node in sorted((ended, node) for node, ended in self.leases.items()):
            if ended + round(grace * 1000) >= self.clock.ms:
                return None
            addresses = self.owning.get(node, set())
            for address in addresses:
                self.orphaned.setdefault(address, self.clock.ms)
            self._forget(node)
            return len(addresses)
        return None

    async def bells(self, node: str) -> list[str]:
        rung = self.ringing.pop(node, {})
        return [address for _, address in sorted((lane, address) for address, lane in rung.items())]

    async def tend(self, node: str, grace: float) -> Chores:
        ended = self.clock.ms - round(grace * 1000)
        return Chores(
            any(lease < ended for lease in self.leases.values()),
            any(waiting.due <= self.clock.ms for waiting in self.waiting),
            [address for _, address in sorted((since, address) for address, since in self.orphaned.items())],
            set(self.owning.get(node, ())),
        )

    # Mail ------------------------------------------------------------------------------------------------

    async def send(self, producer: str, posts: Sequence[Post]) -> list[Sent]:
        refused: set[tuple[str, bool]] = set()
        hungry = {address for address, mailbox in self.mailboxes.items() if mailbox.hungry}
        return [self._accept(producer, post, refused, hungry) for post in posts]

    def _accept(self, producer: str, post: Post, refused: set[tuple[str, bool]], hungry: set[str]) -> Sent:
        mailbox = self.mailboxes.setdefault(post.address, Mailbox())
        control = post.lane == 0
        watermark = mailbox.watermarks.setdefault((producer, control), Watermark())
        if post.number <= watermark.accepted:
            return Sent(Answer.DUPLICATE)
        if post.number <= watermark.last:
            refused.add((post.address, control))
        watermark.last = max(watermark.last, post.number)
        drops = mailbox.overflow in (Overflow.DROP_OLDEST, Overflow.DROP_LOWEST)
        capacity = mailbox.capacity * (1 + drops) if post.capacity is None else post.capacity
        if not control and mailbox.depth >= capacity:
            refused.add((post.address, control))
        if not mailbox.running:
            refused.add((post.address, control))
            return Sent(Answer.NOBODY if mailbox.running is None else Answer.STOPPED)
        if (post.address, control) in refused:
            return Sent(Answer.REJECTED if mailbox.overflow is Overflow.REJECT else Answer.FULL, mailbox.depth)
        watermark.accepted = post.number
        until = None if post.ttl is None else self.clock.ms + max(1, round(post.ttl * 1000))
        mailbox.lanes[post.lane].append(Stored(post.frame, until))
        self._ring(post.address, post.lane, rings=post.lane < 2 or post.address in hungry)
        return Sent(Answer.ACCEPTED)

    def _ring(self, address: str, lane: int, *, rings: bool = True) -> None:
        """Tell the owner, or note that there is none."""
        owner = self.mailboxes[address].owner
        if owner is None or owner not in self.leases:
            self.orphaned.setdefault(address, self.clock.ms)
        elif rings:
            rung = self.ringing.setdefault(owner, {})
            rung[address] = min(lane, rung.get(address, lane))
            self.mailboxes[address].hungry = False

    async def turn(self, node: str, turns: Sequence[Turn]) -> list[Fetched | None]:
        self.check(node)
        answers = []
        left = FEW.all
        for turn in turns:
            fetched = self._turn(node, turn, min(FEW.each, left))
            left -= sum(size(mail) for mail in fetched.mails) if fetched else 0
            answers.append(fetched)
        return answers

    def _turn(self, node: str, turn: Turn, room: int) -> Fetched | None:
        mailbox = self.owns(node, turn.address, turn.epoch)
        if mailbox is None:
            return None
        for note in turn.notes:
            lane, offset = note.lane, note.offset
            if not 0 <= offset - mailbox.bases[lane] < len(mailbox.lanes[lane]):
                continue
            stored = mailbox.lanes[lane][offset - mailbox.bases[lane]]
            if offset < turn.acked[lane]:
                if isinstance(note, DeadLetter):
                    self._bury(turn.address, lane, note.reason, stored)
                elif isinstance(note, Reply):
                    self.outgoing[self._id()] = note.frame
                elif isinstance(note, Delay):
                    tries = f"{note.tries.attempts} {note.tries.starts}"
                    until = b"" if stored.until is None else b"%d" % stored.until
                    member = f"{turn.address} {lane} {tries} {turn.epoch}:{offset} ".encode() + until
                    due = self.clock.ms + round(note.delay * 1000)
                    self.waiting.append(Waiting(due, member, turn.address, lane, note.tries, stored))
            if isinstance(note, Tried):
                before = mailbox.tries.get((lane, offset), Tries())
                mailbox.tries[lane, offset] = Tries(*map(max, before, note.tries))
        for lane in range(LANES):
            mailbox.trim(lane, turn.acked[lane])
        mails: list[Mail] = []
        for lane in range(LANES):
            for mail in self._read(mailbox, lane, max(turn.next[lane], mailbox.bases[lane]) - mailbox.bases[lane]):
                if len(mails) < turn.want and room > 0:
                    mails.append(mail)
                    room -= size(mail)
        more = turn.want > 0 and (len(mails) == turn.want or room <= 0)
        mailbox.hungry |= turn.want > 0 and not more
        return Fetched(mails, more)

    def _read(self, mailbox: Mailbox, lane: int, skip: int) -> list[Mail]:
        return [
            Mail(lane, offset, each.frame, None if each.until is None else (each.until - self.clock.ms) / 1000)
            for offset, each in enumerate(mailbox.lanes[lane][skip:], mailbox.bases[lane] + skip)
        ]

    async def due(self) -> int:
        ready = sorted((w.due, w.member, n) for n, w in enumerate(self.waiting) if w.due <= self.clock.ms)
        for _, _, n in ready:
            waiting = self.waiting[n]
            address, lane = waiting.address, waiting.lane
            mailbox = self.mailboxes[address]
            if mailbox.running:
                mailbox.lanes[lane].append(waiting.stored)
                mailbox.tries[lane, mailbox.bases[lane] + len(mailbox.lanes[lane]) - 1] = waiting.tries
                self._ring(address, lane)
            else:
                self._bury(address, lane, "stopped", waiting.stored)
        self.waiting = [w for w in self.waiting if w.due > self.clock.ms]
        return len(ready)

    async def outbox(self) -> list[Outgoing]:
        return [Outgoing(*each) for each in self.outgoing.items()]

    async def forwarded(self, ids: Iterable[str]) -> None:
        for each in ids:
            self.outgoing.pop(each, None)

    # For operators ---------------------------------------------------------------------------------------

    def _id(self) -> str:
        self._ids += 1
        return f"{self._ids:08}"

    def _bury(self, address: str, lane: int, reason: str, stored: Stored) -> None:
        id_ = self._id()
        self.letters[id_] = Buried(id_, address, lane, reason, stored.frame), stored.until

    async def dead_letters(self, after: str = "") -> list[Buried]:
        return [letter for id_, (letter, _) in self.letters.items() if id_ > after]

    async def requeue(self, id: str) -> bool:  # noqa: A002
        if id not in self.letters or not self.mailboxes[self.letters[id][0].address].running:
            return False
        letter, _ = self.letters.pop(id)
        self.mailboxes[letter.address].lanes[letter.lane].append(Stored(letter.frame, None))
        self._ring(letter.address, letter.lane)
        return True

    async def discard(self, ids: Iterable[str]) -> int:
        return sum(self.letters.pop(each, None) is not None for each in ids)

    async def peek(self, address: str, lane: int, skip: int = 0) -> list[Mail]:
        mailbox = self.mailboxes.get(address)
        return self._read(mailbox, lane, skip) if mailbox else []

    async def purge(self, address: str) -> int:
        mailbox = self.mailboxes.get(address)
        if mailbox is None:
            return 0
        count = mailbox.depth
        for lane in range(1, LANES):
            mailbox.trim(lane, mailbox.bases[lane] + len(mailbox.lanes[lane]))
        return count


def offsets(numbers: Iterable[int]) -> Offsets:
    """One for each lane."""
    control, urgent, high, normal, low = numbers
    return control, urgent, high, normal, low


def size(mail: Mail) -> int:
    """How many bytes of it a server has: in front of the frame is when its ttl ends."""
    return 8 + len(mail.frame)
