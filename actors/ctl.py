"""`python -m actors.ctl --url redis://...`: what an operator looks at and does, beside the nodes of a namespace.

A composition root, as the node. It reads the mailboxes on the server and owns none of them; only `tell` and `ask` join
as a node, named "ctl". Its manual is in `docs/operations.md`.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, TypeVar
from uuid import UUID
from zlib import crc32

import anyio
import msgspec
import typer
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from typer.core import TyperGroup

from actors.errors import HandlerFailed
from actors.events import describe
from actors.logs import escape, set_up_logs
from actors.system import ActorSystem, run
from actors.toml import suggest
from transport.address import ROOT, Address
from transport.answers import Drain
from transport.codec import JSON
from transport.envelope import NORMAL, Envelope
from transport.errors import ActorsError, CodecError, TransportLost, UnknownMessage, mask, text_of
from transport.frame import Frame, Label, Malformed, no_frame, unpack, unpack_label, unpack_signed
from transport.keys import Keys as SigningKeys
from transport.mailbox import CONTROL
from transport.message import AnyMessage, field_names, is_protobuf, message_type, wire_name
from transport.redis.hosted import NODES
from transport.redis.scripts import Keys
from transport.redis.server import VERSION, Config, RedisStore, config_of
from transport.redis.store import LANES, MOST, Buried, Mail
from transport.redis.transport import RedisTransport
from transport.wire import Wire

T = TypeVar("T")

FAILED: Final = 1
BAD_USE: Final = 2
LANE_NAMES: Final = ("control", "urgent", "high", "normal", "low")
SHOWN_BYTES: Final = 200
"""How much of a payload that cannot be read is shown."""
_AT_ONCE: Final = 100  # mailboxes in one exchange: up to 500 frames come back, as the first of each lane is looked at
_TTL: Final = 8  # bytes before each frame on the server
_LONGEST_CELL: Final = 200  # characters, of a table; what is longer is somebody's mischief


class CtlError(Exception):
    """What went wrong, where, and what to do, in one line; `facts` are for programs."""

    def __init__(self, problem: str, code: int = BAD_USE, error: str = "", **facts: Any) -> None:
        super().__init__(problem)
        self.code = code
        self.facts = {"error": error or ("failed" if code == FAILED else "usage"), "detail": mask(problem), **facts}


class Options(msgspec.Struct, frozen=True):
    """What stands before the command."""

    url: str
    namespace: str
    wire: Wire
    as_json: bool

    @property
    def place(self) -> str:
        return f"the namespace {self.namespace} on {mask(self.url)}"


# What is found -----------------------------------------------------------------------------------------------


class Node(msgspec.Struct):
    """An incarnation of a node. `lease`: seconds that it is still alive without another beat; negative: since when not.

    `mailboxes` are those that it owns, its own for answers among them.
    """

    node: str
    incarnation: str
    state: str
    lease: float
    partitions: int
    mailboxes: int


class Mailbox(msgspec.Struct):
    """A mailbox. `oldest`: how many seconds ago the oldest message at the head of a lane was made, by its sender."""

    address: str
    owner: str | None
    state: str
    epoch: int
    capacity: int
    depths: dict[str, int]
    oldest: float | None


class Waiting(msgspec.Struct):
    """A message in a mailbox; the fields without a value could not be read, for which `problem` has the reason."""

    lane: str
    offset: int
    id: str | None
    type: str | None
    sender: str | None
    attempt: int | None
    ttl: float | None
    size: int
    problem: str | None = None
    payload: Any = msgspec.UNSET


class DeadLetter(msgspec.Struct):
    """A dead letter, as it stands in the list."""

    id: str
    time: str
    address: str
    reason: str
    lane: str
    type: str | None
    size: int


# The server --------------------------------------------------------------------------------------------------


class Namespace:
    """The partitions of a namespace on a server: as many as `config` says, and none where nobody has opened it."""

    def __init__(self, client: Redis, options: Options, config: Config | None) -> None:
        self.client, self.options, self.config = client, options, config
        tags = [f"{{{options.namespace}:{number}}}" for number in range(config.partitions if config else 0)]
        self.keys = [Keys(tag) for tag in tags]
        self.stores = [RedisStore(client, tag) for tag in tags]

    def partition(self, address: str) -> int:
        """Raises `CtlError` where nobody has opened the namespace."""
        if not self.stores:
            raise CtlError(f"nobody has opened {self.options.place} yet: check --namespace, or start a node", FAILED)
        return crc32(address.encode()) % len(self.stores)

    async def all(self, commands: Iterable[Sequence[Any]]) -> list[Any]:
        """The answers to these commands, in one exchange."""
        pipeline = self.client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        return await pipeline.execute()

    async def _leases(self) -> tuple[float, list[dict[str, float]]]:
        """The server's time, and for each partition until when which incarnation is alive; in seconds."""
        (seconds, us), *found = await self.all(
            [("TIME",), *(("ZRANGE", keys.nodes, 0, -1, "WITHSCORES") for keys in self.keys)]
        )
        leases = [{name.decode(): float(until) / 1000 for name, until in _pairs(each)} for each in found]
        return int(seconds) + int(us) / 1e6, leases

    async def nodes(self) -> list[Node]:
        now, leases = await self._leases()
        ends: dict[str, list[float]] = {}
        for partition in leases:
            for name, until in partition.items():
                ends.setdefault(name, []).append(until)
        owned = iter(await self.all(("SCARD", keys.owned(name)) for name in ends for keys in self.keys))
        found = []
        for name, each in ends.items():
            left, count = min(each) - now, sum(islice(owned, len(self.keys)))
            state = "alive" if left > 0 else "expired"
            found.append(Node(name.rpartition(".")[0], name, state, round(left, 3), len(each), count))
        return sorted(found, key=lambda node: node.incarnation)

    async def actors(self) -> list[Mailbox]:
        """All mailboxes that the server knows, those of nodes and of stopped actors too."""
        name = re.compile(rf"\{{{re.escape(self.options.namespace)}:\d+\}}:a:(/.*)")
        addresses = set()
        async for key in self.client.scan_iter(match=f"{{{self.options.namespace}:*}}:a:/*", count=1000):
            found = name.fullmatch(key.decode("ascii", "replace"))
            if found is not None:  # else of another namespace, such as shop:eu when this is shop
                addresses.add(found[1])
        return await self.mailboxes(sorted(addresses))

    async def mailboxes(self, addresses: Sequence[str]) -> list[Mailbox]:
        """What is known of the mailboxes at `addresses`; those that are not there are left out."""
        now, leases = await self._leases()
        found = []
        for at in range(0, len(addresses), _AT_ONCE):
            some = addresses[at : at + _AT_ONCE]
            answers = iter(await self.all(command for address in some for command in self._looking_at(address)))
            for address in some:
                fields, depths, firsts = next(answers), list(islice(answers, LANES)), list(islice(answers, LANES))
                ages = [_age(stored[_TTL:], now) for stored in firsts if stored]
                if fields:
                    alive = {name for name, until in leases[self.partition(address)].items() if until > now}
                    found.append(_mailbox(address, fields, depths, ages, alive))
        return found

    def _looking_at(self, address: str) -> Iterable[Sequence[Any]]:
        keys = self.keys[self.partition(address)]
        lanes = keys.lanes(address)
        return (
            ("HGETALL", keys.actor(address)),
            *(("LLEN", key) for key in lanes),
            *(("LINDEX", key, 0) for key in lanes),
        )

    async def mailbox(self, address: str) -> Mailbox:
        """Raises `CtlError` where there is none."""
        for found in await self.mailboxes([address]):
            return found
        raise CtlError(f"nobody has lived at {address} in {self.options.place}", FAILED)

    async def waiting(self, address: str, limit: int) -> list[Mail]:
        """Of each lane at most the first `limit` messages."""
        store, found = self.stores[self.partition(address)], []
        for lane in range(LANES):
            mails: list[Mail] = []
            while len(mails) < limit:
                more = await store.peek(address, lane, len(mails))
                mails += more
                if len(more) < MOST:
                    break
            found += mails[:limit]
        return found

    async def dead_letters(self, limit: int | None, address: str | None, reason: str | None) -> list[DeadLetter]:
        """The oldest, up to `limit` of those to `address` and because of `reason`."""
        found: list[DeadLetter] = []
        for number, count in enumerate(await self.count_dead_letters()):
            here: list[DeadLetter] = []
            after = ""
            while count and (limit is None or len(here) < limit):
                page = await self.stores[number].dead_letters(after)
                here += [
                    _dead_letter(number, each)
                    for each in page
                    if address in (None, each.address) and reason in (None, each.reason)
                ]
                if len(page) < MOST:
                    break
                after = page[-1].id
            found += here
        return sorted(found, key=_age_first)[:limit]

    async def count_dead_letters(self) -> list[int]:
        """How many there are in each partition."""
        return await self.all(("XLEN", keys.dead_letters) for keys in self.keys)

    def place_of(self, id_: str) -> tuple[int, str]:
        """The partition and the store's own id of a dead letter. Raises `CtlError` for what is no id."""
        found = re.fullmatch(r"(\d{1,9})/(\d{1,20}-\d{1,20})", id_)
        if found is None or int(found[1]) >= len(self.stores):
            raise CtlError(f"{id_!r} is not the id of a dead letter: these are such as 7/1732284000000-0, see the list")
        return int(found[1]), found[2]

    async def dead_letter(self, id_: str) -> Buried:
        """Raises `CtlError` where it is not there."""
        number, own = self.place_of(id_)
        # Not by the store, which reads 500 at a time.
        (found,) = await self.all([("XRANGE", self.keys[number].dead_letters, own, own)])
        if not found:
            raise CtlError(f"no dead letter {id_} in {self.options.place}: it has been requeued or purged", FAILED)
        fields = found[0][1]
        return Buried(id_, fields[b"a"].decode(), int(fields[b"l"]), fields[b"r"].decode(), fields[b"f"][_TTL:])

    async def requeue(self, ids: Sequence[str]) -> dict[str, bool]:
        """Which of these dead letters are in their mailboxes again."""
        places = {id_: self.place_of(id_) for id_ in ids}  # all are looked at before the first is moved
        return {id_: await self.stores[number].requeue(own) for id_, (number, own) in places.items()}

    async def purge(self, ids: Sequence[str]) -> int:
        """Throw these dead letters away; how many were there."""
        by_partition: dict[int, list[str]] = {}
        for id_ in ids:
            number, own = self.place_of(id_)
            by_partition.setdefault(number, []).append(own)
        count = 0
        for number, own_ids in by_partition.items():
            for at in range(0, len(own_ids), MOST):
                count += await self.stores[number].discard(own_ids[at : at + MOST])
        return count

    async def drain(self, node: str, timeout: float) -> list[str]:
        """Ask the incarnations of a node to hand over and end: which. Raises `CtlError`."""
        asked = {each.incarnation for each in await self.nodes() if node in (each.node, each.incarnation)}
        mailboxes = [each for each in await self.actors() if each.owner in asked and each.address.startswith(NODES)]
        if not mailboxes:
            raise CtlError(f"no node {node!r} is alive in {self.options.place}: see the nodes", FAILED, "NotFound")
        for mailbox in mailboxes:
            await self.send(Address(mailbox.address), Drain(), timeout, ask=False, priority=CONTROL)
        return sorted(str(mailbox.owner) for mailbox in mailboxes)

    async def send(
        self, address: Address, message: AnyMessage, timeout: float, *, ask: bool, priority: int = NORMAL
    ) -> Any:
        """Tell or ask; the reply. Raises `CtlError`."""
        options = self.options
        self.partition(address)  # or it would be us who say how many there are
        transport = RedisTransport(
            options.url, namespace=options.namespace, wire=options.wire, node="ctl", partitions=len(self.stores),
            patience=timeout,
        )  # fmt: skip
        try:
            async with ActorSystem("ctl", transport=transport, drain=0) as system:
                ref = system.ref(address)
                if ask:
                    return await ref.ask(message, timeout=timeout)
                with anyio.fail_after(timeout):
                    return await transport.send(Envelope(message, address, priority))
        except HandlerFailed as error:
            raise CtlError(
                f"{address} failed with {error.kind}: {error.detail}", FAILED, "HandlerFailed",
                kind=error.kind, traceback=error.traceback,
            ) from error  # fmt: skip
        except TransportLost as error:
            raise CtlError(str(error), error="TransportLost") from error
        except ActorsError as error:
            text = " ".join(map(str, error.args))
            raise CtlError(f"{type(error).__name__}: {text}", FAILED, type(error).__name__) from error
        except TimeoutError:
            problem = f"{address} had no room for {timeout} s: see its mailbox; it may still have taken the message"
            raise CtlError(problem, FAILED, "TimeoutError") from None


