"""Writes the file of test vectors: python -m tests.wire.make_vectors

They are made by `tests.wire.reader`, so from the document and not from the implementation that they test, and are
the same each time. What releases really wrote is in the golden frames (`make_golden`).
"""

from __future__ import annotations

import hmac
import json
import struct
from base64 import b64decode
from collections.abc import Iterator
from typing import Any, Final

import msgpack  # type: ignore[import-untyped]

from tests.wire import rows
from tests.wire.messages import Types
from tests.wire.reader import FRAME, LABEL, Content, compress, write

KEYS: Final = {"key-1": bytes(range(32)), "key-2": bytes(range(64, 128))}
KEY_1: Final = ("key-1", KEYS["key-1"])
KEY_2: Final = ("key-2", KEYS["key-2"])
AT: Final = "/shop/desk"
ID: Final = "019ab1c2-3d4e-7f60-8a1b-2c3d4e5f6071"
CAUSE: Final = "019ab1c2-3d00-7000-8000-000000000001"
TRACE: Final = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
HELLO: Final = {"text": "hello", "count": 3}
TYPES: Final = {
    "wire.Note": "text: str; count: int = 0",
    "wire.Types": "; ".join(f"{name}: {kind}" for name, kind in Types.__annotations__.items()),
    "Circle": "radius: float",
    "Square": "side: int",
    "Colour": "red or green",
    "wire.Box": "inside: anything = nil",
    "wire.Account": "number: int; owner: str; limit: int or nil; tags: list of str = []; state: open or closed = open",
    "tests.orders.Cancel": "protobuf: uint64 number = 1",
}
# The JSON form of each field of wire.Types.
OF_ALL_KINDS: Final[dict[str, Any]] = {
    "nothing": None, "flag": True, "least": -(2**63), "most": 2**64 - 1, "ratio": 0.1,
    "text": "h\u00e9llo \U0001f600 \0", "raw": "AP/+", "listed": [1, -1, 128, 65536, 2**32], "pair": [1, "two"],
    "unique": [7], "named": {"": 0, "a b": 1}, "numbered": {"-1": "minus one"},
    "shape": {"type": "Square", "side": 4}, "colour": "green",
    "instant": "2026-11-22T07:30:15.25Z", "local": "2026-11-22T09:30:15.25", "day": "2026-11-22", "clock": "09:30:15",
    "span": "-P3DT4.5S", "uid": "00112233-4455-6677-8899-aabbccddeeff", "price": "1.50", "where": "/shop/desk-1",
    "maybe": None,
}  # fmt: skip
LZ4_CHECKS: Final = {b"\x60\x40": 0x82, b"\x60\x60": 0x51, b"\x61\x40\x07\0\0\0": 0xE3}
"""Descriptors of LZ4 frames, and the second byte of the xxHash-32 of each."""
NOTE: Final = Content("msgpack", "wire.Note", AT, lane=3, id=ID, payload=msgpack.packb(HELLO))
FULL: Final = NOTE._replace(
    sender="/shop/door", reply_to="/shop/door", flags=0, lane=2, correlation_id="order-7", causation_id=CAUSE,
    ttl=1.5, attempt=2, traceparent=TRACE, chain=("/shop", "/shop/door"),
)  # fmt: skip


def label(content: Content, count: int = 9, *more: Any, **changes: Any) -> bytes:
    """The first elements of a label, and some more."""
    said = {**content._asdict(), **changes}
    return pack([*[said[name] for name in list(LABEL)[:count]], *more])


def frame(content: Content, *tail: Any, **changes: Any) -> bytes:
    """A frame of whatever is given, elements of the label too; `tail` follows the payload, which is not packed."""
    said = {"version": 1, "label": label(content, **changes), "more": None, **content._asdict(), **changes}
    return pack([*[said[name] for name in list(FRAME)[:10]], *tail])


def pack(value: Any) -> bytes:
    return bytes(msgpack.packb(value))


