"""Trees of supervisors in virtual time against a model in plain Python: who is started and stopped, in which order.

Invariants 8, 9 and 10 of the guarantees. The model knows OTP's rules and nothing of tasks and mailboxes.
"""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, Literal

import anyio
import anyio.lowlevel
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from actors import (
    Actor,
    ActorSystem,
    Address,
    Backoff,
    ChildSpec,
    DeliveryError,
    Message,
    Restart,
    RestartIntensityExceeded,
    SpawnError,
    Strategy,
    Supervisor,
    handles,
)
from actors.events import ActorRestarted, HookFailed, SupervisorGaveUp
from actors.supervision import AutoShutdown

Where = Literal["init", "on_start"]
Deed = Literal["fail", "finish", "stop", "kill", "together"]


def in_virtual_time(main: Callable[..., Any], *args: Any) -> Any:
    """One whole event loop per example; waiting costs nothing."""
    return anyio.run(main, *args, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})


# What is generated -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """One actor of the tree, and which of its starts fail."""

    name: str
    restart: Restart = Restart.PERMANENT
    significant: bool = False
    failing: dict[int, Where] = field(default_factory=dict)
    children: tuple[Plan, ...] | None = None
    """None: a leaf."""
    bare: bool = False
    """A leaf without hooks, for which the runtime takes short cuts; only its `__init__` is seen."""
    slow_start: float = 0.0
    slow_stop: float = 0.0
    shutdown: float | None = None
    strategy: Strategy = Strategy.ONE_FOR_ONE
    intensity: int = 3
    period: float = 5.0
    auto_shutdown: AutoShutdown = "never"

    def spec(self, world: World) -> ChildSpec[Any]:
        kind: type[Actor] = Branch if self.children is not None else Bare if self.bare else Leaf
        return ChildSpec(
            kind,
            world,
            self,
            name=self.name,
            restart=self.restart,
            significant=self.significant,
            shutdown=self.shutdown,
        )


@dataclass(frozen=True)
class Step:
    """After `gap` seconds, something happens to the actor of this number (modulo how many are alive)."""

    gap: float
    deed: Deed
    number: int
    more: int


HOW: st.SearchStrategy[Where] = st.sampled_from(["init", "on_start"])


@st.composite
def failing_starts(draw: st.DrawFn) -> dict[int, Where]:
    """By their number, from 1. Most actors start whenever they should."""
    match draw(st.sampled_from(["never"] * 14 + ["some"] * 4 + ["all but the first"] * 2 + ["the first"])):
        case "some":
            return draw(st.dictionaries(st.integers(2, 6), HOW, max_size=3))
        case "all but the first":
            return dict.fromkeys(range(2, 60), draw(HOW))
        case "the first":
            return {1: draw(HOW)}
    return {}


@st.composite
def plans(draw: st.DrawFn, numbers: Iterator[int], depth: int, *, timed: bool) -> Plan:
    restart = draw(st.sampled_from(Restart))
    own: dict[str, Any] = {
        "name": f"n{next(numbers)}",
        "restart": restart,
        "significant": restart is not Restart.PERMANENT and draw(st.booleans()),
        "failing": draw(failing_starts()),
    }
    if timed:
        own["slow_start"] = draw(st.sampled_from([0.0, 0.0, 0.5, 3.0]))
        own["slow_stop"] = draw(st.sampled_from([0.0, 0.0, 0.5, 3.0]))
        own["shutdown"] = draw(st.sampled_from([None, 0.0, 1.0]))
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        return Plan(**own, bare=draw(st.integers(0, 2)) == 0)
    return Plan(
        **own,
        children=tuple(draw(plans(numbers, depth - 1, timed=timed)) for _ in range(draw(st.integers(1, 4)))),
        strategy=draw(st.sampled_from(Strategy)),
        intensity=draw(st.integers(0, 4)),
        period=draw(st.sampled_from([0.5, 2.0, 5.0])),
        auto_shutdown=draw(st.sampled_from(["never", "never", "any_significant", "all_significant"])),
    )


