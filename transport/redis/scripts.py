"""The Lua scripts, one transition each, and the keys that they get."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import Final, NamedTuple

FOLDER: Final = files("transport.redis") / "lua"
CLOCK: Final = (FOLDER / "clock.lua").read_text("utf-8")
"""How a script learns the time. Tests load the scripts with a clock that they can move."""


class Script(NamedTuple):
    """A script as the server gets it, and the name that the server has for it: the SHA-1 of the text."""

    name: str
    text: str
    sha: str


@cache
def script(name: str, clock: str = CLOCK) -> Script:
    """The script ``lua/<name>.lua``: its first line, which has the flags, then the clock, then the rest."""
    flags, _, body = (FOLDER / f"{name}.lua").read_text("utf-8").partition("\n")
    text = f"{flags}\n{clock}{body}"
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def config(namespace: str) -> str:
    """The key of what all nodes of a namespace agree on: a hash of `partitions` and `version`, that of the keys."""
    return f"{{{namespace}}}:config"


class Keys:
    """The names of the keys of one partition. All carry its hash tag, such as ``{shop:7}``, so they are in one slot.

    `bells` is another hash tag for the bells: one for all partitions where the server is no Cluster, so that a node
    waits for one key.
    """

    __slots__ = ("_bells", "_prefix", "dead_letters", "delayed", "nodes", "orphans", "outbox")

    def __init__(self, tag: str, bells: str = "") -> None:
        self._bells = f"{bells or tag}:bell:"
        self._prefix = f"{tag}:"
        self.nodes = f"{tag}:n"
        self.orphans = f"{tag}:orph"
        self.delayed = f"{tag}:z"
        self.dead_letters = f"{tag}:dlq"
        self.outbox = f"{tag}:out"

    def owned(self, node: str) -> str:
        return f"{self._prefix}on:{node}"

    def bell(self, node: str) -> str:
        return f"{self._bells}{node}"

    def actor(self, address: str) -> str:
        return f"{self._prefix}a:{address}"

    def watermarks(self, address: str) -> str:
        return f"{self._prefix}w:{address}"

    def tries(self, address: str) -> str:
        return f"{self._prefix}t:{address}"

    def lane(self, address: str, lane: int) -> str:
        return f"{self._prefix}m:{address}:{lane}"

    def lanes(self, address: str) -> tuple[str, str, str, str, str]:
        """One per lane."""
        m = f"{self._prefix}m:{address}:"
        return f"{m}0", f"{m}1", f"{m}2", f"{m}3", f"{m}4"
