"""`Supervisor` and `ChildSpec`: a declared tree of actors."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from math import inf
from typing import Any, Generic, TypeVar

from actors.actor import Actor
from actors.supervision import AutoShutdown, Backoff, Placement, Restart, Strategy
from transport.mailbox import Overflow, check_options, check_seconds

A = TypeVar("A", bound=Actor)


class ChildSpec(Generic[A]):
    """The recipe for a child: its class and arguments, never an instance, and how it is supervised.

    `name` within its parent (None: one is made); `restart`, and `backoff` before each restart (None: at
    once); `shutdown` seconds to drain and stop (None: the class's, 5.0, or unlimited for a supervisor);
    `capacity`, `overflow` and `ageing` of its mailbox (None: the system's); `significant`: see
    `auto_shutdown`; `placement`: whether it may live in another process; `durable`: whether messages from its
    own process wait where they outlive it, if the transport has such a place. What else is given are the
    arguments of the class.

    Raises `TypeError` or `ValueError` for what makes no sense.
    """

    __slots__ = (
        "actor", "ageing", "args", "backoff", "capacity", "durable", "kwargs", "name", "overflow", "placement",
        "restart", "shutdown", "significant",
    )  # fmt: skip

    def __init__(
        self,
        actor: type[A],
        /,
        *args: Any,
        name: str | None = None,
        restart: Restart = Restart.PERMANENT,
        backoff: Backoff | None = None,
        shutdown: float | None = None,
        capacity: int | None = None,
        overflow: Overflow | None = None,
        ageing: int | None = None,
        significant: bool = False,
        placement: Placement = Placement.HERE,
        durable: bool = True,
        **kwargs: Any,
    ) -> None:
        if not (isinstance(actor, type) and issubclass(actor, Actor)):  # type: ignore[redundant-expr]  # at run time
            raise TypeError(f"not an Actor class: {actor!r}; give the class and its arguments, not an instance")
        if not isinstance(restart, Restart):
            raise TypeError(f"{actor.__name__}: restart={restart!r}: one of {', '.join(map(str, Restart))}")
        if backoff is not None and not isinstance(backoff, Backoff):
            raise TypeError(f"{actor.__name__}: backoff={backoff!r} is not a Backoff")
        if name is not None and not isinstance(name, str):
            raise TypeError(f"{actor.__name__}: name={name!r} is not a str")
        if capacity is not None or overflow is not None or ageing is not None:
            check_options(capacity, overflow or Overflow.BLOCK, ageing)
        if significant and restart is Restart.PERMANENT:
            raise ValueError(f"{actor.__name__} is significant but PERMANENT, so it never finishes: make it TRANSIENT")
        if not isinstance(placement, Placement):
            raise TypeError(f"{actor.__name__}: placement={placement!r}: one of {', '.join(map(str, Placement))}")
        if placement is Placement.ANYWHERE and name is None:
            raise ValueError(f"{actor.__name__} may live anywhere, so it needs a name by which to be found")
        if shutdown is not None:
            check_seconds("shutdown", shutdown)
        self.actor = actor
        self.args = args
        self.kwargs = kwargs or None
        self.name = name
        self.restart = restart
        self.backoff = backoff
        self.shutdown = shutdown if shutdown is not None else inf if issubclass(actor, Supervisor) else 5.0
        self.capacity = capacity
        self.overflow = overflow
        self.ageing = ageing
        self.significant = significant
        self.placement = placement
        self.durable = durable

    def build(self) -> A:
        """A fresh instance."""
        return self.actor(*self.args, **self.kwargs) if self.kwargs else self.actor(*self.args)

    def named(self, name: str) -> ChildSpec[A]:
        """The same recipe under another name."""
        named = copy.copy(self)
        named.name = name
        return named

    def __repr__(self) -> str:
        return f"ChildSpec({self.actor.__name__}, name={self.name!r})"


class Supervisor(Actor):
    """An actor whose work is its children: they start left to right when it starts, and stop right to left.

    Declare them by overriding `children` and the class attributes `strategy`, `intensity`, `period` and
    `auto_shutdown`, or give all of that to `ActorSystem.supervise`.
    """

    strategy: Strategy = Strategy.ONE_FOR_ONE
    """Whom the failure of one child restarts."""
    intensity: int = 3
    """More restarts than this within `period` seconds, and this supervisor stops its children and fails itself."""
    period: float = 5.0
    auto_shutdown: AutoShutdown = "never"
    """Whether this supervisor finishes when one, or the last, of its `significant` children has."""

    def __init__(
        self,
        *children: ChildSpec[Any],
        strategy: Strategy | None = None,
        intensity: int | None = None,
        period: float | None = None,
        auto_shutdown: AutoShutdown | None = None,
    ) -> None:
        self._children = children
        if strategy is not None:
            self.strategy = strategy
        if intensity is not None:
            self.intensity = intensity
        if period is not None:
            self.period = period
        if auto_shutdown is not None:
            self.auto_shutdown = auto_shutdown

    def children(self) -> Iterable[ChildSpec[Any]]:
        """The children to start, in order."""
        return self._children