@st.composite
def forests(draw: st.DrawFn, *, timed: bool = False) -> Plan:
    """What the root supervisor has below it."""
    numbers = itertools.count(1)
    return Plan(
        "",
        children=tuple(draw(plans(numbers, 2, timed=timed)) for _ in range(draw(st.integers(1, 3)))),
        intensity=draw(st.integers(0, 8)),
        period=draw(st.sampled_from([0.5, 2.0, 5.0])),
    )


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from([0.125, 0.5, 2.0, 6.0]),
        st.sampled_from(["fail", "fail", "fail", "finish", "stop", "kill", "together", "together"]),
        st.integers(0, 30),
        st.integers(0, 100),
    ),
    min_size=4,
    max_size=16,
)


def below(plan: Plan) -> list[Plan]:
    """All plans of the tree, each before its children, without the root."""
    return [each for child in plan.children or () for each in (child, *below(child))]


# What runs ---------------------------------------------------------------------------------------------------


class World:
    """What the hooks of all the actors record, and who is alive."""

    def __init__(self, plan: Plan, *, virtual: bool = True) -> None:
        self.virtual = virtual
        self.trace: list[str] = []
        self.starts: Counter[str] = Counter()
        self.alive: dict[str, Common] = {}
        self.bare = {each.name for each in below(plan) if each.bare}
        self.wrong: list[str] = []
        self.parents = {child.name: parent.name for parent in (plan, *below(plan)) for child in parent.children or ()}

    def begin(self, actor: Common, plan: Plan) -> Where | None:
        """Count a start; where it is to fail, if it is."""
        parent = self.parents[plan.name]
        self.check(plan.name not in self.alive, f"two incarnations of {plan.name} at once")
        self.check(
            not parent or parent in self.alive or parent in self.bare,
            f"{plan.name} starts below {parent}, which is not there",
        )
        self.starts[plan.name] += 1
        self.trace.append(f"init {plan.name}")
        failing = plan.failing.get(self.starts[plan.name])
        if failing != "init" and not plan.bare:
            self.alive[plan.name] = actor
        return failing

    @contextmanager
    def last_word(self, name: str) -> Iterator[None]:
        """Around the hook that ends an incarnation."""
        orphans = [child for child in self.alive if self.parents[child] == name]
        self.check(not orphans, f"{name} ends before {orphans}")
        try:
            yield
        finally:
            del self.alive[name]

    def check(self, right: bool, what: str) -> None:
        """Note what is wrong: raised in an actor it would be one more failure of that actor."""
        if not right:
            self.wrong.append(what)

    def take(self) -> list[str]:
        trace, self.trace = self.trace, []
        return trace


class Planned(Exception):
    """A failure that the plan asks for."""


class Fail(Message[None]):
    """`after` so many seconds, of which `deaf` say how many cancellations do not count."""

    after: float = 0.0
    deaf: int = 0


class Finish(Message[None]):
    after: float = 0.0


class Grow(Message[None]):
    """Spawn one child more."""


class Common(Actor):
    """Does as it is told, and nothing else."""

    world: World
    plan: Plan

    def begin(self, world: World, plan: Plan) -> None:
        self.world, self.plan = world, plan
        self.failing = world.begin(self, plan)
        if self.failing == "init":
            raise Planned

    @handles(Fail)
    async def fail(self, message: Fail) -> None:
        self.check()
        for _ in range(message.deaf):
            with suppress(anyio.get_cancelled_exc_class()):
                await anyio.sleep(message.after)
        if message.after:
            await anyio.sleep(message.after)
        raise Planned

    @handles(Finish)
    async def finish(self, message: Finish) -> None:
        self.check()
        self.stop()
        if message.after:
            await anyio.sleep(message.after)

    @handles(Grow)
    async def grow(self, _: Grow) -> None:
        name = f"{self.plan.name}.{len(self.world.parents)}"
        self.world.parents[name] = self.plan.name
        await self.spawn(Leaf, self.world, Plan(name, slow_start=0.5), name=name)

    def check(self) -> None:
        alive = self.plan.bare or self.world.alive.get(self.plan.name) is self
        self.world.check(alive, f"a dead {self.plan.name} handles mail")


