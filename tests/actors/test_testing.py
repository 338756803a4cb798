"""`actors.testing`: what a probe takes and answers, what fails a test, and time that jumps."""

# it is leaving the system that raises, so the whole `async with` stands in `pytest.raises`

from __future__ import annotations

import inspect
import subprocess
import sys
from collections import Counter
from pathlib import Path
from textwrap import dedent
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import actors.testing
from actors import (
    Actor,
    ActorNotFound,
    ActorRef,
    ActorStopped,
    ActorSystem,
    AddressInUse,
    AskTimeout,
    DeadLetter,
    DeliveryError,
    Envelope,
    HandlerFailed,
    MailboxFull,
    Message,
    Middleware,
    Outcome,
    Overflow,
    Priority,
    RateLimited,
    Refusal,
    Restart,
    RestartIntensityExceeded,
    Terminated,
    handles,
)
from actors.events import ActorStarted
from actors.events import ActorStopped as Stopped
from actors.testing import Probe, StrictSystem, run_virtual, virtual_time

pytestmark = pytest.mark.anyio


class Word(Message[None]):
    text: str


class Question(Message[str]):
    text: str


class Boom(Message[None]):
    pass


class Echo(Actor):
    """Sends each word back to whoever said it, and asks `other`, if it has one, every question."""

    def __init__(self, other: ActorRef[Any] | None = None) -> None:
        self.other = other

    @handles(Word)
    async def word(self, message: Word) -> None:
        sender = self.envelope.sender
        assert sender is not None
        await self.system.ref(sender).tell(message)

    @handles(Question)
    async def question(self, message: Question) -> str:
        assert self.other is not None
        return await self.other.ask(message, timeout=5.0)

    @handles(Boom)
    async def boom(self, _: Boom) -> None:
        raise ValueError("boom")


class Watcher(Actor):
    """Watches `other`, and tells `log` when it has ended."""

    def __init__(self, other: ActorRef[Any], log: ActorRef[Any]) -> None:
        self.other, self.log = other, log

    async def on_start(self) -> None:
        self.watch(self.other)

    @handles(Terminated)
    async def ended(self, message: Terminated) -> None:
        await self.log.tell(message)


class Ledger(Middleware):
    """Counts what was sent, and every fate of each envelope."""

    def __init__(self) -> None:
        self.fates: dict[Envelope, list[Outcome]] = {}

    def settled(self, envelope: Envelope, outcome: Outcome) -> None:
        self.fates.setdefault(envelope, []).append(outcome)


class No(Refusal):
    pass


# A probe takes --------------------------------------------------------------------------------------------


async def test_a_probe_takes_the_most_urgent_message_first_each_lane_in_its_order() -> None:
    async with StrictSystem() as system:
        probe = Probe(system)
        await probe.ref.tell(Word("later"), priority=Priority.LOW)
        await probe.ref.tell(Word("one"))
        await probe.ref.tell(Word("two"))
        await probe.ref.tell(Word("now"), priority=Priority.URGENT)
        taken = [(await probe.expect(Word)).text for _ in range(4)]
        assert taken == ["now", "one", "two", "later"]
        assert probe.envelope.priority == Priority.LOW
        await probe.expect_none(0.0)


async def test_a_probe_waits_for_what_arrives_later() -> None:
    async with StrictSystem() as system, anyio.create_task_group() as tasks:
        probe = Probe(system)

        async def take() -> None:
            assert await probe.expect(Message) == Word("at last")

        tasks.start_soon(take)
        await anyio.wait_all_tasks_blocked()
        await probe.ref.tell(Word("at last"))


async def test_a_told_message_is_handled_when_it_is_taken() -> None:
    async with StrictSystem() as system:
        probe = Probe(system)
        receipt = await probe.ref.tell(Word("hello"), receipt=True)
        with pytest.raises(TimeoutError):
            await receipt.wait(timeout=0.01)
        await probe.expect(Word)
        assert await receipt.wait(timeout=1.0) == Outcome("handled")


