"""The command as a process: its output, its errors, and what an application finds when it is loaded."""

import contextlib
import os
import pathlib
import re
import subprocess
import sys
import sysconfig
from collections.abc import Mapping

import pytest

from wsgicluster import __version__
from wsgicluster.arbiter.reload import log_options
from wsgicluster.cli import main, versions
from wsgicluster.settings import Settings
from wsgicluster.subcommands import SUBCOMMANDS

ROOT = pathlib.Path(__file__).parent.parent
APPLICATION = "def application(environ, start_response):\n    return []\n"


def command(
    folder: pathlib.Path, *arguments: str, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    given = {name: value for name, value in os.environ.items() if not name.startswith("WSGICLUSTER_")}
    return subprocess.run(
        [sys.executable, "-m", "wsgicluster", *arguments],
        cwd=folder,
        env={**given, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **(environ or {})},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "app.py").write_text(APPLICATION)
    return tmp_path


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"wsgicluster {__version__}\n"
    assert main(["--version", "--verbose"]) == 0
    assert capsys.readouterr().out == versions() + "\n"
    assert re.search(r"^http core: (compiled|plain Python)$", versions(), re.MULTILINE)
    assert re.search(r"^python: \w+ 3\.\d+", versions(), re.MULTILINE)
    assert (", free-threaded\n" in versions()) == bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def test_help(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert "--workers" in text
    assert len(text.splitlines()) <= 100
    assert all(f"\n  {name} " in text for name in SUBCOMMANDS)
    assert main(["--help-all"]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 400


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_commands_have_a_help_of_their_own(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(SystemExit):
        main([name, "--help"])
    assert capsys.readouterr().out.startswith("usage: wsgicluster ")


def test_doctor_is_a_command(folder: pathlib.Path) -> None:
    done = command(folder, "doctor", "app")
    assert done.returncode in (0, 10)
    assert "doctor" in command(folder, "--print-config", "--doctor", "app").stdout


def test_ctl_is_a_command(folder: pathlib.Path) -> None:
    done = command(folder, "ctl", "--socket", "gone", "list")
    assert (done.returncode, done.stdout) == (3, "")
    done = command(folder, "ctl", "lst")
    assert done.stderr == "wsgicluster ctl: error: lst: no such command; did you mean list?\n"


@pytest.mark.parametrize("more", [[], ["--full"]])
def test_what_init_writes_can_be_served(folder: pathlib.Path, more: list[str]) -> None:
    assert main_in(folder, "init", *more).startswith("wrote wsgicluster.conf.py for app:application (app.py)\n")
    assert main_in(folder, "--check-config").startswith("OK")


def main_in(folder: pathlib.Path, *arguments: str) -> str:
    done = command(folder, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_an_application_may_be_called_like_a_command(folder: pathlib.Path) -> None:
    (folder / "init.py").write_text(APPLICATION)
    done = command(folder, "init:application", "--check-config")
    assert (done.returncode, done.stderr) == (0, "")


def test_errors_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--wokers", "2", "app"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "wsgicluster: error: command line: --wokers: no such flag; did you mean --workers?\n"


def test_print_config(folder: pathlib.Path) -> None:
    done = command(folder, "--print-config", "-w", "auto", environ={"WSGICLUSTER_TIMOUT": "1"})
    assert done.returncode == 0
    assert re.search(r"^workers += auto +# command line --workers$", done.stdout, re.MULTILINE)
    assert done.stderr == (
        "wsgicluster: remark: environment: WSGICLUSTER_TIMOUT: no such setting; did you mean WSGICLUSTER_TIMEOUT?\n"
    )


def test_check_config(folder: pathlib.Path) -> None:
    done = command(folder, "app", "--check-config")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("OK")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["app:other"], 4, "wsgicluster: error: app:other: app has no 'other'; it has application"),
        (["app", "--access-logformat", "%(z"], 2, "wsgicluster: error: access_log_format: '%(z'"),
        (["app", "-c", "none.py"], 2, "none.py: cannot be read: No such file or directory"),
        (["app", "-w", "-1"], 2, "workers: '-1'; expected a number from 1 to 500, a range such as 2..16, or auto"),
        ([], 2, "APPLICATION: not given"),
    ],
)
def test_check_config_complains(folder: pathlib.Path, arguments: list[str], code: int, says: str) -> None:
    done = command(folder, *arguments, "--check-config")
    assert done.returncode == code
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_traceback_of_the_application_comes_first(folder: pathlib.Path) -> None:
    (folder / "app.py").write_text("def f():\n    raise RuntimeError('today')\n\nf()\n")
    done = command(folder, "app", "--check-config")
    assert done.returncode == 4
    lines = done.stderr.splitlines()
    assert lines[0].startswith("Traceback")
    assert lines[-1] == "wsgicluster: error: app: cannot be imported: RuntimeError: today"
    assert "wsgicluster/" not in "".join(lines[:-1])


def test_log_that_cannot_be_opened(folder: pathlib.Path) -> None:
    done = command(folder, "app", "--error-logfile", "none/error.log")
    assert done.returncode == 1
    assert done.stderr == (
        f"wsgicluster: error: cannot open the log {folder.resolve()}/none/error.log: No such file or directory\n"
    )


SURROUNDINGS = """
import os, sys
print(os.getcwd(), sys.path[:3], os.environ.get("COLOUR"), os.environ.get("HOME"))
application = print
"""


def test_what_the_application_finds(tmp_path: pathlib.Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    (place / "app.py").write_text(SURROUNDINGS)
    arguments = ["--chdir", "place", "--pythonpath", "/x,lib", "-e", "COLOUR=a=b", "-e", "HOME=/elsewhere"]
    done = command(tmp_path, "app", "--check-config", *arguments)
    assert done.returncode == 0, done.stderr
    found = str(place)
    assert done.stdout.splitlines()[0] == f"{found} {[found, '/x', found + '/lib']} a=b /elsewhere"


def test_the_current_folder_keeps_its_name(tmp_path: pathlib.Path) -> None:
    (tmp_path / "release1").mkdir()
    (tmp_path / "release1" / "app.py").write_text("import sys\nprint(sys.path[0])\napplication = print\n")
    link = tmp_path / "current"
    link.symlink_to("release1")
    named = command(link, "app", "--check-config", environ={"PWD": str(link)})
    assert named.stdout.splitlines()[0] == str(link)
    left_over = command(link, "app", "--check-config", environ={"PWD": "/"})
    assert left_over.stdout.splitlines()[0] == str(link.resolve())


def test_interrupted_before_it_serves(folder: pathlib.Path) -> None:
    (folder / "app.py").write_text("raise KeyboardInterrupt\n")
    done = command(folder, "app", "--check-config")
    assert (done.returncode, done.stderr) == (130, "")


def test_options_of_logs() -> None:
    settings = Settings(accesslog="-", loglevel="debug", user=os.geteuid() + 1)
    options = log_options(settings)
    assert (options.accesslog, options.loglevel, options.errorlog) == ("-", "debug", "-")
    assert options.owner == (os.geteuid() + 1, os.getegid())
    assert log_options(Settings()).owner is None
