"""The umask: the shell's for the application unless one is set, and no matter for the files of the server itself."""

import os
import pathlib
import signal
import stat

import pytest

from tests.conftest import StartServer, wait_until
from tests.live.client import fetch

pytestmark = pytest.mark.live

SOURCE = """
import os

def make(name):
    os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o666))

make(f"imported-{os.getpid()}")

def application(environ, start_response):
    make("requested")
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
SHELL_UMASK = "027"


def mode_of(path: pathlib.Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    ("arguments", "config", "file_mode", "socket_mode"),
    [
        ((), "", 0o640, 0o777),
        (("--preload", "-k", "gthread"), "", 0o640, 0o777),
        (("-k", "gevent", "-m", "0"), "", 0o666, 0o777),
        (("--umask", "022", "--preload"), "", 0o644, 0o755),
        (("-k", "gthread"), "umask = 0o077", 0o600, 0o700),
        ((), 'umask = "007"', 0o660, 0o770),
    ],
)
def test_modes_of_new_files(
    server: StartServer, tmp_path: pathlib.Path, arguments: tuple[str, ...], config: str, file_mode: int,
    socket_mode: int,
) -> None:  # fmt: skip
    """(Node 29)"""
    (tmp_path / "gunicorn.conf.py").write_text(config)
    sockets = (tmp_path / "any.sock", tmp_path / "own.sock")
    binds = ("-b", f"unix:{sockets[0]}", "-b", f"unix:{sockets[1]},mode=0604")
    logs = ("--error-logfile", "error.log", "--access-logfile", "access.log", "--pid", "server.pid")
    live = server(
        "app:application", *binds, *logs, *arguments, source=SOURCE, bind=None, listening=False,
        prefix=("sh", "-c", f'umask {SHELL_UMASK}; exec "$@"', "sh"),
    )  # fmt: skip
    log = tmp_path / "error.log"
    wait_until(lambda: log.exists() and "is ready" in log.read_text(), 15, "a ready worker")
    worker = int(fetch(sockets[0]).body)
    made = [tmp_path / "requested", *tmp_path.glob("imported-*")]
    assert len(made) >= 2
    assert {mode_of(path) for path in made} == {file_mode}
    assert [mode_of(path) for path in sockets] == [socket_mode, 0o604]
    assert mode_of(tmp_path / "server.pid") == 0o644
    assert mode_of(log) == 0o640, "as the shell has it"
    for name in ("error.log", "access.log"):
        (tmp_path / name).rename(tmp_path / f"{name}.1")
    # Nobody but the worker, whose umask is that of the application.
    os.kill(worker, signal.SIGUSR1)
    access = tmp_path / "access.log"
    wait_until(lambda: access.exists() and log.exists(), 5, "new logs")
    assert (mode_of(log), mode_of(access)) == (0o640, 0o640)
    assert live.stop() == 0