async def test_another_message_than_expected_fails_and_says_what_arrived() -> None:
    async with StrictSystem() as system:
        probe, other = Probe(system, "critic"), Probe(system, "writer")
        await other.tell(probe.ref, Word("hello"), priority=Priority.HIGH)
        with pytest.raises(AssertionError) as failure:
            await probe.expect(Boom)
        assert str(failure.value) == (
            "/critic expected Boom; what arrived is Word(text='hello') from /writer, HIGH"
        )  # fmt: skip


async def test_silence_where_a_message_is_expected_fails_after_the_timeout() -> None:
    async with StrictSystem() as system:
        probe = Probe(system, "critic")
        before = system.now()
        with pytest.raises(AssertionError) as failure:
            await probe.expect(Word, timeout=0.05)
        assert str(failure.value) == "/critic expected Word; nothing arrived within 0.05 s"
        assert round(system.now() - before, 3) >= 0.05  # uvloop's clock counts milliseconds, in floats


async def test_a_message_where_none_is_expected_fails_and_says_what_arrived() -> None:
    async with StrictSystem() as system:
        probe = Probe(system, "critic")
        await probe.expect_none(0.01)
        await probe.ref.tell(Word("oh"))
        with pytest.raises(AssertionError) as failure:
            await probe.expect_none(0.01)
        assert str(failure.value) == "/critic expected nothing; what arrived is Word(text='oh')"


async def test_the_envelope_is_that_of_the_last_message_taken() -> None:
    async with StrictSystem() as system:
        probe = Probe(system, "critic")
        with pytest.raises(LookupError, match="/critic has taken no message yet"):
            _ = probe.envelope
        await probe.ref.tell(Word("a"), correlation_id="7")
        await probe.expect(Word)
        assert (probe.envelope.correlation_id, probe.envelope.sender) == ("7", None)


async def test_a_message_past_its_ttl_is_never_taken() -> None:
    async with StrictSystem() as system:
        probe = Probe(system)
        await probe.ref.tell(Word("stale"), ttl=0.0)
        await probe.ref.tell(Word("fresh"), ttl=60.0)
        assert await probe.expect(Word) == Word("fresh")
        letter = await system.expect_dead_letter(Word, reason="expired")
        assert letter.message == Word("stale")


async def test_an_ask_whose_asker_has_gone_is_never_taken() -> None:
    async with StrictSystem() as system:
        probe = Probe(system)
        with anyio.move_on_after(0.01):
            await probe.ref.ask(Question("?"), timeout=60.0)
        await probe.expect_none(0.0)
        await system.expect_dead_letter(Question, reason="abandoned")


# A probe answers ------------------------------------------------------------------------------------------


async def test_a_probe_answers_the_ask_it_has_taken() -> None:
    async with StrictSystem() as system, anyio.create_task_group() as tasks:
        probe = Probe(system)
        echo = await system.spawn(Echo, probe.ref)

        async def ask() -> None:
            assert await echo.ask(Question("why?")) == "because"

        tasks.start_soon(ask)
        assert await probe.expect(Question) == Question("why?")
        assert probe.envelope.sender == echo.address
        probe.reply("because")


async def test_asks_may_be_answered_in_any_order() -> None:
    async with StrictSystem() as system, anyio.create_task_group() as tasks:
        probe = Probe(system)

        async def ask(text: str) -> None:
            assert await probe.ref.ask(Question(text)) == text.upper()

        for text in "abc":
            tasks.start_soon(ask, text)
        questions = [await probe.expect(Question) for _ in "abc"]
        await probe.ref.tell(Word("in between"))
        await probe.expect(Word)
        probe.reply(questions[1].text.upper(), to=questions[1])
        probe.reply(questions[2].text.upper())
        probe.reply(questions[0].text.upper())


async def test_of_two_equal_questions_the_one_meant_is_answered() -> None:
    async with StrictSystem() as system, anyio.create_task_group() as tasks:
        probe = Probe(system)
        answers: dict[str, str] = {}

        async def ask(who: str) -> None:
            answers[who] = await probe.ref.ask(Question("the same"))

        tasks.start_soon(ask, "first")
        one = await probe.expect(Question)
        tasks.start_soon(ask, "second")
        two = await probe.expect(Question)
        assert one == two
        probe.reply("1", to=one)
        probe.reply("2", to=two)
        await anyio.wait_all_tasks_blocked()
        assert answers == {"first": "1", "second": "2"}


