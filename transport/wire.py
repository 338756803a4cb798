"""`Wire`: envelopes to frames and back, by the codecs, limits, compression and keys of one system."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from math import inf
from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from transport.address import Address
from transport.codec import JSON, Codec, MessagePack, detail
from transport.compression import RATIO, Compression, compression
from transport.envelope import Envelope, Undecodable
from transport.errors import ActorsError, CodecError, DecodeError, MessageTooLarge, shown
from transport.frame import (
    RECEIPT,
    SIGNATURE,
    VERSION,
    Frame,
    Malformed,
    header_size,
    no_frame,
    pack,
    unpack,
    unpack_label,
    unpack_signed,
)
from transport.keys import Keys
from transport.message import is_protobuf, message_type, wire_name

K = TypeVar("K")
T = TypeVar("T")
V = TypeVar("V")

_MOST_LABELS: Final = 4096  # remembered at each end; then all are forgotten, and made again one by one
_LONGEST_LABEL: Final = 1024  # bytes of a label that is remembered: three addresses of 200, and two names
_LONGEST_CHAIN: Final = 8  # asks within asks; 1 KiB has room for 300, which take 24 KB as objects
_UNSIGNED: Final = bytes(SIGNATURE)
_is_traceparent: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
).fullmatch


class Limits(msgspec.Struct, frozen=True):
    """What a frame may be, in bytes: checked before anything is decoded, at both ends.

    `frame` holds for the frame as it travels and for its payload once unpacked, so compression saves room but
    lets no larger message through. `header` is for all but the payload. How deep a payload may nest is a limit
    of its codec.

    Raises `ValueError` for what is no number of bytes.
    """

    frame: int = 256 * 1024
    header: int = 8 * 1024

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"Limits({name}={value!r}): a whole number of bytes, at least 1")


# What one end makes of all that a label says: the label, and what encodes the message.
_Sending: TypeAlias = tuple[bytes, Callable[[Any], bytes]]
# What the other end makes of a label: type, what decodes it, target, sender, reply_to, chain, priority, whether it is
# an ask, attempt. Plain tuples, as a NamedTuple is taken apart at a third of the speed.
_Receiving: TypeAlias = tuple[
    str, Callable[[bytes], Any], Address, Address | None, Address | None, tuple[Address, ...], int, bool, int
]


class Wire:
    """Turns envelopes into frames and frames into envelopes, as the nodes of one system have agreed.

    Messages are encoded by `codec`, or by what `overrides` says for their class or a base of it, or where protoc
    generated it by `Protobuf`. A frame names its codec: `MessagePack`, `JSON` and all that were given are read.
    `compression` is tried on payloads of over `threshold` bytes and kept where it saves; whichever is installed is
    read. With `keys` each frame is signed, and one that is not, or that was changed or put into another mailbox, is
    refused.

    ``decode(encode(envelope))`` brings the same message, addressed and marked the same. Any bytes at all are
    decoded or raise `CodecError`, in time and memory bounded by the `limits`.

    Raises `ValueError` for a bad option.
    """

    def __init__(
        self,
        codec: Codec | None = None,
        *,
        codecs: Iterable[Codec] = (),
        overrides: Mapping[type, Codec] | None = None,
        compression: Compression | None = None,
        threshold: int = 1024,
        limits: Limits = Limits(),  # noqa: B008  # frozen
        keys: Keys | None = None,
    ) -> None:
        if type(threshold) is not int or threshold < 0:
            raise ValueError(f"threshold={threshold!r}: a whole number of bytes, at least 0")
        self.limits = limits
        self._short = min(limits.frame, limits.header)  # a frame of no more bytes is within all limits
        self._codec: Codec = codec or MessagePack()
        self._overrides = dict(overrides or {})
        self._codecs: dict[str, Codec] = {}
        for each in (self._codec, *codecs, *self._overrides.values(), MessagePack(), JSON()):
            self._codecs.setdefault(each.name, each)
        self._compression, self._threshold = compression, threshold
        self._keys = keys
        self._sending: dict[tuple[Any, ...], _Sending] = {}
        self._receiving: dict[bytes, _Receiving] = {}

    def codec(self, kind: type) -> Codec:
        """What messages of the class `kind` are encoded by."""
        for base in kind.__mro__:
            if base in self._overrides:
                return self._overrides[base]
        return self._protobuf() if is_protobuf(kind) else self._codec

    def _protobuf(self) -> Codec:
        from transport.protobuf import Protobuf  # an extra; it is there where one of its messages is

        return self._codecs.setdefault("protobuf", Protobuf())

    def decoder(self, codec: str, kind: type[T]) -> Callable[[bytes], T]:
        """What decodes a `kind` that was encoded by the codec of this name. Raises `DecodeError`, or as that does."""
        if is_protobuf(kind):
            self._protobuf()
        if codec not in self._codecs:
            raise DecodeError(f"encoded by {shown(codec)}; this node has {', '.join(self._codecs)}")
        return self._codecs[codec].decoder(kind)

    # Sending ---------------------------------------------------------------------------------------------

    def encode(self, envelope: Envelope, *, now: float, reply_to: Address | None = None) -> bytes:
        """The frame of `envelope`; what becomes of it is to be told to `reply_to`.

        `now` is the time on the clock of the envelope's deadline, in seconds; what is left until then travels.

        Raises `CodecError` where the message cannot be carried, and `MessageTooLarge`.
        """
        message, deadline, compressed_by = envelope.message, envelope.deadline, None
        says = (
            type(message), envelope.target, envelope.sender, reply_to, envelope.chain, envelope.priority,
            envelope.reply_by == inf and envelope.reply is not None, envelope.attempt,
        )  # fmt: skip
        try:
            label, encode = self._sending.get(says) or self._new_label(*says)
            payload = encode(message)
            if type(payload) is not bytes:
                raise CodecError(f"its codec makes {type(payload).__qualname__} of it and not bytes")
            if self._compression is not None and len(payload) > self._threshold:
                self._check_size("payload", len(payload), self.limits.frame)
                packed = self._compression.compress(payload)
                if len(packed) < len(payload) <= RATIO * len(packed):
                    payload, compressed_by = packed, self._compression.name
            elements = (
                VERSION, label, envelope.message_id or envelope.id, envelope.correlation_id, envelope.causation_id,
                None if deadline is None else deadline - now if deadline > now else 0.0,
                envelope.traceparent, None, compressed_by, payload,
            )  # fmt: skip
            if self._keys is None:
                frame = pack(elements)
            else:
                signed = pack((*elements, self._keys.key_id, _UNSIGNED))[:-SIGNATURE]
                frame = signed + self._keys.sign(signed)
            if len(frame) > self._short:
                self._check_size("frame", len(frame), self.limits.frame)
                self._check_size("header", len(frame) - len(payload), self.limits.header)
        except Exception as error:
            raise _not_sent(envelope, error) from error
        return frame

    def _new_label(
        self, kind: type, target: Address, sender: Address | None, reply_to: Address | None,
        chain: tuple[Address, ...], priority: int, receipt: bool, attempt: int,
    ) -> _Sending:  # fmt: skip
        codec = self.codec(kind)
        ends = (None if each is None else str(each) for each in (target, sender, reply_to))
        how = (list(map(str, chain)), priority + 1, RECEIPT if receipt else 0, attempt)
        label = pack((codec.name, wire_name(kind), *ends, *how))
        made: _Sending = label, codec.encoder(kind)
        if _is_worth_it(label, chain):
            _remember(self._sending, (kind, target, sender, reply_to, chain, priority, receipt, attempt), made)
        return made

    @staticmethod
    def _check_size(part: str, size: int, limit: int) -> None:
        if size > limit:
            raise MessageTooLarge(f"its {part} has {size} bytes and the limit is {limit}; send less, or a reference")

    # Receiving -------------------------------------------------------------------------------------------

    def decode(self, data: bytes, *, at: Address, now: float, age: float = 0.0) -> tuple[Envelope, Address | None]:
        """The envelope in a frame that was found in the mailbox of `at`, and who is to be told what becomes of it.

        `now` is the receiver's own clock and `age` the time that the frame was on its way, both in seconds; the
        deadline counts from them. The `reply_by` of an ask is its deadline, that of a tell with a receipt `inf`.

        Raises `CodecError`: `UnknownMessage` or `DecodeError`.
        """
        _, label, id_, correlation_id, causation_id, ttl, traceparent, _, packed_by, payload = self._open(data)
        said = self._receiving.get(label) or self._read(label)
        type_, decode, target, sender, reply_to, chain, priority, is_ask, attempt = said
        if target != at:
            raise DecodeError(f"a frame for {shown(target)} in the mailbox of {shown(at)}")
        if packed_by is not None:
            payload = self._decompressed(packed_by, payload)
        try:
            message = decode(payload)
        except Exception as error:  # noqa: BLE001  # whatever a codec or a __post_init__ raises
            raise _not_a(type_, error) from None
        deadline = None if ttl is None else now + ttl - age
        envelope = Envelope(
            message, target, priority, sender, correlation_id, causation_id, deadline,
            None, deadline if is_ask and deadline is not None else inf, chain, attempt,
            None if traceparent is None else _valid(traceparent), 0, id_,
        )  # fmt: skip
        return envelope, reply_to

    def undecodable(self, data: bytes, error: CodecError, *, at: Address) -> Envelope:
        """What goes into the mailbox of `at` in place of a frame that `decode` refused there, to be a dead letter.

        Says of the message what can be read and believed: where the signature does not hold, nothing.
        """
        envelope: Envelope = Envelope(Undecodable(error, len(data)), at)  # type: ignore[arg-type]
        with suppress(CodecError, *Malformed):
            _, label, id_, correlation_id, causation_id, _, traceparent, *_ = self._open(data)
            envelope.message_id, envelope.correlation_id, envelope.causation_id = id_, correlation_id, causation_id
            envelope.traceparent = None if traceparent is None else _valid(traceparent)
            said = unpack_label(label)
            envelope.priority, envelope.attempt = said.lane - 1, said.attempt
            envelope.sender = None if said.sender is None else Address(said.sender)
        return envelope

    def _open(self, data: bytes) -> Frame:
        """The frame in `data`, within its limits and with a signature that holds."""
        if len(data) > self._short:
            if len(data) > self.limits.frame:
                raise DecodeError(f"a frame of {len(data)} bytes; the limit is {self.limits.frame}")
            if (size := header_size(data)) > self.limits.header:
                raise DecodeError(f"a frame with a header of {size} bytes; the limit is {self.limits.header}")
        keys = self._keys
        try:
            if keys is None:
                return unpack(data)
            signed = unpack_signed(data)
        except Malformed:
            signed = None
        if keys is None or signed is None:
            return self._open_other(data)
        if not keys.verify(signed[10], data[:-SIGNATURE], signed[11]):
            raise DecodeError(f"a frame whose signature by the key {shown(signed[10])} does not hold")
        return signed[:10]

    def _open_other(self, data: bytes) -> Frame:
        """A frame that is signed where there is no key, which is read; or not signed where there is one."""
        try:
            if self._keys is None:
                return unpack_signed(data)[:10]
            unpack(data)
        except Malformed:
            raise no_frame(data) from None
        raise DecodeError("an unsigned frame; this node takes signed ones only")

    def _read(self, data: bytes) -> _Receiving:
        try:
            label = unpack_label(data)
            target, *chain = map(Address, (label.target, *label.chain))
            sender, reply_to = (None if each is None else Address(each) for each in (label.sender, label.reply_to))
        except Malformed:
            raise DecodeError("a frame with a damaged label") from None
        kind = message_type(label.type)
        try:
            decode = self.decoder(label.codec, kind)
        except Exception as error:  # noqa: BLE001  # whatever a codec raises
            raise _not_a(label.type, error) from None
        is_ask = reply_to is not None and not label.flags & RECEIPT
        made: _Receiving = (
            label.type, decode, target, sender, reply_to, tuple(chain), label.lane - 1, is_ask, label.attempt
        )  # fmt: skip
        if _is_worth_it(data, chain):
            _remember(self._receiving, data, made)
        return made

    def _decompressed(self, name: str, payload: bytes) -> bytes:
        own = self._compression
        by = own if own is not None and own.name == name else compression(name)
        try:
            return by.decompress(payload, self.limits.frame)
        except Exception as error:  # noqa: BLE001  # whatever a user's compression raises
            raise _not_a(f"payload packed by {shown(name)}", error) from None


def _is_worth_it(label: bytes, chain: Sequence[Address]) -> bool:
    return len(label) <= _LONGEST_LABEL and len(chain) <= _LONGEST_CHAIN


def _remember(known: dict[K, V], key: K, value: V) -> None:
    if len(known) >= _MOST_LABELS:
        known.clear()
    known[key] = value


def _valid(traceparent: str) -> str | None:
    """One that is malformed is passed over, as W3C Trace Context says."""
    return traceparent if _is_traceparent(traceparent) else None


def _not_sent(envelope: Envelope, error: Exception) -> ActorsError:
    what = f"{type(envelope.message).__qualname__} to {envelope.target}"
    if isinstance(error, MessageTooLarge):
        return MessageTooLarge(f"{what}: {error}", envelope)
    return CodecError(f"{what} does not encode: {error if isinstance(error, CodecError) else detail(error)}")


def _not_a(what: str, error: Exception) -> DecodeError:
    return error if isinstance(error, DecodeError) else DecodeError(f"not a {what}: {detail(error)}")