def _pairs(flat: Sequence[Any]) -> Iterable[tuple[Any, Any]]:
    """What the server says flat, or redis-py in pairs."""
    if flat and isinstance(flat[0], tuple | list):
        return ((key, value) for key, value in flat)
    return zip(flat[::2], flat[1::2], strict=True)


def _mailbox(
    address: str, fields: Mapping[bytes, bytes], depths: Sequence[int], ages: Sequence[float | None], alive: set[str]
) -> Mailbox:
    owner, state = fields.get(b"o", b"").decode() or None, "running"
    if fields.get(b"s") != b"1":
        state = "stopped"
    elif owner not in alive:
        state = "orphaned" if owner is None else "owner dead"
    return Mailbox(
        address, owner, state, int(fields.get(b"e", 0)), int(fields.get(b"c", 0)),
        dict(zip(LANE_NAMES, depths, strict=True)), max((age for age in ages if age is not None), default=None),
    )  # fmt: skip


# Frames ------------------------------------------------------------------------------------------------------


class Head(NamedTuple):
    """What a frame says of its message; whether it is true, only a `Wire` with the keys can tell."""

    frame: Frame
    label: Label


def _head(data: bytes) -> Head | None:
    for unpack_either in (unpack, unpack_signed):
        with suppress(*Malformed):
            frame: Any = unpack_either(data)[:10]
            return Head(frame, unpack_label(frame[1]))
    return None


