"""The lean baseline: one bare asyncio task per actor, a deque and a future. No features: nothing may fail.

Its tell and ask are coroutine functions, as ours are, so that what is left between the two are the features.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from benchmarks.messages import Grow, Tick
from benchmarks.runtime import Done, Line, Runtime


class Actor:
    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.mail: deque[tuple[Any, asyncio.Future[Any] | None]] = deque()
        self.parked: asyncio.Future[None] | None = None
        self.task = self.loop.create_task(self.run())

    async def tell(self, message: Any) -> None:
        self.mail.append((message, None))
        if self.parked is not None:
            self.wake(self.parked)

    async def ask(self, message: Any) -> Any:
        reply: asyncio.Future[Any] = self.loop.create_future()
        self.mail.append((message, reply))
        if self.parked is not None:
            self.wake(self.parked)
        return await reply

    def wake(self, parked: asyncio.Future[None]) -> None:
        self.parked = None
        parked.set_result(None)

    async def handle(self, message: Any) -> Any:
        raise NotImplementedError

    async def run(self) -> None:
        mail, handle = self.mail, self.handle
        while True:
            while mail:
                message, reply = mail.popleft()
                answer = await handle(message)
                if reply is not None:
                    reply.set_result(answer)
            self.parked = self.loop.create_future()
            await self.parked


class Counter(Actor):
    def __init__(self, goal: int, done: Done) -> None:
        super().__init__()
        self.left, self.done = goal, done

    async def handle(self, _: Any) -> None:
        self.left -= 1
        if not self.left:
            self.done()


class EchoActor(Actor):
    async def handle(self, message: Tick) -> int:
        return message.number


class PlainEchoActor(Actor):
    """With a plain `def` handler, which needs a loop of its own."""

    def answer(self, message: Tick) -> int:
        return message.number

    async def run(self) -> None:
        mail, answer = self.mail, self.answer
        while True:
            while mail:
                message, reply = mail.popleft()
                number = answer(message)
                if reply is not None:
                    reply.set_result(number)
            self.parked = self.loop.create_future()
            await self.parked


class Player(Actor):
    def __init__(self, court: list[Actor], other: int, hits: int, done: Done) -> None:
        super().__init__()
        self.court, self.other, self.left, self.done = court, other, hits, done

    async def handle(self, ball: Any) -> None:
        self.left -= 1
        if self.left < 0:
            self.done()
        else:
            await self.court[self.other].tell(ball)


class Node(Actor):
    def __init__(self, parent: Node | None, done: Done) -> None:
        super().__init__()
        self.parent, self.done, self.total, self.waiting = parent, done, 0, 10

    async def handle(self, message: Grow | int) -> None:
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
                await Node(self, self.done).tell(Grow(message.offset + i * size, size))

    async def report(self, number: int) -> None:
        if self.parent is None:
            self.done(number)
        else:
            await self.parent.tell(number)


class Adapter(Runtime):
    async def stop(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def counter(self, goal: int, done: Done) -> Line:
        return Line(Counter(goal, done).tell, Tick)

    async def echo(self) -> Line:
        return Line(EchoActor().ask, Tick)

    async def plain_echo(self) -> Line:
        return Line(PlainEchoActor().ask, Tick)

    async def rally(self, hits: int, done: Done) -> Line:
        court: list[Actor] = []
        court += [Player(court, 1, hits, done), Player(court, 0, hits, done)]
        return Line(court[0].tell, Tick)

    async def spawn(self, count: int) -> None:
        self.actors = [EchoActor() for _ in range(count)]
        await asyncio.sleep(0)  # every task has run up to its first wait

    async def skynet(self, leaves: int) -> int:
        done = Done()
        await Node(None, done).tell(Grow(0, leaves))
        return await done.wait()
