"""`MailboxStore`: the transitions of the mailboxes of one partition, whatever keeps them.

A node holds a lease, a mailbox has one owner and an epoch, the owner reads without taking and acks by offset. So
what was read and not acked is read again by the next owner, in the same order.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from transport.errors import ActorsError
from transport.mailbox import Overflow

LANES: Final = 5
"""Lane 0 is for control mail, then URGENT, HIGH, NORMAL and LOW."""
MOST: Final = 500
"""The most posts, turns or addresses of one call, which bounds the time for which it blocks the server."""


class Bytes(NamedTuple):
    """How many bytes of frames a turn may fetch, of each mailbox and of all; the frame that reaches it is the last."""

    each: int
    all: int


MOST_BYTES: Final = Bytes(1 << 20, 4 << 20)

Offsets = tuple[int, int, int, int, int]
"""A position in each lane. Offsets count from 0 for as long as the mailbox is known."""
START: Final[Offsets] = (0, 0, 0, 0, 0)


class LeaseLost(ActorsError):
    """The lease of this incarnation of a node has ended, and what it owned goes to others: join under a new name."""


# Sending -------------------------------------------------------------------------------------------------


class Post(NamedTuple):
    """A frame for the mailbox of `address`, as number `number` of its producer.

    Numbers grow from post to post and from call to call, gaps are harmless. `ttl` in seconds from now. Refused where
    `capacity` messages wait; None: as many as the mailbox itself says. Control mail finds always room.
    """

    address: str
    lane: int
    number: int
    frame: bytes
    ttl: float | None = None
    capacity: int | None = None


class Answer(enum.Enum):
    """What became of a post."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    """Accepted by an earlier call."""
    FULL = "full"
    """There is no room, and to wait for some is what the mailbox is for."""
    REJECTED = "rejected"
    """There is no room, and its sender is to hear of it."""
    STOPPED = "stopped"
    """Nobody lives there any more."""
    NOBODY = "nobody"
    """Nobody has lived there, for all that is known."""


class Sent(NamedTuple):
    """The definite answer to a post. `depth`: how many messages wait where it was full, control mail apart."""

    answer: Answer
    depth: int = 0


# Owning --------------------------------------------------------------------------------------------------


class Tries(NamedTuple):
    """How often a message has failed, and how often it was begun by a node that then died."""

    attempts: int = 0
    starts: int = 0


class Claim(NamedTuple):
    """A mailbox is yours, under this epoch: the first offset and the number of frames of each lane.

    `suspect`: the last owner died with it. `tries` by lane and offset.
    """

    epoch: int
    bases: Offsets
    depths: Offsets
    suspect: bool
    tries: Mapping[tuple[int, int], Tries]


class DeadLetter(NamedTuple):
    """The message at this offset is a dead letter because of `reason`. Written when this turn acks it."""

    lane: int
    offset: int
    reason: str


class Reply(NamedTuple):
    """`frame` goes into the outbox, as an answer to the message at this offset. Written when this turn acks it."""

    lane: int
    offset: int
    frame: bytes


class Delay(NamedTuple):
    """The message at this offset comes back to the end of its lane after `delay` seconds. Written when it is acked."""

    lane: int
    offset: int
    delay: float
    tries: Tries


class Tried(NamedTuple):
    """The message at this offset has been tried. Forgotten when it is acked; until then either number only grows."""

    lane: int
    offset: int
    tries: Tries


Note = DeadLetter | Reply | Delay | Tried


class Turn(NamedTuple):
    """Acks every offset under `acked`, and asks for `want` mails from `next` on, the most urgent lane first.

    Sent again at any time it changes nothing.
    """

    address: str
    epoch: int
    acked: Offsets
    next: Offsets
    want: int
    notes: Sequence[Note] = ()


class Mail(NamedTuple):
    """A frame in a mailbox. `left`: seconds until its ttl is over, by the server's clock."""

    lane: int
    offset: int
    frame: bytes
    left: float | None


class Fetched(NamedTuple):
    """What a turn brought. `more`: it was as much as was wanted, or as may be, so there may be more.

    Without `more` the bell rings for the next mail, if any was wanted. With it, it is for the owner to ask again.
    """

    mails: list[Mail]
    more: bool


class Stopped(NamedTuple):
    """`left`: how many frames the mailbox still holds. At 0 it has no owner any more."""

    left: int


