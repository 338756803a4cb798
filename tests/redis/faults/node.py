"""A process that hosts actors, or sends to them, or both, until SIGTERM: python -m tests.redis.faults.node PLAN."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any, Final

import anyio
import msgspec

from actors import (
    Actor,
    ActorSystem,
    AskTimeout,
    DeliveryError,
    DeliveryUnknown,
    HandlerFailed,
    Message,
    Priority,
    TransportLost,
    handles,
    run,
)
from actors.supervision import Placement
from tests.redis.faults.history import History, Kind
from transport.keys import Keys
from transport.redis.transport import RedisTransport
from transport.wire import Wire

KEY: Final = ("faults", bytes(range(32)))
PARTITIONS: Final = 8
GRACE: Final = 0.5
DRAIN: Final = 1.0  # seconds that a system or an actor has for what it is doing when it is to end
ANSWER: Final = 30.0


class Plan(msgspec.Struct):
    """What a process is to do, in JSON its only argument."""

    url: str
    folder: str
    name: str
    hosts: list[str] = []
    targets: list[str] = []
    """Where it sends to, in two lanes each."""
    rate: float = 0.0
    """Messages a second, of all streams together."""
    busy: float = 0.0
    """Mean of the seconds that each takes to be handled."""
    lease: float = 10.0
    patience: float = 30.0


class Work(Message[int], wire_name="tests.redis.faults.Work"):
    """A message with a name, and with what its handler is to do; it is answered with its number."""

    stream: str
    number: int
    gate: str = ""
    """A file: the handler waits until it is there."""
    blocks: bool = False
    """It does so without letting the event loop run."""
    busy: float = 0.0
    """Seconds that it takes."""
    fails: bool = False
    kills: bool = False
    """It takes the process with it."""
    pad: str = ""


class Worker(Actor):
    """Records what it handles."""

    _lives = count(1)

    def __init__(self, history: History) -> None:
        self._history = history
        self._life = next(self._lives)

    async def on_start(self) -> None:
        self._history.add("begin", self.ref.address, life=self._life)

    @handles(Work, attempts=3)
    async def work(self, message: Work) -> int:
        self._add("start", message)
        if message.gate:
            gate = Path(message.gate)
            while not gate.exists():  # noqa: ASYNC240  # 5 µs
                if message.blocks:
                    time.sleep(0.01)  # noqa: ASYNC251  # that is what it is for
                else:
                    await anyio.sleep(0.01)
        if message.busy:
            await anyio.sleep(message.busy)
        if message.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        if message.fails:
            raise ValueError(message.number)
        self._add("end", message)
        return message.number

    def _add(self, kind: Kind, message: Work) -> None:
        attempt = self.envelope.attempt
        self._history.add(kind, self.ref.address, message.stream, message.number, attempt=attempt, life=self._life)


class Stream:
    """One sender's messages to one address in one lane; what became of each is recorded."""

    def __init__(
        self, system: ActorSystem, history: History, address: str, priority: Priority = Priority.NORMAL
    ) -> None:
        self.name = f"{history.process}>{address}:{priority.name}"
        self._ref, self._history, self._priority = system.ref(address), history, priority
        self._numbers = count()

    async def tell(self, *, ask: bool = False, **what: Any) -> Kind:
        """Send the next one, a `Work`; with `ask` wait for the answer. Says what came of it, as it is recorded."""
        number, address = next(self._numbers), self._ref.address
        message = Work(self.name, number, **what)
        outcome: Kind = "ok"
        detail = ""
        self._history.add("invoke", address, self.name, number)
        try:
            if ask:
                answer = await self._ref.ask(message, priority=self._priority, timeout=ANSWER)
                assert answer == number, f"{number} is answered with {answer}"
            else:
                await self._ref.tell(message, priority=self._priority)
        except HandlerFailed as error:
            detail = str(error)  # accepted all the same
        except (DeliveryUnknown, AskTimeout) as error:
            outcome, detail = "unknown", str(error)
        except DeliveryError as error:
            outcome, detail = "fail", f"{type(error).__name__}: {error}"
        self._history.add(outcome, address, self.name, number, detail=detail)
        return outcome


def wire() -> Wire:
    """Frames are signed: what is forged is found out."""
    return Wire(keys=Keys(KEY))


def transport(url: str, name: str, *, lease: float = 10.0, patience: float = 30.0) -> RedisTransport:
    return RedisTransport(
        url, namespace="faults", wire=wire(), node=name, partitions=PARTITIONS,
        lease=lease, beat=lease / 5, grace=GRACE, patience=patience,
    )  # fmt: skip


async def main(plan: Plan) -> None:
    history = History(Path(plan.folder), plan.name)
    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        while True:
            try:
                system = ActorSystem(
                    plan.name,
                    transport=transport(plan.url, plan.name, lease=plan.lease, patience=plan.patience),
                    intensity=1000,
                    drain=DRAIN,
                )
                async with system:
                    for address in plan.hosts:
                        await system.spawn(
                            Worker, history, name=address[1:], placement=Placement.ANYWHERE, shutdown=DRAIN
                        )
                    await _send(system, history, plan, signals)
                return
            except TransportLost:
                await anyio.sleep(0.1)  # the server is down just now


async def _send(system: ActorSystem, history: History, plan: Plan, signals: AsyncIterator[int]) -> None:
    """Send at the planned rate until SIGTERM; what is on its way then is waited for."""
    streams = [
        Stream(system, history, address, priority)
        for address in plan.targets
        for priority in (Priority.HIGH, Priority.NORMAL)
    ]
    told = anyio.Event()

    async def sending(stream: Stream) -> None:
        while not told.is_set():
            await stream.tell(ask=random.random() < 0.1, busy=random.expovariate(1 / plan.busy) if plan.busy else 0.0)
            with anyio.move_on_after(random.expovariate(plan.rate / len(streams))):
                await told.wait()

    async with anyio.create_task_group() as tasks:
        for stream in streams:
            tasks.start_soon(sending, stream)
        async for _ in signals:
            break
        told.set()


if __name__ == "__main__":
    run(main, msgspec.json.decode(sys.argv[1], type=Plan))
