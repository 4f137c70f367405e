"""Every example is started as its own text says, and asked."""

import hashlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import pytest
import requests

from tests.conftest import ROOT, StartServer, wait_until

EXAMPLES = ROOT / "examples"
TIMEOUT_S = 10

pytestmark = pytest.mark.live


def documented_command(path: pathlib.Path) -> list[str]:
    """The arguments in the ``wsgicluster ...`` line of an example's docstring."""
    found = re.search(r"^wsgicluster (.+)$", path.read_text("utf-8"), re.MULTILINE)
    assert found, f"{path.name} does not say how to start it"
    return found[1].split()


def in_repository(arguments: list[str]) -> list[str]:
    """The same arguments for a server that does not start in the repository's folder."""
    assert arguments[:2] == ["--chdir", "examples"]
    return ["--chdir", str(EXAMPLES), *arguments[2:]]


def test_hello(server: StartServer) -> None:
    live = server(*in_repository(documented_command(EXAMPLES / "hello.py")))
    answer = requests.get(live.url, timeout=TIMEOUT_S)
    assert (answer.status_code, answer.text) == (200, "Hello, world!\n")
    assert live.stop() == 0


def test_flask(server: StartServer) -> None:
    live = server(*in_repository(documented_command(EXAMPLES / "flask_app.py")))
    live.wait_children(4)
    with requests.Session() as session:
        assert "It works" in session.get(live.url, timeout=TIMEOUT_S).text
        assert session.get(f"{live.url}/api/square/12", timeout=TIMEOUT_S).json() == {"number": 12, "square": 144}
        assert session.get(f"{live.url}/api/square/9999999", timeout=TIMEOUT_S).status_code == 404
        greeting = session.post(f"{live.url}/greet", data={"name": "<Ada>"}, timeout=TIMEOUT_S)
        assert greeting.text == "Hello, &lt;Ada&gt;!"
        assert session.get(f"{live.url}/fail", timeout=TIMEOUT_S).status_code == 500
    live.wait_log("this page always fails")
    pids = {
        requests.get(live.url, headers={"Connection": "close"}, timeout=TIMEOUT_S).text.split("Process ")[1].split()[0]
        for _ in range(20)
    }
    assert pids <= {str(pid) for pid in live.children()}
    assert live.stop() == 0


def test_django(server: StartServer, tmp_path: pathlib.Path) -> None:
    # A copy, because the database is made inside the project's folder.
    project = tmp_path / "django_project"
    shutil.copytree(EXAMPLES / "django_project", project, ignore=shutil.ignore_patterns("db.sqlite3", "__pycache__"))
    environ = {**os.environ, "DJANGO_SUPERUSER_PASSWORD": "a password", "PYTHONDONTWRITEBYTECODE": "1"}
    for command in (
        ["migrate", "--verbosity", "0"],
        ["createsuperuser", "--noinput", "--username", "ada", "--email", "ada@example.org"],
    ):
        subprocess.run([sys.executable, "manage.py", *command], cwd=project, env=environ, check=True, timeout=50)
    live = server("--chdir", str(project), "project.wsgi", "-w", "2")
    with requests.Session() as session:
        page = session.get(live.url, timeout=TIMEOUT_S)
        assert page.status_code == 200
        token = session.cookies["csrftoken"]
        form = {"text": "from a test", "csrfmiddlewaretoken": token}
        assert "from a test" in session.post(live.url + "/", data=form, timeout=TIMEOUT_S).text
        style = session.get(f"{live.url}/static/notes/style.css", timeout=TIMEOUT_S)
        assert style.status_code == 200
        assert style.content == (project / "notes/static/notes/style.css").read_bytes()
        assert session.get(f"{live.url}/static/admin/css/base.css", timeout=TIMEOUT_S).status_code == 200

        login = f"{live.url}/admin/login/?next=/admin/"
        session.get(login, timeout=TIMEOUT_S)
        form = {
            "username": "ada",
            "password": "a password",
            "csrfmiddlewaretoken": session.cookies["csrftoken"],
            "next": "/admin/",
        }
        admin = session.post(login, data=form, timeout=TIMEOUT_S)
        assert "Site administration" in admin.text
        assert "from a test" in session.get(f"{live.url}/admin/notes/note/", timeout=TIMEOUT_S).text
    assert requests.post(live.url, data={"text": "no token"}, timeout=TIMEOUT_S).status_code == 403
    assert live.stop() == 0


