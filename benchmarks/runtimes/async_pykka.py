"""async-pykka: pykka's API on asyncio. Its mailbox cannot be bounded; `on_receive` is its lowest level."""
# mypy: ignore-errors

from __future__ import annotations

import asyncio

from async_pykka import ActorRef, ActorRegistry, AsyncioActor

from benchmarks.messages import Grow, Tick
from benchmarks.runtime import Done, Line, Runtime


class Counter(AsyncioActor):
    def __init__(self, goal: int, done: Done) -> None:
        super().__init__()
        self.left, self.done = goal, done

    async def on_receive(self, _: Tick) -> None:
        self.left -= 1
        if not self.left:
            self.done()


class EchoActor(AsyncioActor):
    async def on_receive(self, message: Tick) -> int:
        return message.number


class PlainEchoActor(AsyncioActor):
    def on_receive(self, message: Tick) -> int:
        return message.number


class Player(AsyncioActor):
    def __init__(self, court: list[ActorRef], other: int, hits: int, done: Done) -> None:
        super().__init__()
        self.court, self.other, self.left, self.done = court, other, hits, done

    async def on_receive(self, ball: Tick) -> None:
        self.left -= 1
        if self.left < 0:
            self.done()
        else:
            self.court[self.other].tell(ball)


class Node(AsyncioActor):
    def __init__(self, parent: ActorRef | None, done: Done) -> None:
        super().__init__()
        self.parent, self.done, self.total, self.waiting = parent, done, 0, 10

    async def on_receive(self, message: Grow | int) -> None:
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
                Node.start(self.actor_ref, self.done).tell(Grow(message.offset + i * size, size))

    def report(self, number: int) -> None:
        if self.parent is None:
            self.done(number)
        else:
            self.parent.tell(number)


class Adapter(Runtime):
    tell_awaits = False

    async def stop(self) -> None:
        # Oldest first; `stop_all` begins with the newest, at the far end of the list that every stop searches.
        for ref in ActorRegistry.get_all():
            await ref.stop()

    async def counter(self, goal: int, done: Done) -> Line:
        return Line(Counter.start(goal, done).tell, Tick)

    async def echo(self) -> Line:
        return Line(EchoActor.start().ask, Tick)

    async def plain_echo(self) -> Line:
        return Line(PlainEchoActor.start().ask, Tick)

    async def rally(self, hits: int, done: Done) -> Line:
        court: list[ActorRef] = []
        court += [Player.start(court, other, hits, done) for other in (1, 0)]
        return Line(court[0].tell, Tick)

    async def spawn(self, count: int) -> None:
        for _ in range(count):
            EchoActor.start()
        await asyncio.sleep(0)  # every task has run its `on_start`

    async def skynet(self, leaves: int) -> int:
        done = Done()
        Node.start(None, done).tell(Grow(0, leaves))
        return await done.wait()