async def test_there_is_one_answer_to_an_ask_and_none_to_a_tell() -> None:
    async with StrictSystem() as system, anyio.create_task_group() as tasks:
        probe = Probe(system, "critic")
        await probe.ref.tell(Word("no question"), receipt=True)
        await probe.expect(Word)
        nothing = "/critic has no ask to answer: take it with expect, and answer it once"
        with pytest.raises(AssertionError, match=nothing):
            probe.reply(None)
        tasks.start_soon(probe.ref.ask, Question("?"))
        question = await probe.expect(Question)
        probe.reply("yes", to=question)
        with pytest.raises(AssertionError, match=nothing):
            probe.refuse(No(), to=question)


async def test_a_refusal_reaches_the_asker_as_itself_and_another_error_as_handler_failed() -> None:
    ledger = Ledger()
    async with StrictSystem(middleware=[ledger]) as system, anyio.create_task_group() as tasks:
        probe = Probe(system)

        async def ask() -> None:
            with pytest.raises(No, match="not today"):
                await probe.ref.ask(Question("?"))
            with pytest.raises(HandlerFailed, match="OSError: the model is down") as failure:
                await probe.ref.ask(Question("?"))
            assert isinstance(failure.value.__cause__, OSError)
            await probe.ref.ask(Question("the probe is still there"))

        tasks.start_soon(ask)
        await probe.expect(Question)
        probe.refuse(No("not today"))
        await probe.expect(Question)
        probe.refuse(OSError("the model is down"))
        await probe.expect(Question)
        probe.reply("yes")
    assert [[outcome.fate for outcome in outcomes] for outcomes in ledger.fates.values()] == [
        ["handled"],
        ["failed"],
        ["handled"],
    ]


async def test_what_answers_its_sender_answers_the_probe_that_told_it() -> None:
    async with StrictSystem() as system:
        probe, echo = Probe(system), await system.spawn(Echo)
        await probe.tell(echo, Word("hello"))
        assert await probe.expect(Word) == Word("hello")
        assert probe.envelope.sender == echo.address
        await probe.ref.tell(Word("from the test itself again"))
        await probe.expect(Word)
        assert probe.envelope.sender is None


# A probe lives and ends like an actor ---------------------------------------------------------------------


@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_whoever_watches_a_probe_learns_of_its_end(how: str) -> None:
    async with StrictSystem() as system:
        probe, log = Probe(system), Probe(system)
        await system.spawn(Watcher, probe.ref, log.ref)
        await log.expect_none(0.0)
        if how == "stopped":
            await probe.ref.stop()
        else:
            probe.ref.kill()
        assert await log.expect(Terminated) == Terminated(probe.ref.address, how)
        with pytest.raises(ActorStopped):
            await probe.ref.tell(Word("too late"))
        with pytest.raises(AssertionError, match="expected Word; the probe has stopped"):
            await probe.expect(Word)
        await probe.expect_none(3600.0)


async def test_a_probe_learns_of_the_end_of_whom_it_watches() -> None:
    async with StrictSystem() as system:
        probe, echo = Probe(system), await system.spawn(Echo)
        probe.watch(echo)
        await probe.ref.tell(Word("a word in front"))
        await echo.stop()
        assert await probe.expect(Terminated) == Terminated(echo.address, "stopped")
        assert await probe.expect(Word) == Word("a word in front")
        probe.watch(system.ref("/nobody"))
        with pytest.raises(AssertionError) as failure:
            await probe.expect(Word)
        assert str(failure.value).endswith("Terminated(address=Address('/nobody'), reason='not found') from /nobody")


async def test_probes_have_names_that_nobody_else_has() -> None:
    async with StrictSystem() as system:
        assert [Probe(system).ref.address for _ in range(2)] == ["/probe-1", "/probe-2"]
        critic = Probe(system, "critic")
        assert repr(critic) == "Probe('/critic')"
        with pytest.raises(AddressInUse):
            Probe(system, "critic")
        with pytest.raises(AddressInUse):
            await system.spawn(Echo, name="critic")
        await critic.ref.stop()
        await system.spawn(Echo, name="critic")


