"""The shortest configuration that means the same here: without defaults, and without what has no effect. Pure."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from wsgicluster.dataclass import dataclass
from wsgicluster.migrate.reading import SERVER_NAME, ReadConfiguration, joined
from wsgicluster.migrate.table import ROWS
from wsgicluster.settings.declaration import Setting
from wsgicluster.settings.fields import SETTINGS
from wsgicluster.settings.sources.merge import GUNICORN_ARGUMENTS

MOST_FLAGS = 8
"""Beyond so many settings a file reads better than a command line."""

_QUESTIONS = frozenset({"config", "check_config", "print_config"})
_WITHOUT_EFFECT = frozenset({"worker_tmp_dir", "do_handshake_on_connect", "suppress_ragged_eofs"})
_MASKED = "***"


@dataclass(frozen=True)
class Equivalent:
    """The command, and the file that it reads: the text of a new one, or empty where Gunicorn's is to be kept.

    ``kept`` is where that is, and ``needless`` are settings in it that may be taken out; ``replaced`` is where it is
    if nothing of it is needed any more.
    """

    command: str
    file: str = ""
    kept: str = ""
    needless: tuple[str, ...] = ()
    replaced: str = ""


def equivalent(reading: ReadConfiguration) -> Equivalent:
    """What to run in place of Gunicorn's command."""
    needed = needed_settings(reading)
    application = [str(reading.values["wsgi_app"])] if reading.values.get("wsgi_app") else []
    flags = {name: words for name in needed if (words := _flags(name, needed[name], reading)) is not None}
    if needed.keys() == flags.keys() and len(needed) <= MOST_FLAGS:
        return Equivalent(_command(reading, [*_all(flags), *application]), replaced=reading.file)
    if needed.keys() != flags.keys() and reading.file:
        return _keeping(reading, needed, flags, application)
    return Equivalent(_command(reading, application), _file(needed, reading), replaced=reading.file)


def _command(reading: ReadConfiguration, words: Sequence[str]) -> str:
    # Variables stay in front of the command, but for the one whose flags have been taken over.
    kept = {name: value for name, value in reading.variables.items() if name != GUNICORN_ARGUMENTS}
    return " ".join(
        [*(f"{name}={shlex.quote(value)}" for name, value in kept.items()), joined(["wsgicluster", *words])]
    )


def needed_settings(reading: ReadConfiguration) -> dict[str, Any]:
    """The values that have to be given, by name, in the order of the reference."""
    omitted = _QUESTIONS | _WITHOUT_EFFECT | reading.of_platform | {"wsgi_app"}
    found = {}
    for name, setting in SETTINGS.items():
        is_meant = name in ROWS or name == SERVER_NAME
        is_given = name in reading.values and is_meant and name not in omitted
        if is_given and reading.values[name] != setting.default:
            found[name] = reading.values[name]
    if found.get("worker_class") == "gthread" and found.get("threads", 1) > 1:
        del found["worker_class"]  # more than one thread says so
    return found


def _keeping(
    reading: ReadConfiguration, needed: Mapping[str, Any], flags: Mapping[str, list[str]], application: list[str]
) -> Equivalent:
    outside = {name: words for name, words in flags.items() if name not in reading.in_file}
    named = [] if reading.is_found else ["-c", reading.file]
    if "wsgi_app" in reading.in_file:
        application = []
    needless = tuple(
        name for name in sorted(reading.in_file & ROWS.keys()) if name not in needed and name != "wsgi_app"
    )
    return Equivalent(_command(reading, [*named, *_all(outside), *application]), "", reading.file, needless)


def _all(flags: Mapping[str, list[str]]) -> Iterator[str]:
    for words in flags.values():
        yield from words


def _flags(name: str, value: Any, reading: ReadConfiguration) -> list[str] | None:
    """The words that set it on a command line, None where none can."""
    setting = SETTINGS[name]
    about = setting.about
    if not about.flags:
        return None
    flag = min(about.flags, key=len)
    if setting.is_switch:
        return [flag] if value == about.flag_value else None
    if callable(value) or isinstance(value, dict):
        return None
    if about.type.repeats:
        entries = _entries(name, value)
        return [word for entry in entries for word in (flag, entry)]
    return [flag, _text(setting, reading.deployment.given.get(name), value)]


def _entries(name: str, value: Any) -> list[str]:
    entries = [str(each) for each in value]
    return [f"{entry.partition('=')[0]}={_MASKED}" for entry in entries] if name == "raw_env" else entries


def _text(setting: Setting, raw: object, value: Any) -> str:
    """A value as a text; users and groups by the names that they were given by."""
    return raw if setting.name in ("user", "group") and isinstance(raw, str) else str(setting.about.type.show(value))


def _file(needed: Mapping[str, Any], reading: ReadConfiguration) -> str:
    return "".join(f"{name} = {_written(name, needed[name], reading.deployment.given.get(name))}\n" for name in needed)


def _written(name: str, value: Any, raw: object) -> str:
    """A value as a file has it."""
    setting = SETTINGS[name]
    if setting.about.type.repeats:
        return repr(_entries(name, value))
    if setting.is_switch:
        return repr(value)
    text = _text(setting, raw, value)
    # Of modes and of users numbers would mean something else, or less to a reader.
    is_number = text.isdecimal() and name not in ("umask", "control_socket_mode", "user", "group")
    return text if is_number else repr(text)
