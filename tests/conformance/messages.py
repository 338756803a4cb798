"""Messages with a field of every kind that travels, strategies for them, and a wire of two functions."""

from __future__ import annotations

import datetime as dt
import enum
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from hypothesis import strategies as st

from transport.address import Address
from transport.codec import Codec, detail
from transport.errors import CodecError, DecodeError, MessageTooLarge
from transport.message import Message

T = TypeVar("T")


def encode(codec: Codec, value: Any) -> bytes:
    """What a wire sends: the bytes, or a `CodecError` or `MessageTooLarge`, whatever the codec raises."""
    try:
        return codec.encoder(type(value))(value)
    except (CodecError, MessageTooLarge):
        raise
    except Exception as error:
        raise CodecError(detail(error)) from error


def decode(codec: Codec, kind: type[T], data: bytes) -> T:
    """What a wire receives: a `kind` or a `DecodeError`, whatever the codec or a `__post_init__` raises."""
    try:
        return codec.decoder(kind)(data)
    except DecodeError:
        raise
    except Exception as error:  # noqa: BLE001  # as the wire does
        raise DecodeError(detail(error)) from None


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Circle(msgspec.Struct, frozen=True, tag=True):
    radius: float


class Square(msgspec.Struct, frozen=True, tag=True):
    side: int
    label: str | None = None


class Leaf(Message[None]):
    """A message inside another."""

    value: int | str | None


class Tree(msgspec.Struct, frozen=True):
    children: tuple[Tree, ...] = ()
    leaf: Leaf | None = None


class Everything(Message[str]):
    flag: bool
    whole: int
    ratio: float
    text: str
    raw: bytes
    maybe: int | None
    either: int | str | bool | None
    instant: dt.datetime
    local: dt.datetime
    day: dt.date
    clock: dt.time
    span: dt.timedelta
    uid: UUID
    price: Decimal
    colour: Colour
    level: Level
    where: Address
    back: Address | None
    route: dict[Address, int]
    shapes: list[Circle | Square]
    pair: tuple[int, str]
    many: tuple[bytes, ...]
    unique: frozenset[int]
    names: dict[int, str]
    tree: Tree
    anything: Any = None


class Nothing(Message[None]):
    pass


class Mute(Exception):
    """Does not even say what it is."""

    def __str__(self) -> str:
        raise ValueError("no text")


class Positive(Message[None]):
    """A message that checks itself, in a way that msgspec does not expect."""

    value: int

    def __post_init__(self) -> None:
        if self.value == 0:
            raise LookupError("zero")
        if self.value == 1:
            raise Mute


integers = st.integers(-(2**63), 2**64 - 1)  # what MessagePack has room for
floats = st.floats(allow_nan=False)
# A year off both ends, as an instant there may have no name in UTC.
instants = st.datetimes(
    min_value=dt.datetime(2, 1, 1),
    max_value=dt.datetime(9998, 12, 31),
    timezones=st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23)).map(
        lambda offset: dt.timezone(dt.timedelta(minutes=offset // dt.timedelta(minutes=1)))
    ),
)
names = st.text("abcXYZ019_.~@:+=-", min_size=1, max_size=12)
addresses = st.lists(names, min_size=1, max_size=4).map(lambda path: Address("/" + "/".join(path)))
leaves = st.builds(Leaf, integers | st.text() | st.none())
trees = st.recursive(
    st.builds(Tree, st.just(()), st.none() | leaves),
    lambda below: st.builds(Tree, st.lists(below, max_size=3).map(tuple), st.none() | leaves),
    max_leaves=8,
)


def anything_of(scalars: st.SearchStrategy[Any], keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Scalars, and lists and dicts of them in each other."""
    return st.recursive(
        scalars,
        lambda below: st.lists(below, max_size=4) | st.dictionaries(keys, below, max_size=4),
        max_leaves=12,
    )


def messages_of(floats: st.SearchStrategy[float], anything: st.SearchStrategy[Any]) -> st.SearchStrategy[Message[Any]]:
    """Messages of every kind, with these floats and with this in their fields of type `Any`."""
    shapes = st.builds(Circle, floats) | st.builds(Square, integers, st.none() | st.text())
    return st.one_of(
        st.just(Nothing()),
        leaves,
        st.builds(Positive, integers.filter(lambda value: value not in (0, 1))),
        st.builds(
            Everything,
            flag=st.booleans(),
            whole=integers,
            ratio=floats,
            text=st.text(),
            raw=st.binary(),
            maybe=st.none() | integers,
            either=integers | st.text() | st.booleans() | st.none(),
            instant=instants,
            local=st.datetimes(),
            day=st.dates(),
            clock=st.times(),
            span=st.timedeltas(dt.timedelta(days=-(10**6)), dt.timedelta(days=10**6)),
            uid=st.uuids(),
            price=st.decimals(allow_nan=False, allow_infinity=False),
            colour=st.sampled_from(Colour),
            level=st.sampled_from(Level),
            where=addresses,
            back=st.none() | addresses,
            route=st.dictionaries(addresses, integers, max_size=3),
            shapes=st.lists(shapes, max_size=3),
            pair=st.tuples(integers, st.text()),
            many=st.lists(st.binary(max_size=8), max_size=4).map(tuple),
            unique=st.frozensets(integers, max_size=4),
            names=st.dictionaries(integers, st.text(), max_size=3),
            tree=trees,
            anything=anything,
        ),
    )


finite = st.floats(allow_nan=False, allow_infinity=False)
anything = anything_of(st.none() | st.booleans() | integers | floats | st.text() | st.binary(), st.text() | integers)
messages = messages_of(floats, anything)
# What JSON itself has: a float that is finite, and no bytes nor keys but text where the type does not help.
json_anything = anything_of(st.none() | st.booleans() | integers | finite | st.text(), st.text())
json_messages = messages_of(finite, json_anything)
