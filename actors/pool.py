"""Pools: several actors of one class behind one address, and how a message finds the one for it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

from actors.actor import Actor
from actors.errors import AskCycle
from actors.supervision import Placement
from actors.supervisor import ChildSpec, Supervisor
from transport.base import Inlet
from transport.envelope import Envelope, Undecodable
from transport.errors import ActorStopped

if TYPE_CHECKING:
    from actors.cell import Cell

A = TypeVar("A", bound=Actor)
_64_BITS: Final = (1 << 64) - 1

Route = Callable[[Envelope, "Sequence[Cell]"], "Cell"]
"""Picks one of the workers that take mail, of which there is at least one, for an envelope."""
Routing = Callable[[], Route]
"""Makes the `Route` of one pool."""


def round_robin() -> Route:
    """Each worker in turn."""
    turn = -1

    def route(envelope: Envelope, workers: Sequence[Cell]) -> Cell:
        nonlocal turn
        workers = _free(envelope, workers)
        turn = (turn + 1) % len(workers)
        return workers[turn]

    return route


def least_loaded() -> Route:
    """The worker with the fewest messages in hand and waiting; among equals each in turn."""
    in_turn = round_robin()

    def route(envelope: Envelope, workers: Sequence[Cell]) -> Cell:
        workers = _free(envelope, workers)
        least = min(worker.load() for worker in workers)
        return in_turn(envelope, [worker for worker in workers if worker.load() == least])

    return route


def consistent_hash(key: Callable[[Any], Hashable]) -> Routing:
    """The same worker for the same ``key(message)``, also in another process and after a restart.

    Rendezvous hashing (Thaler and Ravishankar, 1998): a worker that goes moves its own keys and no others,
    one more than n takes 1/(n + 1) of the keys. Keys are compared by their `repr`, so use strings, numbers
    or tuples of them.
    """

    def routing() -> Route:
        def route(envelope: Envelope, workers: Sequence[Cell]) -> Cell:
            digest = _digest(repr(key(envelope.message)))
            return max(workers, key=lambda worker: digest * _multiplier(worker.address.name) & _64_BITS)

        return route

    return routing


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


@lru_cache(maxsize=1024)
def _multiplier(worker: str) -> int:
    """The odd 64-bit number that gives a worker its own order of all keys; 0.1 µs where a digest is 1."""
    return _digest(worker) | 1


def _free(envelope: Envelope, workers: Sequence[Cell]) -> Sequence[Cell]:
    """The workers that do not themselves wait for the answer, where there are any."""
    if not envelope.chain:
        return workers
    return [worker for worker in workers if worker.address not in envelope.chain] or workers


class Pool(Supervisor):
    """A supervisor of `size` equal workers. Mail for its address goes to a worker's mailbox directly."""

    def __init__(self, worker: ChildSpec[Any], size: int, routing: Routing, **supervision: Any) -> None:
        super().__init__(**supervision)
        self._worker = worker
        self._size = size
        self.routing = routing

    def children(self) -> Sequence[ChildSpec[Any]]:
        """The workers, named 1 to `size`."""
        return [self._worker.named(str(number)) for number in range(1, self._size + 1)]

    @classmethod
    def _inlet(cls, cell: Cell) -> Inlet:
        return Router(cell, cell.spec.args[2]())


class Router:
    """The `Inlet` of a pool: hands each envelope to the inlet of one worker, in the sender's turn."""

    def __init__(self, pool: Cell, route: Route) -> None:
        self._pool = pool
        self._route = route
        self._routed: tuple[Envelope, Cell] | None = None

    def offer(self, envelope: Envelope) -> bool:
        """Accept now if the chosen worker does; otherwise `put` goes to that same worker."""
        worker = self._worker_for(envelope)
        if worker is not None and worker.inlet.offer(envelope):
            return True
        self._routed = None if worker is None else (envelope, worker)
        return False

    async def put(self, envelope: Envelope) -> None:
        """Accept as the chosen worker does. Raises `ActorStopped` where there is none to choose."""
        routed, self._routed = self._routed, None
        worker = routed[1] if routed is not None and routed[0] is envelope else self._worker_for(envelope)
        if worker is None:
            raise ActorStopped(f"the pool {self._pool.address} has no worker that takes mail", envelope)
        await worker.inlet.put(envelope)

    def _worker_for(self, envelope: Envelope) -> Cell | None:
        """The worker to take it, None where none does. Raises `AskCycle` where it waits for this ask itself."""
        pool = self._pool
        if pool.instance is None or pool.mailbox.closed:
            return None
        workers = [worker for worker in pool.children.cells.values() if not worker.mailbox.closed]
        if not workers:
            return None
        worker = workers[0] if isinstance(envelope.message, Undecodable) else self._route(envelope, workers)
        if worker.address in envelope.chain:
            raise AskCycle(" waits for ".join([*envelope.chain, pool.address]))
        return worker


def pool_of(
    actor: type[A],
    /,
    *args: Any,
    size: int,
    routing: Routing = round_robin,
    name: str | None = None,
    intensity: int | None = None,
    period: float | None = None,
    placement: Placement = Placement.HERE,
    **options: Any,
) -> ChildSpec[Pool]:
    """The recipe for a pool of `size` workers of one class.

    `intensity` and `period` as of a supervisor, by default `size` times the restarts of one actor; `placement` is
    the pool's, with all its workers; the other options are those of each worker. Raises `ValueError` where `size`
    is under 1.
    """
    if size < 1:
        raise ValueError(f"a pool of {size} {actor.__name__}: at least 1")
    worker = ChildSpec(actor, *args, **options)
    intensity = Pool.intensity * size if intensity is None else intensity
    return ChildSpec(Pool, worker, size, routing, name=name, intensity=intensity, period=period, placement=placement)
