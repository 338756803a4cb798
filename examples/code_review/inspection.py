"""What is wrong with one Python file: pure functions and plain data, no actors; nothing is imported or run.

`inspect(source)` parses the file once and walks its tree once. A new check is one more `case` at the end.
"""

import ast
import re
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

MAX_COMPLEXITY = 10  # McCabe, "A Complexity Measure" (1976)
MAX_LINES = 60  # Holzmann, "The Power of 10", rule 4: a function fits on one printed page
MAX_ARGUMENTS = 7  # SonarSource rule S107


class Kind(StrEnum):
    """What may be found; the text is what the report shows."""

    NO_DOCSTRING = "public name without a docstring"
    COMPLEX = f"cyclomatic complexity over {MAX_COMPLEXITY}"
    LONG = f"function over {MAX_LINES} lines"
    ARGUMENTS = f"more than {MAX_ARGUMENTS} arguments"
    MUTABLE_DEFAULT = "mutable default argument"
    BARE_EXCEPT = "bare except"
    SWALLOWED = "except Exception: pass"
    NONE_EQUALITY = "== None"
    LITERAL_IDENTITY = "is with a literal"
    STAR_IMPORT = "star import"
    UNREACHABLE = "unreachable statement"
    TRUE_ASSERT = "assert of a tuple, always true"
    EVAL = "eval or exec"
    SYNTAX_WARNING = "warning of the parser"
    TODO = "TODO, FIXME or XXX"


class Finding(NamedTuple):
    """One thing to look at; lines count from 1."""

    line: int
    kind: Kind


class Function(NamedTuple):
    """One function by its dotted name in the file; its complexity is 1 plus its decisions."""

    line: int
    name: str
    complexity: int


@dataclass(frozen=True, slots=True)
class Review:
    """All that was found in one file, in the order of its lines."""

    lines: int
    findings: list[Finding]
    functions: list[Function]


_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Definition = _Function | ast.ClassDef
_Leaf = ast.Name | ast.Constant | ast.expr_context | ast.operator | ast.cmpop  # 3 nodes in 5, and never checked
_warnings_are_global = threading.Lock()


def inspect(source: bytes, path: str = "module.py") -> Review:
    """Review the bytes of one file; its `path` says whether the module is public. Safe to call in threads.

    Raises what the parser raises: SyntaxError (also for an unknown or broken encoding), ValueError (a NUL
    byte, before Python 3.12), RecursionError or MemoryError (nested too deeply).
    """
    with _warnings_are_global, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")  # an invalid escape, say: a finding, not a line on stderr
        tree = ast.parse(source, path)
    findings = [Finding(w.lineno, Kind.SYNTAX_WARNING) for w in caught if w.filename == path]
    findings += _todos(source)
    stem = re.split(r"[/\\]", path)[-1].removesuffix(".py")
    module = _Scope(tree, "", public=not stem.startswith("_") or stem == "__init__")
    scopes, stack = [module], list[tuple[ast.AST, _Scope]]([(tree, module)])
    while stack:  # no recursion: a tree of any depth, in half the time of ast.NodeVisitor
        node, scope = stack.pop()
        if isinstance(node, _Definition):
            scope = scope.inner(node)
            scopes.append(scope)
        scope.decisions += _decisions(node)
        findings += _in_expression(node) if isinstance(node, ast.expr) else _in_statement(node)
        stack += [(child, scope) for child in ast.iter_child_nodes(node) if not isinstance(child, _Leaf)]
    functions = [Function(s.node.lineno, s.name, 1 + s.decisions) for s in scopes if isinstance(s.node, _Function)]
    findings += [Finding(f.line, Kind.COMPLEX) for f in functions if f.complexity > MAX_COMPLEXITY]
    findings += [Finding(getattr(s.node, "lineno", 1), Kind.NO_DOCSTRING) for s in scopes if s.lacks_docstring()]
    return Review(len(source.splitlines()), sorted(findings), sorted(functions))


# Comments are not in the tree. This tells them from a # in a string, in a tenth of the time of `tokenize`.
_STRING_OR_COMMENT = re.compile(
    rb"""(?s:\"{3}(?:\\.|[^\\])*?\"{3}|'{3}(?:\\.|[^\\])*?'{3}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|(#[^\n]*)"""
)
_TODO = re.compile(rb"#.*\b(?:TODO|FIXME|XXX)\b")


