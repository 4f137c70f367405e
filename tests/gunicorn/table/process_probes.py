"""Probes of settings about processes, the kinds of workers, and their surroundings."""

import json
import os
import pathlib
import select
import signal
import stat
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

from tests.conftest import ROOT, LiveServer, children_of, is_alive, wait_until
from tests.gunicorn.table.comparison import Running, Subject, asked, differ, probe, probe_of_root, same
from tests.live.client import BrokenResponse, Connection

Observed = Mapping[str, Any]


@probe(
    wsgi_app=same("probed"), chdir=same("inside"), pythonpath=same(True), raw_env=same("test"),
    umask=differ("0o27", "0o22"), proc_name=same(True), pidfile=same(True), backlog=same(77), reuse_port=same(1),
    workers=same(2), worker_tmp_dir=differ(False, True),
)  # fmt: skip
def surroundings(subject: Subject) -> Observed:
    for name in ("inside", "modules", "beats"):
        (subject.folder / name).mkdir()
    running = subject.start("""
wsgi_app = "probed"
chdir = FOLDER + "/inside"
pythonpath = FOLDER + "/modules"
raw_env = ["STAGE=test"]
umask = 0o027
proc_name = "shop"
pidfile = FOLDER + "/pid"
backlog = 77
reuse_port = True
workers = 2
worker_tmp_dir = FOLDER + "/beats"
""")
    ask = running.ask
    name = ask("__name__")
    wait_until(lambda: len(children_of(running.live.pid)) >= 2, 10, "two workers")
    return {
        "wsgi_app": name,
        "chdir": ask("os.path.basename(os.getcwd())"),
        "pythonpath": ask(f"{str(subject.folder / 'modules')!r} in sys.path"),
        "raw_env": ask("os.environ['STAGE']"),
        "umask": ask("umask()"),
        "proc_name": "shop" in ask("title()"),
        "pidfile": (subject.folder / "pid").read_text().strip() == str(running.live.pid),
        "backlog": ask("listeners()[0][0]"),
        "reuse_port": ask("listeners()[0][1]"),
        "workers": len(children_of(running.live.pid)),
        "worker_tmp_dir": ask("any('/beats/' in each for each in descriptors())"),
    }


@probe(default_proc_name=same(True), umask=differ([0o755, 0o700], [0o751, 0o700]), workers=differ(True, False))
def texts(subject: Subject) -> Observed:
    running = subject.start('default_proc_name = "kiosk"\numask = "22"\nbind = "unix:" + FOLDER + "/s"\n', bind=None)
    path = subject.folder / "s"
    modes = [_mode_of_socket(running, path)]
    by_default = "kiosk" in running.ask("title()")
    running.live.stop()
    running = subject.start('umask = 0o077\nbind = "unix:" + FOLDER + "/s"\n', bind=None)
    modes.append(_mode_of_socket(running, path))
    return {
        "default_proc_name": by_default,
        "umask": modes,
        "workers": subject.check('workers = "auto"\n').returncode == 0,
    }


def _mode_of_socket(running: Running, path: pathlib.Path) -> int:
    running.target = path
    wait_until(lambda: _value(running, "True"), 10, "the socket is open")
    return stat.S_IMODE(path.stat().st_mode)


@probe_of_root(user=same(65534), group=differ(65534, 0), post_fork=differ([0, 65534], [0, 0]))
def another_user(subject: Subject) -> Observed:
    note = subject.folder / "note"
    note.touch()
    note.chmod(0o666)
    config = """
user = 65534
def post_fork(server, worker):
    with open(FOLDER + "/note", "w") as file:
        file.write(str(os.geteuid()))
"""
    running = subject.start(config)
    user, group = running.ask("[os.getuid(), os.getgid()]")
    by_root = int(note.read_text())
    running.live.stop()
    subject.start(config + "preload_app = True\n").ask("1")
    return {"user": user, "group": group, "post_fork": [by_root, int(note.read_text())]}


@probe_of_root(user=same(65534), group=same(1), initgroups=differ([[1, 65534], 1], [[1, 65534], 0]))
def another_group(subject: Subject) -> Observed:
    running = subject.start("user = 'nobody'\ngroup = 1\n")
    user, group = running.ask("[os.getuid(), os.getgid()]")
    running.live.stop()
    running = subject.start("user = 'nobody'\ngroup = 1\ninitgroups = True\n")
    groups, own = running.ask("[os.getgroups(), os.getgid()]")
    return {"user": user, "group": group, "initgroups": [sorted({*groups, 65534}), own]}


