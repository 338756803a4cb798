"""What no bytes may do to a `Wire`: `Target.check` looks at one input, and raises `Finding` where they do."""

from __future__ import annotations

import hashlib
import hmac
import re
import resource
import sys
import time
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final

import msgpack  # type: ignore[import-untyped]

import tests.conformance.messages  # noqa: F401  # registers its messages
from tests.protobuf.orders_pb2 import Order, Tree
from tests.wire.make_vectors import AT, KEYS
from tests.wire.messages import Box
from tests.wire.reader import Refused, decompress
from transport.address import Address
from transport.codec import JSON, MessagePack
from transport.envelope import Envelope
from transport.errors import CodecError, DecodeError, MessageTooLarge, UnknownMessage
from transport.keys import Keys
from transport.message import register, wire_name
from transport.protobuf import Protobuf
from transport.wire import Limits, Wire

SECRET: Final = "s3cret"
"""What the payloads of the seeds say, so that it is seen where an error repeats it."""
NUMBER: Final = 73556084
"""The same, as a number."""

TIME: Final = 2.0  # seconds of CPU for a frame; what is honest takes 7 ms, 43,000 times 1e308 in JSON takes 1.0
MEMORY: Final = 128 * 1024 * 1024  # bytes for all frames: one takes up to 33 MiB, the labels of six wires up to 42
DEPTH: Final = 32  # that of the codecs, as it is by default
LONGEST_TEXT: Final = 300  # characters of an error
_RSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024
_VARIABLE: Final = re.compile(r"'[^']*'|\"[^\"]*\"|\d+")

for protobuf in (Order, Tree):
    register(protobuf)


class Finding(Exception):
    """A fault of the product."""


class Target:
    """Wires of the class `wire`, with and without keys, and what holds of them whatever they are to decode."""

    def __init__(self, wire: type[Wire] = Wire) -> None:
        self.limits = Limits()
        codecs = MessagePack(), JSON(), Protobuf()
        keys = Keys(*KEYS.items())
        # What was read by a codec is sent by it again.
        self._open = {each.name: wire(each, codecs=codecs, limits=self.limits) for each in codecs}
        self._signed = {each.name: wire(each, codecs=codecs, limits=self.limits, keys=keys) for each in codecs}
        self._peak = _peak()

    def check(self, data: bytes) -> str:
        """What becomes of the frame `data`: "read ..." or why it is refused, without names and numbers."""
        frame, label = _parts(data)
        # MessagePack carries all that JSON does, and may stand in for it where the label cannot be read.
        codec = next((name for name in self._open if label[:1] == [name]), "msgpack")
        at = _address(label)
        fate = self._check(self._open[codec], data, frame, at)
        signed = self._check(self._signed[codec], data, frame, at)
        if signed.startswith("read") and not _is_signed(data):
            raise Finding("a frame that is not signed is read by one that has keys")
        if signed != fate and not signed.startswith(("an unsigned frame", "a frame whose signature")):
            raise Finding(f"{fate!r}, but by one that has keys {signed!r}")
        return fate

    def _check(self, wire: Wire, data: bytes, frame: list[Any], at: Address) -> str:
        start = time.thread_time()
        try:
            envelope, reply_to = wire.decode(data, at=at, now=0.0)
        except CodecError as error:
            self._check_cost(start)
            _check_error(error, frame)
            _check_undecodable(wire, data, error, at)
            return _VARIABLE.sub("_", str(error))
        except Exception as error:
            raise Finding(f"decode raises {error!r}") from error
        self._check_cost(start)
        if frame:
            self._check_limits(data, payload=frame[9], compression=frame[8])
        if isinstance(envelope.message, Box) and (depth := 1 + _depth(envelope.message.inside)) > DEPTH:
            raise Finding(f"a payload of depth {depth} is read")
        _check_again(wire, envelope, reply_to)
        kind = type(envelope.message)
        packed, more = (frame[8], frame[7]) if frame else (None, None)
        return f"read {wire_name(kind)} by {wire.codec(kind).name}{' packed' * bool(packed)}{' and more' * bool(more)}"

    def _check_cost(self, start: float) -> None:
        if (took := time.thread_time() - start) > TIME:
            raise Finding(f"decode takes {took:.1f} s of CPU")
        if (grown := _peak() - self._peak) > MEMORY:
            raise Finding(f"decode has come to take {grown / 2**20:.0f} MiB")

    def _check_limits(self, data: bytes, payload: bytes, compression: str | None) -> None:
        if len(data) > self.limits.frame or len(data) - len(payload) > self.limits.header:
            raise Finding(f"a frame of {len(data)} bytes with a payload of {len(payload)} is read")
        try:
            decompress(compression, payload, self.limits.frame)
        except Refused:
            raise Finding(f"a payload of {len(payload)} bytes, packed by {compression!r}, is read") from None


