"""A crew of actors reviews a Python source tree.

Run: python -m examples.code_review [SOURCE] [--workers 4] [--limit 100]
"""

import logging
import sysconfig
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
import structlog
import typer

from actors import ActorSystem, ChildSpec, Restart, Strategy, run
from examples.code_review.crew import Editor, Librarian, find_sources
from examples.code_review.report import Reporter


async def review(source: str, workers: int, limit: int | None) -> None:
    """Start the crew and return when it has finished."""
    async with ActorSystem("code-review") as system:
        crew = await system.supervise(
            ChildSpec(Editor, name="editor"),
            ChildSpec(Librarian, source, workers, limit, name="librarian"),
            ChildSpec(Reporter, name="reporter", restart=Restart.TRANSIENT, significant=True),
            strategy=Strategy.ONE_FOR_ALL,  # half a report is worth nothing: whoever fails, all begin anew
            auto_shutdown="any_significant",  # the reporter is the last to finish
            name="crew",
        )
        await crew.stopped()


def main(
    source: Annotated[
        Path | None, typer.Argument(help="A folder; by default Python's standard library.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Files reviewed at once.")] = 4,
    limit: Annotated[int | None, typer.Option(min=1, help="Review only so many files.")] = None,
) -> None:
    """Review a Python source tree with a crew of actors."""
    source = source or Path(sysconfig.get_path("stdlib"))
    if not source.is_dir():
        stop(f"{source}: {'a file; name the folder it is in' if source.exists() else 'no such folder'}")
    if next(find_sources(source), None) is None:
        stop(f"{source}: no Python files in it")
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR)
    )  # the report says it
    run(partial(review, str(source), workers, limit))


def stop(problem: str) -> None:
    """End with one line that says why."""
    typer.echo(problem, err=True)
    raise typer.Exit(2)


if __name__ == "__main__":
    typer.run(main)