def wide(value: Any) -> bytes:
    """The longest MessagePack form of `value`."""
    if value is None or isinstance(value, bool):
        return pack(value)
    if isinstance(value, int):
        return struct.pack(">Bq", 0xD3, value)
    if isinstance(value, float):
        return struct.pack(">Bd", 0xCB, value)
    if isinstance(value, str):
        return struct.pack(">BI", 0xDB, len(value.encode())) + value.encode()
    if isinstance(value, bytes):
        return struct.pack(">BI", 0xC6, len(value)) + value
    if isinstance(value, dict):
        return struct.pack(">BI", 0xDF, len(value)) + b"".join(wide(each) for pair in value.items() for each in pair)
    return struct.pack(">BI", 0xDD, len(value)) + b"".join(map(wide, value))


def nested(depth: int) -> dict[str, Any]:
    """A wire.Box of this depth, itself included."""
    inside: Any = 1
    for _ in range(depth - 1):
        inside = [inside]
    return {"inside": inside}


def of_all_kinds() -> bytes:
    """`OF_ALL_KINDS` in MessagePack."""
    fields = dict(OF_ALL_KINDS)
    fields["raw"] = b64decode(fields["raw"])
    fields["numbered"] = {-1: "minus one"}
    fields["instant"] = msgpack.Timestamp(1795332615, 250_000_000)
    return pack(fields)


def vector(name: str, about: str, data: bytes, **more: Any) -> dict[str, Any]:
    return {"name": name, "about": about, "keys": [], "at": AT, **more, "frame": data.hex()}


def good(
    name: str, about: str, content: Content, message: Any = HELLO, *, data: bytes | None = None,
    key: tuple[str, bytes] | None = None, **more: Any,
) -> dict[str, Any]:  # fmt: skip
    """A frame that says `content`, by default written as `write` does."""
    keys = [key[0]] if key else []
    expected = {**content._asdict(), "payload": content.payload.hex()}
    expected = {"keys": keys, "at": content.target, **more, "content": expected, "message": message}
    return vector(name, about, write(content, key=key) if data is None else data, **expected)


