"""The sources of values, joined in the order of their precedence.

Defaults < configuration file < GUNICORN_CMD_ARGS < environment < command line.

`merge` is pure. `load` reads the configuration file and joins all sources.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from wsgicluster.dataclass import dataclass
from wsgicluster.errors import UsageError
from wsgicluster.pattern import pattern
from wsgicluster.settings import paste
from wsgicluster.settings.checks import DEFAULT, check, complete
from wsgicluster.settings.declaration import ENVIRONMENT_PREFIX, OTHER_VARIABLES, Setting
from wsgicluster.settings.fields import SETTINGS, Settings
from wsgicluster.settings.sources.arguments import CommandLine, read_plain, source_of
from wsgicluster.settings.sources.config_file import DEFAULT_NAMES, ConfigFile, WrongNames, read_config
from wsgicluster.settings.types.general import WrongEntry
from wsgicluster.settings.wording import complaint, nearest, quoted, raise_all

GUNICORN_ARGUMENTS = "GUNICORN_CMD_ARGS"

_PLATFORM_NAMES = pattern(r"(SERVICE_(HOST|PORT)|PORT)(_|$)")
"""Kubernetes sets these for a service called wsgicluster."""


class Action(enum.Enum):
    """What the command is to do."""

    SERVE = enum.auto()
    PRINT_CONFIG = enum.auto()
    CHECK_CONFIG = enum.auto()
    EXAMINE = enum.auto()
    SHOW_HELP = enum.auto()
    SHOW_WHOLE_HELP = enum.auto()
    SHOW_VERSION = enum.auto()
    SHOW_VERSIONS = enum.auto()


@dataclass(frozen=True)
class Given:
    """The values of one source, as written, and the name of each for messages (``command line --timeout``).

    ``accepted`` are values of settings of Gunicorn that have no effect here.
    """

    values: Mapping[str, Any]
    sources: Mapping[str, str]
    complaints: Sequence[UsageError] = ()
    remarks: Sequence[str] = ()
    accepted: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Loaded:
    """The settings, the source of each, and what is to be done; ``remarks`` are for the log.

    ``file`` is the path of a configuration file that was found by its default name; ``views`` are modules of Gunicorn
    that it has imported although Gunicorn is not installed.
    """

    settings: Settings
    sources: Mapping[str, str]
    action: Action
    remarks: tuple[str, ...] = field(default=())
    file: str = ""
    views: tuple[str, ...] = ()


def load(argv: Sequence[str], environ: Mapping[str, str], directory: str) -> Loaded:
    """Read all sources. May be called again with the same arguments; then the file is read again.

    ``argv`` is without the program's name; paths are relative to ``directory``. Raises UsageError.
    """
    arguments = read_plain(argv)
    if arguments is None:
        # Late: most starts do without a parser of all flags.
        from wsgicluster.settings.sources import command_line

        arguments = command_line.parse(argv)
    question = _question(arguments)
    if question is not None:
        return Loaded(Settings(), {}, question)
    given, file, found = read_sources(arguments, environ, directory)
    settings, sources = paste.completed(*merge(given), directory, DEFAULT)
    remarks = [*(remark for each in given for remark in each.remarks), *unknown_variables(environ)]
    check(settings, sources, directory)
    if file is not None and file.patches and settings.worker_class != "gevent":
        called = ", ".join(dict.fromkeys(file.patches))
        remarks.append(f"{file.source}: gevent.monkey.{called}: not done; workers of the kind gevent do it themselves")
    if settings.strict:
        raise_all([UsageError(remark) for remark in remarks])
    whole = complete(settings, sources)
    views = file.views if file is not None else ()
    return Loaded(whole.settings, whole.sources, _action(settings), (*whole.remarks, *remarks), found, views)


def read_sources(
    arguments: CommandLine,
    environ: Mapping[str, str],
    directory: str,
    names: Sequence[str] = DEFAULT_NAMES,
) -> tuple[list[Given], ConfigFile | None, str]:
    """All sources in their order, the file among them, and its path if it was found by a default one of ``names``.

    Raises UsageError.
    """
    outside = [from_gunicorn(environ), from_environment(environ), from_command_line(arguments)]
    named = next((given.values["config"] for given in reversed(outside) if "config" in given.values), None)
    location = None if named is None else SETTINGS["config"].about.type.read(named)
    file, in_file = _from_file(location, directory, names)
    found = file.path if file is not None and named is None else ""
    return [fallbacks(environ), in_file, *outside], file, found


def load_values(values: Mapping[str, Any], where: str, directory: str) -> Loaded:
    """The settings of a program that embeds a server: these values, and defaults. Raises UsageError."""
    wrong = [name for name in values if name not in SETTINGS]
    raise_all([complaint(where, name, "no such setting", near=nearest(name, SETTINGS)) for name in wrong])
    settings, sources = merge([Given(values, dict.fromkeys(values, where))])
    check(settings, sources, directory)
    whole = complete(settings, sources)
    return Loaded(whole.settings, whole.sources, Action.SERVE, whole.remarks)


def _from_file(location: str | None, directory: str, names: Sequence[str]) -> tuple[ConfigFile | None, Given]:
    try:
        file, complaints = read_config(location, directory, names), list[UsageError]()
    except WrongNames as error:
        # Reported together with the errors in the values.
        file, complaints = error.file, [error]
    if file is None:
        return None, Given({}, {})
    sources = dict.fromkeys((*file.names, *file.accepted), file.source)
    return file, Given(file.names, sources, complaints, file.remarks, file.accepted)


def _question(arguments: CommandLine) -> Action | None:
    if arguments.help_all:
        return Action.SHOW_WHOLE_HELP
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
    """Defaults from environment variables that platforms set."""
    values, sources = {}, {}
    for name, setting in SETTINGS.items():
        fallback = setting.about.fallback
        text = environ.get(fallback.variable) if fallback is not None else None
        if fallback is not None and text is not None and (text or fallback.empty_counts):
            values[name] = fallback.template.format(text)
            sources[name] = f"{fallback.variable} environment variable"
    return Given(values, sources)


def from_environment(environ: Mapping[str, str]) -> Given:
    """Values of our own environment variables."""
    values = {name: environ[setting.variable] for name, setting in SETTINGS.items() if setting.variable in environ}
    return Given(values, {name: f"environment {SETTINGS[name].variable}" for name in values})


def from_gunicorn(environ: Mapping[str, str]) -> Given:
    """Values of GUNICORN_CMD_ARGS. Raises UsageError."""
    text = environ.get(GUNICORN_ARGUMENTS, "")
    if not text:  # a parser of all flags is not made for nothing: that takes a tenth of the time to read the settings
        return Given({}, {})
    from wsgicluster.settings.sources import command_line

    arguments = command_line.parse_variable(text, GUNICORN_ARGUMENTS)
    return Given(
        arguments.given,
        {name: source_of(SETTINGS[name], GUNICORN_ARGUMENTS) for name in arguments.given},
        remarks=arguments.remarks,
        accepted=arguments.accepted,
    )


def from_command_line(arguments: CommandLine) -> Given:
    """Values of flags and of the application's argument."""
    sources = {name: source_of(SETTINGS[name]) for name in arguments.given}
    return Given(arguments.given, sources, remarks=arguments.remarks, accepted=arguments.accepted)


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Remarks on environment variables with our prefix that are not settings.

    Not errors: tools around a server use its prefix for variables of their own.
    """
    known = {setting.variable for setting in SETTINGS.values()} | OTHER_VARIABLES.keys()
    remarks = []
    for variable in sorted(environ):
        rest = variable.removeprefix(ENVIRONMENT_PREFIX)
        if rest != variable and variable not in known and not _PLATFORM_NAMES.match(rest):
            remarks.append(str(complaint("environment", variable, "no such setting", near=nearest(variable, known))))
    return remarks


def merge(sources_in_order: Sequence[Given]) -> tuple[Settings, dict[str, str]]:
    """The settings and the source of each; later sources override earlier ones.

    Every value is read, so that an invalid one is reported even where another one overrides it. Raises UsageError,
    with one line for each that is invalid.
    """
    values: dict[str, Any] = {}
    sources = dict.fromkeys(SETTINGS, DEFAULT)
    complaints: list[UsageError] = []
    for given in sources_in_order:
        complaints += given.complaints
        for name, raw in given.values.items():
            if _is_unset(SETTINGS[name], raw):
                continue
            try:
                values[name] = read_value(SETTINGS[name], raw, given.sources[name])
            except UsageError as error:
                complaints.append(error)
            sources[name] = given.sources[name]
    raise_all(complaints)
    return Settings(**values), sources


def _is_unset(setting: Setting, raw: object) -> bool:
    # By type, too: 0 and False are equal.
    return any(type(raw) is type(each) and raw == each for each in setting.about.type.unset)


def read_value(setting: Setting, raw: object, source: str) -> Any:
    """The value of a setting as a source has it. Raises UsageError for an invalid one."""
    value_type = setting.about.type
    try:
        return value_type.read(raw)
    except WrongEntry as error:
        raise complaint(
            source, setting.name, quoted(error.entry), error.expected or value_type.expected, error.near
        ) from None
    except (ValueError, TypeError):
        near = nearest(raw, value_type.choices) if isinstance(raw, str) else ""
        raise complaint(source, setting.name, quoted(raw), value_type.expected, near) from None
