"""Where values come from, and which one wins: defaults < configuration file < environment < command line.

`merge` is pure. `load` reads the configuration file and joins all of it.
"""

import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wsgicluster.settings import command_line
from wsgicluster.settings.checks import DEFAULT, check, complete
from wsgicluster.settings.config_file import read_config
from wsgicluster.settings.declaration import ENVIRONMENT_PREFIX, OTHER_VARIABLES, Setting
from wsgicluster.settings.fields import SETTINGS, Settings
from wsgicluster.settings.kinds import WrongEntry
from wsgicluster.settings.wording import complaint, nearest, quoted

_PLATFORM_NAMES = re.compile(r"(SERVICE_(HOST|PORT)|PORT)(_|$)")
"""Kubernetes sets these for a service called wsgicluster."""


class Action(enum.Enum):
    """What is asked for."""

    SERVE = enum.auto()
    PRINT_CONFIG = enum.auto()
    CHECK_CONFIG = enum.auto()
    EXAMINE = enum.auto()
    SHOW_HELP = enum.auto()
    SHOW_VERSION = enum.auto()
    SHOW_VERSIONS = enum.auto()


@dataclass(frozen=True)
class Given:
    """The values of one source: what each was given by (``command line --timeout``), and the value as written."""

    values: Mapping[str, Any]
    sources: Mapping[str, str]


@dataclass(frozen=True)
class Loaded:
    """The settings, the source of each, and what is to be done; ``remarks`` are for the log."""

    settings: Settings
    sources: Mapping[str, str]
    action: Action
    remarks: tuple[str, ...] = field(default=())


def load(argv: Sequence[str], environ: Mapping[str, str], directory: str) -> Loaded:
    """Read all sources. May be called again with the same arguments; then the file is read again.

    ``argv`` is without the program's name; paths are relative to ``directory``. Raises UsageError.
    """
    arguments = command_line.parse(argv)
    question = _question(arguments)
    if question is not None:
        return Loaded(Settings(), {}, question)
    environment = from_environment(environ)
    named = arguments.given.get("config", environment.values.get("config"))
    location = None if named is None else SETTINGS["config"].about.kind.read(named)
    file = read_config(location, directory)
    in_file = Given({}, {}) if file is None else Given(file.names, dict.fromkeys(file.names, file.source))
    settings, sources = merge([fallbacks(environ), in_file, environment, from_command_line(arguments)])
    check(settings, sources, directory)
    whole = complete(settings, sources)
    remarks = (*whole.remarks, *unknown_variables(environ))
    return Loaded(whole.settings, whole.sources, _action(settings), remarks)


def _question(arguments: command_line.CommandLine) -> Action | None:
    if arguments.help:
        return Action.SHOW_HELP
    if arguments.version:
        return Action.SHOW_VERSIONS if arguments.verbose else Action.SHOW_VERSION
    return None


def _action(settings: Settings) -> Action:
    if settings.doctor:
        return Action.EXAMINE
    if settings.print_config:
        return Action.PRINT_CONFIG
    return Action.CHECK_CONFIG if settings.check_config else Action.SERVE


def fallbacks(environ: Mapping[str, str]) -> Given:
    """Defaults from variables that platforms set."""
    values, sources = {}, {}
    for name, setting in SETTINGS.items():
        fallback = setting.about.fallback
        text = environ.get(fallback.variable) if fallback is not None else None
        if fallback is not None and text is not None and (text or fallback.empty_counts):
            values[name] = fallback.template.format(text)
            sources[name] = f"{fallback.variable} environment variable"
    return Given(values, sources)


def from_environment(environ: Mapping[str, str]) -> Given:
    """Values of our own variables."""
    values = {name: environ[setting.variable] for name, setting in SETTINGS.items() if setting.variable in environ}
    return Given(values, {name: f"environment {SETTINGS[name].variable}" for name in values})


def from_command_line(arguments: command_line.CommandLine) -> Given:
    """Values of flags and of the application's argument."""
    return Given(
        arguments.given, {name: command_line.source_of(SETTINGS[name]) for name in arguments.given}
    )  # fmt: skip


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Remarks on variables with our prefix that are no setting.

    No errors: tools around a server like to keep variables of their own under its name.
    """
    known = {setting.variable for setting in SETTINGS.values()} | OTHER_VARIABLES.keys()
    remarks = []
    for variable in sorted(environ):
        rest = variable.removeprefix(ENVIRONMENT_PREFIX)
        if rest != variable and variable not in known and not _PLATFORM_NAMES.match(rest):
            remarks.append(str(complaint("environment", variable, "no such setting", near=nearest(variable, known))))
    return remarks


def merge(sources_in_order: Sequence[Given]) -> tuple[Settings, dict[str, str]]:
    """The settings and the source of each; later sources win.

    Every value is read, so that a wrong one is reported even where another one wins. Raises UsageError.
    """
    values: dict[str, Any] = {}
    sources = dict.fromkeys(SETTINGS, DEFAULT)
    for given in sources_in_order:
        for name, raw in given.values.items():
            values[name] = _read(SETTINGS[name], raw, given.sources[name])
            sources[name] = given.sources[name]
    return Settings(**values), sources


def _read(setting: Setting, raw: object, source: str) -> object:
    kind = setting.about.kind
    try:
        return kind.read(raw)
    except WrongEntry as error:
        raise complaint(source, setting.name, quoted(error.entry), kind.expected, error.near) from None
    except (ValueError, TypeError):
        near = nearest(raw, kind.choices) if isinstance(raw, str) else ""
        raise complaint(source, setting.name, quoted(raw), kind.expected, near) from None
