"""What a node's file may say, and the recipes made of it."""

from __future__ import annotations

import enum
import importlib
import inspect
import os
import socket
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from actors.actor import Actor, Terminated
from actors.events import describe
from actors.pool import Routing, consistent_hash, least_loaded, pool_of, round_robin
from actors.supervision import AutoShutdown, Backoff, Placement, Restart, Strategy
from actors.supervisor import ChildSpec, Supervisor
from actors.toml import ConfigError, Table, convert, parse, read, suggest
from transport.address import ROOT, Address
from transport.base import Transport
from transport.mailbox import Overflow
from transport.message import field_names
from transport.wire import Limits

REDIS_URL: Final = "ACTORS_REDIS_URL"
"""The environment variable with the URL, in place of the file's, of a node whose file says redis:// or rediss://."""

# What may stand in the file ----------------------------------------------------------------------------------

Seconds = Annotated[float, Meta(ge=0)]
Deadline = Annotated[float, Meta(ge=0, le=86_400)]
Period = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
Intensity = Annotated[int, Meta(ge=0)]
Tables = Annotated[list[dict[str, Any]], Meta(min_length=1)]


class Level(enum.StrEnum):
    """Log lines are written from this level on."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


class LogTable(Table, frozen=True, kw_only=True):
    """``[log]``. The `format` "auto" is "console" on a terminal and "json" elsewhere."""

    level: Level = Level.INFO
    format: Literal["auto", "console", "json"] = "auto"


class RedisTable(Table, frozen=True, kw_only=True):
    """``[redis]``, as `RedisTransport` has it; a `namespace` of None is the node's. `guarantee`: the least accepted."""

    namespace: str | None = None
    partitions: Annotated[int, Meta(ge=1, le=4096)] = 64
    lease: Annotated[float, Meta(ge=1, le=3600)] = 10.0
    beat: Period = 2.5
    grace: Deadline = 2.0
    patience: Deadline = 30.0
    settle: Deadline = 1.0
    guarantee: Literal["fast", "durable", "replicated"] = "fast"

    def __post_init__(self) -> None:
        if self.beat > self.lease / 2:
            raise ValueError(f"beat is {self.beat}: at most half the lease of {self.lease}, or one lost beat ends it")


class WireTable(Table, frozen=True, kw_only=True):
    """``[wire]``, as `Wire` has it. Sizes in bytes. `keys_file` or `keys_env` is where the keys for signatures are."""

    codec: Literal["msgpack", "json"] = "msgpack"
    compression: Literal["none", "gzip", "zstd", "lz4"] = "none"
    threshold: Annotated[int, Meta(ge=0)] = 1024
    frame: Count = Limits().frame
    header: Count = Limits().header
    keys_file: str | None = None
    keys_env: str | None = None


