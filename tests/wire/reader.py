"""A reader and a writer of frames, made from docs/wire-format.md alone: nothing here is imported from the project.

It is written for a reader of the document, so it is short and not fast: it keeps each check where the document
has it, and leaves a payload as the plain values that MessagePack and JSON know.
"""

from __future__ import annotations

import base64
import datetime as dt
import enum
import hashlib
import hmac
import json
import re
import sys
import zlib
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final, NamedTuple
from uuid import UUID

import lz4.frame  # type: ignore[import-untyped]
import msgpack  # type: ignore[import-untyped]

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


class Refused(Exception):
    """`kind` is what the document calls the check that failed."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class Content(NamedTuple):
    """What a frame says. `payload` is encoded by the `codec` and not, or no longer, packed by the `compression`."""

    codec: str
    type: str
    target: str
    sender: str | None = None
    reply_to: str | None = None
    chain: tuple[str, ...] = ()
    lane: int = 3
    flags: int = 0
    attempt: int = 1
    id: str = ""
    correlation_id: str | None = None
    causation_id: str | None = None
    ttl: float | None = None
    traceparent: str | None = None
    compression: str | None = None
    payload: bytes = b""


# Reading -----------------------------------------------------------------------------------------------------


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _bytes(value: Any) -> bool:
    return isinstance(value, bytes)


def _uint(value: Any) -> bool:
    return type(value) is int and value >= 0


def _seconds(value: Any) -> bool:
    return type(value) in (int, float) and value >= 0


def _names(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_text, value))


def _address(value: Any) -> bool:
    path = re.compile(r"/|(/[A-Za-z0-9_.~@:+=-]+)+")
    return isinstance(value, str) and len(value) <= 200 and path.fullmatch(value) is not None


def _or_nil(valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or valid(value)


FRAME: Final = {
    "version": _uint, "label": _bytes, "id": _text, "correlation_id": _or_nil(_text), "causation_id": _or_nil(_text),
    "ttl": _or_nil(_seconds), "traceparent": _or_nil(_text), "more": _or_nil(_names), "compression": _or_nil(_text),
    "payload": _bytes,
    "key_id": lambda value: _text(value) and value, "signature": lambda value: _bytes(value) and len(value) == 32,
}  # fmt: skip
LABEL: Final = {
    "codec": _text, "type": _text, "target": _address, "sender": _or_nil(_address), "reply_to": _or_nil(_address),
    "chain": lambda value: isinstance(value, list) and all(map(_address, value)),
    "lane": lambda value: _uint(value) and value <= 4, "flags": _uint, "attempt": lambda value: _uint(value) and value,
}  # fmt: skip
_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def read(
    data: bytes,
    *,
    at: str,
    types: Mapping[str, Callable[[Any], bool]],
    keys: Mapping[str, bytes] | None = None,
    frame_limit: int = 256 * 1024,
    header_limit: int = 8 * 1024,
) -> tuple[Content, Any]:
    """What the frame found in the mailbox of `at` says, and its payload as plain values (of protobuf: the bytes).

    `types` tells by wire name which plain values are a message of that type. Raises `Refused`.
    """
    if len(data) > frame_limit:
        raise Refused("size")
    elements = _unpack(data, "frame")
    if not isinstance(elements, list) or not elements or type(elements[0]) is not int:
        raise Refused("frame")
    if elements[0] != 1:
        raise Refused("version")
    if len(elements) not in (10, 12):
        raise Refused("frame")
    frame = _checked(elements, FRAME, "frame")
    if len(data) - len(frame["payload"]) > header_limit:
        raise Refused("header-size")
    if keys and not ("signature" in frame and _holds(data, keys.get(frame["key_id"]), frame["signature"])):
        raise Refused("signature")
    label = _unpack(frame["label"], "label")
    if not isinstance(label, list) or len(label) < 3:
        raise Refused("label")
    said = {**_checked(label, LABEL, "label"), **frame}
    content = Content(**{name: said[name] for name in Content._fields if name in said})
    if content.codec not in ("msgpack", "json", "protobuf"):
        raise Refused("codec")
    if content.type not in types:
        raise Refused("type")
    if content.target != at:
        raise Refused("target")
    payload = decompress(content.compression, content.payload, frame_limit)
    value = decode(content.codec, payload)
    if not types[content.type](value):
        raise Refused("payload")
    trace = content.traceparent if _TRACEPARENT.fullmatch(content.traceparent or "") else None
    return content._replace(payload=payload, chain=tuple(content.chain), traceparent=trace), value


def _unpack(data: bytes, kind: str) -> Any:
    try:
        return msgpack.unpackb(data, strict_map_key=False, timestamp=3, object_pairs_hook=_map)
    except Exception:  # noqa: BLE001  # a dozen classes, none of which says more than the kind does
        raise Refused(kind) from None


def _map(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    return {tuple(key) if isinstance(key, list) else key: value for key, value in pairs}


def _checked(values: list[Any], table: Mapping[str, Callable[[Any], Any]], kind: str) -> dict[str, Any]:
    """The values by their names; those that follow the ones in the table are left out."""
    known = dict(zip(table, values, strict=False))
    if not all(table[name](value) for name, value in known.items()):
        raise Refused(kind)
    return known


def _holds(data: bytes, secret: bytes | None, signature: bytes) -> bool:
    return secret is not None and hmac.compare_digest(hmac.digest(secret, data[:-32], hashlib.sha256), signature)


def decompress(name: str | None, data: bytes, limit: int) -> bytes:
    """The one stream that `data` is, unpacked to at most `limit` bytes and 100 times its own."""
    if name is None:
        return data
    if name not in ("zstd", "lz4", "gzip"):
        raise Refused("compression")
    cap = min(limit, 100 * len(data))
    stream: Any
    try:
        if name == "gzip":
            stream = zlib.decompressobj(16 + zlib.MAX_WBITS)
            output = stream.decompress(data, cap + 1)
        else:
            if not data.startswith(b"\x28\xb5\x2f\xfd" if name == "zstd" else b"\x04\x22\x4d\x18"):
                raise Refused("compression")
            if name == "lz4" and (len(data) < 7 or data[4] & 1 or 1 << 2 * (data[5] >> 4) + 8 > max(limit, 65_536)):
                raise Refused("compression")  # a dictionary, or larger blocks; the package looks at neither
            window: dict[int, int] = {zstd.DecompressionParameter.window_log_max: 23}
            stream = zstd.ZstdDecompressor(options=window) if name == "zstd" else lz4.frame.LZ4FrameDecompressor()
            output = stream.decompress(data, max_length=cap + 1)
    except (zlib.error, zstd.ZstdError, RuntimeError):
        raise Refused("compression") from None
    if len(output) > cap or not stream.eof or stream.unused_data:
        raise Refused("compression")
    return bytes(output)


def decode(codec: str, payload: bytes) -> Any:
    """The plain values in a payload."""
    if codec == "protobuf":
        return payload
    if codec == "msgpack":
        value = _unpack(payload, "payload")
    else:
        try:
            value = json.loads(payload.decode(), parse_constant=_no_number, parse_int=_whole)
        except (ValueError, RecursionError):
            raise Refused("payload") from None
    if _depth(value) > 32 or _arrays_as_keys(value) > 1000:
        raise Refused("payload")
    return value


def _no_number(text: str) -> Any:
    raise ValueError(text)


def _whole(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**64:
        raise ValueError(text)
    return int(text)


def _depth(value: Any) -> int:
    return 1 + max(map(_depth, _parts(value)), default=0) if isinstance(value, dict | list | tuple) else 0


def _arrays_as_keys(value: Any) -> int:
    found = sum(isinstance(key, tuple) for key in value) if isinstance(value, dict) else 0
    return found + sum(map(_arrays_as_keys, _parts(value)))


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    return list(value) if isinstance(value, list | tuple) else []


# Writing -----------------------------------------------------------------------------------------------------


def write(content: Content, *, key: tuple[str, bytes] | None = None) -> bytes:
    """The frame that says `content`, signed where a key's id and secret are given."""
    said = content._asdict()
    label = msgpack.packb([said[name] for name in LABEL])
    said |= {"version": 1, "label": label, "more": None, "payload": compress(content.compression, content.payload)}
    frame = [said[name] for name in list(FRAME)[:10]]
    if key is None:
        return bytes(msgpack.packb(frame))
    signed: bytes = msgpack.packb([*frame, key[0], bytes(32)])[:-32]
    return signed + hmac.digest(key[1], signed, hashlib.sha256)


