"""The listing of ``--print-config``, and the page of the documentation about settings.

Both are derived from the declarations; only their headings and introductions are written here.
"""

import re

from wsgicluster.settings.declaration import OTHER_VARIABLES, Group, Setting
from wsgicluster.settings.fields import SETTINGS
from wsgicluster.settings.sources.merge import Loaded
from wsgicluster.settings.types.general import without_passwords

_FRONT = """\
Settings
========

Each setting has a name for the configuration file, a variable for the environment, and most have flags for the command
line. The command line overrides the environment, which overrides ``GUNICORN_CMD_ARGS``, which overrides the
configuration file, which overrides the default. ``wsgicluster --print-config`` shows every value and its source.

The configuration file is Python. It is the one named by ``-c``, else ``./wsgicluster.conf.py``, else
``./gunicorn.conf.py``. A name in it that is a setting's sets that, any other is your own; one that is similar to a
setting's gets a warning, unless it begins with an underscore. It is executed by the process that supervises the
workers, at the start and at each reload; no worker is supervised meanwhile, so it must be quick: no waiting for a
network, a database or a lock.

In the environment and on the command line lists are separated by commas; a switch is ``true`` or ``false`` in the
environment.

A time is a number of seconds, or has a unit: ``500ms``, ``30s``, ``2m``, ``1h``. A size is a number of bytes, or has a
unit: ``512K``, ``512M``, ``1G``.
"""


def render() -> str:
    """The reference page of all settings, as reStructuredText."""
    parts = [_FRONT]
    for group in Group:
        parts.append(f"{group.value}\n{'-' * len(group.value)}\n")
        parts += [_entry(setting) for setting in SETTINGS.values() if setting.about.group is group]
    parts.append("Other variables\n---------------\n")
    parts += [f"``{name}``\n    {text}\n" for name, text in OTHER_VARIABLES.items()]
    return "\n".join(parts)


def _entry(setting: Setting) -> str:
    about = setting.about
    lines = [f".. _setting-{setting.name.replace('_', '-')}:", "", f"``{setting.name}``", "~" * (len(setting.name) + 4)]
    lines += ["", _plain(about.help), ""]
    facts = [("Default", _default(setting))]
    if about.flags:
        argument = "" if setting.is_switch else f" {about.type.metavar}"
        facts.append(("Flags", ", ".join(f"``{flag}{argument}``" for flag in about.flags)))
    facts.append(("Environment", f"``{setting.variable}``"))
    facts.append(("Value", _plain(about.type.expected)))
    if about.type.unit:
        facts.append(("Unit", about.type.unit))
    facts += [("A change applies", about.applies.value), ("Since", about.since)]
    return "\n".join([*lines, *(f":{name}: {text}" for name, text in facts), ""])


def _default(setting: Setting) -> str:
    shown = setting.default_shown
    text = shown if setting.about.default_text else f"``{shown}``" if shown else "none"
    fallback = setting.about.fallback
    if fallback is not None:
        value = fallback.template.format("$" + fallback.variable)
        text += f"; ``{value}`` where that variable is set"
    return text


def _plain(text: str) -> str:
    # Help texts are not markup: escape what would be read as emphasis, and file:PATH or http://HOST as a link.
    escaped = text.replace("\\", "\\\\").replace("*", "\\*").replace("`", "\\`")
    return re.sub(r":(?=\S)", r"\:", escaped)


def printable(text: str) -> str:
    """The text with escapes for bytes that are not UTF-8: arguments and paths may hold any."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def listing(loaded: Loaded) -> str:
    """One line for each setting: its name, its value, and the source of that; then what the file has imported."""
    rows = []
    for name, setting in SETTINGS.items():
        value = setting.about.type.show(getattr(loaded.settings, name))
        if name == "config" and loaded.file:
            value = loaded.file
        rows.append((name, printable(without_passwords(value)), printable(loaded.sources[name])))
    name_width = max(len(name) for name, _, _ in rows)
    # One long value must not move the sources of all others out of sight.
    value_width = max(len(value) for _, value, _ in rows if len(value) <= 32)
    lines = [f"{name:<{name_width}} = {value:<{value_width}}  # {source}\n" for name, value, source in rows]
    if loaded.views:
        lines.append(f"# Imported as Gunicorn's, wsgicluster's own: {', '.join(loaded.views)}\n")
    return "".join(lines)
