"""everything-is-an-actor: `on_receive` and a bounded `asyncio.Queue`. Handlers are always `async def`."""
# mypy: ignore-errors

from __future__ import annotations

from functools import partial
from itertools import count

from actor_for_agents import Actor, ActorRef, ActorSystem, Middleware

from benchmarks.messages import Grow, Tick
from benchmarks.runtime import CAPACITY, Done, Line, Runtime


class Counter(Actor[Tick, None]):
    def __init__(self, goal: int, done: Done) -> None:
        self.left, self.done = goal, done

    async def on_receive(self, _: Tick) -> None:
        self.left -= 1
        if not self.left:
            self.done()


class EchoActor(Actor[Tick, int]):
    async def on_receive(self, message: Tick) -> int:
        return message.number


class Player(Actor[Tick, None]):
    def __init__(self, court: list[ActorRef], other: int, hits: int, done: Done) -> None:
        self.court, self.other, self.left, self.done = court, other, hits, done

    async def on_receive(self, ball: Tick) -> None:
        self.left -= 1
        if self.left < 0:
            self.done()
        else:
            await self.court[self.other].tell(ball)


class Node(Actor[Grow | int, None]):
    def __init__(self, done: Done) -> None:
        self.done, self.total, self.waiting = done, 0, 10

    async def on_receive(self, message: Grow | int) -> None:
        if isinstance(message, int):
            self.total += message
            self.waiting -= 1
            if not self.waiting:
                await self.report(self.total)
        elif message.size == 1:
            await self.report(message.offset)
        else:
            size = message.size // 10
            for i in range(10):
                child = await self.context.spawn(partial(Node, self.done), str(i))
                await child.tell(Grow(message.offset + i * size, size))

    async def report(self, number: int) -> None:
        if self.context.parent is None:
            self.done(number)
        else:
            await self.context.parent.tell(number)


class PassOn(Middleware):
    async def on_receive(self, ctx, message, next_fn):
        return await next_fn(ctx, message)


class Adapter(Runtime):
    async def start(self) -> None:
        self.system = ActorSystem("bench")
        self.names = map("a{}".format, count())

    async def stop(self) -> None:
        await self.system.shutdown(timeout=60)

    async def spawn_one(self, cls: type[Actor], *args: object, layers: int = 0) -> ActorRef:
        make = partial(cls, *args) if args else cls  # `spawn` passes no arguments on
        middlewares = [PassOn() for _ in range(layers)]
        return await self.system.spawn(make, next(self.names), mailbox_size=CAPACITY, middlewares=middlewares)

    async def counter(self, goal: int, done: Done) -> Line:
        return Line((await self.spawn_one(Counter, goal, done)).tell, Tick)

    async def filtered_counter(self, layers: int, goal: int, done: Done) -> Line:
        return Line((await self.spawn_one(Counter, goal, done, layers=layers)).tell, Tick)

    async def echo(self) -> Line:
        return Line((await self.spawn_one(EchoActor)).ask, Tick)

    async def rally(self, hits: int, done: Done) -> Line:
        court: list[ActorRef] = []
        court += [await self.spawn_one(Player, court, other, hits, done) for other in (1, 0)]
        return Line(court[0].tell, Tick)

    async def spawn(self, count: int) -> None:
        for _ in range(count):
            await self.spawn_one(EchoActor)

    async def skynet(self, leaves: int) -> int:
        done = Done()
        await (await self.spawn_one(Node, done)).tell(Grow(0, leaves))
        return await done.wait()
