"""The Python in the guide and the README runs as it stands, and prints what stands below it."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from actors import ActorSystem
from actors.testing import run_virtual

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", "docs/guide.md"]


class Section(NamedTuple):
    """The Python blocks under one heading, each line at its place in the page, and what they should print."""

    heading: str
    code: str
    output: str


def sections(text: str) -> Iterator[Section]:
    """A ```text block belongs to the ```python block before it, if no other block stands between them."""
    heading, code, output = "", [""], ""
    language: str | None = None  # of the block that this line is in
    before: str | None = None  # of the one before
    for number, line in enumerate(text.splitlines()):
        if language is None and re.match(r"##? ", line):
            if any(code):
                yield Section(heading, "\n".join(code), output)
            heading, code, output, before = line.lstrip("# "), [""] * number, "", None
        code += [""] * (number - len(code))
        if language is not None and line.startswith("```"):
            language, before = None, language
        elif line.startswith("```"):
            language = line.removeprefix("```").strip()
        elif language == "python":
            code.append(line)
        elif language == "text" and before == "python":
            output += line + "\n"
    if any(code):
        yield Section(heading, "\n".join(code), output)


async def in_a_system(code: Any, module: ModuleType) -> None:
    """Snippets that await stand inside a system."""
    async with ActorSystem("guide") as system:
        module.__dict__["system"] = system
        await eval(code, module.__dict__)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_and_prints_what_it_says(
    page: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ROOT / page
    module = ModuleType(path.stem.lower())
    monkeypatch.setitem(sys.modules, module.__name__, module)
    count = 0
    for section in sections(path.read_text(encoding="utf-8")):
        code = compile(section.code, str(path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if code.co_flags & inspect.CO_COROUTINE:
            run_virtual(in_a_system, code, module)
        else:
            exec(code, module.__dict__)
        for name in [name for name in module.__dict__ if name.startswith("test_")]:
            run_virtual(module.__dict__.pop(name))
        assert capsys.readouterr().out == section.output, section.heading
        count += 1
    assert count
