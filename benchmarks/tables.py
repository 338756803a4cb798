"""The medians and the ratios of one run, for a terminal."""

from __future__ import annotations

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from benchmarks.runtimes import COMPETITORS
from benchmarks.samples import Samples
from benchmarks.workloads import WORKLOADS

NONE = "-"


def show(samples: Samples, console: Console) -> None:
    machine, versions = samples.machine, samples.versions
    console.print(
        f"{machine['python']}, uvloop {machine['uvloop']}, {machine['processor']}, "
        f"{samples.rounds} rounds, {machine['date']}"
    )
    console.print(", ".join(f"{name} {version}" for name, version in versions.items()), style="dim")
    console.print(Group(medians(samples), latencies(samples), ratios(samples)))
    for note in samples.notes():
        console.print(f"- {note}", style="dim", highlight=False)


def medians(samples: Samples) -> Table:
    table = table_of("Medians (per second; idle: bytes per actor)", samples)
    for runtime in samples.runtimes():
        values = [samples.median(runtime, workload) for workload in samples.workloads()]
        table.add_row(name(runtime), *(NONE if value is None else amount(value) for value in values))
    return table


def latencies(samples: Samples) -> Table:
    asks = [workload for workload in samples.workloads() if "ask" in workload]
    table = table_of("Latency of an ask, p50 / p99 (µs)", samples, asks)
    for runtime in samples.runtimes():
        cells = []
        for workload in asks:
            p50 = samples.median(runtime, workload, "p50_us")
            p99 = samples.median(runtime, workload, "p99_us")
            cells.append(NONE if p50 is None or p99 is None else f"{p50:.1f} / {p99:.1f}")
        if set(cells) != {NONE}:
            table.add_row(name(runtime), *cells)
    return table


def ratios(samples: Samples) -> Table:
    """Above 1: ours is ahead, whichever way the unit points."""
    table = table_of("Times better than (above 1: ours is ahead; medians of the ratios within a round)", samples)
    workloads = samples.workloads()
    for title, with_mailbox in (("the best peer", False), ("the best with a mailbox", True)):
        best = [samples.best_peer(workload, with_mailbox=with_mailbox) for workload in workloads]
        cells = [ratio(samples, peer, workload) for workload, peer in zip(workloads, best, strict=True)]
        table.add_row(title, *cells, end_section=with_mailbox)
    for other in samples.runtimes():
        if other != "ours":
            table.add_row(name(other), *(ratio(samples, other, workload) for workload in workloads))
    return table


def table_of(title: str, samples: Samples, workloads: list[str] | None = None) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for workload in samples.workloads() if workloads is None else workloads:
        table.add_column(WORKLOADS[workload].title, justify="right")
    return table


def name(runtime: str) -> str:
    return COMPETITORS[runtime].distribution


def ratio(samples: Samples, other: str | None, workload: str) -> Text:
    value = None if other is None else samples.ratio("ours", other, workload)
    if value is None:
        return Text(NONE)
    return Text(f"{value:.2f}" if value < 10 else f"{value:.0f}", style="green" if value >= 1 else "red")


def amount(value: float) -> str:
    """1.86M, 585k, 6,554."""
    if value >= 1e6:
        return f"{value / 1e6:.2f}M"
    return f"{value / 1e3:.0f}k" if value >= 1e4 else f"{value:,.0f}"
