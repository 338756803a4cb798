"""Every codec: what goes in comes out, and no bytes at all do harm (invariant 18)."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import time
import traceback
import tracemalloc
from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, TypedDict, TypeVar

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import field

from tests.conformance.messages import (
    Circle,
    Everything,
    Leaf,
    Nothing,
    Positive,
    Square,
    Tree,
    anything,
    decode,
    encode,
    json_anything,
    json_messages,
    messages,
)
from transport.address import Address
from transport.codec import JSON, Codec, MessagePack
from transport.errors import CodecError, DecodeError, MessageTooLarge
from transport.message import Message

T = TypeVar("T")
MSGPACK, AS_JSON = MessagePack(), JSON()
KINDS = (Everything, Leaf, Nothing, Positive)
CODECS = pytest.mark.parametrize("codec", [pytest.param(MSGPACK, id="msgpack"), pytest.param(AS_JSON, id="json")])
MESSAGES = {"msgpack": messages, "json": json_messages}
ANYTHING = {"msgpack": anything, "json": json_anything}
WRITE: dict[str, Callable[[Any], bytes]] = {"msgpack": msgspec.msgpack.encode, "json": msgspec.json.encode}

# What a hostile sender would try, in MessagePack: a promise of 4 GiB, deep nesting, ...
PACKED_BOMBS = {
    "4 Gi elements": b"\xdd\xff\xff\xff\xff",
    "4 Gi pairs": b"\xdf\xff\xff\xff\xff",
    "4 GiB of text": b"\xdb\xff\xff\xff\xff",
    "4 GiB of bytes": b"\xc6\xff\xff\xff\xff",
    "4 GiB of an extension": b"\xc9\xff\xff\xff\xff\x01",
    "60,000 arrays in each other": b"\x91" * 60_000,
    "30,000 maps in each other": b"\x81\x01" * 30_000,
    "60,000 maps as each other's keys": b"\x81" * 60_000,
    "13,000 arrays that promise 4 Gi elements": b"\xdd\xff\xff\xff\xff" * 13_000,
    "32 arrays that promise 4 Gi elements, and 65,000 that are empty": b"\xdd\xff\xff\xff\xff" * 31 + b"\x90" * 65_000,
    "65,535 empty maps": b"\xdc\xff\xff" + b"\x80" * 65_535,
    "65,535 empty arrays": b"\xdc\xff\xff" + b"\x90" * 65_535,
    "65,535 bytes of bad UTF-8": b"\xda\xff\xff" + b"\xff" * 65_535,
    "65,535 braces": b"\xda\xff\xff" + b"{" * 65_535,
    "30,000 equal keys": b"\xde\x75\x30" + b"\xa1a\x01" * 30_000,
    "30,000 keys that are arrays": b"\xde\x75\x30"
    + b"".join(b"\x91\xcd" + n.to_bytes(2) + b"\x01" for n in range(30_000)),
    "an instant past the year 9999": b"\xc7\x0c\xff\x00\x00\x00\x00" + b"\x7f" * 8,
    "an instant of 3 bytes": b"\xc7\x03\xffabc",
    "an unknown extension": b"\xd4\x05a",
    "the one unused code": b"\xc1",
    "a map with a map for a key": b"\x81\x80\x01",
    "no end": b"\x92\x01",
    "more after the end": b"\x80\x80",
    "nothing": b"",
}
JSON_BOMBS = {
    "60,000 arrays in each other, open": b"[" * 60_000,
    "30,000 arrays in each other": b"[" * 30_000 + b"]" * 30_000,
    "20,000 objects in each other": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    "10,000 objects within the escaped key of each other": b'{"\\u0061":' * 10_000,
    "65,535 empty objects": b"[" + b"{}," * 65_534 + b"{}]",
    "65,535 empty arrays": b"[" + b"[]," * 65_534 + b"[]]",
    "a million digits": b"9" * 1_000_000,
    "minus a million digits": b"-" + b"9" * 1_000_000,
    "a million digits after the point": b"0." + b"1" * 1_000_000,
    "an exponent of a million digits": b"1e" + b"9" * 1_000_000,
    "50,000 whole numbers that are too long": b"[" + b"99999999999999999999," * 50_000 + b"1]",
    "a number of a billion digits": b"1e999999999",
    "minus a number of a billion digits": b"-1e999999999",
    "a number of a billion zeros": b"1e-999999999",
    "an integer of 2**64": b"18446744073709551616",
    "no number": b"NaN",
    "no end of numbers": b"-Infinity",
    "60,000 escapes": b'"' + b"\\u0000" * 60_000 + b'"',
    "60,000 escaped quotes without an end": b"[" * 40 + b'"' + b'\\"' * 60_000,
    "60,000 open quotes": b"[" * 40 + b'"' * 60_001,
    "60,000 backslashes": b'"' + b"\\" * 60_001,
    "20,000 equal keys": b'{"a":1' + b',"a":1' * 20_000 + b"}",
    "20,000 keys of long digits": b"{" + b'"1111111111111111111":1,' * 20_000 + b'"a":1}',
    "half a surrogate pair": b'"\\ud800"',
    "the other half": b'"\\udc00"',
    "a surrogate pair in the wrong order": b'"\\udc00\\ud800"',
    "a surrogate in UTF-8": b'"\xed\xa0\x80"',
    "65,535 bytes of bad UTF-8": b'"' + b"\xff" * 65_535 + b'"',
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "a NUL": b"\x00",
    "a NUL in a text": b'"\x00"',
    "an escape that is none": b'"\\x41"',
    "brackets that do not match": b"[}",
    "closing brackets before as many that open": b"]" * 1000 + b"[" * 1000,
    "no end": b'{"a":[1,',
    "more after the end": b"{}{}",
    "nothing": b"",
}
BOMBS: list[Any] = [
    pytest.param(codec, bomb, id=f"{codec.name}-{name}")
    for codec, bombs in ((MSGPACK, PACKED_BOMBS), (AS_JSON, JSON_BOMBS))
    for name, bomb in bombs.items()
]


def one_field(codec: Codec, name: str, value: bytes) -> bytes:
    """A map of one field, whose value is written as these bytes."""
    if codec.name == "msgpack":
        return b"\x81" + WRITE["msgpack"](name) + value
    return b'{"' + name.encode() + b'":' + value + b"}"


class Foreign:
    pass


class Hidden(Message[None]):
    """Encodes as msgspec sees it, but nobody could decode it: two untagged structs are not to be told apart."""

    either: Nothing | Leaf


class Unresolved(Message[None]):
    missing: Missing  # type: ignore[name-defined]  # noqa: F821  # that is the point


class Alien(Message[None]):
    foreign: Foreign


class Holder(Message[None]):
    value: Any


class Table(Message[None]):
    """Holds keys, and values that are looked up by their hashes."""

    counts: dict[int, int] = field(default_factory=dict)
    seen: frozenset[int] = frozenset()
    either: dict[int | str, int] = field(default_factory=dict)
    ratios: list[float] = field(default_factory=list)


def refusal(codec: Codec, kind: type[Message[Any]], data: bytes) -> str:
    """Why `data` is no `kind`; empty where it is one."""
    try:
        decoded = decode(codec, kind, data)
    except DecodeError as error:
        return str(error)
    assert type(decoded) is kind
    return ""


# What goes in comes out ----------------------------------------------------------------------------------


@CODECS
@given(data=st.data())
def test_what_goes_in_comes_out(codec: Codec, data: st.DataObject) -> None:
    message = data.draw(MESSAGES[codec.name])
    decoded = decode(codec, type(message), encode(codec, message))
    assert decoded == message
    assert type(decoded) is type(message)


@CODECS
@pytest.mark.parametrize("value", [7, "text", [1, [2]], {"a": None}, None, True, Circle(0.5), Address("/a")], ids=repr)
def test_values_that_are_no_messages_come_out_too(codec: Codec, value: Any) -> None:
    """Replies have any type; that messages are registered ones is the wire's business."""
    decoded = decode(codec, type(value), encode(codec, value))
    assert decoded == value
    assert type(decoded) is type(value)


