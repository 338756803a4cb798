"""`python -m benchmarks.wire SECONDS`: envelopes encoded and decoded, by a `Wire` and by what one would write instead.

One round in this process, each variant for about so many seconds; `--json` prints it for a program to read.
"""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from functools import partial
from random import Random
from statistics import median
from time import process_time
from timeit import Timer
from typing import Any

import msgpack  # type: ignore[import-untyped]
import msgspec

from benchmarks import wire_tables
from benchmarks.wire_tables import BARE, BY_HAND, LARGE, OURS, TYPICAL, Figures, Round
from transport.address import Address
from transport.codec import JSON
from transport.compression import LZ4, Gzip, Zstd
from transport.envelope import NORMAL, Envelope, uuid7
from transport.keys import Keys
from transport.message import Message, register
from transport.wire import Wire

BATCH = 100  # envelopes, each with ids of its own
STRANGERS = 5_000  # senders: more than a `Wire` remembers labels, so each is new to it
TURNS = 20  # of each variant in a round; the median counts
LIMIT = 600.0  # seconds for one round
PACKAGES = ("msgspec", "msgpack", "protobuf", "lz4", "backports.zstd")


# What is sent --------------------------------------------------------------------------------------------


@dataclass
class PlainOrder:
    order_id: int
    customer: str
    items: list[str]
    total: float
    paid: bool
    note: str | None = None


@dataclass
class PlainEnvelope:
    """What one would write by hand; the envelopes of all others are made of it."""

    message: PlainOrder
    id: str
    type: str
    target: str
    sender: str | None = None
    reply_to: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    ttl: float | None = None
    attempt: int = 1
    priority: int = NORMAL


class Order(Message[None], wire_name="shop.orders.Order"):
    order_id: int
    customer: str
    items: list[str]
    total: float
    paid: bool
    note: str | None = None


class StructEnvelope(msgspec.Struct):
    message: Order
    id: str
    type: str
    target: str
    sender: str | None = None
    reply_to: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    ttl: float | None = None
    attempt: int = 1
    priority: int = NORMAL


def tell(note: str, number: int = 0) -> PlainEnvelope:
    """From outside of all actors, with nothing but the message's own id."""
    order = PlainOrder(100_000 + number, "customer-42", ["a-1", "b-2", "c-3"], 99.5, True, note)
    return PlainEnvelope(order, uuid7(), "shop.orders.Order", "/shop/desk")


def ask(note: str, number: int = 0) -> PlainEnvelope:
    return replace(tell(note, number), reply_to="/node/replies", ttl=5.0)


def typical(note: str, number: int = 0, sender: str = "/shop/front") -> PlainEnvelope:
    """An ask by an actor, because of a message that it handles."""
    return replace(ask(note, number), sender=sender, correlation_id=uuid7(), causation_id=uuid7())


