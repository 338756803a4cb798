"""The primitives under the runtime, on each event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Literal

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from tests.transport.loops import LOOPS, run_on
from transport.eventloop import EventLoop, Task, current_event_loop

pytestmark = pytest.mark.anyio


async def on_loop(function: Callable[[EventLoop], Awaitable[None]]) -> None:
    """Run `function` with the primitives of the running loop, then cancel what it has left running."""
    async with anyio.create_task_group() as tasks:
        loop = Loop(current_event_loop(tasks))
        try:
            with anyio.fail_after(5):
                await function(loop)
        finally:
            for task in loop.started:
                task.cancel()


class Loop:
    """An event loop that remembers the tasks it has started."""

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop
        self.future, self.now = loop.future, loop.now
        self.cancelled, self.absorb, self.checkpoint = loop.cancelled, loop.absorb, loop.checkpoint
        self.started: list[Task] = []

    def start(self, function: Callable[[], Coroutine[Any, Any, None]], name: str) -> Task:
        self.started.append(self._loop.start(function, name))
        return self.started[-1]


async def settle() -> None:
    for _ in range(5):
        await checkpoint()


async def test_the_clock_is_the_loop_s() -> None:
    async def body(loop: EventLoop) -> None:
        before, now, after = anyio.current_time(), loop.now(), anyio.current_time()
        assert before <= now <= after

    await on_loop(body)


async def test_a_future_is_resolved_before_or_after_somebody_waits() -> None:
    async def body(loop: EventLoop) -> None:
        early, late = loop.future(), loop.future()
        got: list[Any] = []

        async def wait() -> None:
            got.append(await early)
            got.append(await late)

        early.set_result("early")
        assert (early.done(), early.result(), late.done()) == (True, "early", False)
        loop.start(wait, "waits")
        await settle()
        assert got == ["early"]
        late.set_result("late")
        assert (late.done(), late.result(), got) == (True, "late", ["early"])
        await settle()
        assert got == ["early", "late"]

    await on_loop(body)


async def test_a_cancelled_wait_leaves_the_future_done() -> None:
    async def body(loop: EventLoop) -> None:
        future = loop.future()
        over: list[str] = []

        async def wait() -> None:
            try:
                await future
            finally:
                over.append("over")

        task = loop.start(wait, "waits")
        await settle()
        assert not future.done()
        task.cancel()
        assert future.done(), "so nobody resolves it for one who has gone"
        await settle()
        assert over == ["over"]

    await on_loop(body)


Move = Literal["resolve", "cancel", "run"]


@LOOPS
@given(moves=st.lists(st.sampled_from(["resolve", "cancel", "run"]), max_size=6))
def test_who_waits_hears_once_whatever_comes_first(loop: str, moves: list[Move]) -> None:
    async def body(loop: EventLoop) -> None:
        future = loop.future()
        heard: list[str] = []

        async def wait() -> None:
            try:
                heard.append(await future)
            except anyio.get_cancelled_exc_class():
                heard.append("cancelled")
                raise

        task = loop.start(wait, "waits")
        await settle()
        first: Move | None = None
        for move in moves:
            match move:
                case "run":
                    await settle()
                case "cancel":
                    first = first or move
                    task.cancel()
                    assert future.done()
                case "resolve" if not future.done():
                    first = first or move
                    future.set_result("resolved")
        task.cancel()
        await settle()
        assert len(heard) == 1
        if first != "resolve":
            assert heard == ["cancelled"]
        elif moves[moves.index("resolve") + 1 :][:1] == ["run"]:
            assert heard == ["resolved"]

    run_on(loop, on_loop, body)


async def test_a_task_runs_beside_and_ends_when_cancelled() -> None:
    async def body(loop: EventLoop) -> None:
        seen: list[str] = []

        async def run() -> None:
            seen.append("began")
            try:
                await anyio.sleep_forever()
            finally:
                seen.append("ended")

        task = loop.start(run, "runs")
        assert seen == []
        await settle()
        assert seen == ["began"]
        task.cancel()
        await settle()
        assert seen == ["began", "ended"]
        task.cancel()  # harmless

    await on_loop(body)


async def test_a_task_ends_by_its_own_cancellation_only_not_by_that_of_what_surrounds_it() -> None:
    ended: list[str] = []

    async def run() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("ended")

    async with anyio.create_task_group() as tasks:
        task = current_event_loop(tasks).start(run, "runs")
        await settle()
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await settle()
            before = list(ended)
            task.cancel()
            await settle()
    assert (before, ended) == ([], ["ended"])


async def test_a_task_that_swallows_its_cancellation_can_be_cancelled_again() -> None:
    async def body(loop: EventLoop) -> None:
        ended: list[bool] = []

        async def run() -> None:
            try:
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class():  # as bad handlers do
                pass
            try:
                await anyio.sleep_forever()
            finally:
                ended.append(True)

        task = loop.start(run, "runs")
        for _ in range(2):
            await settle()
            task.cancel()
        await settle()
        assert ended == [True]

    await on_loop(body)


async def test_a_task_cancelled_before_it_began_gets_no_further_than_its_first_await() -> None:
    async def body(loop: EventLoop) -> None:
        seen: list[str] = []

        async def run() -> None:
            await checkpoint()
            seen.append("ran")

        loop.start(run, "runs").cancel()
        await settle()
        assert seen == []

    await on_loop(body)


async def test_a_checkpoint_lets_the_others_run_once() -> None:
    async def body(loop: EventLoop) -> None:
        turns: list[str] = []

        def taking_turns(name: str) -> Callable[[], Any]:
            async def run() -> None:
                for _ in range(3):
                    turns.append(name)
                    await loop.checkpoint()

            return run

        loop.start(taking_turns("a"), "a")
        loop.start(taking_turns("b"), "b")
        for _ in range(10):
            await loop.checkpoint()
        assert len(turns) == 6
        assert [set(turns[at : at + 2]) for at in (0, 2, 4)] == [{"a", "b"}] * 3

    await on_loop(body)


async def test_a_task_that_has_absorbed_its_cancellation_cleans_up_in_peace() -> None:
    async def body(loop: EventLoop) -> None:
        seen: list[object] = []
        going = anyio.Event()

        async def run() -> None:
            try:
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class():  # it ends by itself, as a cell does
                seen.append(loop.cancelled())
                with anyio.CancelScope(shield=True):
                    await loop.absorb()
                    await going.wait()
                    await settle()
                    seen.append("cleaned up")

        task = loop.start(run, "runs")
        await settle()
        task.cancel()
        await settle()
        assert seen == [True]
        going.set()
        await settle()
        await settle()
        assert seen == [True, "cleaned up"]

    await on_loop(body)


async def test_a_task_that_cancels_itself_absorbs_that_too() -> None:
    """On asyncio such a cancellation is delivered at the next await, long after it was asked for."""

    async def body(loop: EventLoop) -> None:
        seen: list[str] = []

        async def run() -> None:
            tasks[0].cancel()
            with anyio.CancelScope(shield=True):
                await loop.absorb()
                await settle()
                seen.append("cleaned up")

        tasks: list[Task] = []
        tasks.append(loop.start(run, "runs"))
        await settle()
        await settle()
        assert seen == ["cleaned up"]

    await on_loop(body)


async def test_to_absorb_without_a_cancellation_changes_nothing() -> None:
    async def body(loop: EventLoop) -> None:
        ended: list[bool] = []

        async def run() -> None:
            with anyio.CancelScope(shield=True):
                await loop.absorb()
            try:
                await anyio.sleep_forever()
            finally:
                ended.append(True)

        task = loop.start(run, "runs")
        await settle()
        assert ended == []
        task.cancel()
        await settle()
        assert ended == [True]

    await on_loop(body)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_on_asyncio_a_cancelled_thing_that_is_awaited_is_no_cancellation_of_the_task(loop: str) -> None:
    async def body(loop: EventLoop) -> None:
        seen: list[bool] = []

        async def run() -> None:
            gone = asyncio.get_running_loop().create_future()
            gone.cancel()
            try:
                await gone
            except asyncio.CancelledError:
                seen.append(loop.cancelled())

        loop.start(run, "runs")
        await settle()
        assert seen == [False]

    run_on(loop, on_loop, body)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_on_asyncio_a_task_is_not_being_cancelled_any_more_once_it_has_absorbed_that(loop: str) -> None:
    async def body(loop: EventLoop) -> None:
        seen: list[bool] = []

        async def run() -> None:
            try:
                await anyio.sleep_forever()
            except asyncio.CancelledError:
                seen.append(loop.cancelled())
                with anyio.CancelScope(shield=True):
                    await loop.absorb()
                seen.append(loop.cancelled())

        task = loop.start(run, "runs")
        await settle()
        task.cancel()
        task.cancel()
        await settle()
        assert seen == [True, False]

    run_on(loop, on_loop, body)
