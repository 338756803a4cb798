"""The wire: what it refuses and how it says so, its limits at both ends, signatures, and what may change later.

That what goes in comes out is in tests/conformance/test_wire.py; frame by frame, right and wrong, in tests/wire.
"""

from __future__ import annotations

import enum
import hashlib
import itertools
import json
import math
import os
import subprocess
import sys
import traceback
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, ClassVar, TypeVar

import msgpack  # type: ignore[import-untyped]
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transport.frames import HEADER, LABEL, TRACEPARENT, Parts, a_frame, parts
from tests.wire.test_format import BAD
from tests.wire.test_format import wire as reader_of
from transport.address import Address
from transport.codec import JSON, Codec, MessagePack
from transport.compression import LZ4, Gzip, Zstd
from transport.envelope import Envelope, Priority, Undecodable
from transport.errors import CodecError, DecodeError, MessageTooLarge, UnknownMessage
from transport.keys import Keys
from transport.message import Message, wire_name
from transport.wire import Limits, Wire

T = TypeVar("T")
HERE, THERE, ASKER = Address("/here"), Address("/there"), Address("/asker")
FIRST, SECOND, THIRD = ((name, hashlib.sha256(name.encode()).digest()) for name in ("first", "second", "third"))
MARKER = "".join(("s3cr3t", "-", "m4rk3r"))  # not in one piece in this file, as tracebacks show its lines


class Note(Message[None]):
    text: str = ""


class Colour(enum.Enum):
    RED = "red"


class Dog(msgspec.Struct, frozen=True, tag=True):
    name: str


class Cat(msgspec.Struct, frozen=True, tag=True):
    name: str


class Picky(Message[None], forbid_unknown_fields=True):
    """A field of every kind whose error could show what it was given."""

    number: int = 0
    colour: Colour = Colour.RED
    pet: Dog | Cat | None = None
    to: Address | None = None
    seen: dict[Address, int] | None = None


class Anything(Message[None]):
    value: Any = None


class Counted(Message[None]):
    """Counts how often one was made."""

    made: ClassVar[list[Counted]] = []
    text: str = ""

    def __post_init__(self) -> None:
        self.made.append(self)


@pytest.fixture
def made() -> Iterator[list[Counted]]:
    Counted.made.clear()
    yield Counted.made
    Counted.made.clear()


def note(text: str = "", kind: type[Message[Any]] = Note) -> Parts:
    return a_frame(wire_name(kind), msgpack.packb({"text": text}))


def full(message: Message[Any] | None = None, **fields: Any) -> Envelope:
    """An envelope with everything in it."""
    return Envelope(
        **{
            "message": Note("hello") if message is None else message, "target": HERE, "sender": THERE,
            "priority": Priority.HIGH, "correlation_id": "conversation", "causation_id": "cause", "deadline": 60.0,
            "chain": (Address("/one"), Address("/two")), "attempt": 3, "traceparent": TRACEPARENT, "message_id": "id",
        }
        | fields
    )  # fmt: skip


def sent(wire: Wire, message: Message[Any] | None = None, **fields: Any) -> bytes:
    return wire.encode(full(message, **fields), now=0.0, reply_to=ASKER)


def received(wire: Wire, frame: bytes, at: Address = HERE) -> Envelope:
    return wire.decode(frame, at=at, now=0.0)[0]


def refused(wire: Wire, frame: bytes, at: Address = HERE) -> str:
    """Why `wire` refuses `frame`, which it does."""
    with pytest.raises(CodecError) as caught:
        received(wire, frame, at)
    assert isinstance(caught.value, (DecodeError, UnknownMessage))
    assert len(str(caught.value)) < 300
    assert len(repr(caught.value)) < 350
    return str(caught.value)


def outcome(wire: Wire, frame: bytes) -> Envelope | None:
    """What `wire` makes of any bytes: a sound envelope for `HERE`, or none."""
    try:
        envelope, reply_to = wire.decode(frame, at=HERE, now=0.0)
    except (DecodeError, UnknownMessage) as error:
        return None if len(str(error)) < 300 else pytest.fail(f"an error of {len(str(error))} characters")
    assert isinstance(envelope.message, Message)
    assert {type(each) for each in (envelope.sender, reply_to, *envelope.chain)} <= {Address, type(None)}
    assert envelope.target == HERE
    assert -1 <= envelope.priority <= 3
    assert envelope.attempt >= 1
    assert type(envelope.chain) is tuple
    assert type(envelope.id) is str
    for text in (envelope.correlation_id, envelope.causation_id, envelope.traceparent):
        assert text is None or type(text) is str
    assert envelope.deadline is None or envelope.deadline >= 0
    assert PLAIN.encode(envelope, now=0.0, reply_to=reply_to), "what was read can be passed on"
    return envelope


PLAIN, SIGNED = Wire(), Wire(keys=Keys(FIRST))
BOTH = pytest.mark.parametrize("wire", [PLAIN, SIGNED], ids=["plain", "signed"])

# Any bytes -----------------------------------------------------------------------------------------------

scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=20)
    | st.binary(max_size=20) | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=9))
    | st.sampled_from(["msgpack", "json", "gzip", wire_name(Note), wire_name(Anything), "/here", TRACEPARENT, MARKER])
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda below: st.lists(below, max_size=6) | st.dictionaries(st.text(max_size=5) | st.integers(0, 99), below),
    max_leaves=15,
)
EDITS = [
    b"",
    b"\xc0",
    b"\xc1",
    b"\x90",
    b"\x80",
    b"\xdd\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xa2\xff\xfe",
    b"\x91" * 2000,
]


@given(data=st.binary(max_size=300))
def test_any_bytes_make_an_envelope_or_a_codec_error(data: bytes) -> None:
    assert outcome(PLAIN, data) is None, "not by chance"
    assert outcome(SIGNED, data) is None


@given(elements=st.lists(values | values.map(msgpack.packb), max_size=8), version=st.sampled_from([1, 1, 1, 2, None]))
def test_any_msgpack_makes_an_envelope_or_a_codec_error(elements: list[Any], version: int | None) -> None:
    frame = msgpack.packb(elements if version is None else [version, *elements])
    assert outcome(PLAIN, frame) is None
    assert outcome(SIGNED, frame) is None


@given(
    name=st.sampled_from([*LABEL, *HEADER, "more of the label", "what is not known yet", "payload", "version"]),
    value=values,
    key=st.sampled_from([None, FIRST]),
)
def test_any_element_of_any_shape_makes_an_envelope_or_a_codec_error(name: str, value: Any, key: Any) -> None:
    whole = parts(sent(PLAIN, Anything([1, {"a": "b"}])))
    match name:
        case "more of the label":
            whole = whole._replace(label=[*whole.label, value])
        case "what is not known yet":
            whole = whole.but(more={"a name": value, "": value})
        case _:
            whole = whole.but(**{name: value})
    for wire in (PLAIN, SIGNED):
        envelope = outcome(wire, whole.frame(key))
        if name.startswith(("more ", "what")):
            assert (envelope is not None) == (wire is PLAIN or key is FIRST)
        if wire is SIGNED and key is None:
            assert envelope is None


@given(value=values)
def test_any_payload_makes_a_message_or_a_codec_error(value: Any) -> None:
    payload = msgpack.packb(value)
    for kind in (Note, Picky, Anything):
        for codec in ("msgpack", "json"):
            outcome(PLAIN, a_frame(wire_name(kind), payload, codec=codec).frame())
    got = outcome(PLAIN, a_frame(wire_name(Anything), b"\x81\xa5value" + payload).frame())
    assert got is None or isinstance(got.message, Anything)


@given(
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 8), st.binary(max_size=6) | st.sampled_from(EDITS))),
    variant=st.integers(0, 3),
)
def test_edited_frames_make_an_envelope_or_a_codec_error(edits: list[tuple[float, int, bytes]], variant: int) -> None:
    packs = Wire(compression=[None, Gzip(), Zstd(), LZ4()][variant], threshold=0)
    frame = sent(packs, Anything(["again and " * 9, {"again": "and again"}]))
    signed = sent(SIGNED, Anything(["again and " * 9]))
    for where, length, instead in edits:
        frame, signed = (
            each[: int(where * len(each))] + instead + each[int(where * len(each)) + length :]
            for each in (frame, signed)
        )
    outcome(PLAIN, frame)
    assert outcome(SIGNED, frame) is None
    assert outcome(SIGNED, signed) is None or signed == sent(SIGNED, Anything(["again and " * 9]))


@pytest.mark.parametrize("first", [PLAIN, SIGNED], ids=["plain", "signed"])
def test_spliced_frames_make_an_envelope_or_a_codec_error(first: Wire) -> None:
    """The beginning of one frame with the end of another, cut at every third place."""
    one = sent(first, Note("one"))
    two = parts(sent(first, Anything({"a": [1, 2, 3]}))).but(target="/there", chain=[]).frame(FIRST)
    for head, tail in itertools.product(range(0, len(one), 3), range(0, len(two), 3)):
        mixed = one[:head] + two[tail:]
        outcome(PLAIN, mixed)
        assert mixed in (one, two) or outcome(SIGNED, mixed) is None


# What errors say -----------------------------------------------------------------------------------------


def chained(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def assert_says_nothing_of_it(wire: Wire, frame: bytes) -> None:
    with pytest.raises(CodecError) as caught:
        wire.decode(frame, at=HERE, now=0.0)
    shown = [*map(str, chained(caught.value)), *map(repr, chained(caught.value))]
    shown += traceback.format_exception(caught.value)
    assert not [text for text in shown if MARKER in text]
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "name", ["id", "correlation_id", "causation_id", "ttl", "traceparent", "more", "chain", "lane", "flags", "attempt"]
)
def test_an_error_does_not_repeat_the_header(name: str) -> None:
    for value in (MARKER, MARKER * 20, [MARKER], {MARKER: MARKER}, MARKER.encode()):
        frame = parts(sent(PLAIN)).but(**{name: value}, type="unknown").frame()
        assert_says_nothing_of_it(PLAIN, frame)
        assert_says_nothing_of_it(PLAIN, frame.replace(MARKER[-1].encode(), b"\xff"))