def _age(data: bytes, now: float) -> float | None:
    """Seconds since the message was made, by its id."""
    head = _head(data)
    with suppress(ValueError):
        if head is not None and (id_ := UUID(head.frame[2])).version == 7:
            return round(max(0.0, now - (id_.int >> 80) / 1000), 3)
    return None


def _waiting(mail: Mail, address: Address, wire: Wire | None) -> Waiting:
    """A row of a mailbox; with the payload where there is a `wire`."""
    head, ttl = _head(mail.frame), None if mail.left is None else round(mail.left, 3)
    id_, type_, sender, attempt = None, None, None, None
    if head is not None:
        id_, type_, sender, attempt = head.frame[2], head.label.type, head.label.sender, head.label.attempt
    row = Waiting(LANE_NAMES[mail.lane], mail.offset, id_, type_, sender, attempt, ttl, len(mail.frame))
    if wire is not None:
        row.problem, row.payload = _payload(mail.frame, address, wire)
    elif head is None:
        row.problem = str(no_frame(mail.frame))
    return row


def _payload(data: bytes, address: str, wire: Wire) -> tuple[str | None, Any]:
    """Why it cannot be read, or what the message says."""
    try:
        envelope, _ = wire.decode(data, at=Address(address), now=0.0)
        return None, _builtins(envelope.message)
    except UnknownMessage as error:
        return f"{error}, with --import", msgspec.UNSET
    except (CodecError, ValueError) as error:
        return text_of(error), msgspec.UNSET


