"""The rules of supervision, Erlang/OTP's, as pure values: no clock, no task, no effect."""

from __future__ import annotations

import enum
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

import msgspec

T = TypeVar("T")
AutoShutdown = Literal["never", "any_significant", "all_significant"]
Reason = Literal["stopped", "killed", "finished", "failed", "restarting"]


class Restart(enum.Enum):
    """Whether a child that has exited is started again."""

    PERMANENT = "permanent"
    """Always, also after it finished by itself."""
    TRANSIENT = "transient"
    """After a failure, not after it finished by itself."""
    TEMPORARY = "temporary"
    """Never, also not when a sibling's failure took it down."""


class Placement(enum.Enum):
    """Where an actor may live, if several processes declare it at one address."""

    HERE = "here"
    """Here; where it lives elsewhere already, that is an error."""
    ANYWHERE = "anywhere"
    """In one of them: here where nobody has it, and else as soon as whoever has it is gone."""


class Strategy(enum.Enum):
    """Whom the failure of one child restarts."""

    ONE_FOR_ONE = "one_for_one"
    ONE_FOR_ALL = "one_for_all"
    REST_FOR_ONE = "rest_for_one"
    """The child and those started after it."""


class Exit(msgspec.Struct, frozen=True):
    """How one incarnation of an actor ended.

    "stopped" and "killed" were ordered from outside (`ref.stop`, `ref.kill`, a supervisor's shutdown),
    "finished" is the actor's own `self.stop()`, "failed" carries the `error`, "restarting" is a
    sibling's casualty.
    """

    reason: Reason
    error: BaseException | None = None


def restarts(restart: Restart, exit: Exit) -> bool:  # noqa: A002
    """Whether a child of this restart type comes back after `exit`. An ordered stop is never undone."""
    match exit.reason:
        case "stopped" | "killed":
            return False
        case "finished":
            return restart is Restart.PERMANENT
        case "failed" | "restarting":
            return restart is not Restart.TEMPORARY


def affected(strategy: Strategy, children: Sequence[T], failed: T) -> list[T]:
    """The children, in start order, that the failure of one takes down, itself included."""
    match strategy:
        case Strategy.ONE_FOR_ONE:
            return [failed]
        case Strategy.ONE_FOR_ALL:
            return list(children)
        case Strategy.REST_FOR_ONE:
            return list(children[children.index(failed) :])


class RestartWindow:
    """At most `intensity` restarts within any `period` seconds (Erlang/OTP supervisor: intensity and period)."""

    def __init__(self, intensity: int, period: float) -> None:
        if intensity < 0 or period <= 0:
            raise ValueError(f"intensity={intensity} restarts in period={period} s: at least 0 restarts, over 0 s")
        self.intensity = intensity
        self.period = period
        self._restarts: deque[float] = deque()

    def allows(self, now: float) -> bool:
        """Count one more restart at `now`, in seconds; False where it is one too many."""
        while self._restarts and self._restarts[0] < now - self.period:
            self._restarts.popleft()
        self._restarts.append(now)
        return len(self._restarts) <= self.intensity


class Backoff(msgspec.Struct, frozen=True):
    """Delays before restarts, in seconds: `initial`, times `factor` each time, at most `cap`.

    `jitter` spreads each delay by up to that fraction either way, so that what failed together does not
    come back together. After `reset_after` seconds without a failure (None: twice the cap) the delay
    is `initial` again.

    Raises `ValueError` for figures that make no sense.
    """

    initial: float
    cap: float
    factor: float = 2.0
    jitter: float = 0.2
    reset_after: float | None = None

    def __post_init__(self) -> None:
        if not (0 <= self.initial <= self.cap and self.factor >= 1 and 0 <= self.jitter <= 1):
            raise ValueError(f"{self}: 0 <= initial <= cap, factor >= 1, 0 <= jitter <= 1")
        if self.reset_after is not None and self.reset_after < 0:
            raise ValueError(f"{self}: reset_after is in seconds, at least 0")

    def delay(self, failures: int, spread: Callable[[float, float], float] = random.uniform) -> float:
        """Seconds to wait after the given number of failures in a row, from 1."""
        delay = self.initial
        for _ in range(failures - 1):
            delay *= self.factor
            if delay >= self.cap:
                delay = self.cap
                break
        # Cut the interval, not what is drawn from it: else half of all delays would be the cap to the dot.
        return spread(delay * (1 - self.jitter), min(self.cap, delay * (1 + self.jitter)))

    def forgets_after(self) -> float:
        """Seconds without a failure after which the failures so far no longer count."""
        return 2 * self.cap if self.reset_after is None else self.reset_after
