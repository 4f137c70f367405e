"""What people read about the settings: the listing of ``--print-config`` and the page of the documentation.

Both are derived from the declarations; only words that frame them stand here.
"""

from wsgicluster.settings.declaration import OTHER_VARIABLES, Group, Setting
from wsgicluster.settings.fields import SETTINGS
from wsgicluster.settings.sources import Loaded

_FRONT = """\
Settings
========

Each setting has a name for the configuration file, a variable for the environment, and most have flags for the command
line. What stands on the command line wins over the environment, that over the configuration file, and that over the
default. ``wsgicluster --print-config`` shows every value and where it came from.

The configuration file is Python. It is the one named by ``-c``, else ``./wsgicluster.conf.py``, else
``./gunicorn.conf.py``. Each name in it is a setting; names that begin with an underscore, names in upper case, imported
names, functions and classes are your own. It is executed by the process that supervises the workers, at the start and
at each reload; nobody is supervised meanwhile, so it must be quick: no waiting for a network, a database or a lock.

In the environment and on the command line lists are parted by commas; a switch is ``true`` or ``false`` in the
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
        argument = "" if setting.is_switch else f" {about.kind.metavar}"
        facts.append(("Flags", ", ".join(f"``{flag}{argument}``" for flag in about.flags)))
    facts.append(("Environment", f"``{setting.variable}``"))
    facts.append(("Value", _plain(about.kind.expected)))
    if about.kind.unit:
        facts.append(("Unit", about.kind.unit))
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
    # Text for people, not markup: nothing in it may be taken for emphasis.
    return text.replace("\\", "\\\\").replace("*", "\\*").replace("`", "\\`")


def listing(loaded: Loaded) -> str:
    """One line for each setting: its name, its value, and where that came from."""
    rows = []
    for name, setting in SETTINGS.items():
        rows.append((name, setting.about.kind.show(getattr(loaded.settings, name)), loaded.sources[name]))
    name_width = max(len(name) for name, _, _ in rows)
    # A long value must not push all sources out of sight.
    value_width = max(len(value) for _, value, _ in rows if len(value) <= 32)
    return "".join(f"{name:<{name_width}} = {value:<{value_width}}  # {source}\n" for name, value, source in rows)
