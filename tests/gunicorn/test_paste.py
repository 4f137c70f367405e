"""Applications and servers that a file of Paste Deployment describes."""

import configparser
import importlib
import pathlib
import signal
import subprocess
import sys
from typing import Any

import pytest

from tests.conftest import ROOT, StartServer, wait_until
from tests.live.client import fetch
from wsgicluster.errors import AppLoadError, UsageError
from wsgicluster.settings import load
from wsgicluster.settings.paste import global_conf
from wsgicluster.wsgi.paste import load_paste

SOURCE = """
import logging

def make(global_conf, **local_conf):
    text = " ".join([local_conf["name"], global_conf.get("stage", "-")])
    def application(environ, start_response):
        logging.getLogger("shop").info("served %s", text)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [text.encode()]
    return application
"""

INI = """
[app:main]
use = call:shop:make
name = corner

[app:other]
use = call:shop:make
name = other

[server:main]
use = call:wsgicluster.gunicorn.app.pasterapp:server_factory
host = 127.0.0.1
port = 0
workers = 2
"""

LOGGERS = """
[loggers]
keys = root, shop
[handlers]
keys = console
[formatters]
keys = short
[logger_root]
handlers = console
level = INFO
[logger_shop]
qualname = shop
handlers =
level = INFO
[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = short
[formatter_short]
format = INI %(name)s %(message)s
"""


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "shop.py").write_text(SOURCE)
    (tmp_path / "shop.ini").write_text(INI + LOGGERS)
    (tmp_path / "quiet.ini").write_text(INI)
    return tmp_path


def settings(folder: pathlib.Path, *arguments: str, **environ: str) -> tuple[str, str | None, str | None]:
    found = load(arguments, environ, str(folder)).settings
    return found.wsgi_app, found.logconfig, found.proc_name


def test_what_a_file_says_about_the_server(folder: pathlib.Path) -> None:
    shop, quiet, logs = (str(folder / name) for name in ("shop.ini", "quiet.ini", "logs.ini"))
    assert settings(folder, "--paste", "shop.ini") == (f"config:{shop}", shop, shop)
    assert settings(folder, "--paster", "quiet.ini#other", "shop") == (f"config:{quiet}#other", None, quiet)
    assert settings(folder, "--paste", shop, "--log-config", logs, "-n", "own") == (f"config:{shop}", logs, "own")
    (folder / "gunicorn.conf.py").write_text("paste = 'quiet.ini'\nlogconfig_dict = {'version': 1}\n")
    assert settings(folder) == (f"config:{quiet}", None, quiet)
    assert settings(folder, GUNICORN_CMD_ARGS="--paste shop.ini") == (f"config:{shop}", None, shop)


def test_files_that_are_none(folder: pathlib.Path) -> None:
    (folder / "wrong.ini").write_text("name\n")
    with pytest.raises(UsageError, match=r"--paste: paste: 'no.ini#a': no such file; expected an INI file"):
        settings(folder, "--paste", "no.ini#a")
    with pytest.raises(UsageError, match=r"^paste: .*wrong.ini: File contains no section headers") as caught:
        settings(folder, "--paste", "wrong.ini")
    assert "\n" not in str(caught.value)


def test_variables_for_the_file() -> None:
    assert global_conf(("a=1", r"b\=c=d\=e=f", "g=")) == {"a": "1", "b=c": "d=e=f", "g": ""}


def test_applications_that_cannot_be_loaded(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    with pytest.raises(AppLoadError, match=r"shop.ini#no: the application cannot be loaded: LookupError: No section"):
        load_paste(f"config:{folder}/shop.ini#no", {})
    monkeypatch.setitem(sys.modules, "paste.deploy", None)
    with pytest.raises(AppLoadError, match=r"needs the package PasteDeploy; pip install 'wsgicluster\[paste\]'"):
        load_paste(f"config:{folder}/shop.ini", {})


def test_entry_points_are_there() -> None:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    for group in ("paste.server_factory", "paste.server_runner"):
        name, _, place = parser["options.entry_points"][group].strip().partition(" = ")
        module, _, function = place.partition(":")
        assert name == "main"
        assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.live
@pytest.mark.parametrize("more", [(), ("--preload", "-k", "gthread")])
def test_an_application_is_served_and_reloaded(
    server: StartServer, folder: pathlib.Path, more: tuple[str, ...]
) -> None:
    live = server("--paste", "shop.ini#other", "--paste-global", "stage=test", *more)
    assert fetch(live.port, "/").body == b"other test"
    live.wait_log("INI shop served other test")
    (folder / "shop.ini").write_text(INI.replace("name = other", "name = new") + LOGGERS)
    live.process.send_signal(signal.SIGHUP)
    live.wait_log("Reload complete", 30)
    wait_until(lambda: fetch(live.port, "/").body == b"new test", 15)  # the old worker may get some more


SERVE = "import sys, os; from paste.deploy import loadapp, loadserver; uri = 'config:' + os.path.abspath(sys.argv[1]); "
SERVE += "loadserver(uri)(loadapp(uri))"


def pserve(folder: pathlib.Path, name: str, **options: Any) -> "subprocess.Popen[str]":
    """Do what ``pserve`` does, without Pyramid."""
    environ = {"PYTHONPATH": f"{ROOT}:{folder}", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", SERVE, name]
    return subprocess.Popen(command, cwd=folder, env=environ, text=True, stderr=subprocess.PIPE, **options)


@pytest.mark.live
def test_the_server_section(folder: pathlib.Path) -> None:
    (folder / "gunicorn.conf.py").write_text("workers = 1\nraw_env = ['A=1']\nproc_name = 'own'\n")
    with (folder / "log").open("w") as log:
        process = pserve(folder, "quiet.ini", stdout=log)
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "Started: 2 workers serve" in line:
                break
        port = next(line for line in lines if "Listening at" in line).split(":")[-1].split()[0]
        wait_until(lambda: fetch(int(port), "/").body == b"corner -", 15)
        process.terminate()
        process.communicate(timeout=20)
        assert process.returncode == 0


@pytest.mark.live
@pytest.mark.parametrize(
    ("line", "says", "code"),
    [
        ("workers = x", "shop.ini [server]: workers: 'x'; expected a number", 2),
        ("worcers = 2", "no configuration setting for: worcers", 1),
    ],
)
def test_a_wrong_server_section(folder: pathlib.Path, line: str, says: str, code: int) -> None:
    (folder / "shop.ini").write_text(INI.replace("workers = 2", line))
    process = pserve(folder, "shop.ini")
    _, said = process.communicate(timeout=20)
    assert (process.returncode, says in said, "Traceback" in said) == (code, True, False)
