"""`Samples`: everything measured in one run of the benchmarks, its medians and its ratios."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.runtimes import COMPETITORS
from benchmarks.workloads import WORKLOADS


@dataclass(frozen=True)
class Sample:
    """One subprocess: what it measured, or why there is nothing (`failure`, which was `declined` where it said so)."""

    round: int
    runtime: str
    workload: str
    value: float | None = None
    n: int = 0
    seconds: float = 0.0
    share: float = 1.0
    detail: dict[str, float] = field(default_factory=dict)
    failure: str | None = None
    declined: bool = False


@dataclass
class Samples:
    machine: dict[str, Any]
    versions: dict[str, str]
    rounds: int
    samples: list[Sample] = field(default_factory=list)

    def of(self, runtime: str, workload: str) -> list[Sample]:
        return [s for s in self.samples if (s.runtime, s.workload) == (runtime, workload)]

    def median(self, runtime: str, workload: str, figure: str | None = None) -> float | None:
        """The median over the rounds of the workload's value, or of the named figure in its detail."""
        values = [
            s.value if figure is None else s.detail[figure]
            for s in self.of(runtime, workload)
            if s.value is not None and (figure is None or figure in s.detail)
        ]
        return median(values) if values else None

    def ratio(self, runtime: str, other: str, workload: str) -> float | None:
        """How many times better `runtime` is than `other`: the median of the ratios within each round."""
        theirs = {s.round: s.value for s in self.of(other, workload)}
        better = WORKLOADS[workload].better
        ratios = [
            better(s.value, value)
            for s in self.of(runtime, workload)
            if s.value is not None and (value := theirs.get(s.round)) is not None
        ]
        return median(ratios) if ratios else None

    def best_peer(self, workload: str, *, with_mailbox: bool = False) -> str | None:
        """The peer that is ahead of the others in this workload; `with_mailbox`: of those that have one."""
        medians = {
            peer: value
            for peer, competitor in COMPETITORS.items()
            if competitor.role == "peer" and (competitor.mailbox or not with_mailbox)
            if (value := self.median(peer, workload)) is not None
        }
        if not medians:
            return None
        return (min if WORKLOADS[workload].less_is_better else max)(medians, key=medians.__getitem__)

    def runtimes(self) -> list[str]:
        return [name for name in COMPETITORS if any(s.runtime == name for s in self.samples)]

    def workloads(self) -> list[str]:
        return [name for name in WORKLOADS if any(s.workload == name for s in self.samples)]

    def notes(self) -> list[str]:
        """One line for each reason why there is no figure, and whom it is true of."""
        names: dict[str, dict[str, None]] = {}
        for s in self.samples:
            if s.failure is not None:
                workload = "" if s.declined else f" ({WORKLOADS[s.workload].title})"
                names.setdefault(s.failure, {})[COMPETITORS[s.runtime].distribution + workload] = None
        return [f"{reason}: {', '.join(whom)}" for reason, whom in names.items()]

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Samples:
        saved = json.loads(path.read_text())
        return cls(**{**saved, "samples": [Sample(**sample) for sample in saved["samples"]]})
