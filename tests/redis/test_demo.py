"""`make demo-redis` on a small tree: real processes, of which one is killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from actors.config import load
from actors.node import TRANSPORTS
from examples.code_review.inspection import inspect
from examples.code_review.redis import EDITOR, FILE, INSPECTORS, LIBRARIAN

FILES, BROKEN = 60, 2
SOURCE = '"""A module."""\n' + 'def f(a, b):\n    """Doc."""\n    return [a for a in b if a or b]\n\n\n' * 300


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files that take some time, so that the kill comes long before the end."""
    folder = tmp_path / "tree"
    folder.mkdir()
    for number in range(FILES):
        (folder / f"m{number:02}.py").write_text(SOURCE)
    for number in range(BROKEN):
        (folder / f"broken{number}.py").write_text("print 'two'\n")
    return folder


@contextmanager
def demo(tmp_path: Path, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "examples.code_review.redis", *map(str, arguments)],
        env={**os.environ, "TMPDIR": str(temporary), "COLUMNS": "120"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()  # its own are killed with it
        process.communicate()
    assert list(temporary.iterdir()) == []


def assert_that_all_are_gone(printed: str) -> None:
    processes = [int(number) for number in re.findall(r"\(process (\d+)\)", printed)]
    assert len(processes) == 3
    for number in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)


def test_a_node_that_is_killed_costs_no_file_and_none_is_added_twice(tmp_path: Path, tree: Path) -> None:
    with demo(tmp_path, tree, "--kill-after", "10") as process:
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0, printed
    assert f"{FILES + BROKEN} found = {FILES} reviewed + {BROKEN} failed: the counts add up" in printed, printed
    review = inspect(SOURCE.encode(), "m.py")
    figures = (FILES + BROKEN, FILES * len(review.functions), FILES * len(review.findings))
    (totals,) = re.findall(r"^ +([\d,]+) +[\d,]+ +([\d,]+) +([\d,]+) +\d+ +2 failed", printed, re.MULTILINE)
    assert tuple(int(figure.replace(",", "")) for figure in totals) == figures
    (killed,) = re.findall(r"kill -9 (node-[12]) \(([1-8]) of 8 inspectors\) after (\d+) of 62 files", printed)
    (back,) = re.findall(r"(inspector-\d) is back after ([\d.]+) s, at (node-[12]);", printed)
    assert {killed[0], back[2]} == {"node-1", "node-2"}
    assert float(back[1]) < 10.0  # lease + grace + 2 s is 6, and this machine may be busy
    assert re.search(rf"{killed[0]} \(process \d+\) hosts .*{back[0]}\b", printed)
    shares = re.findall(r"(\d+) by node-[12]", printed)
    assert sum(map(int, shares)) == FILES
    assert_that_all_are_gone(printed)


def test_after_ctrl_c_nothing_is_left(tmp_path: Path, tree: Path) -> None:
    with demo(tmp_path, tree) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]  # the server, and the nodes with whom they host
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=20)
    assert process.returncode == 130, printed
    assert printed == ""
    assert_that_all_are_gone("".join(lines))


def test_the_file_declares_the_crew_of_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACTORS_REDIS_URL", raising=False)
    crew, *others = load(FILE, TRANSPORTS).children
    _, editor, librarian = (child for _, child in crew.walk())
    assert [crew.address, editor.address, librarian.address] == ["/crew", EDITOR, LIBRARIAN]
    assert [child.address for child in others] == INSPECTORS
    assert librarian.spec.args == (INSPECTORS,)