class Bare(Common):
    def __init__(self, world: World, plan: Plan) -> None:
        self.begin(world, plan)


class Recorder(Common):
    async def on_start(self) -> None:
        if self.plan.slow_start:
            await anyio.sleep(self.plan.slow_start)
        self.world.trace.append(f"start {self.plan.name}")
        if self.failing == "on_start":
            raise Planned

    async def on_stop(self, reason: str) -> None:
        with self.world.last_word(self.plan.name):
            self.world.trace.append(f"stop {self.plan.name} {reason}")
            if self.plan.slow_stop:
                await anyio.sleep(self.plan.slow_stop)

    async def on_restart(self, error: BaseException) -> None:
        with self.world.last_word(self.plan.name):
            self.world.trace.append(f"fail {self.plan.name}")
            if self.plan.slow_stop:
                await anyio.sleep(self.plan.slow_stop)


class Leaf(Recorder):
    def __init__(self, world: World, plan: Plan) -> None:
        self.begin(world, plan)


class Branch(Recorder, Supervisor):
    def __init__(self, world: World, plan: Plan) -> None:
        super().__init__(
            strategy=plan.strategy,
            intensity=plan.intensity,
            period=plan.period,
            auto_shutdown=plan.auto_shutdown,
        )
        self.begin(world, plan)

    def children(self) -> Iterable[ChildSpec[Any]]:
        return [child.spec(self.world) for child in self.plan.children or ()]


# The model ---------------------------------------------------------------------------------------------------


class Node:
    """An actor as its supervisor knows it: it stays while incarnations come and go."""

    def __init__(self, plan: Plan, parent: Node | None) -> None:
        self.plan = plan
        self.parent = parent
        self.fresh()

    def fresh(self) -> None:
        self.running = self.closing = False
        self.children: list[Node] = []
        self.restarts: list[float] = []

    def path(self) -> str:
        return "" if self.parent is None else f"{self.parent.path()}/{self.plan.name}"

    def all(self) -> list[Node]:
        return [each for child in self.children for each in (child, *child.all())]


