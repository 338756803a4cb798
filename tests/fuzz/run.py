"""Looks for findings in a process of its own: the input outlives whatever it does to that."""

from __future__ import annotations

import ctypes
import hashlib
import multiprocessing
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from tests.fuzz.mutate import LARGEST, REGRESSIONS, explore
from tests.fuzz.target import Finding, Target

REPORT: Final = 30.0  # seconds
FOUND: Final = 3  # the exit code of a process with a finding; that of one with an error is 1
STUCK: Final = 10.0  # seconds for one input; the slowest that is honest take 10 ms, the slowest at all 1 s
_processes: Final = multiprocessing.get_context("spawn")


class Current:
    """The input that is being checked, in memory that is shared with the process that checks it."""

    def __init__(self) -> None:
        self._data: Any = _processes.RawArray(ctypes.c_ubyte, LARGEST)
        self._size: Any = _processes.RawValue(ctypes.c_uint)
        self._number: Any = _processes.RawValue(ctypes.c_uint)

    def put(self, data: bytes) -> None:
        """`data` is checked next; more than its first `LARGEST` bytes are not kept."""
        data = data[:LARGEST]
        ctypes.memmove(self._data, data, len(data))
        self._size.value = len(data)
        self._number.value += 1

    @property
    def data(self) -> bytes:
        """What was put last."""
        return bytes(self._data[: self._size.value])

    @property
    def number(self) -> int:
        """How many there were."""
        return int(self._number.value)


def watch(run: Callable[[Current], None], stuck: float = STUCK) -> bytes | None:
    """The input at which `run`, in a process of its own, failed, died, or stayed for `stuck` seconds; or None."""
    current, before = Current(), 0
    process = _processes.Process(target=run, args=(current,), daemon=True)
    process.start()
    process.join(stuck)
    while process.is_alive():
        if before == current.number > 0:
            print(f"FOUND: an input that takes more than {stuck} s")
            process.kill()
            process.join()
            return current.data
        before = current.number
        process.join(stuck)
    code = process.exitcode or 0
    if code > 0 and code != FOUND:
        raise RuntimeError("not a finding: the fuzzer itself failed")
    if code < 0:
        print(f"FOUND: the process ended by {signal.Signals(-code).name}")
    return current.data if code else None


def search(current: Current, seconds: float, seed: int) -> None:
    """Explores for `seconds` and says each half minute what was met. Ends the process with `FOUND` at a finding."""
    target = Target()

    def check(data: bytes) -> str:
        current.put(data)
        return target.check(data)

    fates: Counter[str] = Counter()
    start = time.monotonic()
    report, end = start + REPORT, start + seconds
    try:
        for fate in explore(check, seed):
            fates[fate] += 1
            if (now := time.monotonic()) >= min(report, end):
                report += REPORT
                _report(fates, now - start)
                if now >= end:
                    return
    except Finding as finding:
        print(f"FOUND: {finding}", flush=True)
        sys.exit(FOUND)


def replay(current: Current, files: Sequence[Path]) -> None:
    """Says what becomes of the files. Ends the process with `FOUND` at a finding."""
    target = Target()
    for path in files:
        data = path.read_bytes()
        current.put(data)
        try:
            print(f"{path}: {target.check(data)}")
        except Finding as finding:
            print(f"{path}: FOUND: {finding}", flush=True)
            sys.exit(FOUND)


def _report(fates: Counter[str], seconds: float) -> None:
    kinds: Counter[str] = Counter()
    for fate, count in fates.items():
        kinds[re.sub(r"(?:: |, |; | by ).*", "", fate)[:60]] += count
    total = fates.total()
    print(f"{seconds:.0f} s: {total:,} inputs, {total / seconds:,.0f}/s, {len(fates)} fates")
    for kind, count in kinds.most_common(16):
        print(f"  {count / total:6.1%}  {kind}")
    sys.stdout.flush()


def keep(data: bytes, directory: Path = REGRESSIONS) -> Path:
    """Writes an input to where `make test` checks it from now on."""
    directory.mkdir(exist_ok=True)
    path = directory / f"{hashlib.sha256(data).hexdigest()[:16]}.bin"
    path.write_bytes(data)
    return path
