"""Which value wins, where it came from, and the one line that says what is wrong."""

import pathlib
import re

import pytest

from wsgicluster.errors import UsageError
from wsgicluster.settings import Action, Loaded, TcpAddress, load
from wsgicluster.settings.fields import SETTINGS
from wsgicluster.settings.reference import listing
from wsgicluster.settings.sources.merge import Given, merge, unknown_variables


def loaded(folder: pathlib.Path, *arguments: str, **environ: str) -> Loaded:
    return load([*arguments, "app"], environ, str(folder))


def complaint(folder: pathlib.Path, *arguments: str, **environ: str) -> str:
    with pytest.raises(UsageError) as caught:
        loaded(folder, *arguments, **environ)
    assert caught.value.exit_code == 2
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_each_source_overrides_those_before(tmp_path: pathlib.Path) -> None:
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


def test_an_invalid_value_is_reported_even_where_another_overrides_it(tmp_path: pathlib.Path) -> None:
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
    assert settings.forwarded_allow_ips == (), "trust in no peer is a value, and not that of the default"
    assert "PORT environment variable: bind: '0.0.0.0:http'" in complaint(tmp_path, PORT="http")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["-w", "many"],
            "command line --workers: workers: 'many'; expected a number from 1 to 500, a range such as 2..16, or auto",
        ),
        (["-w", "99999999"], "workers: '99999999'; expected a number from 1 to 500, a range such as 2..16, or auto"),
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
    with pytest.raises(UsageError, match="APPLICATION: not given; expected the application"):
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


def test_help_and_version_work_whatever_the_file_holds(tmp_path: pathlib.Path) -> None:
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


@pytest.mark.parametrize(
    "name",
    [
        "user", "group", "errorlog", "bind", "wsgi_app", "pythonpath", "worker_class", "sendfile", "proxy_protocol",
        "preload_app", "daemon", "forwarded_allow_ips", "suppress_ragged_eofs", "chdir", "access_log_format",
        "pidfile", "accesslog", "umask", "logconfig_dict", "proc_name", "certfile",
    ],
)  # fmt: skip
def test_none_is_as_if_it_were_not_there(tmp_path: pathlib.Path, name: str) -> None:
    before = loaded(tmp_path).settings
    (tmp_path / "gunicorn.conf.py").write_text(f"{name} = None\n")
    assert loaded(tmp_path).settings == before


def test_so_is_an_empty_text_where_none_is_meant(tmp_path: pathlib.Path) -> None:
    before = loaded(tmp_path).settings
    (tmp_path / "gunicorn.conf.py").write_text(
        "chdir = errorlog = wsgi_app = access_log_format = pidfile = accesslog = certfile = keyfile = ''\n"
    )
    assert loaded(tmp_path).settings == before
    (tmp_path / "gunicorn.conf.py").write_text("bind = None\n")
    assert str(loaded(tmp_path, PORT="5000").settings.bind[0]) == "0.0.0.0:5000"


@pytest.mark.parametrize("name", ["workers", "timeout", "keepalive", "max_requests", "loglevel"])
def test_none_is_no_number_and_no_word(tmp_path: pathlib.Path, name: str) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(f"{name} = None\n")
    assert f": {name}: None; expected" in complaint(tmp_path)