# fmt: off
def good_frames() -> Iterator[dict[str, Any]]:
    yield good("plain", "a tell from outside of any actor", NOTE)
    yield good("all-elements", "each element has a value", FULL._replace(flags=1))
    short = frame(NOTE, label=label(NOTE, 3))
    yield good("short-label", "no more than the required elements of the label", NOTE, data=short)
    yield good("short-label-signed", "the same, signed", NOTE, data=signed(short), keys=["key-1"])
    for count in range(4, 9):
        content = FULL._replace(**{name: getattr(NOTE, name) for name in list(LABEL)[count:]})
        yield good(f"label-{count}", f"a label of {count}", content, data=frame(FULL, label=label(FULL, count)))
    unknown: list[Any] = [None, 2**64 - 1, -1, 1.5, "text", b"\xff", [[]], {"a": {1: 2}}, msgpack.ExtType(5, b"x")]
    more = {str(number): value for number, value in enumerate(unknown)}
    yield good("unknown-elements", "what a later release added to the label and to more: ignored", FULL,
               data=frame(FULL, label=label(FULL, 9, *unknown), more=more))
    yield good("empty-more", "no names in more", NOTE, data=frame(NOTE, more={}))
    yield good("unknown-flags", "flag bits that a later release added: ignored", NOTE._replace(flags=254))
    longest = [1, wide([getattr(FULL, name) for name in LABEL]), *[getattr(FULL, name) for name in list(FRAME)[2:7]],
               {"later": "x"}, None, wide(HELLO)]
    content = FULL._replace(payload=wide(HELLO))
    yield good("wide", "each value in its longest MessagePack form", content, data=wide(longest))
    yield good("wide-signed", "the same, signed", content,
               data=sign(wide([*longest, KEY_1[0], bytes(32)]), KEY_1), keys=["key-1"])

    for lane, what in enumerate(("control", "urgent", "high", "normal", "low")):
        yield good(f"lane-{what}", f"lane {lane}", NOTE._replace(lane=lane))
    yield good("receipt", "a tell whose fate is to be told", NOTE._replace(flags=1, reply_to="/shop/door"))
    yield good("receipt-to-nobody", "RECEIPT without an address to tell: means nothing", NOTE._replace(flags=1))
    tell = NOTE._replace(sender="/shop/door", causation_id=CAUSE)
    yield good("tell", "a tell from a handler", tell)
    ask = tell._replace(reply_to="/shop/door", ttl=1.5, chain=("/shop/door",))
    yield good("ask", "an ask from a handler", ask)
    yield good("ask-within", "an ask from a handler that is asked itself", ask._replace(chain=("/shop", "/shop/door")))
    yield good("ask-without-ttl", "who asks without a ttl is told the fate, as with RECEIPT", ask._replace(ttl=None))
    yield good("expired", "a ttl of 0: delivered, to be recorded as expired", NOTE._replace(ttl=0.0))
    yield good("ttl-int", "a ttl that is an int", NOTE._replace(ttl=60), data=frame(NOTE, ttl=60))
    yield good("ttl-float-32", "a ttl in 32 bits", NOTE._replace(ttl=0.5),
               data=frame(NOTE, ttl=0.5).replace(struct.pack(">Bd", 0xCB, 0.5), struct.pack(">Bf", 0xCA, 0.5)))
    largest = NOTE._replace(
        target="/" + "a" * 199, sender="/" + "b/" * 99 + "b", reply_to="/c", flags=2**64 - 1, ttl=1.7e308,
        attempt=2**64 - 1, correlation_id="x" * 1000, chain=("/d",) * 100,
    )
    yield good("largest", "the largest numbers, the longest addresses", largest)
    yield good("root", "the shortest address; and each character that a name may have",
               NOTE._replace(target="/", sender="/AZaz09_.~@:+=-/."))
    yield good("any-id", "an id of another kind", NOTE._replace(id="", correlation_id="", causation_id="7"))
    text = 'h\u00e9llo \U0001f600 \u2028 \0 "\\/'
    yield good("unicode", "text of all kinds", NOTE._replace(correlation_id=text, payload=pack({"text": text})),
               {"text": text, "count": 0})
    for name, wrong in {
        "version-ff": "ff" + TRACE[2:], "upper-case": TRACE.upper(), "no-trace": TRACE[:3] + "0" * 32 + TRACE[35:],
        "no-parent": TRACE[:36] + "0" * 16 + TRACE[52:], "longer": TRACE + "-00", "empty": "",
    }.items():
        yield good(f"traceparent-{name}", "a traceparent that is none: counts as nil", NOTE._replace(traceparent=None),
                   data=write(NOTE._replace(traceparent=wrong)))

    yield good("signed-key-1", "signed with key-1", FULL, key=KEY_1)
    yield good("signed-key-2", "signed with key-2, whose secret has 64 bytes", FULL, key=KEY_2)
    yield good("signed-two-keys", "signed with the second of the reader's keys", FULL, data=write(FULL, key=KEY_2),
               keys=["key-1", "key-2"])
    yield good("signed-no-keys", "a reader without keys does not look at the signature", FULL,
               data=write(FULL, key=("other", bytes(32))))
    yield good("signed-odd-key-id", "nor at the id of the key", FULL, data=write(FULL, key=("\u00e9 " * 40, bytes(32))))

    def note(payload: bytes, codec: str = "msgpack", **more: Any) -> Content:
        return NOTE._replace(codec=codec, payload=payload, **more)

    yield good("payload-default", "a field with its default, left out", note(pack({"text": "hello"})),
               {"text": "hello", "count": 0})
    yield good("payload-order", "fields in another order", note(pack({"count": 3, "text": "hello"})))
    yield good("payload-unknown", "fields of a newer type: ignored",
               note(pack({"new": [1, {"a": b"\0"}], **HELLO, "newer": msgpack.ExtType(5, b"x")})))
    yield good("payload-twice", "a field twice: the last one counts",
               note(b"\x83" + pack({"count": 1})[1:] + pack(HELLO)[1:]))
    yield good("payload-deepest", "depth 32", note(pack(nested(32)), type="wire.Box"), nested(32))
    yield good("types-msgpack", "each type of field", note(of_all_kinds(), type="wire.Types"), OF_ALL_KINDS)
    as_json = json.dumps(OF_ALL_KINDS, ensure_ascii=False).encode()
    yield good("types-json", "each type of field", note(as_json, "json", type="wire.Types"), OF_ALL_KINDS)
    first = {"number": 7, "owner": "Ann", "limit": 100, "fax": "030-1"}
    later = {"number": 7, "owner": "Ann", "limit": None, "tags": ["new"], "state": "closed", "mail": {"to": [1]}}
    for name, fields in (("first", first), ("later", later)):
        read = {"tags": [], "state": "open", **fields}
        read.pop("fax" if name == "first" else "mail")
        yield good(f"evolved-{name}", f"as the {name} form of the type has it",
                   note(pack(fields), type="wire.Account"), read)
        yield good(f"evolved-{name}-json", f"as the {name} form of the type has it",
                   note(json.dumps(fields).encode(), "json", type="wire.Account"), read)
    yield good("json", "the smallest form", note(b'{"text":"hello","count":3}', "json"))
    yield good("json-loose", "blanks, escapes, another order, unknown fields",
               note(b' {\n"x": [1e9, {"y": null}], "count" :3,\t"text":"h\\u0065llo"}\r\n', "json"))
    yield good("json-deepest", "depth 32", note(json.dumps(nested(32)).encode(), "json", type="wire.Box"), nested(32))
    yield good("protobuf", "field 1, a varint", note(b"\x08\xac\x02", "protobuf", type="tests.orders.Cancel"),
               {"number": 300})
    yield good("protobuf-unknown", "an unknown field 15",
               note(b"\x7a\x01x\x08\xac\x02", "protobuf", type="tests.orders.Cancel"), {"number": 300})
    yield good("protobuf-empty", "a payload of no bytes", note(b"", "protobuf", type="tests.orders.Cancel"), {})

    long = {"text": "hello " * 100, "count": 3}
    for name in ("gzip", "zstd", "lz4"):
        yield good(name, f"packed by {name}", note(pack(long), compression=name), long)
        yield good(f"{name}-json-signed", f"JSON packed by {name}, signed",
                   note(json.dumps(long).encode(), "json", compression=name), long, key=KEY_1)
        yield good(f"{name}-larger", "packing saves nothing: read none the less", NOTE._replace(compression=name))
    stored = NOTE._replace(compression="zstd")
    yield good("lz4-stored", "an lz4 frame without checksum and content size, its one block not packed",
               stored._replace(compression="lz4"),
               data=frame(stored, compression="lz4", payload=lz4_stored(NOTE.payload)))
    yield good("zstd-stored", "a zstd frame without checksum and content size, its one block not packed", stored,
               data=frame(stored, payload=zstd_stored(NOTE.payload)))

    size = len(write(FULL))
    limits = {"frame": size, "header": size - len(FULL.payload)}
    yield good("at-the-limits", "as many bytes as the reader's limits allow", FULL, limits=limits)
