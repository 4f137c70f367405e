"""What is read of a command line of Gunicorn and of the sources that belong to it."""

import pathlib
import shlex
import textwrap

import pytest

from wsgicluster.errors import UsageError
from wsgicluster.migrate.equivalent import equivalent
from wsgicluster.migrate.findings import findings, needs_hand
from wsgicluster.migrate.notes import Weight
from wsgicluster.migrate.reading import ReadConfiguration, read, split
from wsgicluster.settings import load


def reading(
    folder: pathlib.Path, *words: str, file: str | None = None, environ: dict[str, str] | None = None
) -> ReadConfiguration:
    if file is not None:
        (folder / "gunicorn.conf.py").write_text(textwrap.dedent(file))
    return read(split(words), environ or {}, str(folder))


def weights(found: ReadConfiguration, name: str) -> list[Weight | None]:
    return [each.weight for each in findings(found) if each.name == name]


@pytest.mark.parametrize(
    "words",
    [
        ("-w", "3", "app:app"),
        ("gunicorn", "-w", "3", "app:app"),
        ("/srv/shop/bin/gunicorn", "-w", "3", "app:app"),
        ("python3.12", "-m", "gunicorn", "-w", "3", "app:app"),
        ("exec", "env", "STAGE=test", "gunicorn", "-w", "3", "app:app"),
        ("GUNICORN_CMD_ARGS=-w 3", "gunicorn", "app:app"),
    ],
)
def test_a_line_is_read_as_a_shell_has_it(tmp_path: pathlib.Path, words: tuple[str, ...]) -> None:
    found = reading(tmp_path, *words)
    assert (found.values["workers"], found.values["wsgi_app"]) == (3, "app:app")


def test_sources_in_the_order_of_gunicorn(tmp_path: pathlib.Path) -> None:
    environ = {"WEB_CONCURRENCY": "2", "GUNICORN_CMD_ARGS": "--timeout 7 --backlog 5", "WSGICLUSTER_TIMEOUT": "99"}
    found = reading(tmp_path, "--backlog", "6", "app", file="timeout = 4\nthreads = 3\n", environ=environ)
    assert {name: found.values[name] for name in ("workers", "timeout", "threads", "backlog")} == {
        "workers": 2, "timeout": 7.0, "threads": 3, "backlog": 6,
    }  # fmt: skip
    assert (set(found.of_platform), set(found.in_file), found.is_found) == ({"workers"}, {"threads"}, True)


