"""mindmesh: an `asyncio.Queue` per actor, which cannot be bounded.

`on_message` is overridden, as its README suggests: finding a method by the message's name costs 2/3 of the tells.
A plain `def` handler can only be found in that way.
"""
# mypy: ignore-errors

from __future__ import annotations

from mindmesh import ActorAddr, ActorHive, BaseActor, Request

from benchmarks.messages import Grow, Tick
from benchmarks.runtime import Done, Line, Runtime


class Ask(Tick, Request[int], frozen=True):
    """`ask` takes nothing else."""


class Counter(BaseActor):
    def __init__(self, hive, name, goal: int, done: Done) -> None:
        super().__init__(hive, name)
        self.left, self.done = goal, done

    async def on_message(self, _: Tick) -> None:
        self.left -= 1
        if not self.left:
            self.done()


class EchoActor(BaseActor):
    async def on_message(self, message: Ask) -> int:
        return message.number


class PlainEchoActor(BaseActor):
    def on_ask(self, message: Ask) -> int:
        return message.number


class Player(BaseActor):
    def __init__(self, hive, name, court: list[ActorAddr], other: int, hits: int, done: Done) -> None:
        super().__init__(hive, name)
        self.court, self.other, self.left, self.done = court, other, hits, done

    async def on_message(self, ball: Tick) -> None:
        self.left -= 1
        if self.left < 0:
            self.done()
        else:
            self.court[self.other].tell(ball)


class Node(BaseActor):
    def __init__(self, hive, name, parent: ActorAddr | None, done: Done) -> None:
        super().__init__(hive, name)
        self.parent, self.done, self.total, self.waiting = parent, done, 0, 10

    async def on_message(self, message: Grow | int) -> None:
        if isinstance(message, int):
            self.total += message
            self.waiting -= 1
            if not self.waiting:
                self.report(self.total)
        elif message.size == 1:
            self.report(message.offset)
        else:
            size = message.size // 10
            for i in range(10):
                child = self.hive.start_actor(Node, self.as_ref(), self.done)
                child.tell(Grow(message.offset + i * size, size))

    def report(self, number: int) -> None:
        if self.parent is None:
            self.done(number)
        else:
            self.parent.tell(number)


class Adapter(Runtime):
    tell_awaits = False

    async def start(self) -> None:
        self.hive = ActorHive()

    async def stop(self) -> None:
        await self.hive.shutdown()

    async def counter(self, goal: int, done: Done) -> Line:
        return Line(self.hive.start_actor(Counter, goal, done).tell, Tick)

    async def echo(self) -> Line:
        return Line(self.hive.start_actor(EchoActor).ask, Ask)

    async def plain_echo(self) -> Line:
        return Line(self.hive.start_actor(PlainEchoActor).ask, Ask)

    async def rally(self, hits: int, done: Done) -> Line:
        court: list[ActorAddr] = []
        court += [self.hive.start_actor(Player, court, other, hits, done) for other in (1, 0)]
        return Line(court[0].tell, Tick)

    async def spawn(self, count: int) -> None:
        for actor in [self.hive.start_actor(EchoActor) for _ in range(count)]:
            await actor.wait_for_start()

    async def skynet(self, leaves: int) -> int:
        done = Done()
        self.hive.start_actor(Node, None, done).tell(Grow(0, leaves))
        return await done.wait()
