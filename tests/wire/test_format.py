"""The format is what docs/wire-format.md says: `Wire` and a reader made from the document agree on every frame."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from math import inf
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conformance import messages as conformance
from tests.protobuf import orders_pb2
from tests.wire import make_vectors, reader, rows
from tests.wire.messages import Box, Note
from tests.wire.reader import FRAME, LABEL, Content, Refused
from transport.address import Address
from transport.codec import JSON, Codec, MessagePack
from transport.compression import LZ4, Compression, Gzip, Zstd
from transport.envelope import Envelope
from transport.errors import CodecError, DecodeError, MessageTooLarge, UnknownMessage
from transport.message import wire_name
from transport.protobuf import Protobuf
from transport.wire import Limits, Wire

FILE: Final = json.loads(rows.VECTORS.read_text())
VECTORS: Final = FILE["vectors"]
GOOD: Final = [each for each in VECTORS if "content" in each]
BAD: Final = [each for each in VECTORS if "error" in each]
SECRETS: Final = {name: bytes.fromhex(secret) for name, secret in FILE["keys"].items()}
DOCUMENT: Final = (Path(__file__).parents[2] / "docs" / "wire-format.md").read_text()

# How this project's errors say what the document's table of refusals has.
TEXTS: Final = {
    "size": r"a frame of \d+ bytes; the limit is",
    "frame": r"not a frame|a damaged frame of version 1",
    "version": r"a frame of version \d+; this node reads version 1",
    "header-size": r"a header of \d+ bytes; the limit is",
    "signature": r"an unsigned frame|signature by the key .* does not hold",
    "label": r"a damaged label",
    "codec": r"encoded by .*; this node has",
    "type": r"unknown message type|not a wire\.Note: ",
    "target": r"a frame for .* in the mailbox of ",
    "compression": r"unknown compression|(gzip|zstd|lz4) data",
    "payload": r"not a (wire|tests\.orders)\.|it nests deeper|it has a whole number outside|it has more than 1,000 ",
}


def each(vectors: list[dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("vector", vectors, ids=[vector["name"] for vector in vectors])


# The vectors, by the document's reader -----------------------------------------------------------------------


def is_note(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("text"), str)
        and type(value.get("count", 0)) is int
        and value.get("count", 0) < 2**64
    )


def is_map(value: Any) -> bool:
    return isinstance(value, dict)


def is_cancel(value: Any) -> bool:
    """A varint of field 1, perhaps after another field; which is all the protobuf in the vectors."""
    return isinstance(value, bytes) and re.fullmatch(rb"(\x7a\x01x)?(\x08[\x80-\xff]*[\x00-\x7f])?", value) is not None


KINDS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "wire.Note": is_note, "wire.Types": is_map, "wire.Box": is_map, "wire.Account": is_map,
    "tests.orders.Cancel": is_cancel,
}  # fmt: skip


def read(vector: dict[str, Any]) -> tuple[Content, Any]:
    """What the document's reader makes of a vector."""
    limits = vector.get("limits", {"frame": 256 * 1024, "header": 8 * 1024})
    return reader.read(
        bytes.fromhex(vector["frame"]), at=vector["at"], types=KINDS,
        keys={name: SECRETS[name] for name in vector["keys"]},
        frame_limit=limits["frame"], header_limit=limits["header"],
    )  # fmt: skip


@each(GOOD)
def test_a_reader_made_from_the_document_reads_a_vector(vector: dict[str, Any]) -> None:
    content, value = read(vector)
    assert content == rows.content_of(vector)
    if content.type == "wire.Note":
        assert {"count": 0, **value} == {**value, **vector["message"]}
    elif content.type == "wire.Box":
        assert value == vector["message"]


@each(BAD)
def test_a_reader_made_from_the_document_refuses_a_bad_vector_for_its_reason(vector: dict[str, Any]) -> None:
    with pytest.raises(Refused) as caught:
        read(vector)
    # Which codec carries which type is more than that reader knows: it finds that the payload is not of the type.
    assert caught.value.kind == ("payload" if vector["name"] == "type-codec" else vector["error"])


# The vectors, by `Wire` --------------------------------------------------------------------------------------


def wire(vector: dict[str, Any]) -> Wire:
    return Wire(
        codecs=[Protobuf()], limits=Limits(**vector.get("limits", {})), keys=rows.keys_of(vector["keys"], FILE["keys"])
    )


