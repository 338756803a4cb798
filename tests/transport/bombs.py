"""Frames that mean harm, and a process of its own that measures what they cost: ``python -m tests.transport.bombs``."""

from __future__ import annotations

import json
import resource
import sys
import zlib
from collections.abc import Callable, Iterator
from struct import pack
from time import process_time
from typing import Any, Final, NamedTuple

import lz4.frame  # type: ignore[import-untyped]
import msgpack  # type: ignore[import-untyped]

from tests.conformance.messages import Everything
from tests.protobuf.orders_pb2 import Order, Tree
from tests.transport.frames import HEADER, LABEL, TRACEPARENT, Parts, a_frame
from transport.address import Address
from transport.errors import CodecError
from transport.message import Message, register, wire_name
from transport.protobuf import Protobuf
from transport.wire import Wire

HERE: Final = Address("/here")
LARGE: Final = 255 * 1024  # bytes: with a frame around it just within the limit of a frame
SMALL: Final = 7 * 1024  # within that of a header
LABELS: Final = 20_000  # of each kind; a wire remembers 4,096


class Anything(Message[None]):
    value: Any = None


class Numbers(Message[None]):
    """What is hashed: whoever chooses the keys chooses whether they collide."""

    counts: dict[int, int] = {}  # noqa: RUF012  # msgspec copies it
    seen: set[int] = set()  # noqa: RUF012


# What fills `size` bytes -----------------------------------------------------------------------------------

P: Final = 2**61 - 1  # int's hash is its value modulo this


def within(head: bytes, each: bytes, size: int) -> bytes:
    """An array or map with as many of `each` as there is room for."""
    count = max(size - 5, 0) // len(each)
    return head + pack(">I", count) + each * count


def tuples_of_one_hash(size: int) -> bytes:
    """A map whose keys are arrays, which Python makes tuples of; their hash can be worked out backwards."""
    mask, one, two, five = 2**64 - 1, 11400714785074694791, 14029467366897019727, 2870177450012600261
    inverse, first = pow(two, -1, 2**64), 0
    keys: list[bytes] = []
    room = size - 5 - 16
    while room > 0:  # a tuple's hash begins with five, and takes up each part in turn (xxHash)
        first += 1
        state = five + first * two & mask
        state = ((state << 31 | state >> 33) & mask) * one
        last = (12345 - state) * inverse & mask
        if last < P or last > 2**64 - P:
            keys.append(msgpack.packb([first, last if last < P else last - 2**64]) + b"\xc0")
            room -= len(keys[-1])
    return b"\xdf" + pack(">I", len(keys)) + b"".join(keys)


