"""Every codec: what goes in comes out, and no bytes at all do harm (invariant 18)."""

from __future__ import annotations

import datetime as dt
import sys
import tracemalloc
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.conformance.messages import Circle, Everything, Leaf, Nothing, Positive, messages
from transport.address import Address
from transport.codec import Codec, MessagePack
from transport.errors import CodecError, DecodeError, UnknownMessage
from transport.message import Message, wire_name

KINDS = (Everything, Leaf, Nothing, Positive)
CODECS = pytest.mark.parametrize("codec", [pytest.param(MessagePack(), id="msgpack")])

# What a hostile sender would try, in MessagePack: a promise of 4 GiB, deep nesting, ...
BOMBS = {
    "4 Gi elements": b"\xdd\xff\xff\xff\xff",
    "4 Gi pairs": b"\xdf\xff\xff\xff\xff",
    "4 GiB of text": b"\xdb\xff\xff\xff\xff",
    "4 GiB of bytes": b"\xc6\xff\xff\xff\xff",
    "4 GiB of an extension": b"\xc9\xff\xff\xff\xff\x01",
    "60,000 arrays in each other": b"\x91" * 60_000,
    "30,000 maps in each other": b"\x81\x01" * 30_000,
    "60,000 maps as each other's keys": b"\x81" * 60_000,
    "65,535 empty maps": b"\xdc\xff\xff" + b"\x80" * 65_535,
    "65,535 empty arrays": b"\xdc\xff\xff" + b"\x90" * 65_535,
    "65,535 bytes of bad UTF-8": b"\xda\xff\xff" + b"\xff" * 65_535,
    "65,535 braces": b"\xda\xff\xff" + b"{" * 65_535,
    "an instant past the year 9999": b"\xc7\x0c\xff\x00\x00\x00\x00" + b"\x7f" * 8,
    "an instant of 3 bytes": b"\xc7\x03\xffabc",
    "an unknown extension": b"\xd4\x05a",
    "the one unused code": b"\xc1",
    "a map with a map for a key": b"\x81\x80\x01",
    "no end": b"\x92\x01",
    "more after the end": b"\x80\x80",
    "nothing": b"",
}


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


def refusal(codec: Codec, kind: type[Message[Any]], data: bytes) -> str:
    """Why `data` is no `kind`; empty where it is one."""
    try:
        decoded = codec.decode(wire_name(kind), data)
    except DecodeError as error:
        return str(error)
    assert type(decoded) is kind
    return ""


@CODECS
@given(message=messages)
def test_what_goes_in_comes_out(codec: Codec, message: Message[Any]) -> None:
    decoded = codec.decode(wire_name(type(message)), codec.encode(message))
    assert decoded == message
    assert type(decoded) is type(message)


@CODECS
def test_an_address_comes_back_as_an_address(codec: Codec) -> None:
    class Letter(Message[None]):
        to: Address
        copies: dict[Address, list[Address | None]]

    letter = Letter(to=Address("/a"), copies={Address("/b"): [Address("/c/d"), None]})
    back = codec.decode(wire_name(Letter), codec.encode(letter))
    assert isinstance(back, Letter)
    assert back == letter
    ((key, values),) = back.copies.items()
    assert [type(each) for each in (back.to, key, *values)] == [Address, Address, Address, type(None)]


class Edit(NamedTuple):
    """What a bad line or a bad sender does to bytes: at `where`, `length` of them become `instead`."""

    where: int
    length: int
    instead: bytes


edits = st.builds(
    Edit, st.integers(0, 400), st.integers(0, 6), st.binary(max_size=6) | st.sampled_from([*BOMBS.values()])
)


@CODECS
@given(message=messages, edits=st.lists(edits, max_size=4), kind=st.none() | st.sampled_from(KINDS))
@example(message=Leaf("\xff" * 3), edits=[Edit(0, 400, b"\x81\xa5value\xa2\xff\xfe")], kind=None)
@example(message=Nothing(), edits=[Edit(0, 1, b"\x81\xa1x" + b"\x91" * 60_000)], kind=None)
@example(message=Positive(2), edits=[Edit(0, 400, b"\x81\xa5value\x00")], kind=None)
@example(message=Positive(2), edits=[Edit(0, 400, b"\x81\xa5value\x01")], kind=None)
def test_damaged_bytes_make_a_message_or_a_codec_error(
    codec: Codec, message: Message[Any], edits: list[Edit], kind: type[Message[Any]] | None
) -> None:
    data, kind = codec.encode(message), kind or type(message)
    for edit in edits:
        data = data[: edit.where] + edit.instead + data[edit.where + edit.length :]
    assert len(refusal(codec, kind, data)) < 300


