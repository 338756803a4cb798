"""What happens to messages: invariants 1 to 5 and 7 over generated schedules."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.actors.schedules import Schedule, play, schedules


@settings(max_examples=300)
@given(schedules, st.random_module())
def test_every_message_meets_one_fate_in_virtual_time(schedule: Schedule, _: object) -> None:
    play(schedule, virtual=True)


@settings(max_examples=100)
@given(schedules)
def test_every_message_meets_one_fate_on_asyncio(schedule: Schedule) -> None:
    play(schedule, virtual=False)
