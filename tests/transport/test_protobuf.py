"""The Protobuf codec: what goes in comes out, no bytes do harm, and depth is bounded at both ends."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, struct_pb2, timestamp_pb2
from google.protobuf.message import DecodeError as ProtobufError
from google.protobuf.message import EncodeError
from google.protobuf.message import Message as Generated
from hypothesis import example, given
from hypothesis import strategies as st

from actors import Terminated
from tests.conformance.messages import decode as decode_by
from tests.conformance.messages import encode as encode_by
from tests.protobuf.legacy_pb2 import Customer, friend, motto
from tests.protobuf.orders_pb2 import SPEED_EXPRESS, Cancel, Line, Order, Tree
from transport.address import Address
from transport.codec import JSON, Codec, MessagePack, detail
from transport.envelope import Envelope
from transport.errors import CodecError, DecodeError, MessageTooLarge, UnknownMessage
from transport.message import Message, register, wire_name
from transport.protobuf import Protobuf
from transport.wire import Wire

ROOT = Path(__file__).parents[2]
M = TypeVar("M")


def encode(message: Any, depth: int = 32) -> bytes:
    return Protobuf(depth).encoder(type(message))(message)


def decode(kind: type[M], data: bytes, depth: int = 32) -> M:
    return Protobuf(depth).decoder(kind)(data)


def nested(levels: int, *, by: str = "left") -> Tree:
    """A `Tree` of so many levels, each a field of the one around it."""
    tree = outermost = Tree(value=1)
    for _ in range(levels - 1):
        match by:
            case "left":
                tree.left.value = 1
                tree = tree.left
            case "more":
                tree = tree.more.add(value=1)
            case "named":
                tree = tree.named["below"]
                tree.value = 1
    return outermost


# Round trips --------------------------------------------------------------------------------------------------

texts = st.text(max_size=8)
lines = st.builds(Line, product=texts, count=st.integers(0, 2**32 - 1), cents=st.integers(-(2**63), 2**63 - 1))
instants = st.builds(
    timestamp_pb2.Timestamp, seconds=st.integers(-62135596800, 253402300799), nanos=st.integers(0, 10**9 - 1)
)
fields: dict[str, st.SearchStrategy[Any]] = {
    "number": st.integers(0, 2**64 - 1),
    "customer": texts,
    "lines": st.lists(lines, max_size=3),
    "coupons": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4),
    "notes": st.dictionaries(texts, texts, max_size=3),
    "gifts": st.dictionaries(st.integers(-(2**31), 2**31 - 1), lines, max_size=3),
    "discount": st.floats(allow_nan=False),
    "speed": st.integers(0, 2),
    "scan": st.binary(max_size=8),
    "paid": st.booleans(),
    "barcode": st.integers(0, 2**64 - 1),
    "placed": instants,
}
deliveries = st.fixed_dictionaries({"shop": texts}) | st.fixed_dictionaries(
    {"home": st.builds(Order.Recipient, name=texts, street=st.none() | texts)}
)
orders = st.builds(
    lambda content, delivery: Order(**content, **delivery),
    st.fixed_dictionaries({}, optional=fields),
    st.just({}) | deliveries,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | texts,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(texts, below, max_size=3),
    max_leaves=6,
)


def _tree(value: int, left: Tree | None, more: list[Tree], named: dict[str, Tree], notes: Any) -> Tree:
    tree = Tree(value=value, left=left, more=more, named=named)
    tree.notes.update(notes)
    tree.anything.Pack(Line(product="within"))
    return tree


trees = st.recursive(
    st.builds(Tree, value=st.integers(0, 9)),
    lambda below: st.builds(
        _tree,
        st.integers(0, 9),
        st.none() | below,
        st.lists(below, max_size=2),
        st.dictionaries(texts, below, max_size=2),
        st.dictionaries(texts, json_values, max_size=2),
    ),
    max_leaves=4,
)
customers = st.builds(
    Customer,
    name=texts,
    nickname=st.none() | texts,
    card=st.none() | st.builds(Customer.Card, number=st.integers(0, 9)),
)
messages: st.SearchStrategy[Generated] = st.one_of(orders, trees, customers, lines, st.just(Cancel()))


@given(message=messages)
def test_what_goes_in_comes_out(message: Generated) -> None:
    decoded = decode(type(message), encode(message))
    assert decoded == message
    assert type(decoded) is type(message)


@given(message=messages)
def test_protobuf_itself_reads_and_writes_the_same_bytes(message: Generated) -> None:
    assert type(message).FromString(encode(message)) == message
    assert decode(type(message), message.SerializeToString()) == message


def test_what_is_set_stays_set_and_what_is_not_is_not() -> None:
    empty, zero = Order(), Order(discount=0.0, shop="", placed=timestamp_pb2.Timestamp())
    decoded = decode(Order, encode(zero))
    assert (decoded.HasField("discount"), decoded.WhichOneof("delivery"), decoded.HasField("placed")) == (
        True,
        "shop",
        True,
    )
    decoded = decode(Order, encode(empty))
    assert (decoded.HasField("discount"), decoded.WhichOneof("delivery"), decoded.HasField("placed")) == (
        False,
        None,
        False,
    )


@given(notes=st.dictionaries(texts, texts, min_size=2, max_size=6))
def test_equal_messages_make_equal_bytes(notes: dict[str, str]) -> None:
    there = Order(notes=notes)
    back = Order()
    for key in reversed(notes):
        back.notes[key] = notes[key]
    assert there == back
    assert encode(there) == encode(back)


def test_fields_and_values_that_the_receiver_does_not_know_travel_on() -> None:
    order = Order(number=7, customer="Ada", speed=SPEED_EXPRESS, shop="Ulm")
    seen = decode(Cancel, encode(order))
    assert seen.number == 7
    assert decode(Order, encode(seen)) == order
    assert decode(Order, b"\x40\x63").speed == 99


def test_any_and_the_other_types_of_protobuf_itself() -> None:
    packed = any_pb2.Any(type_url="no.such.host/no.such.Type", value=b"\xff\xff")
    assert decode(any_pb2.Any, encode(packed)) == packed, "what it holds is not looked at"
    far = timestamp_pb2.Timestamp(seconds=2**62)
    assert decode(timestamp_pb2.Timestamp, encode(far)) == far
    notes = struct_pb2.Struct()
    notes.update({"a": [1, None, {"b": True}]})
    assert decode(struct_pb2.Struct, encode(notes)) == notes
    assert (wire_name(any_pb2.Any), wire_name(Order.Recipient)) == (
        "google.protobuf.Any",
        "tests.orders.Order.Recipient",
    )


def test_groups_and_extensions_of_proto2() -> None:
    customer = Customer(name="Ada", card=Customer.Card(number=7))
    customer.Extensions[motto] = "slowly"
    customer.Extensions[friend].name = "Bob"
    decoded = decode(Customer, encode(customer))
    assert decoded == customer
    assert (decoded.card.number, decoded.Extensions[friend].name) == (7, "Bob")


def test_a_list_of_numbers_may_be_packed_or_not() -> None:
    assert decode(Order, b"\x22\x02\x01\x02").coupons == [1, 2]
    assert decode(Order, b"\x20\x01\x20\x02").coupons == [1, 2]
    with pytest.raises(ProtobufError):
        decode(Order, b"\x22\x02\x01\xff")


# What does not encode -----------------------------------------------------------------------------------------


class Greet(Message[None]):
    who: str


@pytest.mark.parametrize(
    ("kind", "name"),
    [(Greet, "Greet"), (int, "int"), (Generated, "Message"), (list[Order], "list"), (Order | None, ".*Order | None")],
)
def test_only_what_protoc_generates_encodes_and_decodes(kind: Any, name: str) -> None:
    for ask_for in (Protobuf().encoder, Protobuf().decoder):
        with pytest.raises(CodecError, match=f"^{name} is not generated by protoc"):
            ask_for(kind)


def folders() -> descriptor_pb2.FileDescriptorProto:
    """Nothing is required of a folder itself, but of the files in it."""
    file = descriptor_pb2.FileDescriptorProto(name="folders.proto", package="tests.folders", syntax="proto2")
    file.message_type.add(name="File").field.add(name="name", number=1, type=9, label=2)
    folder = file.message_type.add(name="Folder")
    folder.field.add(name="below", number=1, type=11, label=1, type_name=".tests.folders.File")
    return file


def test_what_is_not_complete_does_not_encode_nor_decode() -> None:
    for customer in (Customer(nickname="secret"), Customer(name="Ada", card={})):
        with pytest.raises(EncodeError, match="missing required fields"):
            encode(customer)
    for data in (b"", b"\x12\x06secret", b"\x0a\x01a\x1b\x1c"):
        with pytest.raises(DecodeError, match=r"^not a tests\.legacy\.Customer: required fields are missing$"):
            decode(Customer, data)
    folder = made(folders(), "Folder", "below")
    with pytest.raises(DecodeError, match="required fields are missing"):
        decode(type(folder), folder.SerializePartialToString())


# What does not decode -----------------------------------------------------------------------------------------

KINDS = (Order, Line, Cancel, Tree, Customer, any_pb2.Any, struct_pb2.Struct, timestamp_pb2.Timestamp)


def refusal(kind: type[Generated], data: bytes) -> str:
    """Why `data` is no `kind`, as a `Wire` says it; empty where it is one."""
    try:
        decoded = decode(kind, data)
    except DecodeError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001  # a codec may raise any
        return detail(error)
    assert type(decoded) is kind
    return ""


class Edit(NamedTuple):
    """What a bad line or a bad sender does to bytes: at `where`, `length` of them become `instead`."""

    where: int
    length: int
    instead: bytes


edits = st.builds(Edit, st.integers(0, 200), st.integers(0, 6), st.binary(max_size=6))


@given(data=st.binary(max_size=200), kind=st.sampled_from(KINDS))
def test_any_bytes_make_a_message_or_a_decode_error(data: bytes, kind: type[Generated]) -> None:
    assert len(refusal(kind, data)) < 100


@given(message=messages, edits=st.lists(edits, max_size=3), kind=st.none() | st.sampled_from(KINDS))
@example(message=Line(product="abc"), edits=[Edit(2, 1, b"\xff")], kind=None)
def test_damaged_bytes_make_a_message_or_a_decode_error(
    message: Generated, edits: list[Edit], kind: type[Generated] | None
) -> None:
    data = encode(message)
    for edit in edits:
        data = data[: edit.where] + edit.instead + data[edit.where + edit.length :]
    assert len(refusal(kind or type(message), data)) < 100


def test_any_one_byte_may_be_damaged() -> None:
    order = Order(
        number=300, customer="Ada", lines=[Line(product="ink", count=2)], coupons=[1, 300], notes={"a": "b"},
        gifts={7: Line(cents=-1)}, discount=0.5, scan=b"\0\xff", placed=timestamp_pb2.Timestamp(seconds=1), shop="Ulm",
    )  # fmt: skip
    data = encode(order)
    refused = [
        refusal(Order, data[:where] + bytes([byte]) + data[where + 1 :])
        for where in range(len(data))
        for byte in range(256)
    ]
    assert 0.2 < refused.count("") / len(refused) < 0.8


@pytest.mark.parametrize(
    "data",
    [b"\xff" * 40, b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x04\xff\xfe\xfd\xfc", b"\x0b", b"\x0c", b"\x00\x00", b"\x0a"],
)
def test_a_refusal_does_not_repeat_what_it_was_sent(data: bytes) -> None:
    text = refusal(Line, b"\x0a\x06secret" + data)
    assert text
    assert "secret" not in text


def test_a_string_is_utf_8_but_for_proto2() -> None:
    with pytest.raises(ProtobufError):
        decode(Line, b"\x0a\x02\xff\xfe")
    with pytest.raises(ProtobufError):
        decode(Order, b"\x2a\x04\x0a\x02\xff\xfe")
    name: object = decode(Customer, b"\x0a\x02\xff\xfe").name
    assert name == b"\xff\xfe"


BOMBS = {
    "empty messages in a list": b"\x1a\x00" * 131_072,
    "empty entries of a map": b"\x22\x00" * 131_072,
    "entries with a message": b"\x22\x02\x12\x00" * 65_536,
    "one entry after the other": b"\x2a\x00" * 131_072,
    "zeros": b"\x08\x00" * 131_072,
    "unknown fields": b"\xf8\x07\x00" * 87_381,
    "a promise of 4 GiB": b"\x12\xff\xff\xff\xff\x0f",
    "groups that nobody knows": b"\xa3\x06" * 65_536,
    "groups that nobody knows, and their ends": b"\xa3\x06" * 65_536 + b"\xa4\x06" * 65_536,
    "a number without an end": b"\x08" + b"\xff" * 262_143,
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
@pytest.mark.parametrize("kind", [Order, Tree, Customer])
def test_no_bytes_take_memory_out_of_proportion(kind: type[Generated], bomb: bytes) -> None:
    """What Python has to keep; what protobuf itself does is measured in the next one."""
    tracemalloc.start()
    text = refusal(kind, bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000 + 150 * len(bomb)
    assert len(text) < 100


def test_no_bytes_take_memory_or_time_out_of_proportion_in_protobuf_itself() -> None:
    program = """
        import resource, time
        from tests.transport.test_protobuf import BOMBS, Customer, Order, Tree, refusal
        most, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        for bomb in BOMBS.values():
            for kind in (Order, Tree, Customer):
                refusal(kind, bomb)
        kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most
        assert kib < 80 * 1024, f"{kib} KiB for frames of 256"
        assert time.process_time() - began < 10
    """
    lines = [line[8:] for line in program.splitlines()]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


# Depth --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["left", "more", "named"])
@pytest.mark.parametrize("depth", [1, 2, 32])
def test_messages_nest_to_the_depth_and_no_deeper_at_both_ends(by: str, depth: int) -> None:
    fine, over = nested(depth, by=by), nested(depth + 1, by=by)
    assert decode(Tree, encode(fine, depth), depth) == fine
    with pytest.raises(MessageTooLarge, match=f"^it nests deeper than {depth}$"):
        encode(over, depth)
    with pytest.raises(DecodeError, match=rf"^not a tests\.orders\.Tree: it nests deeper than {depth}$"):
        decode(Tree, over.SerializeToString(), depth)


def test_the_last_level_may_hold_what_does_not_nest() -> None:
    """A `Line` has one level; only a second counts, and not that of the types on the way to it."""
    assert encode(Tree(line=Line(product="ink")), depth=2)
    assert encode(Order(gifts={1: Line()}, lines=[Line()], placed=timestamp_pb2.Timestamp(seconds=1)), depth=2)
    for message in (Tree(line=Line()), Order(gifts={1: Line()}), Order(lines=[Line()])):
        with pytest.raises(MessageTooLarge):
            encode(message, depth=1)
    assert encode(Order(notes={"a": "b"}, coupons=[1]), depth=1)


def test_the_types_of_protobuf_itself_and_extensions_nest_no_deeper_either() -> None:
    value = struct_pb2.Value()
    value.list_value.values.add().list_value.values.add().null_value = struct_pb2.NULL_VALUE
    assert decode(struct_pb2.Value, encode(value, depth=5), depth=5) == value
    customer = Customer(name="1")
    customer.Extensions[friend].name = "2"
    customer.Extensions[friend].Extensions[friend].name = "3"
    assert encode(customer, depth=3)
    for kind, message, depth in ((struct_pb2.Value, value, 4), (Customer, customer, 2)):
        with pytest.raises(MessageTooLarge):
            encode(message, depth=depth)
        with pytest.raises(DecodeError, match="deeper"):
            decode(kind, message.SerializeToString(), depth)


def test_a_message_of_60_000_levels_does_not_end_the_process() -> None:
    """Protobuf overflows the stack where it is asked to encode one."""
    with pytest.raises(MessageTooLarge):
        encode(nested(60_000))


def test_protobuf_s_own_limit_holds_where_ours_is_no_lower() -> None:
    assert decode(Tree, encode(nested(100), depth=100), depth=100) == nested(100)
    data = nested(101).SerializeToString() + nested(102).SerializeToString()
    with pytest.raises(ProtobufError):
        decode(Tree, data, depth=100)


@pytest.mark.parametrize("depth", [0, -1, 101])
def test_a_depth_that_cannot_be_kept_is_refused(depth: int) -> None:
    with pytest.raises(ValueError, match="1 to 100 levels"):
        Protobuf(depth)


def made(file: descriptor_pb2.FileDescriptorProto, name: str, *path: str) -> Any:
    """A message of the type `name` of the file, with a message in each field along the path."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    kind = pool.FindMessageTypeByName(f"{file.package}.{name}")
    outermost = message = message_factory.GetMessageClass(kind)()
    for field in path:
        message = getattr(message, field)
        message.SetInParent()
    return outermost


