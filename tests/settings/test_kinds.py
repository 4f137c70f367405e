"""Each kind of setting: what it takes from a file and from a text, and what it does not."""

import os
from typing import Any

import pytest

from wsgicluster.settings import kinds
from wsgicluster.settings.fields import SETTINGS
from wsgicluster.settings.kinds import Kind
from wsgicluster.settings.values import Automatic, MemoryShare, TcpAddress, UnixAddress


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        (kinds.SWITCH, True, True),
        (kinds.SWITCH, "yes", True),
        (kinds.SWITCH, "OFF", False),
        (kinds.SWITCH, 0, False),
        (kinds.COUNT, "0", 0),
        (kinds.COUNT_FROM_ONE, 7, 7),
        (kinds.WORKERS, "auto", Automatic()),
        (kinds.WORKERS, "4", 4),
        (kinds.WORKERS, 500, 500),
        (kinds.DURATION, 2, 2.0),
        (kinds.DURATION, "500ms", 0.5),
        (kinds.SIZE, 8190, 8190),
        (kinds.SIZE, "1K", 1024),
        (kinds.LINE_SIZE, 0, 65536),
        (kinds.FIELDS, "0", 32768),
        (kinds.MEMORY, "80%", MemoryShare(80)),
        (kinds.MEMORY, "512M", 512 << 20),
        (kinds.ADDRESSES, "a:1,b:2", (TcpAddress("a", 1), TcpAddress("b", 2))),
        (kinds.ADDRESSES, ["a:1", "unix:x,mode=0600"], (TcpAddress("a", 1), UnixAddress("x", 0o600))),
        (kinds.PATHS, "a, b", ("a", "b")),
        (kinds.PATHS, ["a,b", "c"], ("a", "b", "c")),
        (kinds.PATTERNS, ["a,b"], ("a,b",)),
        (kinds.ASSIGNMENTS, ["A=1,2", "B="], ("A=1,2", "B=")),
        (kinds.ASSIGNMENTS, "A=1,B=2", ("A=1", "B=2")),
        (kinds.PEERS, "", ()),
        (kinds.PEERS, "10.0.0.0/8, ::0:1,*", ("10.0.0.0/8", "::1", "*")),
        (kinds.PEERS, ("10.1.1.1/8",), ("10.0.0.0/8",)),
        (kinds.PEERS, "::ffff:10.0.0.1, ::ffff:10.0.0.0/104, ::/8", ("10.0.0.1", "10.0.0.0/8", "::/8")),
        (kinds.OPTIONAL_TEXT, None, None),
        (kinds.OPTIONAL_TEXT, "", None),
        (kinds.OPTIONAL_PATH, "a", "a"),
        (kinds.LOG_LEVEL, "Warning", "warning"),
        (kinds.MODE, "022", 0o22),
        (kinds.MODE, "0o22", 0o22),
        (kinds.MODE, 18, 0o22),
        (kinds.USER, "root", 0),
        (kinds.USER, "12345", 12345),
        (kinds.GROUP, 0, 0),
        (kinds.MAPPING, {"version": 1}, {"version": 1}),
        (kinds.MAPPING, {}, None),
        (kinds.SCHEMES, {"X-Ssl": "on"}, {"X-Ssl": "on"}),
        (kinds.SCHEMES, "X-Ssl=on, X-Proto=https", {"X-Ssl": "on", "X-Proto": "https"}),
    ],
)
def test_reads(kind: Kind[Any], raw: object, value: object) -> None:
    read = kind.read(raw)
    assert read == value
    assert isinstance(kind.show(read), str)


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        (kinds.SWITCH, "maybe"),
        (kinds.SWITCH, None),
        (kinds.COUNT, "-1"),
        (kinds.COUNT, True),
        (kinds.COUNT, 1.5),
        (kinds.COUNT, "1_0"),
        (kinds.COUNT_FROM_ONE, 0),
        (kinds.WORKERS, 0),
        (kinds.WORKERS, 501),
        (kinds.WORKERS, "99999999"),
        (kinds.WORKERS, "many"),
        (kinds.WORKERS, None),
        (kinds.DURATION, -1),
        (kinds.DURATION, True),
        (kinds.DURATION, float("inf")),
        (kinds.DURATION, float("nan")),
        (kinds.DURATION, None),
        (kinds.SIZE, -1),
        (kinds.SIZE, "80%"),
        (kinds.SIZE, 1.5),
        (kinds.MEMORY, "180%"),
        (kinds.ADDRESSES, ""),
        (kinds.ADDRESSES, []),
        (kinds.ADDRESSES, ["a:1", 2]),
        (kinds.ADDRESSES, ("a", 80)),
        (kinds.ASSIGNMENTS, "A"),
        (kinds.ASSIGNMENTS, ["=1"]),
        (kinds.PEERS, "localhost"),
        (kinds.PEERS, "10.0.0.0/64"),
        (kinds.TEXT, ""),
        (kinds.TEXT, 5),
        (kinds.OPTIONAL_PATH, "a\0b"),
        (kinds.LOG_FILE, None),
        (kinds.LOG_LEVEL, "loud"),
        (kinds.MODE, "8"),
        (kinds.MODE, 0o1000),
        (kinds.USER, "no-such-user"),
        (kinds.USER, -1),
        (kinds.USER, None),
        (kinds.GROUP, "no-such-group"),
        (kinds.MAPPING, "{}"),
        (kinds.MAPPING, {1: 2}),
        (kinds.SCHEMES, "X-Ssl"),
        (kinds.SCHEMES, {"X-Ssl": True}),
        (kinds.SCHEMES, None),
    ],
)
def test_refuses(kind: Kind[Any], raw: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        kind.read(raw)


@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "wsgi_app"])
def test_every_default_is_a_value_that_is_read_and_shown(name: str) -> None:
    setting = SETTINGS[name]
    kind = setting.about.kind
    if name == "bind":
        assert kind.read(kind.show(setting.default)) == setting.default
    else:
        assert kind.read(setting.default) == setting.default
        if isinstance(setting.default, int | float) and kind is not kinds.SWITCH:
            assert kind.read(kind.show(setting.default)) == setting.default


def test_current_user_is_the_default() -> None:
    assert SETTINGS["user"].default == os.geteuid()
    assert SETTINGS["group"].default == os.getegid()
