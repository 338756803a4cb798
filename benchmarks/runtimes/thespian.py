"""thespian: its simpleSystemBase, which runs everything in the caller's thread and is its fastest by far.

Actors take no arguments, so theirs stand in the class. A tell returns after the handler has run.
"""
# mypy: ignore-errors
# ruff: noqa: N802

from __future__ import annotations

from functools import partial
from time import perf_counter as now
from typing import ClassVar

from thespian.actors import Actor, ActorAddress, ActorExitRequest, ActorSystem

from benchmarks.messages import Grow, Tick
from benchmarks.runtime import Done, Line, Runtime


class Counter(Actor):
    goal: ClassVar[int]
    done: ClassVar[Done]

    def __init__(self) -> None:
        super().__init__()
        self.left = self.goal

    def receiveMessage(self, _, sender) -> None:
        self.left -= 1
        if not self.left:
            self.done()


class EchoActor(Actor):
    def receiveMessage(self, message, sender) -> None:
        if isinstance(message, Tick):  # also told to it: ActorExitRequest
            self.send(sender, message.number)


class Player(Actor):
    court: ClassVar[list[ActorAddress]]
    hits: ClassVar[int]
    done: ClassVar[Done]

    def __init__(self) -> None:
        super().__init__()
        self.left = self.hits

    def receiveMessage(self, ball, sender) -> None:
        self.left -= 1
        if self.left < 0:
            self.done()
        else:
            self.send(self.court[self.court[0] == self.myAddress], ball)


class Node(Actor):
    def __init__(self) -> None:
        super().__init__()
        self.parent, self.total, self.waiting = None, 0, 10

    def receiveMessage(self, message, sender) -> None:
        if isinstance(message, int):
            self.total += message
            self.waiting -= 1
            if not self.waiting:
                self.send(self.parent, self.total)
        elif isinstance(message, Grow):
            self.parent = sender
            if message.size == 1:
                self.send(self.parent, message.offset)
                return
            size = message.size // 10
            for i in range(10):
                self.send(self.createActor(Node), Grow(message.offset + i * size, size))


class Adapter(Runtime):
    tell_awaits = ask_awaits = False

    async def start(self) -> None:
        self.system = ActorSystem("simpleSystemBase")
        self.spawned: list[ActorAddress] = []

    async def stop(self) -> None:
        for address in self.spawned:
            self.system.tell(address, ActorExitRequest())  # `shutdown` alone would only forget them
        self.system.shutdown()

    async def counter(self, goal: int, done: Done) -> Line:
        Counter.goal, Counter.done = goal, done
        return Line(partial(self.system.tell, self.system.createActor(Counter)), Tick)

    async def plain_echo(self) -> Line:
        return Line(partial(self.system.ask, self.system.createActor(EchoActor)), Tick)

    def together(self, line: Line, count: int) -> list[float]:
        (address,) = line.send.args
        since = []
        for _ in range(count):
            since.append(now())
            self.system.tell(address, line.message(7))
        took = []
        for before in since:
            self.system.listen()
            took.append(now() - before)
        return took

    async def rally(self, hits: int, done: Done) -> Line:
        Player.hits, Player.done = hits, done
        Player.court = [self.system.createActor(Player) for _ in range(2)]
        return Line(partial(self.system.tell, Player.court[0]), Tick)

    async def spawn(self, count: int) -> None:
        for _ in range(count):
            self.spawned.append(self.system.createActor(EchoActor))

    async def skynet(self, leaves: int) -> int:
        return self.system.ask(self.system.createActor(Node), Grow(0, leaves))