# What the frame says, by the reference package ---------------------------------------------------------------


def _unpack(data: bytes) -> Any:
    # Maps become lists of pairs, so that any key will do.
    return msgpack.unpackb(data, strict_map_key=False, unicode_errors="replace", object_pairs_hook=list)


def _parts(data: bytes) -> tuple[list[Any], list[Any]]:
    """The elements of the frame and of its label, both empty where one cannot be read."""
    with suppress(Exception):
        frame = _unpack(data)
        label = _unpack(frame[1])
        if isinstance(frame, list) and isinstance(label, list) and isinstance(frame[9], bytes):
            return frame, label
    return [], []


def _address(label: list[Any]) -> Address:
    with suppress(Exception):
        return Address(label[2])
    return Address(AT)


def _is_signed(data: bytes) -> bool:
    """Whether the last bytes are the HMAC of all before them; which key is named is for the vectors to test."""
    return any(data[-32:] == hmac.digest(secret, data[:-32], hashlib.sha256) for secret in KEYS.values())


# What holds of each ------------------------------------------------------------------------------------------


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        value = [*value, *value.values()]
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list | tuple) else 0


def _check_error(error: CodecError, frame: list[Any]) -> None:
    if type(error) not in (DecodeError, UnknownMessage):
        raise Finding(f"decode raises {error!r}") from error
    text = str(error)
    if len(text) > LONGEST_TEXT:
        raise Finding(f"an error of {len(text)} characters: {text[:60]}...")
    if error.__cause__ is not None or not (error.__suppress_context__ or error.__context__ is None):
        raise Finding(f"an error that shows another: {error!r}") from error
    for secret in (SECRET, str(NUMBER)):
        if frame and secret in text and secret not in repr(frame[:9] + frame[10:]):
            raise Finding(f"an error that repeats the payload: {text}")


def _check_undecodable(wire: Wire, data: bytes, error: CodecError, at: Address) -> None:
    try:
        envelope = wire.undecodable(data, error, at=at)
    except Exception as second:
        raise Finding(f"undecodable raises {second!r}") from second
    if envelope.target != at:
        raise Finding(f"undecodable has made a dead letter to {envelope.target}")


def _check_again(wire: Wire, envelope: Envelope, reply_to: Address | None) -> None:
    if reply_to is not None:
        envelope.reply = Future()
    try:
        data = wire.encode(envelope, now=0.0, reply_to=reply_to)
    except MessageTooLarge as error:
        if "bytes" in str(error):  # what was written in another way may be shorter
            return
        raise Finding(f"what was read is not sent: {error!r}") from error
    except Exception as error:
        if "date value out of range" in str(error.__cause__):  # the first and the last day of the calendar, beside UTC
            return
        raise Finding(f"what was read is not sent: {error!r}") from error
    try:
        again, their_reply_to = wire.decode(data, at=envelope.target, now=0.0)
    except Exception as error:
        raise Finding(f"what was read and sent is not read again: {error!r}") from error
    if (_says(envelope), reply_to) != (_says(again), their_reply_to):
        raise Finding(f"what was read, sent and read again says {_says(again)} and not {_says(envelope)}")
    if not _is_same(wire, envelope.message, again.message):
        raise Finding(f"what was read, sent and read again is another message: {again.message!r:.200}")


def _says(envelope: Envelope) -> tuple[Any, ...]:
    return (
        envelope.target, envelope.priority, envelope.sender, envelope.correlation_id, envelope.causation_id,
        envelope.deadline, envelope.reply_by, envelope.chain, envelope.attempt, envelope.traceparent,
        envelope.message_id,
    )  # fmt: skip


def _is_same(wire: Wire, one: Any, other: Any) -> bool:
    """Equal, or of the same bytes in any order: NaN is not equal to itself, and a set has no order."""
    if type(one) is not type(other):
        return False
    encode = wire.codec(type(one)).encoder(type(one))
    return bool(one == other) or sorted(encode(one)) == sorted(encode(other))