MSGPACK: Final[dict[str, Callable[[int], bytes]]] = {
    "arrays in each other": lambda n: b"\x91" * n,
    "maps in each other": lambda n: b"\x81\xa0" * (n // 2),
    "maps as each other's keys": lambda n: b"\x81" * n,
    "large arrays in each other": lambda n: b"\xdd\x7f\xff\xff\xff" * (n // 5),
    "32 arrays in each other, again and again": lambda n: within(b"\xdd", b"\x91" * 31 + b"\xc0", n),
    "32 arrays of much in each other": lambda n: b"\xdc\xff\xff" * 31 + b"\xc0" * (n - 93),
    "empty arrays": lambda n: within(b"\xdd", b"\x90", n),
    "empty maps": lambda n: within(b"\xdd", b"\x80", n),
    "empty texts": lambda n: within(b"\xdd", b"\xa0", n),
    "arrays of one": lambda n: within(b"\xdd", b"\x91\xcc\xff", n),
    "maps of one": lambda n: within(b"\xdd", b"\x81\xc0\xc0", n),
    "one key again and again": lambda n: within(b"\xdf", b"\xa1a\xc0", n),
    "floats": lambda n: within(b"\xdd", b"\xcb" + b"\x01" * 8, n),
    "large numbers": lambda n: within(b"\xdd", b"\xcf" + b"\xff" * 8, n),
    "numbers, then none": lambda n: within(b"\xdd", b"\x01", n)[:-1] + b"\x90",
    "instants": lambda n: within(b"\xdd", b"\xd6\xff\0\0\0\1", n),
    "instants past all years": lambda n: within(b"\xdd", b"\xc7\x0c\xff" + b"\x7f" * 12, n),
    "extensions": lambda n: within(b"\xdd", b"\xc7\0\x05", n),
    "a promise of 4 Gi elements": lambda n: b"\xdd\xff\xff\xff\xff",
    "a promise of 4 Gi pairs": lambda n: b"\xdf\xff\xff\xff\xff",
    "a promise of 4 GiB of text": lambda n: b"\xdb\xff\xff\xff\xff" + b"a" * (n - 5),
    "a promise of 4 GiB of bytes": lambda n: b"\xc6\xff\xff\xff\xff" + b"a" * (n - 5),
    "a promise of 4 GiB of an extension": lambda n: b"\xc9\xff\xff\xff\xff\x01" + b"a" * (n - 6),
    "text": lambda n: b"\xdb" + pack(">I", n - 5) + b"a" * (n - 5),
    "text of separators": lambda n: b"\xdb" + pack(">I", n - 5) + b"/" * (n - 5),
    "text of NULs": lambda n: b"\xdb" + pack(">I", n - 5) + bytes(n - 5),
    "text of emoji": lambda n: b"\xdb" + pack(">I", (n - 5) // 4 * 4) + "\U0001f4a3".encode() * ((n - 5) // 4),
    "text that is not UTF-8": lambda n: b"\xdb" + pack(">I", n - 5) + b"a" * (n - 6) + b"\xff",
    "bytes": lambda n: b"\xc6" + pack(">I", n - 5) + bytes(n - 5),
    "an extension": lambda n: b"\xc9" + pack(">I", n - 6) + b"\x05" + bytes(n - 6),
    "numbers whose lowest bits are alike": lambda n: (
        b"\xdf" + pack(">I", (n - 5) // 10) + b"".join(pack(">BQB", 0xCF, k << 44, 0) for k in range((n - 5) // 10))
    ),
    "keys of one hash": tuples_of_one_hash,
}  # fmt: skip

SLOW: Final = "numbers with large exponents"
"""msgspec takes some 12 us for each: 43,000 in a frame."""

JSONS: Final[dict[str, Callable[[int], bytes]]] = {
    "arrays in each other": lambda n: b"[" * n,
    "maps in each other": lambda n: b'{"":' * (n // 4),
    "empty arrays": lambda n: b"[" + b"[]," * (n // 3 - 2) + b"0]",
    "empty maps": lambda n: b"[" + b"{}," * (n // 3 - 2) + b"0]",
    "one key again and again": lambda n: b"{" + b'"":0,' * (n // 5 - 2) + b'"":0}',
    "a number of many digits": lambda n: b"1" * n,
    "a fraction of many digits": lambda n: b"0." + b"0" * (n - 3) + b"1",
    "an exponent of many digits": lambda n: b"1e" + b"9" * (n - 2),
    "numbers of 4,000 digits": lambda n: b"[" + (b"1" * 4000 + b",") * (n // 4001 - 1) + b"1]",
    SLOW: lambda n: b"[" + b"1e308," * (n // 6 - 1) + b"1]",
    "blanks": lambda n: b" " * n,
    "commas": lambda n: b"[" + b"," * n,
    "a text without end": lambda n: b'"' + b"a" * (n - 1),
    "brackets, then a text of quotes without end": lambda n: b"[" * 40 + b'"' + b'\\"' * ((n - 41) // 2),
    "brackets within texts": lambda n: b"[" + b'"[{",' * (n // 5 - 1) + b'""]',
    "brackets, then quotes": lambda n: b"[" * 40 + b'"' * (n - 40),
    "brackets, then escapes": lambda n: b"[" * 40 + b"\\" * (n - 40),
    "escapes": lambda n: b'"' + b"\\u0000" * (n // 6 - 1) + b'"',
    "halves of surrogates": lambda n: b'"' + b"\\ud800" * (n // 6 - 1) + b'"',
    "text that is not UTF-8": lambda n: b'"' + b"a" * (n - 3) + b'\xff"',
    "keys of one hash": lambda n: b"{" + b",".join(b'"%d":0' % (k * P) for k in range(1, n // 28)) + b"}",
    "numbers of one hash": lambda n: b"[" + b",".join(b"%d" % (k * P) for k in range(1, n // 24)) + b"]",
}

PROTOBUF: Final[dict[str, Callable[[int], bytes]]] = {
    "groups in each other": lambda n: b"\x8b\x08" * (n // 2),
    "groups": lambda n: b"\x8b\x08\x8c\x08" * (n // 4),
    "empty messages": lambda n: b"\x1a\0" * (n // 2),
    "a promise of 2 GiB": lambda n: b"\x12\xff\xff\xff\xff\x07" + b"a" * (n - 6),
    "a number without end": lambda n: b"\x08" + b"\xff" * (n - 1),
    "numbers": lambda n: b"\x08\x01" * (n // 2),
    "empty maps": lambda n: b"\x22\0" * (n // 2),
    "unknown fields": lambda n: b"\xf8\x07\x01" * (n // 3),
    "text that is not UTF-8": lambda n: (b"\x12\x7f" + b"\xff" * 127) * (n // 129),
    "messages in each other": lambda n: nested_messages(n),
}


def nested_messages(size: int) -> bytes:
    data = b""
    while len(data) < min(size, 20_000):  # some 5,000 levels
        length, left = b"", len(data)
        while left > 127:
            length, left = length + bytes([left & 127 | 128]), left >> 7
        data = b"\x12" + length + bytes([left]) + data
    return data


def packed(begin: Any, size: int) -> bytes:
    """As many zeros as `size` bytes hold in a stream of this compression, never all in memory."""
    compress, flush = begin
    chunk, out = bytes(1 << 20), b""
    while len(out) < size - 6_000:
        out += compress(chunk)
    return bytes(out + flush())


def lz4_stream() -> tuple[Callable[[bytes], bytes], Callable[[], bytes]]:
    stream = lz4.frame.LZ4FrameCompressor(block_size=lz4.frame.BLOCKSIZE_MAX64KB, auto_flush=True)
    begin = [stream.begin()]
    return lambda chunk: (begin.pop() if begin else b"") + bytes(stream.compress(chunk)), stream.flush


def gzip_stream() -> tuple[Callable[[bytes], bytes], Callable[[], bytes]]:
    stream = zlib.compressobj(9, wbits=31)
    return stream.compress, stream.flush


ZSTD: Final = b"\x28\xb5\x2f\xfd"
SIZE_8: Final = b"\xc0\x00" + pack("<Q", 2**62)  # of content, claimed; with a window of 1 KiB


def zstd_zeros(blocks: int, head: bytes = b"\x00\x58") -> bytes:
    """`blocks` of 128 KiB of zeros each: 4 bytes."""
    each = pack("<I", 1 << 17 << 3 | 2)[:3] + b"\0"
    return ZSTD + head + each * (blocks - 1) + pack("<I", 1 << 17 << 3 | 3)[:3] + b"\0"


COMPRESSED: Final[dict[str, Callable[[], bytes]]] = {
    "gzip of 250 MiB": lambda: packed(gzip_stream(), LARGE),
    "gzip of 10 MiB": lambda: packed(gzip_stream(), 16_000),
    "gzip in gzip": lambda: zlib.compress(packed(gzip_stream(), LARGE), 9, 31),
    "gzip of nothing, often": lambda: zlib.compress(b"", 9, 31) * 12_000,
    "gzip with a long name": lambda: b"\x1f\x8b\x08\x08" + bytes(6) + b"a" * LARGE,
    "gzip of a claimed 4 GiB": lambda: zlib.compress(b"a", 9, 31)[:-4] + b"\xff" * 4,
    "gzip of empty arrays": lambda: zlib.compress(b"\x81\xa5value" + MSGPACK["empty arrays"](LARGE), 9, 31),
    "lz4 of 64 MiB": lambda: packed(lz4_stream(), LARGE),
    "lz4 of a claimed 2**62": lambda: b"\x04\x22\x4d\x18\x68\x40" + pack("<Q", 2**62) + b"\xd8" + bytes(20),
    "lz4 in blocks of 4 MiB": lambda: bytes(lz4.frame.compress(bytes(2**22), block_size=lz4.frame.BLOCKSIZE_MAX4MB)),
    "lz4 of skippable frames": lambda: (b"\x50\x2a\x4d\x18" + bytes(4)) * 30_000,
    "zstd of 8 GiB": lambda: zstd_zeros(60_000),
    "zstd of 10 MiB": lambda: zstd_zeros(80),
    "zstd of a claimed 2**62": lambda: zstd_zeros(2, SIZE_8),
    "zstd of a window of 3 TiB": lambda: zstd_zeros(2, b"\x00\xff"),
    "zstd of empty blocks": lambda: ZSTD + b"\x00\x58" + bytes(LARGE // 3 * 3),
    "zstd of skippable frames": lambda: (b"\x50\x2a\x4d\x18" + bytes(4)) * 30_000,
}


# Frames ----------------------------------------------------------------------------------------------------


class Bomb(NamedTuple):
    name: str
    frame: bytes


WHOLE: Final = Parts(
    ["msgpack", wire_name(Anything), HERE, HERE, HERE, ["/a"], 3, 0, 1],
    ["id", "c", "c", 5.0, TRACEPARENT, None, None],
    b"\x80",
)


def payload(kind: type, data: bytes, codec: str = "msgpack", compression: str | None = None) -> bytes:
    return a_frame(wire_name(kind), data, codec=codec, compression=compression).frame()


def corpus() -> Iterator[Bomb]:
    """All of them, one at a time: together they would take the memory that is measured."""
    for name, make_stream in COMPRESSED.items():
        data = make_stream()
        for kind in (Anything, Everything):
            yield Bomb(f"{name} for {kind.__name__}", payload(kind, data, compression=name.split()[0]))
    for turn, (name, make) in enumerate(MSGPACK.items()):
        large, small = make(LARGE), make(SMALL)
        yield from payloads(name, large, turn, "msgpack", b"\x81%b%b")
        for fill in (large, small):
            yield from anywhere(f"{len(fill)} bytes of {name}", fill)
    for turn, (name, make) in enumerate(JSONS.items()):
        yield from payloads(name, make(LARGE), turn, "json", b"{%b:%b}")
    for name, make in PROTOBUF.items():
        for each in (Order, Tree):
            yield Bomb(f"protobuf: {name} for {each.__name__}", payload(each, make(LARGE), "protobuf"))
    for asked in (["/a"] * 83_000, ["/a"] * 2_300, ["/" + "a" * 199] * 35):
        yield Bomb(f"a chain of {len(asked)}", WHOLE.but(chain=asked).frame())


def payloads(name: str, data: bytes, turn: int, codec: str, around: bytes) -> Iterator[Bomb]:
    """As a message, as the value of each field of one (of every fifth where there are many), as one not known."""
    to_bytes = msgpack.packb if codec == "msgpack" else lambda field: json.dumps(field).encode()
    for kind in (Anything, Numbers, Everything):
        yield Bomb(f"{codec}: {name} for {kind.__name__}", payload(kind, data, codec))
        fields = kind.__struct_fields__
        for field in ("unknown", *(fields[turn % 5 :: 5] if len(fields) > 3 else fields)):
            yield Bomb(
                f"{codec}: {name} for {kind.__name__}.{field}", payload(kind, around % (to_bytes(field), data), codec)
            )


def anywhere(text: str, fill: bytes) -> Iterator[Bomb]:
    """As the whole, as each element of the frame and of its label, and as one more of these."""
    yield Bomb(f"{text} alone", fill)
    elements = [*WHOLE.elements(), "key id", bytes(32)]
    for at in range(len(elements)):
        yield Bomb(f"{text} in the frame at {at}", spliced(elements, at, fill))
    more = msgpack.packb({"more": None})[:-1] + fill
    yield Bomb(f"{text} in what is not known yet", spliced(elements[:10], HEADER.index("more") + 2, more))
    for at in range(len(LABEL) + 1):
        yield Bomb(
            f"{text} in the label at {at}", WHOLE._replace(label=spliced([*WHOLE.label, None], at, fill)).frame()
        )


def spliced(elements: list[Any], at: int, instead: bytes) -> bytes:
    """The array of these, with bytes that may be no value at all for one of them."""
    before, after = elements[:at], elements[at + 1 :]
    return bytes([0x90 + len(elements)]) + b"".join([*map(msgpack.packb, before), instead, *map(msgpack.packb, after)])


def labels() -> Iterator[bytes]:
    """Each with another label, of the most bytes that are remembered and of what takes most memory once decoded."""
    number = b"0000000"
    names = WHOLE.but(sender=f"/{number.decode()}".ljust(200, "x"), reply_to="/" + "y" * 199)
    asked = WHOLE.but(sender=f"/{number.decode()}", chain=["/a"] * 300)
    for frame, count in ((names.frame(), LABELS), (asked.frame(), LABELS // 4)):
        for each in range(count):
            yield frame.replace(number, b"%07d" % each)


def honest() -> bytes:
    """As large as a frame may be, and as much work as one that means no harm is likely to be."""
    value = [{"name": "Ada", "numbers": [1, 2.5, -3], "more": None}] * 7_000
    return payload(Anything, msgpack.packb({"value": value}))


# The process -----------------------------------------------------------------------------------------------


SPACE: Final = 512 * 1024 * 1024  # bytes of address space; the interpreter and its libraries take 150 MiB


class Report(NamedTuple):
    """What the process says of all the frames. A time is relative to that of an honest frame."""

    frames: int
    slowest: tuple[float, str]
    slowest_of_slow: tuple[float, str]
    grown_by_labels: int
    grown: int
    longest: str
    ran_out: bool


def peak() -> int:
    """The most memory that this process ever had, in bytes."""
    try:
        with open("/proc/self/status") as status:  # getrusage begins with what the parent had
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    except FileNotFoundError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def cost(wire: Wire, frame: bytes) -> tuple[float, str]:
    """Seconds of CPU, and what came of it: a dead letter's stand-in is part of the price."""
    begin = process_time()
    try:
        wire.decode(frame, at=HERE, now=0.0)
    except CodecError as error:
        wire.undecodable(frame, error, at=HERE)
        return process_time() - begin, str(error)
    return process_time() - begin, ""


def main() -> None:
    register(Order)
    register(Tree)
    wire = Wire(codecs=[Protobuf()])
    for name in ("gzip", "lz4", "zstd"):  # each is imported at its first frame
        cost(wire, payload(Anything, b"", compression=name))
    calibration = min(cost(wire, honest())[0] for _ in range(5))
    if sys.platform == "linux":  # what is asked for and never touched counts too
        resource.setrlimit(resource.RLIMIT_AS, (SPACE, SPACE))
    assert cost(wire, honest())[1] == cost(wire, WHOLE.frame())[1] == "", "what they are made from is sound"
    before, count, times, texts = peak(), 0, {False: (0.0, ""), True: (0.0, "")}, {""}
    for frame in labels():
        envelope, reply_to = wire.decode(frame, at=HERE, now=0.0)
        wire.encode(envelope, now=0.0, reply_to=reply_to)  # as an actor does that passes them on
    by_labels = peak() - before
    for bomb in corpus():
        assert len(bomb.frame) <= wire.limits.frame, f"{bomb.name} would be refused for its size"
        seconds, text = cost(wire, bomb.frame)
        if seconds > 15 * calibration and SLOW not in bomb.name:  # it may have met a garbage collection
            seconds = min(seconds, *(cost(wire, bomb.frame)[0] for _ in range(2)))
        times[SLOW in bomb.name] = max(times[SLOW in bomb.name], (seconds / calibration, bomb.name))
        texts.add(text)
        count += 1
    report = Report(
        frames=count,
        slowest=times[False],
        slowest_of_slow=times[True],
        grown_by_labels=by_labels,
        grown=peak() - before,
        longest=max(texts, key=len),
        ran_out="MemoryError" in repr(texts),
    )
    print(json.dumps(report._asdict()))


if __name__ == "__main__":
    main()
