"""`PriorityMailbox`: bounded lanes of envelopes for one consumer, most urgent first."""

from __future__ import annotations

import enum
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from math import inf
from typing import Final

import anyio

from transport.address import ROOT, Address
from transport.envelope import Envelope, Priority
from transport.errors import ActorStopped, MailboxFull
from transport.eventloop import Future

LANES: Final = len(Priority)
CONTROL: Final = -1
"""The priority of control mail, which has a lane of its own."""
_CLOSED: Final = -(1 << 62)  # so far under zero that no number of pops makes room again


class Overflow(enum.Enum):
    """What a full mailbox does with one more message. What is dropped becomes a dead letter."""

    BLOCK = "block"
    """The sender waits until there is room; waiting senders are let in by priority, then in their order."""
    REJECT = "reject"
    """The sender gets `MailboxFull`."""
    DROP_OLDEST = "drop_oldest"
    """The message that has waited longest makes room."""
    DROP_LOWEST = "drop_lowest"
    """The oldest message of the least urgent lane makes room; one less urgent than all of them is refused."""


def check_options(capacity: int | None, overflow: Overflow, ageing: int | None) -> None:
    """Raise `TypeError` or `ValueError` where these are no options of a mailbox."""
    numbers: dict[str, object] = {"capacity": capacity, "ageing": ageing}
    for name, value in numbers.items():
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f"{name}={value!r}: a whole number, at least 1")
    if not isinstance(overflow, Overflow):
        raise TypeError(f"overflow={overflow!r}: one of {', '.join(map(str, Overflow))}")