async def test_a_probe_may_play_a_mailbox_that_is_full() -> None:
    async with StrictSystem() as system:
        probe = Probe(system, capacity=1, overflow=Overflow.REJECT)
        await probe.ref.tell(Word("one"))
        with pytest.raises(MailboxFull):
            await probe.ref.tell(Word("two"))
        await probe.expect(Word)
        await probe.ref.tell(Word("three"))
        await probe.expect(Word)


async def test_taking_from_a_full_probe_lets_the_next_sender_in() -> None:
    async with StrictSystem() as system, anyio.create_task_group() as tasks:
        probe = Probe(system, capacity=1)

        async def send() -> None:
            for text in ("one", "two", "three"):
                await probe.ref.tell(Word(text))

        tasks.start_soon(send)
        assert [(await probe.expect(Word)).text for _ in range(3)] == ["one", "two", "three"]


async def test_what_enters_a_probe_passes_the_middleware() -> None:
    class Limit(Middleware):
        async def accept(self, envelope: Envelope, next: Any) -> None:  # noqa: A002
            if envelope.message == Word("spam"):
                raise RateLimited("no spam", envelope, retry_after=1.0)
            await next(envelope)

    async with StrictSystem(middleware=[Limit()]) as system:
        probe = Probe(system)
        with pytest.raises(RateLimited):
            await probe.ref.tell(Word("spam"))
        await probe.ref.tell(Word("ham"))
        assert await probe.expect(Word) == Word("ham")


async def test_the_start_and_the_end_of_a_probe_are_events_like_an_actors() -> None:
    async with StrictSystem() as system:
        facts: list[tuple[type, str]] = []
        for event in (ActorStarted, Stopped):
            system.subscribe(event, lambda fact: facts.append((type(fact), str(fact.address))))
        probe = Probe(system, "critic")
        await probe.ref.stop()
    assert facts == [(ActorStarted, "/critic"), (Stopped, "/critic")]


async def test_mail_that_was_never_taken_is_a_dead_letter_and_holds_nothing_up() -> None:
    async with ActorSystem() as system:
        letters: list[DeadLetter] = []
        system.subscribe(DeadLetter, letters.append)
        await Probe(system, "critic").ref.tell(Word("unread"))
        before = system.now()
    assert [(each.address, each.message, each.reason) for each in letters] == [("/critic", Word("unread"), "stopped")]
    assert system.now() - before < 1.0  # the drain time is 5 s


async def test_an_ask_that_was_never_answered_fails_its_asker_and_is_a_dead_letter() -> None:
    async with StrictSystem() as system, anyio.create_task_group() as tasks:
        probe = Probe(system)

        async def ask() -> None:
            with pytest.raises(ActorStopped):
                await probe.ref.ask(Question("?"))

        tasks.start_soon(ask)
        await probe.expect(Question)
        await probe.ref.stop()
        assert (await system.expect_dead_letter(Question)).reason == "stopped"


async def test_a_mute_probe_is_how_to_test_a_timeout() -> None:
    ledger = Ledger()
    async with StrictSystem(middleware=[ledger]) as system, anyio.create_task_group() as tasks:
        probe = Probe(system)

        async def ask() -> None:
            with pytest.raises(AskTimeout):
                await probe.ref.ask(Question("?"), timeout=0.05)

        tasks.start_soon(ask)
        await probe.expect(Question)
    assert list(ledger.fates.values()) == [[Outcome("handled")]]


steps = st.lists(
    st.sampled_from(["tell", "tell ttl", "tell receipt", "ask", "take", "reply", "refuse", "fail", "wait"]), max_size=30
)