class Model:
    """OTP's rules, step by step. What the real thing does in tasks of their own waits in `later`, in order."""

    def __init__(self, plan: Plan) -> None:
        self.now = 0.0
        self.trace: list[str] = []
        self.starts: Counter[str] = Counter()
        self.root = Node(plan, None)
        self.root.running = True
        self.gave_up = False
        self.later: list[tuple[str, Node]] = []

    # One thing happens to one actor, or to several at once

    def start(self, node: Node) -> bool:
        plan = node.plan
        node.fresh()
        self.starts[plan.name] += 1
        self.trace.append(f"init {plan.name}")
        failing = plan.failing.get(self.starts[plan.name])
        if failing == "init":
            return False
        for child in plan.children or ():
            node.children.append(Node(child, node))
            if not self.start(node.children[-1]):
                node.children.pop()
                self.end(node, "failed")
                return False
        if not plan.bare:
            self.trace.append(f"start {plan.name}")
            if failing == "on_start":
                self.end(node, "failed")
                return False
        node.running = True
        return True

    def end(self, node: Node, reason: str) -> None:
        node.closing = True
        for child in reversed(node.children):
            self.end(child, "killed" if reason == "killed" else "stopped")
        node.children.clear()
        node.running = False
        if not node.plan.bare:
            self.trace.append(f"fail {node.plan.name}" if reason == "failed" else f"stop {node.plan.name} {reason}")

    def happens(self, nodes: list[Node], reason: str, recoveries: tuple[int, ...] = (0,)) -> None:
        for node in nodes:
            self.end(node, reason)
        for node in nodes:
            self.exited(node, reason)
        if len(self.later) == len(recoveries):
            self.later = [self.later[i] for i in recoveries]
        while self.later:
            what, node = self.later.pop(0)
            getattr(self, what)(node)

    # What its supervisor makes of it

    def exited(self, node: Node, reason: str) -> None:
        parent, restart = node.parent, node.plan.restart
        assert parent is not None
        if parent.closing or reason in ("stopped", "killed"):
            parent.children.remove(node)
        elif restart is Restart.TEMPORARY or (restart is Restart.TRANSIENT and reason == "finished"):
            parent.children.remove(node)
            rest = any(child.plan.significant for child in parent.children)
            if node.plan.significant and (
                parent.plan.auto_shutdown == "any_significant"
                or (parent.plan.auto_shutdown == "all_significant" and not rest)
            ):
                self.later.append(("finish", parent))
        else:
            parent.restarts = [when for when in parent.restarts if self.now - when <= parent.plan.period]
            parent.restarts.append(self.now)
            if len(parent.restarts) <= parent.plan.intensity:
                self.later.append(("recover", node))
            else:
                parent.closing = True
                parent.children.remove(node)
                self.later.append(("give_up", parent))

    def finish(self, node: Node) -> None:
        self.end(node, "finished")
        self.exited(node, "finished")

    def give_up(self, node: Node) -> None:
        for child in reversed(node.children):
            if child.running:
                self.end(child, "stopped")
        node.children.clear()
        if node.parent is None:
            self.gave_up = True
        else:
            self.end(node, "failed")
            self.exited(node, "failed")

    def recover(self, node: Node) -> None:
        parent = node.parent
        assert parent is not None
        if parent.closing or node.running or node not in parent.children:
            return
        first = {
            Strategy.ONE_FOR_ONE: [node],
            Strategy.ONE_FOR_ALL: parent.children,
            Strategy.REST_FOR_ONE: parent.children[parent.children.index(node) :],
        }
        group = list(first[parent.plan.strategy])
        for each in reversed(group):
            if each.running:
                self.end(each, "restarting")
            if each.plan.restart is Restart.TEMPORARY:
                parent.children.remove(each)
        for each in group:
            if each in parent.children and not self.start(each):
                self.exited(each, "failed")
                return

    # Questions

    def node(self, name: str) -> Node | None:
        return next((node for node in self.root.all() if node.plan.name == name), None)


# The agreement -----------------------------------------------------------------------------------------------


@settings(max_examples=3 * settings().max_examples)
@given(forests(), STEPS)
def test_a_tree_does_what_the_model_says(plan: Plan, steps: list[Step]) -> None:
    in_virtual_time(agree, plan, steps, True)


