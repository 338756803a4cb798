"""A crew of actors reviews a Python source tree.

Run: python -m examples.code_review [SOURCE] [--workers 4] [--limit 100]
"""

import logging
from pathlib import Path
from typing import Annotated, NoReturn

import structlog
import typer

from actors import ActorSystem, ChildSpec, Restart, Strategy, run
from examples.code_review.crew import STANDARD_LIBRARY, Editor, Librarian, find_sources
from examples.code_review.report import Reporter


async def review(source: str, workers: int, limit: int | None) -> None:
    """Start the crew and return when it has finished."""
    async with ActorSystem("code-review") as system:
        await system.supervise(
            ChildSpec(Editor, name="editor"),
            # A walk that is interrupted has nothing to save, so it is not waited for.
            ChildSpec(Librarian, source, workers, limit, name="librarian", shutdown=0.0),
            ChildSpec(Reporter, name="reporter", restart=Restart.TRANSIENT, significant=True),
            strategy=Strategy.ONE_FOR_ALL,  # half a report is worth nothing: whoever fails, all begin anew
            auto_shutdown="any_significant",  # the reporter is the last to finish
            name="crew",
        )
        await system.finished()


def main(
    source: Annotated[Path, typer.Argument(help="A folder.")] = Path(STANDARD_LIBRARY),
    workers: Annotated[int, typer.Option(min=1, help="Files reviewed at once.")] = 4,
    limit: Annotated[int | None, typer.Option(min=1, help="Review only so many files.")] = None,
) -> None:
    """Review a Python source tree with a crew of actors."""
    check(source)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))  # the report says it
    typer.echo(f"Reviewing {source} with {workers} inspectors")
    run(review, str(source), workers, limit)


def check(source: Path) -> None:
    """End here where there is nothing to review."""
    if not source.is_dir():
        stop(f"{source}: {'a file; name the folder it is in' if source.exists() else 'no such folder'}")
    if next(find_sources(source), None) is None:
        stop(f"{source}: no Python files in it")


def stop(problem: str) -> NoReturn:
    """End with one line that says why."""
    typer.echo(problem, err=True)
    raise typer.Exit(2)


if __name__ == "__main__":
    typer.run(main)
