"""What a deployment that moves from Gunicorn relies on: folders, users, ports, environment and methods."""

import os
import pathlib
import pwd
import shutil
import signal
import tempfile
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT, StartServer
from tests.live.client import Connection, fetch

pytestmark = pytest.mark.live

SOURCE = """
import os, sys

def application(environ, start_response):
    body = repr((environ["REQUEST_METHOD"], environ["SCRIPT_NAME"], environ["PATH_INFO"], os.getuid())).encode()
    body += environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


@pytest.fixture
def open_folder() -> Iterator[pathlib.Path]:
    """A folder that every user may enter, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes the user")
@pytest.mark.parametrize("more", [("-k", "sync"), ("-k", "gthread"), ("-k", "sync", "--preload")])
def test_a_user_who_may_not_enter_the_folder_of_this_package(
    server: StartServer, tmp_path: pathlib.Path, open_folder: pathlib.Path, more: tuple[str, ...]
) -> None:
    closed = tmp_path / "closed"
    shutil.copytree(ROOT / "wsgicluster", closed / "wsgicluster", ignore=shutil.ignore_patterns("*.c", "__pycache__"))
    closed.chmod(0o700)
    live = server("app", "-u", "nobody", *more, source=SOURCE, folder=open_folder, environ={"PYTHONPATH": str(closed)})
    uid = pwd.getpwnam("nobody").pw_uid
    with Connection(live.port) as connection:
        for body in (b"", b"a" * 200_000):
            found = connection.exchange("/x", method="POST", body=body).body
            assert found == repr(("POST", "", "/x", uid)).encode() + body


@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_modules_are_found_in_the_start_folder_behind_that_of_chdir(
    server: StartServer, tmp_path: pathlib.Path, preload: tuple[str, ...]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "both.py").write_text("place = 'start'\n")
    (tmp_path / "elsewhere/both.py").write_text("place = 'elsewhere'\n")
    source = SOURCE.replace("os.getuid()", "both.place").replace("import os", "import both, os")
    live = server("app", "--chdir", "elsewhere", *preload, source=source)
    assert fetch(live.port, "/x").body == b"('GET', '', '/x', 'elsewhere')"


def test_servers_that_share_a_port(server: StartServer, tmp_path: pathlib.Path) -> None:
    first = server("app", "--reuse-port", source=SOURCE)
    second = server("app", "--reuse-port", bind=f"127.0.0.1:{first.port}")
    assert first.port == second.port
    second.end()
    assert fetch(first.port, "/x").status == 200
    third = server("app", bind=f"127.0.0.1:{first.port}", listening=False)
    assert third.process.wait(20) == 1
    assert "the address is in use" in third.log()


@pytest.mark.parametrize("core", ["compiled", "plain"])
@pytest.mark.parametrize("kind", ["sync", "gthread"])
def test_unconventional_requests(server: StartServer, kind: str, core: str) -> None:
    pure = {"WSGICLUSTER_PURE": "1"} if core == "plain" else {}
    strict = server("app", "-k", kind, source=SOURCE, environ=pure)
    permitting = server(
        "app", "-k", kind, "--permit-unconventional-http-method", "--casefold-http-method", "--strip-header-spaces",
        "--permit-obsolete-folding", "--permit-unconventional-http-version", environ=pure,
    )  # fmt: skip
    for line, more, method in (
        (b"get /x HTTP/1.1", b"", "GET"),
        (b"X /x HTTP/1.1", b"", "X"),
        (b"GET /x HTTP/1.1", b"X-A: a\r\n b\r\n", "GET"),
        (b"GET /x HTTP/1.1", b"X-A : a\r\n", "GET"),
        (b"GET /x HTTP/2.0", b"", "GET"),
    ):
        with Connection(strict.port) as connection:
            connection.send(line + b"\r\nHost: h\r\n" + more + b"\r\n")
            assert connection.response().status in (400, 505)
        with Connection(permitting.port) as connection:
            for _ in range(2):
                connection.send(line + b"\r\nHost: h\r\n" + more + b"\r\n")
                assert connection.response().body == repr((method, "", "/x", os.getuid())).encode()


@pytest.mark.parametrize("core", ["compiled", "plain"])
def test_script_name_of_raw_env(server: StartServer, tmp_path: pathlib.Path, core: str) -> None:
    (tmp_path / "gunicorn.conf.py").write_text("raw_env = ['SCRIPT_NAME=/geo']\n")
    pure = {"WSGICLUSTER_PURE": "1"} if core == "plain" else {}
    live = server("app", source=SOURCE, environ=pure)
    assert fetch(live.port, "/geo/x").body == repr(("GET", "/geo", "/x", os.getuid())).encode()


@pytest.mark.parametrize("core", ["compiled", "plain"])
@pytest.mark.parametrize(("name", "field"), [("web", "web"), ("", None)])
def test_the_name_of_the_server(
    server: StartServer, tmp_path: pathlib.Path, core: str, name: str, field: str | None
) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(f"import gunicorn\ngunicorn.SERVER_SOFTWARE = {name!r}\n")
    live = server("app", source=SOURCE, environ={"WSGICLUSTER_PURE": "1"} if core == "plain" else {})
    with Connection(live.port) as connection:
        assert connection.exchange("/x").headers.get("server") == field
        assert connection.exchange("/x").headers.get("server") == field
        connection.send(b"GET / HTTP/1.1\r\n\r\n")
        refused = connection.response()
        assert (refused.status, refused.headers.get("server")) == (400, field)


@pytest.mark.parametrize("preload", ["True", "False"])
def test_a_file_that_patches_for_gevent(server: StartServer, tmp_path: pathlib.Path, preload: str) -> None:
    pytest.importorskip("gevent")
    (tmp_path / "gunicorn.conf.py").write_text(
        "import gevent.monkey\ngevent.monkey.patch_all()\n"
        f"worker_class = 'gunicorn.workers.ggevent.GeventWorker'\nworkers = 2\npreload_app = {preload}\n"
    )
    live = server("app", source=SOURCE)
    assert fetch(live.port, "/x").status == 200
    live.process.send_signal(signal.SIGHUP)
    live.wait_log("Reload complete", 30)
    assert fetch(live.port, "/x").status == 200
    live.process.send_signal(signal.SIGTERM)
    assert live.process.wait(30) == 0
    assert not live.said("ERROR|WARNING|Warning")


def test_a_reload_says_what_is_new(server: StartServer, tmp_path: pathlib.Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text("preload = True\n")
    live = server("app", source=SOURCE)
    live.wait_log("preload: not a setting; did you mean preload_app")
    for count, more in enumerate(("", "log_file = 'x'\n"), 1):
        (tmp_path / "gunicorn.conf.py").write_text("preload = True\n" + more)
        live.send(signal.SIGHUP)
        live.wait_log("Reload complete", 30, count)
    assert live.said("log_file: not a setting; did you mean errorlog")
    assert not live.said("preload: not a setting", 2)


@pytest.mark.parametrize("kind", ["sync", "gthread"])
def test_lines_are_printed_on_request(server: StartServer, kind: str) -> None:
    live = server("app", "--spew", "-k", kind, source=SOURCE)
    assert fetch(live.port, "/x").status == 200
    live.wait_log(r"app:8:     return \[body\]")
    assert "wsgicluster.worker" not in live.log()


def test_a_daemon_whose_application_cannot_be_imported(server: StartServer) -> None:
    live = server("app:missing", "-D", source=SOURCE, listening=False)
    assert live.process.wait(20) == 4
    assert "app:missing: app has no 'missing'" in live.whole_log()
