"""The page that leads from nothing to production: its files as they are, each with the program that they are for."""

import configparser
import pathlib
import re
import shutil
import subprocess
import sys
import textwrap

import pytest

from tests.docs.commands import DOCS, Machine, commands, machine
from tests.live.proxies import NGINX_FOLDERS

PAGE = (DOCS / "tutorial" / "production.rst").read_text("utf-8")
_FILE = re.compile(r"\.\. code-block:: \w+\n   :caption: (\S+)\n\n((?:(?:   .*)?\n)+)")
FILES = {name: textwrap.dedent(text) for name, text in _FILE.findall(PAGE)}

NOT_TYPED = (
    "sudo apt-get", "sudo install", "cd /srv/shop", "python3 -m venv", ". .venv", "pip install",  # made by the test
    # The machine's own; the files are used as they are.
    "sudo cp", "sudo systemctl", "sudo nginx", "systemd-analyze", "journalctl",
)  # fmt: skip

NGINX = f"""
user root root;
pid nginx.pid;
error_log stderr;
events {{}}
http {{{NGINX_FOLDERS}
    include shop.conf;
}}
"""


def service() -> dict[str, str]:
    """What the unit says about the service."""
    unit = configparser.RawConfigParser()
    unit.optionxform = str  # type: ignore[assignment, method-assign]  # names as they are written
    unit.read_string(FILES["shop.service"])
    return dict(unit["Service"])


TYPED = (
    "wsgicluster --check-config",
    "sudo curl --unix-socket /run/shop/shop.sock http://localhost/",
    'curl -H "Host: shop.example.org" http://localhost/',
    'curl -H "Host: shop.example.org" -X POST http://localhost/order/tea',
    "curl -s http://localhost:9100/metrics | grep ^shop_orders_total",
    "sudo .venv/bin/wsgiclusterctl list",
    "sudo .venv/bin/wsgiclusterctl requests",
)


def test_each_command_of_the_page_is_known() -> None:
    assert tuple(each for each in commands(PAGE) if not each.startswith(NOT_TYPED)) == TYPED


def typed(own: Machine, command: str) -> str:
    """The output of a command of the page, which must succeed."""
    code, output = own.run(command.removeprefix("sudo "))
    assert code == 0, f"{output}\n{own.log()}"
    return output


@pytest.mark.live
def test_from_nothing_to_production(tmp_path: pathlib.Path) -> None:
    if not Machine.can_be_made():
        pytest.skip("needs namespaces: unshare, nsenter, ip")
    assert set(FILES) == {"app.py", "wsgicluster.conf.py", "shop.service", "shop.conf"}
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "nginx.conf").write_text(NGINX)
    # As `python3 -m venv .venv` and `pip install` leave it.
    (tmp_path / ".venv").symlink_to(sys.prefix)
    with machine(tmp_path) as own:
        check, direct, through, order, metrics, listed, requests = TYPED
        own.run("cd /srv/shop")
        assert typed(own, check).startswith("OK")
        assert own.run(f"install -d /run/{service()['RuntimeDirectory']}")[0] == 0
        own.serve(f"cd {service()['WorkingDirectory']} && exec {service()['ExecStart']}")
        assert typed(own, direct).endswith("Welcome\n")
        if shutil.which("nginx", path="/usr/sbin:/sbin:/usr/bin") is None:
            pytest.skip("needs nginx")
        assert own.run("nginx -p $PWD -c nginx.conf") == (0, "")
        assert typed(own, through).endswith("Welcome\n")
        ordered = typed(own, order)
        assert ordered.endswith("tea ordered\n")
        found = typed(own, metrics)
        assert found == 'shop_orders_total{article="tea"} 1.0\n'
        assert found in PAGE
        assert "4/4 workers" in typed(own, listed)
        typed(own, requests)
        own.run("nginx -p $PWD -c nginx.conf -s stop")
        own.stop()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_the_unit_is_one_of_systemd(tmp_path: pathlib.Path) -> None:
    unit = tmp_path / "shop.service"
    # The program is not there on the machine of a test.
    unit.write_text(FILES["shop.service"].replace(service()["ExecStart"], "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if "shop.service" in line] == []
