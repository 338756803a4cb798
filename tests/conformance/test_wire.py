"""Every codec x compression x signature: what goes in comes out, and what was damaged on the way does no harm."""

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import itertools
import math
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple

import lz4.frame  # type: ignore[import-untyped]
import msgpack  # type: ignore[import-untyped]
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conformance.messages import addresses
from tests.protobuf.orders_pb2 import Line, Order
from tests.transport.frames import HEADER, TRACEPARENT, parts
from transport.address import Address
from transport.codec import JSON, Codec, MessagePack
from transport.compression import LZ4, Compression, Gzip, Zstd
from transport.envelope import Envelope
from transport.errors import CodecError, DecodeError
from transport.keys import Keys
from transport.message import AnyMessage, Message, register
from transport.protobuf import Protobuf
from transport.wire import Wire

# Messages ------------------------------------------------------------------------------------------------


class Book(msgspec.Struct, frozen=True, tag=True):
    title: str
    isbn: int | None = None


class Box(msgspec.Struct, frozen=True, tag=True):
    content: tuple[Book | Box, ...] = ()


class Parcel(Message[None]):
    """A field of every kind that each codec treats in its own way; all the rest is in `messages`."""

    number: int
    text: str
    raw: bytes
    sent: dt.datetime
    due: dt.date | None
    weight: float
    content: Book | Box | None
    either: int | str | bool
    counts: dict[str, int]
    to: Address
    copies: list[Address]
    anything: Any = None


register(Order)

integers = st.sampled_from([-(2**63), 2**53 + 1, 2**63, 2**64 - 1]) | st.integers(-(2**63), 2**64 - 1)
texts = st.text(max_size=20)
long_texts = texts | st.builds(str.__mul__, texts, st.integers(20, 60))  # so that there is something to save
books = st.builds(Book, texts, st.none() | integers)
parcels = st.builds(
    Parcel,
    number=integers,
    text=long_texts,
    raw=st.binary(max_size=40),
    sent=st.datetimes(dt.datetime(2, 1, 1), dt.datetime(9998, 12, 31), timezones=st.just(dt.UTC)),
    due=st.none() | st.dates(),
    weight=st.floats(allow_nan=False, allow_infinity=False),
    content=st.none() | books | st.builds(Box, st.lists(books | st.just(Box()), max_size=3).map(tuple)),
    either=integers | texts | st.booleans(),
    counts=st.dictionaries(texts, integers, max_size=3),
    to=addresses,
    copies=st.lists(addresses, max_size=2),
    anything=st.recursive(
        st.none() | st.booleans() | integers | texts,
        lambda below: st.lists(below, max_size=3) | st.dictionaries(texts, below, max_size=3),
        max_leaves=5,
    ),
)
orders = st.builds(
    Order,
    number=st.integers(0, 2**64 - 1),
    customer=long_texts,
    lines=st.lists(st.builds(Line, product=texts, cents=st.integers(-(2**63), 2**63 - 1)), max_size=3),
    coupons=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=5),
    notes=st.dictionaries(texts, texts, max_size=3),
    discount=st.none() | st.floats(allow_nan=False),
    scan=st.binary(max_size=40),
    shop=st.none() | texts,
)

SMALL = Parcel(1, "", b"", dt.datetime(2026, 1, 1, tzinfo=dt.UTC), None, 0.5, None, 1, {}, Address("/a"), [])
LARGE = msgspec.structs.replace(
    SMALL, text="so long, " * 6, content=Box((Book("Ædnan", 2**64 - 1), Box())), counts={"a": 1}, anything=[None, {}]
)


class Kind(NamedTuple):
    codec: Codec
    messages: st.SearchStrategy[Any]
    small: AnyMessage
    large: AnyMessage


KINDS = {
    "msgpack": Kind(MessagePack(), parcels, SMALL, LARGE),
    "json": Kind(JSON(), parcels, SMALL, LARGE),
    "protobuf": Kind(
        Protobuf(),
        orders,
        Order(number=7),
        Order(number=2**64 - 1, customer="so long, " * 6, lines=[Line(product="pen")], notes={"a": "b"}, shop="x"),
    ),
}

# Wires ---------------------------------------------------------------------------------------------------

OLD = ("2025", hashlib.sha256(b"old").digest())
NEW = ("2026-1", hashlib.sha256(b"new").digest())
SIGNATURES: dict[str, tuple[Keys | None, Keys | None]] = {  # the sender's and the receiver's
    "unsigned": (None, None),
    "signed": (Keys(NEW), Keys(NEW)),
    "signed by the older of two": (Keys(OLD), Keys(NEW, OLD)),
}
COMPRESSIONS: dict[str, Compression | None] = {"plain": None, "gzip": Gzip(), "zstd": Zstd(), "lz4": LZ4()}