@CODECS
def test_a_type_with_parameters_is_decoded(codec: Codec) -> None:
    assert decode(codec, list[Leaf], encode(codec, [Leaf(1), Leaf("a")])) == [Leaf(1), Leaf("a")]


@CODECS
def test_an_address_comes_back_as_an_address(codec: Codec) -> None:
    class Letter(Message[None]):
        to: Address
        copies: dict[Address, list[Address | None]]

    letter = Letter(to=Address("/a"), copies={Address("/b"): [Address("/c/d"), None]})
    back = decode(codec, Letter, encode(codec, letter))
    assert back == letter
    ((key, values),) = back.copies.items()
    assert [type(each) for each in (back.to, key, *values)] == [Address, Address, Address, type(None)]


@CODECS
def test_an_address_within_anything_travels_as_text(codec: Codec) -> None:
    assert decode(codec, Holder, encode(codec, Holder(Address("/a")))) == Holder("/a")


TEXTS = ["a", "/a b", "/a{b}", "/a\0", "/a\n", "/\xe9", "", "/" + "a" * 200, "/a" * 100_000]


@CODECS
@pytest.mark.parametrize("wrong", [*TEXTS, b"/a", 7, 1.5, True, None, [], {}], ids=lambda wrong: ascii(wrong)[:20])
def test_an_address_from_the_wire_has_to_keep_its_grammar(codec: Codec, wrong: Any) -> None:
    class To(Message[None]):
        to: Address
        seen: dict[Address, int] | None = None

    contents: list[Any] = [{"to": wrong}, {"to": [wrong]}]
    if isinstance(wrong, str):
        contents.append({"to": "/a", "seen": {wrong: 1}})
    for content in contents:
        assert 0 < len(refusal(codec, To, WRITE[codec.name](content))) < 300