@given(
    where=st.floats(0, 1),
    length=st.integers(0, 30),
    filler=st.sampled_from([b"", b"\xa0", b"\xd9\x0d", b"\xc4\x0d", b"\xff"]),
)
def test_no_error_repeats_what_is_put_anywhere_in_header_or_payload(where: float, length: int, filler: bytes) -> None:
    frame = sent(PLAIN, Picky(pet=Dog("a name"), to=HERE))
    begin = frame.index(b"/two") + 4  # of what follows the names
    at = begin + int(where * (len(frame) - begin))
    data = frame[:at] + filler + MARKER.encode() + frame[at + length :]
    assert_says_nothing_of_it(PLAIN, data)
    assert_says_nothing_of_it(SIGNED, data)


@pytest.mark.parametrize(
    "name", ["x" * 5000, "\U000e0001" * 1000, "\x1b[31m" * 1000, "a\nb", "'\"" * 500], ids=lambda name: ascii(name)[:12]
)
@pytest.mark.parametrize("element", ["codec", "type", "compression", "target"])
def test_a_name_from_the_wire_is_shown_short_and_escaped(element: str, name: str) -> None:
    text = refused(PLAIN, note().but(**{element: name}).frame())
    assert text.isprintable()
    assert len(text) < 200


@pytest.mark.parametrize("name", ["second", "x" * 5000, "\U000e0001" * 1000], ids=["short", "long", "odd"])
def test_a_key_that_is_not_there_is_said_by_its_id(name: str) -> None:
    text = refused(SIGNED, note().frame((name, FIRST[1])))
    assert ascii(name)[1:8] in text
    assert text.isprintable()
    assert len(text) < 200


def test_addresses_as_long_as_they_may_be_make_no_long_error() -> None:
    ours, theirs = Address("/" + "a" * 199), "/" + "b" * 199
    text = refused(PLAIN, note().but(target=theirs).frame(), at=ours)
    assert "/bbb" in text
    assert "/aaa" in text


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"codec": "cbor"}, ["'cbor'", "msgpack", "json"]),
        ({"compression": "brotli"}, ["'brotli'", "gzip", "zstd", "lz4"]),
        ({"type": "shop.Order"}, ["'shop.Order'", "import the module"]),
        ({"target": "/there"}, ["/there", "/here"]),
    ],
    ids=lambda each: "".join(each) if isinstance(each, dict) else "",
)
def test_a_name_that_is_not_known_is_said_with_those_that_are(change: dict[str, str], says: list[str]) -> None:
    frame = note().but(sender=f"/{MARKER}", **change).frame()
    text = refused(PLAIN, frame)
    assert [word for word in says if word not in text] == []
    assert_says_nothing_of_it(PLAIN, frame)


def test_a_type_that_is_not_registered_is_an_unknown_message_and_nothing_is_imported() -> None:
    for name in ("shop.Order", "this.zen", "builtins.dict", "x" * 5000):
        with pytest.raises(UnknownMessage) as caught:
            received(PLAIN, note().but(type=name).frame())
        assert caught.value.name == name
    assert "this" not in sys.modules


# Signatures ----------------------------------------------------------------------------------------------


def test_an_unsigned_frame_is_refused_where_there_are_keys(made: list[Counted]) -> None:
    assert "unsigned" in refused(SIGNED, sent(PLAIN, Counted("")))
    assert len(made) == 1, "the sender's own"


def test_a_signed_frame_is_read_without_keys() -> None:
    assert received(PLAIN, sent(SIGNED)).message == Note("hello")


@BOTH
def test_a_frame_found_in_another_mailbox_is_refused(wire: Wire, made: list[Counted]) -> None:
    frame = sent(wire, Counted())
    for at in (THERE, Address("/here/below"), Address("/"), Address("/Here")):
        assert "/here" in refused(wire, frame, at)
    assert len(made) == 1
    assert received(wire, frame).message == Counted()


