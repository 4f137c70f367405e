"""What a server checks before it has a child."""

import logging
import os

import pytest

from wsgicluster.arbiter import startup
from wsgicluster.arbiter.listeners.registry import Addresses
from wsgicluster.arbiter.listeners.sockets import backlog_limit
from wsgicluster.arbiter.startup import shell_as_pid1_warning
from wsgicluster.ipc.assignment import HAND_OFF_FORMAT
from wsgicluster.settings import Settings, TcpAddress
from wsgicluster.settings.types.values import WorkerRange


@pytest.mark.parametrize(
    "command", ["sh -c wsgicluster app && true", "/bin/bash /start.sh", "-ash", "/bin/busybox sh x"]
)
def test_a_shell_is_process_1(command: str) -> None:
    assert "does not pass SIGTERM on" in shell_as_pid1_warning(1, command)
    assert shell_as_pid1_warning(7, command) == ""


@pytest.mark.parametrize(
    "command", ["/sbin/init", "/lib/systemd/systemd --user", "tini -- wsgicluster app", "shell", ""]
)
def test_an_init_is_process_1(command: str) -> None:
    assert shell_as_pid1_warning(1, command) == ""


def test_what_two_servers_must_have_in_common_to_share_a_hand_off() -> None:
    kinds = {startup.hand_off_kind(Settings()), startup.hand_off_kind(Settings(protocol="uwsgi"))}
    assert kinds == {f"{HAND_OFF_FORMAT} http plain", f"{HAND_OFF_FORMAT} uwsgi plain"}


def test_how_many_children_there_are_at_most() -> None:
    assert startup.most_children(Settings(workers=3)) == 6
    assert startup.most_children(Settings(workers=3, preload_app=True)) == 8


def test_numbers_of_two_servers_never_meet() -> None:
    assert startup.first_number(2) - startup.first_number(1) > 1 << 31


def test_a_backlog_that_the_kernel_does_not_grant(caplog: pytest.LogCaptureFixture) -> None:
    limit = backlog_limit()
    if limit is None:
        pytest.skip("the system does not say what it grants")
    log = logging.getLogger("tests.startup")
    addresses = Addresses(log)
    startup.listen(Settings(bind=(TcpAddress("127.0.0.1", 0),), backlog=limit + 1), addresses, (), log)
    addresses.keep(())
    assert f"backlog: the kernel grants {limit}, not {limit + 1}" in caplog.text


def test_surroundings_without_harm(caplog: pytest.LogCaptureFixture) -> None:
    startup.warn_about_environment(logging.getLogger("tests.startup"))
    assert os.getppid() == 1 or caplog.text == ""


def test_pages_are_laid_out_for_all_workers_that_there_may_be() -> None:
    assert startup.most_children(Settings(workers=WorkerRange(2, 16))) == startup.most_children(Settings(workers=16))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (Settings(), "sync (1 worker)"),
        (Settings(worker_class="gthread", workers=2, threads=8), "gthread (2 workers with 8 threads each)"),
        (Settings(worker_class="gevent", workers=WorkerRange(2, 16)), "gevent (2 to 16 workers)"),
        (Settings(worker_class=type("Traced", (), {}), workers=3), "Traced (3 workers)"),
    ],
)
def test_workers_in_words(settings: Settings, says: str) -> None:
    assert startup.workers_in_words(settings) == says


@pytest.mark.parametrize(
    ("settings", "has_terminal", "says"),
    [
        (Settings(), True, "Ctrl-C, wsgiclusterctl stop or kill -TERM 7"),
        (Settings(), False, "wsgiclusterctl stop or kill -TERM 7"),
        (Settings(daemon=True, pidfile="/run/a b.pid"), True, "wsgiclusterctl -p '/run/a b.pid' stop or kill -TERM 7"),
        (Settings(proc_name="shop"), False, "wsgiclusterctl -n shop stop or kill -TERM 7"),
        (Settings(control_socket_disable=True), True, "Ctrl-C or kill -TERM 7"),
        (Settings(control_socket_disable=True), False, "kill -TERM 7"),
    ],
)
def test_how_to_stop(settings: Settings, has_terminal: bool, says: str) -> None:
    assert startup.how_to_stop(settings, 7, has_terminal) == f"To stop: {says}"


def test_without_a_terminal_of_its_own_there_is_no_foreground() -> None:
    ours, its = os.openpty()  # a terminal, but that of no session
    saved, nothing = os.dup(0), os.open(os.devnull, os.O_RDONLY)
    try:
        for descriptor in (its, nothing):
            os.dup2(descriptor, 0)
            assert not startup.in_foreground()
    finally:
        os.dup2(saved, 0)
        for descriptor in (ours, its, saved, nothing):
            os.close(descriptor)
