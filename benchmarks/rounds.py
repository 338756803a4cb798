"""Runs each (runtime, workload) in a process of its own, the competitors interleaved round by round."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence

from benchmarks.samples import Sample

LIMIT = 60.0  # seconds for one process; a run takes about one


def interleaved(runtimes: Sequence[str], workloads: Sequence[str], rounds: int, seconds: float) -> Iterator[Sample]:
    """A B C, A B C, ...: what disturbs the machine for a while disturbs all competitors alike.

    What has once said that it cannot do a workload is not asked again.
    """
    declined: set[tuple[str, str]] = set()
    for number in range(rounds):
        for workload in workloads:
            for runtime in runtimes:
                if (runtime, workload) not in declined:
                    sample = once(number, runtime, workload, seconds)
                    if sample.declined:
                        declined.add((runtime, workload))
                    yield sample


def once(number: int, runtime: str, workload: str, seconds: float) -> Sample:
    """One measurement in a fresh process; whatever goes wrong with it is its `failure`."""
    command = [sys.executable, "-m", "benchmarks.once", runtime, workload, str(seconds)]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return Sample(number, runtime, workload, failure=f"not done after {LIMIT:.0f} s")
    if run.returncode:
        lines = run.stderr.strip().splitlines() or [f"exit code {run.returncode}"]
        return Sample(number, runtime, workload, failure=lines[-1])
    answer = json.loads(run.stdout.splitlines()[-1])
    if "unsupported" in answer:
        return Sample(number, runtime, workload, failure=answer["unsupported"], declined=True)
    return Sample(number, runtime, workload, **answer)