def test_profiling_worker(server: StartServer) -> None:
    arguments = in_repository(documented_command(EXAMPLES / "profiling_worker.py"))
    arguments[arguments.index("-e") + 1] = "PROFILE_ABOVE_MS=0"
    live = server(*arguments)
    live.wait_log("requests above 0 s are explained")
    assert requests.get(live.url, timeout=TIMEOUT_S).text == "Hello, world!\n"
    live.wait_log(r"worker 1: GET / took 0\.\d+ s:")
    assert "hello.py" in live.log()
    assert live.stop() == 0


def test_upload_and_download(server: StartServer, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "uploads"
    arguments = in_repository(documented_command(EXAMPLES / "upload_download.py"))
    arguments[arguments.index("-e") + 1] = f"UPLOAD_FOLDER={folder}"
    live = server(*arguments)
    content = os.urandom(5_000_000)
    stored = requests.post(f"{live.url}/big.bin", data=content, timeout=TIMEOUT_S)
    assert (stored.status_code, stored.text) == (201, "5000000 bytes\n")
    assert (folder / "big.bin").read_bytes() == content

    given = requests.get(f"{live.url}/big.bin", timeout=TIMEOUT_S)
    assert given.headers["Content-Length"] == "5000000"
    assert hashlib.sha256(given.content).digest() == hashlib.sha256(content).digest()

    blocks = (content[at : at + 100_000] for at in range(0, len(content), 100_000))
    chunked = requests.post(f"{live.url}/chunked.bin", data=blocks, timeout=TIMEOUT_S)
    assert chunked.status_code == 201
    assert (folder / "chunked.bin").read_bytes() == content

    assert requests.get(f"{live.url}/none", timeout=TIMEOUT_S).status_code == 404
    assert requests.get(f"{live.url}/..%2fsecret", timeout=TIMEOUT_S).status_code == 404
    assert requests.put(f"{live.url}/big.bin", data=b"x", timeout=TIMEOUT_S).status_code == 405
    assert wait_until(lambda: sorted(os.listdir(folder)) == ["big.bin", "chunked.bin"], 2)
    assert live.stop() == 0


def test_rate_limit(server: StartServer) -> None:
    """Four workers count as one. (Node: rate limiters in each worker's memory.)"""
    arguments = in_repository(documented_command(EXAMPLES / "rate_limit.py"))
    arguments[arguments.index("-e") + 1] = "REQUESTS_A_MINUTE=10"
    live = server(*arguments)
    live.wait_log("Started")
    close = {"Connection": "close"}
    statuses = [requests.get(live.url, headers=close, timeout=TIMEOUT_S).status_code for _ in range(15)]
    assert statuses == [200] * 10 + [429] * 5
    refused = requests.get(live.url, timeout=TIMEOUT_S)
    assert refused.headers["Retry-After"] == "60"
    assert live.stop() == 0


def test_flask_metrics(server: StartServer) -> None:
    arguments = in_repository(documented_command(EXAMPLES / "flask_metrics.py"))
    arguments[arguments.index("9100")] = "0"
    live = server(*arguments, "-w", "2")
    for article in ("tea", "kettle", "tea", "sand"):
        requests.post(f"{live.url}/order/{article}", timeout=TIMEOUT_S)
    live.wait_log("Admin worker .* is ready")
    (admin,) = re.findall(r"Admin worker at: (http://\S+)", live.log())
    text = requests.get(f"{admin}/metrics", timeout=TIMEOUT_S).text
    for line in (
        'shop_orders_total{article="tea"} 2.0',
        'shop_orders_total{article="kettle"} 1.0',
        "shop_orders_open 0.0",
        "shop_order_price_euros_sum 49.0",
    ):
        assert f"\n{line}\n" in text
    assert "sand" not in text
    if shutil.which("promtool"):
        done = subprocess.run(
            ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_flask_cache(server: StartServer) -> None:
    live = server(*in_repository(documented_command(EXAMPLES / "flask_cache.py")))
    live.wait_log("Started")
    close = {"Connection": "close"}
    pages = {requests.get(live.url, headers=close, timeout=TIMEOUT_S).text for _ in range(20)}
    assert len(pages) == 1
    assert pages.pop().startswith("computed by ")
    [computed_by] = {requests.get(live.url, headers=close, timeout=TIMEOUT_S).text for _ in range(2)}
    os.kill(int(computed_by.split()[2]), signal.SIGKILL)
    live.wait_log("is ready", count=5)
    assert requests.get(live.url, headers=close, timeout=TIMEOUT_S).text == computed_by
    assert requests.get(f"{live.url}/clear", headers=close, timeout=TIMEOUT_S).text == "cleared\n"
    assert requests.get(live.url, headers=close, timeout=TIMEOUT_S).text != computed_by
    assert live.stop() == 0
