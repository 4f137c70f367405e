"""The types of settings about events: where they are posted to, and what is run for them.

As in `wsgicluster.settings.types.general`: text or a Python value in, the value out.
"""

import re
import shlex

from wsgicluster.pattern import pattern
from wsgicluster.settings.types.general import MASK, SettingType, read_text, without_passwords

_URL = pattern(r"https?://[^\s/?#]+\S*", re.ASCII)


def _read_webhook(value: object) -> str | None:
    if value is None or value == "":
        return None
    text = read_text(value)
    if not _URL.fullmatch(text):
        raise ValueError
    return text


def _read_secret(value: object) -> str | None:
    return None if value is None or value == "" else read_text(value)


def _read_command(value: object) -> str | None:
    if value is None or value == "":
        return None
    text = read_text(value)
    if not shlex.split(text):
        raise ValueError
    return text


WEBHOOK: SettingType[str | None] = SettingType(
    _read_webhook, "a URL that begins with http:// or https://", "URL", lambda value: without_passwords(value or "")
)
SECRET: SettingType[str | None] = SettingType(_read_secret, "a text", "SECRET", lambda value: MASK if value else "")
COMMAND: SettingType[str | None] = SettingType(
    _read_command, "a command with its arguments", "COMMAND", lambda value: value or ""
)
