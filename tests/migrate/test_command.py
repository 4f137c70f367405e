"""The command ``wsgicluster migrate`` as a process."""

import json
import pathlib

import pytest

from tests.test_cli import command
from wsgicluster.migrate.table import ROWS
from wsgicluster.settings import SETTINGS
from wsgicluster.settings.sources.gunicorn_names import ACCEPTED


def test_nothing_is_lost(tmp_path: pathlib.Path) -> None:
    done = command(tmp_path, "migrate", "gunicorn", "-w", "2", "app:app")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\n    wsgicluster -w 2 app:app\n" in done.stdout
    assert done.stdout.endswith("\nNothing is lost.\n")


def test_what_is_lost_sets_the_exit_code_and_prints_do_not_disturb(tmp_path: pathlib.Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text("print('printed')\nhttp_protocols = 'h2'\nbind = '127.0.0.1:1'\n")
    done = command(tmp_path, "migrate", "--json", "app:app", environ={"GUNICORN_CMD_ARGS": "--threads 2"})
    assert (done.returncode, done.stderr) == (1, "printed\n")
    found = json.loads(done.stdout)
    by_name = {each["setting"]: each for each in found["findings"]}
    assert by_name["http_protocols"]["agreement"] == "lost"
    assert by_name["http_protocols"]["remedy"]
    assert found["needs_hand"] is True
    assert found["equivalent"]["command"] == "wsgicluster -b 127.0.0.1:1 --threads 2 app:app"
    assert found["equivalent"]["replaced"] == str(tmp_path / "gunicorn.conf.py")


@pytest.mark.parametrize(
    ("source", "said", "unsaid"),
    [
        ("'''Of the shop.'''\nworkers = 2\nbind: list[str] = ['127.0.0.1:1']\n", "in place of", "its code"),
        ("import os\nworkers = int(os.getenv('NUMBER', '2'))\n", "that its code has led to here and now", "stays"),
        ("import os\nos.environ['STAGE'] = 'test'\n", "that its code has led to here and now", "stays"),
        ("def on_exit(server): pass\nworkers = 2\n", "gunicorn.conf.py, which stays", "in place of /"),
    ],
)
def test_what_is_said_of_the_file(tmp_path: pathlib.Path, source: str, said: str, unsaid: str) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(source)
    done = command(tmp_path, "migrate", "app:app")
    assert done.returncode == 0
    shown = " ".join(done.stdout.split())
    assert said in shown
    assert unsaid not in shown


def test_an_application_that_is_named_nowhere_is_missed(tmp_path: pathlib.Path) -> None:
    said = "with the application behind it, such as module:application, which was not given\n"
    assert f"    wsgicluster -w 2\n\n{said}" in command(tmp_path, "migrate", "gunicorn", "-w", "2").stdout
    (tmp_path / "gunicorn.conf.py").write_text("wsgi_app = 'app:app'\n")
    assert said not in command(tmp_path, "migrate").stdout


def test_a_zero_is_a_value_that_was_given(tmp_path: pathlib.Path) -> None:
    done = command(tmp_path, "migrate", "--keep-alive", "0", "--limit-request-line", "0", "app:app")
    assert "by default, where Gunicorn has" not in done.stdout
    assert "Same: wsgi_app, keepalive, limit_request_line\n" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--wokers", "3", "app"), "did you mean --workers?"),
        (("-c", "missing.py", "app"), "cannot be read: No such file"),
        (("-w", "many", "app"), "workers: 'many'"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path: pathlib.Path, words: tuple[str, ...], said: str) -> None:
    done = command(tmp_path, "migrate", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("wsgicluster: error: ")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_help_says_what_the_exit_codes_mean(tmp_path: pathlib.Path) -> None:
    done = command(tmp_path, "migrate", "--help")
    assert done.returncode == 0
    assert "exit codes:" in done.stdout
    assert "--json" in done.stdout


def test_each_setting_of_gunicorn_is_read() -> None:
    assert ROWS.keys() <= SETTINGS.keys() | ACCEPTED.keys()
