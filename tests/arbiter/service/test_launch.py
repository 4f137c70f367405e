"""What a starter has passed on, taken out of the environment."""

import dataclasses
import json

import pytest

from wsgicluster.arbiter.service.launch import (
    UPGRADE_VARIABLE,
    HandOff,
    Origin,
    Passed,
    Predecessor,
    Service,
    announce,
    service_variables,
    take,
)
from wsgicluster.ipc.shared_files import PassedFiles

BEFORE = Predecessor(41, 9, HandOff(10, 11, "1 http plain"), workers=7)
LISTENERS = (Passed(5, "127.0.0.1:80"), Passed(6, "unix:/s", made=(7, 8)), Passed(3, name="web", activated=True))


def test_nothing() -> None:
    environ = {"PATH": "/bin"}
    assert take(environ, 42) == Origin()
    assert environ == {"PATH": "/bin"}


def test_sockets_of_a_service_manager() -> None:
    environ = {"LISTEN_PID": "42", "LISTEN_FDS": "3", "LISTEN_FDNAMES": "web:admin", "PATH": "/bin"}
    assert take(environ, 42).passed == (
        Passed(3, name="web", activated=True),
        Passed(4, name="admin", activated=True),
        Passed(5, activated=True),
    )
    assert environ == {"PATH": "/bin"}


@pytest.mark.parametrize("listen_pid", ["41", "", "x"])
def test_sockets_for_somebody_else(listen_pid: str) -> None:
    environ = {"LISTEN_PID": listen_pid, "LISTEN_FDS": "1"}
    assert take(environ, 42).passed == ()
    assert environ == {}


@pytest.mark.parametrize("count", ["", "-1", "x", "0", "9" * 5000])
def test_no_sockets(count: str) -> None:
    assert take({"LISTEN_PID": "42", "LISTEN_FDS": count}, 42).passed == ()


def test_news_and_watchdog() -> None:
    environ = {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "42"}
    assert take(dict(environ), 42).service == Service("/run/notify", 3.0)
    assert take(dict(environ), 43).service == Service("/run/notify")
    assert take({"WATCHDOG_USEC": "500000"}, 42).service == Service("", 0.5)
    for nonsense in ("often", "9" * 5000):
        assert take({"WATCHDOG_USEC": nonsense}, 42).service == Service()
    assert service_variables(Service("/run/notify", 3.0), 42) == environ
    assert service_variables(Service(), 42) == {}


def test_what_an_old_server_says_is_read_back() -> None:
    environ = {UPGRADE_VARIABLE: announce(42, BEFORE, LISTENERS)}
    origin = take(environ, 42)
    assert (origin.predecessor, origin.passed) == (BEFORE, LISTENERS)
    assert origin.shared_files is None
    assert environ == {}


def test_the_files_of_the_shared_state_are_passed_on() -> None:
    files = PassedFiles(11, 12, 13, "/dev/shm/wsgicluster-store-x")
    assert take({UPGRADE_VARIABLE: announce(42, BEFORE, LISTENERS, files)}, 42).shared_files == files


def test_an_old_server_without_shared_state_passes_the_rest() -> None:
    said = json.loads(announce(42, BEFORE, LISTENERS))
    del said["shared_files"]
    del said["predecessor"]["workers"]
    origin = take({UPGRADE_VARIABLE: json.dumps(said)}, 42)
    before = dataclasses.replace(BEFORE, workers=0)
    assert (origin.predecessor, origin.passed, origin.shared_files) == (before, LISTENERS, None)


def test_words_of_an_old_server_for_somebody_else() -> None:
    text = announce(42, BEFORE, LISTENERS)
    environ = {UPGRADE_VARIABLE: text, "LISTEN_PID": "43", "LISTEN_FDS": "1"}
    origin = take(environ, 43)
    assert (origin.predecessor, origin.passed) == (None, (Passed(3, activated=True),))
    assert environ == {}


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "[]",
        "[" * 100_000,
        "{}",
        '{"for": 42}',
        '{"for": 42, "predecessor": {}, "listeners": []}',
        '{"for": 42, "predecessor": 5, "listeners": []}',
        announce(42, BEFORE, LISTENERS).replace("[7, 8]", "[7]"),
        announce(42, BEFORE, LISTENERS).replace('"workers": 7', '"workers": "many"'),
    ],
)
def test_nonsense(text: str) -> None:
    assert take({UPGRADE_VARIABLE: text}, 42) == Origin()
