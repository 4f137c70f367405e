"""The manual pages of both commands, made from their parsers: what ``--help-all`` says, in the form of man(7).

``python docs/manual.py FOLDER`` writes them there; so does the build of a wheel, which installs them into
``share/man/man1``. Needs nothing but the standard library.
"""

import argparse
import os
import pathlib
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence

ROOT = pathlib.Path(__file__).parent.parent
NAMES = ("wsgicluster", "wsgicluster-migrate", "wsgiclusterctl")


def escaped(text: str) -> str:
    """A text as troff shows it: a line that begins with a dot or an apostrophe would be a request."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^(?=[.'])", r"\\&", text, flags=re.MULTILINE)


def page(name: str, summary: str, parser: argparse.ArgumentParser, version: str, more: Sequence[str] = ()) -> str:
    """The source of one page; ``more`` are lines behind its options."""
    # The time of the newest change where the build says it, so that the same sources give the same page.
    moment = time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", "0")) or None)
    lines = [
        f'.TH {name.upper()} 1 "{time.strftime("%Y-%m-%d", moment)}" "wsgicluster {version}" "User Commands"',
        ".SH NAME",
        f"{name} \\- {escaped(summary)}",
        ".SH SYNOPSIS",
        ".nf",
        escaped(_usage(parser)),
        ".fi",
        ".SH DESCRIPTION",
        escaped(parser.description or ""),
    ]
    lines += _options(parser)
    lines += _commands(parser)
    lines += _epilog(parser.epilog or "")
    lines += more
    lines += [".SH SEE ALSO", ", ".join(f"\\fB{other}\\fR(1)" for other in NAMES if other != name)]
    return "\n".join(lines) + "\n"


def _usage(parser: argparse.ArgumentParser) -> str:
    text = re.sub(r"\x1b\[[0-9;]*m", "", parser.format_usage())
    return " ".join(text.removeprefix("usage: ").split())


def _options(parser: argparse.ArgumentParser, section: str = ".SH") -> Iterator[str]:
    """All arguments but for commands, by their groups."""
    for group in parser._action_groups:
        shown = [
            action
            for action in group._group_actions
            if action.help != argparse.SUPPRESS
            and not isinstance(action, argparse._SubParsersAction)
            and (section or not isinstance(action, argparse._HelpAction))
        ]
        if not shown:
            continue
        if section:
            yield f'{section} "{escaped((group.title or "options").upper())}"'
        for action in shown:
            yield from (".TP", _head(action), escaped(_help(parser, action)))


def _head(action: argparse.Action) -> str:
    """The flags of an option with what they take, or the name of an argument."""
    takes = action.metavar or (action.dest.upper() if action.option_strings and action.nargs != 0 else "")
    if isinstance(takes, tuple):
        takes = " ".join(takes)
    if not action.option_strings:
        return f"\\fI{escaped(takes or '|'.join(map(str, action.choices or ())) or action.dest)}\\fR"
    shown = f" \\fI{escaped(takes)}\\fR" if takes else ""
    return ", ".join(f"\\fB{escaped(flag)}\\fR" for flag in action.option_strings) + shown


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    text = action.help or ""
    return " ".join((text % {**vars(action), "prog": parser.prog}).split()) if text else " "


def _commands(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Each command once, with its other names and its arguments."""
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            continue
        yield ".SH COMMANDS"
        names: dict[int, list[str]] = {}
        for name, command in action.choices.items():
            names.setdefault(id(command), []).append(name)
        for command in dict.fromkeys(action.choices.values()):
            _, *others = names[id(command)]
            yield f'.SS "{escaped(" ".join(_usage(command).split()[1:]))}"'
            also = f" Also: {', '.join(others)}." if others else ""
            yield escaped(f"{command.description or ''}{also}")
            yield from _options(command, section="")
            if command.epilog:
                yield from (".PP", escaped(command.epilog))


def _first_words(summaries: Mapping[str, str], parsers: Mapping[str, argparse.ArgumentParser]) -> Iterator[str]:
    """The commands that a program takes as its first word: each with its arguments, or what it is for."""
    yield ".SH COMMANDS"
    for name, summary in summaries.items():
        parser = parsers.get(name)
        if parser is None:
            yield from (f'.SS "{escaped(name)} [argument ...]"', escaped(f"{summary[:1].upper()}{summary[1:]}."))
        else:
            yield f'.SS "{escaped(" ".join(_usage(parser).split()[1:]))}"'
            yield escaped(parser.description or "")
            yield from _options(parser, section="")


def _epilog(text: str) -> Iterator[str]:
    """Paragraphs; one whose first line ends in a colon is a section of lines as they are."""
    for part in filter(None, text.split("\n\n")):
        title, _, rest = part.strip("\n").partition("\n")
        if title.endswith(":") and rest:
            yield from (f'.SH "{escaped(title[:-1].upper())}"', ".nf", escaped(rest), ".fi")
        else:
            yield from (".PP", escaped(part))


def pages() -> dict[str, str]:
    """The source of each page by its name."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    from wsgicluster.ctl.options import parser as of_ctl
    from wsgicluster.init.command import parser as of_init
    from wsgicluster.migrate.command import parser as of_migrate
    from wsgicluster.settings.sources.command_line import parser as of_server
    from wsgicluster.settings.sources.completion import arguments as of_completion
    from wsgicluster.subcommands import SUBCOMMANDS
    from wsgicluster.version import __version__

    commands = _first_words(SUBCOMMANDS, {"init": of_init(), "completion": of_completion()})
    summaries: dict[str, tuple[str, argparse.ArgumentParser]] = {
        "wsgicluster": ("serve a WSGI application", of_server()),
        "wsgicluster-migrate": ("say what a configuration of Gunicorn means for wsgicluster", of_migrate()),
        "wsgiclusterctl": ("list, watch and steer running wsgicluster servers", of_ctl()),
    }
    more = {"wsgicluster": tuple(commands)}
    return {name: page(name, *summaries[name], __version__, more.get(name, ())) for name in NAMES}


def write(folder: pathlib.Path) -> list[pathlib.Path]:
    """Write the pages; the files."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for name, text in pages().items():
        found.append(folder / f"{name}.1")
        found[-1].write_text(text, "utf-8")
    return found


if __name__ == "__main__":
    for path in write(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "man")):
        print(path)
