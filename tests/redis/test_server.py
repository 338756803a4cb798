"""What only a real server shows: its own clock, lost scripts, full memory, cancelled calls, bytes of all kinds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import OutOfMemoryError

from tests.redis.servers import Server
from transport.errors import AddressInUse
from transport.mailbox import Overflow
from transport.redis.check import CheckedTransport, Refused
from transport.redis.scripts import Keys, config, script
from transport.redis.server import VERSION, Config, RedisStore, config_of
from transport.redis.store import (
    MOST,
    START,
    Answer,
    Claim,
    DeadLetter,
    Delay,
    Fetched,
    LeaseLost,
    Note,
    Post,
    Reply,
    Sent,
    Stopped,
    Tried,
    Tries,
    Turn,
)
from transport.redis.transport import RedisTransport

pytestmark = pytest.mark.anyio

ALL_BYTES = bytes(range(256)) * 4
NOTHING = Fetched([], more=False)


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """redis-py is for asyncio only."""
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Redis]:
    async with Redis(port=server.port, retry=Retry(NoBackoff(), 0)) as client:
        await client.flushall()
        yield client


@pytest.fixture
def store(client: Redis) -> RedisStore:
    return RedisStore(client, "{shop:0}")


async def claimed(store: RedisStore, *, address: str = "/a", node: str = "n1") -> Claim:
    await store.join(node, 60.0)
    claim = await store.claim(node, address, 10_000)
    assert claim is not None
    return claim


async def fetched(store: RedisStore, claim: Claim, want: int, *, node: str = "n1") -> Fetched:
    (answer,) = await store.turn(node, [Turn("/a", claim.epoch, START, START, want)])
    assert answer is not None
    return answer


async def test_leases_and_ttls_are_by_the_servers_clock(store: RedisStore, client: Redis) -> None:
    seconds, micro = await client.time()
    claim = await claimed(store)
    assert 0 < claim.epoch - (seconds * 1_000_000 + micro) < 5_000_000
    await store.send("p", [Post("/a", 3, 1, b"frame", 60.0)])
    (mail,) = await store.peek("/a", 3)
    assert mail.left is not None
    assert 55 < mail.left <= 60
    with pytest.raises(LeaseLost):
        await store.join("n2", -1.0)
    with pytest.raises(LeaseLost):
        await store.beat("n2", 60.0)
    assert await store.reap(0.0) == 0


async def test_a_server_that_has_lost_the_scripts_gets_them_again(store: RedisStore, client: Redis) -> None:
    claim = await claimed(store)
    await client.script_flush()
    assert await store.turn("n1", [Turn("/a", claim.epoch, START, START, 10)]) == [NOTHING]


async def test_frames_of_any_bytes_come_through_everywhere(store: RedisStore) -> None:
    claim = await claimed(store)
    await store.send("p", [Post("/a", 3, number, ALL_BYTES) for number in (1, 2, 3)])
    notes: list[Note] = [DeadLetter(3, 0, "failed"), Reply(3, 1, ALL_BYTES), Delay(3, 2, 0.0, Tries(1, 0))]
    assert await store.turn("n1", [Turn("/a", claim.epoch, (0, 0, 0, 3, 0), START, 0, notes)]) == [NOTHING]
    assert await store.due() == 1
    (letter,), (reply,) = await store.dead_letters(), await store.outbox()
    assert (letter.frame, reply.frame) == (ALL_BYTES, ALL_BYTES)
    assert await store.dead_letters(after=letter.id) == []
    assert await store.requeue(letter.id)
    assert not await store.requeue(letter.id)
    await store.forwarded([reply.id])
    assert await store.outbox() == []
    assert [mail.frame for mail in await store.peek("/a", 3)] == [ALL_BYTES, ALL_BYTES]


async def test_a_batch_may_come_again_with_more_behind_it(store: RedisStore) -> None:
    await claimed(store)
    posts = [Post("/a", 3, number, b"%d" % number) for number in range(1, 6)]
    new, old = Answer.ACCEPTED, Answer.DUPLICATE
    for count, expected in ((2, [new, new]), (4, [old, old, new, new]), (5, [old, old, old, old, new])):
        assert [sent.answer for sent in await store.send("p", posts[:count])] == expected
    assert [mail.frame for mail in await store.peek("/a", 3)] == [b"1", b"2", b"3", b"4", b"5"]


async def test_an_earlier_turn_sets_no_attempt_back(store: RedisStore) -> None:
    claim = await claimed(store)
    await store.send("p", [Post("/a", 3, 1, b"frame")])
    for tries in (Tries(1, 0), Tries(2, 1), Tries(1, 0)):
        await store.turn("n1", [Turn("/a", claim.epoch, START, START, 0, [Tried(3, 0, tries)])])
    again = await store.claim("n1", "/a", 10_000)
    assert again is not None
    assert again.tries == {(3, 0): Tries(2, 1)}


async def test_the_owner_itself_is_fenced_under_an_old_epoch(store: RedisStore) -> None:
    claim = await claimed(store)
    await store.send("p", [Post("/a", 3, 1, b"frame")])
    await claimed(store)
    assert await store.turn("n1", [Turn("/a", claim.epoch, (0, 0, 0, 1, 0), START, 10)]) == [None]
    assert await store.stop("n1", "/a", claim.epoch) is None
    assert await store.release("n1", [("/a", claim.epoch)]) == [False]
    assert len(await store.peek("/a", 3)) == 1


async def test_whoever_brings_a_delayed_message_back_it_comes_once(store: RedisStore) -> None:
    claim = await claimed(store)
    await store.send("p", [Post("/a", 3, 1, b"frame")])
    await store.turn("n1", [Turn("/a", claim.epoch, (0, 0, 0, 1, 0), START, 0, [Delay(3, 0, 0.0, Tries(1, 0))])])
    for _ in range(3):  # until there is a connection for each: who has to connect first comes too late
        await asyncio.gather(*(store.tend("n1", 0.0) for _ in range(3)))
    counts = await asyncio.gather(store.due(), store.due(), store.due())
    assert sorted(counts) == [0, 0, 1]
    assert len(await store.peek("/a", 3)) == 1


async def test_a_full_memory_refuses_sends_and_nothing_else(store: RedisStore, client: Redis) -> None:
    claim = await claimed(store)
    await store.send("p", [Post("/a", 3, number, ALL_BYTES) for number in range(1, 5)])
    await client.config_set("maxmemory", "100kb")
    try:
        with pytest.raises(OutOfMemoryError):
            await store.send("p", [Post("/a", 3, 5, ALL_BYTES)])
        await store.beat("n1", 60.0)
        again = await store.claim("n1", "/a", 10_000)
        assert again is not None
        notes: list[Note] = [DeadLetter(3, 0, "failed"), Reply(3, 1, b"yes"), Delay(3, 2, 0.0, Tries(1, 0))]
        assert await store.turn("n1", [Turn("/a", again.epoch, (0, 0, 0, 4, 0), START, 10, notes)]) == [NOTHING]
        assert await store.due() == 1
        assert await store.turn("n1", [Turn("/a", again.epoch, (0, 0, 0, 5, 0), START, 10)]) == [NOTHING]
        assert await store.stop("n1", "/a", again.epoch) == Stopped(0)
        assert again.epoch > claim.epoch
    finally:
        await client.config_set("maxmemory", "0")


async def test_a_batch_of_the_largest_size_is_carried_and_no_larger_one(store: RedisStore) -> None:
    claim = await claimed(store)
    posts = [Post("/a", 3, number, b"frame") for number in range(1, MOST + 2)]
    assert {sent.answer for sent in await store.send("p", posts[:MOST])} == {Answer.ACCEPTED}
    apart = [Post(f"/{number}", 3, number, b"frame") for number in range(1, MOST + 1)]
    assert {sent.answer for sent in await store.send("q", apart)} == {Answer.NOBODY}
    mails, more = await fetched(store, claim, MOST)
    assert [mail.offset for mail in mails] == list(range(MOST))
    assert more
    with pytest.raises(ValueError, match="501 at once, the limit is 500"):
        await store.send("p", posts)


async def test_the_bell_rings_for_the_next_mail_of_who_got_less_than_it_wanted(store: RedisStore) -> None:
    """Also behind mail of the same lane that is not acked, or two handlers could never be busy at once."""
    claim = await claimed(store)
    rung = []
    for number, want in enumerate([10, 1, 10, 0, 10], 1):
        await fetched(store, claim, want)
        await store.send("p", [Post("/a", 3, number, b"frame")])
        rung.append(await store.bells("n1") == ["/a"])
    assert rung == [True, False, True, False, True]
    await store.send("p", [Post("/a", 3, 6, b"frame"), Post("/a", 1, 7, b"frame")])
    assert await store.bells("n1") == ["/a"]


async def test_a_bell_for_the_owner_before_is_not_for_the_one_that_is_there_now(
    store: RedisStore, client: Redis
) -> None:
    """The producer learns who the owner is, and when it rings it is somebody else: who still is to hear of mail."""
    first = await claimed(store)
    await store.release("n1", [("/a", first.epoch)])
    await fetched(store, await claimed(store, node="n2"), 10, node="n2")
    keys = Keys("{shop:0}")
    await client.eval(script("ring").text, 3, keys.nodes, keys.bell("n1"), keys.actor("/a"), "n1", 3, "/a")
    await store.send("p", [Post("/a", 3, 1, b"frame")])
    assert await store.bells("n2") == ["/a"]


@pytest.mark.parametrize(
    ("overflow", "room", "answer"),
    [
        (Overflow.BLOCK, 2, Answer.FULL),
        (Overflow.REJECT, 2, Answer.REJECTED),
        (Overflow.DROP_OLDEST, 4, Answer.FULL),
        (Overflow.DROP_LOWEST, 4, Answer.FULL),
    ],
)
async def test_what_is_over_the_capacity(store: RedisStore, overflow: Overflow, room: int, answer: Answer) -> None:
    await claimed(store)
    await store.claim("n1", "/a", 2, overflow)
    sent = await store.send("p", [Post("/a", 3, number, b"frame") for number in range(1, room + 2)])
    assert sent == [Sent(Answer.ACCEPTED)] * room + [Sent(answer, room)]
    assert await store.send("p", [Post("/a", 0, 1, b"control")]) == [Sent(Answer.ACCEPTED)]
    assert await store.send("p", [Post("/a", 3, 20, b"frame", capacity=1)]) == [Sent(answer, room)]


async def test_who_has_stopped_is_not_unknown(store: RedisStore) -> None:
    claim = await claimed(store)
    await store.send("p", [Post("/a", 3, 1, b"frame")])
    assert await store.stop("n1", "/a", claim.epoch) == Stopped(1)
    posts = [Post("/a", 3, 2, b"frame"), Post("/b", 3, 3, b"frame"), Post("/a", 0, 4, b"control")]
    assert [sent.answer for sent in await store.send("p", posts)] == [Answer.STOPPED, Answer.NOBODY, Answer.STOPPED]
    await claimed(store)
    assert [sent.answer for sent in await store.send("p", [Post("/a", 3, 5, b"frame")])] == [Answer.ACCEPTED]


async def test_an_address_of_another_program_is_not_waited_for(store: RedisStore) -> None:
    await store.join("n1", 60.0)
    await store.join("n2", 60.0)
    claim = await store.claim("n1", "/a", 10, program="shop")
    assert claim is not None
    assert await store.claim("n2", "/a", 10, program="shop") is None
    for program in ("", "bank"):
        with pytest.raises(AddressInUse, match=r"/a is in use by another program, 'shop'"):
            await store.claim("n2", "/a", 10, program=program)
    await store.release("n1", [("/a", claim.epoch)])
    assert await store.claim("n2", "/a", 10) is not None
    assert await store.claim("n1", "/a", 10) is None
    with pytest.raises(AddressInUse, match="another program, ''"):
        await store.claim("n1", "/a", 10, program="shop")


async def test_an_answer_has_a_mebibyte_of_each_mailbox_and_four_of_all(store: RedisStore) -> None:
    """Who went short is told that there is more, and hears no bell until it has asked for that."""
    names, frame = [f"/{number}" for number in range(6)], b"x" * (200 << 10)
    claims = [await claimed(store, address=name) for name in names]
    for name in names:
        await store.send(name, [Post(name, number % 5, number, frame) for number in range(1, 11)])
    await store.bells("n1")
    turns = [Turn(name, claim.epoch, START, START, 10) for name, claim in zip(names, claims, strict=True)]
    answers = await store.turn("n1", turns)
    assert [(len(each.mails), each.more) for each in answers if each] == [(6, True)] * 3 + [(3, True)] + [(0, True)] * 2
    await store.send("p", [Post(name, 3, 20 + number, b"frame") for number, name in enumerate(names)])
    assert await store.bells("n1") == []


@pytest.mark.parametrize("size", [1 << 20, 8 << 20])
async def test_a_frame_larger_than_an_answer_comes_by_itself(store: RedisStore, size: int) -> None:
    claim = await claimed(store)
    await store.send("p", [Post("/a", 3, number, b"x" * size) for number in (1, 2)])
    mails, more = await fetched(store, claim, 10)
    assert [mail.offset for mail in mails] == [0]
    assert more
    (answer,) = await store.turn("n1", [Turn("/a", claim.epoch, START, (0, 0, 0, 2, 0), 10)])
    assert answer == NOTHING


@pytest.mark.parametrize("ticks", range(12))
async def test_cancelling_a_call_at_any_await_loses_nothing(store: RedisStore, ticks: int) -> None:
    """Neither the batch, which is in once or not yet, nor the connection, which must not bring an old answer next."""
    claim = await claimed(store)
    posts = [Post("/a", 3, 1, b"frame")]
    first = asyncio.create_task(store.send("p", posts))
    await cancel_after(ticks, first)
    (sent,) = await store.send("p", posts)
    assert sent.answer is Answer.DUPLICATE or (sent.answer is Answer.ACCEPTED and first.cancelled())
    turn = Turn("/a", claim.epoch, (0, 0, 0, 1, 0), START, 10, [DeadLetter(3, 0, "failed")])
    await cancel_after(ticks, asyncio.create_task(store.turn("n1", [turn])))
    assert await store.turn("n1", [turn]) == [NOTHING]
    assert len(await store.dead_letters()) == 1


async def cancel_after(ticks: int, call: asyncio.Task[object]) -> None:
    for _ in range(ticks):
        await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait([call])


# What the nodes of a namespace agree on ------------------------------------------------------------------


async def opened_and_closed(transport: RedisTransport) -> None:
    await transport.open()
    await transport.close()


async def test_who_opens_a_namespace_first_says_how_many_partitions_it_has(server: Server, client: Redis) -> None:
    url = f"redis://127.0.0.1:{server.port}"
    assert await config_of(client, "shop") is None
    for _ in range(2):
        await opened_and_closed(RedisTransport(url, namespace="shop", partitions=3))
    assert await config_of(client, "shop") == Config(3, VERSION)
    with pytest.raises(Refused) as caught:
        await RedisTransport(url, namespace="shop", partitions=2).open()
    assert str(caught.value) == (
        f"the namespace shop on {url} has 3 partitions, which is for good, and 2 are asked for: ask for 3, or take "
        "another namespace"
    )
    assert caught.value.lasting
    await opened_and_closed(RedisTransport(url, namespace="shop:eu", partitions=2))
    assert await config_of(client, "shop") == Config(3, VERSION)
    assert not await client.exists("{shop:0}:n"), "who is refused has no lease"


async def test_a_node_does_not_wait_for_other_partitions_or_keys(server: Server, client: Redis) -> None:
    def waits(error: Exception, _: float) -> None:
        raise AssertionError from error

    transport = CheckedTransport(
        f"redis://127.0.0.1:{server.port}", namespace="shop", partitions=2, least="unsafe", waits=waits,
        found=lambda _: None,
    )  # fmt: skip
    await client.hset(config("shop"), mapping={"partitions": "2", "version": "2"})
    with pytest.raises(Refused, match="has keys of version 2, and this is made for version 1: install what its other"):
        await transport.open()
    await client.delete(config("shop"))
    await opened_and_closed(transport)


async def test_a_config_that_was_only_begun_is_finished(client: Redis) -> None:
    await client.hset(config("shop"), "partitions", "3")
    assert await config_of(client, "shop") is None
    assert await config_of(client, "shop", create=Config(2, VERSION)) == Config(3, VERSION)
