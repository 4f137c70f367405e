"""The table of differences says of each setting of Gunicorn what both servers show when they run on the same one."""

import collections
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator

import pytest

from tests.gunicorn.real_gunicorn import MAKE, NEWEST, RealGunicorn
from tests.gunicorn.table import (  # noqa: F401  (each adds its probes)
    hook_probes,
    log_probes,
    process_probes,
    protocol_probes,
    request_probes,
)
from tests.gunicorn.table.comparison import PROBES, Expected, Probe, subject
from wsgicluster.migrate.notes import Agreement
from wsgicluster.migrate.table import ROWS

EXPECTED: dict[str, list[Expected]] = collections.defaultdict(list)
for each in PROBES:
    for setting, expectation in each.expected.items():
        EXPECTED[setting].append(expectation)


def name_of(probe: Probe) -> str:
    return probe.name


@pytest.fixture
def folder() -> Iterator[pathlib.Path]:
    """A folder whose path is short enough for sockets, and that other users may enter."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="table-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def skip_without_rights(probe: Probe) -> None:
    if probe.for_root and os.geteuid() != 0:
        pytest.skip("needs the rights of root")


@pytest.mark.live
@pytest.mark.parametrize("probe", PROBES, ids=name_of)
def test_wsgicluster(folder: pathlib.Path, probe: Probe) -> None:
    skip_without_rights(probe)
    with subject(folder, is_ours=True) as server:
        assert probe.function(server) == {name: each.ours for name, each in probe.expected.items()}


@pytest.fixture(scope="session")
def newest_gunicorn(real_gunicorn: RealGunicorn) -> RealGunicorn:
    """The Gunicorn of the version that the table is about, with all that its probes use."""
    found = real_gunicorn.version()
    if found < NEWEST or not real_gunicorn.can_import("paste.deploy", "h2"):
        pytest.skip(f"Gunicorn {'.'.join(map(str, found))} is older, or lacks a package; {MAKE} makes what is needed")
    return real_gunicorn


@pytest.mark.live
@pytest.mark.usefixtures("newest_gunicorn")
@pytest.mark.parametrize("probe", PROBES, ids=name_of)
def test_gunicorn(folder: pathlib.Path, probe: Probe) -> None:
    skip_without_rights(probe)
    with subject(folder, is_ours=False) as server:
        assert probe.function(server) == {name: each.theirs for name, each in probe.expected.items()}


@pytest.mark.parametrize("name", ROWS)
def test_each_row_is_what_its_probes_show(name: str) -> None:
    assert name in EXPECTED, "no probe observes it"
    is_same = all(each.is_same for each in EXPECTED[name])
    if ROWS[name].agreement is not Agreement.NOT_FOR_WSGI:
        assert is_same == (ROWS[name].agreement is Agreement.SAME)


def test_each_probe_is_of_a_setting() -> None:
    assert EXPECTED.keys() <= ROWS.keys()


def test_each_setting_of_gunicorn_has_a_row(real_gunicorn: RealGunicorn) -> None:
    code = "import gunicorn.config, json; print(json.dumps([each.name for each in gunicorn.config.KNOWN_SETTINGS]))"
    done = subprocess.run([real_gunicorn.python, "-c", code], capture_output=True, check=True, timeout=60)
    known = set(json.loads(done.stdout))
    assert known <= ROWS.keys()
    # An older one has fewer.
    assert real_gunicorn.version() < NEWEST or ROWS.keys() == known
