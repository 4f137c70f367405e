"""What a start imports, which is most of its time: counted, and what is left out stays out."""

import ast
import pathlib
import signal
import subprocess
import sys

import pytest

from tests.conftest import ROOT, StartServer
from tests.live.client import fetch

LEFT_OUT = (
    "argparse", "asyncio", "concurrent", "configparser", "datetime", "difflib", "email", "hashlib", "hmac", "html",
    "importlib.metadata", "importlib.resources", "logging.config", "multiprocessing", "pickle", "platform", "psutil",
    "socketserver", "sqlite3", "ssl", "subprocess", "sysconfig", "wsgicluster.admin", "wsgicluster.ctl",
    "wsgicluster.doctor", "wsgicluster.embedding", "wsgicluster.gunicorn.arbiter_calls", "wsgicluster.steward",
    "wsgicluster.worker.jobs",
)  # fmt: skip
MOST_OURS = 312
MOST_OTHERS = 145


def test_the_command_imports_what_a_start_needs() -> None:
    # Without the site's packages, which import what they like; their folder is added without its .pth files.
    code = (
        f"import sys; sys.path += {[*map(str, (ROOT, *site_packages()))]}; import wsgicluster.cli; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    found = done.stdout.split()
    assert "wsgicluster.arbiter.arbiter" in found
    assert sorted(set(LEFT_OUT).intersection(found)) == []
    ours = [name for name in found if name.partition(".")[0] == "wsgicluster"]
    assert len(ours) <= MOST_OURS
    assert len(found) - len(ours) <= MOST_OTHERS


def site_packages() -> list[pathlib.Path]:
    return [pathlib.Path(entry) for entry in sys.path if entry.endswith("site-packages")]


APPLICATION = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "1")])
    return [b"x"]
"""

CONFIGURATION = """
import os, sys

def ours():
    return {name for name in sys.modules if name.startswith("wsgicluster")}

before = ours()  # when this file is read again

def on_exit(server):
    with open("arbiter.txt", "w") as file:
        print(sorted(ours() - before), file=file)

def post_worker_init(worker):
    worker.known = ours()

def worker_exit(server, worker):
    with open("worker.txt", "w") as file:
        print(sorted(ours() - worker.known), file=file)
"""

LOGGING = """
logconfig_dict = {"loggers": {"shop": {"level": "INFO", "handlers": ["console"]}}}
"""


@pytest.mark.live
@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
def test_a_running_server_imports_nothing_more_of_ours(server: StartServer, tmp_path: pathlib.Path, kind: str) -> None:
    """By then an upgrade may have replaced the files."""
    (tmp_path / "hooks.py").write_text(CONFIGURATION)
    live = server("app", "-w", "1", "-k", kind, "-c", "hooks.py", source=APPLICATION)
    live.wait_log("Started")
    assert fetch(live.port).status == 200
    (tmp_path / "hooks.py").write_text(CONFIGURATION + LOGGING)
    live.send(signal.SIGHUP)
    live.wait_log("Generation 2 is healthy")
    assert fetch(live.port).status == 200
    live.stop()
    for process in ("arbiter", "worker"):
        assert ast.literal_eval((tmp_path / f"{process}.txt").read_text()) == [], process
