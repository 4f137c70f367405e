"""Which value wins, where it came from, and the one line that says what is wrong."""

import pathlib

import pytest

from wsgicluster.errors import UsageError
from wsgicluster.settings import Action, Loaded, TcpAddress, load
from wsgicluster.settings.fields import SETTINGS
from wsgicluster.settings.sources import Given, merge, unknown_variables


def loaded(folder: pathlib.Path, *arguments: str, **environ: str) -> Loaded:
    return load([*arguments, "app"], environ, str(folder))


def complaint(folder: pathlib.Path, *arguments: str, **environ: str) -> str:
    with pytest.raises(UsageError) as caught:
        loaded(folder, *arguments, **environ)
    assert caught.value.exit_code == 2
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_each_source_wins_over_those_before(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "wsgicluster.conf.py"
    assert loaded(tmp_path).settings.timeout == 30
    file.write_text("timeout = 1\n")
    assert loaded(tmp_path).settings.timeout == 1
    assert loaded(tmp_path, WSGICLUSTER_TIMEOUT="2s").settings.timeout == 2
    assert loaded(tmp_path, "--timeout", "3s", WSGICLUSTER_TIMEOUT="2s").settings.timeout == 3


def test_sources_are_remembered(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "wsgicluster.conf.py"
    file.write_text("workers = 2\nkeepalive = '5s'\n")
    sources = loaded(tmp_path, "-t", "3", WSGICLUSTER_KEEPALIVE="7", PORT="80").sources
    assert set(sources) == set(SETTINGS)
    assert sources["timeout"] == "command line --timeout"
    assert sources["keepalive"] == "environment WSGICLUSTER_KEEPALIVE"
    assert sources["workers"] == f"file {file}"
    assert sources["bind"] == "PORT environment variable"
    assert sources["backlog"] == "default"
    assert sources["wsgi_app"] == "command line APPLICATION"


def test_merge_is_pure() -> None:
    first = Given({"workers": "2", "timeout": 1}, {"workers": "here", "timeout": "here"})
    second = Given({"workers": "auto"}, {"workers": "there"})
    settings, sources = merge([first, second])
    assert str(settings.workers) == "auto"
    assert (sources["workers"], sources["timeout"]) == ("there", "here")


def test_a_wrong_value_is_told_even_where_another_wins(tmp_path: pathlib.Path) -> None:
    assert "WSGICLUSTER_WORKERS" in complaint(tmp_path, "-w", "2", WSGICLUSTER_WORKERS="many")


def test_variables_of_platforms(tmp_path: pathlib.Path) -> None:
    settings = loaded(tmp_path, PORT="5000", WEB_CONCURRENCY="3", FORWARDED_ALLOW_IPS="*", SENDFILE="0").settings
    assert settings.bind == (TcpAddress("0.0.0.0", 5000),)
    assert settings.workers == 3
    assert settings.forwarded_allow_ips == ("*",)
    assert settings.sendfile is False
    settings = loaded(tmp_path, PORT="", WEB_CONCURRENCY="", FORWARDED_ALLOW_IPS="").settings
    assert settings.bind == (TcpAddress("127.0.0.1", 8000),)
    assert settings.workers == 1
    assert settings.forwarded_allow_ips == (), "trust in nobody is a value, and not that of the default"
    assert "PORT environment variable: bind: '0.0.0.0:http'" in complaint(tmp_path, PORT="http")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-w", "many"], "command line --workers: workers: 'many'; expected a number from 1 to 500, or auto"),
        (["-w", "99999999"], "workers: '99999999'; expected a number from 1 to 500, or auto"),
        (["-D", "-b", "fd://0"], "command line --bind: bind: 'fd://0'; expected a descriptor above 2"),
        (["--timeout", "-1"], "command line --timeout: timeout: '-1'; expected a time such as"),
        (["-k", "gevnt"], "did you mean gevent?"),
        (["-b", "a:1", "-b", "8000"], "bind: '8000'; expected HOST:PORT"),
        (["-b", "8000"], "did you mean :8000?"),
        (["-b", "a:1", "-b", "a:1"], "bind: 'a:1'; expected each address once"),
        (["-b", "unix:a,user=no-such-user"], "'unix:a,user=no-such-user'; expected the name of a user"),
        (["--user", "no-such-user"], "user: 'no-such-user'; expected the name of a user of this system, or a number"),
        (["-e", "A"], "raw_env: 'A'; expected NAME=VALUE"),
        (["--chdir", "nowhere"], "command line --chdir: chdir: 'nowhere'; expected a folder that exists"),
        (["--worker-tmp-dir", "nowhere"], "worker_tmp_dir: 'nowhere'; expected a folder"),
        (["--log-level", "debig"], "did you mean debug?"),
    ],
)
def test_one_line_for_what_is_wrong(tmp_path: pathlib.Path, arguments: list[str], says: str) -> None:
    assert says in complaint(tmp_path, *arguments)


def test_long_and_odd_values_stay_in_one_line(tmp_path: pathlib.Path) -> None:
    text = complaint(tmp_path, "-w", "1\n2" * 1000)
    assert len(text) < 250


def test_no_application(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match="wsgi_app: nothing; expected the application"):
        load([], {}, str(tmp_path))
    assert load(["--print-config"], {}, str(tmp_path)).action is Action.PRINT_CONFIG
    assert load([], {"WSGICLUSTER_WSGI_APP": "a:b"}, str(tmp_path)).settings.wsgi_app == "a:b"


@pytest.mark.parametrize(
    ("arguments", "action"),
    [
        ([], Action.SERVE),
        (["--check-config"], Action.CHECK_CONFIG),
        (["--print-config"], Action.PRINT_CONFIG),
        (["--version"], Action.SHOW_VERSION),
        (["-v", "--verbose"], Action.SHOW_VERSIONS),
        (["--help"], Action.SHOW_HELP),
    ],
)
def test_action(tmp_path: pathlib.Path, arguments: list[str], action: Action) -> None:
    assert loaded(tmp_path, *arguments).action is action


def test_questions_are_answered_whatever_the_file_holds(tmp_path: pathlib.Path) -> None:
    (tmp_path / "wsgicluster.conf.py").write_text("broken(")
    assert loaded(tmp_path, "--version").action is Action.SHOW_VERSION


def test_unknown_variables_are_remarked_on(tmp_path: pathlib.Path) -> None:
    environ = {
        "WSGICLUSTER_TIMEOT": "1",
        "WSGICLUSTER_PORT": "tcp://10.0.0.1:80",
        "WSGICLUSTER_SERVICE_HOST": "x",
        "WSGICLUSTER_PURE": "1",
        "A": "",
    }
    assert unknown_variables(environ) == [
        "environment: WSGICLUSTER_TIMEOT: no such setting; did you mean WSGICLUSTER_TIMEOUT?"
    ]
    assert load(["app"], environ, str(tmp_path)).remarks
    assert loaded(tmp_path, WSGICLUSTER_TIMEOUT="3").remarks == ()


def test_load_reads_the_file_again(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "wsgicluster.conf.py"
    for count in (2, 3):
        file.write_text(f"workers = {count}\n")
        assert loaded(tmp_path).settings.workers == count