@probe(config=same(["17", "18", "19"]), print_config=differ([0, True], [0, False]), check_config=same([True, False]))
def questions(subject: Subject) -> Observed:
    (subject.folder / "named.py").write_text("timeout = 18\n")
    (subject.folder / "other.conf").write_text("timeout = 19\n")
    subject.configure("timeout = 17\n")
    shown = [
        subject.run(*flags, "--print-config", "probed")
        for flags in ((), ("-c", "python:named"), ("--config", "file:other.conf"))
    ]
    lines = [next(line for line in each.stdout.splitlines() if line.startswith("timeout ")) for each in shown]
    fine, wrong = subject.run("--check-config", "probed"), subject.run("--check-config", "missing")
    return {
        "config": [line.partition("=")[2].split()[0].removesuffix(".0").removesuffix("s") for line in lines],
        "print_config": [shown[1].returncode, "named" in lines[1]],
        "check_config": [fine.returncode == 0, wrong.returncode == 0],
    }


@probe(bind=differ([True, True, 0o600], [True, True, None]))
def addresses(subject: Subject) -> Observed:
    here = subject.folder
    running = subject.start(f'bind = ["unix:{here}/a", "unix:{here}/b,mode=0600"]\n', bind=None)
    second = here / "b" if subject.is_ours else here / "b,mode=0600"
    served = []
    for path in (here / "a", second):
        running.target = path
        served.append(wait_until(lambda: _value(running, "True"), 10, "the socket is open"))
    return {"bind": [*served, stat.S_IMODE((here / "b").stat().st_mode) if (here / "b").exists() else None]}


@probe(control_socket=same(True), control_socket_mode=same(0o640), control_socket_disable=same(False))
def control(subject: Subject) -> Observed:
    path = subject.folder / "ctl"
    running = subject.start("control_socket = FOLDER + '/ctl'\ncontrol_socket_mode = 0o640\n")
    is_socket = wait_until(path.is_socket, 10, "the control socket is there")
    # Gunicorn makes it with the mode of a program first.
    wait_until(lambda: not path.stat().st_mode & stat.S_IXUSR, 10, "its mode is set")
    mode = stat.S_IMODE(path.stat().st_mode)
    running.live.stop()
    subject.start("control_socket = FOLDER + '/none'\ncontrol_socket_disable = True\n").ask("1")
    return {
        "control_socket": is_socket,
        "control_socket_mode": mode,
        "control_socket_disable": (subject.folder / "none").exists(),
    }


@probe(control_socket=differ(True, False))
def control_by_default(subject: Subject) -> Observed:
    running = subject.start()
    running.ask("1")
    if subject.is_ours:
        wait_until(lambda: "Started: " in running.log(), 10, "the server has started")
    else:
        wait_until(lambda: any(path.is_socket() for path in subject.folder.rglob("*")), 10, "the control socket")
    return {"control_socket": not any(path.is_socket() for path in subject.folder.rglob("*"))}


@probe(preload_app=differ([True, 2], [True, 1]))
def preload(subject: Subject) -> Observed:
    running = subject.start("preload_app = True\n")
    before, was_loaded = running.ask("os.getpid()"), running.ask("LOADED_BY != os.getpid()")
    source = subject.folder / "probed.py"
    source.write_text(source.read_text().replace("VERSION = 1", "VERSION = 2"))
    running.live.send(signal.SIGHUP)

    def version_of_another() -> int:
        # In one request: the worker before it may serve the next one still.
        pid, version = running.ask("[os.getpid(), VERSION]")
        return 0 if pid == before else int(version)

    return {"preload_app": [was_loaded, wait_until(version_of_another, 10, "another worker serves")]}


@probe(
    reload_extra_files=same(True), reload_engine=same(True), reload=differ([2, True], [2, False])
)  # fmt: skip
def reloads(subject: Subject) -> Observed:
    extra, source = subject.folder / "extra.txt", subject.folder / "probed.py"
    extra.touch()
    running = subject.start(
        'reload = True\nreload_engine = "poll"\nreload_extra_files = [FOLDER + "/extra.txt"]\nworkers = 1\n'
    )

    before = running.ask("os.getpid()")
    extra.write_text("more")
    of_extra = _wait_for_reload(extra, lambda: _value(running, "os.getpid()") not in (None, before), "another worker")
    source.write_text(source.read_text().replace("VERSION = 1", "VERSION = 2"))
    version = _wait_for_reload(source, lambda: _value(running, "VERSION if VERSION > 1 else None"), "the new code")
    source.write_text(source.read_text() + "\nraise ValueError('broken')\n")

    def status() -> str | int:
        found = "ended" if running.live.process.poll() is not None else _status(running)
        return found if found in ("ended", 500) else 0

    broken = _wait_for_reload(source, status, "end or error")
    return {
        "reload_extra_files": of_extra,
        "reload_engine": of_extra,
        "reload": [version, broken != "ended"],
    }