def chain() -> descriptor_pb2.FileDescriptorProto:
    """A and B contain each other; each of 60 more types contains the next twice, so 2**60 ways lead to the last."""
    file = descriptor_pb2.FileDescriptorProto(name="chain.proto", package="tests.chain", syntax="proto3")

    def add(name: str, *kinds: str) -> None:
        kind = file.message_type.add(name=name)
        for number, each in enumerate(kinds, start=1):
            kind.field.add(name=f"f{number}", number=number, type=11, label=1, type_name=f".tests.chain.{each}")

    add("A", "B")
    add("B", "End", "A")
    for number in range(60):
        add(f"C{number}", *[f"C{number + 1}" if number < 59 else "End"] * 2)
    add("End")
    return file


def test_types_that_contain_each_other_or_many_times_the_same_are_understood() -> None:
    long = made(chain(), "C0", *["f2"] * 60)
    assert encode(long, depth=61)
    with pytest.raises(MessageTooLarge):
        encode(long, depth=60)
    assert encode(made(chain(), "B", "f2", "f1"), depth=3)
    with pytest.raises(MessageTooLarge):
        encode(made(chain(), "B", "f2", "f1"), depth=2)
    assert encode(made(chain(), "B", "f1"), depth=2)


@pytest.mark.parametrize(("codec", "nothing"), [(MessagePack(), b"\x80"), (JSON(), b"{}")], ids=["msgpack", "json"])
def test_other_codecs_take_no_generated_type(codec: Codec, nothing: bytes) -> None:
    for kind in (Cancel, struct_pb2.Struct):
        with pytest.raises(CodecError):
            encode_by(codec, kind())
        with pytest.raises(DecodeError):
            decode_by(codec, kind, nothing)


