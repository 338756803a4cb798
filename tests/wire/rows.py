"""What a row of the vectors or of the golden frames says, and the message and the envelope that it stands for."""

from __future__ import annotations

import json
from math import inf
from pathlib import Path
from typing import Any, Final

import msgspec
from google.protobuf import json_format

from tests.protobuf import orders_pb2
from tests.wire.messages import Account, Box, Note, Types
from tests.wire.reader import Content
from transport.address import Address
from transport.envelope import Envelope
from transport.keys import Keys
from transport.message import register

HERE: Final = Path(__file__).parent
VECTORS: Final = HERE / "vectors" / "vectors.json"
GOLDEN: Final = HERE / "golden"
KINDS: Final[dict[str, type[Any]]] = {
    "wire.Note": Note, "wire.Types": Types, "wire.Box": Box, "wire.Account": Account,
    "tests.orders.Cancel": orders_pb2.Cancel, "tests.orders.Order": orders_pb2.Order,
}  # fmt: skip
register(orders_pb2.Cancel)
register(orders_pb2.Order)


def content_of(row: dict[str, Any]) -> Content:
    """What its frame says."""
    content = row["content"]
    return Content(**{**content, "payload": bytes.fromhex(content["payload"]), "chain": tuple(content["chain"])})


def message_of(name: str, form: Any) -> Any:
    """The message of the type `name` whose form in JSON this is, made by msgspec or protobuf alone."""
    kind = KINDS[name]
    if name.startswith("tests.orders."):
        return json_format.ParseDict(form, kind())
    return msgspec.json.decode(json.dumps(form), type=kind, dec_hook=lambda kind, text: kind(text))


class Waiting:
    """Somebody waits."""

    def done(self) -> bool:
        return False

    def set_result(self, result: Any, /) -> None:
        raise AssertionError("nobody answers here")


def envelope_of(content: Content, message: Any, now: float) -> Envelope:
    """The envelope whose frame, sent or received at `now`, says `content`."""
    deadline = None if content.ttl is None else now + content.ttl
    is_receipt = bool(content.flags & 1)
    reply_by = inf if deadline is None or content.reply_to is None or is_receipt else deadline
    return Envelope(
        message, Address(content.target), content.lane - 1, _address(content.sender), content.correlation_id,
        content.causation_id, deadline, Waiting() if is_receipt else None, reply_by,
        tuple(map(Address, content.chain)), content.attempt, content.traceparent, 0, content.id,
    )  # fmt: skip


def assert_same(found: Envelope, expected: Envelope) -> None:
    """Each field has the same value, of the same type, but who waits, which does not travel."""
    for field in Envelope.__struct_fields__:
        if field != "reply":
            value, other = getattr(found, field), getattr(expected, field)
            assert value == other, field
            assert type(value) is type(other), field
    assert {type(each) for each in found.chain} <= {Address}


def keys_of(names: list[str], secrets: dict[str, str]) -> Keys | None:
    """The keys of these names; None where there are none."""
    return Keys(*((name, bytes.fromhex(secrets[name])) for name in names)) if names else None


def write(path: Path, head: dict[str, Any], name: str, rows: list[dict[str, Any]], mode: str) -> None:
    """A JSON file with these rows under `name`, each on a line of its own."""
    lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    with path.open(mode) as file:
        file.write(f'{json.dumps(head, indent=1)[:-2]},\n "{name}": [\n{lines}\n ]\n}}\n')


def _address(path: str | None) -> Address | None:
    return None if path is None else Address(path)
