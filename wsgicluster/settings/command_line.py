"""The command line: a parser made from the declarations, and its errors in the form of all others.

Values are texts here; who reads them is elsewhere.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from wsgicluster.errors import UsageError
from wsgicluster.settings import gunicorn_names
from wsgicluster.settings.declaration import Group, Setting
from wsgicluster.settings.fields import SETTINGS
from wsgicluster.settings.wording import complaint, nearest, quoted

WHERE = "command line"
APPLICATION = "wsgi_app"


@dataclass(frozen=True)
class CommandLine:
    """What was given: settings by name (texts, lists of texts, or the value of a switch), and questions."""

    given: Mapping[str, str | list[str] | bool]
    help: bool = False
    version: bool = False
    verbose: bool = False


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{WHERE}: {message}")


def parse(argv: Sequence[str]) -> CommandLine:
    """Read the arguments behind the program's name. Raises UsageError."""
    parser = _parser()
    try:
        namespace, rest = parser.parse_known_args(list(argv))
    except argparse.ArgumentError as error:
        raise _refused(error) from error
    if rest:
        raise _not_understood(rest)
    values = vars(namespace)
    questions = {name: values.pop(name, False) for name in ("help", "version", "verbose")}
    return CommandLine(values, **questions)


def source_of(setting: Setting) -> str:
    """How a value from the command line is called."""
    return f"{WHERE} {setting.flag or 'APPLICATION'}"


def help_text() -> str:
    """What ``--help`` shows."""
    return _parser().format_help()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="wsgicluster",
        description="Serve a WSGI application.",
        epilog="TIME is 30, 30s, 500ms, 2m or 1h; SIZE is 8190, 512K, 512M or 1G.",
        usage="wsgicluster [option ...] [APPLICATION]",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
        add_help=False,
        exit_on_error=False,
    )
    parser.add_argument(APPLICATION, nargs="?", metavar="APPLICATION", help=_escaped(SETTINGS[APPLICATION].about.help))
    about = parser.add_argument_group("Questions")
    about.add_argument("-h", "--help", action="store_true", help="Show this and end.")
    about.add_argument("-v", "--version", action="store_true", help="Show the version and end.")
    about.add_argument("--verbose", action="store_true", help="With --version: show what it runs on, too.")
    for group in Group:
        section = parser.add_argument_group(group.value)
        for setting in SETTINGS.values():
            if setting.about.group is group and setting.about.flags:
                _add(section, setting)
    return parser


def _add(section: "argparse._ArgumentGroup", setting: Setting) -> None:
    about = setting.about
    text = f"{about.help} [{setting.default_shown or 'none'}; {setting.variable}]"
    if setting.is_switch:
        section.add_argument(
            *about.flags, dest=setting.name, action="store_const", const=about.flag_value, help=_escaped(text)
        )
    elif about.bare_value:
        section.add_argument(
            *about.flags,
            dest=setting.name,
            nargs="?",
            const=about.bare_value,
            metavar=about.kind.metavar,
            help=_escaped(text),
        )
    else:
        section.add_argument(
            *about.flags,
            dest=setting.name,
            action="append" if about.kind.repeats else "store",
            metavar=about.kind.metavar,
            help=_escaped(text),
        )


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _setting_of(argument_name: str) -> Setting | None:
    # argparse calls an argument by all its flags: "-t/--timeout".
    flags = set(argument_name.split("/"))
    return next((setting for setting in SETTINGS.values() if flags & set(setting.about.flags)), None)


def _refused(error: argparse.ArgumentError) -> UsageError:
    setting = _setting_of(error.argument_name or "")
    if setting is None:
        return UsageError(f"{WHERE}: {error}")
    if setting.is_switch:
        return complaint(f"{WHERE} {setting.flag}", setting.name, "an argument", "none: it is a switch")
    return complaint(f"{WHERE} {setting.flag}", setting.name, "nothing", setting.about.kind.expected)


def _not_understood(rest: Sequence[str]) -> UsageError:
    flag = next((word.partition("=")[0] for word in rest if word.startswith("-") and word != "-"), None)
    if flag is None:
        return complaint(WHERE, "APPLICATION", quoted(rest[0]), "one application only")
    if flag in gunicorn_names.FLAGS:
        return complaint(WHERE, flag, "a flag that Gunicorn has and wsgicluster does not have yet")
    known = [known for setting in SETTINGS.values() for known in setting.about.flags]
    near = nearest(flag, [*known, "--help", "--version"]) if flag.startswith("--") else ""
    return complaint(WHERE, flag, "no such flag", "" if near else "one of those that --help shows", near)
