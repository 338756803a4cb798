"""The wire's figures as Markdown, for a terminal and for docs/benchmarks.md alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, TypeAlias

Figures: TypeAlias = dict[str, float]
"""Nanoseconds of processor time (encode, decode, both); bytes of a frame (tell, ask, typical) and of the message alone
in MessagePack (payload)."""
Round: TypeAlias = dict[str, dict[str, Figures]]
"""The figures by size of the message and by title."""

TYPICAL, LARGE = "typical message", "message of 8 KiB"
OURS, BARE, BY_HAND = "ours", "bare msgspec", "msgpack + dataclass"
KINDS = {"tell": "tell", "ask": "ask", "typical": "ask by an actor"}


def described(machine: Mapping[str, Any], versions: Mapping[str, str], rounds: int) -> str:
    """On what the figures were taken."""
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{machine['python']}, {machine['processor']}, {machine['date']}, rounds: {rounds}; {packages}."


def tables(rounds: Sequence[Round]) -> str:
    """Medians of the rounds; a ratio is taken within each round."""
    return "\n\n".join((*(times(rounds, size) for size in rounds[0]), asked(rounds), sizes(rounds)))


def times(rounds: Sequence[Round], size: str) -> str:
    columns = "encode", "decode", "both"
    rows = [
        (
            title,
            *(figure(rounds, size, title, column) for column in columns),
            f"{median(ratios(rounds, size, title, BARE)):.2f}",
            f"{median(ratios(rounds, size, BY_HAND, title)):.2f}",
            figure(rounds, size, title, "typical"),
        )
        for title in rounds[0][size]
    ]
    named = "encode, ns", "decode, ns", "both, ns", f"x {BARE}", f"x faster than {BY_HAND}", "bytes"
    return table((size, *named), rows)


def asked(rounds: Sequence[Round]) -> str:
    """The two ratios that the project asks of itself."""
    rows = [
        (f"{one} / {other}", goal, f"{median(values):.2f}", f"{min(values):.2f} to {max(values):.2f}")
        for one, other, goal in ((OURS, BARE, "at most 2"), (BY_HAND, OURS, "at least 3"))
        for values in [ratios(rounds, TYPICAL, one, other)]
    ]
    return table((f"{TYPICAL}, both", "goal", "median", "lowest and highest round"), rows)


def sizes(rounds: Sequence[Round]) -> str:
    """What a frame has besides the payload, which is the same MessagePack for all of these."""
    payload = rounds[0][TYPICAL][OURS]["payload"]
    rows = [
        (title, *(f"{rounds[0][TYPICAL][title][kind] - payload:.0f}" for kind in KINDS))
        for title in (OURS, f"{OURS}, signed", BARE, BY_HAND)
    ]
    return table((f"bytes around the payload of {payload:.0f}", *KINDS.values()), rows)


def figure(rounds: Sequence[Round], size: str, title: str, name: str) -> str:
    return f"{median(each[size][title][name] for each in rounds):,.0f}"


def ratios(rounds: Sequence[Round], size: str, one: str, other: str) -> list[float]:
    """How many times as long as `other` does `one` take, in each round."""
    return [each[size][one]["both"] / each[size][other]["both"] for each in rounds]


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[index]) for row in (columns, *rows)) for index in range(len(columns))]
    ruler = ["-" * widths[0], *(f"{'-' * (width - 1)}:" for width in widths[1:])]
    return "\n".join(
        f"| {' | '.join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])} |"
        for row in (columns, ruler, *rows)
    )
