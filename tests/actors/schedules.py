"""Generated schedules: who sends what to whom, what the handlers do with it, who is stopped when. Only data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

from hypothesis import strategies as st

from actors import Message, Overflow, Priority, Restart, Strategy

T = TypeVar("T")


class Work(Message[int]):
    """Message number `id`; its handler does what the plan says and replies with `id`."""

    id: int
    plan: Plan


class Async(Work): ...


class AsyncThrice(Work): ...


class Plain(Work): ...


class PlainTwice(Work): ...


class Beside(Work): ...


class BesideTwice(Work): ...


class Unknown(Work): ...


ATTEMPTS = {Async: 1, AsyncThrice: 3, Plain: 1, PlainTwice: 2, Beside: 1, BesideTwice: 2, Unknown: 0}
CONCURRENCY = {Beside: 2, BesideTwice: 2}


@dataclass(frozen=True)
class Plan:
    """What the handler of one message does: steps, then an end; "raise" only for the first `failures` attempts."""

    kind: type[Work]
    steps: tuple[Step, ...] = ()
    end: Literal["return", "raise", "refuse"] = "return"
    failures: int = 3


@dataclass(frozen=True)
class Pause:
    """Seconds of virtual time, or as many checkpoints."""

    length: int


@dataclass(frozen=True)
class Send:
    """A tell with a ttl, or an ask with a timeout; given up after `patience`."""

    how: Literal["tell", "receipt", "ask"]
    to: int
    plan: Plan
    priority: Priority = Priority.NORMAL
    limit: int | None = None
    patience: int | None = None


@dataclass(frozen=True)
class Order:
    """Stop an actor (drain first), or kill it."""

    how: Literal["stop", "kill"]
    to: int


@dataclass(frozen=True)
class Do:
    """What an actor does to itself."""

    what: Literal["stash", "unstash", "finish"]


Step = Pause | Send | Order | Do


@dataclass(frozen=True)
class Setup:
    """One actor's mailbox, and how it is supervised."""

    capacity: int = 100
    overflow: Overflow = Overflow.BLOCK
    ageing: int | None = None
    restart: Restart = Restart.PERMANENT
    backoff: int | None = None


@dataclass(frozen=True)
class Schedule:
    """`leave_after`: leave the system after this pause, whether or not the senders have finished."""

    actors: tuple[Setup, ...]
    senders: tuple[tuple[Step, ...], ...]
    strategy: Strategy = Strategy.ONE_FOR_ONE
    middleware: Literal["none", "quick", "slow"] = "quick"
    drain: int = 100
    leave_after: int | None = None


def weighted(*choices: tuple[int, st.SearchStrategy[T]]) -> st.SearchStrategy[T]:
    """One of these, each as often as its number says."""
    return st.sampled_from([each for weight, each in choices for _ in range(weight)]).flatmap(lambda each: each)


def _sends(plans: st.SearchStrategy[Plan]) -> st.SearchStrategy[Step]:
    return st.builds(
        Send,
        how=st.sampled_from(["tell", "receipt", "ask"]),
        to=st.integers(0, 2),
        plan=plans,
        priority=st.sampled_from([Priority.NORMAL, *Priority]),
        limit=weighted((2, st.none()), (1, st.integers(0, 4))),
        patience=weighted((4, st.none()), (1, st.integers(0, 3))),
    )


def _plans(steps: st.SearchStrategy[Step]) -> st.SearchStrategy[Plan]:
    return st.builds(
        Plan,
        kind=st.sampled_from(list(ATTEMPTS)),
        steps=st.lists(steps, max_size=3).map(tuple),
        end=st.sampled_from(["return", "return", "raise", "refuse"]),
        failures=st.integers(1, 3),
    )


_pauses: st.SearchStrategy[Step] = st.integers(0, 3).map(Pause)
_orders: st.SearchStrategy[Step] = st.builds(Order, how=st.sampled_from(["stop", "kill"]), to=st.integers(0, 2))
_selves: st.SearchStrategy[Step] = st.sampled_from([Do("stash"), Do("unstash")] * 4 + [Do("finish")])
_own = weighted((3, _pauses), (1, _selves))
_inner = _sends(_plans(_own))
_outer = _sends(_plans(weighted((4, _own), (8, _inner), (1, _orders))))
_script = st.lists(weighted((30, _outer), (6, _pauses), (1, _orders)), min_size=2, max_size=10).map(tuple)
_setups = st.builds(
    Setup,
    capacity=st.sampled_from([100, 1, 2, 3]),
    overflow=st.sampled_from(Overflow),
    ageing=st.none() | st.integers(1, 3),
    restart=st.sampled_from([Restart.PERMANENT] * 3 + [*Restart]),
    backoff=st.none() | st.integers(1, 2),
)

# Small numbers, so that mailboxes fill and instants collide; few kills, so that somebody is left to talk to.
schedules = st.builds(
    Schedule,
    actors=st.lists(_setups, min_size=1, max_size=3).map(tuple),
    senders=st.lists(_script, min_size=1, max_size=3).map(tuple),
    strategy=st.sampled_from(Strategy),
    middleware=st.sampled_from(["quick", "none", "slow"]),
    drain=st.sampled_from([100, 5, 0]),
    leave_after=weighted((5, st.none()), (1, st.integers(0, 8))),
)
