"""The same figures as a picture: one panel per workload, one bar per competitor."""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.runtimes import COMPETITORS
from benchmarks.samples import Samples
from benchmarks.tables import amount
from benchmarks.workloads import WORKLOADS

COLOURS = {"ours": "#1f6f8b", "peer": "#b8c4c9", "baseline": "#e3d9c6"}
COLUMNS = 4


def draw(samples: Samples, folder: Path, name: str) -> list[Path]:
    """Write `name`.png and `name`.svg into `folder`; returns their paths."""
    workloads = samples.workloads()
    rows = -(-len(workloads) // COLUMNS)
    figure = Figure(figsize=(4 * COLUMNS, 3.2 * rows), layout="constrained")
    competitors = [COMPETITORS[runtime] for runtime in samples.runtimes()]
    panels = iter(figure.subplots(rows, COLUMNS, squeeze=False).flat)
    for workload, panel in zip(workloads, panels, strict=False):
        values = [samples.median(competitor.module, workload) for competitor in competitors]
        panel.barh(
            [competitor.distribution for competitor in competitors],
            [value or 0 for value in values],
            color=[COLOURS[competitor.role] for competitor in competitors],
        )
        panel.invert_yaxis()
        for y, value in enumerate(values):
            panel.text(value or 0, y, " -" if value is None else f" {amount(value)}", va="center", fontsize=7)
        unit = "less is better" if WORKLOADS[workload].less_is_better else "per second"
        panel.set_title(f"{WORKLOADS[workload].title} ({unit})", fontsize=9)
        panel.tick_params(labelsize=7)
        panel.set_xticks([])
        panel.margins(x=0.2)
        panel.spines[["top", "right", "bottom"]].set_visible(False)
    for unused in panels:
        unused.set_visible(False)
    figure.suptitle(f"{samples.machine['python']}, {samples.machine['processor']}", fontsize=10)
    paths = [folder / f"{name}{suffix}" for suffix in (".png", ".svg")]
    for path in paths:
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
    return paths
