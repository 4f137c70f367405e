"""A configuration file patches nothing, whichever way it asks gevent for that."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from tests.conftest import ROOT

pytest.importorskip("gevent")

PROGRAM = """
import json, os, socket, sys, threading, time
from wsgicluster.settings import load

before = os.fork, os.waitpid, socket.socket, threading.Thread.start, time.sleep
found = [list(load(["app"], {}, ".").remarks) for _ in range(2)]
assert (os.fork, os.waitpid, socket.socket, threading.Thread.start, time.sleep) == before
import gevent.monkey
gevent.monkey.patch_time()
assert time.sleep is not before[-1], "it works again afterwards"
print(json.dumps(found))
"""


@pytest.mark.parametrize(
    "source",
    [
        "import gevent.monkey\ngevent.monkey.patch_all()\n",
        "from gevent import monkey\nmonkey.patch_all(thread=False)\n",
        "from gevent.monkey import patch_all\npatch_all()\n",
        "from patching import *\n",
    ],
)
@pytest.mark.parametrize("kind", ["gevent", "gthread"])
def test_nothing_is_patched(tmp_path: pathlib.Path, source: str, kind: str) -> None:
    (tmp_path / "patching.py").write_text("import gevent.monkey\ngevent.monkey.patch_all()\n")
    (tmp_path / "gunicorn.conf.py").write_text(f"{source}worker_class = {kind!r}\nfrom time import sleep\n")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, _ = json.loads(done.stdout)
    said = ["gevent.monkey.patch_all: not done; workers of the kind gevent do it themselves"]
    assert [remark.partition("conf.py: ")[2] for remark in first] == (said if kind == "gthread" else [])
