"""What is done with each application, as its users do; each check says facts that must be the same on every server."""

import concurrent.futures
import hashlib
import io
import os
import pathlib
import re
import shutil
import subprocess
import sys
import urllib.parse
import zipfile
from collections.abc import Callable, Iterator

import requests
from servers import Server, running

Facts = dict[str, str]

BROWSERS = 30
LARGE_BYTES = 600_000_000
PATIENCE_S = 200
"""For any one program."""


class Missing(Exception):
    """A program that a check needs is not installed."""


def needs(*programs: str) -> None:
    """Raise Missing unless all of these are there."""
    absent = [program for program in programs if not shutil.which(program)]
    if absent:
        raise Missing(", ".join(absent))


def run(*command: str | pathlib.Path, cwd: pathlib.Path, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Exit code and all that a program prints."""
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True,
        errors="replace", timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def python_of(cache: pathlib.Path, name: str) -> pathlib.Path:
    """The interpreter of an environment."""
    return cache / name / "bin" / "python"


def httpbin(cache: pathlib.Path, server: Server, folder: pathlib.Path) -> Iterator[Facts]:
    """The tests of requests, over plain HTTP and TLS."""
    clients = python_of(cache, "clients")
    _, place = run(
        clients, "-c", "import pytest_httpbin.certs as c, pathlib; print(pathlib.Path(c.__file__).parent)", cwd=cache
    )
    certificates = pathlib.Path(place.strip()) / "certs"
    tls = ("--certfile", str(certificates / "server.pem"), "--keyfile", str(certificates / "server.key"))
    python = python_of(cache, "httpbin")
    with running(server, python, folder, "httpbin:app") as live:
        with running(server, python, folder, "httpbin:app", *tls) as secure:
            environ = {
                "HTTPBIN_URL": live.url,
                "HTTPBIN_SECURE_URL": secure.url.replace("127.0.0.1", "localhost"),
                "PYTHONPATH": str(pathlib.Path(__file__).parent),
            }
            # Those about the time to connect want a network on which no host responds.
            command = ["-m", "pytest", "-q", "-rfE", "-p", "no:httpbin", "-p", "httpbin_elsewhere", "--timeout", "60"]
            command += ["-k", "not connect_timeout and not timeout_connect"]
            _, printed = run(clients, *command, "tests", cwd=cache / "requests", env=environ)
    summary = re.sub(r", \d+ warnings?| in [\d.]+s.*", "", printed.strip().splitlines()[-1]).strip("= ")
    yield {"requests' own tests": summary}
    yield {f"failed: {name}": "" for name in re.findall(r"^(?:FAILED|ERROR) (\S+)", printed, re.MULTILINE)}


def dash(cache: pathlib.Path, server: Server, folder: pathlib.Path) -> Iterator[Facts]:
    """Sessions of a browser: load the page, type, and see the answer of the callback and a graph of 20,000 points."""
    needs("chromium", "chromedriver")
    from selenium import webdriver
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    def session(number: int, url: str) -> str:
        options = webdriver.ChromeOptions()
        for flag in (
            "headless",
            "no-sandbox",
            "disable-gpu",
            "disable-background-networking",
            "disable-component-update",
        ):
            options.add_argument(f"--{flag}")
        browser = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
        try:
            browser.get(url)
            wait = WebDriverWait(browser, 30)
            wait.until(lambda found: found.find_elements(By.ID, "name"))
            browser.find_element(By.ID, "name").send_keys(f"visitor {number}")
            wait.until(lambda found: found.find_element(By.ID, "greeting").text == f"Hello, visitor {number}")
            wait.until(lambda found: found.find_elements(By.CSS_SELECTOR, "#graph canvas, #graph svg.main-svg"))
            errors = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
            return "greeted" if not errors else f"errors: {errors[0][:80]}"
        finally:
            browser.quit()

    with running(server, python_of(cache, "dash"), folder, "served:dash") as live:
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            jobs = [pool.submit(session, number, live.url) for number in range(BROWSERS)]
        outcomes = [job.result() if not job.exception() else type(job.exception()).__name__ for job in jobs]
    for outcome in sorted({*outcomes, "greeted"}):
        yield {f"sessions {outcome}": f"{outcomes.count(outcome)} of {BROWSERS}"}


def dav(cache: pathlib.Path, server: Server, folder: pathlib.Path) -> Iterator[Facts]:
    """Litmus, and a file of 600 MB there and back."""
    needs("litmus", "curl")
    # One worker: its locks are in a file of the standard library's shelve, which takes one writer.
    with running(server, python_of(cache, "wsgidav"), folder, "served:dav", workers=1) as live:
        _, printed = run("litmus", "-k", f"{live.url}/", cwd=folder)
        for suite, text in re.findall(r"summary for `(\w+)': (.*)", printed):
            yield {f"litmus {suite}": text}
        yield {f"litmus: {line.strip()}": "" for line in re.findall(r"^.*\bFAIL .*$", printed, re.MULTILINE)}
        source, back = folder / "large", folder / "back"
        with source.open("wb") as file:
            block = os.urandom(1_000_000)
            for _ in range(LARGE_BYTES // len(block)):
                file.write(block)
        _, up = run(
            "curl", "-sS", "-o", os.devnull, "-w", "%{http_code}", "-T", source, f"{live.url}/large", cwd=folder
        )
        _, down = run("curl", "-sS", "-o", back, "-w", "%{http_code}", f"{live.url}/large", cwd=folder)
        same = back.exists() and digest(back) == digest(source)
        yield {"600 MB": f"PUT {up}, GET {down}, {'the same' if same else 'NOT the same'}"}
        slow = ("--limit-rate", "100M")
        _, down = run("curl", "-sS", *slow, "-o", back, "-w", "%{http_code}", f"{live.url}/large", cwd=folder)
        yield {"600 MB at 100 MB/s": f"GET {down}, {'the same' if digest(back) == digest(source) else 'NOT the same'}"}
        for path in (source, back):
            path.unlink()


def digest(path: pathlib.Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pypi(cache: pathlib.Path, server: Server, folder: pathlib.Path) -> Iterator[Facts]:
    """Twine uploads a small and a large wheel, pip finds and installs them."""
    clients = python_of(cache, "clients")
    files = [wheel(folder, "small", 10), wheel(folder, "large", 20_000_000)]
    with running(server, python_of(cache, "pypiserver"), folder, "served:pypi") as live:
        upload = (
            clients,
            "-m",
            "twine",
            "upload",
            "--non-interactive",
            "--repository-url",
            live.url,
            "-u",
            "a",
            "-p",
            "b",
        )
        code, _ = run(*upload, *files, cwd=folder)
        yield {"twine upload": f"exit {code}"}
        found = requests.get(f"{live.url}/simple/", timeout=30)
        yield {"index": f"{found.status_code} {sorted(re.findall(r'>([a-z]+)/?</a>', found.text))}"}
        install = (
            clients,
            "-m",
            "pip",
            "install",
            "-q",
            "--no-deps",
            "--target",
            folder / "installed",
            "--no-cache-dir",
        )
        code, _ = run(*install, "--index-url", f"{live.url}/simple/", "small", "large", cwd=folder)
        content = folder / "installed/large.py"
        yield {"pip install": f"exit {code}, {content.stat().st_size if content.exists() else 0} bytes"}


def wheel(folder: pathlib.Path, name: str, size: int) -> pathlib.Path:
    """A wheel of one module with that many bytes of comment."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    about = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", b"#" + os.urandom(size // 2).hex().encode())
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: real\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{about}/RECORD", f"{name}.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n")
    return path


def hg(cache: pathlib.Path, server: Server, folder: pathlib.Path) -> Iterator[Facts]:
    """Clone, push 30 MB, clone again; the pages and an archive."""
    program = cache / "clients/bin/hg"
    run(program, "init", "repository", cwd=folder)
    with running(server, python_of(cache, "hgweb"), folder, "served:hg", workers=1) as live:
        code, _ = run(program, "clone", "-q", live.url, "one", cwd=folder)
        yield {"clone of nothing": f"exit {code}"}
        work = folder / "one"
        (work / "data").write_bytes(os.urandom(30_000_000))
        for words in (("add", "data"), ("commit", "-q", "-u", "me", "-m", "data"), ("push", "-q", live.url)):
            code, printed = run(program, *words, cwd=work)
            yield {words[0]: f"exit {code}{': ' + printed[-200:] if code else ''}"}
        code, _ = run(program, "clone", "-q", live.url, "two", cwd=folder)
        copy = folder / "two/data"
        yield {
            "clone": f"exit {code}, {'the same' if copy.exists() and digest(copy) == digest(work / 'data') else 'NOT'}"
        }
        for path in ("/", "/rev/tip", "/file/tip", "/nothing", "/raw-file/tip/data", "/archive/tip.zip"):
            found = requests.get(live.url + path, timeout=120)
            size = f", {len(found.content)} bytes" if path.startswith("/raw") else ""
            yield {f"GET {path}": f"{found.status_code} {found.headers.get('Content-Type')}{size}"}


def git(cache: pathlib.Path, server: Server, folder: pathlib.Path) -> Iterator[Facts]:
    """Push 30 MB to dulwich, whose body git sends in chunks, and clone them."""
    needs("git")
    environ = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0"}
    for name in ("AUTHOR", "COMMITTER"):
        environ |= {f"GIT_{name}_NAME": "me", f"GIT_{name}_EMAIL": "me@example.org"}
    with running(server, python_of(cache, "dulwich"), folder, "served:git", workers=1) as live:
        work = folder / "one"
        work.mkdir()
        (work / "data").write_bytes(os.urandom(30_000_000))
        steps = (
            ("init", "-q", "-b", "master"), ("add", "data"), ("commit", "-q", "-m", "data"),
            ("push", "-q", f"{live.url}/", "master"),
            ("-c", "http.postBuffer=100000000", "push", "-q", f"{live.url}/", "HEAD:other"),
        )  # fmt: skip
        for words in steps:
            code, printed = run("git", *words, cwd=work, env=environ)
            name = "push in one piece" if words[0] == "-c" else words[0]
            yield {name: f"exit {code}{': ' + printed[-200:] if code else ''}"}
        code, _ = run("git", "clone", "-q", "-b", "master", f"{live.url}/", "two", cwd=folder, env=environ)
        copy = folder / "two/data"
        yield {
            "clone": f"exit {code}, {'the same' if copy.exists() and digest(copy) == digest(work / 'data') else 'NOT'}"
        }


def wagtail(cache: pathlib.Path, server: Server, folder: pathlib.Path) -> Iterator[Facts]:
    """A new site: sign in, upload a document, publish a page, and look at it."""
    python = python_of(cache, "wagtail")
    environ = {"DJANGO_SUPERUSER_PASSWORD": "secret", "DJANGO_SETTINGS_MODULE": "shop.settings.dev"}
    run(python.parent / "wagtail", "start", "shop", ".", cwd=folder)
    run(python, "manage.py", "migrate", "-v", "0", cwd=folder, env=environ)
    run(
        python,
        "manage.py",
        "createsuperuser",
        "--noinput",
        "--username",
        "me",
        "--email",
        "me@x.org",
        cwd=folder,
        env=environ,
    )
    with running(server, python, folder, "shop.wsgi:application", workers=1) as live, requests.Session() as me:
        admin = f"{live.url}/admin"

        def post(path: str, data: dict[str, str], files: dict[str, object] | None = None) -> requests.Response:
            page = me.get(admin + path, timeout=60)
            token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', page.text)
            data = {**data, "csrfmiddlewaretoken": token[1] if token else ""}
            return me.post(admin + path, data, files=files, headers={"Referer": admin + path}, timeout=60)

        yield {"GET /": str(me.get(live.url, timeout=60).status_code)}
        found = post("/login/", {"username": "me", "password": "secret"})
        yield {"sign in": f"{found.status_code} {urllib.parse.urlsplit(found.url).path}"}
        document = os.urandom(5_000_000)
        found = post("/documents/add/", {"title": "large"}, {"file": ("large.zip", io.BytesIO(document))})
        yield {"upload": f"{found.status_code} {urllib.parse.urlsplit(found.url).path}"}
        served = me.get(f"{live.url}/documents/1/large.zip", timeout=60)
        yield {"download": f"{served.status_code} {'the same' if served.content == document else 'NOT the same'}"}
        page = {"title": "News", "slug": "news", "action-publish": "1", "comments-TOTAL_FORMS": "0"}
        page |= {
            "comments-INITIAL_FORMS": "0",
            "seo_title": "",
            "search_description": "",
            "go_live_at": "",
            "expire_at": "",
        }
        found = post("/pages/add/home/homepage/3/", page)
        yield {"publish": f"{found.status_code} {urllib.parse.urlsplit(found.url).path}"}
        found = me.get(f"{live.url}/news/", timeout=60)
        yield {"GET /news/": f"{found.status_code} {'News' in found.text}"}
        for path in ("/admin/pages/", "/search/?query=News", "/nothing/", "/static/wagtailadmin/css/core.css"):
            yield {f"GET {path}": str(me.get(live.url + path, timeout=60).status_code)}


def zope(cache: pathlib.Path, server: Server, folder: pathlib.Path) -> Iterator[Facts]:
    """A new instance: its pages, and files of all sizes put, got and deleted."""
    python = python_of(cache, "zope")
    run(python.parent / "mkwsgiinstance", "-d", "instance", "-u", "me:secret", cwd=folder)
    # One worker: the database is a file that one process has.
    with running(server, python, folder, "served:zope", workers=1) as live, requests.Session() as me:
        me.auth = ("me", "secret")
        for path in ("/", "/manage_main", "/Control_Panel/manage_main", "/nothing"):
            yield {f"GET {path}": str(me.get(live.url + path, timeout=60).status_code)}
        yield {"without a name": str(requests.get(f"{live.url}/manage_main", timeout=60).status_code)}
        for size in (100, 60_000, 200_000, 20_000_000):
            data = os.urandom(size)
            path = f"{live.url}/file-{size}.bin"
            put = me.put(path, data, headers={"Content-Type": "application/octet-stream"}, timeout=120)
            got = me.get(path, timeout=120)
            same = "the same" if got.content == data else "NOT the same"
            gone = me.delete(path, timeout=60)
            yield {f"{size} bytes": f"PUT {put.status_code}, GET {got.status_code} {same}, DELETE {gone.status_code}"}
        form = {"id": "box", "title": "Box", "submit": "Add"}
        found = me.post(f"{live.url}/manage_addProduct/OFSP/manage_addFolder", form, timeout=60, allow_redirects=False)
        yield {"add a folder": str(found.status_code)}
        yield {"PROPFIND": str(me.request("PROPFIND", f"{live.url}/box", timeout=60).status_code)}


CHECKS: dict[str, Callable[[pathlib.Path, Server, pathlib.Path], Iterator[Facts]]] = {
    "httpbin": httpbin,
    "dash": dash,
    "wsgidav": dav,
    "pypiserver": pypi,
    "hgweb": hg,
    "dulwich": git,
    "wagtail": wagtail,
    "zope": zope,
}


def facts_of(name: str, cache: pathlib.Path, server: Server, folder: pathlib.Path) -> Facts:
    """All facts of one application on one server; what ends a check early is one of them."""
    found: Facts = {}
    try:
        for facts in CHECKS[name](cache, server, folder):
            found |= facts
    except (OSError, RuntimeError, subprocess.SubprocessError, requests.RequestException) as error:
        found["ended"] = f"{type(error).__name__}: {str(error)[-300:]}"
    return found


def faults_logged(folder: pathlib.Path) -> list[str]:
    """What the servers' logs hold that belongs in none: workers that died or hung."""
    words = re.compile(
        r"internal error|died|WORKER TIMEOUT|hung in|exited: (?!stop requested)|is hung|SIGSEGV", re.IGNORECASE
    )
    lines = [line for path in folder.glob("*.log") for line in path.read_text("utf-8", "replace").splitlines()]
    return [line for line in lines if words.search(line)]


if __name__ == "__main__":
    sys.exit("see benchmarks/applications.sh")
