"""The messages in the vectors and the golden frames. Their wire names stay, wherever this file may move."""

from __future__ import annotations

import datetime as dt
import enum
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from transport.address import Address
from transport.message import Message


class Note(Message[str], wire_name="wire.Note"):
    text: str
    count: int = 0


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Circle(msgspec.Struct, frozen=True, tag=True):
    radius: float


class Square(msgspec.Struct, frozen=True, tag=True):
    side: int


class Types(Message[None], wire_name="wire.Types"):
    """A field of every kind that the format has a row for."""

    nothing: None
    flag: bool
    least: int
    most: int
    ratio: float
    text: str
    raw: bytes
    listed: list[int]
    pair: tuple[int, str]
    unique: frozenset[int]
    named: dict[str, int]
    numbered: dict[int, str]
    shape: Circle | Square
    colour: Colour
    instant: dt.datetime
    local: dt.datetime
    day: dt.date
    clock: dt.time
    span: dt.timedelta
    uid: UUID
    price: Decimal
    where: Address
    maybe: Address | None = None


class Box(Message[None], wire_name="wire.Box"):
    """Holds anything, however deep."""

    inside: Any = None


# How a type changed: `Account` had the fields `number`, `owner`, `limit` (an int) and `fax` at first; then `limit`
# became "int or nothing", `owner` was renamed, `fax` went and `tags` and `state` came; a later release adds more.


class State(enum.Enum):
    OPEN = "open"
    CLOSED = "closed"


class Account(Message[None], wire_name="wire.Account"):
    number: int
    holder: str = msgspec.field(name="owner")
    limit: int | None
    tags: list[str] = msgspec.field(default_factory=list)
    state: State = State.OPEN
