"""Does everything to processes, server and network that they may do: `python -m tests.redis.soak`.

Three processes host actors, two send to them, one of each through a proxy. At the end all is healed and drained, and
what was recorded is judged. Ends with 1 where a promise was broken; the histories are kept then.
"""

from __future__ import annotations

import random
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM
from typing import Annotated, Any, Final

import anyio
import msgspec
import redis
import redis.asyncio
import typer
from rich.console import Console
from rich.table import Table

from actors import ActorSystem
from tests.redis.faults.history import Fault, History, judge, percentile, recoveries
from tests.redis.faults.node import Stream
from tests.redis.faults.proxy import Cut, Proxy
from tests.redis.faults.world import World, until
from transport.redis.lease import STUCK
from transport.redis.store import Post

ADDRESSES: Final = [f"/actor-{number}" for number in range(12)]
HOSTS: Final = 3
SENDERS: Final = 2
LEASE: Final = 3.0
BUSY: Final = 0.02  # seconds that a message takes, on average
PAUSE: Final = 1.0, 5.0  # seconds between two faults of the same nemesis
DRAIN: Final = 180.0
ENDS: Final = 45.0  # seconds within which a process has to end when it is asked to; an ask may last 30

Action = Callable[[], Awaitable[None]]


class Crew:
    """The processes: each has a place, and gets a new name whenever it is started again."""

    def __init__(self, world: World, urls: list[str], rate: float) -> None:
        self._world, self._urls, self._rate = world, urls, rate
        self._made: Counter[str] = Counter()
        self.names: dict[str, str] = {}
        self.failed: list[str] = []
        self.hosts = [f"host{number}" for number in range(HOSTS)]
        self.senders = [f"sender{number}" for number in range(SENDERS)]

    def start(self, place: str) -> None:
        """Start, or start again, what runs at this place."""
        self._made[place] += 1
        name = self.names[place] = f"{place}-{self._made[place]}"
        url = self._urls[0 if place.endswith("0") else 1]
        if place in self.hosts:
            self._world.start(name, ADDRESSES, url=url, lease=LEASE)
        else:
            self._world.start(name, targets=ADDRESSES, url=url, rate=self._rate / SENDERS, busy=BUSY, lease=LEASE)

    async def end(self, place: str) -> None:
        """With SIGTERM; if need be with SIGKILL, which is on record then."""
        name = self.names[place]
        self._world.fault(name, SIGTERM)
        try:
            if code := await self._world.ended(name, ENDS):
                self.failed.append(f"{name} ended with {code}")
        except AssertionError:
            self.failed.append(f"{name} did not end within {ENDS} s")
            self._world.fault(name, SIGKILL)
            await self._world.ended(name)

    def place_of(self, address: str) -> str | None:
        """Where the actor lives, as far as is known."""
        owner = self._world.owner(address)
        return next((place for place, name in self.names.items() if name == owner), None)