@CODECS
@pytest.mark.parametrize("wrong", ["7", 7.0, None, [7], True], ids=repr)
def test_nothing_is_taken_for_a_number_that_is_none(codec: Codec, wrong: Any) -> None:
    with pytest.raises(DecodeError, match=r"Expected `int`, got `\w+` - at `\$\.value`"):
        decode(codec, Positive, encode(codec, Holder(wrong)))


@CODECS
def test_functions_are_made_once_for_each_type(codec: MessagePack | JSON, monkeypatch: pytest.MonkeyPatch) -> None:
    class Once(Message[None]):
        value: Any = None

    fresh = type(codec)()
    made = fresh.encoder(Once), fresh.decoder(Once)
    monkeypatch.setattr(getattr(msgspec, codec.name), "Decoder", None)
    assert (fresh.encoder(Once), fresh.decoder(Once)) == made


@CODECS
def test_a_type_is_tried_again_once_what_it_names_is_defined(codec: Codec) -> None:
    class Late(Message[None]):
        value: LateType  # type: ignore[name-defined]  # noqa: F821  # defined below

    with pytest.raises(CodecError, match="LateType"):
        codec.encoder(Late)
    globals()["LateType"] = int
    try:
        assert decode(codec, Late, encode(codec, Late(1))) == Late(1)
    finally:
        del globals()["LateType"]


# Both ends need not change on the same day ---------------------------------------------------------------


class Flat(msgspec.Struct, frozen=True):
    side: int


class Plain(Message[None]):
    kept: int
    shape: Circle


class Grown(Message[None]):
    kept: int
    shape: Circle | Square
    added: str = "default"
    many: list[int] = field(default_factory=list)


class Renamed(Message[None]):
    preserved: int = field(name="kept")
    form: Circle = field(name="shape")


class Wider(Message[None]):
    kept: int | str | None
    shape: Any = None


class Less(Message[None]):
    shape: Circle


class Untagged(Message[None]):
    shape: Flat


class Strict(Message[None], forbid_unknown_fields=True):
    kept: int


@CODECS
@pytest.mark.parametrize(
    ("sent", "received"),
    [
        (Plain(1, Circle(2.0)), Grown(1, Circle(2.0), "default", [])),  # fields are new, a struct is one of a union
        (Grown(1, Circle(2.0), "new", [3]), Plain(1, Circle(2.0))),  # and the other way round
        (Plain(1, Circle(2.0)), Renamed(1, Circle(2.0))),
        (Renamed(1, Circle(2.0)), Plain(1, Circle(2.0))),
        (Plain(1, Circle(2.0)), Less(Circle(2.0))),
        (Plain(1, Circle(2.0)), Wider(1, {"type": "Circle", "radius": 2.0})),
        (Wider(1, Circle(2.0)), Plain(1, Circle(2.0))),
        (Grown(1, Circle(2.0), "x" * 40, [1] * 40), Nothing()),
    ],
    ids=lambda message: type(message).__name__,
)
def test_both_ends_need_not_change_on_the_same_day(codec: Codec, sent: Any, received: Any) -> None:
    decoded = decode(codec, type(received), encode(codec, sent))
    assert decoded == received
    assert type(decoded) is type(received)


