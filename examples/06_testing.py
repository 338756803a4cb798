"""Testing: the actors around the one under test are played by probes, and an hour passes at once.

Run: python examples/06_testing.py    (or: pytest examples/06_testing.py)
"""

import subprocess
import sys
from typing import Any

import pytest

from actors import Actor, ActorRef, AskTimeout, Message, Refusal, handles
from actors.testing import Probe, StrictSystem, virtual_time

# What is tested: a clerk who asks a model, and asks again later when the model is busy. ---------------------


class Prompt(Message[str]):
    text: str


class Busy(Refusal):
    """The model's answer "not now": an answer, not a failure."""


class Question(Message[None]):
    text: str


class Answer(Message[None]):
    text: str


class Clerk(Actor):
    def __init__(self, model: ActorRef[Any], customer: ActorRef[Any]) -> None:
        self.model, self.customer = model, customer

    @handles(Question)
    async def answer(self, question: Question) -> None:
        try:
            answer = await self.model.ask(Prompt(text=question.text), timeout=60.0)
        except Busy:
            self.after(3600.0, question)
        except AskTimeout:
            await self.customer.tell(Answer(text="we do not know"))
        else:
            await self.customer.tell(Answer(text=answer))


# The tests --------------------------------------------------------------------------------------------------

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return virtual_time()  # the clock jumps ahead whenever everybody waits


async def test_the_answer_of_the_model_goes_to_the_customer() -> None:
    async with StrictSystem() as system:  # a dead letter that the test did not expect would fail it
        model, customer = Probe(system), Probe(system)
        clerk = await system.spawn(Clerk, model.ref, customer.ref)
        await clerk.tell(Question(text="why?"))
        assert await model.expect(Prompt) == Prompt(text="why?")
        model.reply("because")
        assert await customer.expect(Answer) == Answer(text="because")


async def test_when_the_model_is_busy_the_clerk_asks_again_in_an_hour() -> None:
    async with StrictSystem() as system:
        model, customer = Probe(system), Probe(system)
        clerk = await system.spawn(Clerk, model.ref, customer.ref)
        await clerk.tell(Question(text="why?"))
        await model.expect(Prompt)
        model.refuse(Busy())
        await model.expect_none(3599.0)
        await model.expect(Prompt, timeout=2.0)
        model.reply("because")
        await customer.expect(Answer)


async def test_when_the_model_says_nothing_the_customer_is_told_after_a_minute() -> None:
    async with StrictSystem() as system:
        model, customer = Probe(system), Probe(system)
        clerk = await system.spawn(Clerk, model.ref, customer.ref)
        await clerk.tell(Question(text="why?"))
        await model.expect(Prompt)  # and no reply
        await customer.expect_none(59.0)
        assert await customer.expect(Answer, timeout=2.0) == Answer(text="we do not know")


async def test_a_model_that_crashes_takes_the_clerk_down_and_the_next_question_is_answered() -> None:
    async with StrictSystem() as system:
        model, customer = Probe(system), Probe(system)
        clerk = await system.spawn(Clerk, model.ref, customer.ref)
        await clerk.tell(Question(text="why?"))
        await model.expect(Prompt)
        model.refuse(MemoryError("out of memory"))
        letter = await system.expect_dead_letter(Question, reason="failed")
        assert letter.address == clerk.address
        await clerk.tell(Question(text="how?"))
        await model.expect(Prompt)
        model.reply("like this")
        await customer.expect(Answer)


if __name__ == "__main__":
    sys.exit(subprocess.call([sys.executable, "-m", "pytest", "-v", __file__]))
