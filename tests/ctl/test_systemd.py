"""The unit of a running server: paths, words as systemd reads them, and no value of a variable."""

import pathlib
import shutil
import subprocess
import sys
from typing import Any

import pytest

from wsgicluster.ctl import systemd


def launch(*command: str, **more: Any) -> dict[str, Any]:
    return {
        "command": list(command or ("/srv/venv/bin/python", "/srv/venv/bin/wsgicluster", "shop:app", "-w", "4")),
        "directory": "/srv/shop", "variables": ["HOME", "PATH"], "user": "shop", "group": "www", "worker_user": "shop",
        "daemon": False, "stop_seconds": 30.0, "open_files": {"soft": 1024, "hard": 4096}, **more,
    }  # fmt: skip


def test_the_unit_starts_the_server_as_it_was_started() -> None:
    lines = systemd.unit(launch(), "shop").splitlines()
    assert "ExecStart=/srv/venv/bin/python /srv/venv/bin/wsgicluster shop:app -w 4" in lines
    for line in (
        "Type=notify", "User=shop", "Group=www", "WorkingDirectory=/srv/shop", "ExecReload=/bin/kill -HUP $MAINPID",
        "KillMode=mixed", "TimeoutStopSec=40", "Restart=on-failure", "NoNewPrivileges=true", "PrivateTmp=true",
        "ProtectHome=true", "WantedBy=multi-user.target",
    ):  # fmt: skip
        assert line in lines
    assert not [line for line in lines if line.startswith(("Environment", "LimitNOFILE"))]


@pytest.mark.parametrize(
    ("given", "made"),
    [
        (["/p", "bin/wsgicluster", "app"], ["/p", "/srv/bin/wsgicluster", "app"]),
        (["/p", "../bin/wsgicluster", "app"], ["/p", "/bin/wsgicluster", "app"]),
        (["/p", "-m", "wsgicluster", "app"], ["/p", "-m", "wsgicluster", "app"]),
        (["/p", "-X", "dev", "-u", "run", "app"], ["/p", "-X", "dev", "-u", "/srv/run", "app"]),
        (["/p"], ["/p"]),
    ],
)
def test_the_script_has_an_absolute_path(given: list[str], made: list[str]) -> None:
    assert systemd.absolute(given, "/srv") == made


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("-w", "-w"), ("%(h)s", '"%%(h)s"'), ("$HOME", '"$$HOME"'), ('a"b\\c', '"a\\"b\\\\c"'), ("", '""'),
        ("a b", '"a b"'), ("a\nb", '"a\\nb"'), ('app:make("x")', '"app:make(\\"x\\")"'), (";", '";"'),
    ],
)  # fmt: skip
def test_words_are_quoted_for_systemd(word: str, text: str) -> None:
    assert systemd.quoted(word) == text


@pytest.mark.parametrize(
    ("files", "lines"),
    [
        ([], []),
        (["/srv/shop/shop.sock", "/run/shop.sock", "/run/user/1000/shop/shop.sock", "/run/lock/a/pid"], []),
        (["/run/shop/shop.sock"], ["RuntimeDirectory=shop"]),
        (["/run/shop/shop.sock", "/run/shop/shop.pid", "/var/run/a/b/pid"], ["RuntimeDirectory=shop a/b"]),
        (["/srv/shop/../../run/the shop%/s"], ['RuntimeDirectory="the shop%%"']),
    ],
)
def test_folders_that_a_boot_empties_are_made_by_systemd(files: list[str], lines: list[str]) -> None:
    unit = systemd.unit(launch(files=files), "shop").splitlines()
    assert [line for line in unit if line.startswith("RuntimeDirectory")] == lines


def test_a_service_is_no_daemon() -> None:
    text = systemd.unit(launch("/p", "/w", "app", "-D", "--daemon", daemon=True), "shop")
    assert "ExecStart=/p /w app\n" in text
    assert "# A service is no daemon" in text


def test_variables_are_named_and_their_values_are_not_there() -> None:
    given = launch("/p", "/w", "app", variables=["HOME", "PYTHONPATH", "WSGICLUSTER_WORKERS", "SECRET"])
    text = systemd.unit(given, "shop")
    assert "with PYTHONPATH, WSGICLUSTER_WORKERS set" in text
    assert "SECRET" not in text


@pytest.mark.parametrize("words", [("-e", "KEY=1"), ("--env=KEY=1",), ("--store", "redis://:secret@host/0")])
def test_secrets_of_the_command_are_pointed_at(words: tuple[str, ...]) -> None:
    assert "# Every user of this machine can read" in systemd.unit(launch("/p", "/w", "app", *words), "shop")


@pytest.mark.parametrize(
    ("more", "lines"),
    [
        ({"directory": "/home/me/shop"}, ["ProtectHome=read-only"]),
        ({"directory": "/tmp/shop"}, ["PrivateTmp=false"]),
        ({"open_files": {"soft": 65536, "hard": -1}}, ["LimitNOFILE=65536:infinity"]),
        ({"user": "root", "worker_user": "www"}, ["# The arbiter runs as root, its workers as www (user)."]),
        ({"user": "root", "worker_user": "root"}, ["# The server runs as root: User=www-data is safer."]),
    ],
)
def test_what_the_surroundings_change(more: dict[str, Any], lines: list[str]) -> None:
    found = systemd.unit(launch(**more), "shop").splitlines()
    assert set(lines) <= set(found)
    assert ("User=shop" in found) == ("user" not in more)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_accepts_the_unit(tmp_path: pathlib.Path) -> None:
    command = (sys.executable, "-m", "wsgicluster", 'app:make("%h $x", key=1)', "--access-log-format", "%(h)s")
    path = tmp_path / "shop.service"
    path.write_text(systemd.unit(launch(*command, directory=str(tmp_path), user="root"), "100% shop"))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert "shop.service" not in done.stderr, done.stderr