def _dead_letter(partition: int, buried: Buried) -> DeadLetter:
    head = _head(buried.frame)
    return DeadLetter(
        f"{partition}/{buried.id}", _time(buried.id), buried.address, buried.reason, LANE_NAMES[buried.lane],
        None if head is None else head.label.type, len(buried.frame),
    )  # fmt: skip


def _age_first(letter: DeadLetter) -> list[int]:
    partition, *own = map(int, re.findall(r"\d+", letter.id))
    return [*own, partition]


def _time(id_: str) -> str:
    return datetime.fromtimestamp(int(id_.partition("-")[0]) / 1000, UTC).isoformat(timespec="milliseconds")


def _describe(buried: Buried, wire: Wire) -> dict[str, Any]:
    """All that there is to say of a dead letter."""
    number, _, own = buried.id.partition("/")
    letter = _dead_letter(int(number), buried._replace(id=own))
    about: dict[str, Any] = msgspec.structs.asdict(letter)
    head = _head(buried.frame)
    content = buried.frame
    if head is not None:
        (_, _, id_, correlation_id, causation_id, ttl, traceparent, _, compression, content), label = head
        about |= {
            "message_id": id_, "sender": label.sender, "reply_to": label.reply_to, "chain": list(label.chain),
            "attempt": label.attempt, "ttl": ttl, "correlation_id": correlation_id, "causation_id": causation_id,
            "traceparent": traceparent, "codec": label.codec, "compression": compression,
        }  # fmt: skip
    about["problem"], payload = _payload(buried.frame, buried.address, wire)
    if about["problem"] is None:
        return about | {"payload": payload}
    return about | {"hex": content[:SHOWN_BYTES].hex()}