class Processes:
    """What processes do, and what is done to them."""

    def __init__(self, world: World, crew: Crew, dice: random.Random, system: ActorSystem, history: History) -> None:
        self._world, self._crew, self._dice = world, crew, dice
        self._poisoner = History(world.folder, "poisoner")
        self._poisons = {address: Stream(system, self._poisoner, address) for address in ADDRESSES}
        self._streams = {address: Stream(system, history, address) for address in ADDRESSES}
        self._garbage = 0
        self.actions: list[Action] = [
            self.kill, self.kill, self.kill_sender, self.terminate, self.pause, self.block, self.poison, self.garbage,
        ]  # fmt: skip

    def _victim(self) -> str:
        """A host; mostly one that has something to lose."""
        place = self._crew.place_of(self._dice.choice(ADDRESSES))
        return place if place and self._dice.random() < 0.8 else self._dice.choice(self._crew.hosts)

    async def kill(self) -> None:
        await self._kill(self._victim())

    async def kill_sender(self) -> None:
        await self._kill(self._dice.choice(self._crew.senders))

    async def _kill(self, place: str) -> None:
        self._world.fault(self._crew.names[place], SIGKILL)
        await self._world.ended(self._crew.names[place])
        await anyio.sleep(self._dice.uniform(0, 1.5 * LEASE))
        self._crew.start(place)

    async def terminate(self) -> None:
        place = self._victim()
        await self._crew.end(place)
        self._crew.start(place)

    async def pause(self) -> None:
        name = self._crew.names[self._victim()]
        self._world.fault(name, SIGSTOP)
        await anyio.sleep(self._dice.uniform(0.1, 3 * LEASE))
        self._world.fault(name, SIGCONT)

    async def block(self) -> None:
        address, gate = self._dice.choice(ADDRESSES), self._world.gate()
        await self._streams[address].tell(gate=str(gate), blocks=True)
        with suppress(AssertionError):  # nobody comes to it just now
            await until(lambda: self._world.running(address), "it blocks", 2 * LEASE)
            self._world.faults.append(Fault(time.monotonic(), "stuck", self._world.owner(address)))
            await anyio.sleep(self._dice.uniform(0.1, STUCK + 2 * LEASE))
        gate.touch()

    async def poison(self) -> None:
        await self._poisons[self._dice.choice(ADDRESSES)].tell(fails=True)

    async def garbage(self) -> None:
        """Another program writes into a mailbox."""
        address, self._garbage = self._dice.choice(ADDRESSES), self._garbage + 1
        post = Post(address, self._dice.randint(0, 4), self._garbage, self._dice.randbytes(self._dice.randrange(300)))
        async with redis.asyncio.Redis.from_url(self._world.url) as client:
            with suppress(redis.RedisError, OSError):  # the server is down just now
                await self._world.store(client, address).send("forger", [post])