def check_seconds(name: str, value: float) -> None:
    """Raise `TypeError` or `ValueError` where the option `name` is not a time in seconds, at least 0."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name}={value!r}: seconds, as a number")
    if not value >= 0:
        raise ValueError(f"{name}={value!r}: seconds, at least 0")


class Lane:
    """First in, first out, in two lists: what has `arrived` is turned round when nothing is `ready` any more.

    Each message is moved once, so both ends cost the same as a deque's, and an empty lane is 0.2 KiB where
    an empty deque is 0.7: that is a quarter of an idle actor (Hood and Melville, 1981).
    """

    __slots__ = ("arrived", "ready")

    def __init__(self) -> None:
        self.arrived: list[Envelope] = []
        self.ready: list[Envelope] = []  # the next one is the last

    def turn(self) -> list[Envelope]:
        """Make what has arrived ready, where nothing else is; returns what is ready."""
        if not self.ready:
            self.arrived, self.ready = self.ready, self.arrived
            self.ready.reverse()
        return self.ready

    def __len__(self) -> int:
        return len(self.arrived) + len(self.ready)


_NO_LANE: Final = Lane()


class PriorityMailbox:
    """A bounded mailbox: a lane per priority for messages and one for control mail, read by one consumer.

    First in, first out within a lane. `pop` takes control mail first, then the most urgent message. With
    `ageing=n` the head of a lane that has been passed over n times is taken next, the least urgent lane
    first, so LOW waits at most n picks. Control mail is neither counted nor refused.

    Kept in memory: what it holds is gone with the process. Waiting and taking are apart (`mail`, then
    `pop`, with no await in between), so cancelling a consumer loses nothing.

    Arguments: `future` makes a future of the running loop; `dropped` is called with each envelope that an
    overflow policy throws out; `capacity` in messages (at least 1); `address` for the errors; `waiting`
    is entered around each wait for room and may refuse it by raising.

    Raises `ValueError` or `TypeError` for options that make no sense.
    """

    __slots__ = (
        "_ageing", "_arrivals", "_best", "_best_rank", "_dropped", "_future", "_lanes", "_parked",
        "_passed", "_waiting", "address", "at_once", "blocked", "capacity", "closed", "control", "overflow", "room",
    )  # fmt: skip

    def __init__(
        self,
        future: Callable[[], Future],
        dropped: Callable[[Envelope], None],
        *,
        capacity: int = 10_000,
        overflow: Overflow = Overflow.BLOCK,
        ageing: int | None = None,
        address: Address = ROOT,
        waiting: Callable[[Address, Envelope], AbstractContextManager[None]] | None = None,
    ) -> None:
        if type(capacity) is not int or capacity < 1 or type(overflow) is not Overflow or ageing is not None:
            check_options(capacity, overflow, ageing)
        self.address = address
        self.capacity = capacity
        self.overflow = overflow
        self.closed = False
        self.room = capacity
        """Messages that still fit; zero or less where the next one has to wait, far less when closed."""
        self.control: deque[Envelope] | None = None
        self.at_once: Callable[[Envelope], bool] | None = None
        """Set by a consumer that can answer an ask while it is parked, in the asker's own turn."""
        self._future = future
        self._dropped = dropped
        self._waiting = waiting
        # Lanes come into being with their first message, as most actors use one.
        self._lanes: list[Lane | None] = [None] * LANES
        # No lane more urgent than `_best` has mail: taking from it needs no search, which halves a take (100 -> 60 ns).
        self._best = _NO_LANE
        self._best_rank = LANES if ageing is None else -1
        self._parked: Future | None = None
        self.blocked: list[deque[tuple[Envelope, Future]]] | None = None
        """A lane per priority of senders that wait for room; None where nobody ever has."""
        self._ageing = ageing
        self._passed = None if ageing is None else [0] * LANES
        self._arrivals: Iterator[int] | None = itertools.count() if overflow is Overflow.DROP_OLDEST else None

    # The sender's side ------------------------------------------------------------------------------------

    def offer(self, envelope: Envelope) -> bool:
        """Accept `envelope` now, or answer False and change nothing (full, closed)."""
        room = self.room
        if room <= 0:
            return False
        parked = self._parked
        if parked is not None and not parked.done():
            if (
                self.at_once is not None
                and envelope.reply_by != inf  # an ask, and not a tell with a receipt
                and room == self.capacity
                and self.at_once(envelope)
            ):
                return True
            self._parked = None
            parked.set_result(None)
        if self._arrivals is not None:
            envelope.arrival = next(self._arrivals)
        priority = envelope.priority
        lane = self._lanes[priority]
        if lane is None:
            lane = self._lanes[priority] = Lane()
        lane.arrived.append(envelope)
        if priority < self._best_rank:
            self._best, self._best_rank = lane, priority
        self.room = room - 1
        return True

    async def put(self, envelope: Envelope) -> None:
        """Accept `envelope`, by the overflow policy where the mailbox is full.

        Raises `ActorStopped` where it is or becomes closed, `MailboxFull` where the policy refuses or a
        tell's ttl ends before there is room. Cancelled while it waits for room, the message was not
        accepted, unless it was let in at that very moment.
        """
        while not self.offer(envelope):
            if self.closed:
                raise ActorStopped(f"{self.address} has stopped", envelope)
            match self.overflow:
                case Overflow.BLOCK:
                    await self._wait_for_room(envelope)
                    return
                case Overflow.REJECT:
                    raise self.full(envelope)
                case Overflow.DROP_OLDEST:
                    victim = min(filter(None, self._lanes), key=lambda lane: lane.turn()[-1].arrival)
                case Overflow.DROP_LOWEST:
                    if sum(map(len, filter(None, self._lanes[envelope.priority :]))) <= -self.room:
                        raise self.full(envelope)
                    victim = next(filter(None, reversed(self._lanes)))
            self.room += 1
            self._dropped(victim.turn().pop())

    def post(self, envelope: Envelope) -> None:
        """Put control mail in: always accepted, ahead of every message."""
        envelope.priority = CONTROL
        if self.control is None:
            self.control = deque()
        self.control.append(envelope)
        self.wake()

    def holds(self, envelope: Envelope) -> bool:
        """Whether this very piece of control mail still waits."""
        return any(each is envelope for each in self.control or ())

    def withdraw(self, unwanted: Callable[[Envelope], bool]) -> None:
        """Take control mail out that nobody wants any more."""
        if self.control:
            self.control = deque(each for each in self.control if not unwanted(each))

    def full(self, envelope: Envelope) -> MailboxFull:
        """The error for a sender that finds no room."""
        depth = len(self)
        return MailboxFull(f"{self.address} has {depth} messages waiting, its limit", envelope, depth=depth)

    async def _wait_for_room(self, envelope: Envelope) -> None:
        if self.blocked is None:
            self.blocked = [deque() for _ in range(LANES)]
        let_in = self._future()
        waiting = (envelope, let_in)
        lane = self.blocked[envelope.priority]
        # An ask's own deadline is watched by the asker, as it covers more than this wait.
        until = inf if envelope.deadline is None or envelope.reply_by != inf else envelope.deadline
        lane.append(waiting)
        refusal: Exception | None = None
        try:
            with self._waiting(self.address, envelope) if self._waiting else nullcontext():
                with anyio.CancelScope(deadline=until) as scope:
                    refusal = await let_in
                if scope.cancelled_caught:
                    refusal = self.full(envelope)
        finally:
            if waiting in lane:
                lane.remove(waiting)
        if refusal is not None:
            raise refusal

    def let_in(self) -> None:
        """Accept the senders that wait, as far as there is room."""
        for lane in self.blocked or ():
            while lane and self.room > 0:
                envelope, let_in = lane.popleft()
                if not let_in.done():
                    self.offer(envelope)
                    let_in.set_result(None)

    # The consumer's side ----------------------------------------------------------------------------------

    def pop(self) -> Envelope | None:
        """The next envelope, or None where there is none; a sender that waits for its room is let in."""
        envelope = self.take()
        if self.blocked is not None:
            self.let_in()
        return envelope

    def take(self) -> Envelope | None:
        """As `pop`, but lets nobody in yet: `let_in` does, once it is sure that the envelope is not put back."""
        if self.control:
            return self.control.popleft()
        lane = self._best
        ready = lane.ready
        if not ready:
            if not lane.arrived:
                if self.room == self.capacity:
                    return None
                lane = self._next_lane()
                if lane is _NO_LANE:
                    return None
            ready = lane.ready
            if not ready:  # lane.turn(), without a call: every ask of an idle actor comes this way
                ready, lane.arrived = lane.arrived, ready
                lane.ready = ready
                ready.reverse()
        self.room += 1
        return ready.pop()

    def mail(self) -> Future:
        """What to await until there may be mail, or the mailbox is closed. Takes nothing; cancelling is safe."""
        self._parked = parked = self._future()
        return parked

    @property
    def parked(self) -> bool:
        """Whether the consumer waits for mail, so that nothing is in its hands."""
        return self._parked is not None and not self._parked.done()

    def wake(self) -> None:
        """Let the consumer look again."""
        parked, self._parked = self._parked, None
        if parked is not None and not parked.done():
            parked.set_result(None)

    def put_back(self, envelope: Envelope) -> None:
        """Return what was popped to the head of its lane; never refused, as it had been accepted."""
        priority = envelope.priority
        if priority == CONTROL:
            if self.control is None:
                self.control = deque()
            self.control.appendleft(envelope)
            return
        lane = self._lanes[priority]
        if lane is None:
            lane = self._lanes[priority] = Lane()
        lane.turn().append(envelope)
        if priority < self._best_rank:
            self._best, self._best_rank = lane, priority
        self.room -= 1

    def close(self) -> None:
        """Take no more messages; what is in stays to be popped. Waiting senders get `ActorStopped`."""
        if self.closed:
            return
        self.closed = True
        self.room += _CLOSED
        blocked, self.blocked = self.blocked, None
        for lane in blocked or ():
            for envelope, let_in in lane:
                if not let_in.done():
                    let_in.set_result(ActorStopped(f"{self.address} has stopped", envelope))
        self.wake()

    def reopen(self) -> None:
        """Take messages again."""
        if self.closed:
            self.closed = False
            self.room -= _CLOSED

    def drain(self) -> Iterator[Envelope]:
        """Take all the messages out, most urgent first; control mail is forgotten."""
        self.control = None
        while (envelope := self.pop()) is not None:
            yield envelope

    def __len__(self) -> int:
        return sum(map(len, filter(None, self._lanes)))

    # ------------------------------------------------------------------------------------------------------

    def _next_lane(self) -> Lane:
        """The lane to pick from, `_NO_LANE` where there is no mail."""
        if self._ageing is not None:
            return self._next_by_age(self._ageing)
        for rank, lane in enumerate(self._lanes):
            if lane:
                self._best, self._best_rank = lane, rank
                return lane
        return _NO_LANE

    def _next_by_age(self, bound: int) -> Lane:
        """A lane passed over `bound` times, the least urgent first; otherwise the most urgent."""
        passed = self._passed
        assert passed is not None
        queued = {rank: lane for rank, lane in enumerate(self._lanes) if lane}
        if not queued:
            return _NO_LANE
        picked = next((rank for rank in reversed(queued) if passed[rank] >= bound), next(iter(queued)))
        for rank in range(LANES):
            if rank == picked or rank not in queued:
                passed[rank] = 0
            elif rank > picked:
                passed[rank] += 1
        return queued[picked]