@CODECS
@pytest.mark.parametrize(
    ("sent", "kind", "why"),
    [
        (Less(Circle(2.0)), Plain, "Object missing required field `kept`"),
        (Grown(1, Square(2)), Plain, r"Invalid value - at `\$\.shape\.type`"),  # a member of the union that is new
        (Untagged(Flat(2)), Grown, "Object missing required field"),  # it should have had a tag from the first day
        (Wider("1"), Plain, r"Expected `int`, got `str` - at `\$\.kept`"),
        (Plain(1, Circle(2.0)), Strict, "Object contains unknown field"),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_a_change_that_breaks_is_a_decode_error_that_says_where(
    codec: Codec, sent: Any, kind: type[Message[Any]], why: str
) -> None:
    with pytest.raises(DecodeError, match=why):
        decode(codec, kind, encode(codec, sent))


# Any bytes at all ----------------------------------------------------------------------------------------


class Edit(NamedTuple):
    """What a bad line or a bad sender does to bytes: at `where`, `length` of them become `instead`."""

    where: int
    length: int
    instead: bytes


edits = st.builds(
    Edit,
    st.integers(0, 400),
    st.integers(0, 6),
    st.binary(max_size=6) | st.sampled_from([*PACKED_BOMBS.values(), *JSON_BOMBS.values()]),
)
kinds = st.sampled_from([*KINDS, Holder, Table])


@CODECS
@given(data=st.data(), edits=st.lists(edits, max_size=4), kind=st.none() | kinds)
def test_damaged_bytes_make_a_message_or_a_codec_error(
    codec: Codec, data: st.DataObject, edits: list[Edit], kind: type[Message[Any]] | None
) -> None:
    message = data.draw(MESSAGES[codec.name])
    damaged = encode(codec, message)
    for edit in edits:
        damaged = damaged[: edit.where] + edit.instead + damaged[edit.where + edit.length :]
    assert len(refusal(codec, kind or type(message), damaged)) < 300


@CODECS
@given(data=st.binary(max_size=200), kind=kinds)
@example(data=b"\x81\xa5value\xa2\xff\xfe", kind=Leaf)
@example(data=b'{"value":"\xff\xfe"}', kind=Leaf)
@example(data=b'{"value":"\xff\xfe"}', kind=Nothing)
def test_any_bytes_make_a_message_or_a_codec_error(codec: Codec, data: bytes, kind: type[Message[Any]]) -> None:
    assert len(refusal(codec, kind, data)) < 300


@pytest.mark.parametrize(("codec", "bomb"), BOMBS)
@pytest.mark.parametrize("kind", [Holder, Everything, Leaf, Nothing, Table])
def test_no_bytes_take_memory_or_time_out_of_proportion(codec: Codec, bomb: bytes, kind: type[Message[Any]]) -> None:
    """As a whole, and as the value of each field, also of one that the type does not know."""
    codec.decoder(kind)
    fields = ["unknown", *kind.__struct_fields__]
    for data in [bomb, *(one_field(codec, name, bomb) for name in fields)]:
        tracemalloc.start()
        start = time.process_time()
        text = refusal(codec, kind, data)
        took = time.process_time() - start
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 100_000 + 100 * len(data)
        assert took < 1.0, "what is quadratic takes longer for 60,000"
        assert len(text) < 300, "an error does not repeat what it was sent"


@CODECS
@pytest.mark.parametrize("error", [LookupError, RecursionError, MemoryError, StopIteration, DecodeError, UnicodeError])
def test_whatever_a_post_init_raises_is_a_decode_error(codec: Codec, error: Any) -> None:
    class Choosy(Message[None]):
        accepts: bool

        def __post_init__(self) -> None:
            if not self.accepts:
                raise error("no")

    assert decode(codec, Choosy, encode(codec, Choosy(True))) == Choosy(True)
    with pytest.raises(DecodeError):
        decode(codec, Choosy, WRITE[codec.name]({"accepts": False}))


# What cannot be carried ----------------------------------------------------------------------------------

CANNOT_BE_CARRIED = {
    "2**64": 2**64,
    "-2**63-1": -(2**63) - 1,
    "an int of 5,000 digits": 10**5000,
    "a lone surrogate": "\ud800",
    "a complex number": 1j,
    "an object": Foreign(),
    "a class": Foreign,
}


@CODECS
@pytest.mark.parametrize("value", CANNOT_BE_CARRIED.values(), ids=CANNOT_BE_CARRIED)
def test_what_cannot_be_carried_is_a_codec_error_at_the_sender(codec: Codec, value: Any) -> None:
    with pytest.raises(CodecError):
        encode(codec, Holder(value))


@CODECS
@pytest.mark.parametrize("whole", [-(2**63) - 1, -(2**63), 2**63, 2**64 - 1, 2**64, -(10**19), 10**19, 10**20])
def test_whole_numbers_have_64_bits(codec: Codec, whole: int) -> None:
    """Others are refused at both ends, wherever they stand; in a text they are no numbers."""
    table: Any
    for table in (Holder(whole), Leaf(whole), Table(counts={1: whole}), Table(counts={whole: 1}), Table(seen={whole})):  # type: ignore[arg-type]
        data = json.dumps(msgspec.to_builtins(table, str_keys=True)).encode()
        if -(2**63) <= whole < 2**64:
            assert decode(codec, type(table), encode(codec, table)) == table
            assert codec is not AS_JSON or decode(codec, type(table), data) == table
        else:
            with pytest.raises(CodecError):
                encode(codec, table)
            assert codec is not AS_JSON or "whole number outside" in refusal(codec, type(table), data)
    text = f"{whole}, {whole}"
    assert decode(codec, Leaf, encode(codec, Leaf(f'"{text}": {text}'))).value == f'"{text}": {text}'
    assert decode(codec, Table, encode(codec, Table(either={text: 1}))).either == {text: 1}


@CODECS
@pytest.mark.parametrize("message", [Hidden(Nothing()), Unresolved(1)], ids=repr)
def test_a_type_that_nobody_could_decode_is_a_codec_error_at_both_ends(codec: Codec, message: Message[Any]) -> None:
    with pytest.raises(CodecError, match=f"{codec.name} cannot carry .*{type(message).__name__}"):
        codec.encoder(type(message))
    with pytest.raises(CodecError, match=f"{codec.name} cannot carry .*{type(message).__name__}"):
        codec.decoder(type(message))


@CODECS
def test_a_field_of_a_foreign_class_is_a_codec_error_at_both_ends(codec: Codec) -> None:
    with pytest.raises(CodecError, match="a Foreign has no form on the wire"):
        encode(codec, Alien(Foreign()))
    assert refusal(codec, Alien, WRITE[codec.name]({"foreign": 1})) == "TypeError - at `$.foreign`"


# Depth ---------------------------------------------------------------------------------------------------


def depth_of(value: Any) -> int:
    """How many dicts and lists there are around the innermost value."""
    deepest, level = 0, [value]
    while level := [
        inner
        for each in level
        if isinstance(each, dict | list | tuple)
        for inner in [None, *(each.values() if isinstance(each, dict) else each)]
    ]:
        deepest += 1
    return deepest


def in_lists(depth: int) -> Any:
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return value


def in_dicts(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


def beside_others(depth: int) -> Any:
    """Everything that the way to the next bracket leads past: each kind of scalar and length, and brackets in texts."""
    scalars = [*range(-40, 140), 2**8, 2**16, 2**32, 2**64 - 1, -(2**7), -(2**15), -(2**31), -(2**63), 0.5, None, True]
    texts = ["[" * size for size in (0, 1, 31, 32, 255, 256, 65_535, 65_536)]
    others = [*scalars, *texts, '"', "\\", '\\"[', "é[", "\U0001f600{"]
    value: Any = {}
    for level in range(depth - 1):
        value = [*others, [], {}, value] if level == 0 else [[], ["]"], {"}": "]", "a": value}][2]
    return value


def after_many(depth: int) -> Any:
    """Arrays and maps of each length of head, of one kind of scalar (which is skipped at once) and of two."""
    fillings: list[list[Any]] = [[0.5], [1], [300], [0.5, 1], [""]]
    value: Any = {}
    for level in range(depth - 1):
        size = (1, 15, 16, 17, 70_000)[level % 5] if level < 5 else 2
        filling = fillings[level % 5] * size
        if level % 2:
            value = [filling, *filling, value]
        else:
            value = {"f": filling, **dict.fromkeys(map(str, range(size))), "v": value}
    return value


@CODECS
@pytest.mark.parametrize("build", [in_lists, in_dicts, beside_others, after_many])
@pytest.mark.parametrize("depth", [2, 3, 7, 32, 100])
def test_depth_counts_maps_and_arrays_up_to_the_innermost_value(
    codec: MessagePack | JSON, build: Callable[[int], Any], depth: int
) -> None:
    limited = type(codec)(depth)
    message = Holder(build(depth - 1))
    assert depth_of({"value": message.value}) == depth
    data = encode(limited, message)
    assert decode(limited, Holder, data) == message

    message = Holder(build(depth))
    with pytest.raises(MessageTooLarge, match=f"it nests deeper than {depth}$") as caught:
        encode(limited, message)
    assert caught.value.envelope is None
    data = encode(type(codec)(1000), message)
    with pytest.raises(DecodeError, match=f"it nests deeper than {depth}$"):
        decode(limited, Holder, data)


@CODECS
def test_a_message_nests_at_most_32_deep_unless_said_otherwise(codec: Codec) -> None:
    assert decode(codec, Holder, encode(codec, Holder(in_lists(31)))) == Holder(in_lists(31))
    with pytest.raises(MessageTooLarge):
        encode(codec, Holder(in_lists(32)))
    assert refusal(codec, Holder, WRITE[codec.name](Holder(in_lists(32)))) == "it nests deeper than 32"


@CODECS
@given(data=st.data(), depth=st.integers(1, 4))
def test_the_depth_is_exact(codec: MessagePack | JSON, data: st.DataObject, depth: int) -> None:
    value = data.draw(ANYTHING[codec.name])
    limited, whole = type(codec)(depth), encode(codec, Holder(value))
    if depth_of({"value": value}) <= depth:
        assert encode(limited, Holder(value)) == whole
        assert not refusal(limited, Holder, whole)
    else:
        assert refusal(limited, Holder, whole) == f"it nests deeper than {depth}"
        with pytest.raises(MessageTooLarge):
            encode(limited, Holder(value))


@CODECS
@given(data=st.data(), edits=st.lists(edits, max_size=4), depth=st.integers(1, 4))
def test_what_decodes_from_damaged_bytes_is_no_deeper(
    codec: MessagePack | JSON, data: st.DataObject, edits: list[Edit], depth: int
) -> None:
    damaged = encode(codec, Holder(data.draw(ANYTHING[codec.name])))
    for edit in edits:
        damaged = damaged[: edit.where] + edit.instead + damaged[edit.where + edit.length :]
    try:
        value = decode(type(codec)(depth), Holder, damaged).value
    except DecodeError:
        return
    assert depth_of({"value": value}) <= depth


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)


@CODECS
@pytest.mark.parametrize("value", [CIRCLE, in_lists(5000), in_dicts(5000)], ids=["a circle", "lists", "dicts"])
def test_what_has_no_end_is_too_large(codec: Codec, value: Any) -> None:
    with pytest.raises(MessageTooLarge):
        encode(codec, Holder(value))


class Page(Message[None], Generic[T]):
    content: T


class Pair(NamedTuple):
    left: int
    right: Any


class Options(TypedDict, total=False):
    value: Any


@dataclasses.dataclass
class Data:
    value: Any = None


class Chain(Message[None]):
    after: Link | None = None


class Link(Message[None]):
    chain: Chain | None = None


class Raw(Message[None]):
    value: msgspec.Raw = msgspec.Raw(b"")


UNBOUNDED: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "Any": (Holder, lambda deep: {"value": deep}),
    "Any alone": (Any, lambda deep: deep),
    "a list": (list, lambda deep: [deep]),
    "a list of Any": (list[Any], lambda deep: [1, deep]),
    "a dict of Any": (dict[str, Any], lambda deep: {"a": deep}),
    "a tuple with Any": (tuple[int, Any], lambda deep: [1, deep]),
    "many of a union": (list[int | list[Any]], lambda deep: [1, deep]),
    "a NamedTuple": (Pair, lambda deep: [1, deep]),
    "a TypedDict": (Options, lambda deep: {"value": deep}),
    "a dataclass": (Data, lambda deep: {"value": deep}),
    "a struct with a parameter": (Page[Any], lambda deep: {"content": deep}),
    "a struct without its parameter": (Page, lambda deep: {"content": deep}),
    "a struct within others": (Page[dict[str, list[Page[Any]]]], lambda deep: {"content": {"a": [{"content": deep}]}}),
    "a struct twice, once bounded": (tuple[Page[int], Page[Any]], lambda deep: [{"content": 1}, {"content": deep}]),
    "an address": (list[Address], lambda deep: [deep]),
    "bytes that are not decoded": (Raw, lambda deep: {"value": deep}),
}


@CODECS
@pytest.mark.parametrize(("kind", "around"), UNBOUNDED.values(), ids=UNBOUNDED)
def test_a_type_that_sets_no_bound_is_checked(codec: Codec, kind: Any, around: Callable[[Any], Any]) -> None:
    refused = r"it nests deeper than 32"
    room = 32 - depth_of(around(0))
    for deep, is_refused in ((in_lists(room), False), (in_lists(room + 1), True), (in_dicts(room + 1), True)):
        data = WRITE[codec.name](around(deep))
        assert (refused in refusal_of_any(codec, kind, data)) == is_refused


def refusal_of_any(codec: Codec, kind: Any, data: bytes) -> str:
    try:
        decode(codec, kind, data)
    except DecodeError as error:
        return str(error)
    return ""


@CODECS
def test_a_type_that_holds_itself_is_checked(codec: MessagePack | JSON) -> None:
    def tree(depth: int) -> Tree:
        return Tree() if depth == 2 else Tree((tree(depth - 2),))  # each is a map, with an array

    def chain(depth: int) -> Chain:
        return Chain() if depth == 1 else Chain(Link()) if depth == 2 else Chain(Link(chain(depth - 2)))

    for build in (tree, chain):
        whole: Any = build(32)
        assert decode(codec, type(whole), encode(codec, whole)) == whole
        deeper: Any = build(34)
        with pytest.raises(MessageTooLarge):
            encode(codec, deeper)
        data = encode(type(codec)(34), deeper)
        assert refusal_of_any(codec, type(deeper), data) == "it nests deeper than 32"
    with pytest.raises(MessageTooLarge):
        encode(codec, chain(33))


@CODECS
def test_a_type_that_is_deeper_by_itself_is_checked(codec: MessagePack | JSON) -> None:
    class Cube(Message[None]):
        planes: list[list[list[int]]]

    for depth in (1, 2, 3):
        with pytest.raises(MessageTooLarge, match=f"deeper than {depth}"):
            encode(type(codec)(depth), Cube([[[1]]]))
    for codec_of_4 in (type(codec)(4), codec):
        assert decode(codec_of_4, Cube, encode(codec_of_4, Cube([[[1]]]))) == Cube([[[1]]])
    assert encode(type(codec)(2), Cube([])), "the value counts, and not the type"


@CODECS
@pytest.mark.parametrize("depth", [0, -1])
def test_a_message_is_one_deep_at_least(codec: MessagePack | JSON, depth: int) -> None:
    with pytest.raises(ValueError, match=f"depth={depth}"):
        type(codec)(depth)
    assert encode(type(codec)(1), Nothing())


def test_ordinary_types_have_no_function_but_the_one_in_c() -> None:
    c_function = type(msgspec.msgpack.Encoder().encode)
    for kind in (Plain, Grown, Nothing, Leaf, Positive, Table, Page[dict[str, list[int]]], int, list[float]):
        assert type(MSGPACK.encoder(kind)) is type(MSGPACK.decoder(kind)) is c_function, kind


@CODECS
def test_what_the_type_does_not_know_is_passed_over_however_deep(codec: Codec) -> None:
    data = WRITE[codec.name]({"later": in_lists(200), "kept": 1, "shape": {"type": "Circle", "radius": 2.0}})
    assert decode(codec, Plain, data) == Plain(1, Circle(2.0))
    bomb = b"\x91" * 60_000 if codec.name == "msgpack" else b"[" * 60_000
    assert refusal(codec, Plain, one_field(codec, "later", bomb)) == "RecursionError"


# What an error says --------------------------------------------------------------------------------------

MARKER = "SeCrEt"
NUMBER = 7373737373  # stands for a number that nobody should see


class Echo(Message[None]):
    """Tells everybody what it was given, in each way that there is."""

    text: str
    way: int

    def __post_init__(self) -> None:
        errors: list[Exception] = [
            ValueError(self.text),
            TypeError(f"{self.text} - at `$.{self.text}`"),
            LookupError(self.text),
            msgspec.ValidationError(f"{self.text} is wrong"),
            msgspec.DecodeError(self.text),
            UnicodeDecodeError("utf-8", self.text.encode(), 0, 1, self.text),
            RuntimeError(self.text),
        ]
        try:
            raise KeyError(self.text)
        except KeyError as error:
            raise errors[self.way] from error


class Tagged(Message[None]):
    shape: Circle | Square
    numbered: One | Two | None = None
    level: dict[str, list[dict[str, int]]] = field(default_factory=dict)


class One(msgspec.Struct, tag=1):
    pass


class Two(msgspec.Struct, tag=2):
    pass


SOUND: dict[type[Message[Any]], Any] = {
    Leaf: {"value": 1},
    Strict: {"kept": 1},
    Echo: {"text": "", "way": 0},
    Tagged: {
        "shape": {"type": "Circle", "radius": 1.0},
        "numbered": {"type": 1},
        "level": {"a": [{"b": 1}]},
    },
    Everything: {
        "flag": True, "whole": 1, "ratio": 0.5, "text": "", "raw": "", "maybe": None, "either": "a",
        "instant": "2024-01-01T00:00:00Z", "local": "2024-01-01T00:00:00", "day": "2024-01-01", "clock": "00:00:00",
        "span": "PT1S", "uid": "00000000-0000-0000-0000-000000000000", "price": "1.5", "colour": "red", "level": 1,
        "where": "/a", "back": None, "route": {"/a": 1}, "shapes": [{"type": "Square", "side": 1}], "pair": [1, ""],
        "many": [], "unique": [1], "names": {"1": ""}, "tree": {"children": [], "leaf": {"value": 1}}, "anything": 1,
    },
}  # fmt: skip
WRONG: list[Any] = [
    MARKER, [MARKER], {MARKER: MARKER}, {"type": MARKER}, {"type": NUMBER}, NUMBER, -NUMBER, NUMBER + 0.5,
    [[NUMBER, MARKER]], {"/a": MARKER}, {f"/{MARKER} ": 1}, f"x` - at `$.{MARKER}", f"x' - at `$.{MARKER}`",
    f" - at `$.{MARKER}`", {f"x` - at `$.{MARKER}": 1},
    {"type": f"x' - at `$.{MARKER}"}, {"type": f"x - at `key` in `$.{MARKER}"},
    f"2024-01-01T{MARKER}", f"/{MARKER} {MARKER}", f"{MARKER}\ufffd" * 50, MARKER + "\x00", None,
    {"type": f"(byte 5) {MARKER} (byte 5)"},
]  # fmt: skip


def damaged(content: Any) -> Iterable[Any]:
    """`content` with each of its parts replaced by each wrong value, and with one more key."""
    yield from WRONG
    if isinstance(content, dict):
        for name, value in content.items():
            for wrong in damaged(value):
                yield {**content, name: wrong}
            yield {each: content[each] for each in content if each != name} | {MARKER: value}
        for wrong in WRONG:
            yield {**content, MARKER: wrong}
            if isinstance(wrong, str):
                yield {**content, wrong: wrong}
    elif isinstance(content, list):
        for at, value in enumerate(content):
            for wrong in damaged(value):
                yield [*content[:at], wrong, *content[at + 1 :]]


def assert_nothing_is_told(codec: Codec, kind: type[Message[Any]], data: bytes) -> bool:
    """Whether `data` was refused."""
    try:
        decode(codec, kind, data)
    except DecodeError as refused:
        error = refused
    else:
        return False
    said = [str(error), repr(error), *traceback.format_exception(error)]
    assert not [text for text in said if MARKER in text or str(NUMBER) in text]
    assert not {"\x00", "\n"} & {*str(error)}
    return True


@CODECS
@pytest.mark.parametrize("kind", SOUND, ids=lambda kind: kind.__name__)
def test_no_error_repeats_what_was_received(codec: Codec, kind: type[Message[Any]]) -> None:
    refused = 0
    for content in damaged(SOUND[kind]):
        data = WRITE[codec.name](content)
        refused += assert_nothing_is_told(codec, kind, data)
        for bad in (b"\xff", b"\x00"):  # and malformed, in the midst of a text
            refused += assert_nothing_is_told(codec, kind, data.replace(b"CrEt", b"Cr" + bad + b"t"))
        refused += assert_nothing_is_told(codec, kind, data[:-1])
        refused += assert_nothing_is_told(codec, kind, data + MARKER.encode())
    assert refused > 2 * len(WRONG)


@CODECS
@pytest.mark.parametrize("way", range(7))
def test_no_error_repeats_what_a_post_init_said(codec: Codec, way: int) -> None:
    for text in WRONG:
        if isinstance(text, str):
            content = {"text": text, "way": way}
            assert assert_nothing_is_told(codec, Echo, WRITE[codec.name](content))
            assert assert_nothing_is_told(codec, Page[list[Echo]], WRITE[codec.name]({"content": [content]}))


@CODECS
@given(data=st.data(), edits=st.lists(edits, min_size=1, max_size=3), kind=kinds)
def test_no_error_repeats_what_damaged_bytes_said(
    codec: Codec, data: st.DataObject, edits: list[Edit], kind: type[Message[Any]]
) -> None:
    damaged = encode(codec, data.draw(MESSAGES[codec.name]))
    for edit in edits:
        instead = edit.instead[: len(edit.instead) // 2] + MARKER.encode() + edit.instead[len(edit.instead) // 2 :]
        damaged = damaged[: edit.where] + instead + damaged[edit.where + edit.length :]
    assert_nothing_is_told(codec, kind, damaged)


@CODECS
@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({}, "Object missing required field `value`"),
        ({"value": [1]}, "Expected `int | str | null`, got `array` - at `$.value`"),
        ([], "Expected `object`, got `array`"),
    ],
    ids=["missing", "wrong", "no object"],
)
def test_an_error_says_what_was_expected_and_where(codec: Codec, content: Any, text: str) -> None:
    assert refusal(codec, Leaf, WRITE[codec.name](content)) == text