class Ends(NamedTuple):
    """The wires of two nodes."""

    sender: Wire
    receiver: Wire
    compression: str
    signature: str


def between(codec: Codec, compression: str, signature: str) -> Ends:
    keys, their_keys = SIGNATURES[signature]
    return Ends(
        Wire(codec, compression=COMPRESSIONS[compression], threshold=0, keys=keys),
        Wire(codecs=[codec], keys=their_keys),  # what the receiver would send is no matter
        compression,
        signature,
    )


ENDS = {
    name: [between(kind.codec, *how) for how in itertools.product(COMPRESSIONS, SIGNATURES)]
    for name, kind in KINDS.items()
}
EVERY_WAY = [
    pytest.param(name, each, id=f"{name}-{each.compression}-{each.signature}")
    for name, ways in ENDS.items()
    for each in ways
]
VARIANTS = pytest.mark.parametrize(("name", "ends"), EVERY_WAY)

# Envelopes -----------------------------------------------------------------------------------------------


class Posted(NamedTuple):
    """An envelope that is encoded at `now`."""

    envelope: Envelope
    now: float
    reply_to: Address | None


def posted(
    way: str, now: float, left: float | None, message_id: str | None, reply_to: Address, **fields: Any
) -> Posted:
    deadline = None if left is None else now + left
    envelope = Envelope(**fields, deadline=deadline, message_id=message_id)
    if way == "ask":
        envelope.deadline = envelope.reply_by = now + (5.0 if left is None else left)
    if way != "tell":
        envelope.reply = Future()
    return Posted(envelope, now, None if way == "tell" else reply_to)


def letters(messages: st.SearchStrategy[Any]) -> st.SearchStrategy[Posted]:
    return st.builds(
        posted,
        way=st.sampled_from(["tell", "receipt", "ask"]),
        now=st.floats(0, 1e9),
        left=st.none() | st.floats(-1e3, 1e7),
        message_id=st.none() | st.uuids(version=4).map(str),
        reply_to=addresses,
        message=messages,
        target=addresses,
        priority=st.integers(-1, 3),
        sender=st.none() | addresses,
        correlation_id=st.none() | texts,
        causation_id=st.none() | texts,
        chain=st.lists(addresses, max_size=3).map(tuple),
        attempt=st.integers(1, 2**64 - 1),
        traceparent=st.none() | st.just(TRACEPARENT),
    )


LETTER = Posted(
    Envelope(
        SMALL,
        Address("/shop/till"),
        sender=Address("/shop/door-2"),
        correlation_id="visit 7",
        causation_id="c",
        deadline=12.5,
        chain=(Address("/a"), Address("/b")),
        attempt=2,
        traceparent=TRACEPARENT,
        message_id="019342f0-3c4b-7def-8a01-0123456789ab",
    ),
    now=2.5,
    reply_to=Address("/shop/door-2"),
)


def frame_of(ends: Ends, message: AnyMessage) -> bytes:
    envelope = msgspec.structs.replace(LETTER.envelope, message=message)
    return ends.sender.encode(envelope, now=LETTER.now, reply_to=LETTER.reply_to)


def refusal(ends: Ends, data: bytes, at: Address = LETTER.envelope.target) -> str:
    """Why the receiver refuses `data`; empty where it does not."""
    try:
        ends.receiver.decode(data, at=at, now=0.0)
    except CodecError as error:
        return str(error)
    return ""


def is_addresses(*values: Address | None) -> bool:
    return {type(each) for each in values} <= {Address, type(None)}


# Tests ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
@given(data=st.data())
def test_what_goes_in_comes_out(name: str, data: st.DataObject) -> None:
    sent, now, reply_to = data.draw(letters(KINDS[name].messages))
    for ends in ENDS[name]:
        frame = ends.sender.encode(sent, now=now, reply_to=reply_to)
        got, their_reply_to = ends.receiver.decode(frame, at=sent.target, now=now)
        assert got.message == sent.message
        assert type(got.message) is type(sent.message)
        assert got.id == sent.id
        assert (got.target, got.sender, got.chain, their_reply_to) == (sent.target, sent.sender, sent.chain, reply_to)
        assert is_addresses(got.target, got.sender, their_reply_to, *got.chain)
        assert (got.priority, got.attempt, got.traceparent) == (sent.priority, sent.attempt, sent.traceparent)
        assert (got.correlation_id, got.causation_id) == (sent.correlation_id, sent.causation_id)
        assert (got.reply, got.arrival) == (None, 0)
        if sent.deadline is None:
            assert got.deadline is None
        else:  # what is over is over
            assert got.deadline == pytest.approx(max(sent.deadline, now), rel=0, abs=2 * math.ulp(now + 1e7))
        assert got.reply_by == (math.inf if sent.reply_by == math.inf else got.deadline)


