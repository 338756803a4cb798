"""`RedisTransport`: the same actors across hosts, with mailboxes that outlive them. On asyncio, as redis-py is."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from math import inf
from time import monotonic
from typing import Any, Final
from zlib import crc32

import anyio
from anyio.abc import TaskStatus
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from transport.address import Address
from transport.answers import Answer, Drain, answer, result_of
from transport.base import Inlet, Offer, unknown
from transport.envelope import Envelope, Failed, Outcome, Reply, uuid7
from transport.errors import (
    ActorNotFound,
    ActorStopped,
    AddressInUse,
    CodecError,
    DeliveryError,
    DeliveryUnknown,
    MailboxFull,
    TransportClosed,
    TransportLost,
    mask,
)
from transport.mailbox import CONTROL, Overflow
from transport.redis.connect import place
from transport.redis.hosted import NODES, Delivery, Hosted
from transport.redis.lease import Lease
from transport.redis.outbound import Outbound, Unsent
from transport.redis.scripts import Keys
from transport.redis.server import VERSION, Config, RedisStore, config_of
from transport.redis.store import MOST, LeaseLost, MailboxStore, Sent
from transport.redis.store import Answer as Sending
from transport.wire import Wire

BLOCK: Final = 5.0  # seconds for which the bells are waited for at once
ACK_WITHIN: Final = 0.005  # seconds, where nothing is to be fetched: a chain of asks takes half as long so
ABANDONED: Final = 600.0  # seconds without an owner after which a mailbox for answers is emptied, and given up
TIMEOUT: Final = 10.0  # seconds for an answer of the server
SWEEP: Final = 30.0  # seconds after which all mailboxes are looked at, should a bell have been lost
MOST_IN_HAND: Final = 10_000  # messages in this process that are not acked, of all mailboxes together
RECONCILE: Final = 1.5  # seconds between two looks at a partition: who has died, what has no owner, what is due


class RedisTransport:
    """Carries envelopes to durable mailboxes on a Redis or Valkey server.

    ``ActorSystem("shop", transport=RedisTransport("redis://localhost"))``

    Every system with the same `namespace` on the same server sees the same addresses. A message is accepted once the
    server has it, and acked once it has met its fate; what a process had not settled when it died is handled by
    whoever claims the address next: at least once, in order.

    Times are in seconds: `lease`, renewed each `beat`, is how long a process counts as alive, `grace` how much longer
    its addresses are kept for it, `patience` how long a message is tried to be sent before it is `DeliveryUnknown`,
    `settle` how long it waits for others after joining, so that those that start together share the addresses.
    `drained` is called where an operator wants the process to hand over and end.

    With `replicas` a message is accepted once so many replicas of the server have it, too.
    `partitions` is how many parts the addresses are spread over; the first to open a namespace says it for all.
    """

    def __init__(
        self, url: str, *, namespace: str = "default", wire: Wire | None = None, node: str = "node",
        partitions: int = 64, lease: float = 10.0, beat: float = 2.5, grace: float = 2.0, patience: float = 30.0,
        settle: float = 0.0, drained: Callable[[], None] = lambda: None, replicas: int = 0,
    ) -> None:  # fmt: skip
        self.wire = wire or Wire()
        self.url = url
        self._place = place(url)
        if replicas and self._place.is_cluster:
            raise ValueError(f"replicas={replicas}: replicas is for a single server or Sentinel, not for a Cluster yet")
        self._namespace, self._node, self._partitions = namespace, node, partitions
        self._lease_time, self._beat, self._grace, self._patience = lease, beat, grace, patience
        self._settle_time, self._replicas = settle, replicas
        self.drained = drained
        self._nodes: list[str] = []
        """All incarnations that may be alive."""
        self._inlets: dict[Address, Inlet] = {}
        self._hosted: dict[Address, Hosted] = {}
        self._retiring: dict[Address, anyio.Event] = {}
        self._room: dict[Address, anyio.Lock] = {}
        self._expected: dict[str, tuple[weakref.ref[Any], type]] = {}
        self._paused = self._closed = False
        self._claiming: set[Address] = set()
        self._at_once: set[Address] = set()
        """Addresses here whose mail from here does not go by the server."""
        self._ownerless: dict[Address, tuple[float, float]] = {}
        """Mailboxes for answers that have no owner: since when we know, and when we saw it last."""
        self._vacant: dict[Address, anyio.Event] = {}
        self._answering = 0
        """Answers that are on their way."""
        self._answered: anyio.Event | None = None
        self._in_hand = 0

    # Opening and closing ---------------------------------------------------------------------------------

    async def open(self) -> None:
        """Join under a new name. Raises `TransportLost` where the server cannot be reached, or has another config."""
        self._paused = self._closed = False
        self._client, self._bells = self._place.client(), self._place.client()
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time
        started = asyncio.Event()
        self._host = asyncio.create_task(self._host_tasks(started), name=f"{self._node}: transport")
        await started.wait()
        tags = [f"{{{self._namespace}:{number}}}" for number in range(self._partitions)]
        bells = "" if self._place.is_cluster else f"{{{self._namespace}}}"
        self._keys = [Keys(tag, bells) for tag in tags]
        self._stores: list[MailboxStore] = [
            _Store(self._client, tag, bells=bells, replicas=self._replicas) for tag in tags
        ]
        self._producer = f"{self._node}.{uuid7()}"
        self.address = Address(f"{NODES}{self._producer}")
        self.bind(self.address, _Answers(self))
        self._outbounds: dict[int, Outbound] = {}
        self._joined = asyncio.Event()
        try:
            await self._join()
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await self._end()
            if isinstance(error, RedisError | OSError):
                raise TransportLost(f"{mask(self.url)} does not answer: {error}") from error
            raise

    async def close(self) -> None:
        if self._closed or not hasattr(self, "_host"):
            self._closed = True
            return
        self._paused = self._closed = True
        with anyio.move_on_after(5.0):
            await self._leave()
        self._lease.stop()
        await self._end()

    async def _host_tasks(self, started: asyncio.Event) -> None:
        """The tasks of the transport, in one of their own, as they begin in `open` and end in `close`."""
        try:
            async with anyio.create_task_group() as self._tasks:
                started.set()
                await anyio.sleep_forever()
        finally:
            for hosted in list(self._hosted.values()):  # none, but where one of the tasks has failed
                hosted.lose()
            self._closed = True

    async def _end(self) -> None:
        self._tasks.cancel_scope.cancel()
        try:
            await self._host
        finally:
            await self._client.aclose()
            await self._bells.aclose()

    async def _join(self) -> None:
        """Begin an incarnation."""
        await self._agree()
        name = f"{self._node}.{uuid7()}"
        self._lease = Lease(
            partial(self._place.primaries, [keys.nodes for keys in self._keys], self._beat),
            name,
            seconds=self._lease_time,
            every=self._beat,
            lost=self._lost,
        )
        await anyio.to_thread.run_sync(self._lease.start)
        self._readers: dict[int, Reader] = {}
        self._is_lost = asyncio.Event()
        await self._tasks.start(self._live)
        self._joined.set()
        await self._claim_own()
        await anyio.sleep(self._settle_time)
        await self._look_around()

    async def _agree(self) -> None:
        """See to it that the namespace is laid out as it is here. Raises `Refused`."""
        ours = Config(self._partitions, VERSION)
        async with asyncio.timeout(TIMEOUT):
            theirs = await config_of(self._client, self._namespace, create=ours)
        if theirs is None or theirs == ours:
            return
        from transport.redis.check import Refused  # which is made of this

        where = f"the namespace {self._namespace} on {mask(self.url)}"
        if theirs.version != ours.version:
            raise Refused(
                f"{where} has keys of version {theirs.version}, and this is made for version {ours.version}: "
                "install what its other nodes have, or take another namespace"
            )
        raise Refused(
            f"{where} has {theirs.partitions} partitions, which is for good, and {ours.partitions} are asked for: "
            f"ask for {theirs.partitions}, or take another namespace"
        )

    async def _look_around(self) -> None:
        async with asyncio.timeout(TIMEOUT):
            names: list[bytes] = await self._client.zrange(self._keys[0].nodes, 0, -1)  # type: ignore[assignment]
        self._nodes = [name.decode() for name in names]

    async def _claim_own(self) -> None:
        """The mailbox for answers stays the same; it may have to be taken over from the incarnation before."""
        while not self._closed:
            try:
                await self.claim(self.address)
                break
            except AddressInUse:
                await self.vacant(self.address)

    async def _live(self, *, task_status: TaskStatus[None]) -> None:
        """What goes on for as long as the incarnation lasts; and then the next one."""
        async with anyio.create_task_group() as self._life:
            for task in (self._watch, self._reconcile):
                self._life.start_soon(task)
            if not self._place.is_cluster:
                self._life.start_soon(self._listen, self._keys[0].bell(self._lease.node))
            task_status.started()
            await self._is_lost.wait()
            self._lose_all()
            self._life.cancel_scope.cancel()
        self._tasks.start_soon(self._join_again)

    async def _leave(self) -> None:
        """Hand over what is here, and say so."""
        for event in list(self._retiring.values()):
            await event.wait()
        if self._answering:
            self._answered = anyio.Event()
            await self._answered.wait()
        for address, hosted in list(self._hosted.items()):
            del self._hosted[address]
            if address == self.address:
                hosted.bury(hosted.inlet)
                await self._bury(hosted)
            else:
                await self._hand_over(hosted)
        with suppress(RedisError, OSError):
            for store in self._stores:
                await store.leave(self._lease.node)

    def _lose_all(self) -> None:
        """The lease is over: what was ours is somebody else's."""
        self._joined.clear()
        hosted, self._hosted = self._hosted, {}
        for each in hosted.values():
            each.lose()

    def _lost(self) -> None:
        """The thread of the lease says that it is over."""
        self._loop.call_soon_threadsafe(self._is_lost.set)

    async def _join_again(self) -> None:
        pause = 0.05
        while not self._closed:
            try:
                await self._join()
                return
            except (RedisError, OSError):
                await anyio.sleep(pause)
                pause = min(2 * pause, 1.0)

    # Addresses -------------------------------------------------------------------------------------------

    def bind(self, address: Address, inlet: Inlet) -> None:
        if self._inlets.setdefault(address, inlet) is not inlet:
            raise AddressInUse(f"{address} is in use: choose another name, or stop that actor first")
        self._at_once.add(address)  # until it is claimed, nobody else knows of it

    async def claim(
        self, address: Address, capacity: int = 10_000, overflow: Overflow = Overflow.BLOCK,
        program: str = "", durable: bool = True, lost: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self._at_once.discard(address)  # as it may live elsewhere, where its mail has to go
        self._claiming.add(address)
        try:
            if (retiring := self._retiring.get(address)) is not None:
                await retiring.wait()
            lease = None
            while lease is not self._lease:  # it may be lost meanwhile, and the claim with it
                await self._joined.wait()
                lease = self._lease
                claim = await self._try(
                    lambda: self._store(address).claim(self._lease.node, address, capacity, overflow, program)
                )
        finally:
            self._claiming.discard(address)
        if claim is None:
            raise AddressInUse(f"{address} lives in another process: choose another name, or stop that actor first")
        if address not in self._inlets:
            raise AddressInUse(f"{address} was given up while it was claimed")  # it is released when that is noticed
        hosted = Hosted(self, address, self._inlets[address], claim, capacity, overflow, lost)
        self._hosted[address] = hosted
        self.changed(hosted)
        if not durable:
            self._at_once.add(address)

    async def _try(self, call: Callable[[], Any]) -> Any:
        """What `call` answers, if need be after some attempts. Raises `TransportLost` where there is no answer."""
        pause, until = 0.05, monotonic() + self._patience
        while True:
            try:
                return await call()
            except (RedisError, OSError, LeaseLost) as error:
                if monotonic() + pause > until or isinstance(error, NoPermissionError | AuthenticationError):
                    raise TransportLost(f"{mask(self.url)} does not answer: {error}") from error
            await anyio.sleep(pause)
            pause = min(2 * pause, 1.0)

    def prefers(self, address: Address) -> bool:
        """The one with the highest of the hashes of address and name (rendezvous hashing, Thaler and Ravishankar)."""
        names = self._nodes or [self._lease.node]
        return max(names, key=lambda name: crc32(f"{name} {address}".encode())) == self._lease.node

    async def vacant(self, address: Address) -> None:
        """Return once `address` has lost its owner, and waits for another."""
        event = self._vacant.setdefault(address, anyio.Event())
        try:
            await event.wait()
        finally:
            self._vacant.pop(address, None)

    def unbind(self, address: Address, buried: Callable[[Envelope], None] = lambda _: None) -> None:
        self._inlets.pop(address, None)
        self._at_once.discard(address)
        hosted = self._hosted.pop(address, None)
        if hosted is not None and not hosted.gone:
            over = self._retiring[address] = anyio.Event()
            if not self._paused:
                hosted.bury(_Grave(buried))
            self._tasks.start_soon(self._give_up, hosted, over)

    async def _give_up(self, hosted: Hosted, over: anyio.Event) -> None:
        """To whoever claims it next where this process ends; else for good, and what is left are dead letters."""
        try:
            with suppress(RedisError, OSError, LeaseLost):
                await (self._bury(hosted) if hosted.is_buried else self._hand_over(hosted))
        finally:
            hosted.release()
            del self._retiring[hosted.address]
            over.set()

    async def _hand_over(self, hosted: Hosted) -> None:
        if hosted.unanswered:  # what has been handled is to be acked
            hosted.all_answered = asyncio.Event()
            await hosted.all_answered.wait()
        store, node = self._store(hosted.address), self._lease.node
        await store.turn(node, [hosted.turn(fetch=False)])
        await store.release(node, [(hosted.address, hosted.epoch)])

    async def _bury(self, hosted: Hosted) -> None:
        while True:
            stopped = await self._store(hosted.address).stop(self._lease.node, hosted.address, hosted.epoch)
            if stopped is None or not stopped.left:
                return
            self.changed(hosted)
            await anyio.sleep(0.01)  # until it has been read, settled and acked

    # Sending ---------------------------------------------------------------------------------------------

    def offer_to(self, address: Address) -> Offer:
        """At once where the mailbox is not durable; else the server has to say that it has it."""
        return self._inlets[address].offer if address in self._at_once else unknown

    async def send(self, envelope: Envelope) -> None:
        """As `Transport.send`. Raises also `CodecError` and `MessageTooLarge`: the message was not sent."""
        target = envelope.target
        if self._closed:
            raise TransportClosed(f"the transport is closed; {target} was not reached")
        if target in self._at_once:
            return await self._inlets[target].put(envelope)
        reply_to = None
        if envelope.reply is not None:
            reply_to = self.address
            self._expect(envelope, envelope.reply)
        frame = self.wire.encode(envelope, now=self.now(), reply_to=reply_to)
        sent = await self._post(envelope, frame)
        if sent.answer is Sending.FULL:
            sent = await self._wait_for_room(envelope, frame, sent.depth)
        if sent.answer is Sending.NOBODY:
            raise ActorNotFound(f"no actor lives at {target}", envelope)
        if sent.answer is Sending.STOPPED:
            raise ActorStopped(f"{target} has stopped", envelope)
        if sent.answer is Sending.REJECTED:
            raise MailboxFull(f"{target} is full: {sent.depth} messages wait", envelope, depth=sent.depth)
        return None

    async def _post(self, envelope: Envelope, frame: bytes) -> Sent:
        """What the server says. Raises `DeliveryUnknown`, or `DeliveryError` where it has nothing of it for certain."""
        outbound = self._outbound(envelope.target)
        answer = self._loop.create_future()
        waiting = outbound.post(envelope.target, envelope.priority + 1, frame, envelope.deadline, answer)
        try:
            sent: Sent | Unsent = await answer
        except BaseException:
            outbound.withdraw(waiting)
            raise
        if isinstance(sent, Sent):
            return sent
        server = mask(self.url)
        if sent.may_be_there:
            raise DeliveryUnknown(f"no word from {server} about a message to {envelope.target}", envelope)
        raise DeliveryError(f"{server} does not take a message to {envelope.target}: {sent.error}", envelope)

    async def _wait_for_room(self, envelope: Envelope, frame: bytes, depth: int) -> Sent:
        """One sender at a time asks whether there is room again; the others wait for their turn."""
        target, pause = envelope.target, 0.005
        lock = self._room.setdefault(target, anyio.Lock())
        with anyio.CancelScope(deadline=inf if envelope.deadline is None else envelope.deadline):
            try:
                async with lock:
                    while True:
                        sent = await self._post(envelope, frame)
                        if sent.answer is not Sending.FULL:
                            return sent
                        depth = sent.depth
                        await anyio.sleep(pause)
                        pause = min(2 * pause, 0.1)
            finally:
                if not lock.locked():
                    self._room.pop(target, None)
        raise MailboxFull(f"{target} had no room within the ttl: {depth} messages wait", envelope, depth=depth)

    def _outbound(self, address: Address) -> Outbound:
        number = self._partition(address)
        outbound = self._outbounds.get(number)
        if outbound is None:
            outbound = Outbound(self._stores[number], self._producer, self._loop, self._patience)
            self._outbounds[number] = outbound
            self._tasks.start_soon(outbound.run)
        return outbound

    def _partition(self, address: Address) -> int:
        return crc32(address.encode()) % self._partitions

    def _store(self, address: Address) -> MailboxStore:
        return self._stores[self._partition(address)]

    # Answers ---------------------------------------------------------------------------------------------

    def _expect(self, envelope: Envelope, reply: Reply) -> None:
        id_, expected = envelope.id, self._expected
        expected[id_] = weakref.ref(reply, lambda _: expected.pop(id_, None)), type(envelope.message)

    def answer(self, delivery: Delivery, result: Any) -> bool:
        """As `hosted.Node.answer`."""
        envelope, to = delivery.envelope, delivery.reply_to
        assert envelope is not None
        assert to is not None
        if to == self.address:
            self._resolve(envelope.id, lambda _: result)
            return True
        is_ask = envelope.reply_by != inf
        made = answer(self.wire, envelope.id, type(envelope.message), result, is_ask=is_ask)
        try:
            frame = self._frame(made, to, envelope)
        except Exception as error:  # noqa: BLE001  # the value is too large
            failed = Failed(CodecError(str(error)), Outcome("handled", "too large"))
            frame = self._frame(
                answer(self.wire, envelope.id, type(envelope.message), failed, is_ask=is_ask), to, envelope
            )
        self._answering += 1
        self._outbound(to).post(to, 0, frame, None, _Told(self, delivery))
        return False

    def _frame(self, made: Answer, to: Address, request: Envelope) -> bytes:
        envelope = Envelope(
            made, to, CONTROL, request.target, request.correlation_id, request.id, traceparent=request.traceparent
        )
        return self.wire.encode(envelope, now=0.0)

    def told(self, delivery: Delivery) -> None:
        """The answer has reached the asker's mailbox, or never will."""
        self._answering -= 1
        if not self._answering and self._answered is not None:
            self._answered.set()
        delivery.answered()

    def _resolve(self, to: str, result: Callable[[type], Any]) -> None:
        reference, kind = self._expected.pop(to, (None, Answer))
        reply = reference() if reference is not None else None
        if reply is not None and not reply.done():
            reply.set_result(result(kind))

    def answered(self, made: Answer) -> None:
        """An answer has come in."""
        self._resolve(made.to, lambda kind: result_of(self.wire, kind, made))

    # Receiving -------------------------------------------------------------------------------------------

    def owns(self) -> bool:
        return not self._lease.over

    def changed(self, hosted: Hosted) -> None:
        """As `hosted.Node.changed`."""
        if not hosted.gone:
            self._reader(hosted).look_at(hosted)

    def settled(self, hosted: Hosted) -> None:
        """As `hosted.Node.settled`."""
        if not hosted.gone:
            self._reader(hosted).look_later_at(hosted)

    def _reader(self, hosted: Hosted) -> Reader:
        number = self._partition(hosted.address)
        reader = self._readers.get(number)
        if reader is None:
            reader = self._readers[number] = Reader(self._stores[number], self._lease.node, self._loop)
            self._life.start_soon(reader.run)
            if self._place.is_cluster:  # where one call cannot wait for the bells of two partitions
                self._life.start_soon(self._listen, self._keys[number].bell(self._lease.node))
        return reader

    def room(self, hosted: Hosted) -> int:
        """As `hosted.Node.room`. Answers are always let in: they end what is in hand."""
        if hosted.address == self.address or hosted.is_buried:
            return MOST
        return 0 if self._paused else MOST_IN_HAND - self._in_hand

    def took(self, count: int) -> None:
        """As `hosted.Node.took`."""
        was_full = self._in_hand >= MOST_IN_HAND
        self._in_hand += count
        if was_full and self._in_hand < MOST_IN_HAND:
            self._sweep()  # those who wanted more had to wait

    def feed(self, hosted: Hosted) -> None:
        self._tasks.start_soon(hosted.feed)

    async def drain(self, address: Address, deadline: float) -> None:
        hosted = self._hosted.get(address)
        if hosted is None or self._paused:
            return
        with anyio.CancelScope(deadline=deadline):
            stopped = await self._try(lambda: self._store(address).stop(self._lease.node, address, hosted.epoch))
            if stopped is None:
                hosted.lose()
            elif not stopped.left:
                hosted.release()
            else:
                hosted.drained = self._loop.create_future()
                self.changed(hosted)
                await hosted.drained

    def tried(self, envelope: Envelope) -> None:
        delivery = envelope.reply
        if isinstance(delivery, Delivery) and not delivery.hosted.gone:
            delivery.hosted.tried(delivery, envelope.attempt - 1)

    async def pause(self) -> None:
        self._paused = True

    def keeps(self, envelope: Envelope) -> bool:
        reply = envelope.reply
        if type(reply) is not Delivery:
            return False
        return not reply.hosted.is_ours or (self._paused and not reply.hosted.is_buried)

    async def _listen(self, bell: str) -> None:
        """Wait for a bell."""
        while True:
            try:
                async with asyncio.timeout(2 * BLOCK):
                    rung = await self._bells.execute_command(  # type: ignore[no-untyped-call]
                        "BZMPOP", BLOCK, 1, bell, "MIN", "COUNT", MOST
                    )
                for address, _ in rung[1] if rung else ():
                    hosted = self._hosted.get(address.decode())
                    if hosted is not None:
                        self.changed(hosted)
            except (RedisError, OSError):
                self._sweep()  # bells may have been lost with the connection
                await anyio.sleep(0.1)

    def _sweep(self) -> None:
        for hosted in self._hosted.values():
            self.changed(hosted)

    async def _watch(self) -> None:
        """Show that the loop lives, and end what has no lease any more."""
        swept = monotonic()
        while True:
            self._lease.alive = now = monotonic()
            if self._lease.over:
                self._lease.end()
                self._is_lost.set()
            if now - swept > SWEEP:
                swept = now
                self._sweep()
            await anyio.sleep(min(1.0, self._lease_time / 10))

    async def _reconcile(self) -> None:
        """Look after all partitions, one after the other, whatever node their mailboxes belong to."""
        strays: dict[MailboxStore, set[str]] = {}
        while True:
            with suppress(RedisError, OSError):
                await self._look_around()
            for store in self._stores:
                await anyio.sleep(RECONCILE / len(self._stores))
                with suppress(RedisError, OSError, LeaseLost):
                    chores = await store.tend(self._lease.node, self._grace)
                    if chores.due:
                        await store.due()
                    if chores.expired:
                        await store.reap(self._grace)
                        chores = await store.tend(self._lease.node, self._grace)
                    for address in chores.orphans:
                        self._seen_without_owner(Address(address))
                    strays[store] = await self._give_back(store, chores.owned, strays.get(store, set()))

    def _seen_without_owner(self, address: Address) -> None:
        if (vacant := self._vacant.get(address)) is not None:
            vacant.set()
        elif address.startswith(NODES) and address not in self._inlets:
            now = monotonic()
            since, seen = self._ownerless.get(address, (now, now))
            if now - seen > 10 * RECONCILE:
                since = now  # it had an owner in between
            self._ownerless[address] = since, now
            if now - since > ABANDONED:  # nobody waits for these answers any more
                del self._ownerless[address]
                self.bind(address, _Answers(self))
                self._tasks.start_soon(self._clear, address)

    async def _clear(self, address: Address) -> None:
        with suppress(AddressInUse, TransportLost):
            await self.claim(address)
            await self.drain(address, self.now() + self._lease_time)
        self.unbind(address)

    async def _give_back(self, store: MailboxStore, owned: set[str], strays: set[str]) -> set[str]:
        """Release what is owned and not hosted, as the reply to a claim was lost. Returns what may be so."""
        node = self._lease.node
        known = self._hosted.keys() | self._retiring.keys() | self._claiming
        found = owned - known
        for address in found & strays:
            claim = await store.claim(node, address, 1)
            if claim is not None:
                await store.release(node, [(address, claim.epoch)])
        return found


class Reader:
    """Turns for the mailboxes of one partition: one call on its way, for all that have something to ack or to ask."""

    def __init__(self, store: MailboxStore, node: str, loop: asyncio.AbstractEventLoop) -> None:
        self._store, self._node, self._loop = store, node, loop
        self._changed: dict[Hosted, None] = {}
        self._later: dict[Hosted, None] = {}
        self._more: asyncio.Future[None] | None = None

    def look_later_at(self, hosted: Hosted) -> None:
        """With the next turn, or soon: most acks travel along with the next fetch."""
        self._later[hosted] = None
        if len(self._later) == 1:
            self._loop.call_later(ACK_WITHIN, self._look_now)

    def _look_now(self) -> None:
        later, self._later = self._later, {}
        for hosted in later:
            self.look_at(hosted)

    def look_at(self, hosted: Hosted) -> None:
        self._changed[hosted] = None
        if self._more is not None and not self._more.done():
            self._more.set_result(None)

    async def run(self) -> None:
        while True:
            if not self._changed:
                self._more = self._loop.create_future()
                await self._more
            batch = [hosted for hosted in list(self._changed)[:MOST] if not hosted.gone]
            for hosted in list(self._changed)[:MOST]:
                del self._changed[hosted]
            turns = [hosted.turn() for hosted in batch]
            try:
                answers = await self._store.turn(self._node, turns)
            except LeaseLost:
                return  # whoever watches the lease sees it too
            except (RedisError, OSError):
                self._changed = {**dict.fromkeys(batch), **self._changed}
                await anyio.sleep(0.1)
                continue
            for hosted, turn, fetched in zip(batch, turns, answers, strict=True):
                if fetched is None:
                    hosted.lose()
                else:
                    hosted.answered(turn, fetched)
                    if fetched.more and not fetched.mails:  # those before it had too much: now it is first
                        self._changed = {hosted: None, **self._changed}


class _Store(RedisStore):
    """Waits no longer than `TIMEOUT` for the server.

    Not by redis-py's own timeout: that makes a task of each write, which on Python 3.11 may swallow a cancellation.
    """

    async def _do(self, *command: Any) -> Any:
        async with asyncio.timeout(TIMEOUT):
            return await super()._do(*command)

    async def _do_and_wait(self, *command: Any) -> tuple[Any, int]:
        async with asyncio.timeout(TIMEOUT):
            return await super()._do_and_wait(*command)


class _Answers:
    """The inlet of the node's own mailbox: answers to what was sent from here."""

    def __init__(self, transport: RedisTransport) -> None:
        self._transport = transport

    def offer(self, envelope: Envelope) -> bool:
        if isinstance(envelope.message, Answer):
            self._transport.answered(envelope.message)
        elif isinstance(envelope.message, Drain):
            self._transport.drained()
        assert envelope.reply is not None
        envelope.reply.set_result(None)
        return True

    async def put(self, envelope: Envelope) -> None:
        self.offer(envelope)


class _Grave:
    """The inlet of an actor that has ended: whatever comes is a dead letter."""

    def __init__(self, buried: Callable[[Envelope], None]) -> None:
        self._buried = buried

    def offer(self, envelope: Envelope) -> bool:
        self._buried(envelope)
        return True

    async def put(self, envelope: Envelope) -> None:
        self.offer(envelope)


class _Told:
    """Where it says whether an answer has reached its mailbox."""

    def __init__(self, transport: RedisTransport, delivery: Delivery) -> None:
        self._transport, self._delivery = transport, delivery

    def done(self) -> bool:
        return False

    def set_result(self, _: Any) -> None:
        self._transport.told(self._delivery)