@each(GOOD)
def test_a_vector_decodes_to_what_it_says(vector: dict[str, Any]) -> None:
    content = rows.content_of(vector)
    message = rows.message_of(content.type, vector["message"])
    frame = bytes.fromhex(vector["frame"])
    envelope, reply_to = wire(vector).decode(frame, at=Address(vector["at"]), now=100.0, age=0.25)
    if isinstance(envelope.message, orders_pb2.Cancel):
        envelope.message.DiscardUnknownFields()  # which protobuf keeps, to pass them on
    rows.assert_same(envelope, rows.envelope_of(content, message, now=99.75))
    assert reply_to == content.reply_to


@each(BAD)
def test_a_bad_vector_is_a_codec_error_that_says_why(vector: dict[str, Any]) -> None:
    with pytest.raises(CodecError) as caught:
        wire(vector).decode(bytes.fromhex(vector["frame"]), at=Address(vector["at"]), now=0.0)
    assert type(caught.value) in (DecodeError, UnknownMessage)
    assert re.search(TEXTS[vector["error"]], str(caught.value)), str(caught.value)
    assert len(str(caught.value)) < 300


@each([each for each in GOOD if not each["name"].startswith("protobuf")])
def test_no_part_of_a_vector_is_a_frame(vector: dict[str, Any]) -> None:
    data, reads = bytes.fromhex(vector["frame"]), wire(vector)
    for end in range(0, len(data), 1 + len(data) // 100):
        with pytest.raises(CodecError):
            reads.decode(data[:end], at=Address(vector["at"]), now=0.0)


def test_the_file_of_vectors_is_what_the_script_makes() -> None:
    """Other releases of a compression pack otherwise, so what is packed is compared by what it says."""
    made = json.loads(json.dumps(make_vectors.vectors()))
    for row in (*made["vectors"], *VECTORS):
        if row.get("error") == "compression" or row.get("content", {}).get("compression"):
            del row["frame"]
    assert made == FILE


# What `Wire` writes, and what it reads -----------------------------------------------------------------------


CONFORMANCE: Final = (conformance.Everything, conformance.Leaf, conformance.Nothing, conformance.Positive)


HELLOS: Final = st.integers(0, 60).map("hello ".__mul__)
"""Text that packing makes shorter, but not 100 times."""


class Case(NamedTuple):
    """An envelope at the time 0, who is to be told what becomes of it, and what its frame should say."""

    envelope: Envelope
    reply_to: Address | None
    content: Content


@st.composite
def cases(draw: st.DrawFn, codec: Codec, compression: Compression | None) -> Case:
    message: Any
    if codec.name == "protobuf":
        message = orders_pb2.Order(
            number=draw(st.integers(0, 2**64 - 1)), notes=draw(st.dictionaries(st.text(), HELLOS))
        )
        payload = message.SerializeToString(deterministic=True)
    else:
        message = draw(st.builds(Note, HELLOS) | conformance.messages)
        if codec.name == "json" and isinstance(message, conformance.Everything):
            # What has no type comes back as what JSON has: no bytes, no numbers for keys. There are many ways to
            # write a float.
            message = msgspec.structs.replace(message, anything=draw(st.none() | st.text()), ratio=0.5, shapes=[])
        payload = reader.encode(codec.name, message)
    sender, reply_to = draw(st.none() | conformance.addresses), draw(st.none() | conformance.addresses)
    receipt = draw(st.booleans())
    ttl = draw(st.none() | st.floats(0))
    if reply_to is not None and not receipt:
        ttl = ttl or 8.0  # an ask has one
    content = Content(
        codec.name,
        wire_name(type(message)),
        draw(conformance.addresses),
        sender,
        reply_to,
        flags=int(receipt),
        lane=draw(st.integers(0, 4)),
        id=draw(st.uuids(version=4).map(str) | st.text(min_size=1, max_size=50)),
        compression=None if compression is None else compression.name,
        correlation_id=draw(st.none() | st.text(max_size=50)),
        causation_id=draw(st.none() | st.text(max_size=50)),
        ttl=ttl,
        attempt=draw(st.integers(1, 2**64 - 1)),
        traceparent=draw(st.none() | st.just(make_vectors.TRACE)),
        chain=tuple(draw(st.lists(conformance.addresses, max_size=3))),
        payload=payload,
    )
    return Case(rows.envelope_of(content, message, now=0.0), reply_to, content)


ANY_KIND: Final[Mapping[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(("wire.Note", "wire.Box", *map(wire_name, CONFORMANCE)), is_map),
    "tests.orders.Order": lambda value: isinstance(value, bytes),
}
EVERY_WAY: Final = [
    pytest.param(codec, compression, names, id=f"{codec.name}-{compression.name if compression else 'plain'}-{names}")
    for codec in (MessagePack(), JSON(), Protobuf())
    for compression in (None, Gzip(), Zstd(), LZ4())
    for names in ([], ["key-2", "key-1"])
]
"""Codec, compression and the ids of the keys."""


@pytest.mark.parametrize(("codec", "compression", "names"), EVERY_WAY)
@given(data=st.data())
@settings(max_examples=25)
def test_a_reader_made_from_the_document_reads_what_the_wire_writes(
    codec: Codec, compression: Compression | None, names: list[str], data: st.DataObject
) -> None:
    case = data.draw(cases(codec, compression))
    content, keys = case.content, rows.keys_of(names, FILE["keys"])
    writes = Wire(codec, compression=compression, threshold=0, keys=keys)
    frame = writes.encode(case.envelope, now=0.0, reply_to=case.reply_to)
    secrets = {name: SECRETS[name] for name in names}
    found, value = reader.read(frame, at=content.target, types=ANY_KIND, keys=secrets)
    assert found._replace(compression=None) == content._replace(compression=None)
    assert value == reader.decode(codec.name, content.payload)
    if b"hello " * 30 in content.payload:
        assert found.compression == content.compression
    # Both write the same bytes. Not where packing saved something: there are many ways to pack.
    if found.compression is None:
        key = ("key-2", SECRETS["key-2"]) if names else None
        assert frame == reader.write(content._replace(compression=None), key=key)


@pytest.mark.parametrize(("codec", "compression", "names"), EVERY_WAY)
@given(data=st.data())
@settings(max_examples=25)
def test_the_wire_reads_what_a_writer_made_from_the_document_writes(
    codec: Codec, compression: Compression | None, names: list[str], data: st.DataObject
) -> None:
    case = data.draw(cases(codec, compression))
    sent = case.envelope
    frame = reader.write(case.content, key=("key-1", SECRETS["key-1"]) if names else None)
    envelope, reply_to = Wire(keys=rows.keys_of(names, FILE["keys"])).decode(frame, at=sent.target, now=0.0)
    assert reply_to == case.reply_to
    rows.assert_same(envelope, sent)


def test_the_limits_are_those_of_the_document() -> None:
    """Frames of 256 KiB, and of 8 KiB without the payload, are written and read at both ends; a byte more is not."""
    ends, at = Wire(), Address("/a")

    def frames(text: int, correlation: int) -> tuple[Envelope, bytes]:
        content = Content("msgpack", "wire.Note", at, id="1", correlation_id="c" * correlation)
        content = content._replace(payload=reader.encode("msgpack", Note("t" * text)))
        envelope = Envelope(Note("t" * text), at, correlation_id="c" * correlation, message_id="1")
        return envelope, reader.write(content)

    def sizes(text: int, correlation: int) -> tuple[int, int]:
        frame = frames(text, correlation)[1]
        return len(frame), len(frame) - len(reader.encode("msgpack", Note("t" * text)))

    text = 256 * 1024 - (sizes(250_000, 100)[0] - 250_000)
    correlation = 8 * 1024 - (sizes(100, 8000)[1] - 8000)
    assert sizes(text, 100)[0] == 256 * 1024
    assert sizes(100, correlation)[1] == 8 * 1024
    for lengths in [(text, 100), (100, correlation)]:
        envelope, frame = frames(*lengths)
        assert ends.encode(envelope, now=0.0) == frame
        assert ends.decode(frame, at=at, now=0.0)[0].message == envelope.message
        reader.read(frame, at=at, types=ANY_KIND)
    for lengths, kind in [((text + 1, 100), "size"), ((100, correlation + 1), "header-size")]:
        envelope, frame = frames(*lengths)
        with pytest.raises(MessageTooLarge):
            ends.encode(envelope, now=0.0)
        with pytest.raises(DecodeError, match=TEXTS[kind]):
            ends.decode(frame, at=at, now=0.0)
        with pytest.raises(Refused, match=f"^{kind}$"):
            reader.read(frame, at=at, types=ANY_KIND)


def test_a_thousand_arrays_may_be_keys() -> None:
    keys = b"".join(b"\x91" + make_vectors.pack(number) + b"\xc0" for number in range(1000))
    payload = make_vectors.pack({"inside": 0})[:-1] + b"\xde\x03\xe8" + keys
    frame = reader.write(make_vectors.NOTE._replace(type="wire.Box", payload=payload))
    envelope, _ = Wire().decode(frame, at=Address(make_vectors.AT), now=0.0)
    _, value = reader.read(frame, at=make_vectors.AT, types=ANY_KIND)
    assert envelope.message == Box({(number,): None for number in range(1000)})
    assert envelope.message.inside == value["inside"]


@pytest.mark.parametrize(("left", "ttl"), [(1.5, 1.5), (0.0, 0.0), (-5.0, 0.0), (inf, inf)])
def test_a_ttl_is_what_is_left(left: float, ttl: float) -> None:
    frame = Wire().encode(Envelope(Note(""), Address("/a"), deadline=64.0 + left), now=64.0)
    assert reader.read(frame, at="/a", types=ANY_KIND)[0].ttl == ttl


def test_an_id_is_a_uuid_of_version_7() -> None:
    frame = Wire().encode(Envelope(Note(""), Address("/a")), now=0.0)
    name = reader.read(frame, at="/a", types=ANY_KIND)[0].id
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", name)


# The document itself -----------------------------------------------------------------------------------------


def test_the_document_has_each_reason_that_the_vectors_have() -> None:
    table = DOCUMENT.partition("| refused as |")[2].partition("\n\n")[0]
    reasons = re.findall(r"^\| (?:\d )?`([a-z-]+)` \|", table, re.MULTILINE)
    assert reasons == list(TEXTS)
    assert {vector["error"] for vector in BAD} == set(reasons)


@pytest.mark.parametrize(("heading", "elements"), [("## A frame", FRAME), ("### Label", LABEL)])
def test_the_document_has_each_element(heading: str, elements: dict[str, Any]) -> None:
    section = DOCUMENT.partition(f"\n{heading}\n")[2].partition("|---|")[2].partition("\n\n")[0]
    named = re.findall(r"^\| (\d+) \| `(\w+)` \|", section, re.MULTILINE)
    assert named == [(str(number), name) for number, name in enumerate(elements)]


def test_the_dump_in_the_document_is_the_vector() -> None:
    """Its lines are an offset, some bytes, and what they are."""
    dump = DOCUMENT.rpartition("\n```text\n")[2].partition("```")[0]
    data = b""
    for line in dump.splitlines():
        offset, some, about = re.split(r" {2,}", line, maxsplit=2)
        assert int(offset) == len(data)
        assert about
        data += bytes.fromhex(some)
    (vector,) = [each for each in GOOD if each["name"] == "signed-key-1"]
    assert data.hex() == vector["frame"]


def test_the_numbers_of_bytes_in_the_document_are_those_of_the_vectors() -> None:
    frames = {vector["name"]: vector for vector in GOOD}
    section = DOCUMENT.partition("\n### How many bytes\n")[2].partition("\n## ")[0]
    table = re.findall(r"^\| `([\w-]+)`[^|]* \| (\d+) bytes \| (\d+) \| (\d+) \|$", section, re.MULTILINE)
    assert [name for name, *_ in table] == ["plain", "tell", "ask"]
    for name, overhead, text, size in table:
        content = frames[name]["content"]
        assert len(frames[name]["frame"]) // 2 == int(size)
        assert (len(frames[name]["frame"]) - len(content["payload"])) // 2 == int(overhead)
        words = [content[key] for key in ("codec", "type", "target", "sender", "reply_to", "id", "causation_id")]
        assert sum(map(len, filter(None, [*words, *content["chain"]]))) == int(text)
    traced, signed = map(int, re.findall(r"A traceparent adds (\d+), a signature (\d+) and the id", section)[0])
    plain = len(reader.write(make_vectors.NOTE))
    assert len(reader.write(make_vectors.NOTE._replace(traceparent=make_vectors.TRACE))) == plain + traced
    assert len(reader.write(make_vectors.NOTE, key=make_vectors.KEY_1)) == plain + signed + len("key-1")


def test_the_limits_in_the_document_are_the_defaults() -> None:
    section = DOCUMENT.partition("\n## Limits\n")[2]
    limits = dict(re.findall(r"^\| (\w+) \| ([^|]+) \|", section, re.MULTILINE))
    assert limits["frame"] == f"{Limits().frame // 1024} KiB = {Limits().frame:,} bytes"
    assert limits["header"] == f"{Limits().header // 1024} KiB = {Limits().header:,} bytes"
    assert {MessagePack().depth, JSON().depth, Protobuf().depth} == {int(limits["depth"])}


@pytest.mark.parametrize(
    ("message", "depth"), [({"text": "hello"}, 1), ({"tags": []}, 2), ({"lines": [{"count": 1}]}, 3)]
)
@pytest.mark.parametrize("codec", [MessagePack, JSON])
def test_depth_is_counted_as_the_document_says(codec: type[MessagePack | JSON], message: Any, depth: int) -> None:
    assert f"`{json.dumps(message)}` is {depth}" in DOCUMENT
    data = reader.encode(codec.name, {"inside": message})
    assert codec(depth + 1).decoder(Box)(data) == Box(message)
    with pytest.raises(DecodeError, match="deeper"):
        codec(depth).decoder(Box)(data)