class Network:
    """What the server does, and the way to it."""

    def __init__(self, world: World, proxy: Proxy, dice: random.Random) -> None:
        self._world, self._proxy, self._dice = world, proxy, dice
        self.actions: list[Action] = [
            self.kill_server, self.flush_scripts, self.kill_clients, self.drop, self.cut, self.cut, self.deaf,
            self.slow, self.full,
        ]  # fmt: skip

    def _fault(self, kind: str) -> None:
        self._world.faults.append(Fault(time.monotonic(), kind))

    async def kill_server(self) -> None:
        self._fault("server killed")
        self._world.kill_server()
        await anyio.sleep(self._dice.choice((0.0, self._dice.uniform(0, LEASE / 2), self._dice.uniform(0, 2 * LEASE))))
        await anyio.to_thread.run_sync(self._world.start_server)

    async def flush_scripts(self) -> None:
        self._fault("scripts flushed")
        self._world.client.script_flush()

    async def kill_clients(self) -> None:
        self._fault("clients killed")
        self._world.client.execute_command("CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "YES")

    async def drop(self) -> None:
        self._fault("proxy drops")
        self._proxy.drop()

    async def cut(self) -> None:
        self._fault("proxy cuts")
        self._proxy.cut = Cut(b"", self._dice.choice(("up", "down")), self._dice.randrange(1000))

    async def deaf(self) -> None:
        self._fault("proxy swallows")
        self._proxy.deaf = True
        await anyio.sleep(self._dice.uniform(0, 4 * LEASE))
        self._proxy.deaf = False

    async def slow(self) -> None:
        self._fault("proxy delays")
        self._proxy.delay = self._dice.uniform(0.01, 0.3)
        await anyio.sleep(self._dice.uniform(1, 5))
        self._proxy.delay = 0.0

    async def full(self) -> None:
        """The server takes nothing new."""
        self._fault("memory full")
        self._world.client.config_set("maxmemory", 1)
        await anyio.sleep(self._dice.uniform(0.1, LEASE))
        self._world.client.config_set("maxmemory", 0)


async def haunt(actions: list[Action], dice: random.Random, until: float) -> None:
    """One fault after the other; each is healed before the next."""
    while time.monotonic() < until:
        await dice.choice(actions)()
        await anyio.sleep(dice.uniform(*PAUSE))


async def soak(world: World, seconds: float, seed: int, rate: float) -> dict[str, Any]:
    """Run it, and say what it came to."""
    async with Proxy(world.port) as proxy:
        crew = Crew(world, [f"redis://127.0.0.1:{proxy.port}", world.url], rate)
        for place in crew.hosts:
            crew.start(place)
        await until(lambda: all(map(world.owner, ADDRESSES)), "the actors live")
        for place in crew.senders:
            crew.start(place)
        end = time.monotonic() + seconds
        async with world.sender("nemesis") as (system, history), anyio.create_task_group() as tasks:
            dice = random.Random(f"{seed} processes"), random.Random(f"{seed} network")
            tasks.start_soon(haunt, Processes(world, crew, dice[0], system, history).actions, dice[0], end)
            tasks.start_soon(haunt, Network(world, proxy, dice[1]).actions, dice[1], end)
        for place in crew.senders:
            await crew.end(place)
        drained = True
        try:
            await world.drained(*ADDRESSES, within=DRAIN)
        except AssertionError:
            drained = False
        for place in crew.hosts:
            await crew.end(place)
        graves = await world.graves()
    events = world.events()
    buried = [grave.name for grave in graves if grave.name is not None]
    verdict = judge(events, buried)
    lists = msgspec.to_builtins(verdict)
    innocent = [name for name in verdict.buried if not name[0].startswith("poisoner>")]
    return {
        "seed": seed, "seconds": seconds, "rate": rate,
        **{name: len(value) if isinstance(value, list) else value for name, value in lists.items()},
        "dead letters": len(graves), "innocent dead letters": len(innocent),
        "errors": Counter(re.sub(r"/actor-\d+", "/actor", event.detail) for event in events if event.detail),
        "handlers started": sum(event.kind == "start" for event in events),
        "drained": drained, "processes that failed": crew.failed,
        "sound": verdict.sound() and not innocent and drained and not crew.failed,
        "examples": {name: value[:10] for name, value in lists.items() if isinstance(value, list) and value},
        "faults": Counter(fault.kind for fault in world.faults),
        "recoveries": recoveries(events, [fault for fault in world.faults if fault.kind != "SIGCONT"]),
    }  # fmt: skip


def show(result: dict[str, Any]) -> None:
    """Print two tables: what became of the messages, and how long what was hit stood still."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    counts = Table("", "messages", title=f"{result['seconds']:.0f} s, seed {result['seed']}")
    for name in (
        "accepted", "refused", "unknown", "cut_off", "lost", "duplicated", "doubled", "disorder", "stale", "phantom",
        "dead letters", "innocent dead letters", "handlers started",
    ):  # fmt: skip
        counts.add_row(name.replace("_", " "), f"{result[name]:,}")
    console.print(counts)
    times = Table("recovery from", "times", "addresses", "p50 s", "p99 s", "max s")
    found: dict[str, list[float]] = result["recoveries"]
    rows = [*sorted(found.items()), ("all", [each for times in found.values() for each in times])]
    for kind, values in rows:
        figures = [f"{percentile(values, share):.2f}" for share in (0.5, 0.99, 1.0)]
        times.add_row(kind, str(result["faults"].get(kind, "")), str(len(values)), *figures)
    console.print(times)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    seconds: Annotated[float, typer.Option(help="How long.")] = 600.0,
    seed: Annotated[int | None, typer.Option(help="The same as before, for the same faults.")] = None,
    rate: Annotated[float, typer.Option(help="Messages a second.")] = 150.0,
    out: Annotated[Path, typer.Option(help="The result as JSON; the histories beside it, where it is bad.")] = Path(
        "soak.json"
    ),
) -> None:
    """Does everything to processes, server and network that they may do; ends with 1 where a promise was broken."""
    seed = random.SystemRandom().getrandbits(32) if seed is None else seed
    print(f"seed {seed}, {seconds:.0f} s", flush=True)
    with World() as world:
        result = anyio.run(soak, world, seconds, seed, rate)
        show(result)
        out.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2))
        if not result["sound"]:
            shutil.copytree(world.folder, out.with_suffix(""), dirs_exist_ok=True)
            print(f"a promise was broken: {result['examples']} {result['processes that failed']}")
            print(f"the histories are in {out.with_suffix('')}")
            raise typer.Exit(1)


if __name__ == "__main__":
    app()
