"""What hooks are given: ``server``, ``worker``, ``req`` and ``resp``, with the attributes that Gunicorn's have.

Hooks may set attributes of their own on all of them. What a view shows is given to it: it knows no process.
"""

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

from wsgicluster.gunicorn.configuration import Configuration
from wsgicluster.logs.access_log import content_length

BOOTING = "[booting]"
"""The pid of a worker that is about to be forked."""


def _none() -> Any:
    return None


class LogView:
    """``log``: what the object of ``logger_class`` has; without one a logger's methods and both loggers by name."""

    def __init__(self, error_log: logging.Logger, user_logger: Callable[[], Any] = _none) -> None:
        self.error_log = error_log
        self.access_log = logging.getLogger("wsgicluster.access")
        self._user_logger = user_logger

    def __getattr__(self, name: str) -> Any:
        found = self._user_logger()
        return getattr(self.error_log if found is None else found, name)


class Live(Protocol):
    """What a worker's view shows that changes by itself."""

    def is_alive(self) -> bool:
        """Whether the worker serves, and is to continue."""

    def requests(self) -> int:
        """How many it has served."""

    def leave(self) -> object:
        """Have it finish and be replaced."""


class LiveInWorker(Live, Protocol):
    """The same within the worker, with what it has drawn by lot: the requests that it is to serve, 0 for no limit."""

    max_requests: int


class HeartbeatView:
    """``tmp``: in Gunicorn the file by which a worker shows that it lives; here that is shared memory."""

    def notify(self) -> None:
        """Nothing: the worker shows it by itself."""

    def last_update(self) -> float:
        """Now, by the monotonic clock."""
        return time.monotonic()

    def close(self) -> None:
        """Nothing is open."""


class ApplicationView:
    """``app``: what the application is called by."""

    def __init__(self, configuration: Configuration) -> None:
        self.cfg = configuration
        self.callable: Any = None

    def wsgi(self) -> Any:
        """The application; None in the arbiter, which never loads it."""
        return self.callable

    def reload(self) -> None:
        """Nothing: a reload has read the settings before ``on_reload`` is called."""


class WorkerView:
    """``worker``: in the arbiter one from the fork until the worker has exited; in the worker, its copy."""

    def __init__(self, age: int, configuration: Configuration, log: LogView) -> None:
        self.age = age
        self.pid: int | str = BOOTING
        self.ppid = os.getpid()
        self.booted = False
        self.aborted = False
        self.cfg = configuration
        self.log = log
        self.timeout = configuration.timeout
        self.max_requests = configuration.max_requests or sys.maxsize
        self.tmp = HeartbeatView()
        self.app = ApplicationView(configuration)
        self.wsgi: Any = None
        self.sockets: list[Any] = []
        self._live: Live | None = None
        self._alive = True
        self._given = frozenset({*vars(self), "_given"})

    def __str__(self) -> str:
        return f"<Worker {self.pid}>"

    @property
    def alive(self) -> bool:
        """Whether it serves; a worker that sets it to False in itself is replaced once it has finished."""
        return self._alive and (self._live is None or self._live.is_alive())

    @alive.setter
    def alive(self, wanted: bool) -> None:
        self._alive = wanted
        if not wanted and self._live is not None:
            self._live.leave()

    @property
    def nr(self) -> int:
        """How many requests it has served."""
        return 0 if self._live is None else self._live.requests()

    def show(self, live: Live) -> None:
        """From now on look there for what changes by itself."""
        self._live = live

    def own(self) -> dict[str, Any]:
        """What hooks have set on it."""
        return {name: value for name, value in vars(self).items() if name not in self._given}


class ListenerView:
    """One of ``LISTENERS``: its text is the URL; for the rest it is its socket."""

    def __init__(self, sock: socket.socket, scheme: str) -> None:
        self.sock = sock
        name = sock.getsockname()
        host = f"[{name[0]}]" if isinstance(name, tuple) and ":" in name[0] else name[0] if name else ""
        self._text = f"{scheme}://{host}:{name[1]}" if isinstance(name, tuple) else f"unix:{os.fsdecode(name)}"

    def __str__(self) -> str:
        return self._text

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)


