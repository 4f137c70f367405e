"""Which files have changed since the application was imported, and what is shown while it cannot be."""

import os
import pathlib
import sys
import types

import pytest

from tests.conftest import wait_until
from wsgicluster.errors import AppLoadError
from wsgicluster.ipc.messages import RecycleWanted
from wsgicluster.worker.lifecycle import reloader
from wsgicluster.worker.lifecycle.reloader import Reloader, failing_application


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Where the application is; only one module is imported."""
    module = types.ModuleType("own_module")
    module.__file__ = str(tmp_path / "own_module.py")
    nowhere = types.ModuleType("nowhere")
    nowhere.__file__ = str(tmp_path / "deleted" / "nowhere.py")
    monkeypatch.setattr(sys, "modules", {"own_module": module, "nowhere": nowhere, "built_in": types.ModuleType("b")})
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    for name in ("own_module.py", "beside.py", "page.html", "other.txt"):
        write(tmp_path / name, 1.0)
    return tmp_path


def write(path: pathlib.Path, moment: float) -> None:
    path.write_text("")
    os.utime(path, (moment, moment))


def test_each_change_is_found_once(folder: pathlib.Path) -> None:
    subject = Reloader([str(folder / "*.html")])
    assert subject.changed() == []
    for name in ("own_module.py", "beside.py", "page.html"):
        write(folder / name, 2.0)
        assert {pathlib.Path(found).name for found in subject.changed()} == {name}
        assert subject.changed() == []
    write(folder / "other.txt", 2.0)
    assert subject.changed() == []


def test_what_changes_while_the_application_is_imported_counts(folder: pathlib.Path) -> None:
    subject = Reloader([])
    write(folder / "own_module.py", 4e9)
    assert {*subject.changed()} == {str(folder / "own_module.py")}


def test_a_round_with_changes_asks_for_a_new_worker(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reloader, "INTERVAL_S", 0.01)
    subject = Reloader([])
    assert subject.changed() == []
    told: list[RecycleWanted] = []
    subject.watch(told.append)
    write(folder / "beside.py", 3.0)
    wait_until(lambda: told, 5, "it asks")
    assert told == [RecycleWanted("source", str(folder / "beside.py"))]


def test_an_application_that_cannot_be_loaded_is_shown() -> None:
    error = AppLoadError("app: cannot be imported: <b>", "Traceback <i>")
    started: list[tuple[object, ...]] = []
    body = b"".join(failing_application(error)({}, lambda *given: started.append(given)))
    assert b"cannot be imported: &lt;b&gt;" in body
    assert b"Traceback &lt;i&gt;" in body
    assert started[0][0] == "500 Internal Server Error"
