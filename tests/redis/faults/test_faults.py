"""What must hold when processes, the server and the network fail; `tests.redis.soak` is hours of it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM

import anyio
import pytest
import redis.asyncio

from actors import Priority
from tests.redis.faults.history import Event, Name, Verdict, judge, percentile, recoveries
from tests.redis.faults.node import GRACE, KEY, Stream, Work, wire
from tests.redis.faults.proxy import Cut, Proxy
from tests.redis.faults.world import Grave, World, until
from transport.address import Address
from transport.envelope import Envelope
from transport.keys import Keys
from transport.redis.hosted import MOST_STARTS
from transport.redis.lease import STUCK
from transport.redis.store import Post
from transport.wire import Wire

pytestmark = pytest.mark.anyio

LEASE = 2.5
STALL = 4.0  # seconds for which a shared machine may do nothing
WITHIN = LEASE + GRACE + 2 + STALL


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World() as world:
        yield world


@pytest.fixture(autouse=True)
def _logs(world: World) -> Iterator[None]:
    """Where a test fails, pytest shows what the processes have said."""
    yield
    print(world.logs())


def check(verdict: Verdict, *, duplicated: bool = False, buried: bool = False) -> None:
    """Every promise has been kept; messages were `duplicated` or `buried` only where they may be."""
    assert verdict.sound(), verdict
    assert verdict.accepted > 0
    assert verdict.unknown == verdict.cut_off == 0
    assert duplicated or verdict.duplicated == []
    assert buried or verdict.buried == []


# Processes: scenarios that last for some leases each, so all at once ---------------------------------------------


async def killed_in_a_loop(world: World) -> None:
    """Each time a handler is in the middle of it; it begins once more elsewhere, and so does nothing else."""
    await world.hosting("killed-0", ["/killed"], lease=LEASE)
    async with world.sender("killer") as (system, history):
        stream = Stream(system, history, "/killed")
        for number in range(2):
            victim, heir = f"killed-{number}", f"killed-{number + 1}"
            await world.joined(heir, ["/killed"], lease=LEASE)
            gate = world.gate()
            await stream.tell(gate=str(gate))
            await stream.tell()
            await until(lambda: world.running("/killed"), "a handler is in the middle of it")
            world.fault(victim, SIGKILL)
            assert await stream.tell() == "ok", "nobody lives there, and yet mail is accepted"
            await world.started("/killed", 1, heir)
            gate.touch()
            verdict = await world.drained("/killed")
            check(verdict, duplicated=True)
            assert len(verdict.duplicated) == number + 1
    assert max(recoveries(world.events("/killed"), world.faults)["SIGKILL"]) < WITHIN


async def stopped_past_its_lease(world: World) -> None:
    """It starts nothing more of what it had in hand, and joins again: when its heir leaves, it is heir to that."""
    await world.hosting("stopped", ["/stopped"], lease=LEASE)
    await world.joined("stopped-heir", ["/stopped"], lease=LEASE)
    async with world.sender("stopper") as (system, history):
        stream, gate = Stream(system, history, "/stopped"), world.gate()
        await stream.tell(gate=str(gate))
        for _ in range(20):
            await stream.tell()
        await world.started("/stopped", 1, "stopped")
        world.fault("stopped", SIGSTOP)
        await world.started("/stopped", 1, "stopped-heir")
        gate.touch()
        await world.started("/stopped", 21, "stopped-heir")
        world.fault("stopped", SIGCONT)
        await until(lambda: world.has_lease("stopped"), "it has joined again")
        await stream.tell()
        await world.started("/stopped", 22, "stopped-heir")
        assert [event.process for event in world.starts("/stopped")].count("stopped") == 1
        world.fault("stopped-heir", SIGTERM)
        await stream.tell()
        await world.started("/stopped", 2, "stopped")
        verdict = await world.drained("/stopped")
    check(verdict, duplicated=True)
    assert verdict.duplicated == [(stream.name, 0)]
    assert max(recoveries(world.events("/stopped"), world.faults)["SIGSTOP"]) < WITHIN


async def stuck(world: World) -> None:
    """A handler that does not let the event loop run loses everything to another process, and then gets it back."""
    await world.hosting("stuck", ["/stuck", "/beside-stuck"], lease=LEASE)
    await world.joined("stuck-heir", ["/stuck", "/beside-stuck"], lease=LEASE)
    async with world.sender("sticker") as (system, history):
        stream, beside, gate = Stream(system, history, "/stuck"), Stream(system, history, "/beside-stuck"), world.gate()
        await stream.tell(gate=str(gate), blocks=True)
        await world.started("/stuck", 1, "stuck")
        began = time.monotonic()
        await stream.tell()
        await beside.tell()
        await until(lambda: "stuck-heir" in map(world.owner, ("/stuck", "/beside-stuck")), "somebody takes over")
        assert STUCK < time.monotonic() - began < STUCK + WITHIN
        gate.touch()  # the heir is stuck, too, once it comes to that message
        await world.started("/beside-stuck", 1, "stuck-heir")
        await world.started("/stuck", 2, "stuck-heir")
        verdict = await world.drained("/stuck", "/beside-stuck")
        check(verdict, duplicated=True)
        assert verdict.duplicated == [(stream.name, 0)]
        await until(lambda: world.has_lease("stuck"), "it has joined again")


async def slow(world: World) -> None:
    """Handlers that take longer than a lease keep it, whether or not they let the event loop run."""
    await world.hosting("slow", ["/slow", "/beside-slow"], lease=LEASE)
    await world.joined("slow-heir", ["/slow", "/beside-slow"], lease=LEASE)
    async with world.sender("slacker") as (system, history):
        stream, beside = Stream(system, history, "/slow"), Stream(system, history, "/beside-slow")
        for number, blocks in enumerate((False, True)):
            gate, lease = world.gate(), world.lease("slow")
            await stream.tell(gate=str(gate), blocks=blocks)
            await world.started("/slow", number + 1)
            if not blocks:
                while world.lease("slow") < lease + 1.2 * LEASE:
                    await beside.tell()
                    await world.started("/beside-slow", len(_named(world, beside.name, "invoke")))
            await until(partial(world.has_lease, "slow", lease + 1.2 * LEASE), "the lease is renewed")
            gate.touch()
        check(await world.drained("/slow", "/beside-slow"))
    sent = {event.number: event.at for event in _named(world, beside.name, "invoke")}
    waits = [event.at - sent[event.number] for event in _named(world, beside.name, "start")]
    assert percentile(waits, 0.99) < LEASE / 2, "the neighbour has noticed"


async def killed_by_a_message(world: World) -> None:
    """After some processes have died of it, it is a dead letter, and nothing else is."""
    names = [f"mortal-{number}" for number in range(MOST_STARTS + 2)]
    await world.hosting(names[0], ["/deadly"], lease=2.0)
    for name in names[1:]:
        await world.joined(name, ["/deadly"], lease=2.0)
    async with world.sender("murderer") as (system, history):
        stream = Stream(system, history, "/deadly")
        for number in range(7):
            await stream.tell(kills=number == 3)
        verdict = await world.drained("/deadly")
    check(verdict, duplicated=True, buried=True)
    assert verdict.buried == [(stream.name, 3)]
    assert verdict.duplicated[-1] == (stream.name, 3), "what had not been acked when it came may be there, too"
    died = [name for name in names if world.processes[name].poll() is not None]
    assert MOST_STARTS <= len(died) <= MOST_STARTS + 1


async def ended_in_the_middle(world: World) -> None:
    """SIGTERM, and a handler does not end in time: it begins once more elsewhere, and nothing is lost."""
    await world.hosting("ended", ["/ended"])
    await world.joined("ended-heir", ["/ended"])
    async with world.sender("ender") as (system, history):
        stream, gate = Stream(system, history, "/ended"), world.gate()
        await stream.tell(gate=str(gate))
        for _ in range(20):
            await stream.tell()
        await world.started("/ended", 1, "ended")
        world.fault("ended", SIGTERM)
        await stream.tell()
        assert await world.ended("ended") == 0
        await world.started("/ended", 1, "ended-heir")
        gate.touch()
        await world.started("/ended", 22, "ended-heir")
        verdict = await world.drained("/ended")
    check(verdict, duplicated=True)
    assert verdict.duplicated == [(stream.name, 0)]


async def restarted_one_after_the_other(world: World) -> None:
    """SIGTERM: what is in hand is finished and the rest handed over; nothing is handled twice."""
    await world.hosting("rolling-0", ["/rolling"])
    world.start("roller", targets=["/rolling"], rate=200.0, busy=0.004)
    for number in range(2):
        await world.joined(f"rolling-{number + 1}", ["/rolling"])
        await world.started("/rolling", 20, f"rolling-{number}")
        world.fault(f"rolling-{number}", SIGTERM)
        assert await world.ended(f"rolling-{number}") == 0
        await world.started("/rolling", 20, f"rolling-{number + 1}")
    world.fault("roller", SIGTERM)
    assert await world.ended("roller") == 0
    check(await world.drained("/rolling"))
    assert max(recoveries(world.events("/rolling"), world.faults)["SIGTERM"]) < 2 + STALL, "the hand-over gap"


SCENARIOS: list[Callable[[World], Awaitable[None]]] = [
    killed_in_a_loop, stopped_past_its_lease, stuck, slow, killed_by_a_message, ended_in_the_middle,
    restarted_one_after_the_other,
]  # fmt: skip


@pytest.fixture(scope="module")
def outcomes(world: World) -> dict[str, Exception | None]:
    """How the scenarios have ended, all of which ran at once."""
    ended: dict[str, Exception | None] = {}

    async def run(scenario: Callable[[World], Awaitable[None]]) -> None:
        try:
            await scenario(world)
            ended[scenario.__name__] = None
        except Exception as error:  # noqa: BLE001  # it is the outcome of that one
            ended[scenario.__name__] = error

    async def run_all() -> None:
        async with anyio.create_task_group() as tasks:
            for scenario in SCENARIOS:
                tasks.start_soon(run, scenario)

    anyio.run(run_all)
    return ended


@pytest.mark.parametrize("scenario", [each.__name__ for each in SCENARIOS])
def test_processes_that_are(scenario: str, outcomes: dict[str, Exception | None]) -> None:
    if (error := outcomes[scenario]) is not None:
        raise error


# The server ----------------------------------------------------------------------------------------------------


async def test_a_server_that_is_killed_and_started_again(world: World) -> None:
    await world.hosting("patient", ["/kept-0", "/kept-1"])
    world.start("insistent", targets=["/kept-0", "/kept-1"], rate=300.0)
    for _ in range(2):
        await world.started("/kept-0", len(world.starts("/kept-0")) + 30)
        world.kill_server()
        world.start_server()
    await world.started("/kept-0", len(world.starts("/kept-0")) + 30)
    world.fault("insistent", SIGTERM)
    assert await world.ended("insistent") == 0
    check(await world.drained("/kept-0", "/kept-1"))


async def test_a_server_that_forgets_its_scripts_and_cuts_its_connections(world: World) -> None:
    await world.hosting("steady", ["/steady"])
    world.start("steadfast", targets=["/steady"], rate=300.0)
    for _ in range(5):
        await world.started("/steady", len(world.starts("/steady")) + 10)
        world.client.script_flush()
        await world.started("/steady", len(world.starts("/steady")) + 10)
        assert world.client.execute_command("CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "YES") > 0
    await world.started("/steady", len(world.starts("/steady")) + 10)
    world.fault("steadfast", SIGTERM)
    assert await world.ended("steadfast") == 0
    check(await world.drained("/steady"))


async def test_a_server_whose_memory_is_full(world: World) -> None:
    await world.hosting("hungry", ["/hungry"])
    async with world.sender("feeder", patience=1.0) as (system, history):
        stream, gate = Stream(system, history, "/hungry"), world.gate()
        await stream.tell(gate=str(gate))
        await world.started("/hungry", 1)
        used = world.client.info("memory")["used_memory"]
        try:
            world.client.config_set("maxmemory", used + (10 << 20))
            while (outcome := await stream.tell(pad="x" * 200_000)) == "ok":
                pass
            waiting, lease = world.waiting("/hungry"), world.lease("hungry")
            assert waiting > 10
            await until(lambda: world.has_lease("hungry", lease), "leases are renewed all the same")
            gate.touch()
            await until(lambda: world.waiting("/hungry") == 0, "it is drained")
            assert await stream.tell() == "ok"
        finally:
            world.client.config_set("maxmemory", 0)
        verdict = await world.drained("/hungry")
    assert verdict.sound(), verdict
    assert verdict.accepted == waiting + 1
    assert outcome == "fail", "the sender has to know that it is safe to send again"


# The network ---------------------------------------------------------------------------------------------------


async def test_connections_that_are_cut_anywhere(world: World) -> None:
    """Requests and answers of a sender, then answers to the process that handles."""
    async with Proxy(world.port) as proxy, Proxy(world.port) as hosts:
        url = f"redis://127.0.0.1:{hosts.port}"
        world.start("cut", ["/cut"], url=url)
        await until(lambda: world.owner("/cut") == "cut", "it lives")
        async with world.sender("cutter", url=f"redis://127.0.0.1:{proxy.port}") as (system, history):
            stream = Stream(system, history, "/cut")
            for way, most, step in (("up", 640, 32), ("down", 24, 3)):
                for after in range(0, most, step):
                    pad = f"<{way}{after}>"
                    proxy.cut = Cut(pad.encode(), "up" if way == "up" else "down", after)
                    assert await stream.tell(pad=pad) == "ok"
                    assert proxy.cut is None, "it was not cut"
            for after in range(0, 400, 40):
                pad = f"<turn{after}>"
                hosts.cut = Cut(pad.encode(), "down", after)
                assert await stream.tell(pad=pad) == "ok"
                await until(lambda: hosts.cut is None, "the answer to a turn is cut")
            await world.started("/cut", len(_named(world, stream.name, "ok")))
        check(await world.drained("/cut"))


async def test_a_network_that_is_slow(world: World) -> None:
    """Every chunk of bytes comes 50 ms late, one way and the other, with ten senders at once."""
    await world.hosting("near", ["/near"])
    async with Proxy(world.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}"
        async with world.sender("far", url=url) as (system, history):
            proxy.delay = 0.05

            async def send(stream: Stream) -> None:
                for _ in range(5):
                    await stream.tell()

            async with anyio.create_task_group() as tasks:
                for priority in Priority:
                    tasks.start_soon(send, Stream(system, history, "/near", priority))
            proxy.delay = 0.0
        check(await world.drained("/near"))
    stalls = _waits(world.events("/near"))
    assert 0.1 <= max(stalls) < 0.5 + STALL


# Messages ------------------------------------------------------------------------------------------------------


async def test_a_message_that_raises(world: World) -> None:
    """It is tried three times and then one dead letter; nothing becomes of the others but that they are handled."""
    await world.hosting("careful", ["/careful"])
    async with world.sender("poisoner") as (system, history):
        stream = Stream(system, history, "/careful")
        for number in range(11):
            await stream.tell(fails=number == 5)
        check(await world.drained("/careful"), buried=True)
        tries = [event.attempt for event in world.starts("/careful") if event.number == 5]
        assert tries == [1, 2, 3]
        assert await _graves(world, "/careful") == [Grave("/careful", "failed", (stream.name, 5))]


async def test_frames_that_are_none(world: World) -> None:
    """Each is a dead letter, and whoever found it goes on with the next message."""
    await world.hosting("strict", ["/strict"])
    envelope = Envelope(Work("forger", 0), Address("/strict"))
    good = wire().encode(envelope, now=0.0)
    frames = [
        b"", b"\xc1", b"[]", good[:-1], good[: len(good) // 2], good + b"\0", good[:-1] + bytes([good[-1] ^ 1]),
        b"\x00" * 300_000, Wire().encode(envelope, now=0.0),
        Wire(keys=Keys((KEY[0], bytes(range(1, 33))))).encode(envelope, now=0.0),
        Wire(keys=Keys(("another", KEY[1]))).encode(envelope, now=0.0),
    ]  # fmt: skip
    async with world.sender("honest") as (system, history), redis.asyncio.Redis.from_url(world.url) as client:
        stream, store = Stream(system, history, "/strict"), world.store(client, "/strict")
        for number, frame in enumerate(frames, 1):
            await stream.tell()
            await store.send("forger", [Post("/strict", 3, number, frame)])
        await stream.tell()
        check(await world.drained("/strict"))
    assert await _graves(world, "/strict") == [Grave("/strict", "undecodable", None)] * len(frames)
    assert world.processes["strict"].poll() is None
    assert len(world.starts("/strict")) == len(frames) + 1


# Who watches the watchmen --------------------------------------------------------------------------------------


def _event(kind: str, number: int, process: str = "p", *, life: int = 1, stream: str = "s") -> Event:
    return Event(0.0, kind, process, "/a", stream, number, 1, life)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "events", "found"),
    [
        ("lost", [_event("invoke", 0), _event("ok", 0), _event("start", 0)], ("s", 0)),
        ("phantom", [_event("invoke", 0), _event("fail", 0), _event("start", 0)], ("s", 0)),
        ("phantom", [_event("start", 7)], ("s", 7)),
        ("duplicated", [_event("invoke", 0), _event("start", 0), _event("start", 0, "q")], ("s", 0)),
        ("doubled", [_event("invoke", 0), _event("start", 0), _event("start", 0)], ("s", 0)),
        ("disorder", [_event("start", 1), _event("start", 0)], ("s", 0)),
        ("stale", [_event("start", 0), _event("start", 1, "q"), _event("start", 2)], ("s", 2)),
    ],
)
def test_a_judge_that_sees(field: str, events: list[Event], found: Name) -> None:
    assert found in getattr(judge(events), field)
    assert judge(events).sound() is (field == "duplicated")


async def _graves(world: World, address: str) -> list[Grave]:
    return [grave for grave in await world.graves() if grave.address == address]


def _named(world: World, stream: str, kind: str) -> list[Event]:
    return [event for event in world.events() if event.stream == stream and event.kind == kind]


def _waits(events: list[Event]) -> list[float]:
    """Seconds for which senders waited until a message was accepted."""
    began = {(event.stream, event.number): event.at for event in events if event.kind == "invoke"}
    return [event.at - began[event.stream, event.number] for event in events if event.kind == "ok"]
