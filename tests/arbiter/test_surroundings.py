"""Remarks on what surrounds a server."""

import pytest

from wsgicluster.arbiter.surroundings import deaf_parent


@pytest.mark.parametrize(
    "command", ["sh -c wsgicluster app && true", "/bin/bash /start.sh", "-ash", "/bin/busybox sh x"]
)
def test_a_shell_is_process_1(command: str) -> None:
    assert "does not pass SIGTERM on" in deaf_parent(1, command)
    assert deaf_parent(7, command) == ""


@pytest.mark.parametrize(
    "command", ["/sbin/init", "/lib/systemd/systemd --user", "tini -- wsgicluster app", "shell", ""]
)
def test_an_init_is_process_1(command: str) -> None:
    assert deaf_parent(1, command) == ""
