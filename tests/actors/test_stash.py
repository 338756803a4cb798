"""`stash` and `unstash`: put aside, handled later in the first order, never lost and never twice."""

from __future__ import annotations

from collections import deque
from typing import Any, Literal

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import Actor, ActorSystem, HandlerFailed, MailboxFull, Message, Overflow, Priority, Refusal, handles
from actors.testing import StrictSystem, run_virtual

# A door that opens and closes, against a model ----------------------------------------------------------------


class Enter(Message[int]):
    number: int


class Turn(Message[None]):
    """Opens or closes the door."""

    opens: bool


class Door(Actor):
    """Lets people in while it is open; those who come while it is closed are stashed."""

    def __init__(self, entered: list[int]) -> None:
        self.entered, self.open = entered, False

    @handles(Enter)
    async def enter(self, message: Enter) -> int:
        if not self.open:
            self.stash()
        else:
            self.entered.append(message.number)
        return message.number

    @handles(Turn)
    async def turn(self, message: Turn) -> None:
        self.open = message.opens
        if self.open:
            self.unstash()


Step = tuple[str, Priority]


def expected(steps: list[Step]) -> list[int]:
    """Who has entered, in order: everything is sent before the door handles the first of it."""
    lanes: dict[Priority, deque[tuple[str, int]]] = {priority: deque() for priority in Priority}
    for number, (what, priority) in enumerate(steps):
        lanes[priority].append((what, number))
    entered, stash, is_open = [], [], False
    while any(lanes.values()):
        lane = next(priority for priority in Priority if lanes[priority])
        what, number = lanes[lane].popleft()
        if what == "enter" and is_open:
            entered.append(number)
        elif what == "enter":
            stash.append((lane, number))
        else:
            is_open = what == "open"
            while is_open and stash:
                priority, waiting = stash.pop()
                lanes[priority].appendleft(("enter", waiting))
    return entered


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.sampled_from(["enter", "enter", "open", "close"]), st.sampled_from(Priority)), max_size=12)
)
def test_what_was_stashed_comes_first_in_its_lane_and_in_its_first_order(steps: list[Step]) -> None:
    entered: list[int] = []

    async def main() -> None:
        async with ActorSystem() as system:
            door = await system.spawn(Door, entered)
            for number, (what, priority) in enumerate(steps):
                message: Message[Any] = Enter(number) if what == "enter" else Turn(what == "open")
                await door.tell(message, priority=priority)  # not one checkpoint, so none is handled meanwhile
            await anyio.wait_all_tasks_blocked()
            assert len(entered) + len(system.cells[door.address]._stash or ()) == sum(w == "enter" for w, _ in steps)

    run_virtual(main)
    assert entered == expected(steps)


# In words -----------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_an_ask_that_was_stashed_is_answered_after_unstash() -> None:
    answers: list[int] = []
    entered: list[int] = []

    async def enter(number: int) -> None:
        answers.append(await door.ask(Enter(number)))

    async with StrictSystem() as system, anyio.create_task_group() as asking:
        door = await system.spawn(Door, entered)
        for number in range(3):
            asking.start_soon(enter, number)
            await anyio.wait_all_tasks_blocked()
        assert answers == []
        await door.tell(Turn(opens=True))
    assert sorted(answers) == entered == [0, 1, 2]


@pytest.mark.anyio
async def test_the_stash_is_bounded_and_says_so() -> None:
    async with StrictSystem() as system:
        door = await system.spawn(Door, [], name="door", capacity=2, overflow=Overflow.REJECT)
        for number in range(3):
            await door.tell(Enter(number))
            await anyio.wait_all_tasks_blocked()
        letter = await system.expect_dead_letter(Enter, reason="failed")
        assert letter.message == Enter(2)
        assert isinstance(letter.cause, MailboxFull)
        assert (str(letter.cause), letter.cause.depth) == ("the stash of /door is full", 2)
        # The restart has put the first two back, and the new door is closed too.
        await door.tell(Turn(opens=True))


@pytest.mark.anyio
async def test_what_is_stashed_survives_a_restart_and_not_a_stop() -> None:
    class Fragile(Door):
        @handles(Turn)
        async def turn(self, message: Turn) -> None:
            if not message.opens:
                raise ValueError("off its hinges")
            await super().turn(message)

        async def on_restart(self, error: BaseException) -> None:
            assert len(self._cell._stash or ()) == 2

    entered: list[int] = []
    async with StrictSystem() as system:
        fragile = await system.spawn(Fragile, entered)
        receipts = [await fragile.tell(Enter(number), receipt=True) for number in range(2)]
        await fragile.tell(Turn(opens=False))
        await fragile.tell(Turn(opens=True))
        assert [(await receipt.wait(1.0)).fate for receipt in receipts] == ["handled"] * 2
        await system.expect_dead_letter(Turn, reason="failed")
        assert entered == [0, 1]

        door = await system.spawn(Door, entered)
        left = await door.tell(Enter(3), receipt=True)
        await anyio.wait_all_tasks_blocked()
        await door.stop()
        assert (await left.wait(0.0)).reason == "stopped"
        await system.expect_dead_letter(Enter, reason="stopped")
    assert entered == [0, 1]


