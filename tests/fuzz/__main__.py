"""Looks for bytes that break a `Wire`: python -m tests.fuzz [--seconds 300] [--seed N] [FILE ...]

With files it looks at these alone: so a finding is replayed. Ends with 1 where there is a finding.

The inputs are made by `random`, not by atheris or Hypothesis. Of seven bugs planted in the wire this finds all within
15 s each; so does atheris with `Mutator`, at a third of the inputs a second, and without it four, as bytes changed by
one who does not know the format rarely get past its first checks; Hypothesis with `Mutator`, at a twelfth, finds five.
And atheris has no wheels but for Linux on x86-64: elsewhere it needs clang.
"""

from __future__ import annotations

import random
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from tests.fuzz.run import keep, replay, search, watch


def main(
    files: Annotated[list[Path] | None, typer.Argument(help="Look at these alone.", exists=True)] = None,
    seconds: Annotated[float, typer.Option(help="How long to look.")] = 300.0,
    seed: Annotated[int | None, typer.Option(help="The same as before, for the same inputs.")] = None,
) -> None:
    """Looks for bytes that break a Wire; ends with 1 where there are some."""
    if files:
        raise typer.Exit(watch(partial(replay, files=files)) is not None)
    seed = random.SystemRandom().getrandbits(32) if seed is None else seed
    print(f"seed {seed}, {seconds:.0f} s", flush=True)
    data = watch(partial(search, seconds=seconds, seed=seed))
    if data is not None:
        print(f"replay it with: {sys.executable} -m tests.fuzz {keep(data)}")
        raise typer.Exit(1)
    print("nothing found")


if __name__ == "__main__":
    typer.run(main)
