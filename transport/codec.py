"""`Codec`: messages to bytes and back; any bytes make a registered message or a `CodecError`, nothing else."""

from __future__ import annotations

from typing import Any, Final, Protocol

import msgspec

from transport.address import Address
from transport.errors import CodecError, DecodeError
from transport.message import Message, message_type, wire_name

_LONGEST_DETAIL: Final = 200  # characters of an error's text: the rest can only be what the bytes said


class Codec(Protocol):
    """Turns a message into bytes and back; the wire name of its type travels beside them.

    ``decode(wire_name(type(m)), encode(m)) == m`` for every message that encodes. Any bytes at all decode to
    a registered message type or raise `CodecError`, in time and memory in proportion to their length.
    """

    name: str
    """What the codec is called on the wire."""

    def encode(self, message: Message[Any], /) -> bytes:
        """The bytes of `message`. Raises `CodecError` where it holds what the codec cannot carry."""
        ...

    def decode(self, name: str, data: bytes, /) -> Message[Any]:
        """The message of wire name `name` that `data` holds. Raises `UnknownMessage` or `DecodeError`."""
        ...


class MessagePack:
    """MessagePack (https://msgpack.org): each message is a map from field names, readable in any language.

    Fields have any type that msgspec knows, or `Address`. Fields that the receiver does not know are passed
    over and those it misses get their defaults, so both ends need not change on the same day. Integers go
    from -2**63 to 2**64 - 1. An aware `datetime` keeps its instant and comes back in UTC.

    Not checked here: how long the bytes are. An array of empty arrays takes about 70 times its bytes.
    """

    name = "msgpack"

    def __init__(self) -> None:
        self._encode = msgspec.msgpack.Encoder(enc_hook=_to_wire).encode
        self._decoders: dict[type[Message[Any]], msgspec.msgpack.Decoder[Message[Any]]] = {}

    def encode(self, message: Message[Any], /) -> bytes:
        """As `Codec.encode`; raises also where no receiver could decode the message's type."""
        kind = type(message)
        if not isinstance(message, Message):
            raise CodecError(f"{kind.__qualname__} is not a Message: only these have a wire name")
        try:
            if kind not in self._decoders:
                self._add_decoder(kind)
            return self._encode(message)
        except Exception as error:  # too big an int, a lone surrogate, a foreign type, a circle, ...
            raise CodecError(f"{wire_name(kind)} does not encode: {_detail(error)}") from error

    def decode(self, name: str, data: bytes, /) -> Message[Any]:
        """As `Codec.decode`."""
        kind = message_type(name)
        try:
            decoder = self._decoders.get(kind) or self._add_decoder(kind)
            return decoder.decode(data)
        except Exception as error:  # not only msgspec's: bad UTF-8, RecursionError, what a __post_init__ raises, ...
            raise DecodeError(f"not a {name}: {_detail(error)}") from error

    def _add_decoder(self, kind: type[Message[Any]]) -> msgspec.msgpack.Decoder[Message[Any]]:
        decoder = self._decoders[kind] = msgspec.msgpack.Decoder(kind, dec_hook=_from_wire)
        return decoder


def _to_wire(value: Any) -> str:
    if isinstance(value, Address):
        return str(value)
    raise TypeError(f"a {type(value).__qualname__} has no form on the wire")


def _from_wire(kind: type, value: Any) -> Address:
    if kind is Address:
        return Address(value)
    raise TypeError(f"{kind!r} has no form on the wire")


def _detail(error: Exception) -> str:
    try:
        text = str(error) if isinstance(error, msgspec.MsgspecError) else f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001  # its own __str__ raised; whoever decodes expects a CodecError and nothing else
        text = type(error).__name__
    return text if len(text) <= _LONGEST_DETAIL else f"{text[:_LONGEST_DETAIL]}..."
