"""Upgrades: a new server beside the old one, there and back again, and nobody notices."""

import os
import pathlib
import signal

import pytest

from tests.apps import versioned
from tests.conftest import LiveServer, StartServer, children_of, has_at_most, is_alive, steady_descriptors, wait_until
from tests.live.client import Connection, Load, fetch
from tests.live.test_reload import wait_version, write_app

pytestmark = pytest.mark.live

STARTED = r"a new server is started beside this one \(pid \d+\)"
SERVES = r"The new server \(pid \d+\) serves"


def number_in(path: pathlib.Path) -> int:
    """The number in a pid file, 0 as long as there is none."""
    try:
        return int(path.read_text())
    except (FileNotFoundError, ValueError):
        return 0


def begin_upgrade(live: LiveServer, count: int = 1) -> int:
    """Send USR2 and wait until the new server serves; its pid."""
    live.send(signal.SIGUSR2)
    live.wait_log(SERVES, 15, count=count)
    (new,) = [pid for pid in live.children() if children_of(pid)]
    return new


@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
def test_there(server: StartServer, tmp_path: pathlib.Path, kind: str) -> None:
    pidfile, path = tmp_path / "pid", tmp_path / "socket"
    if kind == "gevent":
        pytest.importorskip("gevent")
    source = versioned.good("v1", 0.1)
    live = server("app", "-w", "2", "-k", kind, "-p", str(pidfile), "-b", f"unix:{path}", source=source)
    port = live.port
    with Load(port) as load, Connection(port) as idle, Connection(path) as local:
        assert idle.exchange().body.startswith(b"v1 ")
        assert local.exchange().body.startswith(b"v1 ")
        live.wait_children(2)
        held = steady_descriptors(live.pid)
        write_app(live, versioned.good("v2", 0.1))
        new = begin_upgrade(live)
        assert (number_in(pidfile), number_in(tmp_path / "pid.2")) == (live.pid, new)
        live.send(signal.SIGUSR2)
        live.wait_log(f"an upgrade is under way .pid {new}.")
        os.kill(new, signal.SIGUSR2)
        live.wait_log(f"the server before this one .pid {live.pid}. still runs")
        live.send(signal.SIGWINCH)
        wait_until(lambda: live.children() == [new], 10, "all old workers have gone")
        assert live.stop() == 0
        wait_until(lambda: number_in(pidfile) == new, 10, "the pid file has been renamed")
        assert not (tmp_path / "pid.2").exists()
        assert idle.exchange().body.startswith(b"v2 ")
        assert local.exchange().body.startswith(b"v2 ")
        assert fetch(path).body.startswith(b"v2 ")
        wait_version(live, load, "v2")
    assert load.losses == []
    wait_until(lambda: has_at_most(new, held), 5, "the new server holds no descriptor more than the old one")
    os.kill(new, signal.SIGTERM)
    wait_until(lambda: not live.members(), 10, "the new server has exited")
    assert not path.exists()
    assert not pidfile.exists()


def test_and_back_again(server: StartServer, tmp_path: pathlib.Path) -> None:
    pidfile, path = tmp_path / "pid", tmp_path / "socket"
    live = server("app", "-w", "2", "-p", str(pidfile), "-b", f"unix:{path}", source=versioned.good("v1"))
    port = live.port
    with Load(port) as load, Connection(port) as idle:
        assert idle.exchange().status == 200
        write_app(live, versioned.good("v2"))
        new = begin_upgrade(live)
        live.send(signal.SIGWINCH)
        wait_until(lambda: live.children() == [new], 10, "all old workers have gone")
        assert idle.exchange().body.startswith(b"v2 ")
        write_app(live, versioned.good("v1"))
        live.send(signal.SIGHUP)
        live.wait_log("Reload complete: 2 workers serve")
        os.kill(new, signal.SIGTERM)
        live.wait_log(r"The new server \(pid \d+\) has exited \(exit code 0")
        assert not is_alive(new)
        assert idle.exchange().body.startswith(b"v1 ")
        assert fetch(path).body.startswith(b"v1 ")
    assert load.losses == []
    assert number_in(pidfile) == live.pid
    assert not (tmp_path / "pid.2").exists()
    assert live.stop() == 0
    assert not path.exists()


