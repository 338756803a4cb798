"""`python -m benchmarks.once RUNTIME WORKLOAD SECONDS`: one measurement in this process, one line of JSON."""

from __future__ import annotations

import asyncio
import importlib
import json
import math
import os
import sys
from dataclasses import asdict

import psutil
import uvloop

from benchmarks.measured import Measured
from benchmarks.runtime import RuntimeType, Unsupported
from benchmarks.workloads import WORKLOADS, Workload

STEP = 1_000  # every number of operations is a multiple of it


async def run(adapter: RuntimeType, workload: Workload, n: int) -> Measured:
    runtime = adapter()
    await runtime.start()
    measured = await workload.run(runtime, n)
    if workload.name != "stop":
        await runtime.stop()
    return measured


def measure(adapter: RuntimeType, workload: Workload, seconds: float) -> tuple[int, Measured]:
    """The last of a few runs, each larger than the one before, until one takes about `seconds`.

    The runs before it warm up; each has an event loop and actors of its own.
    """
    n = workload.size or STEP
    while True:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            measured = runner.run(run(adapter, workload, n))
        if workload.size or measured.seconds > 0.6 * seconds:
            return n, measured
        growth = min(seconds / measured.seconds, 20)
        n = STEP * math.ceil(n * growth / STEP)


def stay_on_one_core() -> None:
    """Settle on the idlest one. All run one bytecode at a time; on two, pykka's threads take turns six times slower."""
    if hasattr(os, "sched_setaffinity"):
        load = psutil.cpu_percent(interval=0.05, percpu=True)
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0), key=load.__getitem__)})


def main(runtime: str, workload: str, seconds: str) -> None:
    stay_on_one_core()
    adapter: RuntimeType = importlib.import_module(f"benchmarks.runtimes.{runtime}").Adapter
    try:
        n, measured = measure(adapter, WORKLOADS[workload], float(seconds))
    except Unsupported as reason:
        print(json.dumps({"unsupported": str(reason)}))
    else:
        print(json.dumps({"n": n} | asdict(measured)))


if __name__ == "__main__":
    main(*sys.argv[1:])