@pytest.mark.parametrize("uvloop", [False, True], ids=["asyncio", "uvloop"])
@settings(max_examples=settings().max_examples // 3)
@given(plan=forests(), steps=STEPS)
def test_it_does_so_on_the_other_event_loops(plan: Plan, steps: list[Step], uvloop: bool) -> None:
    """At one moment: no gaps, and periods that no test lives to see the end of."""
    steps = [replace(step, gap=0.0) for step in steps]
    anyio.run(agree, without_end(plan), steps, False, backend_options={"use_uvloop": uvloop})


def without_end(plan: Plan) -> Plan:
    children = None if plan.children is None else tuple(map(without_end, plan.children))
    return replace(plan, children=children, period=1e6)


async def agree(plan: Plan, steps: list[Step], virtual: bool) -> None:
    world, model = World(plan, virtual=virtual), Model(plan)
    system = ActorSystem("tree", intensity=plan.intensity, period=plan.period)
    gave_up = False
    try:
        async with system:
            for child in plan.children or ():
                node = Node(child, model.root)
                model.root.children.append(node)
                started = model.start(node)
                if not started:
                    model.root.children.remove(node)
                with nullcontext() if started else pytest.raises(SpawnError):
                    await system._root.start(child.spec(world))
            assert world.take() == model.trace
            for step in steps:
                await anyio.sleep(step.gap)
                model.now += step.gap
                model.trace = []
                model = await take(system, world, model, step)
                assert {str(address) for address in system.cells} == {node.path() for node in model.root.all()}
                if model.gave_up:
                    await anyio.sleep_forever()
            model.trace = []
    except RestartIntensityExceeded:
        gave_up = True
    assert not world.wrong
    assert gave_up == model.gave_up
    event(f"gave up: {gave_up}")
    for node in reversed(model.root.children):
        model.end(node, "stopped")
    assert world.take() == model.trace
    assert not system.cells


async def take(system: ActorSystem, world: World, model: Model, step: Step) -> Model:
    """Let the step happen, and return the model after it: the one of those possible that agrees."""
    if step.deed == "together":
        return await take_together(system, world, model, step)
    alive = model.root.all()
    if not alive:
        return model
    node = alive[step.number % len(alive)]
    name = node.plan.name
    ref = system.ref(node.path())
    subtree = len(node.all())
    match step.deed:
        case "fail":
            model.happens([node], "failed")
            await ref.tell(Fail())
        case "finish":
            model.happens([node], "finished")
            await ref.tell(Finish())
        case "stop":
            model.happens([node], "stopped")
            await ref.stop()
        case "kill":
            model.happens([node], "killed")
            ref.kill()
    event(f"{step.deed} a {'leaf' if node.plan.children is None else 'branch'}")
    await settle(world, model)
    if step.deed == "kill" and subtree:
        trace = world.take()
        assert sorted(trace) == sorted(model.trace), "those below are killed all at once, in no order"
        assert trace[-1] == f"stop {name} killed", "but never after the one above them"
    elif not model.gave_up:
        assert world.take() == model.trace
    return model


async def take_together(system: ActorSystem, world: World, model: Model, step: Step) -> Model:
    """Up to three leaves of one supervisor fail at once. In which order that is seen is nobody's to say."""
    families = [leaves for parent in (model.root, *model.root.all()) if (leaves := may_fail_together(model, parent))]
    if not families:
        return model
    leaves = max(families, key=len) if step.more % 2 else families[step.number % len(families)]
    parent = leaves[0].parent
    assert parent is not None
    failing = [leaf.plan.name for leaf in leaves[step.more % len(leaves) :][:3]]
    event(f"together: {len(failing)}, {parent.plan.strategy.value}")
    for name in failing:
        node = model.node(name)
        assert node is not None
        await system.ref(node.path()).tell(Fail())
    possible = []
    count = sum(leaf.plan.restart is not Restart.TEMPORARY for leaf in leaves if leaf.plan.name in failing)
    for order in itertools.permutations(failing):
        for recoveries in itertools.permutations(range(count)):
            other = copy.deepcopy(model)
            other.happens([node for name in order if (node := other.node(name))], "failed", recoveries)
            possible.append(other)
    await settle(world, possible[0])
    trace = world.take()
    in_any_order = parent.plan.strategy is Strategy.ONE_FOR_ONE
    for other in possible:
        if trace == other.trace or (in_any_order and sorted(trace) == sorted(other.trace)):
            world.trace = trace if other.gave_up else []
            if other.gave_up:
                other.trace = trace
            return other
    raise AssertionError(f"{trace} is none of {sorted({tuple(other.trace) for other in possible})}")


def may_fail_together(model: Model, parent: Node) -> list[Node]:
    """The leaves of `parent`, but for those where the order would matter and is not fixed.

    That is where the next start fails beside other starts, and where the supervisor finishes for it.
    """
    beside = parent.plan.strategy is Strategy.ONE_FOR_ONE
    return [
        node
        for node in parent.children
        if node.plan.children is None
        and not (beside and model.starts[node.plan.name] + 1 in node.plan.failing)
        and not (node.plan.significant and parent.plan.auto_shutdown != "never")
    ]


async def settle(world: World, model: Model) -> None:
    """Nothing waits for the clock, so when everybody is blocked the step is over."""
    with anyio.CancelScope(shield=model.gave_up):  # the body has been cancelled then
        if world.virtual:
            await anyio.wait_all_tasks_blocked()
        else:  # where that would sleep for 0.1 s a time
            for _ in range(500):
                await anyio.lowlevel.checkpoint()


# Anything at any time ----------------------------------------------------------------------------------------

Chaos = Literal["fail", "fail late", "deaf", "finish", "finish late", "stop", "kill", "grow"]
Leaving = Literal["at the end", "by an error", "by cancellation"]

CHAOS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.0, 0.25, 0.5, 2.0]),
        st.sampled_from(["fail", "fail", "fail late", "deaf", "finish", "finish late", "stop", "kill", "grow"]),
        st.integers(0, 30),
    ),
    min_size=8,
    max_size=25,
)