@CODECS
@given(data=st.binary(max_size=200), kind=st.sampled_from(KINDS))
def test_any_bytes_make_a_message_or_a_codec_error(codec: Codec, data: bytes, kind: type[Message[Any]]) -> None:
    assert len(refusal(codec, kind, data)) < 300


@CODECS
@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
@pytest.mark.parametrize("kind", [Holder, Everything, Leaf, Nothing])
def test_no_bytes_take_memory_out_of_proportion(codec: Codec, bomb: bytes, kind: type[Message[Any]]) -> None:
    """As a whole, and as the value of each field, also of one that the type does not know."""
    fields = ["unknown", *kind.__struct_fields__]
    for data in [bomb, *(b"\x81" + bytes([0xA0 + len(name)]) + name.encode() + bomb for name in fields)]:
        tracemalloc.start()
        text = refusal(codec, kind, data)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 100_000 + 100 * len(data)
        assert len(text) < 300, "an error does not repeat what it was sent"


@CODECS
def test_only_registered_messages_decode(codec: Codec) -> None:
    before = set(sys.modules)
    with pytest.raises(UnknownMessage) as caught:
        codec.decode("antigravity.Flight", b"\x80")
    assert caught.value.name == "antigravity.Flight"
    assert isinstance(caught.value, CodecError)
    assert set(sys.modules) == before, "nothing is imported by a name from the wire"


@CODECS
def test_only_messages_encode(codec: Codec) -> None:
    with pytest.raises(CodecError, match="Circle is not a Message"):
        codec.encode(Circle(1.0))  # type: ignore[arg-type]


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)
CANNOT_BE_CARRIED = {
    "2**64": 2**64,
    "-2**63-1": -(2**63) - 1,
    "a lone surrogate": "\ud800",
    "a complex number": 1j,
    "an object": Foreign(),
    "a class": Foreign,
    "a circle": CIRCLE,
    "an instant before the year 1": dt.datetime.min.replace(tzinfo=dt.timezone(dt.timedelta(hours=5))),
}


@CODECS
@pytest.mark.parametrize("value", CANNOT_BE_CARRIED.values(), ids=CANNOT_BE_CARRIED)
def test_what_cannot_be_carried_is_a_codec_error_at_the_sender(codec: Codec, value: Any) -> None:
    with pytest.raises(CodecError, match="Holder does not encode"):
        codec.encode(Holder(value))


@CODECS
@pytest.mark.parametrize("message", [Hidden(Nothing()), Unresolved(1), Alien(Foreign())], ids=repr)
def test_a_type_that_nobody_could_decode_is_a_codec_error_at_both_ends(codec: Codec, message: Message[Any]) -> None:
    with pytest.raises(CodecError, match="does not encode"):
        codec.encode(message)
    with pytest.raises(DecodeError):
        codec.decode(wire_name(type(message)), b"\x81\xa7foreign\x01")


@CODECS
@pytest.mark.parametrize("wrong", ["7", 7.0, None, b"7", [7], True], ids=repr)
def test_nothing_is_taken_for_a_number_that_is_none(codec: Codec, wrong: Any) -> None:
    class Loose(Message[None]):
        value: Any

    with pytest.raises(DecodeError):
        codec.decode(wire_name(Positive), codec.encode(Loose(wrong)))


@CODECS
def test_both_ends_need_not_change_on_the_same_day(codec: Codec) -> None:
    class Old(Message[None], wire_name="tests.codecs.Old"):
        kept: int
        dropped: str = "x"

    class New(Message[None], wire_name="tests.codecs.New"):
        kept: int
        added: str = "default"

    assert codec.decode(wire_name(New), codec.encode(Old(1, "gone"))) == New(1, "default")
    assert codec.decode(wire_name(Old), codec.encode(New(2, "later"))) == Old(2, "x")