def _wait_for_reload(changed: pathlib.Path, condition: Callable[[], Any], what: str) -> Any:
    """Wait for what a change of a file leads to, and change its time again every three seconds.

    A worker that has only just started may have read the file before the change and its time after it.
    """
    touched = time.monotonic()

    def repeated() -> Any:
        nonlocal touched
        if time.monotonic() - touched > 3:
            os.utime(changed)
            touched = time.monotonic()
        return condition()

    return wait_until(repeated, 30, what)


def _value(running: Running, expression: str) -> Any:
    """None while workers are being replaced."""
    try:
        return running.ask(expression)
    except (OSError, BrokenResponse, AssertionError):
        return None


def _status(running: Running) -> int:
    try:
        return running.status(b"GET /?1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    except OSError:
        return 0


@probe(reload_engine=differ(True, False), http_parser=differ(True, False))
def engines(subject: Subject) -> Observed:
    # Only checked: Gunicorn's inotify needs a package.
    said = subject.check('reload_engine = "inotify"\nhttp_parser = "python"\n').stderr
    return {"reload_engine": "reload_engine: 'inotify'" in said, "http_parser": "http_parser: 'python'" in said}


@probe(spew=differ([True, False], [True, True]))
def spew(subject: Subject) -> Observed:
    running = subject.start("spew = True\n")
    running.ask("title()")
    return {"spew": ["probed:" in running.log(), "/sync.py" in running.log() or "gunicorn.workers" in running.log()]}


@probe(daemon=differ([0, True, False], [0, True, True]), enable_stdio_inheritance=same(True))
def daemon(subject: Subject) -> Observed:
    out = subject.folder / "out"
    subject.configure("pidfile = FOLDER + '/pid'\nerrorlog = FOLDER + '/errors'\nbind = 'unix:' + FOLDER + '/s'\n")
    pidfile = subject.folder / "pid"
    try:
        with out.open("wb") as file:
            code = subprocess.run(
                [*subject.command(), "-D", "-R", "probed"], cwd=subject.folder, stdin=subprocess.DEVNULL,
                stdout=file, stderr=file, timeout=60, check=False,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            ).returncode  # fmt: skip
        wait_until(lambda: pidfile.exists() and pidfile.read_text().strip(), 10, "the pid file")
        running = _at_socket(subject.folder / "s")
        wait_until(lambda: _value(running, "True"), 10, "the socket is open")
        served = running.ask("os.getsid(0) == os.getsid(os.getppid()) and print('PRINTED', flush=True) is None")
        has_printed = "PRINTED" in out.read_text()
    finally:
        _stop(pidfile)
    broken = subject.run("-D", "missing", "--pid", "other").returncode == 0
    return {"daemon": [code, served, broken], "enable_stdio_inheritance": has_printed}


def _at_socket(path: pathlib.Path) -> Running:
    running = Running(LiveServer(path.parent, [], {}), 0)
    running.target = path
    return running


def _stop(pidfile: pathlib.Path) -> None:
    if pidfile.exists() and (text := pidfile.read_text().strip()):
        os.kill(int(text), signal.SIGTERM)
        wait_until(lambda: not is_alive(int(text)), 15, "the daemon has ended")


@probe(max_requests=same(True), max_requests_jitter=same(True))
def recycling(subject: Subject) -> Observed:
    running = subject.start("max_requests = 3\n")
    first = running.ask("os.getpid()")
    wait_until(lambda: running.ask("os.getpid()") != first, 10, "another worker serves")
    running.live.stop()
    subject.start("""
max_requests = 1000
max_requests_jitter = 1_000_000_000_000
workers = 3
def post_worker_init(worker):
    with open(FOLDER + "/most", "a") as file:
        print(worker.max_requests, file=file)
""")
    path = subject.folder / "most"
    wait_until(lambda: path.exists() and len(path.read_text().split()) == 3, 10, "three workers")
    most = [int(word) for word in path.read_text().split()]
    return {
        "max_requests": True,
        "max_requests_jitter": all(1000 <= each <= 1_000_000_001_000 for each in most) and len(set(most)) > 1,
    }


def begin_to_hang(connection: Connection, mark: pathlib.Path) -> None:
    """Send a request that takes until ``mark`` is taken away, and wait until the application has it."""
    connection.ask("/?" + urllib.parse.quote(f"hold({str(mark)!r})"))
    wait_until(mark.exists, 10, "the application has the request")


@probe(timeout=same([True, True]))
def timeouts(subject: Subject) -> Observed:
    # Long enough for a worker of Gunicorn to start and to be seen alive on a busy machine.
    running = subject.start("timeout = 3\n")
    before = running.ask("os.getpid()")
    with Connection(running.port) as hanging:
        hanging.ask("/?time.sleep(60)")
        wait_until(lambda: "WORKER TIMEOUT" in running.log(), 10, "the hang is noticed")
        return {"timeout": [True, running.ask("os.getpid()") != before]}


@probe(timeout=differ([True, None], [False, True]))
def timeouts_of_threads(subject: Subject) -> Observed:
    # Gunicorn's thread worker is seen alive once a second: with a timeout of one it is killed now and then.
    running = subject.start('timeout = 3\nworker_class = "gthread"\nthreads = 2\n')
    value = _value(running, f"time.sleep({60 if subject.is_ours else 5}) is None")
    return {"timeout": ["timeout of 3 s passed" in running.log(), value]}


@probe(graceful_timeout=differ([True, 5], [True, 0]))
def graceful(subject: Subject) -> Observed:
    running = subject.start("graceful_timeout = 1\n")
    running.ask("1")
    with Connection(running.port) as hanging:
        begin_to_hang(hanging, subject.folder / "begun")
        began = time.monotonic()
        code = running.live.stop(timeout_s=60)
        # By default both wait for half a minute.
        return {"graceful_timeout": [time.monotonic() - began < 25, code]}


@probe(worker_class=same([True, True]), threads=same(True), keepalive=same(True), worker_connections=same(False))
def threads(subject: Subject) -> Observed:
    running = subject.start('worker_class = "gthread"\nthreads = 2\nkeepalive = 1\nworker_connections = 1000\n')
    found: list[bool] = []
    both = [threading.Thread(target=lambda: found.append(running.ask("BARRIER.wait(10) >= 0"))) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    with Connection(running.port) as idle:
        began = time.monotonic()
        kept = not idle.exchange("/?1").closes
        idle.rest()
        is_short = kept and 0.5 < time.monotonic() - began < 25
    multithread = running.ask("environ['wsgi.multithread']")
    running.live.stop()
    alias = subject.start(
        'worker_class = "gunicorn.workers.gthread.ThreadWorker"\nthreads = 2\nworker_connections = 1\n'
    )
    return {
        "worker_class": [multithread, alias.ask("environ['wsgi.multithread']")],
        "threads": found == [True, True],
        "keepalive": is_short,
        "worker_connections": _served_beside_another(alias, subject.folder / "begun"),
    }


def _served_beside_another(running: Running, mark: pathlib.Path) -> bool:
    """Whether a second client is served while the first one's request runs."""
    with Connection(running.port) as first, Connection(running.port) as second:
        begin_to_hang(first, mark)
        second.ask("/?1")
        is_served = bool(select.select([second.sock], [], [], 0.7)[0])
        mark.unlink()
        return is_served


@probe(threads=differ(False, True))
def busy_threads(subject: Subject) -> Observed:
    """Whether a kept connection waits for the worker that it is at, while another worker has nothing to do."""
    running = subject.start('worker_class = "gthread"\nthreads = 1\nworkers = 2\nkeepalive = 20\ntimeout = 0\n')
    with Connection(running.port) as kept:
        mine = asked(kept, "os.getpid()")
        others = []
        try:
            while True:
                others.append(Connection(running.port))
                if asked(others[-1], "os.getpid()") == mine:
                    break
            mark = subject.folder / "begun"
            begin_to_hang(others[-1], mark)
            kept.ask("/?os.getpid()")
            # Ours has time, for it answers; Gunicorn does not, however long it is given.
            select.select([kept.sock], [], [], 20 if subject.is_ours else 1)
            mark.unlink()
            return {"threads": json.loads(kept.response().body) == mine}
        finally:
            for each in others:
                each.close()


@probe(keepalive=differ(False, True))
def sync_connections(subject: Subject) -> Observed:
    running = subject.start("keepalive = 5\n")
    with Connection(running.port) as connection:
        return {"keepalive": connection.exchange("/?1").closes}


@probe(worker_class=differ(False, True))
def class_of_user(subject: Subject) -> Observed:
    (subject.folder / "own.py").write_text("""
from gunicorn.workers.sync import SyncWorker

class Own(SyncWorker):
    def handle_request(self, *arguments):
        return super().handle_request(*arguments)
""")
    return {"worker_class": subject.check('worker_class = "own.Own"\n').returncode == 0}


@probe(sendfile=same([1, 0]), tmp_upload_dir=differ(True, False))
def files(subject: Subject) -> Observed:
    (subject.folder / "uploads").mkdir()
    running = subject.start("tmp_upload_dir = FOLDER + '/uploads'\n")
    with Connection(running.port) as connection:
        connection.exchange("/file")
    used = running.ask("len(SENT)")
    # The rest of the body is read, too, else Gunicorn resets the connection while that is still sent.
    look = "[any('/uploads/' in each for each in descriptors()), len(environ['wsgi.input'].read())][0]"
    is_stored = running.ask(look, method="POST", body=b"x" * (3 << 20))
    running.live.stop()
    without = subject.start("sendfile = False\n")
    with Connection(without.port) as connection:
        connection.exchange("/file")
    return {"sendfile": [used, without.ask("len(SENT)")], "tmp_upload_dir": is_stored}
