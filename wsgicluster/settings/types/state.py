"""Types of the settings of the cluster's shared state."""

import urllib.parse

from wsgicluster.settings.types import general
from wsgicluster.settings.types.general import SettingType, read_text, without_passwords
from wsgicluster.settings.types.values import show_size

REDIS_SCHEMES = ("redis", "rediss", "unix")
"""As ``redis.from_url`` has them: over TCP, over TLS, and over a Unix socket."""

LEAST_STORE_BYTES = 1 << 20


def _read_store(value: object) -> str | None:
    if value is None or value == "":
        return None
    text = read_text(value)
    parts = urllib.parse.urlsplit(text)  # ValueError for an address in brackets that is none
    if parts.scheme not in REDIS_SCHEMES or not (parts.path if parts.scheme == "unix" else parts.hostname):
        raise ValueError(text)
    _ = parts.port  # ValueError for one that is not a port
    return text


def _read_store_size(value: object) -> int:
    size = general.SIZE.read(value)
    if size < LEAST_STORE_BYTES:
        raise ValueError(value)
    return size


def _show_store(value: str | None) -> str:
    return "none" if value is None else without_passwords(value)


STORE = SettingType(_read_store, "a URL such as redis://localhost:6379/0, or nothing", "URL", _show_store)
STORE_SIZE = SettingType(_read_store_size, "a size of 1M or more", "SIZE", show_size, "bytes")