CHANGES: dict[str, Any] = {
    "codec": "json", "type": wire_name(Anything), "target": "/there", "sender": "/", "reply_to": None, "flags": 1,
    "lane": 1, "id": "another", "compression": "gzip", "correlation_id": None, "causation_id": "x", "ttl": 2**40,
    "attempt": 1, "traceparent": None, "chain": [], "payload": b"\x80", "version": 2,
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_changed_without_the_key_is_refused(name: str) -> None:
    """With the old signature, with one by another key under the same id, and with that of another frame."""
    whole = parts(sent(SIGNED))
    changed = whole.but(**{name: CHANGES[name]})
    assert changed != whole
    at = THERE if name == "target" else HERE
    old = msgpack.unpackb(whole.frame(FIRST))[-1]
    assert refused(SIGNED, changed.frame(FIRST)[:-32] + old, at)
    assert refused(SIGNED, changed.frame((FIRST[0], SECOND[1])), at)
    assert refused(SIGNED, whole.frame(FIRST)[:-32] + changed.frame(FIRST)[-32:])
    if name not in ("version", "codec", "compression", "type"):
        received(SIGNED, changed.frame(FIRST), at)  # it is the signature that makes the difference


def test_keys_rotate_in_three_steps_without_a_frame_refused() -> None:
    """While the nodes take a step one by one, each meets itself and the one before; no step can be left out."""
    steps = [Wire(keys=Keys(*keys)) for keys in ([FIRST], [FIRST, SECOND], [SECOND, FIRST], [SECOND])]
    for (turn, sender), (other, receiver) in itertools.product(enumerate(steps), repeat=2):
        is_read = outcome(receiver, sent(sender)) is not None
        assert is_read or abs(turn - other) > 1
        assert abs(turn - other) < 3 or not is_read


def test_no_secret_is_in_a_wire_or_its_errors() -> None:
    wire = Wire(keys=Keys(("key", MARKER.encode() * 3)))
    assert_says_nothing_of_it(wire, note().frame(("key", b"another secret" * 3)))
    assert MARKER not in repr(wire) + repr(vars(wire))


# Limits --------------------------------------------------------------------------------------------------

DENSE = Note(b64encode(hashlib.sha384().digest()).decode())  # there is nothing to save


def sizes(frame: bytes) -> tuple[int, int]:
    """Bytes of the frame, and of all in it but the payload."""
    return len(frame), len(frame) - len(parts(frame).payload)


@BOTH
@pytest.mark.parametrize("limit", ["frame", "header"])
def test_at_a_limit_passes_and_one_more_does_not(wire: Wire, limit: str, made: list[Counted]) -> None:
    keys = Keys(FIRST) if wire is SIGNED else None
    message = Counted("text") if limit == "frame" else Counted()
    frame = sent(wire, message)
    size = dict(zip(("frame", "header"), sizes(frame), strict=True))[limit]
    enough, tight = (Wire(limits=Limits(**{limit: each}), keys=keys) for each in (size, size - 1))
    assert sent(enough, message) == frame
    assert received(enough, frame).message == message
    made.clear()
    envelope = full(message)
    with pytest.raises(MessageTooLarge, match=rf"Counted.*/here.*{limit}.*{size}.*{size - 1}.*reference") as caught:
        tight.encode(envelope, now=0.0, reply_to=ASKER)
    assert caught.value.envelope is envelope
    text = refused(tight, frame)
    assert str(size) in text
    assert str(size - 1) in text
    assert not made, "the message was not decoded"


@pytest.mark.parametrize("packer", [Gzip(), Zstd(), LZ4()], ids=lambda each: str(each.name))
def test_compression_lets_no_larger_message_through(packer: Any, made: list[Counted]) -> None:
    message = Counted("again and " * 200)
    payload = len(MessagePack().encoder(Counted)(message))
    frame = sent(Wire(compression=packer), message)
    assert len(frame) < payload / 3
    enough, tight = (Wire(compression=packer, limits=Limits(frame=each)) for each in (payload, payload - 1))
    assert sent(enough, message) == frame
    assert received(enough, frame).message == message
    made.clear()
    with pytest.raises(MessageTooLarge, match=rf"payload.*{payload}.*{payload - 1}"):
        sent(tight, message)
    assert str(payload - 1) in refused(tight, frame)
    assert not made


@pytest.mark.parametrize("kind", [MessagePack, JSON])
@pytest.mark.parametrize("depth", [32, 5])
def test_a_payload_nests_as_deep_as_its_codec_allows(kind: type[MessagePack | JSON], depth: int) -> None:
    """The message itself is one level; 32 are allowed unless told."""
    wire, roomy = Wire(kind() if depth == 32 else kind(depth)), Wire(kind(depth=100))
    passes, too_deep = (Anything(nested(levels)) for levels in (depth - 1, depth))
    assert received(wire, sent(wire, passes)).message == passes
    envelope = full(too_deep)
    with pytest.raises(MessageTooLarge, match=f"deeper than {depth}") as caught:
        wire.encode(envelope, now=0.0)
    assert caught.value.envelope is envelope
    frame = sent(roomy, too_deep)
    assert received(roomy, frame).message == too_deep
    assert f"deeper than {depth}" in refused(wire, frame)
    with pytest.raises(MessageTooLarge):
        sent(wire, Anything(nested(5_000)))


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "1", None, math.inf], ids=repr)
@pytest.mark.parametrize("name", ["frame", "header"])
def test_a_limit_is_a_whole_number_of_bytes(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        Limits(**{name: value})


@pytest.mark.parametrize("what", ["a bad signature", "another mailbox", "version 2", "a damaged label"])
def test_what_is_refused_is_not_decoded_first(what: str, made: list[Counted]) -> None:
    whole = note("x", kind=Counted)
    frame, wire, at = {
        "a bad signature": (whole.frame(SECOND), SIGNED, HERE),
        "another mailbox": (whole.frame(), PLAIN, THERE),
        "version 2": (whole.but(version=2).frame(), PLAIN, HERE),
        "a damaged label": (whole.but(lane=9).frame(), PLAIN, HERE),
    }[what]
    assert refused(wire, frame, at)
    assert not made
    received(PLAIN, whole.frame())
    assert len(made) == 1


# What the sender gets wrong ------------------------------------------------------------------------------

NOT_CARRIED: dict[str, dict[str, Any]] = {
    "a lone surrogate": {"correlation_id": "\ud800"},
    "a lone surrogate in an id": {"message_id": "\udfff"},
    "an attempt past 64 bits": {"attempt": 2**64},
    "a traceparent of bytes in no form": {"traceparent": object()},
}


@BOTH
@pytest.mark.parametrize("fields", NOT_CARRIED.values(), ids=NOT_CARRIED)
def test_an_envelope_that_cannot_be_carried_is_a_codec_error(wire: Wire, fields: dict[str, Any]) -> None:
    with pytest.raises(CodecError, match="Note to /here does not encode"):
        sent(wire, **fields)


def test_a_message_that_cannot_be_carried_is_a_codec_error_that_says_which() -> None:
    class Kept(Message[None], local=True):
        pass

    for value in (object(), 2**70):
        with pytest.raises(CodecError, match="Anything to /here"):
            sent(PLAIN, Anything(value))
    strangers: list[Any] = [Kept(), Dog("no message"), 7, None]
    for message in strangers:
        with pytest.raises(CodecError, match="to /here"):
            PLAIN.encode(Envelope(message, HERE), now=0.0)


# Deadlines -----------------------------------------------------------------------------------------------


@given(theirs=st.floats(0, 1e9), ours=st.floats(0, 1e9), left=st.floats(0, 1e6), age=st.floats(0, 1e3))
def test_a_deadline_counts_from_the_sending_on_the_receivers_own_clock(
    theirs: float, ours: float, left: float, age: float
) -> None:
    envelope = Envelope(Note(), HERE, deadline=theirs + left)
    got, _ = PLAIN.decode(PLAIN.encode(envelope, now=theirs), at=HERE, now=ours, age=age)
    assert got.deadline == pytest.approx(ours + left - age, abs=1e-6)


@pytest.mark.parametrize("ttl", [0, 0.0, -0.0, 5e-324, 1, 2.5, 2**64 - 1, 1e308, math.inf])
def test_any_ttl_is_a_deadline_and_travels_on(ttl: float) -> None:
    got = received(PLAIN, note().but(ttl=ttl).frame())
    assert got.deadline == float(ttl)
    assert parts(PLAIN.encode(got, now=0.0)).says("ttl") == float(ttl)


def test_an_ask_a_receipt_and_a_tell_are_told_apart() -> None:
    ask = full(reply=Future(), reply_by=60.0)
    receipt = full(reply=Future())
    tell = full()
    for envelope, reply_to, flags, reply_by in (
        (ask, ASKER, 0, 60.0),
        (receipt, ASKER, 1, math.inf),
        (tell, None, 0, math.inf),
    ):
        frame = PLAIN.encode(envelope, now=0.0, reply_to=reply_to)
        assert parts(frame).says("flags") == flags
        got, answer = PLAIN.decode(frame, at=HERE, now=0.0)
        assert (got.reply_by, got.deadline, answer) == (reply_by, 60.0, reply_to)


# Later versions ------------------------------------------------------------------------------------------


LATER: dict[str, list[Any]] = {
    "of the same shape": [2, *note().elements()[1:]],
    "of the same shape, signed": [2, *msgpack.unpackb(note().frame(FIRST))[1:]],
    "of the same shape and large": note().but(version=2, id="x" * 20_000).elements(),
    "alone": [2],
    "of another shape": [2, {"id": "x"}, [[[[["deep"]]]]]],
    "of another shape and large": [2, {"payload": b"x" * 20_000}],
    "99": [99, "anything"],
}


@BOTH
@pytest.mark.parametrize("frame", LATER.values(), ids=LATER)
def test_another_version_is_refused_by_its_number(wire: Wire, frame: list[Any]) -> None:
    text = refused(wire, msgpack.packb(frame))
    assert f"version {frame[0]}" in text
    assert "version 1" in text


class Old(Message[None]):
    kept: int
    dropped: str = "gone"


class New(Message[None]):
    kept: int
    added: tuple[int, ...] = ()
    renamed: str | None = None


@pytest.mark.parametrize("codec", [MessagePack(), JSON()], ids=["msgpack", "json"])
def test_both_ends_need_not_change_on_the_same_day(codec: Codec) -> None:
    """A class that has changed keeps its wire name; two in one process cannot share one, so the frame's is changed."""
    changes: list[tuple[Any, Any, Any]] = [(Old(1, "x"), New, New(1)), (New(2, (0,), "name"), Old, Old(2))]
    for message, kind, expected in changes:
        frame = parts(sent(Wire(codec), message)).but(type=wire_name(kind)).frame()
        assert received(PLAIN, frame).message == expected


# How a wire is put together ------------------------------------------------------------------------------


class Plain(Message[None]):
    text: str = ""


class Base(Message[None]):
    text: str = ""


class Below(Base):
    pass


class Bottom(Below):
    pass


class Own:
    """A user's codec in ten lines."""

    def __init__(self, name: str = "own") -> None:
        self.name = name

    def encoder(self, kind: type[T], /) -> Callable[[T], bytes]:
        return lambda value: "|".join(msgspec.structs.astuple(value)).encode()  # type: ignore[arg-type]

    def decoder(self, kind: type[T], /) -> Callable[[bytes], T]:
        return lambda data: kind(*data.decode().split("|"))


def codec_of(wire: Wire, message: Message[Any]) -> str:
    return str(parts(sent(wire, message)).says("codec"))


def test_a_codec_is_chosen_by_class_or_by_its_nearest_base() -> None:
    wire = Wire(overrides={Base: JSON(), Bottom: Own("bottom"), Plain: Own("plain")})
    assert [codec_of(wire, kind("x")) for kind in (Note, Base, Below, Bottom, Plain)] == [
        "msgpack", "json", "json", "bottom", "plain",
    ]  # fmt: skip
    everything = Wire(overrides={object: JSON(), Below: MessagePack()})
    assert [codec_of(everything, kind("x")) for kind in (Note, Base, Below, Bottom)] == [
        "json", "json", "msgpack", "msgpack",
    ]  # fmt: skip
    for kind in (Note, Base, Below, Bottom, Plain):
        assert received(wire, sent(wire, kind("x"))).message == kind("x")


def test_every_codec_that_was_given_is_read_and_two_always() -> None:
    frames = {wire: sent(Wire(wire), Note("x")) for wire in (MessagePack(), JSON(), Own())}
    for reader in (Wire(codecs=[Own()]), Wire(Own()), Wire(overrides={Base: Own()}), Wire(codecs=iter([Own()]))):
        for frame in frames.values():
            assert received(reader, frame).message == Note("x")
    assert [outcome(PLAIN, frame) is None for frame in frames.values()] == [False, False, True]


def test_the_codec_that_sends_comes_before_another_of_its_name() -> None:
    own = Wire(Own("msgpack"))
    assert parts(sent(own, Note("x"))).payload == b"x"
    assert received(own, sent(own, Note("x"))).message == Note("x")


@pytest.mark.parametrize("threshold", [-1, 1.5, "1", None, True], ids=repr)
def test_a_threshold_is_a_whole_number_of_bytes(threshold: Any) -> None:
    with pytest.raises(ValueError, match="threshold"):
        Wire(threshold=threshold)


def test_payloads_over_the_threshold_are_packed_where_that_saves() -> None:
    message = Note("again and " * 30)
    size = len(MessagePack().encoder(Note)(message))
    for threshold, packed in ((size, None), (size - 1, "gzip"), (0, "gzip")):
        frame = sent(Wire(compression=Gzip(), threshold=threshold), message)
        assert parts(frame).says("compression") == packed
        assert received(PLAIN, frame).message == message
    assert parts(sent(Wire(compression=Gzip(), threshold=0), DENSE)).says("compression") is None
    assert parts(sent(Wire(compression=Gzip()), message)).says("compression") is None, "1024 bytes, unless told"
    assert parts(sent(Wire(compression=Gzip()), Note("a" * 1025))).says("compression") == "gzip"


def test_what_packs_too_well_is_not_packed_as_it_would_be_taken_for_a_bomb() -> None:
    wire = Wire(compression=Zstd())
    message = Note("a" * 200_000)
    assert parts(sent(wire, message)).says("compression") is None
    assert received(wire, sent(wire, message)).message == message


class Stripped:
    """A user's compression that keeps no blanks; it has one error too many."""

    name = "stripped"

    def compress(self, data: bytes, /) -> bytes:
        return data.rstrip()

    def decompress(self, data: bytes, limit: int, /) -> bytes:
        if MARKER.encode() in data:
            raise KeyError(data)
        return data.ljust(len(MessagePack().encoder(Note)(BLANKS)))


BLANKS = Note("a" + " " * 50)


def test_a_users_own_compression_is_read_by_whoever_was_given_it() -> None:
    wire = Wire(compression=Stripped(), threshold=0)
    frame = sent(wire, BLANKS)
    assert parts(frame).says("compression") == "stripped"
    assert received(wire, frame).message == BLANKS
    assert "'stripped'" in refused(PLAIN, frame)
    assert_says_nothing_of_it(wire, sent(wire, Note(MARKER + " " * 50)))


# Users' codecs -------------------------------------------------------------------------------------------


class Silent(Exception):
    def __str__(self) -> str:
        raise RuntimeError


FAULTS = [KeyError, RecursionError, MemoryError, StopIteration, OSError, AssertionError, Silent, CodecError, EOFError]


class Sloppy:
    """A codec that raises whatever it is told, where it is told."""

    name = "sloppy"

    def __init__(self, error: type[BaseException], where: str) -> None:
        self._error, self._where = error, where

    def _at(self, where: str) -> None:
        if where == self._where:
            raise self._error(MARKER) from KeyError(MARKER)

    def encoder(self, kind: type[T], /) -> Callable[[T], bytes]:
        self._at("encoder")

        def encode(value: T) -> bytes:
            self._at("encode")
            return b""

        return encode

    def decoder(self, kind: type[T], /) -> Callable[[bytes], T]:
        self._at("decoder")

        def decode(data: bytes) -> T:
            self._at("decode")
            return kind()

        return decode


@pytest.mark.parametrize("error", FAULTS)
@pytest.mark.parametrize("where", ["encoder", "encode"])
def test_whatever_a_users_codec_raises_is_a_codec_error_to_the_sender(error: type[Exception], where: str) -> None:
    with pytest.raises(CodecError, match="Note to /here does not encode") as caught:
        sent(Wire(Sloppy(error, where)))
    assert type(caught.value) is CodecError
    assert type(caught.value.__cause__) is error, "the sender is shown where it comes from"


@pytest.mark.parametrize("error", FAULTS)
@pytest.mark.parametrize("where", ["decoder", "decode"])
def test_whatever_a_users_codec_raises_is_a_decode_error_to_the_receiver(error: type[Exception], where: str) -> None:
    frame = sent(Wire(Sloppy(error, "")), Note())
    assert received(Wire(Sloppy(error, "")), frame).message == Note()
    assert_says_nothing_of_it(Wire(Sloppy(error, where)), frame)
    assert "Note" in refused(Wire(Sloppy(error, where)), frame)


@pytest.mark.parametrize("where", ["encoder", "encode", "decoder", "decode"])
def test_what_ends_a_program_goes_through(where: str) -> None:
    wire = Wire(Sloppy(KeyboardInterrupt, where))
    with pytest.raises(KeyboardInterrupt):
        received(wire, sent(wire, Note()))


def test_errors_that_a_codec_means_for_its_caller_pass() -> None:
    envelope = full()
    with pytest.raises(MessageTooLarge, match=MARKER) as caught:
        Wire(Sloppy(MessageTooLarge, "encode")).encode(envelope, now=0.0)
    assert caught.value.envelope is envelope
    frame = sent(Wire(Sloppy(KeyError, "")), Note())
    with pytest.raises(DecodeError, match=MARKER):
        received(Wire(Sloppy(DecodeError, "decode")), frame)


@pytest.mark.parametrize("result", [None, "text", 7], ids=repr)
def test_a_codec_that_makes_no_bytes_is_a_codec_error_to_the_sender(result: Any) -> None:
    """The usual slip is json.dumps without .encode(): no receiver could read that."""

    class NoBytes(Own):
        def encoder(self, kind: type[T], /) -> Callable[[T], bytes]:
            return lambda value: result

    for compression in (None, Gzip()):
        with pytest.raises(CodecError, match="Note to /here"):
            sent(Wire(NoBytes(), compression=compression, threshold=0))


def test_a_codec_is_asked_once_for_each_label() -> None:
    asked: list[str] = []

    class Counting(Own):
        def encoder(self, kind: type[T], /) -> Callable[[T], bytes]:
            asked.append("encoder")
            return super().encoder(kind)

        def decoder(self, kind: type[T], /) -> Callable[[bytes], T]:
            asked.append("decoder")
            return super().decoder(kind)

    wire = Wire(Counting())
    for _ in range(3):
        received(wire, sent(wire, Note("x")))
    assert asked == ["encoder", "decoder"]


# Labels that are remembered ------------------------------------------------------------------------------


def test_more_labels_than_are_remembered_change_nothing() -> None:
    wire = Wire()
    for number in (*range(5000), 0, 4095, 4096, 4999):
        target = Address(f"/actor-{number}")
        frame = wire.encode(Envelope(Note(str(number)), target, sender=HERE), now=0.0)
        got = received(wire, frame, target)
        assert (got.message, got.target, got.sender) == (Note(str(number)), target, HERE)


def test_a_label_that_was_refused_is_refused_again() -> None:
    wire = Wire()
    for change in (
        {"codec": "cbor"},
        {"type": "shop.Order"},
        {"target": "here"},
        {"sender": "x"},
        {"target": "/there"},
    ):
        for _ in range(3):
            assert refused(wire, note().but(**change).frame())


def test_labels_are_remembered_by_all_that_is_in_them() -> None:
    """Whatever else was said to the same actor before."""
    wire = Wire()
    choices: dict[str, tuple[Any, Any]] = {
        "codec": ("msgpack", "json"), "type": (wire_name(Note), wire_name(Plain)), "sender": (None, "/a"),
        "reply_to": (None, "/b"), "chain": ([], ["/c"]), "lane": (3, 0), "flags": (0, 1), "attempt": (1, 2),
    }  # fmt: skip
    for _ in range(2):
        for values in itertools.product(*choices.values()):
            says = dict(zip(choices, values, strict=True))
            frame = note().but(**says, payload=b"\x80" if says["codec"] == "msgpack" else b"{}", ttl=1.0).frame()
            got, reply_to = wire.decode(frame, at=HERE, now=0.0)
            is_ask = says["reply_to"] is not None and not says["flags"]
            assert (wire_name(type(got.message)), got.sender, reply_to) == (
                says["type"],
                says["sender"],
                says["reply_to"],
            )
            assert (list(got.chain), got.priority, got.attempt) == (says["chain"], says["lane"] - 1, says["attempt"])
            assert got.reply_by == (1.0 if is_ask else math.inf)
            again = parts(wire.encode(got, now=0.0, reply_to=reply_to))
            kept = ("type", "sender", "reply_to", "chain", "lane", "attempt")
            assert [again.says(name) for name in kept] == [says[name] for name in kept]


def test_a_type_that_is_imported_later_is_read_from_then_on() -> None:
    wire, frame = Wire(), note("x").but(type="tests.transport.test_wire.Later").frame()
    assert "tests.transport.test_wire.Later" in refused(wire, frame)

    class Later(Message[None], wire_name="tests.transport.test_wire.Later"):
        text: str

    assert received(wire, frame).message == Later("x")


def test_the_longest_addresses_travel() -> None:
    longest = [Address("/" + letter * 199) for letter in "abc"]
    envelope = Envelope(Note(), longest[0], sender=longest[1], chain=(longest[1],) * 30)
    got, reply_to = PLAIN.decode(PLAIN.encode(envelope, now=0.0, reply_to=longest[2]), at=longest[0], now=0.0)
    assert [got.target, got.sender, reply_to] == longest
    assert got.chain == envelope.chain


# What is put in place of a frame that was refused --------------------------------------------------------


def stand_in(wire: Wire, frame: bytes, at: Address = HERE) -> Envelope:
    with pytest.raises(CodecError) as caught:
        wire.decode(frame, at=at, now=0.0)
    envelope = wire.undecodable(frame, caught.value, at=at)
    assert isinstance(envelope.message, Undecodable)
    assert (envelope.message.error, envelope.message.size) == (caught.value, len(frame))
    assert envelope.target == at
    assert (envelope.reply, envelope.reply_by, envelope.deadline) == (None, math.inf, None)
    return envelope


def known(envelope: Envelope) -> list[Any]:
    names = ("message_id", "priority", "attempt", "correlation_id", "causation_id", "sender")
    return [getattr(envelope, name) for name in names]


NOTHING_KNOWN = known(Envelope(Note(), HERE))


@BOTH
def test_what_can_be_read_of_a_refused_frame_is_said(wire: Wire) -> None:
    whole = parts(sent(wire)).but(payload=b"\xc1")
    assert known(stand_in(wire, whole.frame(FIRST))) == ["id", Priority.HIGH, 3, "conversation", "cause", THERE]
    assert known(stand_in(wire, whole.but(type="shop.Order").frame(FIRST)))[0] == "id"
    assert known(stand_in(wire, whole.but(sender="none").frame(FIRST)))[-1] is None
    for sent_as, shown_as in ((TRACEPARENT, TRACEPARENT), (TRACEPARENT.upper(), None), ("", None)):
        assert stand_in(wire, whole.but(traceparent=sent_as).frame(FIRST)).traceparent == shown_as


def test_nothing_is_said_of_a_frame_whose_signature_does_not_hold() -> None:
    whole = parts(sent(PLAIN))
    for frame in (whole.frame(), whole.frame(SECOND), whole.frame((FIRST[0], SECOND[1]))):
        assert known(stand_in(SIGNED, frame)) == NOTHING_KNOWN


@pytest.mark.parametrize("vector", BAD, ids=lambda vector: str(vector["name"]))
def test_whatever_was_refused_has_a_stand_in(vector: dict[str, Any]) -> None:
    envelope = stand_in(reader_of(vector), bytes.fromhex(vector["frame"]), Address(vector["at"]))
    assert -1 <= envelope.priority <= 3
    assert envelope.attempt >= 1


@given(data=st.binary(max_size=100), at=st.integers(0, 300))
def test_any_bytes_that_were_refused_have_a_stand_in(data: bytes, at: int) -> None:
    frame = sent(PLAIN)
    for each in (data, frame[:at] + data + frame[at + len(data) :]):
        if outcome(PLAIN, each) is None:
            stand_in(PLAIN, each)


# What harm a frame can do --------------------------------------------------------------------------------


def test_no_frame_costs_much() -> None:
    """Measured in a process of its own: time against that of an honest frame as large as they may be."""
    untraced = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    run = subprocess.run(
        [sys.executable, "-m", "tests.transport.bombs"], capture_output=True, check=False, env=untraced
    )
    assert run.returncode == 0, run.stderr.decode()
    report = json.loads(run.stdout)
    assert report["frames"] > 2_000
    assert report["slowest"][0] < 40, report
    assert report["slowest_of_slow"][0] < 300, report  # 1e308 takes msgspec 25 us; a frame has room for 43,000
    assert report["grown_by_labels"] < 24 * 2**20, report
    assert report["grown"] < 64 * 2**20, report
    assert not report["ran_out"]
    assert len(report["longest"]) < 300
