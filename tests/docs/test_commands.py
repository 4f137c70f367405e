"""Every command of every page is typed as it stands there, on a machine of its own, or is listed with a reason."""

import os
import pathlib
import re
import shutil

import pytest

from tests.certificates import make_certificates
from tests.conftest import ROOT
from tests.docs.commands import DOCS, PAGES, Machine, commands, is_server, machine

FOLLOWED = {"tutorial/production.rst": "test_production.py"}
"""Pages that have a test of their own."""

COMMANDS = {
    page: found for page in PAGES if page not in FOLLOWED and (found := commands((DOCS / page).read_text("utf-8")))
}

NOT_RUN = {
    r"(\S*/)?pip3? |python3 -m venv |\. \.venv": "needs a package index; .ci/run installs in each of these ways",
    r"docker ": "needs Docker and images; tests/test_deployments.py reads what they are made of",
    r"kubectl ": "needs a cluster; tests/test_deployments.py reads what is applied",
    r"(sudo )?systemctl |sudo cp |systemd-socket": "needs systemd; tests/live/test_service_manager.py",
    r"old=\$\(systemctl|kill -\w+ \$old": "needs systemd; tests/live/test_upgrade.py",
    r"supervisorctl ": "needs supervisord; tests/test_deployments.py starts its command",
    r"prometheus ": "needs Prometheus; tests/live/test_prometheus.py",
    r"gunicorn ": "is Gunicorn's own; tests/gunicorn compares the two",
    r"(\.venv/bin/)?python benchmarks/": "a measurement that takes minutes",
    r"export (CFLAGS|LD_PRELOAD)|python setup.py|ASAN_OPTIONS": "needs a compiler's sanitizer",
    r"python manage.py createsuperuser": "asks questions",
    r"wsgiclusterctl top": "needs a terminal; tests/ctl",
    r"wsgiclusterctl profile": "takes ten seconds and more; tests/live/test_flame_graph.py",
    r"kill -\w+ \$\(cat /run/shop/server.pid": "a sequence with waits; tests/live/test_upgrade.py",
    r"wsgiclusterctl upgrade": "leaves two servers, of which one is to be stopped; tests/live/test_upgrade.py",
    r"wsgiclusterctl reload --canary": "takes half a minute and more; tests/live/test_canary.py",
    r".* > /etc/|systemd-analyze ": "changes the machine; tests/ctl has what is written",
    r".*/etc/shop/": "certificates of a real site; tests/live/test_tls.py",
    r".*--trace-spans": "needs an exporter of another package; tests/live/test_spans.py",
    r"(sudo )?\.venv/bin/python -m examples\.three_hosts": "makes namespaces itself; tests/live/test_three_hosts.py",
    r"python -m twine ": "sends a release to the package index",
    r".*\[flags|wsgicluster COMMAND|python -m wsgicluster \.\.\.": "a synopsis",
}
"""Patterns of commands that are not typed, and why."""

REDIS = "redis-server --port 6379 --save '' --daemonize yes"
PID_FILE = "wsgicluster app:app -p server.pid &"
FIRST = {
    "howto/daemon.rst": "install -d /run/shop",
    "howto/early-hints.rst": "wsgicluster app:app",
    "howto/messages.rst": REDIS,
    "howto/reload.rst": PID_FILE,
    "howto/shared-state.rst": REDIS,
    "howto/tls.rst": PID_FILE,
    "howto/upgrade.rst": "install -d /run/shop",
    "reference/signals.rst": PID_FILE,
}
"""What a page takes for granted: what is there already when its first command is typed."""

FILES = {
    "explanation/shared-memory.rst": {"shop/wsgi.py": "from app import application\n"},
    "howto/gunicorn.rst": {"production.ini": "[app:main]\npaste.app_factory = app:made\n[app:admin]\nuse = main\n"},
    "howto/reload.rst": {"wsgicluster.conf.py": "wsgi_app = 'app:app'\n"},
    "tutorial/flask.rst": {"shop/wsgicluster.conf.py": "wsgi_app = 'app:app'\nbind = '127.0.0.1:8000'\n"},
}
"""Files that pages tell about."""

