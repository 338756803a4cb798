"""Frames made and read by hand: by the reference `msgpack` package and the standard library, as other languages do."""

from __future__ import annotations

import hmac
from typing import Any, Final, NamedTuple

import msgpack  # type: ignore[import-untyped]

LABEL: Final = ("codec", "type", "target", "sender", "reply_to", "chain", "lane", "flags", "attempt")
HEADER: Final = ("id", "correlation_id", "causation_id", "ttl", "traceparent", "more", "compression")
"""What stands between the label and the payload."""
DEFAULTS: Final[dict[str, Any]] = {
    "sender": None, "reply_to": None, "chain": [], "lane": 3, "flags": 0, "attempt": 1,
}  # fmt: skip
TRACEPARENT: Final = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

Key = tuple[str, bytes]


class Parts(NamedTuple):
    """What a frame says. All may be made of anything, to see what a reader makes of it."""

    label: Any
    header: Any
    payload: Any
    version: Any = 1

    def says(self, name: str) -> Any:
        """The element of the label or of the header that is called `name`."""
        if name in HEADER:
            return self.header[HEADER.index(name)]
        at = LABEL.index(name)
        return self.label[at] if at < len(self.label) else DEFAULTS[name]

    def but(self, **changes: Any) -> Parts:
        """The same, but for these elements; those before them that are missing get their defaults."""
        label, header, rest = list(self.label), list(self.header), {}
        for name, value in changes.items():
            if name in HEADER:
                header[HEADER.index(name)] = value
            elif name in LABEL:
                label += [DEFAULTS[each] for each in LABEL[len(label) : LABEL.index(name) + 1]]
                label[LABEL.index(name)] = value
            else:
                rest[name] = value
        return self._replace(**{"label": label, "header": header} | rest)

    def elements(self) -> list[Any]:
        """Those of the frame, unsigned. A label that is bytes already stays as it is."""
        label = self.label if isinstance(self.label, bytes) else msgpack.packb(self.label)
        return [self.version, label, *self.header, self.payload]

    def frame(self, key: Key | None = None) -> bytes:
        """The bytes; signed where there is a key."""
        if key is None:
            return bytes(msgpack.packb(self.elements()))
        key_id, secret = key
        signed = msgpack.packb([*self.elements(), key_id, bytes(32)])[:-32]
        return bytes(signed + hmac.digest(secret, signed, "sha256"))


def parts(frame: bytes) -> Parts:
    """What `frame` says, read by the reference package."""
    version, label, *elements = msgpack.unpackb(frame, strict_map_key=False)
    return Parts(msgpack.unpackb(label), elements[: len(HEADER)], elements[len(HEADER)], version)


def a_frame(kind: str, payload: bytes = b"\x80", *, codec: str = "msgpack", compression: str | None = None) -> Parts:
    """The least that a frame says, to ``/here``."""
    return Parts([codec, kind, "/here"], ["an id", None, None, None, None, None, compression], payload)
