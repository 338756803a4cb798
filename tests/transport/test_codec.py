"""The MessagePack codec, read by somebody else; what every codec must do stands in tests/conformance."""

from __future__ import annotations

import datetime as dt
import enum
from typing import Any

import msgpack  # type: ignore[import-untyped]
import msgspec
import pytest
from hypothesis import given

from tests.conformance.messages import Everything, messages
from transport.address import Address
from transport.codec import MessagePack
from transport.errors import CodecError, DecodeError
from transport.message import Message, wire_name

codec = MessagePack()


def plain(value: Any) -> Any:
    """`value` in the types that MessagePack itself has, as the reference package reads them."""
    match value:
        case msgspec.Struct():
            fields = {name: plain(getattr(value, name)) for name in value.__struct_fields__}
            tag = value.__struct_config__.tag
            return fields if tag is None else {"type": tag, **fields}
        case dict():
            return {plain(key): plain(each) for key, each in value.items()}
        case list() | tuple():
            return [plain(each) for each in value]
        case frozenset():
            return sorted(value)
        case enum.Enum():
            return value.value
        case dt.datetime() if value.tzinfo is not None:
            return value
        case dt.datetime() | dt.date() | dt.time():
            return value.isoformat()
        case None | bool() | int() | float() | bytes():
            return value
        case dt.timedelta():
            return msgspec.to_builtins(value)  # ISO 8601, which Python cannot write by itself
        case _:
            return str(value)


@given(message=messages)
def test_the_reference_package_reads_the_same_content(message: Message[Any]) -> None:
    content = msgpack.unpackb(codec.encode(message), strict_map_key=False, timestamp=3)
    if isinstance(message, Everything):
        content["unique"].sort()
    assert content == plain(message)


def test_what_the_reference_package_writes_decodes() -> None:
    class Order(Message[None]):
        number: int
        at: dt.datetime
        by: Address

    at = dt.datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=dt.UTC)
    data = msgpack.packb({"number": 7, "at": at, "by": "/shop/till"}, datetime=True)
    assert codec.decode(wire_name(Order), data) == Order(7, at, Address("/shop/till"))


def test_an_aware_datetime_comes_back_as_the_same_instant_in_utc() -> None:
    class At(Message[None]):
        instant: dt.datetime

    sent = At(dt.datetime(2024, 7, 1, 12, tzinfo=dt.timezone(dt.timedelta(hours=2))))
    back = codec.decode(wire_name(At), codec.encode(sent))
    assert back == sent
    assert isinstance(back, At)
    assert (back.instant.hour, back.instant.utcoffset()) == (10, dt.timedelta())


TEXTS = ["a", "/a b", "/a{b}", "/a\0", "/a\n", "/\xe9", "", "/" + "a" * 200, "/a" * 100_000]
WRONG_ADDRESSES: list[Any] = [*TEXTS, 7, 1.5, True, None, b"/a"]


@pytest.mark.parametrize("wrong", WRONG_ADDRESSES, ids=lambda wrong: ascii(wrong)[:20])
def test_an_address_from_the_wire_has_to_keep_its_grammar(wrong: Any) -> None:
    class To(Message[None]):
        to: Address
        seen: dict[Address, int] | None = None

    for content in ({"to": wrong}, {"to": [wrong]}, {"to": "/a", "seen": {wrong: 1}}):
        with pytest.raises(DecodeError) as caught:
            codec.decode(wire_name(To), msgpack.packb(content))
        assert len(str(caught.value)) < 300


def test_a_decoder_is_made_once_for_each_type(monkeypatch: pytest.MonkeyPatch) -> None:
    class Once(Message[None]):
        pass

    fresh = MessagePack()
    data = fresh.encode(Once())
    monkeypatch.setattr(msgspec.msgpack, "Decoder", None)
    assert fresh.decode(wire_name(Once), data) == Once()


def test_a_type_is_tried_again_once_what_it_names_is_defined() -> None:
    class Late(Message[None]):
        value: LateType  # type: ignore[name-defined]  # noqa: F821  # defined below

    with pytest.raises(CodecError, match="LateType"):
        codec.encode(Late(1))
    globals()["LateType"] = int
    try:
        assert codec.decode(wire_name(Late), codec.encode(Late(1))) == Late(1)
    finally:
        del globals()["LateType"]


def test_an_address_within_anything_travels_as_text() -> None:
    class Holder(Message[None]):
        value: Any

    assert codec.decode(wire_name(Holder), codec.encode(Holder(Address("/a")))) == Holder("/a")
