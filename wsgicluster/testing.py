"""A server for tests: of an application that the test has, at a free port, in processes of its own."""

import contextlib
import os
import pathlib
import signal
import socket
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from wsgicluster.arbiter.children import fork
from wsgicluster.dataclass import dataclass
from wsgicluster.embedding import serve
from wsgicluster.errors import ServerError
from wsgicluster.logs.loggers import ERROR_LOGGER, server_logger

START_S = 30.0
STOP_S = 15.0
POLL_S = 0.01


@dataclass(frozen=True)
class RunningServer:
    """A server that serves; ``pid`` is that of its arbiter."""

    port: int
    pid: int
    folder: pathlib.Path

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """All that is in its error log."""
        path = self.folder / "log"
        return path.read_text("utf-8", "replace") if path.exists() else ""


@contextlib.contextmanager
def server(application: Callable[..., Any], **settings: Any) -> Iterator[RunningServer]:
    """Serve an application while the context lasts; settings are those of `wsgicluster.serve`, with one worker.

    The server's processes are forked from this one, so that the application may be any object of the test's. Raises
    ServerError with its log when it cannot start.
    """
    with tempfile.TemporaryDirectory(prefix="wsgicluster-") as name:
        running = _start(application, settings, pathlib.Path(name))
        try:
            yield running
        finally:
            _stop(running.pid)


def _start(application: Callable[..., Any], settings: dict[str, Any], folder: pathlib.Path) -> RunningServer:
    ready, own_hook = folder / "ready", settings.get("post_worker_init")

    def post_worker_init(worker: Any) -> None:
        if own_hook is not None:
            own_hook(worker)
        ready.touch()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        used = {
            "errorlog": str(folder / "log"),
            **settings,
            "bind": f"fd://{listener.fileno()}",
            "control_socket_disable": True,
            "post_worker_init": post_worker_init,
        }
        pid = fork.fork(lambda: _serve(application, used, folder), server_logger(ERROR_LOGGER))
    # The listener is closed here: when the server has exited, clients are refused and do not wait.
    running = RunningServer(port, pid, folder)
    until = time.monotonic() + START_S
    while not ready.exists():
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            raise ServerError(f"the server cannot start (exit code {code}):\n{running.log}")
        if time.monotonic() > until:
            _stop(pid)
            raise ServerError(f"the server has not started in {START_S:g} s:\n{running.log}")
        time.sleep(POLL_S)
    return running


def _serve(application: Callable[..., Any], settings: dict[str, Any], folder: pathlib.Path) -> NoReturn:
    """In the new process."""
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    code = ServerError.exit_code
    try:
        code = serve(application, **settings)
    except ServerError as error:
        code = error.exit_code
        _append(folder, str(error))
    except BaseException:  # noqa: BLE001
        # The boundary of this process: above it are only frames of the test's.
        _append(folder, traceback.format_exc())
    os._exit(code)


def _append(folder: pathlib.Path, text: str) -> None:
    with (folder / "log").open("a", encoding="utf-8") as log:
        log.write(f"{text}\n")


def _stop(pid: int) -> None:
    until, number = time.monotonic() + STOP_S, signal.SIGTERM
    os.kill(pid, number)
    while not os.waitpid(pid, os.WNOHANG)[0]:
        if time.monotonic() > until and number is not signal.SIGKILL:
            number = signal.SIGKILL  # its workers notice, and exit
            os.kill(pid, number)
        time.sleep(POLL_S)
