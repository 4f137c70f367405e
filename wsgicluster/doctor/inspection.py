"""Loads the application in this process and records what it opens, starts and changes.

Runs in a process of its own that exits afterwards: it sets a worker's signal handlers, and an audit hook.
"""

import _socket
import contextlib
import gc
import inspect
import os
import signal
import socket
import sys
import threading
import time
import types
from collections.abc import Callable, Iterable
from typing import Any

from wsgicluster.doctor.facts import Inspected, Trace, Traces
from wsgicluster.doctor.locks import held_locks
from wsgicluster.doctor.watch import Watch
from wsgicluster.errors import AppLoadError, ServerError
from wsgicluster.system import process
from wsgicluster.system.signals import IGNORED_BY_WORKERS, WORKER_ACTIONS

_SQLITE = b"SQLite format 3\0"


def inspect_application(load: Callable[[], object]) -> Inspected:
    """The facts about what ``load`` returns; a ServerError that it raises becomes their ``failure``."""
    _take_signals()
    before = _descriptors()
    watch = Watch()
    began = time.monotonic()
    try:
        load()
    except ServerError as error:
        if isinstance(error, AppLoadError) and error.trace:
            print(error.trace, file=sys.stderr)
        return Inspected(failure=str(error))
    load_s = time.monotonic() - began
    handlers = _handlers(watch)
    return Inspected(
        opened=_opened(before, watch),
        loops=_loops(before),
        threads=_started(watch),
        locks=held_locks(),
        children=_children(watch),
        handlers=handlers,
        debug=_debug_modes(),
        blocking_drivers=_blocking_drivers(),
        patched=_patched(),
        resident_bytes=process.ResidentMemory().bytes(),
        load_s=load_s,
    )


def _take_signals() -> None:
    """Set the signal handlers that the application finds in a worker."""
    for number in WORKER_ACTIONS:
        signal.signal(number, _end)
    for number in IGNORED_BY_WORKERS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


def _end(number: int, _frame: types.FrameType | None) -> None:
    os._exit(128 + number)


def _handlers(watch: Watch) -> Traces:
    found = []
    for number in (*WORKER_ACTIONS, *IGNORED_BY_WORKERS):
        handler = signal.getsignal(number)
        expected = _end if number in WORKER_ACTIONS else signal.SIG_IGN
        if handler != expected:
            found.append(Trace(f"{number.name} by {_described(handler)}", _defined(handler, watch)))
    return tuple(found)


def _described(handler: object) -> str:
    if callable(handler) and hasattr(handler, "__qualname__"):
        return f"{handler.__module__}.{handler.__qualname__}"
    return str(getattr(handler, "name", type(handler).__qualname__))


def _defined(handler: object, watch: Watch) -> str:
    code = getattr(inspect.unwrap(handler) if callable(handler) else None, "__code__", None)
    return watch.location(code.co_filename, code.co_firstlineno) if isinstance(code, types.CodeType) else ""


def _descriptors() -> dict[int, str]:
    found = {}
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:  # not Linux, or a sandbox that hides it
        return {}
    for name in names:
        with contextlib.suppress(FileNotFoundError):  # the listing's own descriptor
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def _new(before: dict[int, str]) -> Iterable[tuple[int, str]]:
    return sorted((number, link) for number, link in _descriptors().items() if before.get(number) != link)


def _opened(before: dict[int, str], watch: Watch) -> Traces:
    found = []
    for number, link in _new(before):
        if link.startswith("socket:"):
            found.append(Trace(_socket_text(number), watch.of_descriptor(number)))
        elif link.startswith("pipe:"):
            found.append(Trace("a pipe"))
        elif link.startswith("/") and _is_sqlite(number):
            found.append(Trace(f"the SQLite database {link}", watch.of_database(link)))
    return tuple(dict.fromkeys(found))


def _is_sqlite(number: int) -> bool:
    try:
        return os.pread(number, len(_SQLITE), 0) == _SQLITE
    except OSError:  # not open for reading, or not seekable
        return False


def _socket_text(number: int) -> str:
    # The system's own type of socket: gevent's would wait.
    sock = _socket.socket(fileno=os.dup(number))
    try:
        listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        own = _address(sock.getsockname())
        try:
            peer = _address(sock.getpeername())
        except OSError:
            return f"a socket that listens at {own}" if listens else "a socket without a peer"
    except OSError:  # of a family without addresses
        return "a socket"
    finally:
        sock.close()
    if peer:
        return f"a connection to {peer}"
    return f"a connection from {own}" if own else "one of a pair of sockets"


def _address(name: object) -> str:
    if isinstance(name, tuple):
        host, port = name[0], name[1]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    if isinstance(name, bytes):
        return name.replace(b"\0", b"@").decode("utf-8", "replace")
    return str(name)


def _loops(before: dict[int, str]) -> Traces:
    found = []
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None:
        for loop in _instances(asyncio.AbstractEventLoop):
            if not loop.is_closed():
                found.append(Trace("an event loop of asyncio" + (" that runs" if loop.is_running() else "")))
    # Each of these loops has one.
    epolls = [link for _, link in _new(before) if link == "anon_inode:[eventpoll]"]
    found += [Trace("an epoll descriptor")] * max(0, len(epolls) - len(found))
    return tuple(dict.fromkeys(found))


def _started(watch: Watch) -> Traces:
    found = []
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            found.append(Trace(f"the thread {thread.name}", watch.of_thread(thread)))
    return tuple(found)


def _children(watch: Watch) -> Traces:
    found = []
    for command in process.child_commands():
        found.append(Trace(f"the process {_cut(command)}", watch.of_child(command)))
    return tuple(found)


def _cut(command: str) -> str:
    return command if len(command) <= 60 else command[:57] + "..."


def _instances(kind: type) -> list[Any]:
    # By type only: proxies that pretend to be of a class may fail when they are used.
    return [found for found in gc.get_objects() if issubclass(type(found), kind)]


def _debug_modes() -> tuple[str, ...]:
    found = []
    flask = sys.modules.get("flask")
    if flask is not None and any(getattr(app, "debug", False) for app in _instances(flask.Flask)):
        found.append("Flask's debug mode")
    debugger = sys.modules.get("werkzeug.debug")
    if debugger is not None and _instances(debugger.DebuggedApplication):
        found.append("Werkzeug's interactive debugger, by which a browser can run any code,")
    django = sys.modules.get("django.conf")
    if django is not None and django.settings.configured and django.settings.DEBUG:
        found.append("Django's DEBUG")
    return tuple(found)


def _patched() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("socket"))


def _blocking_drivers() -> tuple[str, ...]:
    found = []
    postgres = sys.modules.get("psycopg2.extensions")
    if postgres is not None and postgres.get_wait_callback() is None:
        found.append("psycopg2")
    if "MySQLdb" in sys.modules:
        found.append("MySQLdb")
    return tuple(found)
