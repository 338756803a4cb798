"""What the crew shows: a progress bar while it works, then the report."""

from collections import Counter
from collections.abc import Mapping

from rich import box
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from actors import Actor, Message, Priority, handles
from examples.code_review.crew import Editor, Summarise, Summary

REFRESH = 0.1  # seconds
SHOWN = 20  # failed files; the rest is counted


class Refresh(Message[None]):
    """Show how far the crew is."""


class Reporter(Actor):
    """Asks the editor ten times a second, prints the report when the crew is done, and finishes."""

    def __init__(self, editor: str = "/crew/editor") -> None:
        self.editor_address = editor
        self.console = Console()
        self.progress = progress_on(self.console)
        self.bar = self.progress.add_task("reviewing", total=None)

    async def on_start(self) -> None:
        self.editor = self.system.ref(self.editor_address, Editor)
        self.progress.start()
        self.every(REFRESH, Refresh())

    async def on_stop(self, reason: str) -> None:
        self.progress.stop()

    @handles(Refresh)
    async def refresh(self, _: Refresh) -> None:
        summary = await self.editor.ask(Summarise(), priority=Priority.HIGH)  # before the reviews that wait
        seen = summary.reviewed + len(summary.not_reviewed)
        self.progress.update(self.bar, total=summary.found or None, completed=seen, refresh=True)
        if summary.done:
            self.progress.stop()
            by_reason = in_words(self.system.dead_letters)
            self.console.print(report(summary, {"restarts": f"{summary.restarts:,}", "dead letters": by_reason}))
            self.stop()


def progress_on(console: Console) -> Progress:
    """Return a bar that is refreshed when told to; none where there is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, auto_refresh=False, transient=True, disable=not console.is_terminal)


def in_words(dead_letters: Mapping[str, int]) -> str:
    """Return how many there are of each reason."""
    return ", ".join(f"{count:,} {reason}" for reason, count in dead_letters.items()) or "none"


def report(summary: Summary, more: Mapping[str, str]) -> RenderableType:
    """Return everything worth knowing about a review, and `more` totals, to print with rich."""
    findings = table("Findings", "kind", "count>", "for example")
    for kind, count in Counter(summary.findings).most_common():
        findings.add_row(kind.value, f"{count:,}", summary.examples[kind])
    functions = table("Most complex functions", "complexity>", "function", "where")
    for complexity, place, name in summary.most_complex:
        functions.add_row(str(complexity), name, place)
    failures = table("Files not reviewed", "file", "reason", "cause")
    for file in summary.not_reviewed[:SHOWN]:
        failures.add_row(escape(file.path), file.reason, escape(file.cause))
    if rest := summary.not_reviewed[SHOWN:]:
        failures.add_row(f"and {len(rest):,} more", "", "")
    totals = table("Totals", "files>", "lines>", "functions>", "findings>", *(f"{name}>" for name in more))
    figures = (summary.found, summary.lines, summary.functions, sum(summary.findings.values()))
    totals.add_row(*(f"{figure:,}" for figure in figures), *more.values())
    failed = len(summary.not_reviewed)
    right = summary.found == summary.reviewed + failed
    verdict = "[green]the counts add up[/]" if right else "[bold red]the counts do not add up[/]"
    counts = f"{summary.found:,} found = {summary.reviewed:,} reviewed + {failed:,} failed: {verdict}"
    return Group(*(each for each in (findings, functions, failures, totals) if each.row_count), counts)


def table(title: str, *columns: str) -> Table:
    """Return an empty table; a column that ends in > is set to the right."""
    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for column in columns:
        made.add_column(column.rstrip(">"), justify="right" if column.endswith(">") else "left", overflow="fold")
    return made