# Messages ----------------------------------------------------------------------------------------------------


def _message(name: str, text: str) -> AnyMessage:
    """The message that JSON `text` says. Raises `CtlError`, which names the field."""
    try:
        kind = message_type(name)
    except UnknownMessage as error:
        raise CtlError(f"{error}, with --import MODULE") from None
    try:
        if is_protobuf(kind):
            from google.protobuf import json_format

            return json_format.Parse(text, kind())  # type: ignore[type-var]  # it is one, by its shape
        given = msgspec.json.decode(text, type=dict[str, Any])
        known: Any = getattr(kind, "__struct_encode_fields__", field_names(kind))
        for field in given.keys() - {*known, kind.__struct_config__.tag_field}:  # type: ignore[union-attr]
            raise CtlError(f"{name} has no field {field!r}; {suggest(field, known)}")
        return JSON().decoder(kind)(text.encode())
    except CtlError:
        raise
    except Exception as error:  # what a decoder or a __post_init__ raises
        raise CtlError(f"not a {name}: {text_of(error)}") from error


def _builtins(value: Any) -> Any:
    """`value` as JSON has it; what JSON has no form for as text."""
    return msgspec.json.decode(msgspec.json.encode(value, enc_hook=_plain))


def _plain(value: Any) -> Any:
    if is_protobuf(type(value)):
        from google.protobuf import json_format

        return json_format.MessageToDict(value)
    return str(value)


# Showing it --------------------------------------------------------------------------------------------------


def _show_json(document: Any) -> None:
    """One document in one line of ASCII, in which a terminal finds nothing to obey."""
    typer.echo(json.dumps(_builtins(document)))


def _table(rows: Sequence[Mapping[str, object]]) -> None:
    """Print rows, all with the same columns: with lines on a terminal, else with blanks between them."""
    if not rows:
        return
    headings, lines = list(rows[0]), [[_cell(value) for value in row.values()] for row in rows]
    if sys.stdout.isatty():
        from rich import box, get_console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading, value in rows[0].items():
            table.add_column(heading, justify="right" if isinstance(value, int) else "left", overflow="fold")
        for line in lines:
            table.add_row(*map(Text, line))
        get_console().print(table)
    else:
        widths = [max(map(len, column)) for column in zip(headings, *lines, strict=True)]
        for line in (headings, *lines):
            typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: object) -> str:
    text = "-" if value is None else escape(mask(str(value)))
    return text if len(text) <= _LONGEST_CELL else f"{text[:_LONGEST_CELL]}..."


