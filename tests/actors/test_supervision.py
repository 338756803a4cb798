"""The rules of supervision as values: who comes back, who goes down with whom, how often, and after how long."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import Backoff, ChildSpec, Restart, Strategy
from actors.actor import Actor
from actors.supervision import Exit, Reason, RestartWindow, affected, restarts

REASONS: tuple[Reason, ...] = ("stopped", "killed", "finished", "failed", "restarting")

gaps = st.lists(st.integers(0, 24).map(lambda eighths: eighths / 8), max_size=60)
backoffs = st.builds(
    lambda initial, spare, factor, jitter: Backoff(initial, initial + spare, factor, jitter),
    initial=st.floats(0, 10),
    spare=st.floats(0, 100),
    factor=st.floats(1, 10),
    jitter=st.floats(0, 1),
)


@pytest.mark.parametrize("reason", REASONS)
def test_who_comes_back(reason: Reason) -> None:
    expected: dict[Reason, set[Restart]] = {
        "stopped": set(),  # ordered: never undone
        "killed": set(),
        "finished": {Restart.PERMANENT},
        "failed": {Restart.PERMANENT, Restart.TRANSIENT},
        "restarting": {Restart.PERMANENT, Restart.TRANSIENT},
    }
    assert {restart for restart in Restart if restarts(restart, Exit(reason))} == expected[reason]


@given(st.lists(st.integers(), min_size=1, max_size=8, unique=True), st.data())
def test_whom_a_failure_takes_down(children: list[int], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(children) - 1))
    failed = children[place]
    assert affected(Strategy.ONE_FOR_ONE, children, failed) == [failed]
    assert affected(Strategy.ONE_FOR_ALL, children, failed) == children
    assert affected(Strategy.REST_FOR_ONE, children, failed) == children[place:]


@given(st.integers(0, 5), st.integers(1, 40).map(lambda eighths: eighths / 8), gaps)
def test_restarts_in_any_period_never_exceed_the_intensity(intensity: int, period: float, gaps: list[float]) -> None:
    window = RestartWindow(intensity, period)
    now = 1_000.0
    granted: list[float] = []
    asked: list[float] = []
    for gap in gaps:
        now += gap
        recent = [when for when in asked if now - when <= period]
        asked.append(now)
        allowed = window.allows(now)
        assert allowed == (len(recent) < intensity), "as strict as the rule, and no stricter"
        if allowed:
            granted.append(now)
        assert sum(now - when <= period for when in granted) <= intensity


@pytest.mark.parametrize(("intensity", "period"), [(-1, 5.0), (3, 0.0), (3, -1.0)])
def test_a_window_that_makes_no_sense_is_refused(intensity: int, period: float) -> None:
    with pytest.raises(ValueError, match=rf"intensity={intensity} restarts in period={period} s"):
        RestartWindow(intensity, period)


@given(backoffs, st.integers(1, 40), st.randoms(use_true_random=False))
def test_delays_stay_within_the_jitter_and_under_the_cap(backoff: Backoff, failures: int, rng: random.Random) -> None:
    nominal = min(backoff.cap, backoff.initial * backoff.factor ** (failures - 1))
    for spread in (rng.uniform, min, max):
        delay = backoff.delay(failures, spread)
        assert nominal * (1 - backoff.jitter) * 0.999 <= delay <= nominal * (1 + backoff.jitter) * 1.001
        assert 0 <= delay <= backoff.cap


@given(backoffs, st.integers(1, 40))
def test_delays_grow_from_the_initial_one_to_the_cap(backoff: Backoff, failures: int) -> None:
    steady = Backoff(backoff.initial, backoff.cap, backoff.factor, jitter=0.0)
    assert steady.delay(1) == backoff.initial
    now, then = steady.delay(failures), steady.delay(failures + 1)
    assert then == pytest.approx(min(backoff.cap, now * backoff.factor))
    if backoff.initial > 0.001 and backoff.factor > 1.5:
        assert steady.delay(60) == backoff.cap


@given(st.integers(1, 60), st.floats(0.05, 1))
def test_jitter_spreads_the_delays_also_at_the_cap(failures: int, jitter: float) -> None:
    """What failed together must not come back together, however long the outage was."""
    backoff = Backoff(initial=1.0, cap=60.0, factor=1.9, jitter=jitter)
    rng = random.Random(failures)
    delays = [backoff.delay(failures, rng.uniform) for _ in range(50)]
    assert len(set(delays)) == 50
    assert max(delays) - min(delays) > 0.5 * jitter * min(60.0, 1.9 ** (failures - 1))


def test_an_outage_of_a_million_failures_has_a_delay_too() -> None:
    assert Backoff(0.1, 10.0, jitter=0.0).delay(1_000_000) == 10.0


def test_failures_are_forgotten_after_twice_the_cap_or_as_told() -> None:
    assert Backoff(0.1, 10.0).forgets_after() == 20.0
    assert Backoff(0.1, 10.0, reset_after=3.0).forgets_after() == 3.0


@pytest.mark.parametrize(
    "figures",
    [
        {"initial": -1.0, "cap": 1.0},
        {"initial": 2.0, "cap": 1.0},
        {"initial": 1.0, "cap": 1.0, "factor": 0.5},
        {"initial": 1.0, "cap": 1.0, "jitter": 1.5},
        {"initial": 1.0, "cap": 1.0, "reset_after": -1.0},
        {"initial": float("nan"), "cap": 1.0},
        {"initial": 1.0, "cap": float("nan")},
    ],
)
def test_a_backoff_that_makes_no_sense_is_refused(figures: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="Backoff"):
        Backoff(**figures)


class Leaf(Actor):
    pass


def test_a_recipe_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(TypeError, match="give the class and its arguments, not an instance"):
        ChildSpec(Leaf())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="significant but PERMANENT"):
        ChildSpec(Leaf, significant=True)
    with pytest.raises(ValueError, match="shutdown=-1"):
        ChildSpec(Leaf, shutdown=-1)
    with pytest.raises(ValueError, match="shutdown=nan"):
        ChildSpec(Leaf, shutdown=float("nan"))
