"""Middleware: composed once, in order, and nothing is paid for what is not overridden."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.address import Address
from transport.envelope import Envelope, Outcome
from transport.errors import RateLimited
from transport.message import Message
from transport.middleware import (
    Accept,
    Deliver,
    Gate,
    Middleware,
    compose_accept,
    compose_deliver,
    compose_settled,
)


class Note(Message[str]):
    pass


HANDLED = Outcome("handled")


class Named(Middleware):
    """Writes down its name on the way in and on the way out."""

    def __init__(self, name: int, calls: list[str]) -> None:
        self.name, self.calls = name, calls


class Accepts(Named):
    async def accept(self, envelope: Envelope, next: Accept) -> None:  # noqa: A002
        self.calls.append(f"accept {self.name}")
        await next(envelope)
        self.calls.append(f"accepted {self.name}")


class Delivers(Named):
    async def deliver(self, envelope: Envelope, next: Deliver) -> Any:  # noqa: A002
        self.calls.append(f"deliver {self.name}")
        return f"{self.name}({await next(envelope)})"


class Settles(Named):
    def settled(self, envelope: Envelope, outcome: Outcome) -> None:
        self.calls.append(f"settled {self.name} {outcome.fate}")


class All(Accepts, Delivers, Settles):
    pass


class Below(All):
    """Overrides nothing itself."""


class Off(Named):
    """Overrides nothing at all."""


def envelope() -> Envelope:
    return Envelope(Note(), Address("/a"))


def run_now(coroutine: Any) -> Any:
    """Run what never waits."""
    with pytest.raises(StopIteration) as stopped:
        coroutine.send(None)
    return stopped.value.value


KINDS: list[type[Named]] = [Accepts, Delivers, Settles, All, Below, Off]


@given(st.lists(st.sampled_from(KINDS), max_size=6))
def test_the_first_is_the_outermost(kinds: list[type[Named]]) -> None:
    calls: list[str] = []
    middleware = [kind(name, calls) for name, kind in enumerate(kinds)]

    async def put(_: Envelope) -> None:
        calls.append("put")

    async def handle(_: Envelope) -> str:
        calls.append("handle")
        return "reply"

    accepting = [n for n, kind in enumerate(kinds) if issubclass(kind, Accepts)]
    run_now(compose_accept(middleware, put)(envelope()))
    assert calls == [
        *(f"accept {n}" for n in accepting), "put", *(f"accepted {n}" for n in reversed(accepting))
    ]  # fmt: skip

    calls.clear()
    delivering = [n for n, kind in enumerate(kinds) if issubclass(kind, Delivers)]
    reply = run_now(compose_deliver(middleware, handle)(envelope()))
    assert calls == [*(f"deliver {n}" for n in delivering), "handle"]
    assert reply == "".join(f"{n}(" for n in delivering) + "reply" + ")" * len(delivering)

    calls.clear()
    for tell in compose_settled(middleware):
        tell(envelope(), HANDLED)
    assert calls == [f"settled {n} handled" for n in reversed(range(len(kinds))) if issubclass(kinds[n], Settles)]


@given(st.lists(st.sampled_from([Off, Middleware]), max_size=4))
def test_what_is_off_costs_nothing(kinds: list[type[Middleware]]) -> None:
    middleware = [kind(0, []) if issubclass(kind, Named) else kind() for kind in kinds]

    async def innermost(_: Envelope) -> None: ...

    assert compose_accept(middleware, innermost) is innermost
    assert compose_deliver(middleware, innermost) is innermost
    assert compose_settled(middleware) == ()


def test_one_that_is_on_does_not_turn_the_others_on() -> None:
    calls: list[str] = []

    async def innermost(_: Envelope) -> None: ...

    on = compose_accept([Off(0, calls), Accepts(1, calls), Off(2, calls)], innermost)
    assert on.keywords == {"next": innermost}  # type: ignore[attr-defined]  # wrapped once
    assert compose_deliver([Accepts(1, calls)], innermost) is innermost


def test_what_is_not_overridden_passes_on() -> None:
    calls: list[Envelope] = []
    note = envelope()

    async def put(given: Envelope) -> None:
        calls.append(given)

    async def handle(given: Envelope) -> str:
        calls.append(given)
        return "reply"

    run_now(Middleware().accept(note, put))
    assert run_now(Middleware().deliver(note, handle)) == "reply"
    Middleware().settled(note, HANDLED)
    assert calls == [note, note]


def test_a_refusal_keeps_the_message_out() -> None:
    class Refuses(Middleware):
        async def accept(self, envelope: Envelope, next: Accept) -> None:  # noqa: A002
            raise RateLimited("not so fast", envelope, retry_after=1.5)

    calls: list[str] = []
    note = envelope()

    async def put(_: Envelope) -> None:
        calls.append("put")

    with pytest.raises(RateLimited) as caught:
        compose_accept([Accepts(1, calls), Refuses(), Accepts(2, calls)], put)(note).send(None)  # type: ignore[attr-defined]
    assert (caught.value.retry_after, caught.value.envelope) == (1.5, note)
    assert calls == ["accept 1"]


def test_a_gate_never_accepts_at_once() -> None:
    calls: list[str] = []

    async def put(_: Envelope) -> None:
        calls.append("put")

    gate = Gate(compose_accept([Accepts(1, calls)], put))
    assert not gate.offer(envelope())
    assert calls == []
    run_now(gate.put(envelope()))
    assert calls == ["accept 1", "put", "accepted 1"]