@given(steps, st.sampled_from(["stop", "kill", "leave"]))
def test_each_message_that_a_probe_accepts_meets_one_fate(script: list[str], end: str) -> None:
    ledger, sent, answered = Ledger(), 0, Counter[str]()

    async def main() -> None:
        nonlocal sent

        async def ask(probe: Probe) -> None:
            try:
                answered[await probe.ref.ask(Question("?"), timeout=3.0)] += 1
            except (No, HandlerFailed, AskTimeout, ActorStopped) as error:
                answered[type(error).__name__] += 1

        async with ActorSystem(middleware=[ledger]) as system, anyio.create_task_group() as tasks:
            probe = Probe(system)
            for step in script:
                try:
                    match step:
                        case "tell" | "tell ttl" | "tell receipt":
                            ttl = 1.0 if step == "tell ttl" else None
                            await probe.ref.tell(Word(step), ttl=ttl, receipt=step == "tell receipt")  # type: ignore[call-overload]
                        case "ask":
                            tasks.start_soon(ask, probe)
                            await anyio.wait_all_tasks_blocked()
                        case "take":
                            await probe.expect(Message, timeout=0.0)
                        case "reply":
                            probe.reply("yes")
                        case "refuse" | "fail":
                            probe.refuse(No() if step == "refuse" else OSError())
                        case "wait":
                            await anyio.sleep(1.0)
                except AssertionError:
                    continue  # nothing to take, nothing to answer
                sent += step.startswith(("tell", "ask"))
            if end != "leave":
                await probe.ref.stop() if end == "stop" else probe.ref.kill()

    run_virtual(main)
    assert len(ledger.fates) == sent
    assert all(len(outcomes) == 1 for outcomes in ledger.fates.values())
    assert answered.total() == script.count("ask")


# A dead letter fails the test -----------------------------------------------------------------------------


async def test_a_dead_letter_that_was_not_expected_fails_the_test_with_its_cause() -> None:
    with pytest.raises(AssertionError) as failure:
        async with StrictSystem() as system:
            echo = await system.spawn(Echo, name="echo")
            await Probe(system, "me").tell(echo, Boom())
    assert str(failure.value) == "1 unexpected dead letter:\n  Boom() to /echo from /me: failed, ValueError: boom"
    assert isinstance(failure.value.__cause__, ValueError)


async def test_a_dead_letter_of_the_shutdown_fails_the_test_too() -> None:
    with pytest.raises(AssertionError) as failure:
        async with StrictSystem() as system:
            probe = Probe(system, "critic")
            await probe.ref.tell(Word("one"))
            await probe.ref.tell(Word("two"))
    assert str(failure.value) == (
        "2 unexpected dead letters:\n  Word(text='one') to /critic: stopped\n  Word(text='two') to /critic: stopped"
    )
    assert failure.value.__cause__ is None


async def test_a_dead_letter_may_be_expected_before_or_after_it_comes() -> None:
    async with StrictSystem() as system, anyio.create_task_group() as tasks:
        echo = await system.spawn(Echo, name="echo")
        taken: list[DeadLetter] = []

        async def expect() -> None:
            taken.append(await system.expect_dead_letter(Boom, reason="failed"))

        tasks.start_soon(expect)
        await anyio.wait_all_tasks_blocked()
        await echo.tell(Boom())
        await echo.tell(Boom())
        await echo.tell(Terminated(echo.address, "?"))
        await system.expect_dead_letter(Terminated)
        await expect()
        assert [(each.address, each.reason) for each in taken] == [("/echo", "failed")] * 2
        assert system.dead_letters == {"failed": 2, "unhandled": 1}


async def test_a_dead_letter_is_taken_by_its_kind_and_reason_and_once() -> None:
    with pytest.raises(AssertionError, match=r"^1 unexpected dead letter:\n  Boom\(\)"):
        async with StrictSystem() as system:
            echo = await system.spawn(Echo, name="echo")
            await echo.tell(Boom())
            with pytest.raises(AssertionError) as failure:
                await system.expect_dead_letter(Word, timeout=0.01)
            assert str(failure.value) == (
                "expected a dead letter Word within 0.01 s; "
                "1 unexpected dead letter:\n  Boom() to /echo: failed, ValueError: boom"
            )
            with pytest.raises(AssertionError, match=r"a dead letter Boom \(expired\) within 0.01 s; 1 unexpected"):
                await system.expect_dead_letter(Boom, reason="expired", timeout=0.01)
            await system.expect_dead_letter()
            with pytest.raises(AssertionError, match=r"a dead letter Boom within 0\.01 s; there were none"):
                await system.expect_dead_letter(Boom, timeout=0.01)
            await echo.tell(Boom())


