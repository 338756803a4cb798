"""The numbered examples run as their `Run:` line says and print what they promise."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("[0-9]*.py"))
WORDS = (ROOT / "examples" / "04_pools.py").read_text(encoding="utf-8").split()

# What each prints, line by line, as regular expressions; `...` stands for any lines (the log is among them).
PRINTED: dict[str, list[Any]] = {
    "01_hello": ["hello, world! (#1)", "hello, moon! (#2)", "hello, sun! (#1)"],
    "02_supervision": [
        "  /line/reader starts",
        "  /line/parser starts",
        "  /line/adder starts",
        "  /line starts",
        "the sum is 6",
        ...,
        "the parser failed: ValueError: invalid literal for int() with base 10: 'three'",
        ...,
        "  /line/parser starts",
        "  /line/adder starts",
        "the sum is 4",
    ],
    "03_priorities": [
        "by priority: fire alarm, letter 1, letter 2, archive",
        "never more than 3 pages ahead: 2 in the mailbox, 1 in the printer",
        "page 2 refused: 2 are waiting",
        ...,
        "the latest: 3, 4 and 3 dropped",
        ...,
        "the lunch menu: expired",
    ],
    "04_pools": [
        *[re.compile(rf"/counters/{number} has counted \d+ different words") for number in (1, 2, 3, 4)],
        f"{len(WORDS)} words, {len(set(WORDS))} different, most often {Counter(WORDS).most_common(1)[0]}",
        "the same as counted in one go: True",
    ],
    "05_timers": [
        "three ticks are enough",
        "digest of 3: a door opens, somebody coughs, the door shuts",
        "digest of 1: an owl",
    ],
    "06_testing": [..., re.compile(r"=+ 4 passed in .*s =+")],
    "07_watch_and_stash": [
        "apples by ferry 1",
        "  /harbour/ferry-1 has finished, another one is ordered",
        "books by ferry 1",
        "chairs by ferry 2",
        "  /harbour/ferry-2 has finished, another one is ordered",
        "drums by ferry 2",
        "eggs by ferry 3",
    ],
    "08_agent_crew": [
        ...,
        re.compile(r"critic: section \d has 24 words, cut at the comma"),
        ...,
        "- In it everything is an actor.",
        "- The engineers of telephone exchanges wanted programs that go on after errors.",
        "- Agents that share models need limits.",
    ],
    "09_own_codec": [
        "json: a frame of 159 bytes",
        "msgpack: a frame of 141 bytes",
        "compact: a frame of 123 bytes",
        "unsigned: an unsigned frame; this node takes signed ones only",
        "changed: a frame whose signature by the key '2026-11' does not hold",
        "moved: a frame for '/station' in the mailbox of '/attic'",
    ],
}


def matches(lines: list[str], pattern: list[Any]) -> bool:
    """Whether the lines are those of the pattern, with any number of them for each `...`."""
    if not pattern:
        return not lines
    first, *rest = pattern
    if first is ...:
        return any(matches(lines[skip:], rest) for skip in range(len(lines) + 1))
    if not lines:
        return False
    same = first.fullmatch(lines[0]) if isinstance(first, re.Pattern) else first == lines[0]
    return bool(same) and matches(lines[1:], rest)


def test_every_numbered_example_is_tested() -> None:
    assert [path.stem for path in EXAMPLES] == list(PRINTED)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_prints_what_it_has_computed(path: Path) -> None:
    docstring = path.read_text(encoding="utf-8").split('"""')[1]
    run = re.search(r"^Run: python (\S+)", docstring, re.MULTILINE)
    assert run is not None
    assert ROOT / run[1] == path
    done = subprocess.run([sys.executable, run[1]], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert matches(done.stdout.splitlines(), PRINTED[path.stem]), done.stdout
