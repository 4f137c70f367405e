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


def test_unknown_names(tmp_path: pathlib.Path) -> None:
    text = complaint(tmp_path, "workesr = 2\n")
    assert text == f"file {tmp_path}/conf.py: workesr: no such setting; did you mean workers?"
    assert "expected a setting, or _NAME for a variable of your own" in complaint(tmp_path, "zzzz = 2\n")


def test_own_names_that_are_spelt_like_a_setting(tmp_path: pathlib.Path) -> None:
    found = read(tmp_path, "Workers = 4\nTIME_OUT = 3\nTIMEOUT = 3\n_bind = 1\nThread = 1\n")
    assert [remark.partition("conf.py: ")[2] for remark in found.remarks] == [
        "Workers: not a setting, because of its capitals; did you mean workers?",
        "TIME_OUT: not a setting, because of its capitals; did you mean timeout?",
        "TIMEOUT: not a setting, because of its capitals; did you mean timeout?",
    ]
    assert not read(tmp_path, "WORKERS = 4\nworkers = WORKERS\n").remarks


def test_all_wrong_names_at_once(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, "worker = 4\ntime_out = 3\nreuse_port = True\nthreads = 2\n")
    lines = str(caught.value).splitlines()
    assert ["did you mean workers?" in lines[0], "did you mean timeout?" in lines[1], len(lines)] == [True, True, 3]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (
            "def post_fork(server, worker): pass\n",
            "post_fork: a hook of Gunicorn that wsgicluster does not support",
        ),
        ("reuse_port = False\n", "reuse_port: a setting of Gunicorn"),
        ("from os import getpid as on_exit\n", "on_exit: a hook of Gunicorn"),
    ],
)
def test_names_of_gunicorn(tmp_path: pathlib.Path, source: str, says: str) -> None:
    assert says in complaint(tmp_path, source)


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
