"""The type of the paths at which workers answer probes.

As in `wsgicluster.settings.types.general`: text or a Python value in, the value out.
"""

import re

from wsgicluster.pattern import pattern
from wsgicluster.settings.types.general import SettingType, WrongEntry, read_text

# What is compared has been decoded: a percent sign would never be met.
_PATH = pattern(r"/[!$&-.0-;=@-~/]*", re.ASCII)


def _read_path(value: object) -> str | None:
    if value is None or value == "":
        return None
    text = read_text(value)
    if not _PATH.fullmatch(text):
        raise WrongEntry(text, f"/{text}" if _PATH.fullmatch(f"/{text}") else "")
    return text


PROBE_PATH: SettingType[str | None] = SettingType(
    _read_path, "a path such as /healthz, without a query and percent signs", "PATH", lambda value: value or ""
)