@VARIANTS
def test_the_reference_package_reads_every_frame(name: str, ends: Ends) -> None:
    """Packed, signed and in which key's name; what else a frame says is in tests/wire, this in every variant."""
    frame = frame_of(ends, KINDS[name].large)
    version, label, *elements = msgpack.unpackb(frame)
    assert (version, msgpack.unpackb(label)[0]) == (1, name)
    assert len(elements) == len(HEADER) + (1 if ends.signature == "unsigned" else 3)
    payload = elements[len(HEADER)]
    if ends.compression == "plain":
        assert elements[HEADER.index("compression")] is None
    else:
        assert elements[HEADER.index("compression")] == ends.compression
        packed, payload = payload, UNPACK[ends.compression](payload)
        assert len(packed) < len(payload), "kept only where it saves"
    assert payload == KINDS[name].codec.encoder(type(KINDS[name].large))(KINDS[name].large)
    if name == "msgpack":
        content = msgpack.unpackb(payload, strict_map_key=False, timestamp=3)
        assert list(content) == list(LARGE.__struct_fields__)
        assert (content["content"]["content"][0]["isbn"], content["sent"]) == (2**64 - 1, LARGE.sent)
    if ends.signature != "unsigned":
        key = OLD if "older" in ends.signature else NEW
        assert elements[-2:] == [key[0], frame[-32:]]
        assert parts(frame).frame(key) == frame, "HMAC-SHA256 over all that is before it"


UNPACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "lz4": lz4.frame.decompress,
    "zstd": lambda data: Zstd().decompress(data, 2**20),  # the standard library has it from 3.14 on
}


def damaged(frame: bytes, values: dict[int, list[int]] | None = None) -> Any:
    """`frame` with each byte in turn changed to others: all of them, or those that `values` has for it."""
    for at, byte in enumerate(frame):
        for other in range(256) if values is None else values[byte]:
            if other != byte:
                yield frame[:at] + bytes([other]) + frame[at + 1 :]


# Each bit flipped, and the codes with which MessagePack begins what is nothing, large, or within itself.
TELLING = {
    byte: [*(byte ^ 1 << bit for bit in range(8)), 0x00, 0x7F, 0x80, 0x91, 0xC0, 0xC1, 0xC6, 0xDB, 0xDD, 0xDF, 0xFF]
    for byte in range(256)
}


@VARIANTS
def test_a_changed_byte_is_a_codec_error_or_another_sound_frame(name: str, ends: Ends) -> None:
    """With keys it is never another frame."""
    frame = frame_of(ends, KINDS[name].large)
    assert refusal(ends, frame) == ""
    assert (parts(frame).says("compression") or "plain") == ends.compression
    texts = [refusal(ends, each) for each in damaged(frame, TELLING)]
    assert max(map(len, texts)) < 300
    assert all(texts) == (ends.signature != "unsigned")


@pytest.mark.parametrize(("name", "ends"), [each for each in EVERY_WAY if "-plain-" in str(each.id)])
def test_any_other_byte_anywhere_in_a_small_frame(name: str, ends: Ends) -> None:
    """All 255 at every place. With keys none of these is a frame."""
    envelope = Envelope(KINDS[name].small, Address("/a"), message_id="i")
    frame = ends.sender.encode(envelope, now=0.0)
    texts = [refusal(ends, each, at=Address("/a")) for each in damaged(frame)]
    assert all(texts) == (ends.signature != "unsigned")


@VARIANTS
def test_a_frame_that_is_cut_off_or_goes_on_is_refused(name: str, ends: Ends) -> None:
    frame = frame_of(ends, KINDS[name].large)
    for end in range(len(frame)):
        with pytest.raises(DecodeError):
            ends.receiver.decode(frame[:end], at=LETTER.envelope.target, now=0.0)
    for more in (b"\x00", b"\xc0", frame):
        with pytest.raises(DecodeError):
            ends.receiver.decode(frame + more, at=LETTER.envelope.target, now=0.0)
