"""What making the standard library cooperative must not leave out."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("gevent")

PLUGIN = """
seen = []

def note(event):
    seen.append(type(event).__name__)
"""

ENTRY_POINTS = """
[gevent.plugins.monkey.will_patch_module]
first = gevent_witness:note
[gevent.plugins.monkey.did_patch_all]
last = gevent_witness:note
"""

PROBE = """
from importlib import metadata
before = metadata.entry_points
from wsgicluster.worker.kinds.gevent.worker import setup
setup()
import gevent_witness
print(gevent_witness.seen[0], gevent_witness.seen[-1], metadata.entry_points is before)
"""


def test_plugins_of_other_packages_hear_of_the_patching(tmp_path: Path) -> None:
    (tmp_path / "gevent_witness.py").write_text(PLUGIN)
    offered = tmp_path / "gevent_witness-1.0.dist-info"
    offered.mkdir()
    (offered / "METADATA").write_text("Metadata-Version: 2.1\nName: gevent-witness\nVersion: 1.0\n")
    (offered / "entry_points.txt").write_text(ENTRY_POINTS)
    probe = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{PROBE}"
    ended = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=30, check=False)
    assert ended.stdout.split() == ["GeventWillPatchModuleEvent", "GeventDidPatchAllEvent", "True"], ended.stderr
