"""Configuration files: which one is read, which names are settings, and how errors are reported."""

import pathlib
import sys

import pytest

from wsgicluster.errors import UsageError
from wsgicluster.settings.sources.config_file import ConfigFile, read_config


def read(folder: pathlib.Path, source: str) -> ConfigFile:
    (folder / "conf.py").write_text(source)
    found = read_config("conf.py", str(folder))
    assert found is not None
    return found


def complaint(folder: pathlib.Path, source: str) -> str:
    with pytest.raises(UsageError) as caught:
        read(folder, source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_default_names(tmp_path: pathlib.Path) -> None:
    assert read_config(None, str(tmp_path)) is None
    (tmp_path / "gunicorn.conf.py").write_text("workers = 2\n")
    found = read_config(None, str(tmp_path))
    assert found == ConfigFile(f"file {tmp_path}/gunicorn.conf.py", {"workers": 2})
    (tmp_path / "wsgicluster.conf.py").write_text("workers = 3\n")
    found = read_config(None, str(tmp_path))
    assert found == ConfigFile(f"file {tmp_path}/wsgicluster.conf.py", {"workers": 3})


def test_a_module_is_no_value(tmp_path: pathlib.Path) -> None:
    assert read(tmp_path, "import trace\nimport json as store\nworkers = 2\n").names == {"workers": 2}


def test_named_files(tmp_path: pathlib.Path) -> None:
    (tmp_path / "sub").mkdir()
    path = tmp_path / "sub" / "a.py"
    path.write_text("workers = 2\n")
    for location in ("sub/a.py", "file:sub/a.py", str(path), f"file:{path}"):
        assert read_config(location, str(tmp_path)) == ConfigFile(f"file {path}", {"workers": 2})
    with pytest.raises(UsageError, match=r"b\.py: cannot be read: No such file"):
        read_config("b.py", str(tmp_path))


def test_module(tmp_path: pathlib.Path) -> None:
    path = list(sys.path)
    for count in (2, 3):
        # A different length: the compiled file of the same second would pass for up to date.
        (tmp_path / "conf_of_test_module.py").write_text("import os\nworkers = 0" + " + 1" * count + "\n")
        found = read_config("python:conf_of_test_module", str(tmp_path))
        assert found == ConfigFile("module conf_of_test_module", {"workers": count})
    assert sys.path == path
    (tmp_path / "conf_of_test_module.py").write_text("\n\nraise OSError('no')\n")
    with pytest.raises(UsageError, match=r"conf_of_test_module\.py:3.*OSError: no"):
        read_config("python:conf_of_test_module", str(tmp_path))
    with pytest.raises(UsageError, match="module no_such_module_here: ModuleNotFoundError"):
        read_config("python:no_such_module_here", str(tmp_path))
    sys.modules.pop("conf_of_test_module", None)


def test_names_that_are_not_settings(tmp_path: pathlib.Path) -> None:
    source = """
import os
import os.path as place
from os import environ
from collections import deque as queue
from multiprocessing import cpu_count

_mine = 1
CORES = 4
Xyz = 3
LOG_Dir = lambda: 1

def half(): return CORES // 2

class Shape: pass

workers = half()
"""
    assert read(tmp_path, source).names == {"workers": 2}


def test_settings_may_be_imported(tmp_path: pathlib.Path) -> None:
    (tmp_path / "base_of_test_config.py").write_text("workers = 5\n")
    assert read(tmp_path, "from base_of_test_config import *\n").names == {"workers": 5}
    sys.modules.pop("base_of_test_config", None)


def test_the_file_knows_where_it_is(tmp_path: pathlib.Path) -> None:
    assert read(tmp_path, "chdir = __file__\n").names == {"chdir": str(tmp_path / "conf.py")}


def test_other_names_are_the_files_own(tmp_path: pathlib.Path) -> None:
    source = """
host, port = "0.0.0.0", 8000
for number in range(3):
    workers_per_core = number
with open(__file__) as logger:
    lines = logger.read().count("worker")
preload, users, web_concurrency, max_workers, keep_alive_text = print, 3, 4, 5, "x"
accesslog_var = "-"
accesslog = accesslog_var
worker = "celery"
x_forwarded_for_header = "X-FORWARDED-FOR"
bind = f"{host}:{port}"
"""
    found = read(tmp_path, source)
    assert (dict(found.names), found.remarks) == ({"accesslog": "-", "bind": "0.0.0.0:8000"}, ())


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("workesr = 2", "workers"),
        ("worker = 2", "workers"),
        ("preload = True", "preload_app"),
        ("PRELOAD_APP = True", "preload_app"),
        ("log_file = 'x'", "errorlog"),
        ("access_log = '-'", "accesslog"),
        ("keep_alive = 5", "keepalive"),
        ("workerclass = 'sync'", "worker_class"),
    ],
)
def test_near_misses(tmp_path: pathlib.Path, line: str, meant: str) -> None:
    name = line.partition(" ")[0]
    assert read(tmp_path, line + "\n").remarks == (
        f"file {tmp_path}/conf.py: {name}: not a setting; did you mean {meant}?",
    )


