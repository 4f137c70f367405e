"""Files and command lines that start in Gunicorn start here, with the settings that they name; some serve, too."""

import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from tests.conftest import ROOT, StartServer
from tests.gunicorn.config_files import APPLICATION, BASE_CONFIG, COMMAND_LINES, FILES, SHOP_LOGS, ConfigFile
from tests.gunicorn.real_gunicorn import RealGunicorn
from tests.live.client import fetch
from wsgicluster.settings import SETTINGS, load

pytestmark = pytest.mark.live


def name_of(case: ConfigFile) -> str:
    return case.name


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "app.py").write_text(APPLICATION)
    (tmp_path / "base_config.py").write_text(BASE_CONFIG)
    (tmp_path / "shop_logs.py").write_text(SHOP_LOGS)
    return tmp_path


def run(folder: pathlib.Path, command: list[str], environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return subprocess.run(
        command, cwd=folder, env={**kept, **environ}, capture_output=True, text=True, timeout=60, check=False
    )


def ours(folder: pathlib.Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return run(folder, [sys.executable, "-m", "wsgicluster", *arguments], {"PYTHONPATH": str(ROOT), **environ})


@pytest.mark.parametrize("case", FILES, ids=name_of)
def test_settings(folder: pathlib.Path, case: ConfigFile, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "gunicorn.conf.py").write_text(case.source)
    for name, value in case.environ:
        monkeypatch.setenv(name, value)
    sys.modules.pop("base_config", None)
    found = load(["app"], dict(case.environ), str(folder))
    said = [re.split(r": ", remark)[1] for remark in found.remarks if remark.startswith("file ")]
    assert said == list(case.remarks)
    for pair in case.settings.split():
        name, _, value = pair.partition("=")
        shown = SETTINGS[name].about.type.show(getattr(found.settings, name))
        assert shown == value or (value == "***" and value in shown), name


@pytest.mark.parametrize("case", FILES, ids=name_of)
def test_files_pass_the_check(folder: pathlib.Path, case: ConfigFile) -> None:
    (folder / "gunicorn.conf.py").write_text(case.source)
    done = ours(folder, "--check-config", "app:application", **dict(case.environ))
    assert done.returncode == 0, done.stderr
    assert "OK: the settings are valid" in done.stdout


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_command_lines_pass_the_check(folder: pathlib.Path, line: str) -> None:
    done = ours(folder, "--check-config", *shlex.split(line))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("case", FILES, ids=name_of)
def test_files_pass_the_check_of_gunicorn(real_gunicorn: RealGunicorn, folder: pathlib.Path, case: ConfigFile) -> None:
    (folder / "gunicorn.conf.py").write_text(case.source)
    done = run(folder, [str(real_gunicorn.program), "--check-config", "app:application"], dict(case.environ))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_command_lines_pass_the_check_of_gunicorn(real_gunicorn: RealGunicorn, folder: pathlib.Path, line: str) -> None:
    done = run(folder, [str(real_gunicorn.program), "--check-config", *shlex.split(line)], {})
    assert done.returncode == 0, done.stderr


SERVED = (
    "container", "loops", "unset", "everything-at-its-default", "imports-gunicorn", "extends-its-logs", "django",
    "numbers-as-text", "access-log-of-a-logger-of-its-own", "two-addresses", "balancer", "mounted",
    "hooks", "hooks-in-each-shape", "hooks-of-a-class", "metrics", "logger-of-its-own", "logger-of-a-module",
    "logger-that-counts", "worker-class-of-its-own", "wrapped-application", "response-without-server",
    "formatter-of-its-own",
)  # fmt: skip


@pytest.mark.parametrize("case", [case for case in FILES if case.name in SERVED], ids=name_of)
def test_files_serve(server: StartServer, folder: pathlib.Path, case: ConfigFile) -> None:
    (folder / "gunicorn.conf.py").write_text(case.source)
    live = server("app:application", source=APPLICATION, environ=dict(case.environ))
    place, stage = ("/geo", "test") if case.name == "mounted" else ("", "")
    found = fetch(live.port, place + "/x")
    assert found.status == 200
    assert found.body.startswith(f"{place}|/x|{stage}".encode())