@CODECS
@pytest.mark.parametrize(
    ("name", "wrong", "text"),
    [
        ("colour", MARKER, "Invalid enum value - at `$.colour`"),
        ("level", NUMBER, "Invalid enum value - at `$.level`"),
        ("uid", MARKER, "Invalid UUID - at `$.uid`"),
        ("shapes", [{"type": MARKER}], "Invalid value - at `$.shapes[0].type`"),
        ("where", MARKER, "ValueError - at `$.where`"),
        ("pair", [1], "Expected `array` of length 2"),
        ("route", {MARKER: 1}, "ValueError - at `key` in `$.route`"),
        ("unique", [1, MARKER], "Expected `int`, got `str` - at `$.unique[1]`"),
    ],
)
def test_an_error_says_where_it_is_and_not_what(codec: Codec, name: str, wrong: Any, text: str) -> None:
    said = refusal(codec, Everything, WRITE[codec.name](SOUND[Everything] | {"names": {}, "raw": b"", name: wrong}))
    assert said.startswith(text), said
    assert said.endswith(f"`$.{name}`") or f"`$.{name}[" in said


# Instants ------------------------------------------------------------------------------------------------


@CODECS
def test_an_aware_datetime_comes_back_as_the_same_instant(codec: Codec) -> None:
    class At(Message[None]):
        instant: dt.datetime

    sent = At(dt.datetime(2024, 7, 1, 12, tzinfo=dt.timezone(dt.timedelta(hours=2))))
    back = decode(codec, At, encode(codec, sent))
    assert back == sent
    offset = {"msgpack": dt.timedelta(), "json": dt.timedelta(hours=2)}[codec.name]
    assert back.instant.utcoffset() == offset
