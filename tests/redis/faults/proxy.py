"""`Proxy`: a network between clients and a server that does what networks do."""

from __future__ import annotations

from types import TracebackType
from typing import Literal, NamedTuple, Self

import anyio
from anyio.abc import SocketAttribute, SocketStream

Way = Literal["up", "down"]


class Cut(NamedTuple):
    """Cuts the connection on which `marker` is seen next, `after` bytes later, counted in the direction `way`.

    Counted is from the start of what is read together with the marker, or of what comes next in the other direction:
    after 0 bytes down, the server has done what it was asked and its answer is swallowed.
    """

    marker: bytes
    way: Way
    after: int


class Proxy:
    """``async with Proxy(port) as proxy``: forwards what comes to `proxy.port` to a server of this machine."""

    def __init__(self, to: int) -> None:
        self._to = to
        self.delay = 0.0
        """Seconds for which everything is held back, in each direction."""
        self.deaf = False
        """Whether answers are swallowed, and the connections stay as they are."""
        self.cut: Cut | None = None
        """What is yet to be done."""
        self._connections: set[_Connection] = set()

    async def __aenter__(self) -> Self:
        self._listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        self.port = int(self._listener.extra(SocketAttribute.local_port))
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._listener.serve, self._serve)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(None, None, None)
        await self._listener.aclose()

    def drop(self) -> None:
        """Cut all connections that there are."""
        for connection in list(self._connections):
            connection.scope.cancel()

    async def _serve(self, client: SocketStream) -> None:
        try:
            server = await anyio.connect_tcp("127.0.0.1", self._to)
        except OSError:
            await anyio.aclose_forcefully(client)
            return
        connection = _Connection(self, client, server)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)


class _Connection:
    def __init__(self, proxy: Proxy, client: SocketStream, server: SocketStream) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._left: dict[Way, int] = {}
        """How many bytes more are let through, where that is limited."""

    async def run(self) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                self.scope = tasks.cancel_scope
                tasks.start_soon(self._pump, "up", self._client, self._server)
                tasks.start_soon(self._pump, "down", self._server, self._client)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.aclose_forcefully(self._client)
                await anyio.aclose_forcefully(self._server)

    async def _pump(self, way: Way, source: SocketStream, sink: SocketStream) -> None:
        proxy = self._proxy
        try:
            while True:
                data = await source.receive()
                if proxy.cut is not None and proxy.cut.marker in data:
                    self._left[proxy.cut.way] = proxy.cut.after
                    proxy.cut = None
                if proxy.delay:
                    await anyio.sleep(proxy.delay)
                if proxy.deaf and way == "down":
                    continue
                left = self._left.get(way)
                if left is not None:
                    self._left[way] = left - len(data)
                    data = data[:left]
                if data:
                    await sink.send(data)
                if self._left.get(way, 1) <= 0:
                    break
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            pass
        self.scope.cancel()
