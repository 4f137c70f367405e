"""The snippets of the pages about the cluster run, in a process that is alone, and do what the pages say."""

import pathlib
import re
import subprocess
import sys
import textwrap

import pytest

from tests.conftest import ROOT

DOCS = ROOT / "docs"
_block = re.compile(r"^( *)\.\. code-block:: python\n\n((?:\1   .*\n|\n)+)", re.MULTILINE)

USES = {
    "howto/messages.rst": """
import time
change_theme("dark"); enqueue(7); enqueue_patiently(8)
assert jobs_of(1) == 2, jobs
assert jobs == [({"job": 7}, 1), ({"job": 8}, 1)]
assert config == {"theme": "dark"}
give_up_cache()
""",
    "howto/events.rst": """
from wsgicluster.cluster.events.subscriptions import subscriptions
exit_event = cluster.ExitEvent(
    at=1.0, reason="crashed", role="worker", slot=2, generation=1, pid=7, code=None, signal="SIGSEGV"
)
note_crash(exit_event)
assert crashes == [(2, "SIGSEGV", "crashed", "")], crashes
assert [each.event for each in subscriptions()] == ["exit", "degraded", "ready", "draining"]
from wsgicluster.steward.webhook import signature
assert is_genuine(b"key", b"1", b"{}", signature("key", "1", b"{}"))
assert not is_genuine(b"other", b"1", b"{}", signature("key", "1", b"{}"))
""",
    "howto/jobs-worker.rst": """
import time
order(5)
until = time.monotonic() + 5
while not sent and time.monotonic() < until:
    time.sleep(0.01)
assert sent == [{"order": 5}]
""",
    "explanation/node.rst": """
publish({"a": 1})
assert ask(1, "a") == 1
requests.add(2)
assert total() == 2
""",
}


def snippets(page: str) -> str:
    """The Python of a page, in order."""
    return "\n".join(textwrap.dedent(found[1]) for found in _block.findall((DOCS / page).read_text("utf-8")))


@pytest.mark.parametrize("page", USES)
def test_the_snippets_of_a_page_run(page: str, tmp_path: pathlib.Path) -> None:
    script = tmp_path / "page.py"
    script.write_text(snippets(page) + USES[page])
    done = subprocess.run(
        [sys.executable, "-W", "error", script], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_snippets_are_found() -> None:
    assert snippets("howto/messages.rst").count("def ") == 9
    assert "retain=True" in snippets("explanation/node.rst")


def test_every_public_name_is_on_a_page_of_the_module() -> None:
    from wsgicluster import cluster

    page = "".join((DOCS / f"reference/{name}.rst").read_text("utf-8") for name in ("cluster", "cluster-state"))
    types = {"ClusterError", "CurrentWorker", "Json", "MemberSnapshot", "Message", "Role"}
    assert [name for name in cluster.__all__ if name not in page and name not in types] == []
    assert [name for name in cluster.__all__ if not hasattr(cluster, name)] == []
    assert set(dir(cluster)) == set(cluster.__all__)
