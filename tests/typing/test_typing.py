"""What mypy --strict infers and what it refuses: typing is part of the product."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

# Each snippet becomes the body of a function with these two arguments, all in one module.
MODULE = '''\
from typing import assert_type
from actors import *
from actors.pool import consistent_hash
from actors.testing import Probe, StrictSystem, run_virtual, virtual_time
from dataclasses import dataclass
from typing import Any
from tests.protobuf.orders_pb2 import Cancel, Order

class Greet(Message[str]):
    who: str

class Find(Message[list[str] | None]):
    """May find nothing."""

class Forget(Message[None]):
    pass

class Greeter(Actor):
    @handles(Greet)
    async def greet(self, message: Greet) -> str:
        return message.who

class Loud(Greeter):
    """A greeter all the same."""

@dataclass
class Data:
    number: int
'''
FUNCTION = "\nasync def snippet_{number}(system: ActorSystem, greeter: ActorRef[Greeter]) -> None:\n"

RIGHT = {
    "ask infers the reply": 'assert_type(await greeter.ask(Greet(who="world"), timeout=1.0), str)',
    "and none": "assert_type(await greeter.ask(Forget()), None)",
    "and a union": "assert_type(await greeter.ask(Find()), list[str] | None)",
    "a reply may be printed": "print(await greeter.ask(Greet(who='world')))",
    "a reply may be used where a base is wanted": "reply: object = await greeter.ask(Greet(who='world'))",
    "a field may be given by position": "assert_type(Greet('world').who, str)",
    "tell returns nothing": "assert_type(await greeter.tell(Forget()), None)",
    "tell returns a receipt": "assert_type(await (await greeter.tell(Forget(), receipt=True)).wait(1.0), Outcome)",
    "spawn returns a reference to the class": "assert_type(await system.spawn(Greeter, name='a'), ActorRef[Greeter])",
    "a pool is a reference to its workers' class": """
        by_name = consistent_hash(lambda message: message.who)
        assert_type(await system.pool(Greeter, size=4, routing=by_name), ActorRef[Greeter])
    """,
    "an actor spawns like a system": """
        class Parent(Actor):
            async def on_start(self) -> None:
                assert_type(await self.spawn(Greeter), ActorRef[Greeter])
                assert_type(await self.pool(Greeter, size=2), ActorRef[Greeter])
                assert_type(self.ref, ActorRef[Parent])
                assert_type(self.envelope.sender, Address | None)
    """,
    "supervise returns a reference to the supervisor": """
        ref = await system.supervise(ChildSpec(Greeter, name="a", restart=Restart.TRANSIENT), intensity=1)
        assert_type(ref, ActorRef[Supervisor])
    """,
    "a reference by address has the class given": "assert_type(system.ref('/a', Greeter), ActorRef[Greeter])",
    "or any": "known: ActorRef[Greeter] = system.ref('/a')",
    "a reference to a subclass will do": """
        loud = await system.spawn(Loud)
        known: ActorRef[Greeter] = loud
        anything: ActorRef[Actor] = loud
    """,
    "ask_all gives the reply or the error of each": """
        assert_type(await system.ask_all([greeter], Greet(who="all")), dict[Address, str | Exception])
    """,
    "a plain def handler is one": """
        class Plain(Actor):
            @handles(Greet)
            def greet(self, message: Greet) -> str:
                return message.who
    """,
    "a handler may take a base, and have options": """
        class Broad(Actor):
            @handles(Greet, concurrency=8, attempts=3)
            async def greet(self, message: Message[str]) -> str:
                return str(message)
    """,
    "a handler may return less than the union": """
        class Certain(Actor):
            @handles(Find)
            async def find(self, message: Find) -> list[str]:
                return []
    """,
    "a handler may be called and overridden": """
        class Polite(Greeter):
            async def greet(self, message: Greet) -> str:
                return "dear " + await super().greet(message)
    """,
    "an event reaches a callback that knows it": "system.subscribe(DeadLetter, lambda letter: print(letter.cause))",
    "run returns what main returns": """
        async def main(number: int) -> int:
            return number
        assert_type(run(main, 7), int)
        assert_type(run_virtual(main, 7), int)
    """,
    "a probe expects a type": """
        probe = Probe(system, "critic")
        assert_type(await probe.expect(Greet), Greet)
        critic: ActorRef[Greeter] = probe.ref
    """,
    "a strict system is one inside its block": """
        async with StrictSystem("test", capacity=10) as strict:
            assert_type(await strict.expect_dead_letter(Greet, reason="failed"), DeadLetter)
    """,
    "a local message is one": """
        class Inner(Message[int], local=True):
            pass
        assert_type(await greeter.ask(Inner()), int)
    """,
    "a generated protobuf message is told": """
        assert_type(await greeter.tell(Order(number=1)), None)
        assert_type(await greeter.tell(Order(number=1), receipt=True), Receipt)
    """,
    "asked, and the reply may be anything": """
        assert_type(await greeter.ask(Order(number=1), timeout=1.0), Any)
        assert_type(await system.ask_all([greeter], Order()), dict[Address, Any])
    """,
    "and handled, by any kind of method": """
        class Shop(Actor):
            @handles(Order, attempts=2)
            async def order(self, message: Order) -> str:
                self.after(1.0, Cancel(number=message.number))
                self.every(1.0, Cancel(number=message.number), key="again")
                return message.customer
            @handles(Cancel)
            def withdraw(self, message: Cancel) -> int:
                return message.number
        class Bigger(Shop):
            async def order(self, message: Order) -> str:
                return "dear " + await super().order(message)
    """,
    "and expected": """
        assert_type(await Probe(system).expect(Order), Order)
        StrictSystem().allow_dead_letters(Order)
    """,
}

WRONG = {
    "a handler with another reply": (
        """
        class Wrong(Actor):
            @handles(Greet)
            async def greet(self, message: Greet) -> int:
                return 1
        """,
        'expected "Callable[[Any, Greet], Awaitable[str]]"',
    ),
    "a plain def handler with another reply": (
        """
        class Wrong(Actor):
            @handles(Greet)
            def greet(self, message: Greet) -> int:
                return 1
        """,
        'incompatible type "Callable[[Wrong, Greet], int]"',
    ),
    "a handler that may return nothing": (
        """
        class Wrong(Actor):
            @handles(Greet)
            async def greet(self, message: Greet) -> str | None:
                return None
        """,
        'expected "Callable[[Any, Greet], Awaitable[str]]"',
    ),
    "a handler of another message": (
        """
        class Wrong(Actor):
            @handles(Greet)
            async def greet(self, message: Forget) -> str:
                return ""
        """,
        'expected "Callable[[Any, Greet], Awaitable[str]]"',
    ),
    "a handler without a message": (
        """
        class Wrong(Actor):
            @handles(Greet)
            async def greet(self) -> str:
                return ""
        """,
        'expected "Callable[[Any, Greet], Awaitable[str]]"',
    ),
    "a handler of what is no message": (
        """
        class Wrong(Actor):
            @handles(int)
            async def greet(self, message: int) -> str:
                return ""
        """,
        'of "handles" cannot be "int"',
    ),
    "a field that is not there": (
        'await greeter.ask(Greet(whom="world"))',
        'Unexpected keyword argument "whom" for "Greet"',
    ),
    "a field that is missing": ("await greeter.tell(Greet())", 'Missing positional argument "who" in call to "Greet"'),
    "a field of another type": (
        "await greeter.tell(Greet(who=1))",
        'Argument "who" to "Greet" has incompatible type "int"; expected "str"',
    ),
    "a message is frozen": ('Greet(who="world").who = "moon"', 'Property "who" defined in "Greet" is read-only'),
    "an ask of what is no message": (
        'await greeter.ask("world")',
        'No overload variant of "ask" of "ActorRef" matches argument type "str"',
    ),
    "a tell of what is no message": ('await greeter.tell("world")', 'No overload variant of "tell" of "ActorRef"'),
    "an ask whose reply is used as something else": (
        'number: int = await greeter.ask(Greet(who="world"))',
        '"Greet"; expected "Message[int]"',
    ),
    "a tell that is not awaited": ("greeter.tell(Forget())", 'Value of type "Coroutine[Any, Any, None]" must be used'),
    "an option that is misspelt": (
        "await greeter.ask(Forget(), timout=1.0)",
        'Unexpected keyword argument "timout" for overloaded function "ask" of "ActorRef"; did you mean "timeout"?',
    ),
    "a spawn of an instance": ("await system.spawn(Greeter())", 'Argument 1 to "spawn" of "ActorSystem" has'),
    "a spawn of what is no actor": ("await system.spawn(str)", 'of "spawn" of "ActorSystem" cannot be "str"'),
    "a restart that is a string": (
        'await system.spawn(Greeter, restart="permanent")',
        'Argument "restart" to "spawn" of "ActorSystem" has incompatible type "str"; expected "Restart"',
    ),
    "a reference to another class": (
        "loud: ActorRef[Loud] = greeter",
        'expression has type "ActorRef[Greeter]", variable has type "ActorRef[Loud]"',
    ),
    "a dead letter has no such field": (
        "system.subscribe(DeadLetter, lambda letter: print(letter.reson))",
        '"DeadLetter" has no attribute "reson"',
    ),
    "a reply of ask_all may be an error": (
        'print([reply.upper() for reply in (await system.ask_all([greeter], Greet(who="all"))).values()])',
        'Item "Exception" of "str | Exception" has no attribute "upper"',
    ),
    "a handler of another protobuf message": (
        """
        class Wrong(Actor):
            @handles(Order)
            async def order(self, message: Cancel) -> None: ...
        """,
        'incompatible type "Callable[[Wrong, Cancel], Coroutine[Any, Any, None]]"; expected "Callable[[Any, Order],',
    ),
    "a handler of a dataclass": (
        """
        class Wrong(Actor):
            @handles(Data)
            async def data(self, message: Data) -> None: ...
        """,
        'of "handles" cannot be "Data"',
    ),
    "a tell of a dataclass": ("await greeter.tell(Data(1))", 'No overload variant of "tell" of "ActorRef"'),
    "an ask of a dataclass": ("await greeter.ask(Data(1))", 'No overload variant of "ask" of "ActorRef"'),
    "an ask of all with a dataclass": (
        "await system.ask_all([greeter], Data(1))",
        'No overload variant of "ask_all" of "ActorSystem"',
    ),
    "a tell of a protobuf class": ("await greeter.tell(Order)", 'No overload variant of "tell" of "ActorRef"'),
    "a timer of a dataclass": (
        """
        class Wrong(Actor):
            async def on_start(self) -> None:
                self.after(1.0, Data(1))
        """,
        'Argument 2 to "after" of "Actor" has incompatible type "Data"',
    ),
    "a probe expects a class, not a message": ("await Probe(system).expect(Forget())", '"Forget"; expected "type['),
}


def body(snippet: str) -> list[str]:
    """The lines of a snippet as the body of a function."""
    lines = [line for line in snippet.splitlines() if line.strip()]
    margin = min(len(line) - len(line.lstrip()) for line in lines)
    return ["    " + line[margin:] for line in lines]


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What mypy has to say about each snippet; it runs once, over all of them."""
    lines, owners = MODULE.splitlines(), dict.fromkeys(range(len(MODULE.splitlines()) + 1), "the module")
    for number, (name, snippet) in enumerate([*RIGHT.items(), *((name, each[0]) for name, each in WRONG.items())]):
        lines += FUNCTION.format(number=number).splitlines() + body(snippet)
        owners |= dict.fromkeys(range(len(owners), len(lines) + 1), name)
    module = tmp_path_factory.mktemp("typing") / "snippets.py"
    module.write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "--strict", str(module)]
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=110)
    assert run.stderr == ""
    found: dict[str, list[str]] = {}
    for line in run.stdout.splitlines():
        if error := re.match(r".*snippets\.py:(\d+): error: (.*)", line):
            found.setdefault(owners[int(error[1])], []).append(error[2])
    assert run.stdout.count(": error: ") == sum(map(len, found.values())), run.stdout
    return found


def test_the_module_around_the_snippets_is_right(errors: dict[str, list[str]]) -> None:
    assert "the module" not in errors


@pytest.mark.parametrize("name", RIGHT)
def test_mypy_has_nothing_against(name: str, errors: dict[str, list[str]]) -> None:
    assert errors.get(name, []) == []


@pytest.mark.parametrize("name", WRONG)
def test_mypy_refuses(name: str, errors: dict[str, list[str]]) -> None:
    expected = WRONG[name][1]
    assert any(expected in error for error in errors.get(name, [])), errors.get(name)
