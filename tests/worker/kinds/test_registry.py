"""Which class a name stands for, and what is said of those that cannot be used."""

import pathlib
import sys

import pytest

from wsgicluster import worker
from wsgicluster.errors import AppLoadError, ServerError
from wsgicluster.settings import Settings
from wsgicluster.settings.types.worker import KINDS
from wsgicluster.worker.boot import load_application
from wsgicluster.worker.hooks import kind_of
from wsgicluster.worker.kinds.registry import check_kind, hooks_class

MODULE = """
from wsgicluster.worker import SyncWorker, Worker

class Good(SyncWorker):
    kind = "of the user's own"

class Broken(SyncWorker):
    @classmethod
    def setup(cls):
        raise RuntimeError("no licence")

class Empty(Worker):
    pass

class EmptyToo(Worker):
    kind = "of the user's own"

class Alien:
    __module__ = "gunicorn.workers.sync"

number = 5
"""


@pytest.fixture
def module(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module with workers, which an installed package offers as ``own`` and, wrongly, as ``lost``."""
    (tmp_path / "own_workers.py").write_text(MODULE)
    (tmp_path / "own_failing.py").write_text("raise RuntimeError('not today')\n")
    offers = tmp_path / "own-1.0.dist-info"
    offers.mkdir()
    (offers / "METADATA").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1.0\n")
    (offers / "entry_points.txt").write_text("[wsgicluster.workers]\nown = own_workers:Good\nlost = own_workers:Bad\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_workers", raising=False)
    return "own_workers"


def test_our_own_are_there_under_their_names() -> None:
    assert hooks_class("sync") is worker.SyncWorker
    assert hooks_class("gthread") is worker.ThreadWorker is worker.GThreadWorker
    assert worker.Worker is worker.WorkerHooks
    assert issubclass(worker.ThreadWorker, worker.Worker)
    assert {kind_of(hooks_class(name)) for name in KINDS} == {*KINDS}


@pytest.mark.parametrize("form", ["{}.Good", "{}:Good", "own"])
def test_finds(module: str, form: str) -> None:
    kind = hooks_class(form.format(module))
    assert kind is sys.modules[module].Good
    assert kind_of(kind) == "sync"
    check_kind(kind)
    assert hooks_class(kind) is kind


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere.Worker", "no module named 'nowhere'"),
        ("own_worker.Good", "did you mean own_workers?"),
        ("own_workers.Godo", "own_workers has no 'Godo'; it has Good"),
        ("own_workers.Alien", "is a worker of Gunicorn's; derive it from SyncWorker"),
        ("own_workers.Empty", "does not say how requests are run; derive it from SyncWorker"),
        ("own_workers:EmptyToo", "does not say how requests are run; derive it from SyncWorker"),
        ("own_workers.number", "is not a class; derive it from SyncWorker"),
        ("own_failing.Worker", "cannot be imported: RuntimeError: not today"),
        ("pathlib.Path", "is not a worker class; derive it from SyncWorker"),
        ("lost", "(entry point own_workers:Bad of own): own_workers has no 'Bad'"),
        ("absent", "no installed package has an entry point of this name in wsgicluster.workers"),
    ],
)
def test_says_in_one_line_what_is_wrong(module: str, name: str, words: str) -> None:
    with pytest.raises(ServerError) as caught:
        hooks_class(name)
    text = str(caught.value)
    assert text.startswith(f"worker_class: {name}")
    assert words in text
    assert "\n" not in text


def test_a_class_is_looked_at_before_anything_is_started() -> None:
    with pytest.raises(AppLoadError, match="worker_class: Path: is not a worker class"):
        check_kind(pathlib.Path)


@pytest.mark.parametrize("name", ["nowhere.Worker", "own_workers.Good", "own", "sync"])
def test_nothing_is_imported_to_start(module: str, name: str) -> None:
    check_kind(name)
    assert module not in sys.modules


def test_what_a_class_raises_is_told_with_its_traceback(module: str) -> None:
    with pytest.raises(AppLoadError) as caught:
        load_application(Settings(wsgi_app="tests.apps.basic", worker_class=f"{module}.Broken"))
    assert str(caught.value) == f"worker_class: {module}.Broken: setup failed: RuntimeError: no licence"
    assert 'own_workers.py", line' in caught.value.trace
    assert "kinds.py" not in caught.value.trace
