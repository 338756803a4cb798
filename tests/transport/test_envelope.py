"""Envelopes, priorities and ids."""

from __future__ import annotations

import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.address import Address
from transport.envelope import NORMAL, Envelope, Priority, uuid7
from transport.message import Message

MS = 1_000_000  # in nanoseconds


class Note(Message[None]):
    pass


@given(st.integers(0, (1 << 48) * MS - 1))
def test_an_id_is_a_uuid_of_version_7_that_bears_its_millisecond(nanoseconds: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: nanoseconds)
        made_as_text = uuid7()
    made = uuid.UUID(made_as_text)
    assert str(made) == made_as_text
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == nanoseconds // MS


@given(st.lists(st.integers(0, (1 << 48) - 1), min_size=2, unique=True))
def test_ids_sort_by_their_millisecond_as_numbers_and_as_text(milliseconds: list[int]) -> None:
    made = []
    for each in milliseconds:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "time_ns", lambda each=each: each * MS)
            made.append((each, uuid.UUID(uuid7())))
    in_time = [made_then for _, made_then in sorted(made)]
    assert sorted(each for _, each in made) == in_time
    assert sorted(str(each) for _, each in made) == [str(each) for each in in_time]


def test_the_rest_of_an_id_is_random() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: 0)
        made = [uuid.UUID(uuid7()).int for _ in range(500)]
    assert len(set(made)) == 500
    ones = [sum(each >> bit & 1 for each in made) for bit in range(80)]
    fixed = {*range(76, 80), 62, 63}  # version and variant
    assert all((150 < ones[bit] < 350) != (bit in fixed) for bit in range(80))  # 9 standard deviations


def test_an_envelope_makes_its_id_when_asked_and_keeps_it() -> None:
    envelope, other = (Envelope(Note(), Address("/a")) for _ in range(2))
    assert not envelope.message_id
    assert envelope.id == envelope.id == envelope.message_id
    assert uuid.UUID(envelope.id).version == 7
    assert other.id != envelope.id
    assert Envelope(Note(), Address("/a"), message_id="from afar").id == "from afar"


def test_envelopes_are_equal_to_themselves_only() -> None:
    alike = [Envelope(Note(), Address("/a")) for _ in range(2)]
    assert alike.index(alike[1]) == 1


def test_the_lanes_in_their_order() -> None:
    assert sorted(Priority) == [Priority.URGENT, Priority.HIGH, Priority.NORMAL, Priority.LOW]
    assert [int(each) for each in sorted(Priority)] == [0, 1, 2, 3]
    assert NORMAL == Priority.NORMAL == Envelope(Note(), Address("/a")).priority
    assert type(NORMAL) is int
