"""`Measured`: what one run of one workload gave, and the stopwatch that times it."""

from __future__ import annotations

import gc
from dataclasses import dataclass, field
from time import perf_counter, process_time


@dataclass(frozen=True)
class Measured:
    """`value` in the workload's unit; `detail` holds further figures by name.

    `seconds` are of processor time, `share` is the part of the time on the wall that they make up.
    """

    value: float
    seconds: float
    share: float
    detail: dict[str, float] = field(default_factory=dict)


class Stopwatch:
    """Times its block, which begins with no garbage left from before.

    By processor time: all workloads keep one core busy, so on a quiet machine it is the time on the wall
    (`share` above 0.98), and on a shared one it leaves out what others took.
    """

    seconds: float
    share: float

    def __enter__(self) -> Stopwatch:
        gc.collect()
        self._begin, self._begin_wall = process_time(), perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = process_time() - self._begin
        self.share = self.seconds / (perf_counter() - self._begin_wall)

    def rate(self, n: int, **detail: float) -> Measured:
        """n operations in the time of the block, per second."""
        return Measured(n / self.seconds, self.seconds, self.share, detail)
