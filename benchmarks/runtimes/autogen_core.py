"""autogen-core: `SingleThreadedAgentRuntime` with tracing off. Handlers of one agent may overlap, which no other does.

A tell is `publish_message` to the agent's own topic. An agent exists from its first message on.
"""
# mypy: ignore-errors

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import count

from autogen_core import AgentId, BaseAgent, SingleThreadedAgentRuntime, TopicId, TypePrefixSubscription
from opentelemetry.trace import NoOpTracerProvider

from benchmarks.runtime import Done, Line, Runtime


@dataclass
class Echo:
    number: int


@dataclass
class Grow:
    offset: int
    size: int
    parent: TopicId | None


@dataclass
class Total:
    number: int


class Counter(BaseAgent):
    def __init__(self, goal: int, done: Done) -> None:
        super().__init__("counts")
        self.left, self.done = goal, done

    async def on_message_impl(self, message, ctx) -> None:
        self.left -= 1
        if not self.left:
            self.done()


class EchoAgent(BaseAgent):
    def __init__(self) -> None:
        super().__init__("answers")

    async def on_message_impl(self, message, ctx) -> int:
        return message.number


class Player(BaseAgent):
    def __init__(self, hits: int, done: Done) -> None:
        super().__init__("plays")
        self.left, self.done = hits, done
        self.other = topic("player", "2" if self.id.key == "1" else "1")

    async def on_message_impl(self, ball, ctx) -> None:
        self.left -= 1
        if self.left < 0:
            self.done()
        else:
            await self.publish_message(ball, self.other)


class Node(BaseAgent):
    def __init__(self, done: Done) -> None:
        super().__init__("grows")
        self.parent, self.done, self.total, self.waiting = None, done, 0, 10

    async def on_message_impl(self, message, ctx) -> None:
        if isinstance(message, Total):
            self.total += message.number
            self.waiting -= 1
            if not self.waiting:
                await self.report(self.total)
            return
        self.parent = message.parent
        if message.size == 1:
            await self.report(message.offset)
            return
        size = message.size // 10
        for i in range(10):
            start = message.offset + i * size
            child = topic("node", f"{size}-{start}")
            await self.publish_message(Grow(start, size, topic("node", self.id.key)), child)

    async def report(self, number: int) -> None:
        if self.parent is None:
            self.done(number)
        else:
            await self.publish_message(Total(number), self.parent)


def topic(kind: str, key: str) -> TopicId:
    return TopicId(f"{kind}:", key)


class Adapter(Runtime):
    async def start(self) -> None:
        self.runtime = SingleThreadedAgentRuntime(tracer_provider=NoOpTracerProvider())
        self.runtime.start()
        self.kinds = set()
        self.keys = map(str, count(1))

    async def stop(self) -> None:
        await self.runtime.stop()
        await self.runtime.close()

    async def register(self, kind: str, make) -> None:
        if kind not in self.kinds:
            self.kinds.add(kind)
            await self.runtime.register_factory(kind, make)
            await self.runtime.add_subscription(TypePrefixSubscription(f"{kind}:", kind))

    def tell(self, kind: str, key: str):
        return partial(self.runtime.publish_message, topic_id=topic(kind, key))

    async def counter(self, goal: int, done: Done) -> Line:
        # One kind for each `done`, one agent for each key.
        kind = f"counter{id(done)}"
        await self.register(kind, partial(Counter, goal, done))
        return Line(self.tell(kind, next(self.keys)), Echo)

    async def echo(self) -> Line:
        await self.register("echo", EchoAgent)
        return Line(partial(self.runtime.send_message, recipient=AgentId("echo", "1")), Echo)

    async def rally(self, hits: int, done: Done) -> Line:
        await self.register("player", partial(Player, hits, done))
        return Line(self.tell("player", "1"), Echo)

    async def spawn(self, count: int) -> None:
        await self.register("echo", EchoAgent)
        for key in range(count):
            await self.runtime.get("echo", str(key), lazy=False)

    async def skynet(self, leaves: int) -> int:
        done = Done()
        await self.register("node", partial(Node, done))
        await self.runtime.publish_message(Grow(0, leaves, None), topic("node", "root"))
        return await done.wait()