def test_own_names_that_are_spelt_like_a_setting(tmp_path: pathlib.Path) -> None:
    found = read(tmp_path, "Workers = 4\nTIME_OUT = 3\nTIMEOUT = 3\n_bind = 1\nThread = 1\n")
    assert [remark.partition("conf.py: ")[2] for remark in found.remarks] == [
        "Workers: not a setting; did you mean workers?",
        "TIME_OUT: not a setting; did you mean timeout?",
        "TIMEOUT: not a setting; did you mean timeout?",
    ]
    assert not read(tmp_path, "WORKERS = 4\nworkers = WORKERS\n").remarks


def test_hooks_of_all_shapes(tmp_path: pathlib.Path) -> None:
    (tmp_path / "own_hooks.py").write_text("def post_fork(server, worker): pass\ndef on_exit(server): pass\n", "utf-8")
    source = """
from own_hooks import on_exit
post_fork = "own_hooks.post_fork"
when_ready = lambda server: None
globals().update({"pre_fork": lambda server, worker: None})
class Calls:
    def __call__(self, server): pass
on_starting = Calls()
on_reload = ""
"""
    found = read(tmp_path, source).names
    assert [name for name, value in found.items() if callable(value)] == [
        "on_exit", "post_fork", "when_ready", "pre_fork", "on_starting",
    ]  # fmt: skip
    assert found["on_reload"] is None


def test_all_hooks_that_cannot_be_imported(tmp_path: pathlib.Path) -> None:
    (tmp_path / "half_hooks.py").write_text("1 / 0\n", "utf-8")
    with pytest.raises(UsageError) as caught:
        read(tmp_path, "on_exit = 'half_hooks.on_exit'\npre_fork = 'os.no_such'\nwhen_ready = 'nowhere'\n")
    lines = str(caught.value).splitlines()
    assert ["on_exit: 'half_hooks.on_exit'; expected a function (ZeroDivisionError" in lines[0], len(lines)] == [
        True,
        3,
    ]
    assert "pre_fork: 'os.no_such'; expected a function (AttributeError" in lines[1]
    assert "when_ready: 'nowhere'; expected a function (ValueError" in lines[2]


@pytest.mark.parametrize(
    "source",
    [
        "http_protocols = 'H1'",
        "asgi_loop = 'auto'",
        "dirty_workers = 0",
        "dirty_apps = []",
        "ssl_version = 5",
        "reload_engine = 'poll'",
        "on_dirty_starting = None",
    ],
)
def test_settings_without_effect_are_accepted_in_silence_at_usual_values(tmp_path: pathlib.Path, source: str) -> None:
    assert read(tmp_path, source + "\n") == ConfigFile(f"file {tmp_path}/conf.py")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("http_protocols = 'h2,h1'", "http_protocols: 'h2,h1': not done: workers speak HTTP/1.1; let a proxy "),
        ("root_path = '/x'", "root_path: '/x': not used: wsgicluster serves WSGI applications"),
        ("dirty_workers = 1", "dirty_workers: 1: not done: "),
        ("def on_dirty_starting(arbiter): pass", "on_dirty_starting: on_dirty_starting: not done: "),
    ],
)
def test_one_line_for_what_is_not_done(tmp_path: pathlib.Path, source: str, says: str) -> None:
    (remark,) = read(tmp_path, source + "\n").remarks
    assert remark.startswith(f"file {tmp_path}/conf.py: {says}")


def test_the_file_is_a_module_meanwhile_and_afterwards(tmp_path: pathlib.Path) -> None:
    source = "import sys\nme = sys.modules['__config__']\nme.workers = 3\nthreads = vars(me)['workers']\n"
    assert read(tmp_path, source).names == {"workers": 3, "threads": 3}
    kept = sys.modules["__config__"]
    assert (kept.__file__, vars(kept)["threads"]) == (str(tmp_path / "conf.py"), 3)
    complaint(tmp_path, "raise OSError\n")
    assert sys.modules["__config__"] is kept, "a reload that fails leaves what is used"
    read(tmp_path, "threads = 4\n")
    assert vars(sys.modules["__config__"])["threads"] == 4


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("workers = 2\ntimeout = tiemout\n", "conf.py:2: NameError: name 'tiemout' is not defined"),
        ("def f():\n    return {}['a']\nworkers = f()\n", "conf.py:2: KeyError: 'a'"),
        ("workers = (\n", "conf.py:1: SyntaxError: '(' was never closed"),
        ("import no_such_module_here\n", "conf.py:1: ModuleNotFoundError: No module named 'no_such_module_here'"),
        ("raise SystemExit\n", "conf.py:1: SystemExit"),
        ("raise ValueError('two\\nlines')\n", "conf.py:1: ValueError: two lines"),
        ("x = '\0'\n", "null bytes"),
    ],
)
def test_whatever_it_raises_is_one_line(tmp_path: pathlib.Path, source: str, says: str) -> None:
    assert says in complaint(tmp_path, source)


def test_a_file_that_is_not_text(tmp_path: pathlib.Path) -> None:
    (tmp_path / "conf.py").write_bytes(b"workers = '\xff'\n")
    with pytest.raises(UsageError, match=r"conf\.py.*SyntaxError"):
        read_config("conf.py", str(tmp_path))


def test_an_interrupt_is_not_an_error_of_the_file(tmp_path: pathlib.Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        read(tmp_path, "raise KeyboardInterrupt\n")
