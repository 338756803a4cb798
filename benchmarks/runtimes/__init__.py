"""The competitors, one adapter file each: who they are, and what they are compared as.

The peers' types are not checked: they are not installed where types are.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Competitor:
    """`module` is the adapter's name, `distribution` what pip installs."""

    module: str
    distribution: str
    role: Literal["ours", "peer", "baseline"] = "peer"
    mailbox: bool = True
    """Whether a local message waits in a queue, rather than being a call under a lock."""

    def version(self) -> str | None:
        """The installed version; None where it is not installed, empty for the baselines."""
        if self.role == "baseline":
            return ""
        try:
            return importlib.metadata.version(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            return None


COMPETITORS = {
    competitor.module: competitor
    for competitor in (
        Competitor("ours", "waooaw-actors", "ours"),
        Competitor("mindmesh", "mindmesh"),
        Competitor("async_pykka", "async-pykka"),
        Competitor("everything_is_an_actor", "everything-is-an-actor"),
        Competitor("casty", "casty"),
        Competitor("xoscar", "xoscar", mailbox=False),
        Competitor("thespian", "thespian"),
        Competitor("pykka", "pykka"),
        Competitor("autogen_core", "autogen-core"),
        Competitor("lean", "lean baseline", "baseline"),
        Competitor("bare", "bare loop", "baseline"),
    )
}
