"""The demo: its findings one by one, and one review of a small tree whose counts add up."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from actors import ActorSystem, ChildSpec, Restart, Strategy, handles
from examples import code_review
from examples.code_review.__main__ import main, review
from examples.code_review.crew import (
    Dealer,
    Editor,
    Found,
    Inspect,
    Inspector,
    Librarian,
    NotReviewed,
    Reviewed,
    Summarise,
    Summary,
    Walk,
    find_sources,
)
from examples.code_review.inspection import Finding, Kind, inspect
from examples.code_review.report import Reporter

DOCUMENTED = '"""A module."""\n'


def kinds(source: str, path: str = "_private.py") -> list[tuple[int, Kind]]:
    """What is found, by line; docstrings are asked for only where the path is public."""
    return [(finding.line, finding.kind) for finding in inspect(source.encode(), path).findings]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        pytest.param("try:\n    f()\nexcept:\n    g()\n", [(3, Kind.BARE_EXCEPT)], id="bare except"),
        pytest.param("try:\n    f()\nexcept Exception:\n    pass\n", [(3, Kind.SWALLOWED)], id="swallowed"),
        pytest.param("try:\n    f()\nexcept OSError:\n    pass\n", [], id="a narrow except may pass"),
        pytest.param("def f(a=[]): ...\n", [(1, Kind.MUTABLE_DEFAULT)], id="mutable list"),
        pytest.param("def f(*, a=dict()): ...\n", [(1, Kind.MUTABLE_DEFAULT)], id="mutable call, keyword only"),
        pytest.param("f = lambda a={}: a\n", [(1, Kind.MUTABLE_DEFAULT)], id="mutable default of a lambda"),
        pytest.param("def f(a=(), b=None, c=1): ...\n", [], id="immutable defaults"),
        pytest.param("x == None\nNone != x\n", [(1, Kind.NONE_EQUALITY), (2, Kind.NONE_EQUALITY)], id="== None"),
        pytest.param("x is None and x == 1\n", [], id="is None"),
        pytest.param("x is 'a'\n", [(1, Kind.LITERAL_IDENTITY)], id="is with a string"),
        pytest.param("x is True or x is ...\n", [], id="is with a singleton"),
        pytest.param("from os import *\n", [(1, Kind.STAR_IMPORT)], id="star import"),
        pytest.param("def f():\n    return\n    g()\n", [(3, Kind.UNREACHABLE)], id="after return"),
        pytest.param("while x:\n    break\n    g()\nelse:\n    h()\n", [(3, Kind.UNREACHABLE)], id="after break"),
        pytest.param("def f():\n    return\n    yield\n", [], id="an empty generator needs its yield"),
        pytest.param("assert (x, 'why')\n", [(1, Kind.TRUE_ASSERT)], id="assert of a tuple"),
        pytest.param("eval(x)\nself.eval(x)\n", [(1, Kind.EVAL)], id="eval, and not a method of that name"),
        pytest.param("x = '\\d'\n", [(1, Kind.SYNTAX_WARNING)], id="invalid escape"),
        pytest.param("x = 1  # TODO: y\n", [(1, Kind.TODO)], id="todo"),
        pytest.param("'''\n# TODO: \\''' x\n'''\ny = '# XXX'\n", [], id="a string is no comment"),
        pytest.param("def f(self, b, c, d, /, e, f, g, *args, h): ...\n", [], id="self does not count"),
        pytest.param("def f(a, b, c, d, /, e, f, g, *, h): ...\n", [(1, Kind.ARGUMENTS)], id="eight arguments"),
        pytest.param("def f():\n" + "    g()\n" * 59, [], id="60 lines"),
        pytest.param("def f():\n" + "    g()\n" * 60, [(1, Kind.LONG)], id="61 lines"),
        pytest.param("def f():\n" + "    if x: g()\n" * 9, [], id="complexity 10"),
        pytest.param("def f():\n" + "    if x: g()\n" * 10, [(1, Kind.COMPLEX)], id="complexity 11"),
        pytest.param("", [], id="empty"),
    ],
)
def test_each_finding_is_named_by_its_line(source: str, found: list[tuple[int, Kind]]) -> None:
    assert kinds(source) == found


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        pytest.param("x = 1\n", [1], id="module"),
        pytest.param(DOCUMENTED + "class A:\n    def b(self): ...\n", [2, 3], id="class and method"),
        pytest.param(DOCUMENTED + "class _A:\n    def b(self): ...\n", [], id="all in a private class"),
        pytest.param(DOCUMENTED + "def _f(): ...\n", [], id="private function"),
        pytest.param(DOCUMENTED + "def f():\n    'Doc.'\n    def g(): ...\n", [], id="nested function"),
        pytest.param(DOCUMENTED + "@typing.overload\ndef f(): ...\n", [], id="overload"),
        pytest.param(DOCUMENTED + "@f.setter\ndef f(): ...\n", [], id="setter"),
        pytest.param(DOCUMENTED + "@cache(1)\ndef f(): ...\n", [3], id="any other decorator"),
        pytest.param("", [], id="an empty file has nothing to say"),
    ],
)
def test_public_names_need_a_docstring(source: str, lines: list[int]) -> None:
    assert kinds(source, "pkg/public.py") == [(line, Kind.NO_DOCSTRING) for line in lines]
    assert kinds(source, "pkg/_private.py") == []


@pytest.mark.parametrize(
    ("body", "complexity"),
    [
        ("pass", 1),
        ("if a and b or c: pass", 4),
        ("for a in b: pass\n    else: pass", 2),
        ("while a: pass", 2),
        ("try: pass\n    except A: pass\n    except B: pass\n    finally: pass", 3),
        ("return [a for a in b if a if c]", 4),
        ("return a if b else c", 2),
        ("match a:\n        case 1: pass\n        case [_, *_] | 2: pass\n        case _: pass", 3),
        ("match a:\n        case b if b: pass\n        case {'a': _}: pass\n        case other: pass", 3),
        ("with a: assert b", 1),
        ("def g():\n        if a: pass", 1),  # a function within has a complexity of its own
    ],
)
def test_complexity_is_one_plus_the_decisions(body: str, complexity: int) -> None:
    review = inspect(f"class A:\n  def f():\n    {body}\n".encode())
    assert (review.functions[0].name, review.functions[0].line) == ("A.f", 2)
    assert review.functions[0].complexity == complexity


def test_a_deep_tree_is_walked_to_its_end() -> None:
    review = inspect(("x = 1" + " + 1" * 900 + " + eval(y)\n").encode(), "_deep.py")
    assert review.findings == [Finding(1, Kind.EVAL)]


@pytest.mark.parametrize("source", [b"print 'two'", b"# coding: uft-8\n", b"x = '\xf6'\n"])
def test_a_broken_file_raises(source: bytes) -> None:
    with pytest.raises(SyntaxError):
        inspect(source)


def test_another_encoding_is_read_by_its_cookie() -> None:
    assert inspect("# coding: latin-1\nx = 'ö'  # TODO ö\n".encode("latin-1"), "_a.py").findings == [(2, Kind.TODO)]


# The crew ------------------------------------------------------------------------------------------------


@pytest.fixture(params=["asyncio", "uvloop", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The three event loops in real time: a virtual clock would jump while a worker thread parses."""
    if request.param == "trio":
        return "trio", {}
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Six files of a source tree, two of them broken, and three that are not of it."""
    for path, content in {
        "good.py": b'"""A module."""\n\n\ndef f(a=[]):\n    """Doc."""\n    return a or 1\n',
        "empty.py": b"",
        "broken.py": b"print 'two'\n",
        "pkg/__init__.py": b"",
        "pkg/encoding.py": b"# coding: uft-8\n",
        "pkg/long.py": b"x = 1\n" * 10,
        "pkg/notes.txt": b"print 'two'\n",
        ".hidden/x.py": b"print 'two'\n",
        "lib/site-packages/x.py": b"print 'two'\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    return tmp_path


async def reviewed(source: Path, *, limit: int | None = None) -> tuple[Summary, dict[str, int]]:
    """What the editor knows when the librarian has finished, and the system's dead letters."""
    async with ActorSystem("review") as system:
        editor = await system.spawn(Editor, name="editor")
        librarian = await system.spawn(Librarian, str(source), 2, limit, "/editor", name="librarian")
        await librarian.stop(timeout=30.0)  # its one message is the whole walk
        return await editor.ask(Summarise()), dict(system.dead_letters)


