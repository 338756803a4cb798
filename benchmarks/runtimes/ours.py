"""waooaw-actors as it comes: supervised, a priority mailbox bounded at 10,000, in memory, no middleware."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from actors import Actor, ActorRef, ActorSystem, Envelope, Message, Middleware, Outcome, handles
from benchmarks.runtime import CAPACITY, Done, Line, Runtime
from transport.middleware import Accept, Deliver


class Tick(Message[None]):
    number: int


class Echo(Message[int]):
    number: int


class Grow(Message[None]):
    offset: int
    size: int


class Total(Message[None]):
    number: int


class Counter(Actor):
    def __init__(self, goal: int, done: Done) -> None:
        self.left, self.done = goal, done

    @handles(Tick)
    async def count(self, _: Tick) -> None:
        self.left -= 1
        if not self.left:
            self.done()


class EchoActor(Actor):
    @handles(Echo)
    async def answer(self, message: Echo) -> int:
        return message.number


class PlainEchoActor(Actor):
    @handles(Echo)
    def answer(self, message: Echo) -> int:
        return message.number


class Player(Actor):
    def __init__(self, court: list[ActorRef[Player]], other: int, hits: int, done: Done) -> None:
        self.court, self.other, self.left, self.done = court, other, hits, done

    @handles(Tick)
    async def hit(self, ball: Tick) -> None:
        self.left -= 1
        if self.left < 0:
            self.done()
        else:
            await self.court[self.other].tell(ball)


class Node(Actor):
    def __init__(self, parent: ActorRef[Node] | None, done: Done) -> None:
        self.parent, self.done, self.total, self.waiting = parent, done, 0, 10

    @handles(Grow)
    async def grow(self, message: Grow) -> None:
        if message.size == 1:
            await self.report(message.offset)
            return
        size = message.size // 10
        for i in range(10):
            child = await self.spawn(Node, self.ref, self.done)
            await child.tell(Grow(message.offset + i * size, size))

    @handles(Total)
    async def add(self, message: Total) -> None:
        self.total += message.number
        self.waiting -= 1
        if not self.waiting:
            await self.report(self.total)

    async def report(self, number: int) -> None:
        if self.parent is None:
            self.done(number)
        else:
            await self.parent.tell(Total(number))


class PassOn(Middleware):
    """Overrides everything, does nothing."""

    async def accept(self, envelope: Envelope, next: Accept) -> None:  # noqa: A002
        await next(envelope)

    async def deliver(self, envelope: Envelope, next: Deliver) -> Any:  # noqa: A002
        return await next(envelope)

    def settled(self, envelope: Envelope, outcome: Outcome) -> None:
        pass


class Adapter(Runtime):
    def __init__(self) -> None:
        self.systems = AsyncExitStack()

    async def open(self, middleware: Sequence[Middleware]) -> ActorSystem:
        return await self.systems.enter_async_context(ActorSystem("bench", capacity=CAPACITY, middleware=middleware))

    async def start(self) -> None:
        self.system = await self.open(())

    async def stop(self) -> None:
        await self.systems.aclose()

    async def counter(self, goal: int, done: Done) -> Line:
        return Line((await self.system.spawn(Counter, goal, done)).tell, Tick)

    async def filtered_counter(self, layers: int, goal: int, done: Done) -> Line:
        system = await self.open([PassOn() for _ in range(layers)])
        return Line((await system.spawn(Counter, goal, done)).tell, Tick)

    async def echo(self) -> Line:
        return Line((await self.system.spawn(EchoActor)).ask, Echo)

    async def plain_echo(self) -> Line:
        return Line((await self.system.spawn(PlainEchoActor)).ask, Echo)

    async def rally(self, hits: int, done: Done) -> Line:
        court: list[ActorRef[Player]] = []
        court += [await self.system.spawn(Player, court, other, hits, done) for other in (1, 0)]
        return Line(court[0].tell, Tick)

    async def spawn(self, count: int) -> None:
        for _ in range(count):
            await self.system.spawn(EchoActor)

    async def skynet(self, leaves: int) -> int:
        done = Done()
        root = await self.system.spawn(Node, None, done)
        await root.tell(Grow(0, leaves))
        return await done.wait()
