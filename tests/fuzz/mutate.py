"""The inputs: frames right and wrong to begin with, and what `Mutator` makes of them, knowing the format."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any, Final

import msgpack  # type: ignore[import-untyped]

from tests.fuzz.target import NUMBER, SECRET, Finding
from tests.protobuf.orders_pb2 import Line, Order, Tree
from tests.wire import rows
from tests.wire.make_vectors import AT, FULL, ID, KEYS, TRACE
from tests.wire.reader import compress, decompress, write

REGRESSIONS: Final = Path(__file__).parent / "regressions"
LARGEST: Final = 256 * 1024 + 8  # bytes: a little over the limit of a frame

_TYPES: Final = (
    "wire.Note", "wire.Types", "wire.Box", "wire.Account", "tests.orders.Order", "tests.orders.Tree",
    "tests.conformance.messages.Everything", "tests.conformance.messages.Positive", "tests.conformance.messages.Leaf",
)  # fmt: skip
_COMPRESSIONS: Final = (None, "gzip", "zstd", "lz4")
_WORDS: Final = (
    "", "\0", "/", AT, "/a" * 100, "/a b", "\u0663", "\ud7ff\U0010ffff" * 30, "x" * 300, "'\"\\", "nan", "1e999", "P1D",
    SECRET, f"/{SECRET}", ID, TRACE, TRACE[:-1], "0" * 5000, "2026-11-22T07:30:15.25Z", "9999-12-31T23:59:60-23:59",
    "0001-01-01T00:00:00+23:59", "json", "msgpack", "protobuf", "gzip", "zstd", "lz4", *KEYS, *_TYPES,
)  # fmt: skip
_NUMBERS: Final = (
    0, 1, -1, 2, 3, 4, 5, 127, 128, 255, 256, 65535, 65536, 2**31, 2**32, 2**53 + 1, 2**61 - 1, 2**63 - 1, 2**63,
    2**64 - 1, -(2**31), -(2**63), NUMBER, 0.0, -0.0, -0.5, 1.5, 5e-324, 1e308, float("inf"), float("nan"),
)  # fmt: skip
_DEEP: Final = b"<deep>"  # see `_pack`: `msgpack` itself goes no deeper than 511
_OTHERS: Final[tuple[Any, ...]] = (
    _DEEP, {"a": _DEEP}, None, True, False, b"", b"\xff", SECRET.encode(), [], {}, [[]], {"": None},
    msgpack.Timestamp(0, 1), msgpack.Timestamp(2**62, 999_999_999), msgpack.Timestamp(-(10**11)),
    msgpack.ExtType(5, b"x"), [None] * 40, {SECRET: NUMBER}, {NUMBER: SECRET}, {1: 1, "1": 1},
)  # fmt: skip
# Codes with which MessagePack begins what is large, nothing or within itself; what JSON has; what UTF-8 has not.
_BYTES: Final = (
    b"\x00", b"\x7f", b"\x80", b"\x8f", b"\x90", b"\x9f", b"\xa0", b"\xc0", b"\xc1", b"\xc6\xff\xff\xff\xff", b"\xc7",
    b"\xcb", b"\xcf", b"\xd3", b"\xd6\xff", b"\xdb\xff\xff\xff\xff", b"\xdc\xff\xff", b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff", b"\xff", b"\xed\xa0\x80", b'"', b"[", b"]", b"{", b"}", b"\\", b"\\ud800", b"1e999", b"-",
    b"NaN", b"\x91" * 40, b"[" * 40, b"\x91" * 4000, b"[" * 4000, b'{"a":' * 2000, b"\x81\xc0" * 2000,
)  # fmt: skip


def explore(check: Callable[[bytes], str], seed: int) -> Iterator[str]:
    """What `check` says of one input after the other, without end: the seeds, then what is made of them.

    An input that meets a new fate becomes a seed too: in code that is mostly checks, each with a text of its own,
    this says nearly as much as which lines were run, and costs nothing.
    """
    mutator, fates = Mutator(Random(seed)), set()
    first = seeds()
    for number, data in enumerate(chain(first, iter(mutator.next, b"never"))):
        try:
            fate = check(data)
        except Finding as finding:
            finding.add_note(f"input {number} of the seed {seed}, in hex: {data[:1000].hex()}")
            raise
        if number < len(first) or fate not in fates:
            mutator.add(data, fate)
        fates.add(fate)
        yield fate


class Mutator:
    """Changes frames, and parts of frames into those of others, by the numbers that `random` gives."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self._read: dict[str, list[bytes]] = {}
        self._refused: dict[str, list[bytes]] = {}

    def add(self, data: bytes, fate: str) -> None:
        """One more to make others of."""
        (self._read if fate.startswith("read") else self._refused).setdefault(fate, []).append(data)

    def _one(self, known: dict[str, list[bytes]]) -> bytes:
        """One of any fate, as likely as one of any other: most of the seeds are of the same few."""
        return self.random.choice(self.random.choice([*known.values()]))

    def next(self) -> bytes:
        """Another frame, or what was one: at most `LARGEST` bytes. Mostly of what is read, as that leads further."""
        random = self.random
        data = self._one(self._read if random.random() < 0.9 or not self._refused else self._refused)
        frame = _unpacked(data) if random.random() < 0.93 else None
        if frame is None:
            return self._bytes(data)[:LARGEST]
        with suppress(ValueError, OverflowError, TypeError):  # what does not pack is left as it was
            data = self._packed(*self._changed(frame))
        return (self._bytes(data) if random.random() < 0.05 else data)[:LARGEST]

    def _changed(self, frame: list[Any]) -> tuple[list[Any], Any, Any, list[Any]]:
        """The frame with a few changes: what is before its compression, that, its payload unpacked, and the rest."""
        random = self.random
        version, label, *header, compression, payload = frame[:10]
        if random.random() < 0.2 and (other := _unpacked(self._one(self._read))) is not None:
            label, compression, payload = [*other[1][:2], *label[2:]], other[8], other[9]
        with suppress(Exception):
            payload = decompress(compression, payload, LARGEST)
        signed = frame[10:]
        for _ in range(random.choice((1, 1, 1, 2, 3))):
            part = random.random()
            if part < 0.15:
                label = self._tree(label)
            elif part < 0.28:
                header = self._tree(header)
            elif part < 0.29:
                version = self._leaf(version)
            elif part < 0.3:
                signed = self._tree(signed)
            else:
                payload = self._payload(label[0] if label and isinstance(label, list) else None, payload)
        if random.random() < 0.15:
            compression = random.choice((*_COMPRESSIONS, self._leaf()))
        return [version, label, *header], compression, payload, signed

    def _packed(self, before: list[Any], compression: Any, payload: Any, signed: list[Any]) -> bytes:
        """The bytes of the frame; in half of the cases with a signature that holds, whatever they are."""
        random = self.random
        before[1] = _pack(before[1])
        if random.random() < 0.1:
            before[1] = self._bytes(before[1])
        if compression in _COMPRESSIONS and isinstance(payload, bytes):
            payload = compress(compression, payload)
            if random.random() < 0.2:
                payload = self._bytes(payload)
        if random.random() < 0.5:
            return _pack([*before, compression, payload, *signed])
        key_id = random.choice(list(KEYS))
        data = _pack([*before, compression, payload, key_id, bytes(32)])[:-32]
        if random.random() < 0.1:
            data = self._bytes(data)
        return data + hmac.digest(KEYS[key_id], data, hashlib.sha256)

    def _payload(self, codec: Any, payload: Any) -> Any:
        """The payload with one of its values changed, or with some of its bytes."""
        if self.random.random() < 0.7:
            with suppress(Exception):
                if codec == "json":
                    return json.dumps(self._tree(json.loads(payload)), default=str, ensure_ascii=False).encode()
                if codec == "msgpack":
                    return _pack(self._tree(msgpack.unpackb(payload, strict_map_key=False)))
        return self._bytes(payload) if isinstance(payload, bytes) else self._leaf(payload)

    def _tree(self, value: Any) -> Any:
        """`value` with one change somewhere in it."""
        random, change = self.random, self.random.random()
        if isinstance(value, dict | list) and value and random.random() < 0.9:
            at: Any = random.choice(list(value) if isinstance(value, dict) else range(len(value)))
            value = value.copy()
            if change < 0.7:
                value[at] = self._tree(value[at])
            elif change < 0.8:
                del value[at]
            elif isinstance(value, dict):
                value[random.choice((*_WORDS, *_NUMBERS))] = value[at]
            else:
                at += random.randrange(2)
                value[at:at] = [self._leaf()] * random.choice((1, 1, 2, 300))
            return value
        if change < 0.1:
            is_short = len(repr(value)) < 100
            return [value] * random.choice((1, 2, 50, 2000 if is_short else 3))
        if change < 0.15:
            for _ in range(random.choice((1, 28, 29, 30, 31, 32, 33, 500))):
                value = [value] if change < 0.13 else {"a": value}
            return value
        if change < 0.3 and isinstance(value, str | bytes) and value:
            text: Any = value
            start, times = random.randrange(len(text)), random.choice((0, 2, 9, 1000))
            return text[:start] + text[start : start + 4] * times + text[start + 4 :]
        return self._leaf(value)

    def _leaf(self, like: Any = None) -> Any:
        """A value; more often than not one of the kind of `like`."""
        kinds: tuple[tuple[Any, ...], ...] = _WORDS, _NUMBERS, _OTHERS
        if self.random.random() < 0.7:
            kinds = {str: (_WORDS,), int: (_NUMBERS,), float: (_NUMBERS,)}.get(type(like), kinds)
        return self.random.choice(self.random.choice(kinds))

    def _bytes(self, data: bytes) -> bytes:
        """`data` with a few of its bytes changed, by one who does not know the format."""
        random = self.random
        for _ in range(random.choice((1, 1, 1, 2, 4))):
            at = random.randrange(len(data) + 1)
            change = random.randrange(7)
            if change == 0 and at < len(data):
                data = data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]
            elif change == 1:
                data = data[:at] + random.randbytes(1) + data[at + 1 :]
            elif change == 2:
                data = data[:at] + random.choice(_BYTES) + data[at + random.randrange(3) :]
            elif change == 3:
                data = data[:at] + data[at + random.choice((1, 2, 8)) :]
            elif change == 4:
                data = data[:at] + data[at : at + 8] * random.choice((2, 3, 1000)) + data[at + 8 :]
            elif change == 5:
                data = data[:at]
            else:
                other = self._one(self._read)
                start = random.randrange(len(other) + 1)
                data = data[:at] + other[start : start + random.choice((1, 4, 32))] + data[at:]
        return data


