"""casty: an async loop over `ctx.inbox` per key, on a runtime written in Rust. Messages are serialised, also locally.

Its mailbox is left unbounded, as it is by default: a bounded one drops what is told to it while it is full.
"""
# mypy: ignore-errors

from dataclasses import dataclass
from itertools import count

from casty import ActorSystem, Askable, Context, Ref, actor

from benchmarks.runtime import Done, Line, Runtime

GAMES: dict[str, tuple[int, Done]] = {}  # by key: a message cannot carry a callable, so goals and `done` stand here


@dataclass(frozen=True)
class Tick:
    number: int


@dataclass(frozen=True)
class Echo(Askable[int]):
    number: int


@dataclass(frozen=True)
class Total:
    number: int


@dataclass(frozen=True)
class Grow:
    offset: int
    size: int
    parent: Ref[Total] | None


@actor(initial=None)
async def counter(ctx: Context[None, Tick]) -> None:
    left, done = GAMES[ctx.key]
    async for _ in ctx.inbox:
        left -= 1
        if not left:
            done()


@actor(initial=None)
async def resident(ctx: Context[None, Tick]) -> None:
    GAMES[ctx.key][1]()  # nothing else says that the body has started
    async for _ in ctx.inbox:
        pass


@actor(initial=None)
async def echo(ctx: Context[None, Echo]) -> None:
    async for message in ctx.inbox:
        message.reply_to.tell(message.number)


@actor(initial=None)
async def player(ctx: Context[None, Tick]) -> None:
    left, done = GAMES[ctx.key]
    other = ctx.system.ref(player, "2" if ctx.key == "1" else "1")
    async for ball in ctx.inbox:
        left -= 1
        if left < 0:
            done()
        else:
            other.tell(ball)


@actor(initial=None)
async def node(ctx: Context[None, Grow | Total]) -> None:
    parent, total, waiting = None, 0, 10

    def report(number: int) -> None:
        if parent is None:
            GAMES["node"][1](number)
        else:
            parent.tell(Total(number))

    async for message in ctx.inbox:
        match message:
            case Total(number):
                total += number
                waiting -= 1
                if not waiting:
                    report(total)
            case Grow(offset, 1, parent):
                report(offset)
            case Grow(offset, size, parent):
                size //= 10
                for i in range(10):
                    start = offset + i * size
                    ctx.system.ref(node, f"{size}-{start}").tell(Grow(start, size, ctx.self))


class Adapter(Runtime):
    tell_awaits = False

    async def start(self) -> None:
        self.system = await ActorSystem().__aenter__()
        self.keys = map(str, count(1))

    async def stop(self) -> None:
        await self.system.__aexit__(None, None, None)

    async def counter(self, goal: int, done: Done) -> Line:
        key = next(self.keys)
        GAMES[key] = goal, done
        return Line(self.system.ref(counter, key).tell, Tick)

    async def echo(self) -> Line:
        return Line(self.system.ref(echo, "1").ask, Echo)

    async def rally(self, hits: int, done: Done) -> Line:
        GAMES["1"] = GAMES["2"] = hits, done
        return Line(self.system.ref(player, "1").tell, Tick)

    async def spawn(self, count: int) -> None:
        done = Done(count)
        for key in map(str, range(count)):
            GAMES[key] = 0, done
            self.system.ref(resident, key)
        await done.wait()

    async def skynet(self, leaves: int) -> int:
        GAMES["node"] = 0, Done()
        self.system.ref(node, "root").tell(Grow(0, leaves, None))
        return await GAMES["node"][1].wait()
