"""Processes that are members of a cluster, without a server: each runs the code that a test gives it.

``python -m tests.cluster.members DESCRIPTOR`` forks a member for each request that comes over that socket; a member
joins and runs its code. A new interpreter for each would cost ten times as much, and with Redis' client sixty times.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from wsgicluster.ipc.membership import Membership, join
from wsgicluster.ipc.messages import Channel
from wsgicluster.ipc.scoreboard import Cell, Scoreboard, WorkerState
from wsgicluster.ipc.shared_files import SharedFiles, SharedFilesOwner

TIMEOUT_S = 40.0
ROOT = pathlib.Path(__file__).parent.parent.parent


class Member:
    """One process; its output are lines of text. ``ended`` gives its exit code, as text, once it was reaped."""

    def __init__(self, pid: int, given: int, printed: int, ended: int) -> None:
        self.pid = pid
        self._stdin = os.fdopen(given, "w")
        self._stdout = os.fdopen(printed)
        self._ended = ended
        self._code: int | None = None

    def line(self) -> str:
        """The next line that it prints, without its end; empty at the end."""
        return self._stdout.readline().rstrip("\n")

    def tell(self, text: str = "") -> None:
        """Give it a line of input."""
        self._stdin.write(text + "\n")
        self._stdin.flush()

    def kill(self) -> None:
        """End it at once; when this returns its process was reaped."""
        os.kill(self.pid, signal.SIGKILL)
        self._wait(TIMEOUT_S)

    def pause(self) -> None:
        """Stop it until `resume`."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it run again."""
        os.kill(self.pid, signal.SIGCONT)

    def finish(self) -> str:
        """Wait for its end, which must be without an error; what it has printed since."""
        self._stdin.close()
        output = self._stdout.read()
        assert self._wait(TIMEOUT_S) == 0, output
        return output.strip()

    def end(self) -> None:
        """End it if it still runs, and close the pipes."""
        if self._wait(0) is None:
            self.kill()
        for pipe in (self._stdin, self._stdout):
            with contextlib.suppress(BrokenPipeError):  # it ended before it had read everything
                pipe.close()
        os.close(self._ended)

    def _wait(self, timeout_s: float) -> int | None:
        """Its exit code, as `os.waitstatus_to_exitcode` has it; None when it still runs after that time."""
        if self._code is None and select.select([self._ended], [], [], timeout_s)[0]:
            self._code = int(os.read(self._ended, 16))
        return self._code


class ForkServer:
    """The process that forks members; it ends with the process that has started it."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster.members", str(theirs.fileno())],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            pass_fds=[theirs.fileno()],
        )
        theirs.close()

    def start(self, given: dict[str, Any], descriptors: list[int]) -> Member:
        """Fork a member; ``descriptors`` are those whose numbers are in ``given``, and it has copies of them."""
        pipes = [os.pipe() for _ in range(3)]
        (stdin, to_member), (from_member, stdout), (ended, told) = pipes
        socket.send_fds(self._control, [json.dumps(given).encode()], [stdin, stdout, told, *descriptors])
        for number in (stdin, stdout, told):
            os.close(number)
        return Member(int(self._control.recv(16)), to_member, from_member, ended)

    def close(self) -> None:
        """End it, after its members."""
        self._control.close()
        self._process.wait(TIMEOUT_S)


class Cluster:
    """The shared files of a test and the members that it has started."""

    def __init__(self, folder: pathlib.Path, fork_server: ForkServer, store: str | None = None) -> None:
        self.owner = SharedFilesOwner.create(str(folder))
        self.store = store
        self.members: list[Member] = []
        self._fork_server = fork_server

    @property
    def files(self) -> SharedFiles:
        return self.owner.files

    def start(self, code: str, **changes: object) -> Member:
        """Start a member; ``changes`` are fields of its membership, or ``joins=False`` for a process that is none."""
        files = self.files
        descriptors = sorted(files.descriptors())
        given = {
            "files": dataclasses.asdict(files),
            "descriptors": descriptors,
            "changes": {"store": self.store, **changes},
            "code": code,
        }
        self.members.append(self._fork_server.start(given, descriptors))
        return self.members[-1]

    def close(self) -> None:
        """End all members and remove the files."""
        for member in self.members:
            member.end()
        self.owner.close()


@contextlib.contextmanager
def cluster_in(folder: pathlib.Path, fork_server: ForkServer, store: str | None = None) -> Iterator[Cluster]:
    """Shared files in a folder, for as long as the context lasts."""
    cluster = Cluster(folder, fork_server, store)
    try:
        yield cluster
    finally:
        cluster.close()


def become_member(files: SharedFiles, changes: dict[str, object], channel: Channel | None = None) -> Membership:
    """Make this process a worker that serves, as far as its page says."""
    board = Scoreboard(None)
    page = board.take(1, 1)
    page.cells[Cell.STATE] = WorkerState.READY
    # What needs a server, it does not have.
    given = dict.fromkeys(
        field.name for field in dataclasses.fields(Membership) if field.default is dataclasses.MISSING
    )
    given |= {"role": "worker", "slot": 1, "seat": page.index, "generation": 1, "pid": os.getpid()}
    given |= {"page": page, "board": board, "shared_files": files, "channel": channel, **changes}
    place = Membership(**given)  # type: ignore[arg-type]
    join(place)
    return place


def serve(control: socket.socket) -> dict[str, Any]:
    """Fork a member for each request; returns in each of them, with what it was given, and exits at the end."""
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker)
    running: dict[int, int] = {}
    while True:
        for ready in select.select([control.fileno(), wake], [], [])[0]:
            if ready == wake:
                os.read(wake, 4096)
                _reap(running)
                continue
            text, descriptors, _, _ = socket.recv_fds(control, 1 << 20, 16)
            if not text:
                sys.exit()
            given = json.loads(text)
            if given["changes"].get("store"):
                import redis  # noqa: F401 - before the fork, since it takes most of a second
            stdin, stdout, told, *copies = descriptors
            pid = os.fork()
            if pid:
                control.send(str(pid).encode())
                running[pid] = told
                for number in (stdin, stdout, *copies):
                    os.close(number)
                continue
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.dup2(stdin, 0)
            os.dup2(stdout, 1)
            for number in (stdin, stdout, told, wake, waker, *running.values()):
                os.close(number)
            control.close()
            own = dict(zip(given["descriptors"], copies, strict=True))
            given["files"] = {
                name: own[value] if name.endswith("_fd") else value for name, value in given["files"].items()
            }
            return dict(given)


def _reap(running: dict[int, int]) -> None:
    for pid, told in list(running.items()):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            os.write(told, str(os.waitstatus_to_exitcode(status)).encode())
            os.close(told)
            del running[pid]


def main() -> None:
    """Become a member that a test has asked for, and run its code."""
    given = serve(socket.socket(fileno=int(sys.argv[1])))
    changes = given["changes"]
    files = SharedFiles(**given["files"])
    arbiter, channel = Channel.pair()
    place = become_member(files, changes, channel) if changes.pop("joins", True) else None
    known = {"__name__": "member", "place": place, "files": files, "arbiter": arbiter}
    exec(compile(given["code"], "member", "exec"), known)


if __name__ == "__main__":
    main()
