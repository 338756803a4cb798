"""Every accepted message meets one fate: invariants 1 to 5, 7 and 12 over generated schedules."""

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from tests.actors.schedules import Schedule, schedules
from tests.actors.world import play

EXAMPLES = settings().max_examples  # 100, or what the profile says
pytestmark = pytest.mark.timeout(400)  # Hypothesis takes up to 300 s to make a failing schedule short


@settings(max_examples=5 * EXAMPLES)
@given(schedules, st.random_module())  # trio shuffles who runs first
def test_every_message_meets_one_fate_in_virtual_time(schedule: Schedule, shuffle: object) -> None:
    play(schedule, virtual=True)


@settings(max_examples=2 * EXAMPLES)
@given(schedules)
def test_every_message_meets_one_fate_on_asyncio(schedule: Schedule) -> None:
    play(schedule, virtual=False)


@pytest.mark.parametrize(
    "reason", ["handled", "refused", "failed", "killed", "expired", "abandoned", "dropped", "stopped", "unhandled"]
)
def test_the_schedules_reach_every_fate(reason: str) -> None:
    def reaches(schedule: Schedule) -> bool:
        return any(record.reason == reason for record in play(schedule, virtual=True).records)

    options = settings(
        max_examples=500, phases=[Phase.generate], derandomize=True, database=None,
        suppress_health_check=list(HealthCheck), deadline=None,
    )  # fmt: skip
    find(schedules, reaches, settings=options)
