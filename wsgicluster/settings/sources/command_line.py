"""The command line: a parser made from the declarations, with errors in the form of all others.

Values are texts here; `merge` has the settings' types read them.
"""

import argparse
import functools
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from wsgicluster.errors import UsageError
from wsgicluster.settings.declaration import Group, Setting
from wsgicluster.settings.fields import SETTINGS
from wsgicluster.settings.sources import gunicorn_names
from wsgicluster.settings.sources.arguments import APPLICATION, WHERE, CommandLine
from wsgicluster.settings.sources.help import UNITS, USAGE, default_with_unit
from wsgicluster.settings.wording import complaint, nearest, quoted
from wsgicluster.version import DOCS

_QUESTIONS = ("help", "help_all", "version", "verbose")


class ArgumentReader(argparse.ArgumentParser):
    """A parser whose errors are UsageErrors of one line, which begin with ``where``."""

    def __init__(self, where: str, **options: Any) -> None:
        super().__init__(**options)
        self._where = where

    def error(self, message: str) -> NoReturn:
        """Raise it."""
        raise UsageError(f"{self._where}: {message}")


def parse(argv: Sequence[str], where: str = WHERE) -> CommandLine:
    """Parse the arguments after the program's name; errors name ``where`` they come from. Raises UsageError."""
    reader = _parser(where)
    try:
        namespace, rest = reader.parse_known_args(list(_unabbreviated(argv, where)))
    except argparse.ArgumentError as error:
        raise _refused(error, where) from error
    if rest:
        raise _not_understood(rest, where)
    values = vars(namespace)
    questions = {name: values.pop(name, False) for name in _QUESTIONS}
    accepted = {name: values.pop(name) for name in gunicorn_names.ACCEPTED if name in values}
    remarks = [
        gunicorn_names.ACCEPTED[name].remark(value, f"{where} {_long(gunicorn_names.ACCEPTED[name].flags)}")
        for name, value in accepted.items()
    ]
    return CommandLine(values, tuple(remark for remark in remarks if remark is not None), accepted, **questions)