@settings(max_examples=2 * settings().max_examples)
@given(forests(timed=True), CHAOS, st.sampled_from(["at the end", "by an error", "by cancellation"]))
def test_no_child_outlives_its_parent(plan: Plan, chaos: list[tuple[float, Chaos, int]], leaving: Leaving) -> None:
    """Slow hooks, deaf handlers, orders that cross each other. `World` looks on at every step."""
    in_virtual_time(survive, plan, chaos, leaving)


class Enough(Exception):
    """The body has had enough."""


async def survive(plan: Plan, chaos: list[tuple[float, Chaos, int]], leaving: Leaving) -> None:
    world = World(plan)
    system = ActorSystem("tree", intensity=plan.intensity, period=plan.period)
    plans = {each.name: each for each in (plan, *below(plan))}
    restarted: dict[tuple[Address, int], list[float]] = {}
    failed_hooks: list[HookFailed] = []

    def restarts(fact: ActorRestarted) -> None:
        """Invariant 8, for each child and each incarnation of its supervisor."""
        supervisor = plans.get(fact.address.parent.name, Plan("a leaf that has grown"))
        times = restarted.setdefault((fact.address, world.starts[supervisor.name]), [])
        times.append(anyio.current_time())
        assert sum(times[-1] - when <= supervisor.period for when in times) <= supervisor.intensity

    system.subscribe(ActorRestarted, restarts)
    system.subscribe(HookFailed, failed_hooks.append)
    try:
        with anyio.CancelScope() as scope:
            async with system:
                await unrest(system, world, plan, chaos)
                if leaving == "by an error":
                    raise Enough
                if leaving == "by cancellation":
                    scope.cancel()
                    await anyio.sleep_forever()
    except Enough:
        assert leaving == "by an error"
    except RestartIntensityExceeded:
        event("gave up")
    event(f"{sum(world.starts.values()) // 10 * 10} starts or more")
    assert not world.wrong
    assert not world.alive
    assert not system.cells
    assert all(isinstance(fact.error, TimeoutError) for fact in failed_hooks), failed_hooks


async def unrest(system: ActorSystem, world: World, plan: Plan, chaos: list[tuple[float, Chaos, int]]) -> None:
    """Start the tree, and do what is to be done before all of it has started, too."""

    async def start(child: Plan) -> None:
        with suppress(SpawnError):
            await system._root.start(child.spec(world))

    async with anyio.create_task_group() as orders:
        for child in plan.children or ():
            orders.start_soon(start, child)
        for gap, deed, number in chaos:
            await anyio.sleep(gap)
            alive = list(system.cells)
            if not alive:
                continue
            ref = system.ref(alive[number % len(alive)])
            with suppress(DeliveryError):
                match deed:
                    case "fail":
                        await ref.tell(Fail())
                    case "fail late":
                        await ref.tell(Fail(after=1.5))
                    case "deaf":
                        await ref.tell(Fail(after=0.5, deaf=number % 4))
                    case "finish":
                        await ref.tell(Finish())
                    case "finish late":
                        await ref.tell(Finish(after=1.5))
                    case "grow":
                        await ref.tell(Grow())
                    case "stop":
                        orders.start_soon(ref.stop, None if number % 2 else 0.25)
                    case "kill":
                        ref.kill()
        orders.cancel_scope.cancel()