class BackoffTable(Backoff, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """``backoff = {initial = 0.1, cap = 10.0}``"""


class ChildTable(Table, frozen=True, kw_only=True):
    """What every child has; None is what `ChildSpec` makes of it. `placement` is for those below the root alone."""

    name: str
    restart: Restart = Restart.PERMANENT
    backoff: BackoffTable | None = None
    shutdown: Seconds | None = None
    placement: Placement | None = None


class WorkerTable(ChildTable, frozen=True, kw_only=True):
    """What actors have, alone or in a pool. `actor` is ``module:Class``."""

    actor: str
    args: list[Any] = msgspec.field(default_factory=list)
    kwargs: dict[str, Any] = msgspec.field(default_factory=dict)
    capacity: Count | None = None
    overflow: Overflow | None = None
    ageing: Count | None = None
    durable: bool = True


class ActorTable(WorkerTable, frozen=True, kw_only=True):
    """One actor: a child with neither `size` nor `children`."""

    note: ClassVar[str] = "with size a child is a pool, with children a supervisor"

    significant: bool = False


class PoolTable(WorkerTable, frozen=True, kw_only=True):
    """A pool: a child with `size`. `key` is the field of the messages that "consistent_hash" goes by."""

    size: Count
    routing: Literal["round_robin", "least_loaded", "consistent_hash"] = "round_robin"
    key: str | None = None
    intensity: Intensity | None = None
    period: Period | None = None


class SupervisorTable(ChildTable, frozen=True, kw_only=True):
    """A supervisor: a child with `children`."""

    restart: Restart = Restart.TRANSIENT
    strategy: Strategy = Strategy.ONE_FOR_ONE
    intensity: Intensity = 3
    period: Period = 5.0
    auto_shutdown: AutoShutdown = "never"
    significant: bool = False
    children: Tables


class NodeTable(Table, frozen=True, kw_only=True):
    """The whole file. `intensity`, `period` and `children` are those of the root supervisor."""

    namespace: str = "default"
    node: str = msgspec.field(default_factory=socket.gethostname)
    transport: str = "memory://"
    imports: list[str] = msgspec.field(default_factory=list)
    log: LogTable = LogTable()
    redis: RedisTable | None = None
    wire: WireTable | None = None
    drain: Deadline = 5.0
    shutdown: Deadline = 25.0
    capacity: Count = 10_000
    overflow: Overflow = Overflow.BLOCK
    intensity: Intensity = 3
    period: Period = 5.0
    children: Tables


# What is made of it ------------------------------------------------------------------------------------------


class Child(NamedTuple):
    """A child as it stands in the file, the recipe made of it, and the children below it."""

    address: Address
    table: ChildTable
    spec: ChildSpec[Any]
    children: Sequence[Child] = ()

    def walk(self, depth: int = 0) -> Iterator[tuple[int, Child]]:
        """This child and all below it in start order, each with its depth."""
        yield depth, self
        for child in self.children:
            yield from child.walk(depth + 1)


class Node(NamedTuple):
    """All that a node needs to run."""

    table: NodeTable
    transport: Transport
    children: Sequence[Child]


Transports = Mapping[str, Callable[[NodeTable], Transport]]
"""Makes a transport, without connecting it, by the scheme of its URL. Raises `ConfigError`."""


def load(path: Path, transports: Transports) -> Node:
    """Read and check a node's file, import what it names, make its recipes. Starts and connects nothing.

    Raises `ConfigError`.
    """
    text = ""
    try:
        text = read(path)
        table = convert(parse(text), NodeTable)
        table = msgspec.structs.replace(table, transport=_url(table.transport))
        for key in ("namespace", "node"):
            _address(ROOT, getattr(table, key), key)
        if table.redis is not None and table.redis.namespace is not None:
            _address(ROOT, table.redis.namespace, "redis", "namespace")
        transport = _transport(table, transports)
        for number, module in enumerate(table.imports):
            _import(module, "imports", number)
        return Node(table, transport, _children(table.children, ROOT, "never", "children"))
    except ConfigError as error:
        error.found_in(path, text)
        raise


def _url(given: str) -> str:
    """The URL of the transport: in its place that of the environment, as passwords need not stand in files."""
    kinds = ("redis://", "rediss://")
    url = os.environ.get(REDIS_URL) if given.startswith(kinds) else None
    if url and not url.startswith(kinds):
        raise ConfigError(f"{REDIS_URL}, which is set, has no URL that begins with {' or '.join(kinds)}", "transport")
    return url or given


def _transport(table: NodeTable, transports: Transports) -> Transport:
    scheme, separator, _ = table.transport.partition("://")
    known = " or ".join(f"{each}://" for each in transports)
    if not separator:  # what it is may hold a password, so it is not shown
        raise ConfigError(f"not a URL; it begins with {known}", "transport")
    if scheme not in transports:
        raise ConfigError(f"there is no transport for {scheme}://; the URL begins with {known}", "transport")
    return transports[scheme](table)


def _children(tables: list[dict[str, Any]], parent: Address, auto_shutdown: str, *keys: str | int) -> list[Child]:
    children: dict[str, Child] = {}
    for number, each in enumerate(tables):
        where = (*keys, number)
        kind = SupervisorTable if "children" in each else PoolTable if "size" in each else ActorTable
        table: ChildTable = convert(each, kind, *where)
        address = _address(parent, table.name, *where, "name")
        if table.name in children:
            raise ConfigError(f"{address} is the address of another child; choose another name", *where, "name")
        if getattr(table, "significant", False) and auto_shutdown == "never":
            raise ConfigError('has no effect while auto_shutdown of its supervisor is "never"', *where, "significant")
        if table.placement is not None and parent != ROOT:
            raise ConfigError(
                f"{address} lives where {parent} does; only children of the root have one", *where, "placement"
            )
        children[table.name] = _child(table, address, *where)
    return list(children.values())


def _child(table: ChildTable, address: Address, *keys: str | int) -> Child:
    options: dict[str, Any] = {option: getattr(table, option) for option in ("name", "restart", "backoff", "shutdown")}
    options["placement"] = table.placement or (Placement.ANYWHERE if address.parent == ROOT else Placement.HERE)
    below: Sequence[Child] = ()
    try:
        match table:
            case SupervisorTable():
                below = _children(table.children, address, table.auto_shutdown, *keys, "children")
                spec: ChildSpec[Any] = ChildSpec(
                    Supervisor, *(child.spec for child in below), strategy=table.strategy, intensity=table.intensity,
                    period=table.period, auto_shutdown=table.auto_shutdown, significant=table.significant, **options,
                )  # fmt: skip
            case WorkerTable():
                actor = _actor(table.actor, *keys, "actor")
                arguments = _arguments(actor, table, *keys)
                options |= {"capacity": table.capacity, "overflow": table.overflow, "ageing": table.ageing}
                options["durable"] = table.durable
                if isinstance(table, PoolTable):
                    options |= {"size": table.size, "intensity": table.intensity, "period": table.period}
                    routing = _routing(actor, table, *keys)
                    spec = pool_of(actor, *arguments.args, routing=routing, **options, **arguments.kwargs)
                else:
                    options["significant"] = getattr(table, "significant", False)
                    spec = ChildSpec(actor, *arguments.args, **options, **arguments.kwargs)
    except (TypeError, ValueError) as error:
        raise ConfigError(str(error), *keys) from None
    return Child(address, table, spec, below)


def _address(parent: Address, name: str, *keys: str | int) -> Address:
    try:
        return parent.child(name)
    except ValueError as error:
        raise ConfigError(str(error), *keys) from None


def _routing(actor: type[Actor], table: PoolTable, *keys: str | int) -> Routing:
    if table.routing != "consistent_hash":
        if table.key is not None:
            raise ConfigError('has no effect without routing = "consistent_hash"', *keys, "key")
        return {"round_robin": round_robin, "least_loaded": least_loaded}[table.routing]
    if table.key is None:
        raise ConfigError("needs a key: the name of a field that all messages of the pool have", *keys, "routing")
    for message in actor.__handlers__.keys() - {Terminated}:
        if table.key not in (fields := field_names(message)):
            problem = f"{message.__name__}, which {actor.__name__} handles, has no field {table.key!r}"
            raise ConfigError(f"{problem}; {suggest(table.key, fields)}", *keys, "key")
    return consistent_hash(attrgetter(table.key))


# Modules and classes -----------------------------------------------------------------------------------------


def _import(name: str, *keys: str | int) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(f"{name!r} is not the name of a module, such as shop.desk", *keys)
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            problem = f"no module named {error.name!r}; start in the folder that holds it, or set PYTHONPATH"
            raise ConfigError(problem, *keys) from None
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
        place = f" ({frames[-1].filename}:{frames[-1].lineno})" if len(frames) > 1 else ""
        problem = " ".join(str(describe(error)).split())
        raise ConfigError(f"importing {name} failed with {problem}{place}", *keys) from error


def _actor(path: str, *keys: str | int) -> type[Actor]:
    module_name, colon, name = path.partition(":")
    if not colon or not name:
        raise ConfigError(f"{path!r} is not module:Class, such as shop.desk:Desk", *keys)
    module = _import(module_name, *keys)
    try:
        found = attrgetter(name)(module)
    except AttributeError:
        actors = [key for key, value in vars(module).items() if isinstance(value, type) and issubclass(value, Actor)]
        raise ConfigError(f"{module_name} has no {name!r}; {suggest(name, actors)}", *keys) from None
    if not (isinstance(found, type) and issubclass(found, Actor)):
        raise ConfigError(f"{path} is not a class derived from Actor", *keys)
    return found


def _arguments(actor: type[Actor], table: WorkerTable, *keys: str | int) -> inspect.BoundArguments:
    """What `actor` is built with: by position as far as possible, so that it cannot clash with options."""
    signature = inspect.signature(actor)
    try:
        bound = signature.bind(*table.args, **table.kwargs)
    except TypeError as error:
        given = "kwargs" if table.kwargs else "args" if table.args else "actor"
        bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
        problem = f"{actor.__name__}{inspect.Signature(bare)} does not take these arguments: {error}"
        raise ConfigError(problem, *keys, given) from None
    for name in bound.kwargs.keys() & {*table.__struct_fields__, "routing"}:
        raise ConfigError(
            f"every child has an option {name}; {actor.__name__} must take it by position too", *keys, "kwargs", name
        )
    return bound