def text(size: int) -> str:
    """Lines of JSON as a service would send them: the same keys over and over, values that differ."""
    rng = Random(3)
    lines = (
        json.dumps(
            {
                "order": rng.randrange(10**6),
                "product": f"{rng.choice(['cup', 'plate', 'spoon', 'bowl'])}-{rng.randrange(500)}",
                "price": rng.randrange(100, 9999) / 100,
                "placed": f"2026-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}T{rng.randrange(24):02}:15:00Z",
                "note": " ".join(rng.choices(["please", "leave", "it", "at", "the", "door", "thank", "you"], k=6)),
            }
        )
        for _ in range(size // 100)  # a line has more
    )
    return "\n".join(lines)[:size]


NOTES = {TYPICAL: "leave at the door", LARGE: text(8 * 1024)}


# Who sends it --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Variant:
    """The two statements that are timed, what stands in `names` as their globals, and what `encode` is given."""

    encode: str
    decode: str
    names: Mapping[str, Any]
    envelope: Callable[[PlainEnvelope], Any]
    strangers: bool = False


def by_hand(encode: str) -> Variant:
    """The package `msgpack` and two dataclasses; nothing is checked."""

    def unpack(frame: bytes) -> PlainEnvelope:
        fields = msgpack.unpackb(frame)
        fields["message"] = PlainOrder(**fields["message"])
        return PlainEnvelope(**fields)

    names = {"pack": msgpack.packb, "unpack": unpack, "asdict": asdict}
    return Variant(encode, "received = unpack(frame)", names, lambda plain: plain)


def bare() -> Variant:
    """msgspec and nothing else."""

    def envelope(plain: PlainEnvelope) -> StructEnvelope:
        return StructEnvelope(**{**vars(plain), "message": Order(**vars(plain.message))})

    names = {"encode": msgspec.msgpack.Encoder().encode, "decode": msgspec.msgpack.Decoder(StructEnvelope).decode}
    return Variant("encode(envelope)", "received = decode(frame)", names, envelope)


def ours(message: Callable[..., Any] = Order, *, strangers: bool = False, **options: Any) -> Variant:
    """A `Wire`, with all that it checks. The ids are given, as they are to the others."""
    wire = Wire(**options)

    def envelope(plain: PlainEnvelope) -> Envelope:
        made = Envelope(message(**vars(plain.message)), Address(plain.target), plain.priority, message_id=plain.id)
        made.correlation_id, made.causation_id = plain.correlation_id, plain.causation_id
        if plain.ttl is not None:
            made.reply, made.deadline = Future(), 100.0 + plain.ttl
            made.reply_by = made.deadline
        if plain.sender is not None:
            made.sender = Address(plain.sender)
            made.chain = (made.sender,)  # who waits for the answer; only ours carries it
        return made

    return Variant(
        "encode(envelope, now=100.0, reply_to=reply_to)",
        "received, told = decode(frame, at=target, now=1.0)",
        {"encode": wire.encode, "decode": wire.decode, "target": Address("/shop/desk")},
        envelope,
        strangers,
    )


def protobuf_order() -> Any:
    """The class that protoc would generate; each field may be missing, as the note may be."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    types = (kinds.TYPE_INT64, *[kinds.TYPE_STRING] * 2, kinds.TYPE_DOUBLE, kinds.TYPE_BOOL, kinds.TYPE_STRING)
    file = descriptor_pb2.FileDescriptorProto(name="benchmarks/order.proto", package="benchmarks")
    message = file.message_type.add(name="Order")
    for number, (name, kind) in enumerate(zip(Order.__struct_fields__, types, strict=True), 1):
        label = kinds.LABEL_REPEATED if name == "items" else kinds.LABEL_OPTIONAL
        message.field.add(name=name, number=number, type=kind, label=label)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    generated: Any = message_factory.GetMessageClass(pool.FindMessageTypeByName("benchmarks.Order"))
    register(generated)
    return generated


VARS = "pack({**vars(envelope), 'message': vars(envelope.message)})"
KEYS = Keys(("2026-11", bytes(range(32))))
VARIANTS: dict[str, dict[str, Callable[[], Variant]]] = {
    TYPICAL: {
        OURS: ours,
        f"{OURS}, signed": partial(ours, keys=KEYS),
        f"{OURS}, JSON": partial(ours, codec=JSON()),
        f"{OURS}, protobuf": lambda: ours(protobuf_order()),
        f"{OURS}, from strangers": partial(ours, strangers=True),
        BARE: bare,
        BY_HAND: partial(by_hand, VARS),
        f"{BY_HAND}, `asdict`": partial(by_hand, "pack(asdict(envelope))"),
    },
    LARGE: {
        OURS: ours,
        f"{OURS}, signed": partial(ours, keys=KEYS),
        f"{OURS}, lz4": partial(ours, compression=LZ4()),
        f"{OURS}, zstd": partial(ours, compression=Zstd()),
        f"{OURS}, gzip": partial(ours, compression=Gzip()),
        BARE: bare,
        BY_HAND: partial(by_hand, VARS),
    },
}


# How it is timed -----------------------------------------------------------------------------------------


class Run:
    """One variant in this process: how large its frames are, and how long its statements took at each turn."""

    def __init__(self, variant: Variant, note: str, seconds: float) -> None:
        self._variant = variant
        self._sizes = {kind.__name__: len(self._round_trip(kind(note))) for kind in (tell, ask, typical)}
        self._sizes["payload"] = len(msgpack.packb(vars(tell(note).message)))
        if variant.strangers:
            plain = [typical(note, number, f"/shop/front-{number:04}") for number in range(STRANGERS)]
        else:
            plain = [typical(note, number) for number in range(BATCH)]
        frames = [self._round_trip(each) for each in plain]
        envelopes = [variant.envelope(each) for each in plain]
        names = {**variant.names, "frames": frames, "envelopes": envelopes, "reply_to": Address("/node/replies")}
        loops = {
            "encode": f"for envelope in envelopes: frame = {variant.encode}",
            "decode": f"for frame in frames: {variant.decode}",
        }
        collecting = "import gc; gc.enable()"  # timeit would leave it off
        self._timers = {name: Timer(loop, collecting, process_time, names) for name, loop in loops.items()}
        self._count, self._seconds = len(plain), seconds / TURNS / len(loops)
        self._took: dict[str, list[float]] = {name: [] for name in loops}

    def _round_trip(self, plain: PlainEnvelope) -> bytes:
        """The frame of `plain`; what comes out of it must be what went in."""
        names = {**self._variant.names, "envelope": self._variant.envelope(plain)}
        names["reply_to"] = None if plain.reply_to is None else Address(plain.reply_to)
        names["frame"] = frame = eval(self._variant.encode, names)
        exec(self._variant.decode, names)
        received, order = names["received"], vars(plain.message)
        if received.id != plain.id or {name: getattr(received.message, name) for name in order} != order:
            raise AssertionError(f"another message came out: {received}")
        return frame  # type: ignore[no-any-return]

    def turn(self) -> None:
        for name, timer in self._timers.items():
            loops = max(1, round(self._seconds / timer.timeit(1)))
            self._took[name].append(timer.timeit(loops) / loops / self._count)

    def figures(self) -> Figures:
        encode, decode = (median(took) * 1e9 for took in self._took.values())
        return {"encode": encode, "decode": decode, "both": encode + decode, **self._sizes}


def round_of(seconds: float) -> Round:
    """All variants by turns, each for about `seconds`: what disturbs the machine for a while disturbs all alike."""
    runs = {
        size: {title: Run(make(), NOTES[size], seconds) for title, make in variants.items()}
        for size, variants in VARIANTS.items()
    }
    for _ in range(TURNS):
        for of_size in runs.values():
            for run in of_size.values():
                run.turn()
    return {size: {title: run.figures() for title, run in of_size.items()} for size, of_size in runs.items()}


def rounds(count: int, seconds: float) -> Iterator[Round]:
    """Each in a process of its own."""
    for _ in range(count):
        command = [sys.executable, "-m", "benchmarks.wire", str(seconds), "--json"]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=LIMIT, check=True)
        yield json.loads(run.stdout)


def versions() -> dict[str, str]:
    """Of what is compared, as far as this Python needs it."""
    installed = {each.name for each in importlib.metadata.distributions()}
    return {name: importlib.metadata.version(name) for name in PACKAGES if name in installed}


if __name__ == "__main__":
    measured = round_of(float(sys.argv[1]))
    print(json.dumps(measured) if "--json" in sys.argv else wire_tables.tables([measured]))