# fmt: on


def zstd_stored(data: bytes) -> bytes:
    """A zstd frame with one raw block, of which this is all: RFC 8878, sections 3.1.1.1 and 3.1.1.2."""
    return bytes.fromhex("28b52ffd 00 00") + (len(data) << 3 | 1).to_bytes(3, "little") + data


def lz4_stored(data: bytes, *, block: int = 4, dictionary: int | None = None) -> bytes:
    """An LZ4 frame with one block, not packed. `block`: 4 for up to 64 KiB, 6 for 1 MiB."""
    flags = 0x60 if dictionary is None else 0x61
    about = bytes([flags, block << 4]) + (b"" if dictionary is None else dictionary.to_bytes(4, "little"))
    check = bytes([LZ4_CHECKS[about]])
    return b"\x04\x22\x4d\x18" + about + check + (len(data) | 1 << 31).to_bytes(4, "little") + data + bytes(4)


def sign(data: bytes, key: tuple[str, bytes], what: slice = slice(0, -32)) -> bytes:
    """`data`, whose last 32 bytes are to be a signature, with the HMAC of the bytes that `what` says."""
    return data[:-32] + hmac.digest(key[1], data[what], "sha256")


def signed(data: bytes, key: tuple[str, bytes] = KEY_1) -> bytes:
    """The frame `data` of ten elements, signed."""
    return sign(b"\x9c" + data[1:] + pack(key[0]) + pack(bytes(32)), key)


def bad(kind: str, name: str, about: str, data: bytes, **more: Any) -> dict[str, Any]:
    return vector(f"{kind}-{name}", about, data, **more, error=kind)


