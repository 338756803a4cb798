"""The crew: a librarian finds the files of a source tree, inspectors review them, an editor adds up.

    /crew/editor                 gathers reviews and dead letters, and says how far the crew is when asked
    /crew/librarian              finds the files and hands them out
    /crew/librarian/inspectors   a pool; each reviews one file at a time. A file that cannot be read or parsed
                                 fails its inspector: it is restarted, and the message is a dead letter
    /crew/reporter               (in report.py) asks the editor, shows the progress, prints the report

Its members take plain arguments and know each other by address, so the same tree stands in Python
(`__main__.py`) and in TOML (`node.toml`). Over several nodes (`redis.toml`) the librarian is a `Dealer`.
"""

import heapq
import os
import sysconfig
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from anyio import create_task_group, to_thread

from actors import Actor, ActorRef, Message, Receipt, handles
from actors.events import ActorRestarted, describe
from actors.pool import least_loaded
from examples.code_review.inspection import Kind, Review, inspect


class Walk(Message[None]):
    """Find the Python files below `source`, at most `limit`, and hand them out."""

    source: str
    limit: int | None = None


class Found(Message[None]):
    """A walk begins: so many files are going to be handed out."""

    files: int


class Inspect(Message[None]):
    """Review the file at this path below `source`, and tell the editor."""

    source: str
    path: str


class Reviewed(Message[None]):
    """A file has been reviewed, in the system of this name."""

    path: str
    node: str
    review: Review


class NotReviewed(Message[None]):
    """A file has not been reviewed: its `Inspect` is a dead letter, for this reason."""

    path: str
    reason: str
    cause: str


class Done(Message[None]):
    """The walk has ended: each of so many files has met its fate."""

    files: int


@dataclass
class Summary:
    """What the editor knows so far; a place is written `path:line`."""

    found: int = 0
    reviewed: int = 0
    again: int = 0
    """Reviews of files that had been reviewed: between nodes delivery is at least once, and they are not added."""
    by: dict[str, int] = field(default_factory=dict)
    """Files reviewed, by inspector, written `node/address`."""
    lines: int = 0
    functions: int = 0
    findings: dict[Kind, int] = field(default_factory=dict)
    examples: dict[Kind, str] = field(default_factory=dict)
    most_complex: list[tuple[int, str, str]] = field(default_factory=list)
    """Complexity, place and name of the ten worst functions, the worst first."""
    not_reviewed: list[NotReviewed] = field(default_factory=list)
    restarts: int = 0
    done: bool = False


class Summarise(Message[Summary]):
    """What do you know so far?"""


class Editor(Actor):
    """Adds up what became of the files."""

    def __init__(self) -> None:
        self.summary = Summary()
        self.seen: set[str] = set()
        """The paths that are in the summary."""
        self.restarts: list[ActorRestarted] = []

    async def on_start(self) -> None:
        # Events come between turns: they are noted, and looked at in a turn.
        self.unsubscribe = self.system.subscribe(ActorRestarted, self.restarts.append)

    async def on_stop(self, reason: str) -> None:
        self.unsubscribe()

    async def on_restart(self, error: BaseException) -> None:
        self.unsubscribe()

    @handles(Found)
    def found(self, message: Found) -> None:
        # A restart keeps the mailbox: what came before this is of a walk that was given up.
        self.summary, self.seen = Summary(found=message.files), set()

    @handles(Reviewed)
    def reviewed(self, message: Reviewed) -> None:
        summary, review, path = self.summary, message.review, message.path
        if path in self.seen:
            summary.again += 1
            return
        self.seen.add(path)
        summary.reviewed += 1
        inspector = f"{message.node}{self.envelope.sender}"
        summary.by[inspector] = summary.by.get(inspector, 0) + 1
        summary.lines += review.lines
        summary.functions += len(review.functions)
        for line, kind in review.findings:
            summary.findings[kind] = summary.findings.get(kind, 0) + 1
            place = f"{path}:{line}"
            summary.examples[kind] = min(place, summary.examples.get(kind, place))  # in whatever order they come
        here = [(complexity, f"{path}:{line}", name) for line, name, complexity in review.functions]
        summary.most_complex = heapq.nlargest(10, summary.most_complex + here)

    @handles(NotReviewed)
    def not_reviewed(self, message: NotReviewed) -> None:
        if message.path not in self.seen:
            self.seen.add(message.path)
            self.summary.not_reviewed.append(message)

    @handles(Done)
    def done(self, message: Done) -> None:
        self.summary.done = message.files == self.summary.found

    @handles(Summarise)
    def summarise(self, _: Summarise) -> Summary:
        self.summary.restarts = len(self.restarts)
        return deepcopy(self.summary)  # an actor's state is its own: a reply is a copy


