"""An application that starts processes: each way, at each moment.

A process writes what it has inherited to ``WAY-MOMENT.json``, once it has slept, and then waits to be ended.
"""

import atexit
import json
import multiprocessing
import os
import pathlib
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

REPORT = """
import json, os, pathlib, sys, time
time.sleep(0.05)
facts = {"pid": os.getpid(), "title": open("/proc/self/cmdline").read().replace("\\0", " ").strip(), "links": []}
for line in open("/proc/self/status"):
    name, _, value = line.partition(":")
    if name in ("SigIgn", "SigBlk", "SigCgt"):
        facts[name] = int(value, 16)
for number in os.listdir("/proc/self/fd"):
    try:
        facts["links"].append(os.readlink(f"/proc/self/fd/{number}"))
    except OSError:
        pass  # the listing's own
pathlib.Path(sys.argv[1] + ".part").write_text(json.dumps(facts))
os.rename(sys.argv[1] + ".part", sys.argv[1])
time.sleep(60)
"""

kept: list[object] = []


def report(target: str) -> None:
    """Write down what this process is like, and wait."""
    sys.argv = ["", target]
    exec(compile(REPORT, "report", "exec"), {})


def _fork(target: str) -> None:
    if os.fork() == 0:
        report(target)
        os._exit(0)


def _forkpty(target: str) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        report(target)
        os._exit(0)
    kept.append(terminal)


def _process(kind: str) -> Callable[[str], None]:
    def start(target: str) -> None:
        context: Any = multiprocessing.get_context(kind)
        context.Process(target=report, args=(target,), daemon=True).start()

    return start


def _pool(target: str) -> None:
    pool = multiprocessing.get_context("fork").Pool(1)
    kept.append(pool)
    pool.apply_async(report, (target,))


def _executor(target: str) -> None:
    executor = ProcessPoolExecutor(1, multiprocessing.get_context("fork"))
    kept.append(executor)
    executor.submit(report, target)


def _command(target: str) -> list[str]:
    return [sys.executable, "-S", "-E", "-c", REPORT, target]


def _popen(**options: Any) -> Callable[[str], None]:
    def start(target: str) -> None:
        kept.append(subprocess.Popen(_command(target), **options))

    return start


def _posix_spawn(target: str) -> None:
    os.posix_spawn(sys.executable, _command(target), os.environ)


def _shell(target: str) -> str:
    source = pathlib.Path(f"{target}.py")
    source.write_text(REPORT, "utf-8")
    return f"{sys.executable} -S -E {source} {target}"


def _system(target: str) -> None:
    # Not with "&": a shell has what it starts in the background ignore SIGINT and SIGQUIT.
    os.system(f"setsid -f {_shell(target)}")


def _os_popen(target: str) -> None:
    kept.append(os.popen(f"exec {_shell(target)}"))


WAYS: dict[str, Callable[[str], None]] = {
    "fork": _fork,
    "forkpty": _forkpty,
    "process-fork": _process("fork"),
    "process-spawn": _process("spawn"),
    "process-forkserver": _process("forkserver"),
    "pool": _pool,
    "executor": _executor,
    "subprocess": _popen(),
    "subprocess-descriptors": _popen(close_fds=False),
    "subprocess-preexec": _popen(preexec_fn=lambda: None),
    "subprocess-pass": _popen(pass_fds=(1,)),
    "posix_spawn": _posix_spawn,
    "system": _system,
    "popen": _os_popen,
}
"""How a process can be started."""


def start(moment: str, ways: Iterable[str]) -> None:
    """Start one process in each of these ways."""
    for way in ways:
        WAYS[way](f"{way}-{moment}.json")


class Body:
    """A body that starts processes while it is given, or when it is closed."""

    def __init__(self, moment: str, ways: list[str]) -> None:
        self.moment = moment
        self.ways = ways

    def __iter__(self) -> Iterator[bytes]:
        yield b"started "
        if self.moment == "iterator":
            start(self.moment, self.ways)
        yield b"all"

    def close(self) -> None:
        """Called at the end of the response."""
        if self.moment == "close":
            start(self.moment, self.ways)


def _spawn_greenlet(moment: str, ways: list[str]) -> None:
    import gevent

    gevent.spawn(start, moment, ways).get()


def _start_thread(moment: str, ways: list[str]) -> None:
    thread = threading.Thread(target=start, args=(moment, ways))
    thread.start()
    thread.join()


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """``/MOMENT?WAY,WAY`` starts processes; ``/sleep/SECONDS`` waits, and writes a line to ``slept`` when it has."""
    moment, _, argument = environ["PATH_INFO"].lstrip("/").partition("/")
    ways = [way for way in environ["QUERY_STRING"].split(",") if way]
    start_response("200 OK", [("Content-Type", "text/plain")])
    if moment == "sleep":
        time.sleep(float(argument))
        with open("slept", "a") as file:
            file.write(json.dumps(os.getpid()) + "\n")
    elif moment == "request":
        start(moment, ways)
    elif moment == "thread":
        _start_thread(moment, ways)
    elif moment == "greenlet":
        _spawn_greenlet(moment, ways)
    elif moment == "atexit":
        atexit.register(start, moment, ways)
    elif moment in ("iterator", "close"):
        return Body(moment, ways)
    return [b"%d" % os.getpid()]


if "AT_IMPORT" in os.environ and multiprocessing.current_process().name == "MainProcess":
    start("import", os.environ["AT_IMPORT"].split(","))