def parse_variable(text: str, name: str) -> CommandLine:
    """The same for the text of an environment variable, split into words as a shell does."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        # Without the text: it may hold the application's secrets.
        raise UsageError(f"{name}: cannot be split into words as a shell does it: {error}") from None
    found = parse(words, name)
    for question in ("help", "help_all", "version"):
        if getattr(found, question):
            raise complaint(name, f"--{question.replace('_', '-')}", "not a setting", "flags of settings only")
    return found


def whole_help() -> str:
    """What ``--help-all`` shows."""
    return parser().format_help()


def parser() -> argparse.ArgumentParser:
    """What reads the arguments, for pages that describe them."""
    return _parser(WHERE)


def _parser(where: str) -> argparse.ArgumentParser:
    parser = ArgumentReader(
        where,
        prog="wsgicluster",
        description="Serve a WSGI application.",
        epilog=f"{UNITS} Documentation: {DOCS}",
        usage=USAGE[0],
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
        add_help=False,
        exit_on_error=False,
    )
    parser.add_argument(APPLICATION, nargs="?", metavar="APPLICATION", help=_escaped(SETTINGS[APPLICATION].about.help))
    about = parser.add_argument_group("Questions")
    about.add_argument("-h", "--help", action="store_true", help="Show the flags that most servers need, and exit.")
    about.add_argument("--help-all", action="store_true", help="Show this help, with every flag, and exit.")
    about.add_argument("-v", "--version", action="store_true", help="Show the version and exit.")
    about.add_argument(
        "--verbose", action="store_true", help="With --version: also show the versions of Python and of the HTTP core."
    )
    for group in Group:
        section = parser.add_argument_group(group.value)
        for setting in SETTINGS.values():
            if setting.about.group is group and setting.about.flags:
                _add(section, setting)
    for accepted in gunicorn_names.ACCEPTED.values():
        if accepted.flags:
            _add_accepted(parser, accepted)
    return parser


def shown_flags() -> list[str]:
    """Every flag that ``--help-all`` shows."""
    found = [flag for setting in SETTINGS.values() for flag in setting.about.flags]
    return [*found, "-h", "-v", *(f"--{name.replace('_', '-')}" for name in _QUESTIONS)]


def _add_accepted(parser: argparse.ArgumentParser, accepted: gunicorn_names.Accepted) -> None:
    # Not shown by --help: only those who come from Gunicorn have a use for them.
    if not accepted.argument:
        parser.add_argument(*accepted.flags, dest=accepted.name, action="store_true", help=argparse.SUPPRESS)
    else:
        action = "append" if accepted.argument == "each" else "store"
        parser.add_argument(*accepted.flags, dest=accepted.name, action=action, help=argparse.SUPPRESS)


def _unabbreviated(argv: Sequence[str], where: str) -> Iterator[str]:
    """The arguments with whole flags: an abbreviation means what it means in Gunicorn, else the only flag it begins.

    Raises UsageError for one that begins several.
    """
    words = iter(argv)
    for word in words:
        if word == "--":
            yield word
            break
        flag, equals, value = word.partition("=")
        yield (_whole(flag, where) + equals + value) if flag.startswith("--") else word
    yield from words


def _whole(flag: str, where: str) -> str:
    known = _long_flags()
    if flag in known:
        return flag
    for choice in (known.keys() & gunicorn_names.FLAGS, known):
        begun = sorted(each for each in choice if each.startswith(flag))
        if len({known[each] for each in begun}) == 1:
            return begun[0]
        if begun:
            raise complaint(where, flag, f"abbreviates {', '.join(begun)}", "the whole name of a flag")
    return flag


@functools.cache
def _long_flags() -> Mapping[str, str]:
    """Every long flag, and the name of what it sets."""
    flags = {flag: setting.name for setting in SETTINGS.values() for flag in setting.about.flags}
    flags |= {flag: row.name for row in gunicorn_names.ACCEPTED.values() for flag in row.flags}
    flags |= {f"--{name.replace('_', '-')}": name for name in _QUESTIONS}
    return {flag: name for flag, name in flags.items() if flag.startswith("--")}


def _long(flags: Sequence[str]) -> str:
    return next(flag for flag in flags if flag.startswith("--"))


def _add(section: "argparse._ArgumentGroup", setting: Setting) -> None:
    about = setting.about
    text = f"{about.help} [default: {default_with_unit(setting)}; environment: {setting.variable}]"
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
            metavar=about.type.metavar,
            help=_escaped(text),
        )
    else:
        section.add_argument(
            *about.flags,
            dest=setting.name,
            action="append" if about.type.repeats else "store",
            metavar=about.type.metavar,
            help=_escaped(text),
        )


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _setting_of(argument_name: str) -> Setting | None:
    # argparse names an argument by all its flags: "-t/--timeout".
    flags = set(argument_name.split("/"))
    return next((setting for setting in SETTINGS.values() if flags & set(setting.about.flags)), None)


def _refused(error: argparse.ArgumentError, where: str) -> UsageError:
    setting = _setting_of(error.argument_name or "")
    if setting is None:
        return UsageError(" ".join(f"{where}: {error}".split()))
    if setting.is_switch:
        return complaint(f"{where} {setting.flag}", setting.name, "a value", "none: the flag is a switch")
    return complaint(f"{where} {setting.flag}", setting.name, "no value", setting.about.type.expected)


def _not_understood(rest: Sequence[str], where: str) -> UsageError:
    flag = next((word.partition("=")[0] for word in rest if word.startswith("-") and word != "-"), None)
    if flag is None:
        return complaint(where, quoted(rest[0]), "a second argument", "one APPLICATION, and flags")
    near = nearest(flag, shown_flags()) if flag.startswith("--") else ""
    return complaint(where, flag, "no such flag", "" if near else "one of those that --help-all shows", near)