@pytest.mark.anyio
async def test_the_counts_of_a_review_add_up(tree: Path) -> None:
    summary, dead_letters = await reviewed(tree)
    assert summary.done
    assert (summary.found, summary.reviewed, summary.lines, summary.functions) == (6, 4, 16, 1)
    assert [(file.path, file.reason) for file in summary.not_reviewed] == [
        ("broken.py", "failed"),
        ("pkg/encoding.py", "failed"),
    ]
    assert summary.not_reviewed[1].cause.startswith("SyntaxError: unknown encoding: uft-8")
    assert summary.restarts == 2
    assert dead_letters == {"failed": 2}
    assert summary.findings == {Kind.MUTABLE_DEFAULT: 1, Kind.NO_DOCSTRING: 1}
    assert summary.examples == {Kind.MUTABLE_DEFAULT: "good.py:4", Kind.NO_DOCSTRING: "pkg/long.py:1"}
    assert summary.most_complex == [(2, "good.py:4", "f")]


@pytest.mark.anyio
async def test_a_tree_of_broken_files_does_not_make_the_pool_give_up(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / f"{number}.py").write_text("print 'two'\n")
    summary, dead_letters = await reviewed(tmp_path)
    assert (summary.found, summary.reviewed, len(summary.not_reviewed), summary.restarts) == (100, 0, 100, 100)
    assert dead_letters == {"failed": 100}


