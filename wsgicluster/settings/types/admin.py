"""The types of settings about the admin worker: where it listens, and what lets a client change something there.

As in `wsgicluster.settings.types.general`: text or a Python value in, the value out.
"""

import re

from wsgicluster.pattern import pattern
from wsgicluster.settings.types.general import MASK, SettingType, WrongEntry, read_list, read_text, whole_number
from wsgicluster.settings.types.values import (
    HIGHEST_PORT,
    Address,
    InvalidValue,
    TcpAddress,
    UnixAddress,
    read_address,
)

LOOPBACK = "127.0.0.1"
LEAST_TOKEN_CHARACTERS = 16
"""A shorter one could be found by trying."""

_HOST = pattern(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*", re.ASCII)

ADMIN_EXPECTED = "a port, HOST:PORT, [HOST]:PORT or unix:PATH"
TOKEN_EXPECTED = f"at least {LEAST_TOKEN_CHARACTERS} printable ASCII characters without a space"


def _read_admin(value: object) -> Address | None:
    """A port alone, with or without a colon, is one of the loopback interface: other machines need not see it."""
    if value is None or value == "":
        return None
    text = str(whole_number(value)) if isinstance(value, int) else read_text(value).strip()
    port = text.removeprefix(":")
    if port.isdecimal() and port.isascii():
        if int(port) > HIGHEST_PORT:
            raise WrongEntry(text, expected=f"a port from 0 to {HIGHEST_PORT}")
        return TcpAddress(LOOPBACK, int(port))
    try:
        found = read_address(text)
    except InvalidValue as error:
        raise WrongEntry(text, expected=str(error)) from None
    has_port = isinstance(found, TcpAddress) and text.rpartition(":")[2].isdecimal()
    if not has_port and not isinstance(found, UnixAddress):
        raise ValueError(text)  # a descriptor, or a host for which there is no usual port
    return found


def is_token(text: str) -> bool:
    """Whether it is long enough, and can be sent in a field of a request."""
    return len(text) >= LEAST_TOKEN_CHARACTERS and text.isascii() and text.isprintable() and " " not in text


def _read_token(value: object) -> str | None:
    if value is None or value == "":
        return None
    text = read_text(value)
    if not is_token(text):
        raise WrongEntry(MASK)  # without the text
    return text


def _read_hosts(value: object) -> tuple[str, ...]:
    # Split at commas even within a list, as the flag's arguments are one.
    parts = [part.strip().lower() for entry in read_list(value) for part in entry.split(",")]
    names = tuple(part.removesuffix(".") for part in parts if part)
    for name in names:
        if not _HOST.fullmatch(name):
            raise WrongEntry(name)
    return names


ADMIN: SettingType[Address | None] = SettingType(
    _read_admin, ADMIN_EXPECTED, "ADDRESS", lambda value: "" if value is None else str(value)
)
ADMIN_TOKEN: SettingType[str | None] = SettingType(
    _read_token, TOKEN_EXPECTED, "TOKEN", lambda value: MASK if value else ""
)
ADMIN_HOSTS = SettingType(
    _read_hosts, "names of hosts, without ports, separated by commas", "NAMES", ",".join, repeats=True
)
