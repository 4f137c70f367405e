"""The types of settings about logs and metrics."""

from typing import Any

import pytest

from wsgicluster.settings.types import logs
from wsgicluster.settings.types.general import SettingType
from wsgicluster.settings.types.logs import LogAddress


class Given:
    """A class of the configuration file."""


@pytest.mark.parametrize(
    ("kind", "text", "value", "shown"),
    [
        (logs.SYSLOG_ADDRESS, "udp://localhost:514", LogAddress("udp", "localhost", 514), "udp://localhost:514"),
        (logs.SYSLOG_ADDRESS, "udp://", LogAddress("udp", "localhost", 514), "udp://localhost:514"),
        (logs.SYSLOG_ADDRESS, "tcp://logs", LogAddress("tcp", "logs", 514), "tcp://logs:514"),
        (logs.SYSLOG_ADDRESS, "udp://[::1]:5140", LogAddress("udp", "::1", 5140), "udp://[::1]:5140"),
        (logs.SYSLOG_ADDRESS, "unix:///dev/log", LogAddress("unix", "/dev/log", 0), "unix:///dev/log"),
        (logs.SYSLOG_ADDRESS, "unix:///d#dgram", LogAddress("unix-dgram", "/d", 0), "unix:///d#dgram"),
        (logs.SYSLOG_ADDRESS, "unix:///d#stream", LogAddress("unix-stream", "/d", 0), "unix:///d#stream"),
        (logs.STATSD_ADDRESS, "localhost", LogAddress("udp", "localhost", 8125), "localhost:8125"),
        (logs.STATSD_ADDRESS, "10.0.0.1:9125", LogAddress("udp", "10.0.0.1", 9125), "10.0.0.1:9125"),
        (logs.STATSD_ADDRESS, "unix:///run/s", LogAddress("unix-dgram", "/run/s", 0), "unix:///run/s#dgram"),
        (logs.STATSD_ADDRESS, "", None, "none"),
        (logs.FACILITY, "LOCAL3", "local3", "local3"),
        (logs.TAGS, "env:live,shop", "env:live,shop", "env:live,shop"),
        (logs.TAGS, None, "", "none"),
        (logs.PREFIX, "shop", "shop", "shop"),
        (logs.LOGGER_CLASS, "shop.logs.Logger", "shop.logs.Logger", "shop.logs.Logger"),
        (logs.LOGGER_CLASS, "simple", "gunicorn.glogging.Logger", "gunicorn.glogging.Logger"),
        (logs.LOGGER_CLASS, Given, Given, f"{__name__}.Given"),
        (logs.LOGGER_CLASS, None, None, "none"),
        (logs.PATHS, "/healthz,/static/*", ("/healthz", "/static/*"), "/healthz,/static/*"),
        (logs.PORTION, "0.1", 0.1, "0.1"),
        (logs.PORTION, 1, 1.0, "1"),
    ],
)
def test_values(kind: SettingType[Any], text: object, value: object, shown: str) -> None:
    assert kind.read(text) == value
    assert kind.read(value) == value
    assert kind.show(value) == shown


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (logs.SYSLOG_ADDRESS, "localhost:514"),
        (logs.SYSLOG_ADDRESS, "udp://localhost:70000"),
        (logs.SYSLOG_ADDRESS, "tcp://a:b"),
        (logs.SYSLOG_ADDRESS, "unix://relative"),
        (logs.SYSLOG_ADDRESS, "unix:///dev/log#raw"),
        (logs.STATSD_ADDRESS, ":8125"),
        (logs.STATSD_ADDRESS, "a b"),
        (logs.FACILITY, "local9"),
        (logs.TAGS, "a|b"),
        (logs.LOGGER_CLASS, "Logger"),
        (logs.LOGGER_CLASS, "a..B"),
        (logs.LOGGER_CLASS, 5),
        (logs.PATHS, "healthz"),
        (logs.PORTION, "2"),
        (logs.PORTION, True),
        (logs.PORTION, "nan"),
    ],
)
def test_refused(kind: SettingType[Any], value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        kind.read(value)
