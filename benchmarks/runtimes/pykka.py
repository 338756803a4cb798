"""pykka: a thread and a `queue.Queue` per actor; handlers are plain `def`s. Its mailbox cannot be bounded."""
# mypy: ignore-errors

from __future__ import annotations

from time import perf_counter as now

from pykka import ActorRef, ActorRegistry, ThreadingActor

from benchmarks.messages import Grow, Tick
from benchmarks.runtime import Done, Line, Runtime


class Counter(ThreadingActor):
    def __init__(self, goal: int, done: Done) -> None:
        super().__init__()
        self.left, self.done = goal, done

    def on_receive(self, _: Tick) -> None:
        self.left -= 1
        if not self.left:
            self.done()


class EchoActor(ThreadingActor):
    def on_receive(self, message: Tick) -> int:
        return message.number


class Player(ThreadingActor):
    def __init__(self, court: list[ActorRef], other: int, hits: int, done: Done) -> None:
        super().__init__()
        self.court, self.other, self.left, self.done = court, other, hits, done

    def on_receive(self, ball: Tick) -> None:
        self.left -= 1
        if self.left < 0:
            self.done()
        else:
            self.court[self.other].tell(ball)


class Node(ThreadingActor):
    """Asks its children one after the other: told all at once, thousands of threads fight for the GIL."""

    def on_receive(self, message: Grow) -> int:
        if message.size == 1:
            return message.offset
        size = message.size // 10
        return sum(Node.start().ask(Grow(message.offset + i * size, size)) for i in range(10))


class Adapter(Runtime):
    tell_awaits = ask_awaits = False

    async def stop(self) -> None:
        # Oldest first; `stop_all` begins with the newest, at the far end of the list that every stop searches.
        for ref in ActorRegistry.get_all():
            ref.stop()

    async def counter(self, goal: int, done: Done) -> Line:
        return Line(Counter.start(goal, done).tell, Tick)

    async def plain_echo(self) -> Line:
        return Line(EchoActor.start().ask, Tick)

    def together(self, line: Line, count: int) -> list[float]:
        asked = [(now(), line.send(line.message(7), block=False)) for _ in range(count)]
        took = []
        for since, answer in asked:
            answer.get()
            took.append(now() - since)
        return took

    async def rally(self, hits: int, done: Done) -> Line:
        court: list[ActorRef] = []
        court += [Player.start(court, other, hits, done) for other in (1, 0)]
        return Line(court[0].tell, Tick)

    async def spawn(self, count: int) -> None:
        for _ in range(count):
            EchoActor.start()  # returns once the thread runs

    async def skynet(self, leaves: int) -> int:
        return Node.start().ask(Grow(0, leaves))