def _duration(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if abs(seconds) >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s"


def _lines(value: Any) -> str:
    """JSON to read: indented, letters as they are."""
    text = json.dumps(_builtins(value), indent=2, ensure_ascii=False)
    return "\n".join(map(escape, text.split("\n")))


def _mailbox_row(found: Mailbox) -> dict[str, object]:
    return {
        "address": found.address, "owner": found.owner, "state": found.state, "epoch": found.epoch, **found.depths,
        "oldest": _duration(found.oldest),
    }  # fmt: skip


# The command line --------------------------------------------------------------------------------------------


class Commands(TyperGroup):
    """`--json` may also stand behind the command; all errors come out here, as one line and an exit code."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        rest = [each for each in args if each != "--json"]
        return super().parse_args(ctx, ["--json", *rest] if rest != args else rest)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CtlError as error:
            typer.echo(escape(mask(str(error))), err=True)
            if ctx.params["as_json"]:
                _show_json(error.facts)
            raise typer.Exit(error.code) from None


app = typer.Typer(
    cls=Commands, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, no_args_is_help=True
)
dead_letters = typer.Typer(rich_markup_mode=None)
app.add_typer(dead_letters, name="dead-letters")

Limit = Annotated[int, typer.Option(min=1, help="Show no more.")]
OnlyTo = Annotated[str | None, typer.Option("--address", help="Only those to this address.")]
OnlyBecause = Annotated[str | None, typer.Option("--reason", help="Only those because of this reason.")]
ToAddress = Annotated[str, typer.Argument(metavar="ADDRESS")]
Type = Annotated[str, typer.Argument(metavar="TYPE", help="The wire name of its class, such as shop.desk.Order.")]
Json = Annotated[str, typer.Argument(metavar="JSON", help="Its fields.")]
Timeout = Annotated[float, typer.Option(min=0.001, max=86_400, help="In seconds.")]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"waooaw-actors {version('waooaw-actors')}")
        raise typer.Exit


@app.callback()
def main(
    context: typer.Context,
    url: Annotated[str, typer.Option(envvar="ACTORS_URL", help="The server, as redis://, rediss:// or unix://.")],
    namespace: Annotated[str, typer.Option(help="As the nodes have it.")] = "default",
    imports: Annotated[
        list[str] | None, typer.Option("--import", metavar="MODULE", help="Defines messages; may be repeated.")
    ] = None,
    keys: Annotated[Path | None, typer.Option(metavar="FILE", help="The signing keys, where nodes have some.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document, for programs.")] = False,
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Look at the nodes, the actors and the mail of a namespace on a server, and act on them.

    Exit code: 0 done, 1 what was asked for is not there, or it failed, 2 the command line is wrong, or the server
    cannot be reached or refuses.
    """
    try:
        ROOT.child(namespace)
    except ValueError as error:
        raise CtlError(f"--namespace: {error}") from None
    for module in imports or ():
        _import(module)
    try:
        wire = Wire(keys=None if keys is None else SigningKeys.from_file(keys))
    except (OSError, ValueError) as error:
        raise CtlError(f"--keys: {error}") from None
    context.obj = Options(url, namespace, wire, as_json)


def _import(module: str) -> None:
    """Import what the operator has named; no name from the server gets here."""
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        problem = f"no module named {error.name!r}; start in the folder that holds it, or set PYTHONPATH"
        raise CtlError(f"--import {module}: {problem}") from None
    except (Exception, SystemExit) as error:
        raise CtlError(f"--import {module}: failed with {describe(error)}") from error


def _query(context: typer.Context, question: Callable[[Namespace], Awaitable[T]]) -> T:
    """What the server answers. Raises `CtlError`."""
    options: Options = context.obj

    async def connected() -> T:
        retry = Retry(NoBackoff(), 0)
        try:
            client = Redis.from_url(options.url, retry=retry, socket_timeout=10.0, socket_connect_timeout=5.0)
        except ValueError as error:
            raise CtlError(f"--url {mask(options.url)}: {error}") from None
        async with client:
            config = await config_of(client, options.namespace)
            if config is not None and config.version != VERSION:
                raise CtlError(
                    f"{options.place} has keys of version {config.version}, and this is made for version {VERSION}: "
                    "take the ctl that its nodes have"
                )
            return await question(Namespace(client, options, config))

    try:
        return run(connected)
    except AuthenticationError as error:
        raise CtlError(f"{mask(options.url)} refuses: {error}; check user and password in the URL") from None
    except ResponseError as error:
        raise CtlError(f"{mask(options.url)} refuses: {error}") from None
    except (RedisError, OSError) as error:
        raise CtlError(f"{mask(options.url)} does not answer: {error}; is it running, and is the URL right?") from None


@app.command()
def nodes(context: typer.Context) -> None:
    """The nodes, whether they are alive, and how many mailboxes each owns."""
    found = _query(context, Namespace.nodes)
    if context.obj.as_json:
        return _show_json({"nodes": found})
    if not found:
        typer.echo(f"no nodes in {context.obj.place}")
    return _table([msgspec.structs.asdict(node) | {"lease": _duration(node.lease)} for node in found])


@app.command()
def drain(context: typer.Context, node: Annotated[str, typer.Argument(help="As `nodes` lists it.")]) -> None:
    """Let a node hand over its actors and end, as SIGTERM does."""
    asked = _query(context, lambda namespace: namespace.drain(node, 10.0))
    if context.obj.as_json:
        return _show_json({"drained": asked})
    return typer.echo("\n".join(f"{each} has been asked to hand over and end" for each in asked))


@app.command()
def actors(
    context: typer.Context,
    all_: Annotated[bool, typer.Option("--all", help="Those of nodes, and empty ones of stopped actors, too.")] = False,
) -> None:
    """The actors: where they live, and how many messages wait in each lane of their mailboxes."""
    found = [
        each
        for each in _query(context, Namespace.actors)
        if all_ or not (each.address.startswith("/~") or (each.state == "stopped" and not any(each.depths.values())))
    ]
    if context.obj.as_json:
        return _show_json({"actors": found})
    if not found:
        typer.echo(f"no actors in {context.obj.place}")
    return _table([_mailbox_row(each) for each in found])


@app.command()
def mailbox(
    context: typer.Context,
    address: ToAddress,
    limit: Limit = 100,
    payload: Annotated[
        bool, typer.Option("--payload", help="What they say, too, where --import has the type.")
    ] = False,
) -> None:
    """The messages that wait in a mailbox, of each lane the first; nothing is taken out of it."""

    async def find(namespace: Namespace) -> tuple[Mailbox, list[Mail]]:
        return await namespace.mailbox(at), await namespace.waiting(at, limit)

    at = _address(address)
    found, mails = _query(context, find)
    rows = [_waiting(mail, at, context.obj.wire if payload else None) for mail in mails]
    if context.obj.as_json:
        return _show_json({**msgspec.structs.asdict(found), "messages": rows})
    _table([_mailbox_row(found) | {"capacity": found.capacity}])
    if (more := sum(found.depths.values()) - len(rows)) > 0:
        typer.echo(f"{more} more are not shown: --limit")
    return _table([_waiting_row(row) for row in rows])


def _waiting_row(row: Waiting) -> dict[str, object]:
    shown: dict[str, object] = msgspec.structs.asdict(row) | {"ttl": _duration(row.ttl)}
    problem = shown.pop("problem")
    return shown | {"payload": problem if row.payload is msgspec.UNSET else _in_a_line(row.payload)}


def _in_a_line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _address(path: str) -> Address:
    try:
        return Address(path)
    except ValueError as error:
        raise CtlError(str(error)) from None


@dead_letters.callback(invoke_without_command=True)
def dead_letters_main(context: typer.Context) -> None:
    """The messages that no handler took, or that failed: list them, look at one, requeue or purge them."""
    if context.invoked_subcommand is None:
        list_dead_letters(context)


@dead_letters.command("list")
def list_dead_letters(
    context: typer.Context, limit: Limit = 100, address: OnlyTo = None, reason: OnlyBecause = None
) -> None:
    """The oldest dead letters."""

    async def find(namespace: Namespace) -> tuple[int, list[DeadLetter]]:
        return sum(await namespace.count_dead_letters()), await namespace.dead_letters(limit, address, reason)

    total, found = _query(context, find)
    if context.obj.as_json:
        return _show_json({"dead_letters": found, "total": total})
    _table([msgspec.structs.asdict(each) for each in found])
    typer.echo(f"{len(found)} of {total} dead letters in {context.obj.place}")
    return None


@dead_letters.command("show")
def show_dead_letter(context: typer.Context, id_: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """All that is known of a dead letter; what it says as JSON where --import has its type, else its first bytes."""
    about = _describe(_query(context, lambda namespace: namespace.dead_letter(id_)), context.obj.wire)
    if context.obj.as_json:
        return _show_json(about)
    for name, value in about.items():
        if name == "payload":
            typer.echo(f"payload         {_lines(value)}")
        elif value not in (None, []):
            typer.echo(f"{name:16}{escape(str(value))}")
    return None


@dead_letters.command("requeue")
def requeue_dead_letters(context: typer.Context, ids: Annotated[list[str], typer.Argument(metavar="ID...")]) -> None:
    """Put dead letters back, each to the end of its lane, without its ttl."""
    answers = _query(context, lambda namespace: namespace.requeue(ids))
    done, not_done = ([id_ for id_, answer in answers.items() if answer is wanted] for wanted in (True, False))
    if not_done:
        problem = f"{', '.join(not_done)}: not there any more, or nobody takes mail at its address now"
        raise CtlError(f"{len(done)} requeued; {problem}", FAILED, "not requeued", requeued=done, not_requeued=not_done)
    if context.obj.as_json:
        return _show_json({"requeued": done, "not_requeued": []})
    return typer.echo(f"{len(done)} requeued")


@dead_letters.command("purge")
def purge_dead_letters(
    context: typer.Context,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID...]", show_default=False)] = None,
    address: OnlyTo = None,
    reason: OnlyBecause = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask first.")] = False,
) -> None:
    """Throw dead letters away: those that are named, or all of these that are there now. A terminal is asked first."""
    if ids and (address or reason):
        raise CtlError("either ids, or --address and --reason")
    if not ids:
        found = _query(context, lambda namespace: namespace.dead_letters(None, address, reason))
        ids = [letter.id for letter in found]
        if ids and not yes and sys.stdin.isatty():
            typer.confirm(f"Throw {len(ids)} dead letters of {context.obj.place} away?", abort=True, err=True)
    named = ids
    count = _query(context, lambda namespace: namespace.purge(named))
    return _show_json({"purged": count}) if context.obj.as_json else typer.echo(f"{count} purged")


@app.command()
def tell(context: typer.Context, address: ToAddress, type_: Type, text: Json = "{}", timeout: Timeout = 10.0) -> None:
    """Send a message, and return when its mailbox has accepted it; `--timeout` is for that."""
    at, message = _address(address), _message(type_, text)
    _query(context, lambda namespace: namespace.send(at, message, timeout, ask=False))
    if context.obj.as_json:
        return _show_json({"accepted": True, "address": at, "type": wire_name(type(message))})
    return typer.echo(f"{at} has accepted it")


@app.command()
def ask(context: typer.Context, address: ToAddress, type_: Type, text: Json = "{}", timeout: Timeout = 30.0) -> None:
    """Send a message, wait for the reply and print it as JSON."""
    at, message = _address(address), _message(type_, text)
    reply = _query(context, lambda namespace: namespace.send(at, message, timeout, ask=True))
    return _show_json({"reply": reply}) if context.obj.as_json else typer.echo(_lines(reply))


if __name__ == "__main__":
    set_up_logs("warning", "auto", sys.stderr, system="ctl")
    app(prog_name="python -m actors.ctl")