@pytest.mark.anyio
async def test_a_limit_reviews_the_first_files_only(tree: Path) -> None:
    summary, _ = await reviewed(tree, limit=2)
    assert (summary.found, [file.path for file in summary.not_reviewed]) == (2, ["broken.py"])


@pytest.mark.anyio
async def test_the_crew_prints_its_report_and_finishes(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await review(str(tree), 2, None)
    printed = capsys.readouterr().out
    assert "6 found = 4 reviewed + 2 failed: the counts add up" in printed
    assert "unknown encoding: uft-8" in printed
    assert "2 failed" in printed


@pytest.mark.anyio
async def test_a_file_reviewed_twice_is_added_once(tree: Path) -> None:
    async with ActorSystem("review") as system:
        editor = await system.spawn(Editor, name="editor")
        inspector = await system.spawn(Inspector, "/editor", name="inspector")
        await editor.tell(Found(files=1))
        for _ in range(2):  # as after a node has died before it could say that it was done
            await inspector.tell(Inspect(source=str(tree), path="good.py"))
        await inspector.stop()
        await editor.tell(NotReviewed(path="good.py", reason="poison_crash", cause=""))
        summary = await editor.ask(Summarise())
    assert (summary.found, summary.reviewed, summary.again, summary.not_reviewed) == (1, 1, 1, [])
    assert (summary.lines, summary.functions, summary.findings) == (6, 1, {Kind.MUTABLE_DEFAULT: 1})
    assert summary.by == {"review/inspector": 1}


@pytest.mark.anyio
async def test_a_dealer_waits_to_be_told_and_deals_to_inspectors_by_address(tree: Path) -> None:
    addresses = ["/first", "/second"]
    async with ActorSystem("review") as system:
        editor = await system.spawn(Editor, name="editor")
        for address in addresses:
            await system.spawn(Inspector, "/editor", name=address[1:])
        dealer = await system.spawn(Dealer, addresses, "/editor", name="dealer")
        assert (await editor.ask(Summarise())).found == 0
        await dealer.tell(Walk(source=str(tree), limit=5))
        await dealer.stop(timeout=30.0)
        summary = await editor.ask(Summarise())
    assert summary.done
    assert (summary.found, summary.reviewed, len(summary.not_reviewed)) == (5, 3, 2)
    assert set(summary.by) <= {f"review{address}" for address in addresses}


class Flaky(Editor):
    """Fails at its third review, as long as the file is there."""

    def __init__(self, poison: str) -> None:
        super().__init__()
        self.poison = Path(poison)

    @handles(Reviewed)
    def reviewed(self, message: Reviewed) -> None:
        if self.summary.reviewed == 2 and self.poison.exists():
            self.poison.unlink()
            raise RuntimeError("poison")
        super().reviewed(message)


@pytest.mark.anyio
async def test_an_editor_that_fails_makes_the_crew_begin_anew(
    tree: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    poison = tmp_path_factory.mktemp("poison") / "pill"
    poison.touch()
    async with ActorSystem("review") as system:
        await system.supervise(
            ChildSpec(Flaky, str(poison), name="editor"),
            ChildSpec(Librarian, str(tree), name="librarian", shutdown=0.0),
            ChildSpec(Reporter, name="reporter", restart=Restart.TRANSIENT, significant=True),
            strategy=Strategy.ONE_FOR_ALL,
            auto_shutdown="any_significant",
            name="crew",
        )
        await system.finished()
    assert not poison.exists()
    assert "6 found = 4 reviewed + 2 failed: the counts add up" in capsys.readouterr().out


def test_the_node_file_declares_the_same_crew() -> None:
    file = Path(code_review.__file__).with_name("node.toml")
    checked = subprocess.run(
        [sys.executable, "-m", "actors.node", str(file), "--check"], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")
    assert [line.split()[0] for line in checked.stdout.splitlines()[1:]] == ["crew", "editor", "librarian", "reporter"]


def test_only_sources_are_found_and_what_cannot_be_listed_is_not_passed_over(tree: Path) -> None:
    found = ["broken.py", "empty.py", "good.py", "pkg/__init__.py", "pkg/encoding.py", "pkg/long.py"]
    assert [Path(path).as_posix() for path in find_sources(tree)] == found
    assert list(find_sources(tree / "gone")) == ["."]


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("gone", "no such folder"),
        ("good.py", "a file; name the folder it is in"),
        (".hidden/empty", "no Python files in it"),
    ],
)
def test_a_bad_source_ends_with_one_line_and_exit_code_2(tree: Path, source: str, problem: str) -> None:
    (tree / ".hidden/empty").mkdir()
    app = typer.Typer()
    app.command()(main)
    result = CliRunner().invoke(app, [str(tree / source)])
    assert (result.exit_code, result.stderr) == (2, f"{tree / source}: {problem}\n")
