"""The servers of a comparison: how each is installed and started.

Peers live in a venv of their own, so that nothing of them can be imported by accident.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
PEERS = Path(os.environ.get("BENCHMARK_PEERS", "~/.cache/wsgicluster-benchmark-peers")).expanduser()
PACKAGES = ("gunicorn[gevent]", "granian", "waitress", "gevent", "flask", "django")
BUILT = ("bjoern", "pyuwsgi", "freastal", "fastpysgi")
"""Peers that need a compiler (and libev); where they cannot be built they are skipped, and the table says so."""

Command = Callable[[str, int], list[str]]


def install() -> None:
    """Make the peers' venv and the floor; safe to run again."""
    python = PEERS / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(PEERS)], check=True)
    there = versions()
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if any(package.partition("[")[0] not in there for package in PACKAGES):
        subprocess.run([*pip, *PACKAGES], check=True)
    for package in BUILT:
        if package not in there and subprocess.run([*pip, package], check=False).returncode:
            print(f"{package} could not be installed: left out", file=sys.stderr)
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler:
        subprocess.run([compiler, "-O2", "-o", str(PEERS / "bin" / "floor"), str(HERE / "floor.c")], check=True)


def versions() -> dict[str, str]:
    """Each distribution in the peers' venv, and its version."""
    code = (
        "import importlib.metadata as metadata, json; "
        "print(json.dumps({found.name.lower(): found.version for found in metadata.distributions()}))"
    )
    found = subprocess.run([str(PEERS / "bin" / "python"), "-c", code], check=True, capture_output=True, text=True)
    known: dict[str, str] = json.loads(found.stdout)
    return known


def _ours(kind: str, *flags: str) -> Command:
    # The same Python environment as the one that runs the comparison.
    return lambda app, port: [
        sys.executable, "-m", "wsgicluster", "-w", "1", "-k", kind, "-b", f"127.0.0.1:{port}",
        "--chdir", str(HERE), *flags, f"applications:{app}",
    ]  # fmt: skip


def _gunicorn(kind: str, *flags: str) -> Command:
    return lambda app, port: [
        str(PEERS / "bin" / "gunicorn"), "-w", "1", "-k", kind, "-b", f"127.0.0.1:{port}", "--no-control-socket",
        "--chdir", str(HERE), *flags, f"applications:{app}",
    ]  # fmt: skip


def _granian(*flags: str) -> Command:
    return lambda app, port: [
        str(PEERS / "bin" / "granian"), "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port),
        "--workers", "1", "--no-ws", "--working-dir", str(HERE), *flags, f"applications:{app}",
    ]  # fmt: skip


def _called(call: str) -> Command:
    """A server that is a function: ``call`` has the names ``application`` and ``port``."""

    def command(app: str, port: int) -> list[str]:
        code = (
            f"import sys; sys.path.insert(0, {str(HERE)!r}); import applications, {call.partition('.')[0]}; "
            f"application, port = applications.{app}, {port}; {call}"
        )
        return [str(PEERS / "bin" / "python"), "-c", code]

    return command


def _uwsgi(app: str, port: int) -> list[str]:
    return [
        str(PEERS / "bin" / "uwsgi"), "--http-socket", f"127.0.0.1:{port}", "--http-keepalive", "--chdir", str(HERE),
        "--module", f"applications:{app}", "--master", "--processes", "1", "--disable-logging",
    ]  # fmt: skip


def _waitress(app: str, port: int) -> list[str]:
    return [
        str(PEERS / "bin" / "waitress-serve"), "--listen", f"127.0.0.1:{port}", "--threads", "8", f"applications:{app}",
    ]  # fmt: skip


LOG = "/tmp/wsgicluster-benchmark-access.log"
HOOKS = str(HERE / "hooks.conf.py")

COMMANDS: dict[str, Command] = {
    "floor": lambda _app, port: [str(PEERS / "bin" / "floor"), str(port)],
    "sync": _ours("sync"),
    "sync-pure": _ours("sync"),
    "sync-log": _ours("sync", "--access-logfile", LOG),
    "sync-hooks": _ours("sync", "-c", HOOKS),
    "gthread": _ours("gthread", "--threads", "8"),
    "gevent": _ours("gevent"),
    "bjoern": _called("bjoern.run(application, '127.0.0.1', port)"),
    "freastal": _called("freastal.serve(application, host='127.0.0.1', port=port)"),
    "fastpysgi": _called("fastpysgi.run(application, host='127.0.0.1', port=port)"),
    "granian": _granian(),
    "granian-threads": _granian("--blocking-threads", "8"),
    "uwsgi": _uwsgi,
    "gunicorn-sync": _gunicorn("sync"),
    "gunicorn-sync-log": _gunicorn("sync", "--access-logfile", LOG),
    "gunicorn-sync-hooks": _gunicorn("sync", "-c", HOOKS),
    "gunicorn-gthread": _gunicorn("gthread", "--threads", "8"),
    "gunicorn-gevent": _gunicorn("gevent"),
    "waitress": _waitress,
}
"""Name to command line for an application of `applications` and a port."""


def environment(name: str) -> dict[str, str]:
    """The environment a server is started with."""
    values = dict(os.environ, PYTHONPATH=str(HERE))
    if name.endswith("-pure"):
        values["WSGICLUSTER_PURE"] = "1"
    return values
