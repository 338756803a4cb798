"""The messages for every runtime that takes any object: the cheapest kind there is, made anew for every send."""

from __future__ import annotations

import msgspec


class Tick(msgspec.Struct, frozen=True):
    number: int


class Grow(msgspec.Struct, frozen=True):
    """To a node of the skynet: grow `size` leaves, numbered from `offset`."""

    offset: int
    size: int
