"""`Envelope`: the carrier of one message, and `Outcome`: its one fate."""

from __future__ import annotations

import enum
import os
import time
from math import inf
from typing import Any, Literal, Protocol

import msgspec

from transport.address import Address
from transport.errors import ActorsError
from transport.message import AnyMessage


class Priority(enum.IntEnum):
    """The lane of a message: what is more urgent is handled first, each lane in its own order."""

    URGENT = 0
    HIGH = 1
    NORMAL = 2
    LOW = 3


# A plain int indexes a list twice as fast as an IntEnum member, and this one is on every message.
NORMAL = int(Priority.NORMAL)

Fate = Literal["handled", "failed", "expired", "dead-lettered"]


class Outcome(msgspec.Struct, frozen=True):
    """The one fate of an accepted message.

    `fate` is "handled", "failed" (its handler raised, or was killed), "expired" (its ttl or its asker's
    deadline passed, or its asker went away, before a handler started) or "dead-lettered" (any other
    reason for which it never reached a handler). `reason` says which in a word or two, `error` is the
    exception behind it. An answer "no" (`Refusal`) counts as handled and is the `error`.
    """

    fate: Fate
    reason: str = ""
    error: BaseException | None = None


class Failed(msgspec.Struct, frozen=True):
    """What a `Reply` is resolved with when there is no value: the error, and the fate it stands for."""

    error: BaseException
    outcome: Outcome


class Undecodable(msgspec.Struct, frozen=True):
    """Stands for the message of a frame of `size` bytes that nobody is to handle: a dead letter because of `error`.

    No actor has a handler for it, as it is not a `Message`.
    """

    error: ActorsError
    size: int
    reason: str = "undecodable"


class Reply(Protocol):
    """Where the answer to an envelope goes: a future, or what behaves like one."""

    def done(self) -> bool:
        """Whether it is resolved, or whoever waited has gone."""
        ...

    def set_result(self, result: Any, /) -> None:
        """Resolve it with the handler's value or with `Failed`; only while not `done`."""
        ...


class Envelope(msgspec.Struct, eq=False):
    """One message on its way, and what the runtime knows about it.

    `deadline` is in seconds on the event loop's clock: past it no handler starts. `reply_by` is when an
    ask's asker stops waiting, `chain` the addresses that wait for it, outermost first. `attempt` counts
    from 1. `traceparent` (W3C Trace Context) is for middleware to set; what a handler sends inherits it.
    `id` (a UUIDv7) is made when something asks for it and never otherwise: 0.7 µs, as much as the rest of a
    tell.
    """

    message: AnyMessage
    target: Address
    priority: int = NORMAL
    sender: Address | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    deadline: float | None = None
    reply: Reply | None = None
    reply_by: float = inf
    chain: tuple[Address, ...] = ()
    attempt: int = 1
    traceparent: str | None = None
    arrival: int = 0
    message_id: str | None = None

    @property
    def id(self) -> str:
        """The message's id, made at the first call."""
        if self.message_id is None:
            self.message_id = uuid7()
        return self.message_id


def uuid7() -> str:
    """A time-ordered id (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then 74 random bits.

    Written out here, as `uuid.UUID` takes twice as long, and an f-string a quarter longer.
    """
    milliseconds, random = time.time_ns() // 1_000_000, int.from_bytes(os.urandom(10))
    return "%08x-%04x-7%03x-%04x-%012x" % (  # noqa: UP031
        milliseconds >> 16, milliseconds & 0xFFFF,
        random >> 68, random >> 48 & 0x3FFF | 0x8000, random & 0xFFFF_FFFF_FFFF,
    )  # fmt: skip
