"""An arbiter with a worker of a few lines, to be started by tests as a program.

    python small_server.py SETTINGS_JSON

``boot.json`` in the current folder is the worker's code: it is read at each boot, and
says what goes wrong. Clients send one line and get one: see `answer`.
"""

import dataclasses
import faulthandler
import json
import os
import pathlib
import select
import signal
import socket
import sys
import time
import types
from typing import Any, NoReturn

from wsgicluster.arbiter.arbiter import Arbiter, Roles
from wsgicluster.errors import AppLoadError, ServerError, UsageError
from wsgicluster.ipc.assignment import Assignment
from wsgicluster.ipc.messages import BootFailed, ChannelClosed, Ready, RecycleWanted
from wsgicluster.ipc.scoreboard import CLIENT_OFFSET, STORE_REQUEST, Cell
from wsgicluster.logs.logs import LogOptions, Logs
from wsgicluster.settings import FdAddress, Settings, TcpAddress, UnixAddress
from wsgicluster.system.signals import DUMP_STACKS

KINDS = {"tcp": TcpAddress, "unix": UnixAddress, "fd": FdAddress}


def load_application(settings: Settings) -> dict[str, Any]:
    code: dict[str, Any] = json.loads(pathlib.Path("boot.json").read_text())
    if code.get("boot_s"):
        select.select([], [], [], code["boot_s"])
    if code.get("fail"):
        raise AppLoadError("cannot load app", f"Traceback of {code['fail']}")
    if code.get("boot_exit"):
        os._exit(code["boot_exit"])
    return code


class Worker:
    """Serves one connection after the other."""

    def __init__(self, settings: Settings, assignment: Assignment) -> None:
        self.settings = settings
        self.assignment = assignment
        self.draining = False
        wake_read, wake_write = socket.socketpair()
        wake_write.setblocking(False)
        self.wake = wake_read
        self.keep = wake_write
        faulthandler.register(DUMP_STACKS, file=assignment.stacks_fd, all_threads=True)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self.drain)
        signal.signal(signal.SIGQUIT, lambda *_: os._exit(0))
        signal.set_wakeup_fd(wake_write.fileno())
        signal.pthread_sigmask(signal.SIG_SETMASK, set())

    def drain(self, number: int, frame: types.FrameType | None) -> None:
        self.draining = True

    def run(self, code: dict[str, Any] | None) -> int:
        page, channel = self.assignment.page, self.assignment.channel
        began = time.monotonic()
        try:
            code = code or load_application(self.settings)
        except AppLoadError as error:
            channel.send(BootFailed(error.exit_code, str(error), error.trace))
            return error.exit_code
        page.floats[Cell.DEADLINE] = 0.0
        channel.send(Ready(time.monotonic() - began))
        if code.get("die_s") is not None:
            select.select([], [], [], code["die_s"])
            return 1
        while not self.draining:
            waiting: list[Any] = [*self.assignment.listeners, self.wake, channel]
            for chosen in select.select(waiting, [], [])[0]:
                if chosen is channel:
                    try:
                        channel.receive()
                    except ChannelClosed:
                        return 0
                elif isinstance(chosen, socket.socket) and chosen is not self.wake:
                    self.accept(chosen, code)
        return 0

    def accept(self, listener: socket.socket, code: dict[str, Any]) -> None:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            return  # another worker was faster
        page = self.assignment.page
        with connection:
            connection.settimeout(5)
            line = connection.recv(1000).decode().strip()
            page.cells[Cell.REQUESTS] += 1
            STORE_REQUEST(page.raw, CLIENT_OFFSET, b"127.0.0.1:9", f"GET /{line}".encode())
            page.floats[Cell.STARTED] = time.monotonic()
            if self.settings.timeout:
                page.floats[Cell.DEADLINE] = time.monotonic() + self.settings.timeout
            connection.sendall(f"{self.answer(line, code)}\n".encode())
            page.floats[Cell.STARTED] = page.floats[Cell.DEADLINE] = 0.0

    def answer(self, line: str, code: dict[str, Any]) -> str:
        if line == "hang":
            wedge()
        elif line.startswith("exit"):
            os._exit(int(line[4:]))
        elif line == "segv":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif line.startswith("recycle "):
            self.assignment.channel.send(RecycleWanted(line.split()[1], "a test wants it"))
        elif line == "descriptors":
            return json.dumps(sorted(int(name) for name in os.listdir("/proc/self/fd")))
        elif line == "stubborn":
            pathlib.Path("stubborn").touch()
            wedge()
        return json.dumps(
            {
                "pid": os.getpid(),
                "parent": os.getppid(),
                "slot": self.assignment.slot,
                "generation": self.assignment.generation,
                "version": code.get("version"),
            }
        )


def wedge() -> None:
    while True:
        select.select([], [], [], 3600)


def boot_worker(settings: Settings, assignment: Assignment, application: object | None) -> NoReturn:
    os._exit(Worker(settings, assignment).run(application if isinstance(application, dict) else None))


def read_settings(text: str) -> Settings:
    fields = json.loads(text)
    bind = [KINDS[kind](*arguments) for kind, *arguments in fields.pop("bind")]
    defaults: dict[str, Any] = {"wsgi_app": "small", "graceful_timeout": 5.0}
    return Settings(bind=tuple(bind), **{**defaults, **fields})


def reload_settings() -> Settings:
    present = read_settings(sys.argv[1])
    path = pathlib.Path("settings.json")
    if not path.exists():
        return present
    changed = json.loads(path.read_text())
    if "wrong" in changed:
        raise UsageError(changed["wrong"])
    return dataclasses.replace(present, **changed)


def main() -> int:
    settings = read_settings(sys.argv[1])
    logs = Logs(LogOptions(errorlog=settings.errorlog, loglevel="debug"))
    roles = Roles(boot_worker=boot_worker, load_application=load_application)
    try:
        return Arbiter(settings, reload_settings, roles, logs).run()
    except ServerError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
