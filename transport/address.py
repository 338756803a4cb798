"""`Address`: where an actor lives, a path such as ``/support/triage``."""

from __future__ import annotations

import re
from typing import Final

MAX_LENGTH: Final = 200
_SEGMENT: Final = r"[A-Za-z0-9_.~@:+=-]+"
_PATH: Final = re.compile(rf"(?:/{_SEGMENT})+").fullmatch
_NAME: Final = re.compile(_SEGMENT).fullmatch
_RULE: Final = "names are ASCII letters, digits and _ . ~ @ : + = -"


class Address(str):
    """A path of names from the root supervisor down: the child ``b`` of ``/a`` lives at ``/a/b``.

    A `str`, so it is a dict key at C speed. The grammar keeps braces, blanks, control and non-ASCII
    characters out, so no key or slot of a transport can be injected through an address.

    Raises `ValueError` where the path breaks the grammar or is over 200 characters.
    """

    __slots__ = ()

    def __new__(cls, path: str) -> Address:
        if type(path) is cls:
            return path
        if len(path) > MAX_LENGTH:  # first, as what does not fit may come from the wire and be of any length
            raise ValueError(f"address of {len(path)} characters, the limit is {MAX_LENGTH}: {path[:40]!r}...")
        if path != "/" and not _PATH(path):
            raise ValueError(f"not an address: {path!r}; it starts with / and {_RULE}")
        return str.__new__(cls, path)

    def child(self, name: str) -> Address:
        """The address of the child `name`. Raises `ValueError` where the name is not one."""
        if not _NAME(name):
            raise ValueError(f"not a name for an actor: {name!r}; {_RULE}")
        path = f"/{name}" if self == "/" else f"{self}/{name}"
        if len(path) > MAX_LENGTH:
            raise ValueError(f"{path[:40]!r}... has {len(path)} characters, the limit is {MAX_LENGTH}")
        return str.__new__(Address, path)

    @property
    def name(self) -> str:
        """The last name of the path; empty for the root."""
        return self.rpartition("/")[2]

    @property
    def parent(self) -> Address:
        """The address one step up; the root is its own parent."""
        return str.__new__(Address, self.rpartition("/")[0] or "/")

    def within(self, other: Address) -> bool:
        """Whether this is `other` or lies below it."""
        return other in ("/", self) or self.startswith(f"{other}/")

    def __repr__(self) -> str:
        return f"Address({str.__repr__(self)})"

    __str__ = str.__str__


ROOT: Final = Address("/")