class No(Refusal): ...


class Odd(Message[None]):
    """Stashed, perhaps taken back at once, and then the handler ends in another way."""

    unstash: bool
    how: Literal["raise", "refuse", "wait"]
    twice: bool = False


class OddBeside(Odd): ...


class OddOne(Actor):
    def __init__(self, runs: list[Odd]) -> None:
        self.runs = runs

    async def odd(self, message: Odd) -> None:
        self.runs.append(message)
        self.stash()
        if message.twice:
            with pytest.raises(LookupError):
                self.stash()
        if message.unstash:
            self.unstash()
        match message.how:
            case "raise":
                raise ValueError("odd")
            case "refuse":
                raise No("odd")
            case "wait":
                await anyio.sleep(3600)

    @handles(Odd)
    async def alone(self, message: Odd) -> None:
        await self.odd(message)

    @handles(OddBeside, concurrency=2)
    async def beside(self, message: OddBeside) -> None:
        await self.odd(message)


@pytest.mark.anyio
@pytest.mark.parametrize("unstash", [False, True])
@pytest.mark.parametrize("kind", [Odd, OddBeside])
@pytest.mark.parametrize(
    ("how", "fate", "reason"),
    [("raise", "failed", "failed"), ("refuse", "handled", "refused"), ("wait", "failed", "killed")],
)
async def test_a_handler_that_stashes_and_then_does_not_return_decides_the_one_fate(
    how: Literal["raise", "refuse", "wait"], fate: str, reason: str, kind: type[Odd], unstash: bool
) -> None:
    runs: list[Odd] = []
    async with StrictSystem() as system:
        system.allow_dead_letters(kind, reason=reason)
        odd = await system.spawn(OddOne, runs)
        receipt = await odd.tell(kind(unstash, how, twice=True), receipt=True)
        await anyio.wait_all_tasks_blocked()
        if how == "wait":
            odd.kill()
        outcome = await receipt.wait(1.0)
        await anyio.wait_all_tasks_blocked()
        assert (outcome.fate, outcome.reason) == (fate, reason)
    assert len(runs) == 1


@pytest.mark.anyio
async def test_a_message_that_is_still_being_handled_is_not_unstashed_by_another_handler() -> None:
    class Release(Message[None]): ...

    class Crossed(OddOne):
        @handles(OddBeside, concurrency=2)
        async def beside(self, message: OddBeside) -> None:
            self.runs.append(message)
            if len(self.runs) == 1:
                self.stash()
                await gate.wait()

        @handles(Release)
        async def release(self, _: Release) -> None:
            self.unstash()

    runs: list[Odd] = []
    gate = anyio.Event()
    async with StrictSystem() as system:
        crossed = await system.spawn(Crossed, runs)
        receipt = await crossed.tell(OddBeside(False, "wait"), receipt=True)
        await anyio.wait_all_tasks_blocked()
        await crossed.ask(Release())
        assert len(runs) == 1
        gate.set()
        await anyio.wait_all_tasks_blocked()
        assert not receipt.done()
        await crossed.ask(Release())
        assert (await receipt.wait(1.0)).fate == "handled"
    assert len(runs) == 2


@pytest.mark.anyio
async def test_there_is_nothing_to_stash_outside_a_turn_and_unstash_of_nothing_is_harmless() -> None:
    class Early(Actor):
        async def on_start(self) -> None:
            self.unstash()
            self.stash()

    async with StrictSystem() as system:
        with pytest.raises(Exception, match="/early is not handling a message") as caught:
            await system.spawn(Early, name="early")
        assert isinstance(caught.value.__cause__, LookupError)
        door = await system.spawn(Door, [])
        with pytest.raises(HandlerFailed, match="off"):
            await (await system.spawn(Failing)).ask(Turn(opens=True))
        await door.tell(Turn(opens=True))
        await system.expect_dead_letter(Turn)


class Failing(Door):
    def __init__(self) -> None:
        super().__init__([])

    @handles(Turn)
    async def turn(self, message: Turn) -> None:
        raise ValueError("off")
