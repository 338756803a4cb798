"""`watch` and `Terminated`: exactly once for each watch, also when it is late, never after `unwatch` (invariant 10)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Literal, get_args

import anyio
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from actors import (
    Actor,
    ActorRef,
    ActorSystem,
    Backoff,
    DeliveryError,
    HandlerFailed,
    Message,
    Restart,
    Terminated,
    handles,
)

pytestmark = pytest.mark.anyio


class Watch(Message[None]):
    address: str


class Unwatch(Message[None]):
    address: str


class Said(Message[list[tuple[str, str]]]):
    """What it has been told so far."""


class Gate(Message[None]):
    """Holds the actor until the test opens its gate, then watches or not."""

    watch: str = ""
    unwatch: str = ""


class Fail(Message[None]):
    pass


class Finish(Message[None]):
    pass


class Watcher(Actor):
    def __init__(self, gate: anyio.Event | None = None) -> None:
        self.gate = gate or anyio.Event()
        self.told: list[tuple[str, str]] = []

    @handles(Watch)
    async def start_watching(self, message: Watch) -> None:
        self.watch(self.system.ref(message.address))

    @handles(Unwatch)
    async def stop_watching(self, message: Unwatch) -> None:
        self.unwatch(self.system.ref(message.address))

    @handles(Gate)
    async def hold(self, message: Gate) -> None:
        await self.gate.wait()
        if message.watch:
            self.watch(self.system.ref(message.watch))
        if message.unwatch:
            self.unwatch(self.system.ref(message.unwatch))

    @handles(Terminated)
    async def terminated(self, message: Terminated) -> None:
        self.told.append((message.address, message.reason))

    @handles(Said)
    async def said(self, _: Said) -> list[tuple[str, str]]:
        return self.told

    @handles(Fail)
    async def fail(self, _: Fail) -> None:
        raise ValueError


class Mortal(Actor):
    @handles(Fail)
    async def fail(self, _: Fail) -> None:
        raise ValueError

    @handles(Finish)
    async def finish(self, _: Finish) -> None:
        self.stop()


@pytest.fixture
async def system() -> AsyncIterator[ActorSystem]:
    async with ActorSystem() as system:
        yield system


@pytest.mark.parametrize("reason", ["stopped", "killed", "finished", "failed"])
async def test_whoever_watches_is_told_once_and_why(system: ActorSystem, reason: str) -> None:
    mortal = await system.spawn(Mortal, name="m", restart=Restart.TEMPORARY)
    watchers = [await system.spawn(Watcher) for _ in range(3)]
    for watcher in watchers:
        await watcher.ask(Watch(address="/m"))
        await watcher.ask(Watch(address="/m"))  # still one watch
    match reason:
        case "stopped":
            await mortal.stop()
        case "killed":
            mortal.kill()
        case "finished":
            await mortal.tell(Finish())
        case "failed":
            await mortal.tell(Fail())
    await anyio.wait_all_tasks_blocked()
    for watcher in watchers:
        assert await watcher.ask(Said()) == [("/m", reason)]


async def test_a_restart_is_not_an_end(system: ActorSystem) -> None:
    mortal = await system.spawn(Mortal, name="m")
    watcher = await system.spawn(Watcher)
    await watcher.ask(Watch(address="/m"))
    with suppress(HandlerFailed):
        await mortal.ask(Fail())
    await anyio.wait_all_tasks_blocked()
    assert await watcher.ask(Said()) == []
    await mortal.stop()
    assert await watcher.ask(Said()) == [("/m", "stopped")], "the watch lasted over the restart"


async def test_one_who_never_lived_is_told_at_once_and_again_when_asked_again(system: ActorSystem) -> None:
    watcher = await system.spawn(Watcher)
    await watcher.ask(Watch(address="/nobody"))
    assert await watcher.ask(Said()) == [("/nobody", "not found")]
    await watcher.ask(Watch(address="/nobody"))
    assert await watcher.ask(Said()) == [("/nobody", "not found")] * 2


async def test_the_next_who_lives_there_is_somebody_else(system: ActorSystem) -> None:
    watcher = await system.spawn(Watcher)
    first = await system.spawn(Mortal, name="m")
    await watcher.ask(Watch(address="/m"))
    await first.stop()
    second = await system.spawn(Mortal, name="m")
    await second.stop()
    assert await watcher.ask(Said()) == [("/m", "stopped")]


async def test_nothing_is_said_after_unwatch_even_if_it_is_queued_already(system: ActorSystem) -> None:
    gate = anyio.Event()
    watcher = await system.spawn(Watcher, gate)
    a = await system.spawn(Mortal, name="a")
    b = await system.spawn(Mortal, name="b")
    for address in ("/a", "/b"):
        await watcher.ask(Watch(address=address))
    await watcher.tell(Gate(unwatch="/a"))
    await anyio.wait_all_tasks_blocked()
    await a.stop()
    await b.stop()
    gate.set()
    assert await watcher.ask(Said()) == [("/b", "stopped")]


async def test_a_watch_ends_with_its_incarnation(system: ActorSystem) -> None:
    """Neither what is queued nor what happens later reaches the next instance, which never asked for it."""
    gate = anyio.Event()
    watcher = await system.spawn(Watcher, gate)
    a = await system.spawn(Mortal, name="a")
    b = await system.spawn(Mortal, name="b")
    for address in ("/a", "/b"):
        await watcher.ask(Watch(address=address))
    await watcher.tell(Gate())
    await watcher.tell(Fail())
    await anyio.wait_all_tasks_blocked()
    failing = await watcher.tell(Said(), receipt=True)
    await b.stop()
    gate.set()
    await failing.wait()
    await a.stop()
    assert ("/a", "stopped") not in await watcher.ask(Said())
    assert not system.cells.keys() - {watcher.address}


async def test_a_last_word_watches_nobody(system: ActorSystem) -> None:
    class Late(Watcher):
        async def on_restart(self, error: BaseException) -> None:
            self.watch(self.system.ref("/nobody"))

    watcher = await system.spawn(Late)
    with suppress(HandlerFailed):
        await watcher.ask(Fail())
    assert await watcher.ask(Said()) == []


async def test_a_parent_can_watch_its_children_and_a_child_its_parent(system: ActorSystem) -> None:
    class Parent(Watcher):
        async def on_start(self) -> None:
            self.child = await self.spawn(Mortal, name="child", restart=Restart.TRANSIENT)
            self.watch(self.child)
            await self.system.ref("/child-of-nobody").ask(Watch(address="/parent"))

    watcher = await system.spawn(Watcher, name="child-of-nobody")
    parent = await system.spawn(Parent, name="parent")
    await system.ref("/parent/child").tell(Finish())
    await anyio.wait_all_tasks_blocked()
    assert await parent.ask(Said()) == [("/parent/child", "finished")]
    await parent.stop()
    assert await watcher.ask(Said()) == [("/parent", "stopped")]


async def test_watching_itself_is_pointless_and_harmless(system: ActorSystem) -> None:
    watcher = await system.spawn(Watcher, name="w")
    await watcher.ask(Watch(address="/w"))
    await watcher.stop()
    assert not system.dead_letters


async def test_one_that_cannot_be_told_is_told_so(system: ActorSystem) -> None:
    class Deaf(Actor):
        @handles(Watch)
        async def start_watching(self, message: Watch) -> None:
            self.watch(self.system.ref(message.address))

    deaf = await system.spawn(Deaf)
    with pytest.raises(HandlerFailed, match=r"Deaf watches /m but has no @handles\(Terminated\) method"):
        await deaf.ask(Watch(address="/m"))


async def test_watchers_that_are_gone_are_forgotten(system: ActorSystem) -> None:
    mortal = await system.spawn(Mortal, name="m")
    for _ in range(3):
        watcher = await system.spawn(Watcher)
        await watcher.ask(Watch(address="/m"))
        await watcher.stop()
    assert not system.cells[mortal.address].watchers


# Any order ---------------------------------------------------------------------------------------------------

Deed = Literal["watch", "unwatch", "fail", "stop", "kill", "finish", "spawn", "fail watcher", "hold"]
DEEDS = st.sampled_from([*get_args(Deed), "watch", "watch", "spawn"])
NAMES = ("a", "b")


class Diary(Watcher):
    """Writes into a list that outlives its incarnations; `hold` keeps it busy until the next deed but one."""

    def __init__(self, diary: list[tuple[str, str]], gates: list[anyio.Event]) -> None:
        super().__init__()
        self.told = diary
        self.gates = gates

    @handles(Gate)
    async def hold(self, message: Gate) -> None:
        self.gates.append(anyio.Event())
        await self.gates[-1].wait()


@settings(max_examples=2 * settings().max_examples)
@given(st.lists(st.tuples(DEEDS, st.sampled_from(NAMES)), min_size=8, max_size=30))
def test_exactly_once_for_each_watch(deeds: list[tuple[Deed, str]]) -> None:
    anyio.run(watch_all, deeds, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})


async def watch_all(deeds: list[tuple[Deed, str]]) -> None:
    """The model: who is alive, whom the watcher watches, and what it is owed; while it is held, its mail waits."""
    diary: list[tuple[str, str]] = []
    gates: list[anyio.Event] = []
    owed: list[tuple[str, str]] = []
    alive: dict[str, Restart] = {}
    watched: set[str] = set()
    late: list[tuple[Deed, str]] = []  # what waits in the mailbox of the watcher while it is held
    queued: list[tuple[str, str]] = []  # what it will be told first when it is free
    held = False

    def ends(name: str, reason: str) -> None:
        del alive[name]
        if name in watched:
            watched.discard(name)
            (queued if held else owed).append((f"/{name}", reason))

    def watcher_does(deed: Deed, name: str) -> None:
        if deed == "watch" and name not in watched:
            if name in alive:
                watched.add(name)
            else:
                queued.append((f"/{name}", "not found"))
        if deed == "unwatch":
            watched.discard(name)
            queued[:] = [each for each in queued if each[0] != f"/{name}"]
        if deed == "fail watcher":
            watched.clear()
            queued.clear()

    def release() -> None:
        nonlocal held
        held = False
        gates[-1].set()
        # Control mail comes before each message.
        for deed in late:
            owed.extend(queued)
            queued.clear()
            watcher_does(*deed)
        owed.extend(queued)
        queued.clear()
        late.clear()

    messages: dict[Deed, type[Message[Any]]] = {"watch": Watch, "unwatch": Unwatch}
    async with ActorSystem(intensity=1_000) as system:
        watcher: ActorRef[Any] = await system.spawn(Diary, diary, gates, name="watcher")
        for number, (deed, name) in enumerate(deeds):
            ref = system.ref(f"/{name}", Mortal)
            match deed:
                case "watch" | "unwatch" | "fail watcher":
                    await watcher.tell(Fail() if deed == "fail watcher" else messages[deed](address=f"/{name}"))
                    late.append((deed, name))
                    if not held:
                        gates.append(anyio.Event())
                        release()
                case "hold" if not held:
                    held = True
                    await watcher.tell(Gate())
                case "spawn":
                    restart = list(Restart)[number % 3]
                    if name not in alive:
                        await system.spawn(Mortal, name=name, restart=restart)
                        alive[name] = restart
                case "stop":
                    await ref.stop()
                    if name in alive:
                        ends(name, "stopped")
                case "kill":
                    ref.kill()
                    if name in alive:
                        ends(name, "killed")
                case "fail" | "finish":
                    with suppress(DeliveryError):
                        await ref.tell(Fail() if deed == "fail" else Finish())
                    stays = (Restart.PERMANENT,) if deed == "finish" else (Restart.PERMANENT, Restart.TRANSIENT)
                    if name in alive and alive[name] not in stays:
                        ends(name, "failed" if deed == "fail" else "finished")
            await anyio.wait_all_tasks_blocked()
            if held and number % 3 == 2:
                release()
                await anyio.wait_all_tasks_blocked()
            assert diary == owed
        if held:
            release()
        for name in list(alive):
            await system.ref(f"/{name}").stop()
            ends(name, "stopped")
        await anyio.wait_all_tasks_blocked()
        assert diary == owed
        event(f"told {min(len(diary), 5)} times or more")


@pytest.mark.parametrize("how", ["kill", "stop", "leaving"])
@given(delay=st.sampled_from([0.0, 0.5, 1.0, 1.5]))
def test_one_that_ends_between_two_lives_is_told_of_too(delay: float, how: str) -> None:
    told: list[tuple[str, str]] = []

    async def main() -> None:
        async with ActorSystem() as system:
            watcher = await system.spawn(Diary, told, [])
            mortal = await system.spawn(Mortal, name="m", backoff=Backoff(1.0, 1.0))
            await watcher.ask(Watch(address="/m"))
            await mortal.tell(Fail())
            await anyio.sleep(delay)
            if how == "kill":
                mortal.kill()
            elif how == "stop":
                await mortal.stop()

    anyio.run(main, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})
    assert told == [("/m", "killed" if how == "kill" else "stopped")]
