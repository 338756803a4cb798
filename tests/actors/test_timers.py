"""Keyed timers: a replaced or cancelled timer's tick is never delivered, and nothing else is missing."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Literal

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.lowlevel import current_clock
from trio.testing import MockClock

from actors import Actor, ActorSystem, Message, handles
from actors.testing import StrictSystem, run_virtual
from tests.actors.waiting import until
from tests.conftest import VIRTUAL

# A model of the timers of one actor ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Op:
    """Sent `wait` seconds after the one before: the actor sets or cancels the timer `key`, then is busy."""

    wait: int
    what: Literal["after", "every", "cancel", "fail", "nothing"]
    key: str
    seconds: int
    busy: int


class Do(Message[None]):
    op: Op
    number: int


class Tick(Message[None]):
    number: int
    """Of the operation that set the timer."""


def instant(number: int) -> float:
    """A binary fraction of a second: with one for each operation no two things fall into the same instant."""
    return 2.0 ** -(8 + number)


HORIZON = 60 + 1 / 3
ops = st.builds(
    Op,
    wait=st.integers(0, 5),
    what=st.sampled_from(["after", "after", "every", "every", "cancel", "fail", "nothing"]),
    key=st.sampled_from("ab"),
    seconds=st.integers(0, 4),
    busy=st.integers(0, 6),
)


class Timed(Actor):
    def __init__(self, ticks: list[tuple[float, int]]) -> None:
        self.ticks = ticks

    @handles(Do)
    async def do(self, message: Do) -> None:
        op, tick = message.op, Tick(message.number)
        match op.what:
            case "after":
                self.after(op.seconds, tick, key=op.key)
            case "every":
                self.every(op.seconds or 1, tick, key=op.key)
            case "cancel":
                self.cancel(op.key)
        await anyio.sleep(op.busy + instant(message.number))
        if op.what == "fail":
            raise ValueError(message.number)

    @handles(Tick)
    def tick(self, message: Tick) -> None:
        self.ticks.append((anyio.current_time(), message.number))


def expected(script: list[Op]) -> tuple[list[tuple[float, int]], set[str]]:
    """What ticks when, and which timers are left at the horizon: simulates an actor that does one thing at a time."""
    arrivals, at = [], 0.0
    for number, op in enumerate(script):
        at += op.wait
        arrivals.append((at + instant(number + 12), number, op))
    ticks: list[tuple[float, int]] = []
    timers: dict[str, tuple[float, int, int]] = {}  # due, period (0: once), number
    free = 0.0
    while arrivals or timers:
        due, key = min(((due, key) for key, (due, _, _) in timers.items()), default=(HORIZON, ""))
        arrival = arrivals[0][0] if arrivals else HORIZON
        now = max(free, min(due, arrival))
        if now >= HORIZON:
            break
        if due <= now:
            _, period, number = timers.pop(key)
            ticks.append((now, number))
            if period:
                timers[key] = (due + period * ((now - due) // period + 1), period, number)
            continue
        _, number, op = arrivals.pop(0)
        free = now + op.busy + instant(number)
        match op.what:
            case "after":
                timers[op.key] = (now + op.seconds, 0, number)
            case "every":
                period = op.seconds or 1
                timers[op.key] = (now + period, period, number)
            case "cancel":
                timers.pop(op.key, None)
            case "fail":
                timers.clear()
    return ticks, set(timers)


@settings(max_examples=300)
@given(st.lists(ops, max_size=10))
def test_timers_tick_when_the_model_says_and_never_once_replaced_or_cancelled(script: list[Op]) -> None:
    ticks: list[tuple[float, int]] = []

    async def main() -> set[object]:
        async with ActorSystem(intensity=100, drain=0.0) as system:
            timed = await system.spawn(Timed, ticks, shutdown=0.0)
            cell = system.cells[timed.address]
            began = anyio.current_time()
            for number, op in enumerate(script):
                await anyio.sleep_until(began + sum(each.wait for each in script[: number + 1]) + instant(number + 12))
                await timed.tell(Do(op, number))
            await anyio.sleep_until(began + HORIZON)
            assert began == 0.0
            return set(cell._timers or ())

    left = run_virtual(main)
    assert (sorted(ticks), left) == (sorted(expected(script)[0]), expected(script)[1])


# In words -----------------------------------------------------------------------------------------------------

pytestmark_async = pytest.mark.anyio


class Beat(Message[None]):
    name: str = ""


class Busy(Message[None]):
    """Handled until the tick of a timer has been waiting for a while; then `what`."""

    what: Literal["done", "cancel", "replace", "fail"]


class Heart(Actor):
    def __init__(self, beats: list[str]) -> None:
        self.beats = beats

    async def waiting(self) -> None:
        await until(lambda: self._cell.mailbox.control)
        await anyio.sleep(0.1)

    @handles(Beat)
    async def beat(self, message: Beat) -> None:
        self.beats.append(message.name)

    @handles(Busy)
    async def busy(self, message: Busy) -> None:
        self.every(0.002, Beat("old"), key="k")
        await self.waiting()
        match message.what:
            case "cancel":
                self.cancel("k")
            case "replace":
                self.after(0.001, Beat("new"), key="k")
            case "fail":
                raise ValueError("too much")


@pytest.mark.anyio
@pytest.mark.parametrize("what", ["cancel", "replace", "fail"])
async def test_a_tick_that_waits_in_the_mailbox_goes_with_its_timer(what: Literal["cancel", "replace", "fail"]) -> None:
    beats: list[str] = []
    async with StrictSystem() as system:
        system.allow_dead_letters(Busy, reason="failed")
        heart = await system.spawn(Heart, beats)
        await (await heart.tell(Busy(what), receipt=True)).wait(5.0)
        await anyio.sleep(0.1)
    assert beats == (["new"] if what == "replace" else [])


@pytest.mark.anyio
async def test_an_actor_that_is_slower_than_its_timer_misses_ticks() -> None:
    beats: list[str] = []
    async with StrictSystem(drain=0.0) as system:
        heart = await system.spawn(Heart, beats)
        await (await heart.tell(Busy("done"), receipt=True)).wait(5.0)
        assert len(system.cells[heart.address].mailbox.control or ()) + len(beats) <= 3, "50 came due meanwhile"
        await until(lambda: len(beats) >= 5)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", [VIRTUAL], indirect=True)
async def test_a_timer_that_rings_late_keeps_to_its_times() -> None:
    class Steady(Actor):
        async def on_start(self) -> None:
            self.every(1.0, Beat())

        @handles(Beat)
        async def beat(self, _: Beat) -> None:
            beats.append(anyio.current_time())

    beats: list[float] = []
    clock = current_clock()
    assert isinstance(clock, MockClock)
    async with StrictSystem(drain=0.0) as system:
        await system.spawn(Steady)
        await anyio.sleep(1.25)
        clock.jump(2.25)  # as if the event loop had been blocked until 3.5
        await anyio.sleep(1.75)
    assert beats == [1.0, 3.5, 4.0, 5.0]


@pytest.mark.anyio
async def test_timers_with_a_key_of_their_own_leave_nothing_behind() -> None:
    class Planner(Heart):
        async def on_start(self) -> None:
            for number in range(500):
                self.after(number / 100_000, Beat(str(number)), key=("plan", number))

    beats: list[str] = []
    async with StrictSystem() as system:
        planner = await system.spawn(Planner, beats)
        await anyio.sleep(0.1)
        assert sorted(beats, key=int) == [str(number) for number in range(500)]
        assert not system.cells[planner.address]._timers
        assert not len(system.deadlines)


class Cancel(Message[int]): ...


@pytest.mark.anyio
async def test_a_timer_whose_concurrent_handlers_are_all_busy_takes_no_room_and_can_be_cancelled() -> None:
    class Crowd(Actor):
        async def on_start(self) -> None:
            self.every(0.002, Beat())

        @handles(Beat, concurrency=2)
        async def beat(self, _: Beat) -> None:
            began.append(None)
            await gate.wait()

        @handles(Cancel)
        def stop_timer(self, _: Cancel) -> int:
            self.cancel(Beat)
            return len(began)

    began: list[None] = []
    gate = anyio.Event()
    async with StrictSystem(drain=0.0) as system:
        crowd = await system.spawn(Crowd)
        mailbox = system.cells[crowd.address].mailbox
        await until(lambda: mailbox.control)
        await anyio.sleep(0.05)
        assert (len(began), len(mailbox), len(mailbox.control or ())) == (2, 0, 1)
        gate.set()
        before = await crowd.ask(Cancel(), timeout=5.0)
        await anyio.sleep(0.05)
        assert len(began) == before


@pytest.mark.anyio
async def test_a_stashed_tick_goes_with_its_timer() -> None:
    class Later(Actor):
        async def on_start(self) -> None:
            self.after(0.001, Beat())

        @handles(Beat)
        async def beat(self, _: Beat) -> None:
            beats.append(None)
            if len(beats) == 1:
                self.stash()

        @handles(Cancel)
        def stop_timer(self, _: Cancel) -> int:
            self.cancel(Beat)
            self.unstash()
            return len(beats)

    beats: list[None] = []
    async with StrictSystem() as system:
        later = await system.spawn(Later)
        await until(lambda: beats)
        assert await later.ask(Cancel()) == 1
    assert len(beats) == 1


@pytest.mark.anyio
async def test_delays_and_periods_that_make_no_sense() -> None:
    complaints: dict[str, list[str]] = defaultdict(list)

    class Confused(Heart):
        async def on_start(self) -> None:
            nan = float("nan")
            for name, method, values in (("after", self.after, (-1, nan)), ("every", self.every, (-1, 0, nan))):
                for value in values:
                    with pytest.raises(ValueError, match=r"a timer of .* at /confused") as caught:
                        method(value, Beat())
                    complaints[name].append(str(caught.value))
            with pytest.raises(TypeError):
                self.after("soon", Beat())  # type: ignore[arg-type]

    async with StrictSystem() as system:
        confused = await system.spawn(Confused, [], name="confused")
        assert not system.cells[confused.address]._timers
    assert (len(complaints["after"]), len(complaints["every"])) == (2, 3)
