"""What a configuration file can import from Gunicorn where that is not installed, and that nothing else can."""

import importlib
import pathlib
import sys

import pytest

from wsgicluster import worker
from wsgicluster.errors import UsageError
from wsgicluster.gunicorn.imports import VIEWS, importable
from wsgicluster.settings import Loaded, load
from wsgicluster.settings.reference import listing
from wsgicluster.worker.hooks import kind_of
from wsgicluster.worker.kinds.registry import hooks_class


@pytest.fixture(autouse=True)
def without_gunicorn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not the environment has the real one, and whatever the folders of the tests are called."""
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if not (pathlib.Path(entry) / "gunicorn").is_dir()])
    assert "gunicorn" not in sys.modules


def read(folder: pathlib.Path, source: str) -> Loaded:
    (folder / "gunicorn.conf.py").write_text(source)
    return load(["app"], {}, str(folder))


IDIOMS = """
import gunicorn
import gunicorn.app.base
from gunicorn import glogging, util
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.http.message import Request
from gunicorn.http.wsgi import Response
from gunicorn.workers.base import Worker
from gunicorn.workers.gthread import ThreadWorker

gunicorn.SERVER_SOFTWARE = "web"
gunicorn.SERVER = "Undisclosed"
assert gunicorn.version_info >= (20, 1)

def described(server: Arbiter, worker: Worker, config: "Config") -> gunicorn.app.base.BaseApplication: ...

class Logs(glogging.Logger):
    def setup(self, cfg):
        super().setup(cfg)

logconfig_dict = {**glogging.CONFIG_DEFAULTS, "disable_existing_loggers": True}
chdir = util.getcwd()
worker_class = "gunicorn.workers.gthread.ThreadWorker"
threads = 2
"""


def test_what_files_import(tmp_path: pathlib.Path) -> None:
    found = read(tmp_path, IDIOMS)
    assert (found.settings.worker_class, found.remarks) == ("gthread", ())
    assert found.settings.logconfig_dict is not None
    assert found.settings.logconfig_dict["disable_existing_loggers"] is True
    names = "gunicorn, gunicorn.app, gunicorn.app.base, gunicorn.glogging, gunicorn.util, gunicorn.arbiter, gunicorn."
    assert listing(found).splitlines()[-1].startswith(f"# Imported as Gunicorn's, wsgicluster's own: {names}")
    assert "Gunicorn is not installed" not in listing(read(tmp_path, ""))


def test_it_is_not_there_afterwards(tmp_path: pathlib.Path) -> None:
    finders = list(sys.meta_path)
    read(tmp_path, "import gunicorn.workers.sync\n")
    with pytest.raises(UsageError, match=r"gunicorn\.conf\.py:2: OSError"):
        read(tmp_path, "import gunicorn.config\nraise OSError\n")
    assert sys.meta_path == finders
    assert not [name for name in sys.modules if name.partition(".")[0] == "gunicorn"]
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("gunicorn")


def test_what_is_not_there(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match=r"gunicorn\.conf\.py:1: .*wsgicluster has no gunicorn\.six in its place"):
        read(tmp_path, "from gunicorn.six import iteritems\n")
    with pytest.raises(UsageError, match=r"gunicorn\.conf\.py:2: TypeError: Mine .*; server_header sets or omits"):
        read(tmp_path, "from gunicorn.http.wsgi import Response\nclass Mine(Response): ...\n")
    source = "try:\n    import gunicorn.debug\nexcept ImportError:\n    workers = 3\n"
    assert read(tmp_path, source).settings.workers == 3


def test_each_file_has_modules_of_its_own(tmp_path: pathlib.Path) -> None:
    read(tmp_path, "import gunicorn\ngunicorn.SERVER_SOFTWARE = 'web'\n")
    assert read(tmp_path, "import gunicorn\nproc_name = gunicorn.SERVER_SOFTWARE\n").settings.proc_name == "gunicorn"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("gunicorn.SERVER = 'web'", "web"),
        ("gunicorn.SERVER_SOFTWARE = 'web/1 (a)'", "web/1 (a)"),
        ("gunicorn.SERVER_SOFTWARE = ''", ""),
        ("gunicorn.SERVER = 'web'\nserver_header = 'other'", "other"),
        ("", "wsgicluster"),
    ],
)
def test_the_name_of_the_server(tmp_path: pathlib.Path, source: str, name: str) -> None:
    assert read(tmp_path, f"import gunicorn\n{source}\n").settings.server_header == name


def test_what_it_does_not_have_is_an_error_of_the_file(tmp_path: pathlib.Path) -> None:
    for line, says in (
        ("from gunicorn.config import no_such", "ImportError: cannot import name 'no_such' from 'gunicorn.config'"),
        (
            "import gunicorn.http.body",
            "ModuleNotFoundError: Gunicorn is not installed, and wsgicluster has no",
        ),
        ("from gunicorn.arbiter import Arbiter\nArbiter(None)", "TypeError: a class of Gunicorn: a configuration file"),
    ):
        with pytest.raises(UsageError) as caught:
            read(tmp_path, line + "\n")
        assert says in str(caught.value)


def test_the_real_one_is_taken_where_it_is_installed(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site/gunicorn").mkdir(parents=True)
    (tmp_path / "site/gunicorn/__init__.py").write_text("SERVER_SOFTWARE = 'real'\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    try:
        found = read(tmp_path, "import gunicorn\nproc_name = gunicorn.SERVER_SOFTWARE\n")
        assert (found.settings.proc_name, found.views) == ("real", ())
    finally:
        sys.modules.pop("gunicorn", None)


def test_a_folder_of_that_name_is_not_taken_for_it(tmp_path: pathlib.Path) -> None:
    (tmp_path / "gunicorn").mkdir()
    assert read(tmp_path, "import gunicorn\nproc_name = gunicorn.SERVER\n").settings.proc_name == "gunicorn"


def test_every_view_can_be_imported() -> None:
    with importable():
        for module, names in VIEWS.items():
            found = vars(importlib.import_module(module))
            assert not [name for name in names if name not in found]


def test_functions() -> None:
    with importable():
        util = importlib.import_module("gunicorn.util")
        assert (util.bytes_to_str(b"\xe9"), util.bytes_to_str("a")) == ("\xe9", "a")
        assert (util.to_bytestring("\xe9"), util.to_bytestring(b"a")) == (b"\xc3\xa9", b"a")
        assert pathlib.Path(util.getcwd()).samefile(".")
        assert util.import_app("wsgiref.simple_server:demo_app").__name__ == "demo_app"


def test_worker_classes(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = read(tmp_path, "from gunicorn.workers.sync import SyncWorker\nworker_class = SyncWorker\n")
    assert issubclass(hooks_class(found.settings.worker_class), worker.SyncWorker)
    (tmp_path / "workers_of_test.py").write_text(
        "from gunicorn.workers.gthread import ThreadWorker\nclass Mine(ThreadWorker):\n    limit = 3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert kind_of(hooks_class("workers_of_test.Mine")) == "gthread"
    sys.modules.pop("workers_of_test")
    assert "gunicorn" not in sys.modules


def test_a_worker_class_whose_methods_would_not_be_called(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError) as caught:
        read(
            tmp_path,
            "from gunicorn.workers.sync import SyncWorker\n"
            "class Mine(SyncWorker):\n    def run(self): pass\n    def init_process(self): pass\n",
        )
    assert "gunicorn.conf.py:2: TypeError: Mine overrides run of Gunicorn's worker" in str(caught.value)
