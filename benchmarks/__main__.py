"""`python -m benchmarks`: measure, print, save."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from benchmarks import chart, machine, tables
from benchmarks.rounds import interleaved
from benchmarks.runtimes import COMPETITORS
from benchmarks.samples import Samples
from benchmarks.workloads import WORKLOADS

RESULTS = Path(__file__).parent / "results"
WIDTH = 200  # columns, where the output is no terminal


def chosen(given: str, known: list[str], what: str) -> list[str]:
    """The names in a comma-separated list, in the known order; all of them where none are given."""
    names = [name for name in given.replace("-", "_" if what == "runtime" else "-").split(",") if name]
    for name in names:
        if name not in known:
            raise typer.BadParameter(f"no {what} {name!r}; there are {', '.join(known)}")
    return [name for name in known if not names or name in names]


def main(
    rounds: Annotated[int, typer.Option(min=1, help="How often each competitor runs each workload.")] = 5,
    only: Annotated[str, typer.Option(help=f"Runtimes, comma-separated: {', '.join(COMPETITORS)}.")] = "",
    workloads: Annotated[str, typer.Option(help=f"Workloads, comma-separated: {', '.join(WORKLOADS)}.")] = "",
    quick: Annotated[bool, typer.Option(help="One round of short runs, not saved: a smoke test.")] = False,
    seconds: Annotated[float, typer.Option(help="About how long one run takes.")] = 0.5,
    save: Annotated[Path, typer.Option(help="Folder for the JSON and the chart.")] = RESULTS,
) -> None:
    """Compare waooaw-actors with the other actor runtimes that are installed, and with no runtime at all."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    versions = {name: competitor.version() for name, competitor in COMPETITORS.items()}
    runtimes = [name for name in chosen(only, list(COMPETITORS), "runtime") if versions[name] is not None]
    names = chosen(workloads, list(WORKLOADS), "workload")
    if quick:
        rounds, seconds = 1, 0.1
    installed = {COMPETITORS[name].distribution: version for name in runtimes if (version := versions[name])}
    samples = Samples(machine.describe(), installed, rounds)
    total = rounds * len(runtimes) * len(names)
    for sample in track(
        interleaved(runtimes, names, rounds, seconds), total=total, description="measuring", transient=True
    ):
        samples.samples.append(sample)
    tables.show(samples, console)
    if not quick:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        json = save / f"{version}.json"
        samples.save(json)
        for path in (json, *chart.draw(samples, save, version)):
            console.print(f"wrote {path}")


if __name__ == "__main__":
    typer.run(main)