def compress(name: str | None, data: bytes) -> bytes:
    """`data` as one stream."""
    if name is None:
        return data
    if name == "zstd":
        return zstd.compress(data)
    if name == "lz4":
        return bytes(lz4.frame.compress(data))
    stream = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    return stream.compress(data) + stream.flush()


def encode(codec: str, message: Any) -> bytes:
    """The payload of a message (any class of msgspec's), by the document's table."""
    if codec == "msgpack":
        return bytes(msgpack.packb(plain(codec, message), datetime=True))
    return json.dumps(plain(codec, message), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def plain(codec: str, value: Any) -> Any:
    """`value` as MessagePack or JSON know it: the document's table, from the top."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, bytes):
        return value if codec == "msgpack" else base64.b64encode(value).decode()
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        return value if codec == "msgpack" else value.isoformat().replace("+00:00", "Z")
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return _duration(value)
    if isinstance(value, UUID | Decimal | str):
        return str(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(codec, each) for each in value]
    if isinstance(value, dict):
        return {_key(codec, key): plain(codec, each) for key, each in value.items()}
    if hasattr(value, "__struct_fields__"):
        tag = value.__struct_config__.tag
        fields = {name: plain(codec, getattr(value, name)) for name in value.__struct_fields__}
        return fields if tag is None else {"type": tag, **fields}
    return value


def _key(codec: str, key: Any) -> Any:
    key = plain(codec, key)
    return key if codec == "msgpack" or isinstance(key, str) else json.dumps(key)


def _duration(value: dt.timedelta) -> str:
    size = abs(value)
    seconds = f"{size.seconds}.{size.microseconds:06}".rstrip("0").rstrip(".") if size.microseconds else size.seconds
    parts = (f"{size.days}D" if size.days or not size else "") + (f"T{seconds}S" if size % dt.timedelta(1) else "")
    return ("-" if value.days < 0 else "") + "P" + parts