def _todos(source: bytes) -> Iterator[Finding]:
    if _TODO.search(source):
        for match in _STRING_OR_COMMENT.finditer(source):
            if match[1] and _TODO.match(match[1]):
                yield Finding(source.count(b"\n", 0, match.start()) + 1, Kind.TODO)


@dataclass(slots=True)
class _Scope:
    """A module, class or function during the walk, and the decisions counted in it so far."""

    node: ast.Module | _Definition
    name: str
    public: bool
    decisions: int = 0

    def inner(self, node: _Definition) -> "_Scope":
        # What is defined within a function is nobody else's business.
        public = self.public and not node.name.startswith("_") and not isinstance(self.node, _Function)
        return _Scope(node, f"{self.name}.{node.name}" if self.name else node.name, public)

    def lacks_docstring(self) -> bool:
        if not self.public or not self.node.body or ast.get_docstring(self.node, clean=False) is not None:
            return False
        # An overload, override or setter is documented where its name is first defined.
        decorators = {ast.unparse(d).rpartition(".")[2] for d in getattr(self.node, "decorator_list", ())}
        return decorators.isdisjoint({"overload", "override", "setter", "deleter"})


def _decisions(node: ast.AST) -> int:
    """Return how many ways to go on this node adds to its function."""
    match node:
        case ast.If() | ast.IfExp() | ast.For() | ast.AsyncFor() | ast.While() | ast.ExceptHandler():
            return 1
        case ast.BoolOp(values=operands):
            return len(operands) - 1
        case ast.comprehension(ifs=conditions):
            return 1 + len(conditions)
        case ast.match_case(pattern=ast.MatchAs(pattern=None), guard=None):
            return 0  # `case _:` and `case name:` are an else
        case ast.match_case():
            return 1
    return 0


def _in_statement(node: ast.AST) -> Iterator[Finding]:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            if (node.end_lineno or 0) - node.lineno >= MAX_LINES:
                yield Finding(node.lineno, Kind.LONG)
            names = [argument.arg for argument in node.args.posonlyargs + node.args.args + node.args.kwonlyargs]
            if len(names) - (names[:1] in (["self"], ["cls"])) > MAX_ARGUMENTS:
                yield Finding(node.lineno, Kind.ARGUMENTS)
        case ast.arguments():
            for default in node.defaults + node.kw_defaults:
                match default:
                    case ast.List() | ast.Dict() | ast.Set() | ast.ListComp() | ast.DictComp() | ast.SetComp():
                        yield Finding(default.lineno, Kind.MUTABLE_DEFAULT)
                    case ast.Call(func=ast.Name(id="list" | "dict" | "set" | "bytearray" | "defaultdict" | "deque")):
                        yield Finding(default.lineno, Kind.MUTABLE_DEFAULT)
        case ast.ExceptHandler(type=None):
            yield Finding(node.lineno, Kind.BARE_EXCEPT)
        case ast.ExceptHandler(type=ast.Name(id="Exception" | "BaseException"), body=[ast.Pass()]):
            yield Finding(node.lineno, Kind.SWALLOWED)
        case ast.ImportFrom(names=[ast.alias(name="*")]):
            yield Finding(node.lineno, Kind.STAR_IMPORT)
        case ast.Assert(test=ast.Tuple(elts=[_, *_])):
            yield Finding(node.lineno, Kind.TRUE_ASSERT)
    for block in ("body", "orelse", "finalbody"):
        for before, after in pairwise(getattr(node, block, ())):
            match before, after:
                case _, ast.Expr(value=ast.Yield() | ast.YieldFrom()):
                    pass  # never reached, and yet it makes the function a generator
                case ((ast.Return() | ast.Raise() | ast.Continue() | ast.Break()), _):
                    yield Finding(after.lineno, Kind.UNREACHABLE)


def _in_expression(node: ast.expr) -> Iterator[Finding]:
    match node:
        case ast.Call(func=ast.Name(id="eval" | "exec")):
            yield Finding(node.lineno, Kind.EVAL)
        case ast.Compare():
            for operator, pair in zip(node.ops, pairwise([node.left, *node.comparators]), strict=True):
                types = {type(operand.value) for operand in pair if isinstance(operand, ast.Constant)}
                if isinstance(operator, ast.Eq | ast.NotEq) and type(None) in types:
                    yield Finding(node.lineno, Kind.NONE_EQUALITY)
                if isinstance(operator, ast.Is | ast.IsNot) and types & {str, bytes, int, float, complex}:
                    yield Finding(node.lineno, Kind.LITERAL_IDENTITY)
