"""Each type of setting: what it accepts from a file and from a text, and what it refuses."""

import os
from typing import Any

import pytest

from wsgicluster.settings.fields import SETTINGS
from wsgicluster.settings.types import general
from wsgicluster.settings.types.general import SettingType
from wsgicluster.settings.types.values import Automatic, MemoryShare, TcpAddress, UnixAddress, WorkerRange


@pytest.mark.parametrize(
    ("value_type", "raw", "value"),
    [
        (general.SWITCH, True, True),
        (general.SWITCH, "yes", True),
        (general.SWITCH, "OFF", False),
        (general.SWITCH, 0, False),
        (general.COUNT, "0", 0),
        (general.COUNT_FROM_ONE, 7, 7),
        (general.WORKERS, "auto", Automatic()),
        (general.WORKERS, "4", 4),
        (general.WORKERS, 0, 1),
        (general.THREADS, "0", 1),
        (general.THREADS, 3, 3),
        (general.WORKERS, 500, 500),
        (general.WORKERS, "2..16", WorkerRange(2, 16)),
        (general.WORKERS, " 1 .. 500 ", WorkerRange(1, 500)),
        (general.WORKERS, WorkerRange(2, 16), WorkerRange(2, 16)),
        (general.WORKERS, "4..4", 4),
        (general.DURATION, 2, 2.0),
        (general.DURATION, "500ms", 0.5),
        (general.SIZE, 8190, 8190),
        (general.SIZE, "1K", 1024),
        (general.LINE_SIZE, 0, 65536),
        (general.FIELDS, "0", 32768),
        (general.MEMORY, "80%", MemoryShare(80)),
        (general.MEMORY, "512M", 512 << 20),
        (general.ADDRESSES, "a:1,b:2", (TcpAddress("a", 1), TcpAddress("b", 2))),
        (general.ADDRESSES, ["a:1", "unix:x,mode=0600"], (TcpAddress("a", 1), UnixAddress("x", 0o600))),
        (general.PATHS, "a, b", ("a", "b")),
        (general.PATHS, ["a,b", "c"], ("a", "b", "c")),
        (general.PATTERNS, ["a,b"], ("a,b",)),
        (general.ASSIGNMENTS, ["A=1,2", "B="], ("A=1,2", "B=")),
        (general.ASSIGNMENTS, "A=1,B=2", ("A=1", "B=2")),
        (general.PEERS, "", ()),
        (general.PEERS, "10.0.0.0/8, ::0:1,*", ("10.0.0.0/8", "::1", "*")),
        (general.PEERS, ("10.1.1.1/8",), ("10.0.0.0/8",)),
        (general.PEERS, "::ffff:10.0.0.1, ::ffff:10.0.0.0/104, ::/8", ("10.0.0.1", "10.0.0.0/8", "::/8")),
        (general.OPTIONAL_TEXT, None, None),
        (general.OPTIONAL_TEXT, "", None),
        (general.OPTIONAL_PATH, "a", "a"),
        (general.LOG_LEVEL, "Warning", "warning"),
        (general.LOG_LEVEL, "warn", "warning"),
        (general.LOG_LEVEL, "NOTSET", "debug"),
        (general.OPTIONAL_MODE, "022", 0o22),
        (general.OPTIONAL_MODE, "0o22", 0o22),
        (general.OPTIONAL_MODE, 18, 0o22),
        (general.OPTIONAL_MODE, "0", 0),
        (general.OPTIONAL_MODE, 0, 0),
        (general.OPTIONAL_MODE, None, None),
        (general.OPTIONAL_MODE, "", None),
        (general.USER, "root", 0),
        (general.USER, "12345", 12345),
        (general.GROUP, 0, 0),
        (general.MAPPING, {"version": 1}, {"version": 1}),
        (general.MAPPING, {}, None),
        (general.SCHEMES, {"X-Ssl": "on"}, {"X-Ssl": "on"}),
        (general.SCHEMES, "X-Ssl=on, X-Proto=https", {"X-Ssl": "on", "X-Proto": "https"}),
    ],
)
def test_reads(value_type: SettingType[Any], raw: object, value: object) -> None:
    read = value_type.read(raw)
    assert read == value
    assert isinstance(value_type.show(read), str)


@pytest.mark.parametrize(
    ("value_type", "raw"),
    [
        (general.SWITCH, "maybe"),
        (general.SWITCH, None),
        (general.COUNT, "-1"),
        (general.COUNT, True),
        (general.COUNT, 1.5),
        (general.COUNT, "1_0"),
        (general.COUNT_FROM_ONE, 0),
        (general.WORKERS, -1),
        (general.WORKERS, 501),
        (general.WORKERS, "2..501"),
        (general.WORKERS, "0..4"),
        (general.WORKERS, "8..4"),
        (general.WORKERS, "2.."),
        (general.WORKERS, "2..4..8"),
        (general.WORKERS, "2...4"),
        (general.WORKERS, 2.5),
        (general.WORKERS, "99999999"),
        (general.WORKERS, "many"),
        (general.WORKERS, None),
        (general.DURATION, -1),
        (general.DURATION, True),
        (general.DURATION, float("inf")),
        (general.DURATION, float("nan")),
        (general.DURATION, None),
        (general.SIZE, -1),
        (general.SIZE, "80%"),
        (general.SIZE, 1.5),
        (general.MEMORY, "180%"),
        (general.ADDRESSES, ""),
        (general.ADDRESSES, []),
        (general.ADDRESSES, ["a:1", 2]),
        (general.ADDRESSES, ("a", 80)),
        (general.ASSIGNMENTS, "A"),
        (general.ASSIGNMENTS, ["=1"]),
        (general.PEERS, "localhost"),
        (general.PEERS, "10.0.0.0/64"),
        (general.TEXT, ""),
        (general.TEXT, 5),
        (general.OPTIONAL_PATH, "a\0b"),
        (general.LOG_FILE, None),
        (general.LOG_LEVEL, "loud"),
        (general.OPTIONAL_MODE, "8"),
        (general.OPTIONAL_MODE, 0o1000),
        (general.USER, "no-such-user"),
        (general.USER, -1),
        (general.USER, None),
        (general.GROUP, "no-such-group"),
        (general.MAPPING, "{}"),
        (general.MAPPING, {1: 2}),
        (general.SCHEMES, "X-Ssl"),
        (general.SCHEMES, {"X-Ssl": True}),
        (general.SCHEMES, None),
    ],
)
def test_refuses(value_type: SettingType[Any], raw: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        value_type.read(raw)


@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "wsgi_app"])
def test_every_default_is_a_value_that_is_read_and_shown(name: str) -> None:
    setting = SETTINGS[name]
    value_type = setting.about.type
    if name == "bind":
        assert value_type.read(value_type.show(setting.default)) == setting.default
    else:
        assert value_type.read(setting.default) == setting.default
        if isinstance(setting.default, int | float) and value_type is not general.SWITCH:
            assert value_type.read(value_type.show(setting.default)) == setting.default


def test_current_user_is_the_default() -> None:
    assert SETTINGS["user"].default == os.geteuid()
    assert SETTINGS["group"].default == os.getegid()
