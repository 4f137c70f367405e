"""Values of settings that join several machines."""

import re
import socket

from wsgicluster.pattern import pattern
from wsgicluster.settings.types import redis_url
from wsgicluster.settings.types.general import SettingType, read_text, without_passwords

_NODE = pattern(r"[\w.-]{1,100}", re.ASCII)


def _show_bus(value: str | None) -> str:
    return without_passwords(value) if value else ""


def _read_node(value: object) -> str:
    text = read_text(value)
    if not _NODE.fullmatch(text):
        raise ValueError
    return text


def default_node() -> str:
    """The name of this machine, with what may not be in one replaced."""
    return re.sub(r"[^\w.-]", "-", socket.gethostname(), flags=re.ASCII)[:100] or "localhost"


BUS = SettingType(redis_url.read, redis_url.EXPECTED, "URL", _show_bus)
NODE_NAME = SettingType(_read_node, "a name of letters, digits, dots, hyphens and underscores", "NAME")