def test_only_the_file_of_gunicorn_is_found(tmp_path: pathlib.Path) -> None:
    (tmp_path / "wsgicluster.conf.py").write_text("workers = 9\n")
    assert "workers" not in reading(tmp_path, "app").values


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("workers = 'many'\n", "workers: 'many'; expected"),
        ("workers = \n", "gunicorn.conf.py:1: SyntaxError"),
        ("raise ValueError('no\\nway')\n", "gunicorn.conf.py:1: ValueError: no way"),
        ("import sys\nsys.exit(7)\n", "gunicorn.conf.py:2: SystemExit: 7"),
        ("import missing_module\n", "missing_module"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: pathlib.Path, source: str, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        reading(tmp_path, "app", file=source)
    assert said in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_all_wrong_values_are_said(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError) as raised:
        reading(tmp_path, "--threads", "no", "app", file="workers = 'many'\nbacklog = -1\n")
    assert len(str(raised.value).splitlines()) == 3


def test_a_large_file_is_read(tmp_path: pathlib.Path) -> None:
    found = reading(tmp_path, "app", file="".join(f"own_{at} = {at}\n" for at in range(20_000)) + "workers = 2\n")
    assert found.values["workers"] == 2


def test_gunicorn_can_be_imported(tmp_path: pathlib.Path) -> None:
    file = """
        import gunicorn
        from gunicorn.glogging import Logger
        class Own(Logger):
            pass
        logger_class = Own
    """
    assert weights(reading(tmp_path, "app", file=file), "logger_class") == [None]


CONCERNED = [
    ("keepalive", "", [Weight.DIFFERENT, Weight.DIFFERENT], False),
    ("keepalive", "keepalive = 75\nworker_class = 'gevent'", [None], False),
    ("limit_request_line", "", [Weight.DIFFERENT], False),
    ("limit_request_line", "limit_request_line = 4094", [None], False),
    ("worker_class", "worker_class = 'eventlet'", [Weight.LOST], True),
    ("worker_class", "worker_class = 'uvicorn.workers.UvicornWorker'", [Weight.LOST], True),
    ("worker_class", "worker_class = 'shop.workers.Own'", [Weight.DIFFERENT], True),
    ("worker_class", "worker_class = 'gunicorn.workers.gthread.ThreadWorker'", [None], False),
    ("workers", "workers = 0", [Weight.BETTER, Weight.DIFFERENT], False),
    ("timeout", "worker_class = 'gevent'", [Weight.DIFFERENT], False),
    ("timeout", "timeout = 9", [Weight.BETTER], False),
    ("umask", "umask = 0", [Weight.DIFFERENT], True),
    ("umask", "umask = '22'", [Weight.DIFFERENT, Weight.DIFFERENT], True),
    ("group", "user = 0", [], False),
    ("group", "user = 'root'", [Weight.DIFFERENT], False),
    ("proxy_protocol", "proxy_protocol = True", [None], False),
    ("proxy_protocol", "proxy_protocol = 'v1'", [Weight.DIFFERENT], False),
    ("cert_reqs", "cert_reqs = 2", [Weight.DIFFERENT], True),
    ("cert_reqs", "cert_reqs = 2\nca_certs = 'ca.pem'", [None], False),
    ("http_protocols", "http_protocols = 'h2,h1'", [Weight.LOST], True),
    ("http_protocols", "http_protocols = 'h1'", [None], False),
    ("dirty_workers", "dirty_workers = 2", [Weight.LOST], True),
    ("asgi_loop", "asgi_loop = 'auto'", [None], False),
    ("errorlog", "errorlog = None", [Weight.DIFFERENT], False),
    ("loglevel", "loglevel = 'warn'", [Weight.BETTER], False),
    ("spew", "spew = True", [Weight.DIFFERENT], False),
    ("spew", "spew = False", [None], False),
    ("child_exit", "def child_exit(server, worker): pass", [Weight.BETTER], False),
    ("post_fork", "def post_fork(server, worker): pass", [None], False),
    ("post_fork", "user = 1\ndef post_fork(server, worker): pass", [None], False),
    ("post_fork", "user = 1\npreload_app = 1\ndef post_fork(server, worker): pass", [Weight.DIFFERENT], True),
    ("preload_app", "preload_app = True\ndef pre_fork(server, worker): pass", [Weight.BETTER, Weight.DIFFERENT], False),
    ("admin", "admin = 'bob@shop.example'", [Weight.DIFFERENT], True),
    ("trace", "trace = 'off'", [Weight.DIFFERENT], True),
]


@pytest.mark.parametrize(("name", "file", "expected", "hand"), CONCERNED)
def test_each_class_of_difference(
    tmp_path: pathlib.Path, name: str, file: str, expected: list[Weight | None], hand: bool
) -> None:
    found = reading(tmp_path, "app", file=file)
    assert weights(found, name) == expected
    assert needs_hand([each for each in findings(found) if each.name == name]) == hand


def test_secrets_are_not_shown(tmp_path: pathlib.Path) -> None:
    found = reading(tmp_path, "-e", "TOKEN=hidden", "--statsd-host", "h", "app")
    assert "hidden" not in str([findings(found), equivalent(found)])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("-w 1 --timeout 30 --log-level info app:app", "wsgicluster app:app"),
        ("--keep-alive 2 app", "wsgicluster --keep-alive 2 app"),
        ("--workers 3 -k sync --threads 4 app", "wsgicluster -w 3 --threads 4 app"),
        ("-k gthread --threads 4 app", "wsgicluster --threads 4 app"),
        ("-k gunicorn.workers.ggevent.GeventWorker app", "wsgicluster -k gevent app"),
        ("-b :80 -b unix:/s --no-sendfile app", "wsgicluster -b 0.0.0.0:80 -b unix:/s --no-sendfile app"),
        ("--worker-tmp-dir /dev/shm --preload app", "wsgicluster --preload app"),
        ("-m 022 --proxy-protocol=auto app", "wsgicluster --proxy-protocol auto -m 022 app"),
        ("SCRIPT_NAME=/shop WEB_CONCURRENCY=3 gunicorn app", "SCRIPT_NAME=/shop WEB_CONCURRENCY=3 wsgicluster app"),
        ("GUNICORN_CMD_ARGS=-w3 gunicorn app", "wsgicluster -w 3 app"),
        ("--http2-cleartext upgrade 'app:make(\"x\")'", "wsgicluster 'app:make(\"x\")'"),
    ],
)
def test_the_shortest_equivalent(tmp_path: pathlib.Path, words: str, expected: str) -> None:
    found = equivalent(reading(tmp_path, *shlex.split(words)))
    assert (found.command, found.file) == (expected, "")


def test_a_file_with_hooks_is_kept(tmp_path: pathlib.Path) -> None:
    file = "workers = 2\ntimeout = 30\nbacklog = 2048\ndef on_exit(server): pass\n"
    found = equivalent(reading(tmp_path, "--threads", "3", "app", file=file))
    assert found.command == "wsgicluster --threads 3 app"
    assert (found.kept, found.needless) == (str(tmp_path / "gunicorn.conf.py"), ("backlog", "timeout"))
    (tmp_path / "other.py").write_text(file)
    found = equivalent(reading(tmp_path, "-c", "other.py", "app"))
    assert found.command == f"wsgicluster -c {tmp_path / 'other.py'} app"


LONG = """
workers = 4
threads = 2
timeout = 90
backlog = 500
max_requests = 1000
umask = 0o22
pidfile = "/run/shop.pid"
accesslog = "-"
preload_app = True
bind = ["127.0.0.1:8000", "unix:/run/shop.sock"]
secure_scheme_headers = {"X-TLS": "1"}
"""


def test_many_settings_become_a_file_that_means_the_same(tmp_path: pathlib.Path) -> None:
    before = reading(tmp_path, "app", file=LONG.replace('secure_scheme_headers = {"X-TLS": "1"}\n', ""))
    found = equivalent(before)
    assert found.command == "wsgicluster app"
    assert "timeout = 90\n" in found.file
    new = tmp_path / "new"
    new.mkdir()
    (new / "wsgicluster.conf.py").write_text(found.file)
    after = load(["app"], {}, str(new)).settings
    old = load(["app"], {}, str(tmp_path)).settings
    assert after == old


def test_what_no_flag_can_say_stays_in_the_file(tmp_path: pathlib.Path) -> None:
    found = equivalent(reading(tmp_path, "app", file=LONG))
    assert found.kept
    assert not found.file
