"""Whole deployments that were written for Gunicorn run here unchanged, and respond in the same way.

What is changed is one word: the name of the program, or that of the package in a program of its own that imports it.
"""

import contextlib
import http.client
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence

import pytest

from tests.conftest import LiveServer, find_free_ports, wait_until
from tests.gunicorn.deployments import DEPLOYMENTS, Deployment, Request
from tests.gunicorn.real_gunicorn import RealGunicorn
from tests.live.proxies import NGINX_BEGINNING, Proxy, listens, program
from wsgicluster.gunicorn.__main__ import main

pytestmark = pytest.mark.live

OWN_FIELDS = frozenset({"server", "date", "connection", "transfer-encoding"})
"""Of the server itself: its name, the time, and how it transfers the message (RFC 9112, section 7)."""

LENGTH = "content-length"


Response = tuple[int, list[tuple[str, str]], bytes]


class DeployedServer(LiveServer):
    """A server that a deployment starts: by the command, or by a script of its own."""

    def __init__(self, deployment: Deployment, folder: pathlib.Path, python: pathlib.Path) -> None:
        super().__init__(folder, shlex.split(deployment.arguments), deployment.environ)
        self._deployment = deployment
        self._python = python
        # The programs of its environment come first, as where that is activated.
        self.environ["PATH"] = f"{python.parent}:{os.environ['PATH']}"
        self.environ["PYTHONHASHSEED"] = "0"  # some frameworks write sets into header fields
        self.environ["HOME"] = str(folder)  # Gunicorn makes its control socket there

    def command(self, name: str) -> list[str]:
        """What is typed, with this name of the program."""
        if name == "unchanged":
            return [str(self._python), "-m", "wsgicluster.gunicorn", self._deployment.script]
        if not self._deployment.script:
            return [str(self._python), "-m", name, *self.arguments]
        script = self.folder / self._deployment.script
        text = script.read_text()
        if name != "gunicorn":
            text = text.replace("exec gunicorn ", f"exec {name} ").replace("from gunicorn.", f"from {name}.gunicorn.")
        script.write_text(text)
        interpreter = str(self._python) if self._deployment.interpreter == "python" else "sh"
        return [interpreter, script.name]

    def run(self, name: str) -> None:
        """Start it."""
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(name), cwd=self.folder, env=self.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip


@contextlib.contextmanager
def deployed(deployment: Deployment, name: str, folder: pathlib.Path, python: pathlib.Path) -> Iterator[DeployedServer]:
    """A server that runs, under the one name or the other."""
    folder.mkdir()
    for path, text in deployment.files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text)
    live = DeployedServer(deployment, folder, python)
    try:
        live.run(name)
        yield live
    finally:
        live.end()
        print(live.whole_log())


@contextlib.contextmanager
def behind_nginx(block: str, folder: pathlib.Path) -> Iterator[int]:
    """The port of an nginx that passes requests on to the server in this folder."""
    (port,) = find_free_ports(1)
    site = block.replace("PORT", str(port)).replace("FOLDER", str(folder))
    configuration = folder / "nginx.conf"
    configuration.write_text(f"{NGINX_BEGINNING}    include mime.conf;\n{site}}}\n", "utf-8")
    (folder / "mime.conf").write_text("types { text/css css; }\n")
    with Proxy(folder, [program("nginx"), "-p", f"{folder}/", "-e", "errors", "-c", str(configuration)]) as proxy:
        proxy.wait(lambda: listens(port), "nginx listens")
        yield port


def exchange(port: int, request: Request) -> Response:
    """Status, header fields and body of a response; the fields in their order, those of the server left out."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        fields = {"Connection": "close", "Host": "shop.example", **request.fields}
        connection.request(request.method, request.path, request.body, fields)
        response = connection.getresponse()
        found = [(name.lower(), value) for name, value in response.getheaders() if name.lower() not in OWN_FIELDS]
        return response.status, sorted(found), response.read()


def are_equal(ours: Response, theirs: Response) -> bool:
    """Whether two responses are the same; a length that one server alone has found out is part of its framing."""
    unknown = {LENGTH} - (set(dict(ours[1])) & set(dict(theirs[1])))
    without = [[pair for pair in fields if pair[0] not in unknown] for _, fields, _ in (ours, theirs)]
    return (ours[0], without[0], ours[2]) == (theirs[0], without[1], theirs[2])


def lines_of(live: LiveServer, marks: Sequence[str]) -> list[str]:
    """The lines that begin at one of these words, sorted: several workers write them."""
    pattern = "|".join(map(re.escape, marks))
    return sorted(re.findall(rf"(?:{pattern}).*", live.whole_log()))


def ask(deployment: Deployment, live: LiveServer, requests: int) -> list[Response]:
    """Its responses to all requests, once there are so many lines of the access log."""
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(behind_nginx(deployment.nginx, live.folder)) if deployment.nginx else live.port
        responses = [exchange(port, request) for request in deployment.requests]
    access = deployment.marks[-1]
    wait_until(lambda: live.whole_log().count(access) >= requests, 15, f"{requests} lines of the access log")
    return responses


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment.name)
def test_the_same_under_both(real_gunicorn: RealGunicorn, tmp_path: pathlib.Path, deployment: Deployment) -> None:
    for module in deployment.modules:
        pytest.importorskip(module)
    if not real_gunicorn.can_import(*deployment.modules):
        pytest.skip(f"the environment of Gunicorn has no {' or no '.join(deployment.modules)}")
    if deployment.nginx:
        program("nginx")
    logged = sum(not request.path.startswith("/static/") for request in deployment.requests)
    python = pathlib.Path(sys.executable)
    with (
        deployed(deployment, "gunicorn", tmp_path / "theirs", real_gunicorn.python) as theirs,
        deployed(deployment, "wsgicluster", tmp_path / "ours", python) as ours,
    ):
        for live in (theirs, ours):
            live.wait_log(r"Listening at: \S+")
        expected, found = (ask(deployment, live, logged) for live in (theirs, ours))
        for live in (theirs, ours):
            live.send(signal.SIGTERM)
        assert [theirs.wait_end(), ours.wait_end()] == [0, 0]
        lines = [lines_of(live, deployment.marks) for live in (theirs, ours)]
    for request, their_response, our_response in zip(deployment.requests, expected, found, strict=True):
        assert are_equal(our_response, their_response), f"{request}: {our_response} is not {their_response}"
    assert lines[1] == lines[0]
    assert lines[0]


def test_a_program_with_a_class_of_gunicorns_runs_unchanged(tmp_path: pathlib.Path) -> None:
    (deployment,) = (each for each in DEPLOYMENTS if each.interpreter == "python")
    with deployed(deployment, "unchanged", tmp_path / "ours", pathlib.Path(sys.executable)) as live:
        live.wait_log(r"Listening at: \S+")
        responses = ask(deployment, live, len(deployment.requests))
        assert [response[2] for response in responses] == [b"GET /a ", b"POST /b body"]
        assert live.stop() == 0
        assert "hook: post_fork 1" in live.whole_log()


@pytest.mark.parametrize(
    ("arguments", "says"), [(["-m"], "no program is named"), (["none.py"], "none.py: no such file"), ([], "no program")]
)
def test_programs_that_are_not_there(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"wsgicluster.gunicorn: error: {says}")
    assert said.count("\n") == 1
