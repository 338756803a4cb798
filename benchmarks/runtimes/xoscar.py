"""xoscar: one pool in this process. A local ask is a direct call under the actor's lock; a tell is a task that calls.

There is no mailbox to bound.
"""
# mypy: ignore-errors

from __future__ import annotations

import asyncio

import xoscar

from benchmarks.messages import Tick
from benchmarks.runtime import Done, Line, Runtime


class Counter(xoscar.Actor):
    def __init__(self, goal: int, done: Done) -> None:
        super().__init__()
        self.left, self.done = goal, done

    async def count(self, _: Tick) -> None:
        self.left -= 1
        if not self.left:
            self.done()


class EchoActor(xoscar.Actor):
    async def answer(self, message: Tick) -> int:
        return message.number

    def answer_plainly(self, message: Tick) -> int:
        return message.number


class Player(xoscar.Actor):
    def __init__(self, court: list, other: int, hits: int, done: Done) -> None:
        super().__init__()
        self.court, self.other, self.left, self.done = court, other, hits, done

    async def hit(self, ball: Tick) -> None:
        self.left -= 1
        if self.left < 0:
            self.done()
        else:
            await self.court[self.other].hit.tell(ball)


class Node(xoscar.Actor):
    def __init__(self, parent, done: Done) -> None:
        super().__init__()
        self.parent, self.done, self.total, self.waiting = parent, done, 0, 10

    async def grow(self, offset: int, size: int) -> None:
        if size == 1:
            await self.report(offset)
            return
        size //= 10
        for i in range(10):
            child = await xoscar.create_actor(Node, self.ref(), self.done, address=self.address)
            await child.grow.tell(offset + i * size, size)

    async def add(self, number: int) -> None:
        self.total += number
        self.waiting -= 1
        if not self.waiting:
            await self.report(self.total)

    async def report(self, number: int) -> None:
        if self.parent is None:
            self.done(number)
        else:
            await self.parent.add.tell(number)


class Adapter(Runtime):
    async def start(self) -> None:
        self.pool = await xoscar.create_actor_pool("127.0.0.1", n_process=0)
        self.refs = []

    async def stop(self) -> None:
        await asyncio.gather(*(xoscar.destroy_actor(ref) for ref in self.refs))
        await self.pool.stop()

    async def create(self, cls: type, *args: object):
        ref = await xoscar.create_actor(cls, *args, address=self.pool.external_address)
        ref = await xoscar.actor_ref(ref)  # local: ten times as fast as what `create_actor` answers
        self.refs.append(ref)
        return ref

    async def counter(self, goal: int, done: Done) -> Line:
        return Line((await self.create(Counter, goal, done)).count.tell, Tick)

    async def echo(self) -> Line:
        return Line((await self.create(EchoActor)).answer, Tick)

    async def plain_echo(self) -> Line:
        return Line((await self.create(EchoActor)).answer_plainly, Tick)

    async def rally(self, hits: int, done: Done) -> Line:
        court = []
        court += [await self.create(Player, court, other, hits, done) for other in (1, 0)]
        return Line(court[0].hit.tell, Tick)

    async def spawn(self, count: int) -> None:
        for _ in range(count):
            await self.create(EchoActor)

    async def skynet(self, leaves: int) -> int:
        done = Done()
        await (await self.create(Node, None, done)).grow.tell(0, leaves)
        return await done.wait()
