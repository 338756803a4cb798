"""`Children`: the actors below another, in start order, and what happens when one of them ends."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import anyio

from actors.actor import Actor
from actors.errors import RestartIntensityExceeded, SpawnError
from actors.events import ActorOverdue, ActorRestarted, SupervisorGaveUp, describe
from actors.pool import Pool, pool_of
from actors.ref import ActorRef
from actors.supervision import AutoShutdown, Exit, Placement, Restart, RestartWindow, Strategy, affected, restarts
from actors.supervisor import ChildSpec, Supervisor
from transport.address import Address
from transport.errors import AddressInUse, TransportLost
from transport.eventloop import Task

if TYPE_CHECKING:
    from actors.cell import Cell
    from actors.system import ActorSystem

A = TypeVar("A", bound=Actor)

HEAD_START: Final = (
    0.5  # seconds for the process that is to have an address; by then it has claimed it, or is not there
)


class Owner(Protocol):
    """Whom a failure escalates to, and who may finish because its children have."""

    def fail(self, error: BaseException, /) -> None: ...
    def finish(self) -> None: ...


class Children:
    """The children of one actor in start order, and what happens when one of them ends.

    Decisions are made by the pure rules of `actors.supervision`; here is only their effect.
    """

    def __init__(
        self, system: ActorSystem, address: Address, owner: Owner,
        strategy: Strategy = Strategy.ONE_FOR_ONE, intensity: int = 3, period: float = 5.0,
        auto_shutdown: AutoShutdown = "never",
    ) -> None:  # fmt: skip
        self.address = address
        self.cells: dict[Address, Cell] = {}
        self._system = system
        self._owner = owner
        self._strategy = strategy
        self._auto_shutdown = auto_shutdown
        self._window = RestartWindow(intensity, period)
        self._one_group_at_a_time = anyio.Lock() if strategy is not Strategy.ONE_FOR_ONE else nullcontext()
        self._recovering: set[Cell] = set()
        self._closing = False
        self._stopping: anyio.Event | None = None
        """Made where a delay has to end with it."""
        self._made = 0
        self._standing_by: dict[Address, Task] = {}

    # Starting --------------------------------------------------------------------------------------------

    async def start(self, spec: ChildSpec[A]) -> ActorRef[A]:
        """Start a child and add it. Raises `SpawnError` (the cause is chained), `AddressInUse`, `ValueError`."""
        if self._system.turn_is_long():
            await self._system.loop.checkpoint()
        address = self.free_address(spec.actor) if spec.name is None else self.address.child(spec.name)
        if spec.placement is Placement.HERE:
            return await self._start(spec, address)
        if self._system.transport.prefers(address):
            try:
                return await self._start(spec, address)
            except AddressInUse:
                if address in self._system.cells:
                    raise
        self._stand_by(spec, address, HEAD_START)
        return ActorRef(self._system, address)

    async def _start(self, spec: ChildSpec[A], address: Address) -> ActorRef[A]:
        if self._closing:
            raise SpawnError(f"{self.address} is stopping and starts no {spec.actor.__name__}")
        cell = self._system.admit(spec, address, self)
        try:
            mailbox, program = cell.mailbox, spec.actor.__qualname__
            await self._system.transport.claim(
                address, mailbox.capacity, mailbox.overflow, program, spec.durable, cell.lose
            )
            if self._closing:
                raise SpawnError(f"{self.address} has stopped meanwhile and starts no {spec.actor.__name__}")
        except BaseException:
            self._system.forget(cell)
            raise
        self.cells[address] = cell
        try:
            exit = await cell.start()  # noqa: A001
        except BaseException:
            cell.kill()
            raise
        if exit is not None:
            self._bury(cell, exit)
            why = describe(exit.error) if exit.reason == "failed" else exit.reason
            raise SpawnError(f"{spec.actor.__name__} at {cell.address} did not start: {why}") from exit.error
        return cell.ref

    def _stand_by(self, spec: ChildSpec[Any], address: Address, within: float) -> None:
        """Start it here in `within` seconds if nobody else has, and else as soon as whoever has it is gone."""
        if not self._closing:
            task = self._system.loop.start(partial(self._take_over, spec, address, within), address)
            self._standing_by[address] = task

    async def _take_over(self, spec: ChildSpec[Any], address: Address, within: float) -> None:
        transport = self._system.transport
        with anyio.move_on_after(within):
            await transport.vacant(address)
        while True:
            if not transport.prefers(address):
                await anyio.sleep(HEAD_START)
            try:
                await self._start(spec, address)
                break
            except (AddressInUse, TransportLost):
                await transport.vacant(address)
            except SpawnError as error:
                self._owner.fail(error)
                break
        self._standing_by.pop(address, None)

    @property
    def stands_by(self) -> bool:
        """Whether a child that lives elsewhere is to be started here when it no longer does."""
        return bool(self._standing_by)

    def lost(self, cell: Cell) -> None:
        """The address has gone to another process. What runs here ends, and has no effect any more."""
        cell.kill()
        if cell.spec.placement is Placement.ANYWHERE:
            self._stand_by(cell.spec, cell.address, inf)

    async def spawn(self, actor: type[A], /, *args: Any, **options: Any) -> ActorRef[A]:
        """Start an actor with the options of `ChildSpec`."""
        return await self.start(ChildSpec(actor, *args, **options))

    async def supervise(self, *children: ChildSpec[Any], **options: Any) -> ActorRef[Supervisor]:
        """Start a supervisor. It is TRANSIENT: what has finished by itself is not restarted."""
        return await self.start(ChildSpec(Supervisor, *children, **{"restart": Restart.TRANSIENT, **options}))

    async def pool(self, actor: type[A], /, *args: Any, **options: Any) -> ActorRef[A]:
        """Start a pool; the reference takes what its workers take."""
        pool: ActorRef[Pool] = await self.start(pool_of(actor, *args, **options))
        return pool  # type: ignore[return-value]

    def free_address(self, actor: type[Actor]) -> Address:
        """An address for an actor that was given no name."""
        while True:
            self._made += 1
            address = self.address.child(f"{actor.__name__.lower()}-{self._made}")
            if address not in self.cells:
                return address

    # When one ends ---------------------------------------------------------------------------------------

    def exited(self, cell: Cell, exit: Exit) -> None:  # noqa: A002
        """An incarnation of `cell` has ended, or the cell is told to end while none runs."""
        if self.cells.get(cell.address) is not cell:
            return
        if self._closing or self._system.failing or {exit.reason, cell.order} & {"stopped", "killed"}:
            self._bury(cell, exit)  # an ordered end is never undone, also where it ended in a failure
        elif cell in self._recovering:
            return  # the group it belongs to is being restarted, and it with them
        elif not restarts(cell.spec.restart, exit):
            self._bury(cell, exit)
            self._consider_finishing(cell)
        elif self.may_restart():
            self._system.loop.start(partial(self._recover, cell, exit), cell.address)
        else:
            self._give_up(cell, exit)

    def may_restart(self) -> bool:
        """Count one more restart; False where it is one too many."""
        return self._window.allows(self._system.now())

    async def _recover(self, failed: Cell, exit: Exit) -> None:  # noqa: A002
        """Restart `failed`, and whom the strategy says: stop right to left, start left to right."""
        async with self._one_group_at_a_time:
            if failed.task is not None or self._gone(failed):
                return  # a sibling's failure has taken care of it meanwhile
            group = affected(self._strategy, list(self.cells.values()), failed)
            self._recovering.update(group)
            try:
                for cell in reversed(group):
                    if cell.task is not None:
                        await self._end(cell, cell.leave, cell.interrupt, cell.spec.shutdown, self._system.now())
                    if cell.spec.restart is Restart.TEMPORARY:
                        self._bury(cell, Exit("stopped"))
                await self._delay(failed, group, exit)
                for cell in group:
                    if self._gone(cell) or cell.task is not None:
                        continue
                    self._recovering.discard(cell)
                    ended = await cell.start()
                    if ended is not None:
                        self.exited(cell, ended)
                        if ended.reason == "failed":
                            return  # its own recovery goes on with the rest of the group
            finally:
                self._recovering.difference_update(group)

    async def _delay(self, failed: Cell, group: list[Cell], exit: Exit) -> None:  # noqa: A002
        now, backoff, delay = self._system.now(), failed.spec.backoff, 0.0
        if backoff is not None:
            if now - failed.failed_at >= backoff.forgets_after():
                failed.failures = 0
            failed.failures += 1
            delay = backoff.delay(failed.failures)
        failed.failed_at = now + delay
        for cell in group:
            if not self._gone(cell):
                self._system.publish(ActorRestarted, cell.address, delay, exit.error if cell is failed else None)
        if delay:
            self._stopping = self._stopping or anyio.Event()
            with anyio.move_on_after(delay):
                await self._stopping.wait()

    def _gone(self, cell: Cell) -> bool:
        return self._closing or self.cells.get(cell.address) is not cell

    def _consider_finishing(self, cell: Cell) -> None:
        if cell.spec.significant and (
            self._auto_shutdown == "any_significant"
            or (self._auto_shutdown == "all_significant" and not any(c.spec.significant for c in self.cells.values()))
        ):
            self._owner.finish()

    def _give_up(self, cell: Cell, exit: Exit) -> None:  # noqa: A002
        self.close()
        error = RestartIntensityExceeded(
            f"{self.address}: more than {self._window.intensity} restarts in {self._window.period} s, "
            f"the last because {cell.address} {exit.reason}{f': {describe(exit.error)}' if exit.error else ''}"
        )
        error.__cause__ = exit.error
        self._system.publish(SupervisorGaveUp, self.address, error)
        self._bury(cell, exit)

        async def stop_all_then_fail() -> None:
            await self.stop()
            self._owner.fail(error)

        self._system.loop.start(stop_all_then_fail, self.address)

    def _bury(self, cell: Cell, exit: Exit) -> None:  # noqa: A002
        if self.cells.get(cell.address) is cell:
            del self.cells[cell.address]
            cell.bury(exit)

    # Stopping --------------------------------------------------------------------------------------------

    async def stop(self, *, now: bool = False) -> None:
        """Stop all children, the last started first, each within its shutdown time; `now`: kill them."""
        self.close()
        if now:
            self.kill()
        for cell in reversed(list(self.cells.values())):
            await self.stop_child(cell)

    def close(self) -> None:
        """Start and restart nothing any more."""
        self._closing = True
        for task in self._standing_by.values():
            task.cancel()
        self._standing_by.clear()
        if self._stopping is not None:
            self._stopping.set()

    async def stop_child(self, cell: Cell, timeout: float | None = None) -> None:
        """Drain and stop one child within `timeout` seconds (None: its own shutdown time), then kill it."""
        within, began = cell.spec.shutdown if timeout is None else timeout, self._system.now()
        await self._system.transport.drain(cell.address, began + within)
        await self._end(cell, cell.stop, cell.kill, within, began)
        self._bury(cell, Exit("stopped"))

    def kill(self) -> None:
        """Kill all children."""
        for cell in reversed(list(self.cells.values())):
            cell.kill()

    async def _end(
        self, cell: Cell, tell: Callable[[], None], insist: Callable[[], None], within: float, began: float
    ) -> None:
        """End the running incarnation: tell it, wait until `within` seconds after `began`, then insist."""
        tell()
        await cell.wait_ended(began + within)
        if cell.task is not None and cell.order != "killed":
            self._system.publish(ActorOverdue, cell.address, within)
            insist()
        await cell.wait_ended(inf)
