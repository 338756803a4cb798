"""The demo: its findings one by one, and one review of a small tree whose counts add up."""

import pytest

from examples.code_review.inspection import Finding, Kind, inspect

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
        pytest.param(
            "def f(*, a=dict()): ...\n", [(1, Kind.MUTABLE_DEFAULT)], id="mutable call, keyword only"
        ),
        pytest.param("f = lambda a={}: a\n", [(1, Kind.MUTABLE_DEFAULT)], id="mutable default of a lambda"),
        pytest.param("def f(a=(), b=None, c=1): ...\n", [], id="immutable defaults"),
        pytest.param(
            "x == None\nNone != x\n", [(1, Kind.NONE_EQUALITY), (2, Kind.NONE_EQUALITY)], id="== None"
        ),
        pytest.param("x is None and x == 1\n", [], id="is None"),
        pytest.param("x is 'a'\n", [(1, Kind.LITERAL_IDENTITY)], id="is with a string"),
        pytest.param("x is True or x is ...\n", [], id="is with a singleton"),
        pytest.param("from os import *\n", [(1, Kind.STAR_IMPORT)], id="star import"),
        pytest.param("def f():\n    return\n    g()\n", [(3, Kind.UNREACHABLE)], id="after return"),
        pytest.param(
            "while x:\n    break\n    g()\nelse:\n    h()\n", [(3, Kind.UNREACHABLE)], id="after break"
        ),
        pytest.param("def f():\n    return\n    yield\n", [], id="an empty generator needs its yield"),
        pytest.param("assert (x, 'why')\n", [(1, Kind.TRUE_ASSERT)], id="assert of a tuple"),
        pytest.param("eval(x)\nself.eval(x)\n", [(1, Kind.EVAL)], id="eval, and not a method of that name"),
        pytest.param("{'a': 1, **b, 'a': 2}\n", [(1, Kind.DUPLICATE_KEY)], id="duplicate key"),
        pytest.param("{'a': 1, 'b': 1, c: 2, c: 3}\n", [], id="variable keys may differ"),
        pytest.param("x = '\\d'\n", [(1, Kind.SYNTAX_WARNING)], id="invalid escape"),
        pytest.param("x = 1  # TODO: y\n", [(1, Kind.TODO)], id="todo"),
        pytest.param("'''\n# TODO: \\''' x\n'''\ny = '# XXX'\n", [], id="a string is no comment"),
        pytest.param("def f(self, b, c, d, /, e, f, g, *args, h): ...\n", [], id="self does not count"),
        pytest.param(
            "def f(a, b, c, d, /, e, f, g, *, h): ...\n", [(1, Kind.ARGUMENTS)], id="eight arguments"
        ),
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
    assert inspect("# coding: latin-1\nx = 'ö'  # TODO ö\n".encode("latin-1"), "_a.py").findings == [
        (2, Kind.TODO)
    ]