class Chores(NamedTuple):
    """What is to be done in a partition, whoever does it: `reap`, `due`, and to claim the `orphans`.

    `orphans`: up to `MOST` addresses without an owner, that which has been waiting longest first. `owned`: what the
    node owns that asks, also where it does not know because the reply to `claim` was lost.
    """

    expired: bool
    due: bool
    orphans: list[str]
    owned: set[str]


# Operating -----------------------------------------------------------------------------------------------


class Buried(NamedTuple):
    """A dead letter, as it is kept; `id` grows."""

    id: str
    address: str
    lane: int
    reason: str
    frame: bytes


class Outgoing(NamedTuple):
    """A frame in the outbox; `id` grows."""

    id: str
    frame: bytes


class MailboxStore(Protocol):
    """One partition: its mailboxes, the leases of the nodes that own them, its dead letters and its outbox.

    Each call is one transition: it happens wholly or not at all. One that was not answered may be made again, with the
    same arguments; whichever copies arrive, in whatever order, it happens once. Times are the store's own clock's.
    """

    async def join(self, node: str, lease: float) -> None:
        """Give a new incarnation of a node a lease of so many seconds. Raises `LeaseLost` where its lease has ended."""
        ...

    async def beat(self, node: str, lease: float) -> None:
        """The lease ends so many seconds from now. Raises `LeaseLost` where it has ended before: nothing revives it."""
        ...

    async def claim(
        self, node: str, address: str, capacity: int, overflow: Overflow = Overflow.BLOCK, program: str = ""
    ) -> Claim | None:
        """Own the mailbox under a new epoch, or None: somebody else owns it, who is not dead for all we know.

        Makes a mailbox that is not there, and opens one that was stopped. One that drops what is over its capacity
        holds up to twice as much: what to drop is for its owner to say. Raises `LeaseLost`, and `AddressInUse` where
        whoever owns it runs another program, so that to wait for it is in vain.
        """
        ...

    async def send(self, producer: str, posts: Sequence[Post]) -> list[Sent]:
        """Append frames; one answer each. What follows a refused one to the same mailbox is refused, too: order.

        A refusal is for good: to try again, post it again under a new number.
        """
        ...

    async def turn(self, node: str, turns: Sequence[Turn]) -> list[Fetched | None]:
        """Ack and fetch, one answer each; None: fenced, the mailbox has gone to somebody else. Raises `LeaseLost`."""
        ...

    async def stop(self, node: str, address: str, epoch: int) -> Stopped | None:
        """Take no more mail; with nothing left in it, own it no more. None: fenced. Raises `LeaseLost`."""
        ...

    async def release(self, node: str, claims: Sequence[tuple[str, int]]) -> list[bool]:
        """Hand mailboxes (address, epoch) to whoever claims them next; False where fenced. Raises `LeaseLost`."""
        ...

    async def leave(self, node: str) -> bool:
        """End the lease, where the node owns nothing any more."""
        ...

    async def reap(self, grace: float) -> int | None:
        """Make orphans of what a node owned whose lease ended `grace` seconds ago: how many; None where none has."""
        ...

    async def bells(self, node: str) -> list[str]:
        """Where new mail has come in, since the last call; only a hint.

        For who waits for mail, after a turn that brought less than it wanted; control mail and URGENT always ring.
        """
        ...

    async def tend(self, node: str, grace: float) -> Chores:
        """See what is to be done, `grace` as for `reap`. Changes nothing."""
        ...

    async def due(self) -> int:
        """Bring delayed messages back whose time has come; how many. What was for a stopped actor is a dead letter."""
        ...

    async def outbox(self) -> list[Outgoing]:
        """The oldest replies and receipts, up to `MOST`."""
        ...

    async def forwarded(self, ids: Iterable[str]) -> None:
        """These have reached their mailbox."""
        ...

    async def dead_letters(self, after: str = "") -> list[Buried]:
        """Up to `MOST` of them, the oldest first, from behind the id `after`."""
        ...

    async def requeue(self, id: str) -> bool:  # noqa: A002
        """Put a dead letter at the end of the lane that it came from; False where it or its mailbox is gone."""
        ...

    async def discard(self, ids: Iterable[str]) -> int:
        """Throw dead letters away; how many there were."""
        ...

    async def peek(self, address: str, lane: int, skip: int = 0) -> list[Mail]:
        """Up to `MOST` frames of a lane, from the `skip`-th on."""
        ...

    async def purge(self, address: str) -> int:
        """Throw away all that waits there now, but control mail; how many. What its owner has read it still handles."""
        ...