def test_new_servers_that_fail(server: StartServer, tmp_path: pathlib.Path) -> None:
    settings = tmp_path / "wsgicluster.conf.py"
    settings.write_text("workers = 2\n")
    path = tmp_path / "socket"
    live = server("app", "-p", str(tmp_path / "pid"), "-b", f"unix:{path}", source=versioned.good("v1"))
    workers = live.wait_workers(2)
    with Load(live.port) as load:
        wait_version(live, load, "v1")
        write_app(live, versioned.RAISES)
        live.send(signal.SIGUSR2)
        live.wait_log(r"cannot start \(exit code 4: the application cannot be loaded\)", 15)
        settings.write_text("workers = 'many'\n")
        live.send(signal.SIGUSR2)
        live.wait_log(r"cannot start \(exit code 2: .*workers: .many.*\); this one keeps serving: .* SIGUSR2 again", 15)
        assert live.children() == workers
        assert not (tmp_path / "pid.2").exists()
        assert fetch(path).status == 200

        # One that works, and then dies when the old workers have left already.
        settings.write_text("workers = 2\n")
        write_app(live, versioned.good("v1"))
        new = begin_upgrade(live)
        live.send(signal.SIGWINCH)
        wait_until(lambda: live.children() == [new], 10, "all old workers have gone")
    assert load.losses == []
    os.kill(new, signal.SIGKILL)
    live.wait_log(r"The new server \(pid \d+\) has exited \(signal SIGKILL\)")
    live.wait_log("Resuming 2 retired workers")
    assert fetch(live.port).status == 200
    begin_upgrade(live, count=2)
    assert live.stop() == 0


def test_the_old_server_is_killed(server: StartServer, tmp_path: pathlib.Path) -> None:
    pidfile, path = tmp_path / "pid", tmp_path / "socket"
    live = server("app", "-p", str(pidfile), "-b", f"unix:{path}", source=versioned.good("v1"))
    new = begin_upgrade(live)
    live.send(signal.SIGKILL)
    live.wait_end()
    wait_until(lambda: number_in(pidfile) == new, 10, "the pid file has been renamed")
    assert fetch(path).status == 200
    os.kill(new, signal.SIGTERM)
    wait_until(lambda: not path.exists() and not live.members(), 10, "the new server has exited and tidied up")


def test_addresses_that_differ(server: StartServer, tmp_path: pathlib.Path) -> None:
    """What both have is taken over, even in another order; the rest is opened and given up."""
    settings = tmp_path / "wsgicluster.conf.py"
    first, second, third = (f"unix:{tmp_path}/{name}" for name in ("first", "second", "third"))
    settings.write_text(f"bind = [{first!r}, {second!r}]\n")
    live = server("app", "-w", "2", bind=None, source=versioned.good("v1"), listening=False)
    wait_until(lambda: live.said("Started"), 10)
    with Connection(tmp_path / "second") as idle:
        assert idle.exchange().status == 200
        settings.write_text(f"bind = [{third!r}, {second + ',mode=0600'!r}]\n")
        write_app(live, versioned.good("v2"))
        new = begin_upgrade(live)
        live.send(signal.SIGWINCH)
        wait_until(lambda: live.children() == [new], 10, "all old workers have gone")
        # The two cannot share connections: this one has been told to close, and has not been left hanging.
        assert idle.rest() == b""
    assert live.stop() == 0
    assert fetch(tmp_path / "second").body.startswith(b"v2 ")
    assert fetch(tmp_path / "third").body.startswith(b"v2 ")
    assert (tmp_path / "second").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "first").exists()
    os.kill(new, signal.SIGTERM)
    wait_until(lambda: not live.members(), 10, "the new server has exited")
    assert not (tmp_path / "second").exists()


def test_a_daemon(server: StartServer, tmp_path: pathlib.Path) -> None:
    pidfile, log = tmp_path / "pid", tmp_path / "error.log"
    live = server(
        "app", "-D", "-p", str(pidfile), "--error-logfile", str(log), source=versioned.good(), listening=False
    )
    assert live.wait_end() == 0
    live.log_path = log
    old, port = number_in(pidfile), live.port
    try:
        with Load(port) as load:
            os.kill(old, signal.SIGUSR2)
            wait_until(lambda: live.said(SERVES), 15, "the new server serves")
            new = number_in(tmp_path / "pid.2")
            os.kill(old, signal.SIGTERM)
            wait_until(lambda: number_in(pidfile) == new, 10, "the pid file has been renamed")
        assert load.losses == []
    finally:
        # Never 0, which would be the whole group of this process.
        os.kill(number_in(pidfile) or old, signal.SIGTERM)
    wait_until(lambda: not pidfile.exists(), 10, "the new server has exited")
