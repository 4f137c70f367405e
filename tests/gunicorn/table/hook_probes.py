"""Probes of hooks: in which process each is called, with what, and what follows where one raises."""

import json
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any

from tests.conftest import wait_until
from tests.gunicorn.table.comparison import Running, Subject, differ, probe, same

Observed = Mapping[str, Any]

ARGUMENTS = {
    "on_starting": "server",
    "on_reload": "server",
    "when_ready": "server",
    "pre_fork": "server, worker",
    "post_fork": "server, worker",
    "post_worker_init": "worker",
    "worker_int": "worker",
    "worker_abort": "worker",
    "pre_exec": "server",
    "pre_request": "worker, req",
    "post_request": "worker, req, environ, resp",
    "child_exit": "server, worker",
    "worker_exit": "server, worker",
    "nworkers_changed": "server, new, old",
    "on_exit": "server",
}

NOTE = """
import json
ARBITER = os.getpid()

def note(hook):
    process = "arbiter" if os.getpid() == ARBITER else "worker" if os.getppid() == ARBITER else "other"
    with open(FOLDER + "/trace", "a") as file:
        print(json.dumps([hook, process, os.getpid()]), file=file)
"""

TRACING = NOTE + "".join(f"\ndef {name}({arguments}):\n    note({name!r})\n" for name, arguments in ARGUMENTS.items())


class Trace:
    """What the hooks of a server have noted."""

    def __init__(self, subject: Subject) -> None:
        self._path = subject.folder / "trace"

    def all(self) -> list[list[Any]]:
        """Each as hook, kind of process, and pid."""
        text = self._path.read_text() if self._path.exists() else ""
        # The last line may not be whole yet.
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def wait_for(self, hook: str, count: int = 1) -> None:
        """Wait until a hook was called so often."""
        wait_until(lambda: [each[0] for each in self.all()].count(hook) >= count, 15, f"{hook}: {count}")


IN_ARBITER = ("on_starting", "on_reload", "when_ready", "pre_fork", "child_exit", "nworkers_changed", "on_exit")
IN_WORKER = (
    "post_fork",
    "post_worker_init",
    "worker_int",
    "worker_abort",
    "pre_request",
    "post_request",
    "worker_exit",
)


@probe(
    **{name: same({"arbiter"}) for name in IN_ARBITER},
    **{name: same({"worker"}) for name in IN_WORKER},
)
def hooks(subject: Subject) -> Observed:
    running, trace = subject.start(TRACING), Trace(subject)
    for number, hook in ((signal.SIGQUIT, "worker_int"), (signal.SIGABRT, "worker_abort")):
        exits = [each[0] for each in trace.all()].count("child_exit")
        os.kill(running.ask("os.getpid()"), number)
        trace.wait_for(hook)
        trace.wait_for("child_exit", exits + 1)
    running.live.send(signal.SIGHUP)
    trace.wait_for("on_reload")
    trace.wait_for("child_exit", 3)
    running.ask("1")
    trace.wait_for("post_request")
    running.live.send(signal.SIGTERM)
    running.live.wait_end()
    return {name: {process for hook, process, _ in trace.all() if hook == name} for name in (*IN_ARBITER, *IN_WORKER)}


@probe(pre_exec=same(True))
def upgrades(subject: Subject) -> Observed:
    running, trace = subject.start(TRACING), Trace(subject)
    running.ask("1")
    running.live.send(signal.SIGUSR2)
    trace.wait_for("pre_exec")
    return {"pre_exec": next(pid for hook, _, pid in trace.all() if hook == "pre_exec") != running.live.pid}


@probe(worker_int=differ(False, True))
def interrupted_worker(subject: Subject) -> Observed:
    running, trace = subject.start(TRACING), Trace(subject)
    os.kill(running.ask("os.getpid()"), signal.SIGINT)
    running.ask("1")
    running.live.stop()
    return {"worker_int": any(hook == "worker_int" for hook, _, _ in trace.all())}


@probe(max_requests=differ(True, False), pre_fork=differ(True, False))
def replaced_worker(subject: Subject) -> Observed:
    """Whether the next worker is forked before the one that it replaces has exited."""
    running, trace = subject.start(TRACING + "\nmax_requests = 1\n"), Trace(subject)
    running.ask("1")
    trace.wait_for("pre_fork", 2)
    trace.wait_for("child_exit")
    names = [hook for hook, _, _ in trace.all()]
    is_first = [at for at, name in enumerate(names) if name == "pre_fork"][1] < names.index("child_exit")
    return {"max_requests": is_first, "pre_fork": is_first}


RAISING = """
def fail():
    if os.path.exists(FOLDER + "/fails"):
        with open(FOLDER + "/failed", "w"):
            raise ValueError("on purpose")

def {name}({arguments}):
    fail()
"""


def survives(subject: Subject, name: str, cause: Callable[[Running], object]) -> bool:
    """Whether a server serves after a hook has raised."""
    running = subject.start(RAISING.format(name=name, arguments=ARGUMENTS[name]))
    running.ask("1")
    (subject.folder / "fails").touch()
    cause(running)
    wait_until((subject.folder / "failed").exists, 15, f"{name} is called")
    (subject.folder / "fails").unlink()
    (subject.folder / "failed").unlink()
    if not subject.is_ours:
        running.live.wait_end()
        return False
    return bool(running.ask("True")) and running.live.process.poll() is None


def send(number: signal.Signals) -> Callable[[Running], object]:
    return lambda running: running.live.send(number)


@probe(
    on_reload=differ(True, False), pre_fork=differ(True, False), child_exit=differ(True, False),
    nworkers_changed=differ(True, False),
)  # fmt: skip
def raising_hooks(subject: Subject) -> Observed:
    causes: Mapping[str, Callable[[Running], object]] = {
        "on_reload": send(signal.SIGHUP),
        "pre_fork": send(signal.SIGTTIN),
        "child_exit": lambda running: os.kill(running.ask("os.getpid()"), signal.SIGKILL),
        "nworkers_changed": send(signal.SIGTTIN),
    }
    return {name: survives(subject, name, cause) for name, cause in causes.items()}
