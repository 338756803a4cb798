"""The crew: a librarian finds the files of a source tree, inspectors review them, an editor adds up.

    /crew/editor                 gathers reviews and dead letters, and says how far the crew is when asked
    /crew/librarian              finds the files and hands them out
    /crew/librarian/inspectors   a pool; each reviews one file at a time. A file that cannot be read or parsed
                                 fails its inspector: it is restarted, and the message is a dead letter
    /crew/reporter               (in report.py) asks the editor, shows the progress, prints the report

Its members take plain arguments and know each other by address, so the same tree stands in Python
(`__main__.py`) and in TOML (`node.toml`).
"""

import heapq
import os
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from anyio import to_thread

from actors import Actor, DeadLetter, Message, handles
from actors.events import ActorRestarted
from actors.pool import least_loaded
from examples.code_review.inspection import Kind, Review, inspect


class Walk(Message[None]):
    """Find all files and hand them out."""


class Found(Message[None]):
    """So many files are going to be handed out."""

    files: int


class Inspect(Message[None]):
    """Review the file at this path below the source, and tell the editor."""

    path: str


class Reviewed(Message[None]):
    """A file has been reviewed."""

    path: str
    review: Review


class Done(Message[None]):
    """Every file handed out has met its fate."""


@dataclass
class Summary:
    """What the editor knows so far; places are written `path:line`."""

    found: int = 0
    reviewed: int = 0
    lines: int = 0
    functions: int = 0
    findings: Counter[Kind] = field(default_factory=Counter)
    examples: dict[Kind, str] = field(default_factory=dict)
    most_complex: list[tuple[int, str, str]] = field(default_factory=list)
    """(complexity, place, name), the ten worst first."""
    failed: list[tuple[str, str, str]] = field(default_factory=list)
    """(path, reason, error) of every file that was not reviewed: its message is a dead letter."""
    restarts: int = 0
    done: bool = False

    @property
    def adds_up(self) -> bool:
        """Whether every file found has been reviewed or has failed, once."""
        return self.found == self.reviewed + len(self.failed)


class Summarise(Message[Summary]):
    """What do you know so far?"""


class Editor(Actor):
    """Adds up the reviews. What became of the other files it learns from the system's dead letters."""

    def __init__(self) -> None:
        self.summary = Summary()
        self.dead_letters: list[DeadLetter] = []
        self.restarts: list[ActorRestarted] = []

    async def on_start(self) -> None:
        # Events come between turns: they are only noted here, and looked at in a turn.
        self.unsubscribe = (
            self.system.subscribe(DeadLetter, self.dead_letters.append),
            self.system.subscribe(ActorRestarted, self.restarts.append),
        )

    async def on_stop(self, reason: str) -> None:
        for unsubscribe in self.unsubscribe:
            unsubscribe()

    @handles(Found)
    def found(self, message: Found) -> None:
        self.summary.found = message.files

    @handles(Reviewed)
    def reviewed(self, message: Reviewed) -> None:
        summary, review, path = self.summary, message.review, message.path
        summary.reviewed += 1
        summary.lines += review.lines
        summary.functions += len(review.functions)
        for line, kind in review.findings:
            summary.findings[kind] += 1
            summary.examples.setdefault(kind, f"{path}:{line}")
        here = [(complexity, f"{path}:{line}", name) for line, name, complexity in review.functions]
        summary.most_complex = heapq.nlargest(10, summary.most_complex + here)

    @handles(Done)
    def done(self, _: Done) -> None:
        self.summary.done = True

    @handles(Summarise)
    def summarise(self, _: Summarise) -> Summary:
        self.summary.restarts = len(self.restarts)
        self.summary.failed = [
            (letter.message.path, letter.reason, f"{type(letter.cause).__name__}: {letter.cause}")
            for letter in self.dead_letters
            if isinstance(letter.message, Inspect)
        ]
        return deepcopy(self.summary)  # an actor's state is its own: a reply is a copy


class Inspector(Actor):
    """Reviews files below `source`, each in a worker thread, so that nobody waits for the parser."""

    def __init__(self, source: str, editor: str) -> None:
        self.source, self.editor_address = Path(source), editor

    async def on_start(self) -> None:
        self.editor = self.system.ref(self.editor_address, Editor)

    @handles(Inspect)
    async def review(self, message: Inspect) -> None:
        # Nothing is caught: a broken file fails this inspector, and the supervisor knows what to do.
        review = await to_thread.run_sync(
            lambda: inspect((self.source / message.path).read_bytes(), message.path)
        )
        await self.editor.tell(Reviewed(path=message.path, review=review))


class Librarian(Actor):
    """Hands out the Python files below `source` (at most `limit`) to a pool of `workers` inspectors."""

    def __init__(
        self, source: str, workers: int = 4, limit: int | None = None, editor: str = "/crew/editor"
    ) -> None:
        self.source, self.workers, self.limit, self.editor_address = source, workers, limit, editor

    async def on_start(self) -> None:
        await self.ref.tell(Walk())

    @handles(Walk)
    async def walk(self, _: Walk) -> None:
        editor = self.system.ref(self.editor_address, Editor)
        paths = await to_thread.run_sync(lambda: list(islice(find_sources(self.source), self.limit)))
        await editor.tell(Found(files=len(paths)))
        inspectors = await self.pool(
            Inspector, self.source, self.editor_address, name="inspectors", size=self.workers, routing=least_loaded,
            capacity=8,  # files that wait for each inspector: when all are full, `tell` below waits
            # A failed file is not tried again, so however many are broken, they cause at most as many restarts as
            # there are files. More than that is a fault of the inspector, and then the pool should give up.
            intensity=len(paths), period=60.0,
        )  # fmt: skip
        for path in paths:
            await inspectors.tell(Inspect(path=path))
        await inspectors.stop(timeout=60.0)  # drained first: each file has been reviewed or is a dead letter
        await editor.tell(Done())


_NOT_OURS = {"site-packages", "node_modules", "__pycache__"}


def find_sources(source: str | Path) -> Iterator[str]:
    """Yield the paths below `source` of its Python files, without hidden or installed ones.

    A folder that cannot be listed is yielded too: it cannot be read either, and so it is not passed over in silence.
    """
    unreadable: list[str] = []
    for folder, folders, names in os.walk(source, onerror=lambda error: unreadable.append(error.filename)):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _NOT_OURS)
        found = [name for name in sorted(names) if name.endswith(".py") and not name.startswith(".")]
        yield from (os.path.relpath(os.path.join(folder, name), source) for name in found)
    yield from (os.path.relpath(path, source) for path in unreadable)
