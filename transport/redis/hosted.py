"""`Hosted`: a mailbox that this process owns: what of it was read, what is settled, what is to be told with the ack."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Any, Final, Protocol

from transport.address import Address
from transport.base import Inlet
from transport.envelope import Envelope, Failed, Outcome, Undecodable
from transport.errors import ActorsError, ActorStopped, CodecError, DeliveryError
from transport.eventloop import Future
from transport.mailbox import Overflow
from transport.redis.store import LANES, Claim, DeadLetter, Fetched, Mail, Note, Offsets, Tried, Tries, Turn
from transport.wire import Wire

NODES: Final = "/~"
"""Begins the addresses of the mailboxes of processes, for answers."""
MOST_STARTS: Final = 3
"""Processes that may die of a message before it is a dead letter."""
WINDOW: Final = 256
"""The most messages of a mailbox that are in this process and not acked."""


class Node(Protocol):
    """What a hosted mailbox needs of its process."""

    wire: Wire

    def now(self) -> float: ...
    def owns(self) -> bool:
        """Whether the lease still holds."""
        ...

    def room(self, hosted: Hosted, /) -> int:
        """How many messages more the process takes, from wherever they come."""
        ...

    def changed(self, hosted: Hosted, /) -> None:
        """There is something to ask for, to tell, or to ack."""
        ...

    def settled(self, hosted: Hosted, /) -> None:
        """There is something to ack, and no hurry."""
        ...

    def took(self, count: int, /) -> None:
        """So many messages more are in this process; fewer, where it is negative."""
        ...

    def feed(self, hosted: Hosted, /) -> None:
        """Its inlet does not take the next envelope at once: see to `Hosted.feed`."""
        ...

    def answer(self, delivery: Delivery, result: Any, /) -> bool:
        """Tell whoever waits for the message. False: `Delivery.answered` will be called once that is done."""
        ...


class Delivery:
    """The `Reply` of an envelope that came from the server: settling it acks the message there."""

    __slots__ = ("envelope", "hosted", "lane", "offset", "reply_to")

    def __init__(self, hosted: Hosted, lane: int, offset: int, reply_to: Address | None) -> None:
        self.hosted, self.lane, self.offset, self.reply_to = hosted, lane, offset, reply_to
        self.envelope: Envelope | None = None
        """Until it is settled."""

    def done(self) -> bool:
        """Whether it is settled, or not ours to settle any more: then no handler may start."""
        return self.envelope is None or not self.hosted.is_ours

    def set_result(self, result: Any, /) -> None:
        """The message has met its fate."""
        if self.envelope is None or self.hosted.gone:
            return  # whoever has the mailbox now settles it
        if isinstance(result, Failed) and result.outcome.fate != "handled":
            self.hosted.notes.append(DeadLetter(self.lane, self.offset, result.outcome.reason))
        self.hosted.unanswered += 1
        if self.reply_to is None or self.hosted.node.answer(self, result):
            self.answered()

    def answered(self) -> None:
        """Whoever waited has the answer, or will never have it."""
        self.envelope, hosted = None, self.hosted
        hosted.unanswered -= 1
        if not hosted.gone:
            hosted.settle(self.lane, self.offset)
        if not hosted.unanswered and hosted.all_answered is not None:
            hosted.all_answered.set()


class Hosted:
    """A mailbox of the server that this process owns under one epoch."""

    __slots__ = (
        "_acked", "_last", "_marked", "_next", "_settled", "_unread", "address", "all_answered", "capacity",
        "drained", "epoch", "gone", "in_hand", "inlet", "is_buried", "is_fed", "is_hungry", "lost", "node", "notes",
        "suspects", "tries", "unanswered",
    )  # fmt: skip

    def __init__(
        self, node: Node, address: Address, inlet: Inlet, claim: Claim, capacity: int, overflow: Overflow,
        lost: Callable[[], None],
    ) -> None:  # fmt: skip
        self.node, self.address, self.inlet, self.lost = node, address, inlet, lost
        drops = overflow in (Overflow.DROP_OLDEST, Overflow.DROP_LOWEST)  # as only who has them all can do
        self.capacity = 2 * capacity if drops else min(capacity, WINDOW)
        self.epoch = claim.epoch
        self.gone = False
        """Whether it is somebody else's; what happens here has no effect any more."""
        self.in_hand = 0
        """Messages read and not settled."""
        self.unanswered = 0
        """Messages handled whose asker's mailbox does not have the answer yet."""
        self.all_answered: asyncio.Event | None = None
        self.notes: list[Note] = []
        self.is_buried = self.is_fed = False
        self.is_hungry = False
        """Whether the server rings when there is more."""
        self.tries = dict(claim.tries)
        self.suspects = WINDOW if claim.suspect and not address.startswith(NODES) else 0
        """How many messages more the last owner may have died of."""
        self._marked: Mail | None = None
        """The one of these that runs once it is known to be marked."""
        self.drained: Future | None = None
        """Set by who waits until all that is in the mailbox has been handed over."""
        self._last: Turn | None = None
        """The last turn that was made after that."""
        self._acked, self._next = list(claim.bases), list(claim.bases)
        self._settled: set[tuple[int, int]] = set()
        self._unread: deque[Envelope] = deque()
        """Envelopes that the inlet has not taken yet, oldest first."""

    @property
    def is_ours(self) -> bool:
        return not self.gone and self.node.owns()

    # Reading ---------------------------------------------------------------------------------------------

    def turn(self, *, fetch: bool = True) -> Turn:
        """What to ack, and what to ask for, now."""
        acked = _offsets(self._acked)
        notes = [note for note in self.notes if isinstance(note, Tried) or note.offset < acked[note.lane]]
        room = 1 - (self._marked is not None) if self.suspects else self.capacity
        want = max(0, min(room - self.in_hand, self.node.room(self))) if fetch else 0
        turn = Turn(self.address, self.epoch, acked, _offsets(self._next), want, notes)
        if self.drained is not None:
            self._last = turn
        return turn

    def answered(self, turn: Turn, fetched: Fetched) -> None:
        """The turn has been taken: what it told is written, and this is what it brought."""
        if turn.notes:
            written = set(map(id, turn.notes))
            self.notes = [note for note in self.notes if id(note) not in written]
            if (mail := self._marked) is not None and any((n.lane, n.offset) == mail[:2] for n in turn.notes):
                self._marked = None
                self._hand_over(mail)
        self.is_hungry = turn.want > 0 and not fetched.more
        if self.is_hungry and not fetched.mails:
            self.suspects = 0  # what comes from now on was not there when the last owner died
        for mail in fetched.mails:
            for passed in range(self._next[mail.lane], mail.offset):
                self._settle(mail.lane, passed)  # an operator has thrown these away
            self._next[mail.lane] = mail.offset + 1
            self._deliver(mail)
        if fetched.more:
            self.node.changed(self)
        if self.drained is not None and turn is self._last and turn.want and not fetched.more and not self._unread:
            self.is_drained()

    def is_drained(self) -> None:
        """Nothing is there that was not handed over."""
        drained, self.drained = self.drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    def _deliver(self, mail: Mail) -> None:
        if self.suspects:
            self._try_alone(mail)
        else:
            self._hand_over(mail)

    def _try_alone(self, mail: Mail) -> None:
        """The last owner died, perhaps of this message: it is marked before it starts, and nothing runs beside it."""
        self.suspects -= 1
        place = mail.lane, mail.offset
        tries = self.tries.get(place, Tries())
        if tries.starts >= MOST_STARTS:
            self._hand_over(mail, ActorsError(f"{tries.starts} processes have died of it"))
            return
        self.tries[place] = tries = tries._replace(starts=tries.starts + 1)
        self._marked = mail
        self.notes.append(Tried(*place, tries))
        self.node.changed(self)

    def _hand_over(self, mail: Mail, poison: ActorsError | None = None) -> None:
        node, reply_to = self.node, None
        now = node.now()
        try:
            envelope, reply_to = node.wire.decode(mail.frame, at=self.address, now=now)
        except CodecError as error:
            envelope = node.wire.undecodable(mail.frame, error, at=self.address)
        if poison is not None:
            envelope.message = Undecodable(poison, len(mail.frame), "poison_crash")  # type: ignore[assignment]
        if mail.left is not None:  # by the server's clock, so the time on the way counts
            envelope.deadline = now + mail.left
            if envelope.reply_by != inf:
                envelope.reply_by = envelope.deadline
        if self.tries and (tries := self.tries.get((mail.lane, mail.offset))) is not None:
            envelope.attempt += tries.attempts
        envelope.reply = delivery = Delivery(self, mail.lane, mail.offset, reply_to)
        delivery.envelope = envelope
        self.in_hand += 1
        node.took(1)
        if self._unread or not self.inlet.offer(envelope):
            self._unread.append(envelope)
            if not self.is_fed:
                self.is_fed = True
                node.feed(self)

    async def feed(self) -> None:
        """Put what waits into the inlet, one after the other."""
        try:
            while self._unread and not self.gone:
                envelope = self._unread[0]
                try:
                    await self.inlet.put(envelope)
                except ActorStopped:
                    if self.is_buried:
                        continue  # there is another inlet now
                    return  # it is kept for whoever lives there next, or for `bury`
                except DeliveryError as error:
                    assert envelope.reply is not None
                    outcome = Outcome("dead-lettered", type(error).__name__, error)
                    envelope.reply.set_result(Failed(error, outcome))
                if self._unread:
                    self._unread.popleft()
        finally:
            self.is_fed = False
            if self.drained is not None:
                self.node.changed(self)

    def tried(self, delivery: Delivery, attempts: int) -> None:
        """A handler has failed on this message `attempts` times; whoever gets it next counts on."""
        self.notes.append(Tried(delivery.lane, delivery.offset, Tries(attempts)))
        self.node.changed(self)

    # Settling --------------------------------------------------------------------------------------------

    def settle(self, lane: int, offset: int) -> None:
        """This one has met its fate."""
        self.in_hand -= 1
        self.node.took(-1)
        self._settle(lane, offset)
        if self.is_hungry and not self.suspects and self.drained is None:
            self.node.settled(self)
        else:
            self.node.changed(self)

    def _settle(self, lane: int, offset: int) -> None:
        """What is settled without a gap can be acked."""
        acked = self._acked[lane]
        if offset != acked:
            self._settled.add((lane, offset))
            return
        acked += 1
        if self._settled:
            while (lane, acked) in self._settled:
                self._settled.remove((lane, acked))
                acked += 1
        self._acked[lane] = acked

    def bury(self, inlet: Inlet) -> None:
        """Its actor has ended: what is left goes to `inlet`."""
        self.inlet, self.is_buried = inlet, True
        if self._unread and not self.is_fed:
            self.is_fed = True
            self.node.feed(self)

    def lose(self) -> None:
        """It is somebody else's."""
        if not self.gone:
            self.release()
            self.lost()

    def release(self) -> None:
        """It is not ours any more."""
        self.gone = True
        self._unread.clear()
        self.node.took(-self.in_hand)
        self.is_drained()


def _offsets(numbers: list[int]) -> Offsets:
    control, urgent, high, normal, low = numbers
    return control, urgent, high, normal, low


assert LANES == 5