ENDLESS = "timeout -s INT 1 "
"""What ends the commands that would run until Ctrl-C."""

EXITS = {"wsgicluster --doctor": {10}, "wsgiclusterctl doctor": {0, 1}, ENDLESS: {0, 124}}
"""Exit codes other than 0 that commands of these beginnings may have: the doctor finds what depends on the machine."""

APP = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
    return [b"hi\\n"]

application = app

def made(global_config, **settings):
    return app
"""


def reason_not_to_run(command: str) -> str | None:
    if os.getuid() != 0 and "www-data" in command:
        return "needs root, who may become another user"
    return next((why for pattern, why in NOT_RUN.items() if re.match(pattern, command)), None)


def test_commands_are_found() -> None:
    assert sum(map(len, COMMANDS.values())) > 150
    assert commands("Do::\n\n    wsgicluster app:app \\\n        -w 2\n    [INFO] no\n") == ["wsgicluster app:app -w 2"]
    assert commands(".. code-block:: console\n\n    $ ls\n    a\n") == ["ls"]
    assert commands("Log::\n\n    wsgicluster: error: no\n") == []


def test_no_reason_is_left_over() -> None:
    every = [command for found in COMMANDS.values() for command in found]
    assert [pattern for pattern in NOT_RUN if not any(re.match(pattern, command) for command in every)] == []


def furnish(folder: pathlib.Path, files: dict[str, str]) -> None:
    """What a reader of the pages has: the repository's examples, and an application of several names."""
    folder.chmod(0o755)  # for servers that become another user
    shutil.copytree(ROOT / "examples", folder / "examples")
    (folder / "shop").mkdir()
    for name in ("app.py", "shop/app.py", "shop/__init__.py", "shop/web.py"):
        (folder / name).write_text(APP)
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / "bin").mkdir()
    sudo = folder / "bin" / "sudo"
    sudo.write_text('#!/bin/sh\nexec "$@"\n')
    sudo.chmod(0o755)


@pytest.mark.live
@pytest.mark.timeout(300)  # a page may have twenty commands
@pytest.mark.parametrize("page", COMMANDS)
def test_what_a_page_says_is_typed(page: str, tmp_path: pathlib.Path) -> None:
    wanted = [command for command in COMMANDS[page] if reason_not_to_run(command) is None]
    if not wanted:
        pytest.skip("; ".join(sorted({reason_not_to_run(command) or "" for command in COMMANDS[page]})))
    if FIRST.get(page) == REDIS and shutil.which("redis-server") is None:
        pytest.skip("needs redis-server")
    if not Machine.can_be_made():
        pytest.skip("needs namespaces: unshare, nsenter, ip")
    furnish(tmp_path, FILES.get(page, {}))
    if any("server.pem" in command for command in wanted):
        certificates = make_certificates(tmp_path / "certificates")
        for name, wanted_name in (
            ("server.pem", "server.pem"),
            ("server.key", "server.key"),
            ("ca.pem", "clients-ca.pem"),
        ):
            shutil.copy(certificates.path(name), tmp_path / wanted_name)
    with machine(tmp_path) as own:
        for command in [*filter(None, [FIRST.get(page)]), *wanted]:
            follow(own, command)
        own.stop()


def follow(own: Machine, command: str) -> None:
    """Type one command, and see that it does not fail."""
    if is_server(command):
        own.serve(command)
        return
    if command.startswith("wsgicluster ") and " -D " in command:
        own.stop()
    if re.match(r"wsgiclusterctl (?:events|logs) .*-f\b", command):
        command = f"{ENDLESS}{command}"
    code, output = own.run(command)
    expected = next((codes for start, codes in EXITS.items() if command.startswith(start)), {0})
    assert code in expected, f"{command}\n{output}\n--- server\n{own.log()}"