async def test_allowed_dead_letters_may_come_in_any_number_at_any_time() -> None:
    async with StrictSystem() as system:
        echo = await system.spawn(Echo)
        await echo.tell(Boom())
        await echo.tell(Boom())
        system.allow_dead_letters(Boom)
        system.allow_dead_letters(reason="stopped")
        await Probe(system).ref.tell(Word("unread"))
    with pytest.raises(AssertionError, match="1 unexpected dead letter"):
        async with StrictSystem() as system:
            system.allow_dead_letters(Word, reason="expired")
            await Probe(system).ref.tell(Word("unread"))


async def test_an_error_in_the_body_goes_on_with_the_dead_letters_as_a_note() -> None:
    with pytest.raises(HandlerFailed) as failure:
        async with StrictSystem() as system:
            await (await system.spawn(Echo, name="echo")).ask(Boom())
    assert failure.value.__notes__ == ["1 unexpected dead letter:\n  Boom() to /echo: failed, ValueError: boom"]
    with pytest.raises(ActorNotFound) as quiet:
        async with StrictSystem() as system:
            await system.ref("/nobody").tell(Boom())
    assert not hasattr(quiet.value, "__notes__")


async def test_a_root_supervisor_that_gives_up_fails_the_test_with_the_dead_letters_as_a_note() -> None:
    with pytest.raises(RestartIntensityExceeded) as failure:
        async with StrictSystem(intensity=0) as system:
            await (await system.spawn(Echo, name="echo")).tell(Boom())
            await anyio.sleep_forever()
    assert failure.value.__notes__ == ["1 unexpected dead letter:\n  Boom() to /echo: failed, ValueError: boom"]


async def test_without_a_dead_letter_nothing_fails_not_even_a_refusal_or_an_error_in_delivery() -> None:
    async with StrictSystem() as system:
        echo = await system.spawn(Echo, restart=Restart.TEMPORARY)
        await echo.stop()
        with pytest.raises(DeliveryError):
            await echo.tell(Boom())


# Virtual time ---------------------------------------------------------------------------------------------


def test_an_hour_of_virtual_time_passes_at_once_and_each_run_begins_at_zero() -> None:
    async def main(seconds: float) -> tuple[float, float]:
        async with StrictSystem() as system:
            before = system.now()
            await Probe(system).expect_none(seconds)
            return before, system.now()

    assert [run_virtual(main, 3600.0), run_virtual(main, 60.0)] == [(0.0, 3600.0), (0.0, 60.0)]


@pytest.mark.parametrize("anyio_backend", [pytest.param(virtual_time(), id="virtual")])
async def test_virtual_time_is_what_the_fixture_of_anyio_wants(anyio_backend: Any) -> None:
    before = anyio.current_time()
    with anyio.fail_after(7 * 24 * 3600.0 + 1.0):
        await anyio.sleep(7 * 24 * 3600.0)
    assert anyio.current_time() - before == 7 * 24 * 3600.0


def test_virtual_time_without_trio_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trio.testing", None)
    with pytest.raises(ImportError, match=r"pip install 'waooaw-actors\[trio\]'"):
        virtual_time()


# The example in the docstring -----------------------------------------------------------------------------

WRITER = """
import pytest
from actors import Actor, Message, handles
from actors.testing import Probe, StrictSystem, virtual_time

class Write(Message[None]):
    about: str

class Review(Message[str]):
    text: str

class Writer(Actor):
    def __init__(self, critic):
        self.critic = critic

    @handles(Write)
    async def write(self, message: Write) -> None:
        await self.critic.ask(Review({draft}))

"""


@pytest.mark.parametrize(
    ("draft", "outcome"),
    [
        ('f"{message.about}, {message.about}"', "1 passed"),
        ("message.about", "1 failed"),
        ("message.subject", "'Write' object has no attribute 'subject'"),
    ],
)
def test_the_example_in_the_docstring_passes_and_fails_as_it_should(tmp_path: Path, draft: str, outcome: str) -> None:
    doc = inspect.getdoc(actors.testing)
    assert doc is not None
    _, _, example = doc.partition("::\n")
    (tmp_path / "test_writer.py").write_text(WRITER.replace("{draft}", draft) + dedent(example))
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_writer.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert outcome in run.stdout
    assert run.returncode == (0 if outcome == "1 passed" else 1)
