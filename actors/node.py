"""`python -m actors.node node.toml`: one process of a system, from its file to its exit code.

The composition root: it may import everything, and nothing imports it. Its manual is `docs/operations.md`.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import anyio
import msgspec
import structlog
import typer
from anyio.abc import TaskStatus

from actors.config import (
    REDIS_URL,
    Child,
    Level,
    Node,
    NodeTable,
    PoolTable,
    RedisTable,
    SupervisorTable,
    Transports,
    WireTable,
    WorkerTable,
    load,
)
from actors.errors import RestartIntensityExceeded, SpawnError
from actors.events import Event, describe
from actors.logs import escape, set_up_logs
from actors.system import ActorSystem, run
from actors.toml import ConfigError
from transport.base import Transport
from transport.codec import JSON, MessagePack
from transport.compression import compression
from transport.errors import CodecError, TransportLost, mask
from transport.keys import Keys
from transport.memory import MemoryTransport
from transport.wire import Limits, Wire

FINISHED: Final = 0
FAILED: Final = 1
BAD_CONFIG: Final = 2
HUNG: Final = 137  # what a shell says of a process that had to be killed: 128 + SIGKILL
GRACE: Final = 2.0
"""Seconds from the deadline, when the actors are killed, to the end of the process, whatever hangs."""

# Transports by the scheme of their URL -----------------------------------------------------------------------


def _memory(table: NodeTable) -> Transport:
    if table.transport != "memory://":
        raise ConfigError("memory:// takes nothing more", "transport")
    for name in ("redis", "wire"):
        if getattr(table, name) is not None:
            raise ConfigError("has no effect with memory://, which brings messages to no other process", name)
    return MemoryTransport()


def _redis(table: NodeTable, *, allow_unsafe: bool = False) -> Transport:
    try:
        from transport.redis.check import CheckedTransport, Guarantee
    except ImportError:
        raise ConfigError("redis:// needs an extra: pip install 'waooaw-actors[redis]'", "transport") from None
    log, redis, wire = structlog.get_logger(), table.redis or RedisTable(), _wire(table.wire or WireTable())

    def waits(error: TransportLost, pause: float) -> None:
        log.warning("node waits for its server", error=str(error), again_in=pause)

    def found(guarantee: Guarantee) -> None:
        facts = {"server": guarantee.server, "guarantee": guarantee.kind, "lacks": guarantee.lacks}
        if guarantee.kind == "unsafe":
            log.warning("node may lose messages, as its server is unsafe", **facts)
        else:
            log.info("node found its server", **facts)

    try:
        return CheckedTransport(
            table.transport, least="unsafe" if allow_unsafe else redis.guarantee, waits=waits, found=found, wire=wire,
            namespace=redis.namespace or table.namespace, node=table.node, partitions=redis.partitions,
            lease=redis.lease, beat=redis.beat, grace=redis.grace, patience=redis.patience,
            settle=redis.settle, replicas=int(redis.guarantee == "replicated" and not allow_unsafe),
            drained=lambda: signal.raise_signal(signal.SIGTERM),
        )  # fmt: skip
    except ValueError as error:
        whose = f"{REDIS_URL}, which is set, is " if os.environ.get(REDIS_URL) else ""
        raise ConfigError(f"{whose}{error}", "transport") from None


def _wire(table: WireTable) -> Wire:
    if table.keys_file is not None and table.keys_env is not None:
        raise ConfigError("has no effect beside keys_file; keep one of them", "wire", "keys_env")
    keys, source = None, "keys_file" if table.keys_env is None else "keys_env"
    try:
        if table.keys_file is not None:
            keys = Keys.from_file(table.keys_file)
        elif table.keys_env is not None:
            keys = Keys.from_env(table.keys_env)
    except (OSError, ValueError) as error:
        problem = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
        raise ConfigError(problem, "wire", source) from None
    try:
        packed_by = None if table.compression == "none" else compression(table.compression)
    except CodecError as error:
        raise ConfigError(str(error), "wire", "compression") from None
    return Wire(
        JSON() if table.codec == "json" else MessagePack(), compression=packed_by, threshold=table.threshold,
        limits=Limits(table.frame, table.header), keys=keys,
    )  # fmt: skip


TRANSPORTS: Final[Transports] = {"memory": _memory, "redis": _redis, "rediss": _redis}

# Running -----------------------------------------------------------------------------------------------------


async def serve(node: Node) -> int:
    """Run until all actors have finished, a signal says stop, or the node fails. Returns the exit code."""
    table, log = node.table, structlog.get_logger()
    system = ActorSystem(
        table.node, transport=node.transport, capacity=table.capacity, overflow=table.overflow,
        intensity=table.intensity, period=table.period, drain=table.drain,
    )  # fmt: skip
    if table.log.level is Level.DEBUG:  # the system logs the other events itself
        system.subscribe(Event, lambda event: event.log() if event.level == "debug" else None)
    code, reason = FINISHED, "finished"
    opening, running = anyio.CancelScope(), anyio.CancelScope()
    to_cancel = [opening]  # by a signal, the last of them: what has opened is closed in order
    async with anyio.create_task_group() as beside:
        await beside.start(_obey_signals, system, to_cancel, table.shutdown)
        try:
            with opening:
                async with system:
                    to_cancel.append(running)
                    with running:
                        for child in node.children:
                            await system.start(child.spec)
                        log.info("node ready", namespace=table.namespace, pid=os.getpid(), actors=len(system.cells))
                        await system.finished()
            if any(scope.cancel_called for scope in to_cancel):
                reason = "asked to stop"
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:  # also an actor's SystemExit: whoever reads the log is the last to act on it
            # Lasting is what no waiting mends, only another setting; TransportLost itself knows of nothing so final.
            code, reason = BAD_CONFIG if isinstance(error, TransportLost) and error.lasting else FAILED, "failed"
            known = isinstance(error, RestartIntensityExceeded | SpawnError | TransportLost)
            log.critical("node failed", error=describe(error), cause=describe(error.__cause__), exc_info=not known)
        beside.cancel_scope.cancel()
    log.info("node stopped", reason=reason, exit_code=code, dead_letters=dict(system.dead_letters))
    return code


async def _obey_signals(
    system: ActorSystem, to_cancel: Sequence[anyio.CancelScope], shutdown: float, *, task_status: TaskStatus[None]
) -> None:
    """At the first SIGINT or SIGTERM stop in order, within `shutdown` seconds; die of the second."""
    log = structlog.get_logger()
    async with anyio.create_task_group() as deadline:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for number in signals:
                left = {"actors": len(system.cells), "waiting": sum(len(c.mailbox) for c in system.cells.values())}
                if any(scope.cancel_called for scope in to_cancel):
                    log.critical("node killed", signal=number.name, **left)
                    signal.signal(number, signal.SIG_DFL)
                    signal.raise_signal(number)
                log.info("node stopping, a second signal kills it", signal=number.name, shutdown=shutdown, **left)
                to_cancel[-1].cancel()
                deadline.start_soon(_kill_after, shutdown, system)
                _end_process_after(shutdown + GRACE)


async def _kill_after(seconds: float, system: ActorSystem) -> None:
    """Kill the actors that are left then."""
    await anyio.sleep(seconds)
    structlog.get_logger().error("node did not stop in time, killing", shutdown=seconds, actors=sorted(system.cells))
    for address in list(system.cells):
        system.kill(address)


def _end_process_after(seconds: float) -> None:
    """End the process then, and say on stderr where it hangs: no task can, where a handler blocks the event loop."""

    def end() -> None:
        try:
            faulthandler.dump_traceback()
        finally:
            os._exit(HUNG)

    last_resort = threading.Timer(seconds, end)
    last_resort.daemon = True
    last_resort.start()


# The command line --------------------------------------------------------------------------------------------


def show(node: Node) -> None:
    """Print the tree: with colours on a terminal, else plain."""
    table = node.table
    head = f"node {table.node} in {table.namespace}, by {escape(mask(table.transport))}"
    if sys.stdout.isatty():
        from rich import get_console, markup
        from rich.tree import Tree

        trees = [Tree(markup.escape(head))]
        for child in node.children:
            for depth, each in child.walk():
                del trees[depth + 1 :]
                name, kind, options = _line(each)
                trees.append(trees[depth].add(f"[bold]{name}[/]  {kind}  [dim]{options}[/]", highlight=False))
        get_console().print(trees[0])
    else:
        typer.echo(head)
        for child in node.children:
            for depth, each in child.walk(1):
                typer.echo("  " * depth + "  ".join(part for part in _line(each) if part))


def _line(child: Child) -> tuple[str, str, str]:
    """The name of a child, what it is, and what it has that is not the default. Arguments may be secrets."""
    table = child.table
    options: dict[str, Any] = msgspec.to_builtins(table)
    for shown in ("name", "actor", "args", "kwargs", "size", "children"):
        options.pop(shown, None)
    match table:
        case PoolTable():
            kind = f"{table.size} x {table.actor}"
        case WorkerTable():
            kind = table.actor
        case SupervisorTable():
            kind = "supervisor"
    return table.name, kind, _inline(options)


def _inline(table: dict[str, Any]) -> str:
    return ", ".join(
        f"{key} = {{{_inline(value)}}}" if isinstance(value, dict) else f"{key} = {value}"
        for key, value in table.items()
    )


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"waooaw-actors {version('waooaw-actors')}")
        raise typer.Exit


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def main(
    file: Annotated[Path, typer.Argument(help="The node's TOML file.", metavar="NODE.TOML")],
    check: Annotated[bool, typer.Option("--check", help="Check the file, print the tree and start nothing.")] = False,
    allow_unsafe: Annotated[
        bool, typer.Option("--allow-unsafe", help="Start also where the server may lose messages at any time.")
    ] = False,
    log_level: Annotated[Level | None, typer.Option(help="Instead of the level in the file.")] = None,
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Run the actors that NODE.TOML describes until they have finished, or SIGINT or SIGTERM comes.

    Exit code: 0 finished or asked to stop, 1 failed, 2 the file, the command line or the server is
    not what it must be.
    """
    try:
        redis = partial(_redis, allow_unsafe=allow_unsafe)
        node = load(file, {**TRANSPORTS, "redis": redis, "rediss": redis})
    except ConfigError as error:
        typer.echo(escape(mask(str(error))), err=True)
        raise typer.Exit(BAD_CONFIG) from None
    if check:
        show(node)
        return
    log = node.table.log
    if log_level is not None:
        log = msgspec.structs.replace(log, level=log_level)
        node = node._replace(table=msgspec.structs.replace(node.table, log=log))
    set_up_logs(log.level, log.format, sys.stderr, system=node.table.node)
    raise typer.Exit(run(serve, node))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the node listens, Ctrl-C ends it without a traceback
    app(prog_name="python -m actors.node")
