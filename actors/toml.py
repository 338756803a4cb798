"""TOML into structs, with errors that say in one line where in the file something is wrong and what to do."""

from __future__ import annotations

import difflib
import enum
import re
import reprlib
import tomllib
import typing
from bisect import bisect_left
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

import msgspec

T = TypeVar("T", bound="Table")
Keys = tuple[str | int, ...]
"""Where something stands in the file: ``("children", 0, "name")`` is the name of the first child."""


class ConfigError(Exception):
    """What is wrong in the file and what to do about it; `keys` is where. `found_in` adds the file and the line."""

    def __init__(self, problem: str, *keys: str | int, line: int | None = None) -> None:
        super().__init__(problem)
        self.keys = keys
        self.line = line
        self.file = ""

    def found_in(self, file: Path, text: str) -> None:
        """Add the file, which has this text, and the line."""
        self.file = str(file)
        self.line = self.line or line_of(self.keys, text)

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        path = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in self.keys).removeprefix(".")
        return ": ".join(part for part in (place, path, self.args[0]) if part)


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One table of a file. A key that is not a field is an error, which ends with the `note`."""

    note: ClassVar[str] = ""


def read(file: Path) -> str:
    """The text of a file. Raises `ConfigError`."""
    try:
        return file.read_text("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"is not UTF-8: {error.reason} at byte {error.start}") from None


def parse(text: str) -> dict[str, Any]:
    """What the text says. Raises `ConfigError`."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        problem, _, place = str(error).rpartition(" (at ")
        found = re.match(r"line (\d+)", place)
        lines = text.split("\n")
        line = int(found[1]) if found else _readable(lines, len(lines))[0] + 1
        raise ConfigError(f"is not TOML: {problem}", line=line) from None
    except RecursionError:
        raise ConfigError("is not TOML: nested too deeply") from None


# What msgspec finds wrong, in the words of TOML --------------------------------------------------------------

_TYPES: Final = {
    "int": "an integer", "float": "a number", "str": "a string", "bool": "a boolean", "array": "an array",
    "object": "a table",
}  # fmt: skip


def convert(value: Any, kind: type[T], *keys: str | int) -> T:
    """`value`, which stands at `keys`, as a table of this kind. Raises `ConfigError` for the first thing wrong."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `$")
    wanted: Any = kind
    for name, index in re.findall(r"\.(\w+)|\[(\d+)\]", path):
        key = name or int(index)
        keys, value, wanted = (*keys, key), value[key], _member(wanted, name)
    if found := re.match(r"Object contains unknown field `(.*)`", problem, re.DOTALL):
        raise ConfigError(f"unknown key; {suggest(found[1], wanted.__struct_fields__)}{_note(wanted)}", *keys, found[1])
    if found := re.match("Object missing required field `(.*)`", problem):
        raise ConfigError(f"{found[1]!r} is missing{_note(wanted)}", *keys)
    if problem.startswith("Invalid enum value"):
        members = getattr(wanted, "__members__", {}).values()  # of an enumeration; else it is a Literal
        choices = [member.value for member in members] or typing.get_args(wanted)
        raise ConfigError(f"cannot be {value!r}; {suggest(value, choices)}", *keys)
    problem = re.sub("`([^`]*)`", lambda names: _types(names[1]), problem)
    if problem.startswith("Expected"):
        problem = problem.replace("Expected", "expected", 1)
        problem += "" if ", got " in problem else f", not {reprlib.repr(value)}"
    raise ConfigError(problem, *keys)


def _member(kind: Any, name: str) -> Any:
    """The table, the enumeration or whatever else the field of a table is; of an array it is the array."""
    if not name:
        return kind
    hint = typing.get_type_hints(kind)[name]
    kinds = (each for each in (hint, *typing.get_args(hint)) if isinstance(each, type))
    return next((each for each in kinds if issubclass(each, msgspec.Struct | enum.Enum)), hint)


def _note(kind: type[msgspec.Struct]) -> str:
    note = getattr(kind, "note", "")
    return f"; {note}" if note else ""


def _types(names: str) -> str:
    return " or ".join(_TYPES.get(name, name) for name in names.split(" | ") if name != "null")


def suggest(word: str, choices: Iterable[str]) -> str:
    """Which of `choices` was meant by `word`, or all of them."""
    choices = list(choices)
    close = difflib.get_close_matches(word, choices, 1)
    return f"did you mean {close[0]!r}?" if close else f"there is {', '.join(choices) or 'none'}"


# Where in the file -------------------------------------------------------------------------------------------


def line_of(keys: Keys, text: str) -> int | None:
    """The line, from 1, of the statement that first sets `keys`, or as much of them as is there.

    tomllib tells no positions, but the more lines it reads, the more keys are there: so search for the
    first line with which they are, and go back to where its statement begins.
    """
    lines = text.split("\n")
    while keys and not _holds(_readable(lines, len(lines))[1], keys):
        keys = keys[:-1]
    if not keys:
        return None
    last = bisect_left(range(len(lines)), True, key=lambda end: _holds(_readable(lines, end)[1], keys))
    return _readable(lines, last - 1)[0] + 1


def _readable(lines: list[str], end: int) -> tuple[int, dict[str, Any]]:
    """How many of the first `end` lines are TOML by themselves, and what they say."""
    while True:
        try:
            return end, tomllib.loads("\n".join(lines[:end]))
        except (tomllib.TOMLDecodeError, RecursionError):
            end -= 1


def _holds(value: Any, keys: Keys) -> bool:
    for key in keys:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return False
    return True
