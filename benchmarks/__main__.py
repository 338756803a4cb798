"""`python -m benchmarks`: measure, print, save."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from benchmarks import chart, machine, tables, wire, wire_tables
from benchmarks.rounds import interleaved
from benchmarks.runtimes import COMPETITORS
from benchmarks.samples import Samples
from benchmarks.workloads import WORKLOADS

RESULTS = Path(__file__).parent / "results"
WIDTH = 200  # columns, where the output is no terminal
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
WIRE = "wire"


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
    workloads: Annotated[str, typer.Option(help=f"Workloads, comma-separated: {', '.join(WORKLOADS)}, {WIRE}.")] = "",
    quick: Annotated[bool, typer.Option(help="One round of short runs, not saved: a smoke test.")] = False,
    seconds: Annotated[float, typer.Option(help="About how long one run takes.")] = 0.5,
    save: Annotated[Path, typer.Option(help="Folder for the JSON and the chart.")] = RESULTS,
) -> None:
    """Compare waooaw-actors with the other actor runtimes that are installed, and with no runtime at all."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    names = chosen(workloads, [*WORKLOADS, WIRE], "workload")
    if quick:
        rounds, seconds = 1, 0.1
    folder = None if quick else save
    if local := [name for name in names if name != WIRE]:
        compare_runtimes(console, chosen(only, list(COMPETITORS), "runtime"), local, rounds, seconds, folder)
    if WIRE in names:
        compare_wire(console, rounds, seconds, folder)


def compare_runtimes(
    console: Console, runtimes: list[str], workloads: list[str], rounds: int, seconds: float, folder: Path | None
) -> None:
    versions = {name: competitor.version() for name, competitor in COMPETITORS.items()}
    runtimes = [name for name in runtimes if versions[name] is not None]
    installed = {COMPETITORS[name].distribution: version for name in runtimes if (version := versions[name])}
    samples = Samples(machine.describe(), installed, rounds)
    total = rounds * len(runtimes) * len(workloads)
    for sample in track(
        interleaved(runtimes, workloads, rounds, seconds), total=total, description="measuring", transient=True
    ):
        samples.samples.append(sample)
    tables.show(samples, console)
    if folder is not None:
        saved = folder / f"{PYTHON}.json"
        samples.save(saved)
        for path in (saved, *chart.draw(samples, folder, PYTHON)):
            console.print(f"wrote {path}")


def compare_wire(console: Console, rounds: int, seconds: float, folder: Path | None) -> None:
    measured = list(track(wire.rounds(rounds, seconds), "measuring the wire", total=rounds, transient=True))
    described, versions = machine.describe(), wire.versions()
    print(wire_tables.described(described, versions, rounds), wire_tables.tables(measured), sep="\n\n")
    if folder is not None:
        path = folder / f"{PYTHON}-wire.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"machine": described, "versions": versions, "rounds": measured}, indent=1) + "\n")
        console.print(f"wrote {path}")


if __name__ == "__main__":
    typer.run(main)
