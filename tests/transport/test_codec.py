"""What is peculiar to MessagePack and to JSON; what every codec must do stands in tests/conformance."""

from __future__ import annotations

import base64
import datetime as dt
import enum
import json
import math
from typing import Any

import msgpack  # type: ignore[import-untyped]
import msgspec
import pytest
from hypothesis import given

from tests.conformance.messages import Circle, Everything, decode, encode, json_messages, messages
from transport.address import Address
from transport.codec import JSON, MessagePack
from transport.errors import CodecError, DecodeError
from transport.message import Message


class Order(Message[None]):
    number: int
    at: dt.datetime
    by: Address


class Holder(Message[None]):
    value: Any


ORDER = Order(7, dt.datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=dt.UTC), Address("/shop/till"))


def plain(value: Any, form: type[MessagePack | JSON]) -> Any:
    """`value` in the types that the format itself has, as somebody else's package reads them."""
    match value:
        case msgspec.Struct():
            fields = {name: plain(getattr(value, name), form) for name in value.__struct_fields__}
            tag = value.__struct_config__.tag
            return fields if tag is None else {"type": tag, **fields}
        case dict() if form is JSON:
            return {str(plain(key, form)): plain(each, form) for key, each in value.items()}
        case dict():
            return {plain(key, form): plain(each, form) for key, each in value.items()}
        case list() | tuple() | frozenset():
            return [plain(each, form) for each in value]
        case enum.Enum():
            return value.value
        case bytes() if form is JSON:
            return base64.b64encode(value).decode()
        case dt.datetime() if value.tzinfo is not None and form is MessagePack:
            return value
        case dt.datetime() | dt.date() | dt.time():
            return value.isoformat()
        case None | bool() | int() | float() | bytes():
            return value
        case dt.timedelta():
            return msgspec.to_builtins(value)  # ISO 8601, which Python cannot write by itself
        case _:
            return str(value)


# MessagePack -------------------------------------------------------------------------------------------------


@given(message=messages)
def test_the_reference_package_reads_the_same_content(message: Message[Any]) -> None:
    content = msgpack.unpackb(encode(MessagePack(), message), strict_map_key=False, timestamp=3)
    assert content == plain(message, MessagePack)


def test_what_the_reference_package_writes_decodes() -> None:
    data = msgpack.packb({"number": 7, "at": ORDER.at, "by": "/shop/till"}, datetime=True)
    assert decode(MessagePack(), Order, data) == ORDER


@pytest.mark.parametrize("key", [[1], (1, 2), {"a": 1}], ids=repr)
def test_no_more_than_1_000_keys_are_maps_or_arrays(key: Any) -> None:
    """As they may all have the same hash. Keys of other types, and what stands in lists, are not counted."""
    codec, one = MessagePack(), msgpack.packb(key)

    def data(keys: int) -> bytes:
        pairs = b"".join(one + msgpack.packb(["a"] * 20) for _ in range(keys))
        others = b"".join(msgpack.packb(n) + one for n in range(20_000))
        return b"\x81\xa5value\xdf" + (keys + 20_000).to_bytes(4) + pairs + others

    assert "keys" not in refusal(codec, Holder, data(1000))
    assert refusal(codec, Holder, data(1001)) == "it has more than 1,000 maps or arrays as keys"


def test_a_sender_is_told_of_too_many_keys_that_are_arrays() -> None:
    codec = MessagePack()
    fine = Holder({(n,): n for n in range(1000)})
    assert decode(codec, Holder, encode(codec, fine)) == fine
    with pytest.raises(CodecError, match="more than 1,000 maps or arrays as keys"):
        encode(codec, Holder({(n,): n for n in range(1001)}))


@pytest.mark.parametrize("kind", [dict[Address, None], dict[tuple[Any, ...], None], dict[Any, None]], ids=str)
def test_keys_nest_no_deeper_either(kind: Any) -> None:
    codec = MessagePack()
    assert "deeper" not in refusal(codec, kind, b"\x81" + b"\x91" * 31 + b"\x01\xc0")
    assert refusal(codec, kind, b"\x81" + b"\x91" * 32 + b"\x01\xc0") == "it nests deeper than 32"


def refusal(codec: MessagePack | JSON, kind: type[Any], data: bytes) -> str:
    try:
        decode(codec, kind, data)
    except DecodeError as error:
        return str(error)
    return ""


# JSON --------------------------------------------------------------------------------------------------------


@given(message=json_messages)
def test_the_json_of_python_reads_the_same_content(message: Message[Any]) -> None:
    content = json.loads(encode(JSON(), message))
    expected = plain(message, JSON)
    if isinstance(message, Everything):
        for name in ("instant", "clock", "local"):  # a fraction may have fewer digits, and UTC be a Z
            assert type(getattr(message, name)).fromisoformat(content.pop(name)) == getattr(message, name)
            del expected[name]
    assert content == expected


def test_what_the_json_of_python_writes_decodes() -> None:
    for indent in (None, 2):
        data = json.dumps({"number": 7, "at": ORDER.at.isoformat(), "by": "/shop/till"}, indent=indent)
        assert decode(JSON(), Order, data.encode()) == ORDER


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_has_no_nan_and_no_infinity(value: float) -> None:
    message: Any
    for message in (Holder(value), Holder([{"a": (None, value)}]), Holder(Circle(value)), Circle(value), [1.5, value]):
        with pytest.raises(CodecError, match="JSON has no NaN and no infinity"):
            encode(JSON(), message)
    for fine in (Holder([None, 1e308, "null"]), Holder({"null": None, "at": [b"\xff", ORDER.by]})):
        assert b"null" in encode(JSON(), fine)
    assert math.isinf(decode(MessagePack(), Circle, encode(MessagePack(), Circle(math.inf))).radius)


def test_a_key_that_is_a_whole_number_has_64_bits_where_nothing_else_is_a_number() -> None:
    for kind in (dict[int, None], dict[int | str, None]):
        assert not refusal(JSON(), kind, b'{"18446744073709551615":null,"-9223372036854775808":null}')
        for key in (b"18446744073709551616", b"-9223372036854775809", b"\\u0031" + b"0" * 20):
            assert "whole number outside" in refusal(JSON(), kind, b'{"' + key + b'":null}')
