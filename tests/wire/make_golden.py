"""Writes the golden frames of this release, once: python -m tests.wire.make_golden

They are what this release's `Wire` really wrote, and every later release reads them: so a file that is there is
never written again, neither by this script nor by hand. Each release adds a file of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from tests.wire import rows
from tests.wire.make_vectors import CAUSE, FULL, KEYS, NOTE, OF_ALL_KINDS
from tests.wire.reader import Content, read
from transport.address import Address
from transport.codec import JSON, MessagePack
from transport.compression import LZ4, Gzip, Zstd
from transport.keys import Keys
from transport.protobuf import Protobuf
from transport.wire import Wire

RELEASE: Final = version("waooaw-actors")
ORDER: Final = {
    "number": "18446744073709551615", "customer": "Zo\u00eb \U0001f600", "coupons": [-1, 0, 7], "discount": 0.1,
    "lines": [{"product": f"product {number}", "count": number, "cents": "-250"} for number in range(12)],
    "notes": {"door": "ring twice"}, "gifts": {"-3": {"product": "pen", "count": 1, "cents": "99"}},
    "speed": "SPEED_EXPRESS", "scan": "AP/+", "paid": True, "barcode": "4006381333931",
    "placed": "2026-11-22T07:30:15.250Z", "home": {"name": "Zo\u00eb", "street": ""},
}  # fmt: skip
TYPES: Final = {**OF_ALL_KINDS, "text": "h\u00e9llo \U0001f600 \0 " * 50}

TELL: Final = NOTE._replace(sender="/shop/door", causation_id=CAUSE, correlation_id="order-7")
ASK: Final = TELL._replace(reply_to="/shop/door", ttl=1.5, chain=("/shop", "/shop/door"))
RECEIPT: Final = TELL._replace(reply_to="/shop/door", flags=1, lane=1, ttl=60.0)
WAYS: Final[list[tuple[str, Content, Gzip | Zstd | LZ4 | None, str | None]]] = [
    ("plain", NOTE, None, None),
    ("gzip", TELL, Gzip(), None),
    ("zstd", ASK, Zstd(), None),
    ("lz4", RECEIPT, LZ4(), None),
    ("signed", FULL, None, "key-1"),
    ("zstd-signed", ASK._replace(lane=4, attempt=3), Zstd(), "key-2"),
]
"""A name, what the frame is to say, how it is packed and by which key it is signed."""


def frames() -> Iterator[dict[str, Any]]:
    """The frames, each with what it says: the rows of the vectors' file, but written by `Wire`."""
    for codec in (MessagePack(), JSON(), Protobuf()):
        kind, form = ("tests.orders.Order", ORDER) if codec.name == "protobuf" else ("wire.Types", TYPES)
        message = rows.message_of(kind, form)
        for name, content, by, key in WAYS:
            keys = None if key is None else Keys((key, KEYS[key]))
            said = content._replace(
                codec=codec.name, type=kind, compression=None if by is None else by.name,
                payload=codec.encoder(type(message))(message),
            )  # fmt: skip
            frame = Wire(codec, compression=by, threshold=0, keys=keys).encode(
                rows.envelope_of(said, message, now=64.0),
                now=64.0,
                reply_to=None if said.reply_to is None else Address(said.reply_to),
            )
            found, _ = read(frame, at=said.target, types={kind: lambda _: True}, keys=KEYS if key else None)
            assert found == said, "not what a reader made from the document reads"
            yield {
                "name": f"{codec.name}-{name}", "keys": [key] if key else [], "at": said.target,
                "content": {**said._asdict(), "payload": said.payload.hex()}, "message": form, "frame": frame.hex(),
            }  # fmt: skip


def write(path: Path) -> None:
    """The file of golden frames. Raises `FileExistsError` where there is one."""
    head = {
        "about": [
            f"Frames that release {RELEASE} wrote. Every later release reads them. NEVER CHANGE THIS FILE.",
            "The rows are like those of ../vectors/vectors.json, which says what is what.",
        ],
        "keys": {name: secret.hex() for name, secret in KEYS.items()},
    }
    rows.write(path, head, "frames", list(frames()), mode="x")


if __name__ == "__main__":
    try:
        write(rows.GOLDEN / f"{RELEASE}.json")
    except FileExistsError as error:
        sys.exit(f"{error.filename} is there and stays as it is: golden frames are written once, by their release")
