"""The wire: messages between processes, in a codec of one's own, and signed. (Its frames go over any transport.)

Run: python examples/09_own_codec.py
"""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from types import GenericAlias
from typing import Any

import msgspec

from actors import Address, Envelope, Message
from transport.codec import JSON
from transport.errors import DecodeError
from transport.keys import Keys
from transport.wire import Wire


class Compact:
    """MessagePack without the fields' names: small, but both ends must have the same fields in the same order."""

    name = "compact"

    def encoder(self, kind: type[Any]) -> Callable[[Any], bytes]:
        return lambda message: msgspec.msgpack.encode(msgspec.structs.astuple(message))

    def decoder(self, kind: type[Any]) -> Callable[[bytes], Any]:
        fields = GenericAlias(tuple, tuple(field.type for field in msgspec.structs.fields(kind)))
        decode = msgspec.msgpack.Decoder(fields).decode
        return lambda data: kind(*decode(data))


class Reading(Message[None]):
    sensor: str
    celsius: float
    at: datetime


def main() -> None:
    roof, station, attic = Address("/roof"), Address("/station"), Address("/attic")
    reading = Reading(sensor="roof-7", celsius=21.5, at=datetime(2026, 11, 22, 12, 0, tzinfo=UTC))
    envelope = Envelope(reading, station, sender=roof)

    for wire in (Wire(JSON()), Wire(), Wire(overrides={Reading: Compact()})):
        frame = wire.encode(envelope, now=0.0)
        received, _ = wire.decode(frame, at=station, now=0.0)
        assert received.message == reading
        assert received.sender == roof
        print(f"{wire.codec(Reading).name}: a frame of {len(frame)} bytes")

    # A node that has keys takes no frame that is not signed with one of them, that was changed, or that was moved.
    signing = Wire(overrides={Reading: Compact()}, keys=Keys(("2026-11", secrets.token_bytes(32))))
    signed = signing.encode(envelope, now=0.0)
    changed = signed.replace(b"roof-7", b"roof-8")
    for what, found, mailbox in ("unsigned", frame, station), ("changed", changed, station), ("moved", signed, attic):
        try:
            signing.decode(found, at=mailbox, now=0.0)
        except DecodeError as error:
            print(f"{what}: {error}")


if __name__ == "__main__":
    main()
