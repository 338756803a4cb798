"""What producers and handlers have seen, on disk as it happens, and what it amounts to."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec

INSTANT: Final = 0.005  # seconds that a signal may take

Kind: TypeAlias = Literal["invoke", "ok", "fail", "unknown", "begin", "start", "end"]


class Event(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """Something that a process saw at `at`, on the clock `monotonic`, which all processes of a machine share.

    A producer records each message: invoke, then ok (accepted), fail (not accepted) or unknown. A handler records
    start and end, an actor its begin. A `stream` is one sender's mail for one address in one lane, numbered from 0.
    """

    at: float
    kind: Kind
    process: str
    address: str
    stream: str = ""
    number: int = 0
    attempt: int = 1
    life: int = 0
    """Which of its process's incarnations of actors the handler was called on."""
    detail: str = ""


Name: TypeAlias = tuple[str, int]
"""Of a message: its stream and number."""


class History:
    """The file of one process. An event is one write, so that nothing is lost by a kill."""

    def __init__(self, folder: Path, process: str) -> None:
        self.process = process
        self._file = os.open(folder / f"{process}.history", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def add(
        self, kind: Kind, address: str, stream: str = "", number: int = 0, *,
        attempt: int = 1, life: int = 0, detail: str = "",
    ) -> None:  # fmt: skip
        event = Event(time.monotonic(), kind, self.process, str(address), stream, number, attempt, life, detail)
        os.write(self._file, msgspec.json.encode(event) + b"\n")

    def close(self) -> None:
        os.close(self._file)


class Histories:
    """What all processes have recorded so far; a look reads what is new."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, int] = {}
        self._events: list[Event] = []
        self._decoder = msgspec.json.Decoder(Event)

    def look(self) -> list[Event]:
        """All events, file by file."""
        for path in self._folder.glob("*.history"):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                lines = file.read()
            end = lines.rfind(b"\n") + 1
            self._read[path] = self._read.get(path, 0) + end
            self._events += map(self._decoder.decode, lines[:end].splitlines())
        return self._events


class Fault(NamedTuple):
    """What was done at `at`; to `process`, or to the server or the network."""

    at: float
    kind: str
    process: str | None = None


class Verdict(msgspec.Struct, frozen=True):
    """What a history amounts to, once all is drained. Of the lists only `buried` and `duplicated` may hold anything."""

    accepted: int
    refused: int
    unknown: int
    """Of which the sender was told that nobody knows."""
    cut_off: int
    """Of which the sender never heard, as it died."""
    lost: list[Name]
    """Accepted, and neither handled nor a dead letter."""
    phantom: list[Name]
    """Handled, though the sender was told that it never would be, or never sent at all."""
    buried: list[Name]
    """Accepted, and a dead letter."""
    duplicated: list[Name]
    """Begun once more by somebody else: the price of at least once."""
    doubled: list[Name]
    """Begun twice by the same incarnation: no fault excuses it."""
    disorder: list[Name]
    """Begun for the first time after one that was sent later, in the same stream."""
    stale: list[Name]
    """Begun by an incarnation after another one had taken its address over."""

    def sound(self) -> bool:
        """Whether every promise has been kept."""
        return not (self.lost or self.phantom or self.doubled or self.disorder or self.stale)


def judge(events: Iterable[Event], buried: Collection[Name] = ()) -> Verdict:
    """The verdict on what was recorded, of which `buried` are dead letters."""
    outcomes: dict[Name, Kind] = {}
    starts: list[Event] = []
    ended: set[Name] = set()
    for event in sorted(events, key=lambda event: event.at):
        name = event.stream, event.number
        match event.kind:
            case "start":
                starts.append(event)
            case "end":
                ended.add(name)
            case "invoke":
                outcomes[name] = "invoke"  # as long as nothing better is known
            case "ok" | "fail" | "unknown":
                outcomes[name] = event.kind
            case "begin":
                pass
    accepted = {name for name, kind in outcomes.items() if kind == "ok"}
    begun: dict[tuple[Name, int], list[tuple[str, int]]] = defaultdict(list)
    last: dict[str, int] = {}
    lives: dict[str, list[tuple[str, int]]] = defaultdict(list)
    disorder, stale = [], []
    for event in starts:
        name, life = (event.stream, event.number), (event.process, event.life)
        if event.attempt == 1 and not begun[name, 1]:
            if event.number < last.get(event.stream, -1):
                disorder.append(name)
            last[event.stream] = max(event.number, last.get(event.stream, -1))
        begun[name, event.attempt].append(life)
        of_address = lives[event.address]
        if life in of_address[:-1]:
            stale.append(name)
        elif life not in of_address:
            of_address.append(life)
    return Verdict(
        accepted=len(accepted),
        refused=sum(kind == "fail" for kind in outcomes.values()),
        unknown=sum(kind == "unknown" for kind in outcomes.values()),
        cut_off=sum(kind == "invoke" for kind in outcomes.values()),
        lost=sorted(accepted - ended - set(buried)),
        buried=sorted(accepted & set(buried)),
        phantom=sorted({name for name, _ in begun if outcomes.get(name, "fail") == "fail"}),
        duplicated=sorted({name for (name, _), by in begun.items() if len(set(by)) > 1}),
        doubled=sorted({name for (name, _), by in begun.items() if len(set(by)) < len(by)}),
        disorder=disorder,
        stale=stale,
    )


def recoveries(events: Iterable[Event], faults: Sequence[Fault]) -> dict[str, list[float]]:
    """Seconds from each fault to the first handling after it, by kind of fault.

    For what was done to a process: per address that it had, until a handler starts, elsewhere unless the process was
    only paused; after a hand-over from what it did last itself. For the rest: per address, until a handler starts on
    what was sent afterwards.
    """
    owners: dict[str, list[Event]] = defaultdict(list)
    starts: dict[str, list[Event]] = defaultdict(list)
    sent: dict[Name, float] = {}
    for event in sorted(events, key=lambda event: event.at):
        if event.kind == "begin":
            owners[event.address].append(event)
        elif event.kind in ("start", "end"):
            starts[event.address].append(event)
        elif event.kind == "invoke":
            sent[event.stream, event.number] = event.at
    found: dict[str, list[float]] = {}
    for number, fault in enumerate(faults):
        times = found.setdefault(fault.kind, [])
        until = next((each.at for each in faults[number + 1 :] if each.process == fault.process), float("inf"))
        for address, begins in owners.items():
            owner = next((begin.process for begin in reversed(begins) if begin.at <= fault.at), None)
            if fault.process is not None and owner != fault.process:
                continue
            since = fault.at
            for event in starts[address]:
                if not fault.at + INSTANT < event.at < until:
                    continue
                if fault.process is None:
                    over = sent.get((event.stream, event.number), 0.0) > fault.at
                else:
                    over = event.process != fault.process or fault.kind in ("SIGSTOP", "stuck")
                if over and event.kind == "start":
                    times.append(event.at - since)
                    break
                if fault.kind == "SIGTERM" and event.process == fault.process:
                    since = event.at
    return found


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of the values are not above; 0 where there are none."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))] if ranked else 0.0