# How often, and after how long ---------------------------------------------------------------------------------


class Note(Message[int]):
    """Which incarnation handles it?"""


class Unlucky(Actor):
    """Fails at the starts that `lives` gives None for, and otherwise that many seconds after its start."""

    def __init__(self, starts: list[float], lives: list[float | None]) -> None:
        starts.append(anyio.current_time())
        self.number = len(starts)
        self.life = lives[self.number - 1] if self.number <= len(lives) else inf
        if self.life is None:
            raise Planned

    async def on_start(self) -> None:
        if self.life is not None and self.life < inf:
            self.after(self.life, Fail())

    @handles(Fail)
    async def fail(self, _: Fail) -> None:
        raise Planned

    @handles(Note)
    async def note(self, _: Note) -> int:
        return self.number


LIVES = st.lists(st.one_of(st.none(), st.sampled_from([0.0, 0.25, 1.0, 4.0, 16.0])), max_size=12)


@given(
    LIVES,
    st.builds(
        Backoff,
        initial=st.sampled_from([0.25, 1.0]),
        cap=st.sampled_from([1.0, 8.0]),
        factor=st.sampled_from([1.0, 2.0]),
        jitter=st.sampled_from([0.0, 0.0, 0.5]),
        reset_after=st.sampled_from([None, 0.0, 2.0]),
    ),
)
def test_each_restart_comes_after_its_delay(lives: list[float | None], backoff: Backoff) -> None:
    starts: list[float] = []
    answers: list[tuple[float, int]] = []

    async def main() -> None:
        async with ActorSystem(intensity=len(lives) + 1) as system:
            actor = await system.spawn(Unlucky, starts, [0.0, *lives], backoff=backoff)
            await anyio.wait_all_tasks_blocked()
            # The first delay is on: this waits in the mailbox for whoever lives long enough.
            answers.append((anyio.current_time(), await actor.ask(Note(), timeout=1_000)))
            await anyio.sleep(1_000)

    in_virtual_time(main)
    assert len(starts) == len(lives) + 2
    failures, returned = 0, 0.0
    for before, after, life in zip(starts, starts[1:], [0.0, *lives], strict=False):
        failed = before + (life or 0.0)
        if failed - returned >= (2 * backoff.cap if backoff.reset_after is None else backoff.reset_after):
            failures = 0
        failures += 1
        nominal = min(backoff.cap, backoff.initial * backoff.factor ** (failures - 1))
        assert nominal * (1 - backoff.jitter) <= after - failed <= min(backoff.cap, nominal * (1 + backoff.jitter))
        returned = after
    first = next(number for number, life in enumerate([*lives, inf], start=2) if life is not None)
    assert answers == [(0.0, first)]


@given(LIVES, st.integers(0, 4), st.sampled_from([0.5, 2.0, 5.0]))
def test_a_supervisor_restarts_as_often_as_its_intensity_allows_and_then_gives_up(
    lives: list[float | None], intensity: int, period: float
) -> None:
    """Each actor of its own supervisor, which the root never restarts."""
    starts: list[float] = []
    gave_up: list[SupervisorGaveUp] = []

    async def main() -> None:
        async with ActorSystem(intensity=0) as system:
            system.subscribe(SupervisorGaveUp, gave_up.append)
            await system.supervise(
                ChildSpec(Unlucky, starts, [0.0, *lives], name="child"),
                intensity=intensity,
                period=period,
                name="parent",
            )
            await anyio.sleep(1_000)

    with suppress(RestartIntensityExceeded):
        in_virtual_time(main)
    failed = [before + (life or 0.0) for before, life in zip(starts, [0.0, *lives], strict=False)]
    for last, when in enumerate(failed):
        recent = [other for other in failed[: last + 1] if when - other <= period]
        if len(recent) > intensity:
            assert len(starts) == last + 1, "no start after the one failure too many"
            assert [fact.address for fact in gave_up] == ["/parent", "/"]
            break
    else:
        assert len(starts) == len(lives) + 2
        assert not gave_up