class Inspector(Actor):
    """Reviews files, each in a worker thread, so that nobody waits for the parser."""

    def __init__(self, editor: str = "/crew/editor") -> None:
        self.editor = editor

    @handles(Inspect)
    async def review(self, message: Inspect) -> None:
        # Nothing is caught: a broken file fails this inspector, and the supervisor knows what to do.
        file = Path(message.source, message.path)
        review = await to_thread.run_sync(lambda: inspect(file.read_bytes(), message.path))
        editor = self.system.ref(self.editor, Editor)
        await editor.tell(Reviewed(path=message.path, node=self.system.name, review=review))


STANDARD_LIBRARY = sysconfig.get_path("stdlib")
IN_HAND = 4  # files that a dealer has given to an inspector and has no word of
WAITING = 8  # files in the mailbox of each inspector; when all are full, the librarian waits


class Librarian(Actor):
    """Hands out the Python files below `source` (at most `limit`) to a pool of `workers` inspectors."""

    def __init__(
        self,
        source: str = STANDARD_LIBRARY,
        workers: int = 4,
        limit: int | None = None,
        editor: str = "/crew/editor",
    ) -> None:
        self.source, self.workers, self.limit, self.editor = source, workers, limit, editor

    async def on_start(self) -> None:
        await self.ref.tell(Walk(source=self.source, limit=self.limit))

    @handles(Walk)
    async def walk(self, message: Walk) -> None:
        editor = self.system.ref(self.editor, Editor)
        paths = await to_thread.run_sync(lambda: list(islice(find_sources(message.source), message.limit)))
        await editor.tell(Found(files=len(paths)))
        await self.hand_out([Inspect(source=message.source, path=path) for path in paths])
        await editor.tell(Done(files=len(paths)))

    async def hand_out(self, files: list[Inspect]) -> None:
        """Return when each of these has met its fate."""
        # A failed file is not tried again, so broken files cause at most one restart each, however many there
        # are; more than that is a fault of the inspector itself, and then the pool should give up.
        limits = {"capacity": WAITING, "intensity": len(files), "period": 60.0}
        inspectors = await self.pool(
            Inspector, self.editor, name="inspectors", size=self.workers, routing=least_loaded, **limits
        )
        receipts = [(file, await inspectors.tell(file, receipt=True)) for file in files]
        for file, receipt in receipts:
            await self.look_at(file, receipt)

    async def look_at(self, file: Inspect, receipt: Receipt) -> None:
        """Wait for the outcome, and tell the editor of a file that was not reviewed."""
        outcome = await receipt.wait()
        if outcome.fate != "handled":
            cause = describe(outcome.error) or "unknown"
            failure = NotReviewed(path=file.path, reason=outcome.reason, cause=cause)
            await self.system.ref(self.editor, Editor).tell(failure)


class Dealer(Librarian):
    """A librarian that waits to be told, and deals the files out to inspectors on any node, by their addresses."""

    def __init__(self, inspectors: list[str], editor: str = "/crew/editor") -> None:
        super().__init__(editor=editor)
        self.inspectors = inspectors

    async def on_start(self) -> None:
        """The order to walk waits in the mailbox: where a node dies, it is carried out again on another."""

    async def hand_out(self, files: list[Inspect]) -> None:
        # Each inspector has a few files and gets one for each that is done: those that live go on without those
        # whose node has died, and whose files wait for them.
        left = iter(files)

        async def deal(to: ActorRef[Inspector]) -> None:
            for file in left:
                await self.look_at(file, await to.tell(file, receipt=True))

        async with create_task_group() as dealing:
            for address in self.inspectors * IN_HAND:
                dealing.start_soon(deal, self.system.ref(address, Inspector))


_NOT_OURS = {"site-packages", "node_modules", "__pycache__"}


def find_sources(source: str | Path) -> Iterator[str]:
    """Yield the paths below `source` of its Python files, without hidden or installed ones.

    A folder that cannot be listed is yielded as well: it fails as a file does, instead of being passed over.
    """
    unreadable: list[str] = []
    for folder, folders, names in os.walk(source, onerror=lambda error: unreadable.append(error.filename)):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _NOT_OURS)
        found = [name for name in sorted(names) if name.endswith(".py") and not name.startswith(".")]
        yield from (os.path.relpath(os.path.join(folder, name), source) for name in found)
    yield from (os.path.relpath(path, source) for path in unreadable)