class ServerView:
    """``server``: the arbiter. What hooks set on it stays, over reloads too; workers have a copy from their fork."""

    pid: int

    def __init__(
        self, configuration: Configuration, log: LogView, workers: Callable[[], dict[int | str, WorkerView]] = dict
    ) -> None:
        self.log = log
        self.cfg = configuration
        self.num_workers = configuration.workers
        self.worker_age = 0
        self.master_pid = 0
        self._workers = workers
        self.LISTENERS: list[ListenerView] = []
        self.pidfile = configuration.pidfile
        self.app = ApplicationView(configuration)
        self.master_name = "Master"
        self.systemd = "LISTEN_FDS" in os.environ
        self.START_CTX: dict[object, Any] = {
            "args": [sys.executable, *sys.argv],
            "cwd": os.getcwd(),
            0: sys.executable,
        }
        self._given = frozenset({*vars(self), "_given", "pid"})

    @property
    def address(self) -> list[Any]:
        """Where it listens."""
        return self.cfg.address

    @property
    def WORKERS(self) -> dict[int | str, WorkerView]:  # noqa: N802 - Gunicorn's own name
        """Those that have a process, by pid; a worker sees those of when it was forked."""
        return self._workers()

    @property
    def timeout(self) -> float:
        """The setting of this name."""
        seconds: float = self.cfg.timeout
        return seconds

    @property
    def proc_name(self) -> str:
        """The setting of this name."""
        return str(self.cfg.proc_name)

    @property
    def worker_class(self) -> Any:
        """The setting of this name."""
        return self.cfg.worker_class

    def kill_worker(self, pid: int, number: int) -> None:
        """Send a signal to a worker."""
        os.kill(pid, number)

    def kill_workers(self, number: int) -> None:
        """Send a signal to all of them."""
        for pid in self.WORKERS:
            if isinstance(pid, int):
                os.kill(pid, number)

    def reload(self) -> None:
        """Have the server reload when the hook has returned."""
        os.kill(self.pid, signal.SIGHUP)

    def stop(self, graceful: bool = True) -> None:
        """Have the server stop when the hook has returned."""
        os.kill(self.pid, signal.SIGTERM if graceful else signal.SIGQUIT)

    def own(self) -> dict[str, Any]:
        """What hooks have set on it."""
        return {name: value for name, value in vars(self).items() if name not in self._given}


_UNPREFIXED = ("CONTENT_TYPE", "CONTENT_LENGTH")


class RequestView:
    """``req``: one request before the application is called."""

    def __init__(self, environ: Mapping[str, Any]) -> None:
        get = environ.get
        self.method: str = get("REQUEST_METHOD", "")
        self.uri: str = get("RAW_URI", "")
        # As it came, which the path in the environ is not.
        self.path: str = self.uri.partition("?")[0] if self.uri.startswith("/") else urlsplit(self.uri).path
        self.query: str = get("QUERY_STRING", "")
        self.fragment = ""
        self.scheme: str = get("wsgi.url_scheme", "http")
        self.remote_addr: Any = (get("REMOTE_ADDR", ""), _number(get("REMOTE_PORT", "")))
        self.peer_addr = self.remote_addr
        version = str(get("SERVER_PROTOCOL", "HTTP/1.1")).partition("/")[2].split(".")
        self.version = (_number(version[0]), _number(version[-1]))
        self.body: Any = get("wsgi.input")
        self.headers = [
            (name.removeprefix("HTTP_").replace("_", "-"), value)
            for name, value in environ.items()
            if name.startswith("HTTP_") or name in _UNPREFIXED
        ]

    def should_close(self) -> bool:
        """Whether the client has asked for the connection to be closed, or its version of HTTP means so."""
        wanted = next((value.strip().lower() for name, value in self.headers if name == "CONNECTION"), "")
        return wanted == "close" or (wanted != "keep-alive" and self.version <= (1, 0))


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


class Answer(Protocol):
    """A response, as the worker has it."""

    status: Any
    headers: Any
    sent_bytes: int
    head_sent: bool


class ResponseView:
    """``resp``: what the application has answered, and how much of its body was sent."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    @property
    def status(self) -> str | None:
        """As it was given to ``start_response``, None before that."""
        return self._answer.status or None

    @property
    def status_code(self) -> int | None:
        """The number in it."""
        text = str(self._answer.status or "")[:3]
        return int(text) if text.isdigit() else None

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Pairs of name and value."""
        return list(self._answer.headers or ())

    @property
    def response_length(self) -> int | None:
        """The Content-Length that the application has set."""
        return content_length(self.headers)

    @property
    def sent(self) -> int:
        """Bytes of the body that were sent."""
        return self._answer.sent_bytes

    @property
    def headers_sent(self) -> bool:
        """Whether the head was sent."""
        return self._answer.head_sent