# fmt: off
def bad_frames() -> Iterator[dict[str, Any]]:
    payload, plain = NOTE.payload, write(NOTE)
    limits = {"frame": len(plain) - 1, "header": 8192}
    yield bad("size", "limit", "one byte over the reader's limit", plain, limits=limits)
    yield bad("size", "first", "over the limit, and no frame either", bytes(200), limits=limits)
    yield bad("header-size", "default", "over 8 KiB without the payload", frame(NOTE, correlation_id="x" * 8192))
    limits = {"frame": 262144, "header": len(plain) - len(payload) - 1}
    yield bad("header-size", "limit", "one byte over the reader's limit", plain, limits=limits)
    yield bad("header-size", "more", "what is ignored counts", frame(NOTE, more={"x": "x" * 8192}))
    yield bad("header-size", "label", "the label counts", frame(NOTE, label=label(NOTE, 9, "x" * 8192)))
    yield bad("header-size", "key-id", "the key id counts", frame(NOTE, "x" * 8192, bytes(32)))

    yield bad("version", "2", "of version 2, and otherwise as of version 1", frame(NOTE, version=2))
    yield bad("version", "2-other", "of version 2, and otherwise unlike version 1", pack([2, {"to": AT}, 7]))
    yield bad("version", "2-long", "of version 2, and longer than a header may be", pack([2, "x" * 9000]))
    yield bad("version", "0", "of version 0", frame(NOTE, version=0))
    yield bad("version", "only", "nothing but a version", pack([2**64 - 1]))

    for name, version in {"nil": None, "true": True, "str": "1", "float": 1.0}.items():
        yield bad("frame", f"version-{name}", "no int for a version", frame(NOTE, version=version))
    yield bad("frame", "nothing", "no bytes", b"")
    yield bad("frame", "unused-code", "the one byte that MessagePack never uses", b"\xc1")
    yield bad("frame", "no-array", "a map", pack({0: 1}))
    yield bad("frame", "empty", "an array of nothing", pack([]))
    yield bad("frame", "cut-off", "the last byte is missing", plain[:-1])
    yield bad("frame", "more", "a byte follows", plain + b"\0")
    yield bad("frame", "huge-array", "a promise of 2^32 - 1 elements", b"\xdd\xff\xff\xff\xff\x01")
    yield bad("frame", "deep", "8,000 arrays in each other", b"\x9a\x01\xc4\x00" + b"\x91" * 8000)
    yield bad("frame", "9-elements", "no payload", b"\x99" + plain[1 : -len(payload) - 2])
    yield bad("frame", "11-elements", "a key id without a signature", frame(NOTE, "key-1"))
    yield bad("frame", "13-elements", "something after the signature", frame(NOTE, "key-1", bytes(32), None))
    yield bad("frame", "nil-signature", "a nil where an unsigned frame has nothing", frame(NOTE, None, None))
    yield bad("frame", "nil-key-id", "a signature by nobody", frame(NOTE, None, bytes(32)))
    yield bad("frame", "empty-key-id", "by a key without a name", write(NOTE, key=("", KEY_1[1])), keys=["key-1"])
    yield bad("frame", "key-id-not-utf-8", "text that is not UTF-8",
              frame(NOTE, "kk", bytes(32)).replace(b"kk", b"k\xff"))
    wrong: dict[str, list[Any]] = {
        "label": [None, "label", [1]], "id": [None, 7, b"7"], "correlation_id": [7], "causation_id": [b"7"],
        "ttl": [-1, -0.5, float("nan"), "1", True], "traceparent": [0], "more": [[], "x", 0, {1: 2}, {b"x": 0}],
        "compression": [False, 0, b"gzip"], "payload": ["hello", None, HELLO],
    }
    for element, values in wrong.items():
        for number, value in enumerate(values, 1):
            yield bad("frame", f"{element}-{number}", f"{element} is {value!r}", frame(NOTE, **{element: value}))
    for element in ("id", "correlation_id", "traceparent", "compression"):
        yield bad("frame", f"{element}-not-utf-8", "text that is not UTF-8",
                  frame(NOTE, **{element: "<text>"}).replace(b"<text>", b"<te\xffx>"))

    yield bad("label", "empty", "no bytes", frame(NOTE, label=b""))
    yield bad("label", "map", "a label with names", frame(NOTE, label=pack(dict.fromkeys(LABEL, AT))))
    yield bad("label", "short", "no target", frame(NOTE, label=label(NOTE, 2)))
    yield bad("label", "more", "a byte follows", frame(NOTE, label=label(NOTE) + b"\0"))
    yield bad("label", "cut-off", "the last byte is missing", frame(NOTE, label=label(NOTE)[:-1]))
    yield bad("label", "not-utf-8", "text that is not UTF-8", plain.replace(b"wire.N", b"wire.\xff"))
    wrong = {
        "codec": [None, 1, b"json"], "type": [None, b"wire.Note"], "target": [None, b"/a"], "sender": [0, b"/a"],
        "reply_to": [[], False], "chain": [None, "/a", {}, ["a"], [None], ["/a", "/{b}"]],
        "lane": [5, -1, None, "normal", 3.0], "flags": [-1, None, True, "0", 1.0], "attempt": [0, -1, None, 1.0],
    }
    for element, values in wrong.items():
        for number, value in enumerate(values, 1):
            yield bad("label", f"{element}-{number}", f"{element} is {value!r}", frame(NOTE, **{element: value}))
    for name, address in {
        "empty": "", "relative": "shop", "ends-in-slash": "/shop/", "two-slashes": "/shop//desk", "brace": "/{shop}",
        "blank": "/shop desk", "newline": "/shop\n", "nul": "/shop\0", "not-ascii": "/sh\u00f6p", "digit": "/\u0663",
        "too-long": "/" + "a" * 200, "star": "/*",
    }.items():
        yield bad("label", f"target-{name}", "an address that is none", frame(NOTE, target=address))
        yield bad("label", f"sender-{name}", "an address that is none", frame(NOTE, sender=address))
    yield bad("label", "reply-to", "an address that is none", frame(NOTE, reply_to="/{shop}"))

    yield bad("codec", "unknown", "pickle", frame(NOTE, codec="pickle"))
    yield bad("codec", "case", "names are compared as they are", frame(NOTE, codec="JSON"))
    yield bad("codec", "empty", "no name", frame(NOTE, codec=""))
    yield bad("type", "unknown", "not imported for being named", frame(NOTE, type="os.system"))
    yield bad("type", "local", "a message that never leaves its process", frame(NOTE, type="actors.Terminated"))
    yield bad("type", "local-by-class", "the same", frame(NOTE, type="actors.actor.Terminated"))
    yield bad("type", "empty", "no name", frame(NOTE, type=""))
    yield bad("type", "long", "a long name, with a blank in it", frame(NOTE, type="wire.Note " * 200))
    yield bad("type", "codec", "protobuf cannot carry it", frame(NOTE, codec="protobuf"))
    yield bad("target", "other", "found in another mailbox", plain, at="/shop/desk-2")
    yield bad("target", "child", "found in the mailbox of a child", plain, at="/shop/desk/1")
    yield bad("target", "moved", "signed, and put into another mailbox", write(FULL, key=KEY_1), at="/shop/desk-2",
              keys=["key-1"])

    whole, keys = write(FULL, key=KEY_1), ["key-1"]
    end = len(whole) - 34  # where what is before the signature ends
    yield bad("signature", "none", "unsigned", write(FULL), keys=keys)
    yield bad("signature", "wrong", "its last bit is wrong", whole[:-1] + bytes([whole[-1] ^ 1]), keys=keys)
    yield bad("signature", "zeros", "not signed yet", whole[:-32] + bytes(32), keys=keys)
    yield bad("signature", "odd-key-id", "by a key whose id is none",
              write(FULL, key=("key 1", KEYS["key-1"])), keys=keys)
    yield bad("signature", "unknown-key", "by a key that the reader does not have", write(FULL, key=KEY_2), keys=keys)
    yield bad("signature", "other-key", "by a key of another name, with this one's secret",
              write(FULL, key=("key-2", KEYS["key-1"])), keys=keys)
    yield bad("signature", "swapped-keys", "by the one key, named as the other",
              write(FULL, key=("key-2", KEYS["key-1"])), keys=["key-1", "key-2"])
    for name, old, new in (
        ("readdressed", AT.encode(), b"/shop/dusk"), ("sender", b"/shop/door", b"/shop/doom"),
        ("payload", b"hello", b"hullo"), ("lane", b"\x02\x00\x02\xd9", b"\x01\x00\x02\xd9"),
        ("flags", b"\x02\x00\x02\xd9", b"\x02\x01\x02\xd9"), ("ttl", b"\xcb\x3f\xf8", b"\xcb\x40\xf8"),
        ("id", ID.encode(), CAUSE.encode()), ("type", b"wire.Note", b"wire.Nope"),
        ("wider", b"\x9c\x01", b"\xdc\x00\x0c\x01"), ("bin-16", b"\xc4\x20", b"\xc5\x00\x20"),
    ):
        altered = whole.replace(old, new)
        assert altered != whole
        at = "/shop/dusk" if name == "readdressed" else AT
        yield bad("signature", f"altered-{name}", f"{name} was altered after signing", altered, keys=keys, at=at)
    for name, what in {"payload": slice(end - len(FULL.payload) - 6, end - 6), "without-version": slice(2, -32),
                       "without-key-id": slice(0, end - 6), "without-announcement": slice(0, end)}.items():
        yield bad("signature", f"over-{name}", "the HMAC of fewer bytes", sign(whole, KEY_1, what), keys=keys)
    yield bad("signature", "before-label", "unsigned, and its label is damaged", frame(NOTE, label=b"\xc1"), keys=keys)
    half = whole[:-34] + pack(hmac.digest(KEY_1[1], whole[:-32], "sha256")[:16])
    yield bad("frame", "short-signature", "half of a signature", half, keys=keys)
    yield bad("frame", "longer-signature", "33 bytes, of which the last 32 are the HMAC of all before them",
              sign(whole[:-34] + pack(bytes(33)), KEY_1), keys=keys)
    yield bad("frame", "no-signature", "nothing for a signature", whole[:-34] + pack(b""), keys=keys)

    yield bad("compression", "unknown", "brotli", frame(NOTE, compression="brotli"))
    yield bad("compression", "empty", "no name", frame(NOTE, compression=""))
    for name in ("gzip", "zstd", "lz4"):
        def of(packed: bytes, name: str = name) -> bytes:
            return frame(NOTE, compression=name, payload=packed)

        packed = compress(name, payload)
        yield bad("compression", f"{name}-not", "the payload is not packed at all", of(payload))
        yield bad("compression", f"{name}-nothing", "no bytes", of(b""))
        yield bad("compression", f"{name}-cut-off", "the last byte is missing", of(packed[:-1]))
        yield bad("compression", f"{name}-more", "a byte follows", of(packed + b"\0"))
        yield bad("compression", f"{name}-twice", "a second stream follows", of(packed + compress(name, b"")))
        bomb = compress(name, pack({"text": "x" * 250_000}))
        if len(bomb) * 100 < 250_000:
            yield bad("compression", f"{name}-ratio", "unpacks to more than 100 times its bytes", of(bomb))
        limits = {"frame": 1024, "header": 512}
        packed = compress(name, pack({"text": "hello, " * 170}))
        yield bad("compression", f"{name}-limit", "unpacks to more than the reader's limit", of(packed), limits=limits)
    for name in ("zstd", "lz4"):
        packed = bytes.fromhex("502a4d18 00000000") + compress(name, payload)
        yield bad("compression", f"{name}-skippable", "a skippable frame before it",
                  frame(NOTE, compression=name, payload=packed))
    packed = zstd_stored(payload)
    packed = packed[:4] + b"\x01" + packed[5:6] + b"\x07" + packed[6:]
    yield bad("compression", "zstd-dictionary", "packed with a dictionary, 7",
              frame(NOTE, compression="zstd", payload=packed))
    yield bad("compression", "lz4-dictionary", "packed with a dictionary, 7",
              frame(NOTE, compression="lz4", payload=lz4_stored(payload, dictionary=7)))
    yield bad("compression", "lz4-blocks", "in blocks of up to 1 MiB",
              frame(NOTE, compression="lz4", payload=lz4_stored(payload, block=6)))
    packed = compress("gzip", payload)
    packed = packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:]
    yield bad("compression", "gzip-checksum", "its checksum does not hold",
              frame(NOTE, compression="gzip", payload=packed))
    packed = zstd_stored(payload)[:5] + b"\x70" + zstd_stored(payload)[6:]
    yield bad("compression", "zstd-window", "a window of 16 MiB", frame(NOTE, compression="zstd", payload=packed))

    def note(name: str, about: str, payload: bytes, codec: str = "msgpack", kind: str = "wire.Note") -> dict[str, Any]:
        return bad("payload", name, about, write(NOTE._replace(payload=payload, codec=codec, type=kind)))

    yield note("nothing", "no bytes", b"")
    yield note("more", "a byte follows", payload + b"\0")
    yield note("cut-off", "the last byte is missing", payload[:-1])
    yield note("no-map", "an array", pack(["hello", 3]))
    yield note("missing", "a required field is missing", pack({"count": 3}))
    yield note("int-for-str", "an int for a str", pack({"text": 3}))
    yield note("bin-for-str", "bytes for a str", pack({"text": b"hello"}))
    yield note("float-for-int", "a float for an int", pack({"text": "", "count": 3.0}))
    yield note("bool-for-int", "a bool for an int", pack({"text": "", "count": True}))
    yield note("not-utf-8", "text that is not UTF-8", pack({"text": "hello"}).replace(b"ello", b"\xed\xa0\x80o"))
    yield note("too-deep", "depth 33", pack(nested(33)), kind="wire.Box")
    yield note("far-too-deep", "depth 2,000", pack({"inside": 0})[:-1] + b"\x91" * 1998 + b"\xc0", kind="wire.Box")
    yield note("promise", "2^32 - 1 elements", pack({"inside": 0})[:-1] + b"\xdd" + b"\xff" * 4, kind="wire.Box")
    keys_1001 = pack({"inside": 0})[:-1] + b"\xde" + (1001).to_bytes(2, "big")
    keys_1001 += b"".join(pack([number]) + b"\xc0" for number in range(1001))
    yield note("keys", "1,001 arrays as keys of maps", keys_1001, kind="wire.Box")
    as_json = b'{"text":"hello","count":3}'
    yield note("json-nothing", "no bytes", b"", "json")
    yield note("json-more", "a brace follows", as_json + b"}", "json")
    yield note("json-missing", "a required field is missing", b'{"count":3}', "json")
    yield note("json-str-for-int", "a string for an int", b'{"text":"","count":"3"}', "json")
    yield note("json-mark", "a byte order mark", b"\xef\xbb\xbf" + as_json, "json")
    yield note("json-msgpack", "MessagePack for JSON", payload, "json")
    yield note("json-not-utf-8", "text that is not UTF-8", as_json.replace(b"ello", b"\xff"), "json")
    yield note("json-too-deep", "depth 33", json.dumps(nested(33)).encode(), "json", "wire.Box")
    yield note("json-big-int", "2^64", b'{"text":"","count":18446744073709551616}', "json")
    yield note("json-small-int", "-2^63 - 1", b'{"inside":[-9223372036854775809]}', "json", "wire.Box")
    yield note("json-whole", "2^64, where anything may be", b'{"inside":[18446744073709551616]}', "json", "wire.Box")
    yield note("json-whole-float", "a float with a fraction for an int", b'{"text":"","count":3.0}', "json")
    yield note("json-infinity", "what JSON does not have", b'{"inside":Infinity}', "json", "wire.Box")
    yield note("protobuf-cut-off", "a varint without an end", b"\x08\xac", "protobuf", "tests.orders.Cancel")
    yield note("protobuf-wrong", "a wire type that there is not", b"\x0f", "protobuf", "tests.orders.Cancel")
# fmt: on


def vectors() -> dict[str, Any]:
    """All that is in the file of vectors."""
    return {
        "about": [
            "Frames of version 1 as docs/wire-format.md has them.",
            "frame: its bytes in hex. at: the mailbox it was found in. keys: those the reader has; none: it has none.",
            "limits: those of the reader, where they are not the defaults.",
            "error: what the document's table calls the reason to refuse it. A frame without is to be read, and then:",
            "content: what it says, where it says nothing the default; payload unpacked, in hex.",
            "message: the message as the codec json (of protobuf: ProtoJSON) has it, with all defaults filled in.",
        ],
        "keys": {name: secret.hex() for name, secret in KEYS.items()},
        "types": TYPES,
        "vectors": [*good_frames(), *bad_frames()],
    }


def main() -> None:
    head = vectors()
    made = head.pop("vectors")
    rows.write(rows.VECTORS, head, "vectors", made, mode="w")
    print(f"{rows.VECTORS.name}: {len(made)} vectors")


if __name__ == "__main__":
    main()