# On the wire --------------------------------------------------------------------------------------------------

wire = Wire()
SHOP = Address("/shop")


def sent(message: Any) -> Any:
    """What arrives of `message`."""
    return wire.decode(wire.encode(Envelope(message, SHOP), now=0.0), at=SHOP, now=0.0)[0].message


def test_a_wire_carries_what_is_registered_and_only_that() -> None:
    with pytest.raises(UnknownMessage) as caught:
        sent(descriptor_pb2.FileDescriptorProto(name="Ada"))
    assert caught.value.name == "google.protobuf.FileDescriptorProto"
    register(Order)
    assert sent(Order(number=7)) == Order(number=7)
    assert sent(Greet("you")) == Greet("you")


def test_what_cannot_be_sent_is_the_sender_s_error() -> None:
    with pytest.raises(CodecError, match=r"^Customer to /shop does not encode: EncodeError$") as caught:
        sent(Customer(nickname="secret"))
    assert "missing required fields: name" in str(caught.value.__cause__)
    with pytest.raises(MessageTooLarge, match=r"^Tree to /shop: it nests deeper than 32$"):
        sent(nested(33))
    with pytest.raises(CodecError, match="Terminated stays within its process"):
        sent(Terminated(SHOP, "stopped"))
    with pytest.raises(CodecError, match=r"^Greet to /shop does not encode: Greet is not generated by protoc"):
        Wire(Protobuf()).encode(Envelope(Greet("you"), SHOP), now=0.0)


def test_a_wire_may_be_told_how_deep_they_nest() -> None:
    shallow = Wire(overrides={Generated: Protobuf(depth=2)})
    assert shallow.encode(Envelope(nested(2), SHOP), now=0.0)
    with pytest.raises(MessageTooLarge, match=r"^Tree to /shop: it nests deeper than 2$"):
        shallow.encode(Envelope(nested(3), SHOP), now=0.0)
    register(Tree)
    with pytest.raises(DecodeError, match=r"it nests deeper than 2$"):
        shallow.decode(wire.encode(Envelope(nested(3), SHOP), now=0.0), at=SHOP, now=0.0)
