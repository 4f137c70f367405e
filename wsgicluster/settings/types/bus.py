"""Values of settings that join several machines."""

import re
import socket

from wsgicluster.pattern import pattern
from wsgicluster.settings.types.general import SettingType, read_text

_URL = pattern(r"(?:rediss?|unix)://\S+")
_NODE = pattern(r"[\w.-]{1,100}", re.ASCII)
_PASSWORD = pattern(r"(://[^/\s:@]*:)[^@/\s]+@")


def _read_bus(value: object) -> str | None:
    if value is None or value == "":
        return None
    text = read_text(value)
    if not _URL.fullmatch(text):
        raise ValueError
    return text


def _show_bus(value: str | None) -> str:
    return _PASSWORD.sub(r"\1***@", value) if value else ""


def _read_node(value: object) -> str:
    text = read_text(value)
    if not _NODE.fullmatch(text):
        raise ValueError
    return text


def default_node() -> str:
    """The name of this machine, with what may not be in one replaced."""
    return re.sub(r"[^\w.-]", "-", socket.gethostname(), flags=re.ASCII)[:100] or "localhost"


BUS = SettingType(_read_bus, "a URL such as redis://localhost:6379/0", "URL", _show_bus)
NODE_NAME = SettingType(_read_node, "a name of letters, digits, dots, hyphens and underscores", "NAME")