def test_the_name_of_a_server_that_has_none(tmp_path: pathlib.Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text("default_proc_name = 'shop'\n")
    found = loaded(tmp_path)
    assert found.settings.proc_name == "shop"
    assert found.sources["proc_name"].endswith("gunicorn.conf.py (default_proc_name)")
    assert loaded(tmp_path, "-n", "other").settings.proc_name == "other"


def test_load_reads_the_file_again(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "wsgicluster.conf.py"
    for count in (2, 3):
        file.write_text(f"workers = {count}\n")
        assert loaded(tmp_path).settings.workers == count


def test_remarks_are_errors_if_that_is_asked_for(tmp_path: pathlib.Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text("preload = True\nroot_path = '/x'\nworkers_per_core = 2\nspeed = 1\n")
    remarks = loaded(tmp_path, WSGICLUSTER_TIMEOT="1").remarks
    names = ["root_path", "preload", "WSGICLUSTER_TIMEOT"]
    assert [remark.split(": ")[1] for remark in remarks] == names
    with pytest.raises(UsageError) as caught:
        loaded(tmp_path, "--strict", WSGICLUSTER_TIMEOT="1")
    assert str(caught.value).splitlines() == list(remarks)
    (tmp_path / "gunicorn.conf.py").write_text("strict = True\nroot_path = ''\nhost = 'x'\n")
    assert not loaded(tmp_path).remarks
    found = loaded(tmp_path, "--root-path", "/x", WSGICLUSTER_STRICT="0", GUNICORN_CMD_ARGS="--root-path /x").remarks
    assert [remark.partition(": ")[0] for remark in found] == [
        "GUNICORN_CMD_ARGS --root-path",
        "command line --root-path",
    ]


GUNICORN = {"GUNICORN_CMD_ARGS": "--timeout 4s -w 3 -b 127.0.0.1:1 --env 'A=b c'"}


def test_the_arguments_of_gunicorns_variable(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "wsgicluster.conf.py"
    file.write_text("timeout = 1\nworkers = 1\n")
    found = loaded(tmp_path, **GUNICORN)
    assert (found.settings.timeout, found.settings.workers, found.settings.raw_env) == (4, 3, ("A=b c",))
    assert found.sources["timeout"] == "GUNICORN_CMD_ARGS --timeout"
    assert loaded(tmp_path, **GUNICORN, WSGICLUSTER_TIMEOUT="2s").settings.timeout == 2
    assert loaded(tmp_path, "-t", "3", **GUNICORN, WSGICLUSTER_TIMEOUT="2s").settings.timeout == 3
    assert "GUNICORN_CMD_ARGS --timeout" in listing(found)
    assert "b c" not in listing(found)
    found = load([], {"GUNICORN_CMD_ARGS": "--preload app:made"}, str(tmp_path))
    assert (found.settings.wsgi_app, found.settings.preload_app) == ("app:made", True)
    assert found.sources["wsgi_app"] == "GUNICORN_CMD_ARGS APPLICATION"
    assert loaded(tmp_path, GUNICORN_CMD_ARGS="").sources["timeout"] == f"file {file}"


def test_its_configuration_file(tmp_path: pathlib.Path) -> None:
    for name, timeout in (("one", 1), ("two", 2), ("three", 3)):
        (tmp_path / f"{name}.py").write_text(f"timeout = {timeout}\n")
    assert loaded(tmp_path, GUNICORN_CMD_ARGS="-c one.py").settings.timeout == 1
    assert loaded(tmp_path, GUNICORN_CMD_ARGS="-c one.py", WSGICLUSTER_CONFIG="two.py").settings.timeout == 2
    assert loaded(tmp_path, "-c", "three.py", GUNICORN_CMD_ARGS="-c one.py").settings.timeout == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("--wokers 3", "GUNICORN_CMD_ARGS: --wokers: no such flag; did you mean --workers?"),
        ("-w many", "GUNICORN_CMD_ARGS --workers: workers: 'many'; expected a number"),
        ("-w", "GUNICORN_CMD_ARGS --workers: workers: no value; expected"),
        ("--worker 3", "GUNICORN_CMD_ARGS: --worker: abbreviates --worker-class, "),
        ("-e A='secret", "GUNICORN_CMD_ARGS: cannot be split into words as a shell does it: No closing quotation"),
        ("--version", "GUNICORN_CMD_ARGS: --version: not a setting; expected flags of settings"),
        ("a b", "GUNICORN_CMD_ARGS: 'b': a second argument; expected one APPLICATION"),
        ("--daemon=5", "GUNICORN_CMD_ARGS --daemon: daemon: a value; expected none"),
    ],
)
def test_complaints_about_it_name_it(tmp_path: pathlib.Path, text: str, says: str) -> None:
    found = complaint(tmp_path, GUNICORN_CMD_ARGS=text)
    assert says in found
    assert "secret" not in found


def test_all_errors_are_reported_at_once(tmp_path: pathlib.Path) -> None:
    (tmp_path / "wsgicluster.conf.py").write_text("on_exit = 1\ntimeout = -1\nbind = 'x:y'\npre_fork = 1\n")
    with pytest.raises(UsageError) as caught:
        loaded(tmp_path, "--log-level", "loud", WSGICLUSTER_THREADS="many")
    lines = str(caught.value).splitlines()
    assert len(lines) == 6
    for line, name in zip(lines, ("on_exit", "timeout", "bind", "pre_fork", "threads", "loglevel"), strict=True):
        assert f": {name}: " in line
    with pytest.raises(UsageError) as caught:
        loaded(tmp_path, "-c", "/dev/null", "--chdir", "nowhere", "--worker-tmp-dir", "none", "-b", ":1", "-b", ":1")
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == ["chdir", "worker_tmp_dir", "bind"]


def test_secrets_are_not_shown(tmp_path: pathlib.Path) -> None:
    (tmp_path / "wsgicluster.conf.py").write_text(
        "raw_env = ['KEY=hidden', 'DB=postgres://u:hidden@h/x']\n"
        "logconfig_dict = {'handlers': {'mail': {'class': 'shown', 'credentials': ('u', 'hidden'), 'args':"
        " [{'api_key': 'hidden'}], 'url': 'redis://:hidden@shown/1'}}}\n"
    )
    text = listing(loaded(tmp_path, WSGICLUSTER_TMP_UPLOAD_DIR=str(tmp_path)))
    assert "hidden" not in text
    assert re.search(r"^raw_env += KEY=\*\*\*, DB=\*\*\* ", text, re.MULTILINE)
    assert "redis://:***@shown/1" in text
    assert "'class': 'shown'" in text
    assert "'A=***'" in complaint(tmp_path, "-e", "A=hidden\0")


def test_the_file_that_was_found_is_shown(tmp_path: pathlib.Path) -> None:
    def shown(*arguments: str, **environ: str) -> str:
        text = listing(loaded(tmp_path, *arguments, **environ))
        return next(line for line in text.splitlines() if line.startswith("config "))

    assert "= none " in shown()
    (tmp_path / "gunicorn.conf.py").write_text("")
    assert f"= {tmp_path}/gunicorn.conf.py" in shown()
    assert "# default" in shown()
    (tmp_path / "wsgicluster.conf.py").write_text("")
    assert f"= {tmp_path}/wsgicluster.conf.py" in shown()
    assert "= gunicorn.conf.py " in shown("-c", "gunicorn.conf.py")
    assert "= gunicorn.conf.py " in shown(GUNICORN_CMD_ARGS="-c gunicorn.conf.py")


def test_bytes_that_are_not_text_are_shown(tmp_path: pathlib.Path) -> None:
    assert "= shop\\udcff " in listing(loaded(tmp_path, "-n", "shop\udcff"))


def test_a_path_too_long_for_a_socket_is_called_that(tmp_path: pathlib.Path) -> None:
    """(Node 27)"""
    assert loaded(tmp_path, "-b", "unix:" + "a" * 107).settings.bind
    text = complaint(tmp_path, "-b", "unix:" + "a" * 108)
    assert "expected a path of at most 107 bytes for a Unix socket (this one has 108)" in text
    assert "(this one has 110)" in complaint(tmp_path, "-b", "unix:" + "\xe9" * 55 + ",mode=0600")


def test_a_port_beyond_the_highest_is_called_that(tmp_path: pathlib.Path) -> None:
    assert loaded(tmp_path, "-b", "localhost:65535").settings.bind
    for address in ("localhost:65536", "[::1]:99999"):
        assert complaint(tmp_path, "-b", address).endswith("expected a port from 0 to 65535")
