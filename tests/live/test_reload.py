"""Reloads: nothing lost, never below full strength, and broken code changes nothing."""

import contextlib
import os
import pathlib
import signal
import socket

import pytest

from tests.apps import versioned
from tests.conftest import LiveServer, StartServer, wait_until
from tests.live.client import Connection, Load, fetch

pytestmark = pytest.mark.live


def write_app(live: LiveServer, source: str) -> None:
    """Replace the application in one step, so that no worker reads half a file."""
    new = live.folder / ".app.new"
    new.write_text(source, "utf-8")
    os.replace(new, live.folder / "app.py")


def wait_version(live: LiveServer, load: Load, version: str, timeout_s: float = 10.0) -> None:
    wait_until(lambda: version in load.versions(), timeout_s, f"version {version} answers")


def test_new_code_under_load(server: StartServer) -> None:
    live = server("app", "-w", "2", source=versioned.good("v1", 0.1))
    with Load(live.port) as load, Connection(live.port) as idle:
        assert idle.exchange().status == 200
        wait_version(live, load, "v1")
        for version in ("v2", "v3"):
            old = set(live.children())
            write_app(live, versioned.good(version, 0.1))
            live.send(signal.SIGHUP)
            wait_version(live, load, version)
            wait_replaced(live, old)
        # The idle connection outlived two generations.
        assert idle.exchange().body.startswith(b"v3 ")
    assert load.losses == []
    assert live.stop() == 0


def wait_replaced(live: LiveServer, old: set[int]) -> None:
    wait_until(lambda: not old & set(live.children()), 10, "the old generation is gone")
    live.wait_children(len(old))


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (versioned.RAISES, "no database today"),
        (versioned.SYNTAX, "SyntaxError"),
        ("import a_module_that_is_not_there", "a_module_that_is_not_there"),
        ("something_else = 1", "something_else"),
    ],
    ids=["raises", "syntax", "import", "attribute"],
)
def test_broken_code_changes_nothing(server: StartServer, broken: str, says: str) -> None:
    live = server("app", "-w", "2", source=versioned.good("v1"))
    workers = set(live.wait_workers(2))
    with Load(live.port) as load:
        wait_version(live, load, "v1")
        write_app(live, broken)
        live.send(signal.SIGHUP)
        live.wait_log(says)
        wait_until(lambda: set(live.children()) == workers, 5, "the old workers and no other")
        write_app(live, versioned.good("v2"))
        live.send(signal.SIGHUP)
        wait_version(live, load, "v2")
    assert load.losses == []
    assert len(live.log()) < 20_000
    assert live.stop() == 0


def test_a_worker_lost_after_a_broken_reload_is_replaced_when_it_can_be(server: StartServer) -> None:
    live = server("app", "-w", "2", source=versioned.good("v1"))
    first = live.wait_workers(2)[0]
    assert fetch(live.port).status == 200
    write_app(live, versioned.RAISES)
    live.send(signal.SIGHUP)
    live.wait_log("no database today")
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: first not in live.children(), 5)
    assert fetch(live.port).body.startswith(b"v1 ")
    write_app(live, versioned.good("v2"))
    live.send(signal.SIGHUP)
    wait_until(lambda: fetch(live.port).body.startswith(b"v2 "), 10)
    live.wait_children(2)
    assert live.process.poll() is None


@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
def test_downloads_of_slow_readers_complete(server: StartServer, tmp_path: pathlib.Path, kind: str) -> None:
    content = os.urandom(10 << 20)
    (tmp_path / "large").write_bytes(content)
    live = server("tests.apps.basic", "-w", "2", "-k", kind)
    live.wait_log("Started")
    old = set(live.children())
    with contextlib.ExitStack() as stack:
        readers = []
        for path in (f"/file{tmp_path}/large", "/blocks/160") * 2:
            readers.append(stack.enter_context(Connection(live.port, 20)))
            # Far less than the response, most of which is still with the worker when that is to go.
            readers[-1].sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            readers[-1].ask(path)
        for reader in readers:
            assert reader.sock.recv(1, socket.MSG_PEEK)
        live.send(signal.SIGHUP)
        live.wait_log("Reload complete")
        assert old & set(live.children())
        bodies = [reader.response().body for reader in readers]
    assert bodies == [content, b"x" * len(content)] * 2
    wait_replaced(live, old)
    assert live.stop() == 0


def test_ten_hups_are_the_newest_code(server: StartServer) -> None:
    live = server("app", "-w", "2", source=versioned.good("v1", 0.2))
    with Load(live.port) as load:
        wait_version(live, load, "v1")
        for number in range(10):
            write_app(live, versioned.good(f"n{number}", 0.2))
            live.send(signal.SIGHUP)
        wait_version(live, load, "n9", 15)
        wait_until(lambda: {fetch(live.port).body[:2] for _ in range(4)} == {b"n9"}, 10, "only the newest code answers")
        live.wait_children(2)
    assert load.losses == []
    # Bursts merge: far fewer boots than ten generations would take.
    assert len({answer.split()[0] for answer in load.answers}) <= 5
    assert live.stop() == 0


def test_settings_are_read_again(server: StartServer, tmp_path: pathlib.Path) -> None:
    settings = tmp_path / "wsgicluster.conf.py"
    settings.write_text("workers = 1\nwsgi_app = 'app'\n")
    live = server(source=versioned.good("v1"))
    live.wait_workers(1)
    settings.write_text("workers = 3\nwsgi_app = 'app'\nraw_env = ['NEW=1']\n")
    live.send(signal.SIGHUP)
    live.wait_log("Reload complete: 3 workers serve")
    workers = set(live.wait_children(3))
    assert fetch(live.port).status == 200
    settings.write_text("workers = 'many'\n")
    live.send(signal.SIGHUP)
    live.wait_log("workers: 'many'")
    assert set(live.children()) == workers
    assert fetch(live.port).status == 200


def test_new_code_that_dies_after_boot_backs_off(server: StartServer) -> None:
    live = server("app", "-w", "1", source=versioned.good("v1") + versioned.DIES, listening=True)
    # 0, 0.5, 1 s between the first deaths: few lines, no storm, and a server that says so.
    live.wait_log("(?i)degraded", 15)
    assert live.process.poll() is None
    boots = live.log().count("is ready after")
    assert 1 <= boots <= 8
    write_app(live, versioned.good("v2"))
    live.send(signal.SIGHUP)
    wait_until(lambda: b"v2" in fetch(live.port).body, 10)


def test_reload_on_source_change(server: StartServer) -> None:
    live = server("app", "--reload", source=versioned.good("v1"))
    assert fetch(live.port).body.startswith(b"v1 ")
    write_app(live, "def application(:\n")
    live.wait_log("SyntaxError")
    assert live.process.poll() is None
    write_app(live, versioned.good("version 2"))
    wait_until(lambda: fetch(live.port).body.startswith(b"version 2 "), 10)


def test_preloaded_code_is_reloaded(server: StartServer) -> None:
    """(Node 19)"""
    live = server("app", "-w", "2", "--preload", source=versioned.good("v1"))
    with Load(live.port) as load:
        wait_version(live, load, "v1")
        write_app(live, versioned.good("v2"))
        live.send(signal.SIGHUP)
        wait_version(live, load, "v2")
        write_app(live, versioned.RAISES)
        live.send(signal.SIGHUP)
        live.wait_log("no database today")
        count = len(load.answers)
        wait_until(lambda: len(load.answers) > count + 20, 5)
    assert load.losses == []
    assert live.stop() == 0
    assert not live.members()