def _pack(value: Any) -> bytes:
    """`value` in MessagePack, with 2,000 arrays in each other wherever it says `_DEEP`."""
    return bytes(msgpack.packb(value).replace(msgpack.packb(_DEEP), b"\x91" * 2000 + b"\xc0"))


def _unpacked(data: bytes) -> list[Any] | None:
    """The elements of a frame, with its label as a list."""
    with suppress(Exception):
        frame = msgpack.unpackb(data, strict_map_key=False)
        frame[1] = msgpack.unpackb(frame[1], strict_map_key=False)
        if isinstance(frame, list) and isinstance(frame[1], list) and isinstance(frame[9], bytes):
            return frame
    return None


# Seeds -------------------------------------------------------------------------------------------------------


def seeds() -> list[bytes]:
    """The test vectors of the format and the golden frames, messages of all kinds, and what was found before."""
    files = [json.loads(path.read_text()) for path in (rows.VECTORS, *sorted(rows.GOLDEN.glob("*.json")))]
    known = [bytes.fromhex(row["frame"]) for file in files for row in file.get("vectors") or file["frames"]]
    return [*known, *_messages(), *(path.read_bytes() for path in sorted(REGRESSIONS.glob("*.bin")))]


def _messages() -> list[bytes]:
    """Types that the vectors do not have, by all codecs; each says `SECRET`."""
    everything = {
        "flag": True, "whole": NUMBER, "ratio": 0.5, "text": SECRET, "raw": "czNjcmV0", "maybe": None, "either": SECRET,
        "instant": "2026-11-22T07:30:15.25Z", "local": "2026-11-22T09:30:15.25", "day": "2026-11-22",
        "clock": "09:30:15", "span": "P3DT4.5S", "uid": "00112233-4455-6677-8899-aabbccddeeff", "price": "1.50",
        "colour": "green", "level": 1, "where": AT, "back": None, "route": {AT: 1},
        "shapes": [{"type": "Square", "side": 4}, {"type": "Circle", "radius": 1.5}], "pair": [1, SECRET],
        "many": ["czNj"], "unique": [1, NUMBER], "names": {"1": SECRET}, "anything": {SECRET: [NUMBER, None]},
        "tree": {"children": [{"children": [], "leaf": {"value": SECRET}}]},
    }  # fmt: skip
    packed = {**everything, "raw": SECRET.encode(), "many": [SECRET.encode()], "names": {1: SECRET}}
    order = Order(number=NUMBER, customer=SECRET, lines=[Line(product="pen")], notes={"a": SECRET}, shop="x")
    tree = Tree(left=Tree(more=[Tree()]), named={SECRET: Tree(value=1)})
    named = "tests.conformance.messages."
    plain: list[tuple[str, str, bytes]] = [
        ("json", f"{named}Everything", json.dumps(everything).encode()),
        ("msgpack", f"{named}Everything", msgpack.packb(packed)),
        *(("msgpack", f"{named}Positive", msgpack.packb({"value": value})) for value in range(3)),
        ("json", "wire.Box", json.dumps({"inside": {SECRET: [[[NUMBER]]]}}).encode()),
        ("msgpack", "wire.Account", msgpack.packb({"number": 1, "owner": SECRET, "limit": None, "state": "open"})),
        ("protobuf", "tests.orders.Order", order.SerializeToString()),
        ("protobuf", "tests.orders.Tree", tree.SerializeToString()),
    ]
    note = FULL._replace(payload=msgpack.packb({"text": f"{SECRET} " * 99}))
    return [
        *(write(FULL._replace(codec=codec, type=kind, payload=payload)) for codec, kind, payload in plain),
        *(write(note._replace(compression=name)) for name in _COMPRESSIONS),
    ]
