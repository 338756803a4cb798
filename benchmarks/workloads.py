"""The workloads: what is timed, and how. Every runtime runs these same lines."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from statistics import quantiles
from time import perf_counter as now

import psutil

from benchmarks.measured import Measured, Stopwatch
from benchmarks.runtime import Done, Line, Runtime

BURST = 1_000  # tells between two yields of the sender
ASKERS = 100
ACTORS = 10_000
WIDTH = 1_000


@dataclass(frozen=True)
class Workload:
    """`run(runtime, n)` measures n operations; a fixed `size` is not scaled to the time that a run may take."""

    name: str
    title: str
    run: Callable[[Runtime, int], Awaitable[Measured]]
    size: int | None = None
    less_is_better: bool = False

    def better(self, ours: float, theirs: float) -> float:
        """How many times better `ours` is: above 1 is ahead, whichever way the unit points."""
        return theirs / ours if self.less_is_better else ours / theirs


# Telling -------------------------------------------------------------------------------------------------


async def send_one(runtime: Runtime, line: Line) -> None:
    sent = line.send(line.message(7))
    if runtime.tell_awaits:
        await sent


async def flood(runtime: Runtime, lines: list[Line], n: int) -> None:
    """Tell n messages, one to each line in turn, and give way after every 1,000."""
    sends = [(line.send, line.message) for line in lines] * (BURST // len(lines))
    for _ in range(n // BURST):
        if runtime.tell_awaits:
            for send, message in sends:
                await send(message(7))
        else:
            for send, message in sends:
                send(message(7))
        await asyncio.sleep(0)


async def told(runtime: Runtime, lines: list[Line], n: int, done: Done) -> Measured:
    """From the first tell until the last message has been handled."""
    with Stopwatch() as watch:
        await flood(runtime, lines, n)
        await done.wait()
    return watch.rate(n)


async def tell(runtime: Runtime, n: int) -> Measured:
    done = Done()
    return await told(runtime, [await runtime.counter(n, done)], n, done)


async def tell_through(layers: int, runtime: Runtime, n: int) -> Measured:
    done = Done()
    return await told(runtime, [await runtime.filtered_counter(layers, n, done)], n, done)


async def fan_out(runtime: Runtime, n: int) -> Measured:
    done = Done(WIDTH)
    return await told(runtime, [await runtime.counter(n // WIDTH, done) for _ in range(WIDTH)], n, done)


async def ping_pong(runtime: Runtime, n: int) -> Measured:
    done = Done()
    first = await runtime.rally(n // 2, done)
    with Stopwatch() as watch:
        await send_one(runtime, first)
        await done.wait()
    return watch.rate(n)


# Asking --------------------------------------------------------------------------------------------------


async def ask_in_turn(line: Line, n: int) -> list[float]:
    """Ask n times, each after the other's answer; the seconds that each took."""
    send, message, took = line.send, line.message, []
    before = now()
    for _ in range(n):
        await send(message(7))
        after = now()
        took.append(after - before)
        before = after
    return took


def ask_in_turn_blocking(line: Line, n: int) -> list[float]:
    """The same where an ask blocks the thread."""
    send, message, took = line.send, line.message, []
    before = now()
    for _ in range(n):
        send(message(7))
        after = now()
        took.append(after - before)
        before = after
    return took


async def asked(line: Line, askers: int, runtime: Runtime, n: int) -> Measured:
    """n asks by `askers` at once, or by one in turn."""
    answer = line.send(line.message(7))
    if (await answer if runtime.ask_awaits else answer) != 7:
        raise AssertionError("the echo did not answer with the message's number")
    with Stopwatch() as watch:
        if runtime.ask_awaits:
            runs = await asyncio.gather(*(ask_in_turn(line, n // askers) for _ in range(askers)))
        elif askers > 1:
            runs = [runtime.together(line, askers) for _ in range(n // askers)]
        else:
            runs = [ask_in_turn_blocking(line, n)]
    cuts = quantiles((each for run in runs for each in run), n=100)
    return watch.rate(n, p50_us=cuts[49] * 1e6, p99_us=cuts[98] * 1e6)


async def ask(askers: int, runtime: Runtime, n: int) -> Measured:
    return await asked(await runtime.echo(), askers, runtime, n)


async def ask_plain(askers: int, runtime: Runtime, n: int) -> Measured:
    return await asked(await runtime.plain_echo(), askers, runtime, n)


# Many actors ---------------------------------------------------------------------------------------------


async def spawn(runtime: Runtime, n: int) -> Measured:
    with Stopwatch() as watch:
        await runtime.spawn(n)
    return watch.rate(n)


async def stop(runtime: Runtime, n: int) -> Measured:
    await runtime.spawn(n)
    with Stopwatch() as watch:
        await runtime.stop()
    return watch.rate(n)


async def idle(runtime: Runtime, n: int) -> Measured:
    """Bytes of resident memory per actor that has handled one message and waits for the next."""
    process = psutil.Process()

    async def settle(count: int) -> list[Line]:
        done = Done(count)
        lines = [await runtime.counter(1, done) for _ in range(count)]
        for line in lines:
            await send_one(runtime, line)
        await done.wait()
        gc.collect()
        return lines

    with Stopwatch() as watch:
        warm = await settle(100)  # imports, caches and first arenas are not the actors'
        before = process.memory_info().rss
        many = await settle(n)
        size = (process.memory_info().rss - before) / n
    del warm, many
    return Measured(size, watch.seconds, watch.share)


async def skynet(runtime: Runtime, n: int) -> Measured:
    with Stopwatch() as watch:
        total = await runtime.skynet(n)
    if total != n * (n - 1) // 2:
        raise AssertionError(f"skynet: the leaves' numbers add up to {total}")
    return watch.rate(n)


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("tell", "tell", tell),
        Workload("ask", "ask", partial(ask, 1)),
        Workload("ask-def", "ask def", partial(ask_plain, 1)),
        Workload("askers", f"{ASKERS} ask", partial(ask, ASKERS)),
        Workload("askers-def", f"{ASKERS} ask def", partial(ask_plain, ASKERS)),
        Workload("ping-pong", "ping-pong", ping_pong),
        Workload("fan-out", "fan-out", fan_out),
        Workload("spawn", "spawn", spawn, ACTORS),
        Workload("stop", "stop", stop, ACTORS),
        Workload("idle", "idle B", idle, ACTORS, less_is_better=True),
        Workload("skynet", "skynet", skynet, ACTORS),
        Workload("tell-1", "tell +1 mw", partial(tell_through, 1)),
        Workload("tell-3", "tell +3 mw", partial(tell_through, 3)),
    )
}
