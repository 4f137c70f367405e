"""What a command line of Gunicorn, and the sources that belong to it, say; they are read as the server reads them.

Nothing is started and no address is opened. The configuration file is executed, since it is a program.
"""

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from wsgicluster.dataclass import dataclass
from wsgicluster.errors import UsageError
from wsgicluster.migrate.notes import Deployment, Weight
from wsgicluster.migrate.table import ROWS
from wsgicluster.settings.checks import DEFAULT
from wsgicluster.settings.declaration import ENVIRONMENT_PREFIX
from wsgicluster.settings.fields import SETTINGS
from wsgicluster.settings.sources import command_line
from wsgicluster.settings.sources.merge import Given, read_sources, read_value
from wsgicluster.settings.wording import raise_all

FILE_NAMES = ("gunicorn.conf.py",)
"""The only one that Gunicorn finds by itself."""

SERVER_NAME = "server_header"
"""What a file sets by assigning to ``gunicorn.SERVER``: no setting of Gunicorn's, but meant for the server."""

_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")


@dataclass(frozen=True)
class Words:
    """A command line without what comes before Gunicorn's arguments: variables that are set for it are apart."""

    arguments: tuple[str, ...]
    variables: Mapping[str, str]


@dataclass(frozen=True)
class ReadConfiguration:
    """A configuration: ``deployment`` has what is written, ``values`` what that means here, by name of the setting.

    ``file`` is the configuration file as ``-c`` names it, ``is_found`` says that it has Gunicorn's default name.
    ``in_file`` are the settings whose last value is in it, ``of_platform`` those that a variable such as ``PORT`` sets.
    ``unfit`` are variables of the file that are settings here, and whose value cannot be one. ``variables`` are those
    in front of the command.
    """

    deployment: Deployment
    values: Mapping[str, Any]
    remarks: tuple[str, ...] = ()
    file: str = ""
    is_found: bool = False
    in_file: frozenset[str] = frozenset()
    of_platform: frozenset[str] = frozenset()
    unfit: frozenset[str] = frozenset()
    variables: Mapping[str, str] = field(default_factory=dict)
    directory: str = ""

    def source_of(self, name: str) -> str:
        """Where the value of a setting is from, for people; a file below the start folder is relative to that."""
        source = self.deployment.sources.get(name, DEFAULT)
        return "not set" if source == DEFAULT else source.replace(f"file {self.directory}{os.sep}", "file ")


def split(words: Sequence[str]) -> Words:
    """Take away ``NAME=VALUE``, ``exec``, ``python -m`` and ``gunicorn`` in front, as they stand in a shell's line."""
    rest, variables = list(words), {}
    while rest and (_ASSIGNMENT.match(rest[0]) or rest[0] in ("exec", "env")):
        name, equals, value = rest.pop(0).partition("=")
        if equals:
            variables[name] = value
    if len(rest) > 2 and os.path.basename(rest[0]).startswith("python") and rest[1] == "-m":
        rest = rest[2:]
    if rest and os.path.basename(rest[0]) == "gunicorn":
        rest = rest[1:]
    return Words(tuple(rest), variables)


def read(words: Words, environ: Mapping[str, str], directory: str) -> ReadConfiguration:
    """Read all sources. Raises UsageError, with a line for each value that neither server takes."""
    surroundings = {name: value for name, value in environ.items() if not name.startswith(ENVIRONMENT_PREFIX)}
    surroundings.update(words.variables)
    arguments = command_line.parse(words.arguments)
    if arguments.help or arguments.version:
        raise UsageError("command line: --help and --version ask for nothing that could be moved")
    sources, file, found = read_sources(arguments, surroundings, directory, FILE_NAMES)
    platform, in_file, *_ = sources
    given, values, origins, unfit = _merged(sources)
    path = "" if file is None else file.path or file.source.replace("module ", "python:", 1)
    return ReadConfiguration(
        Deployment(given, origins),
        values,
        tuple(remark for source in sources for remark in source.remarks if "did you mean" in remark),
        path,
        bool(found),
        frozenset(name for name in (*in_file.values, *in_file.accepted) if origins.get(name) == in_file.sources[name]),
        frozenset(name for name in platform.values if origins.get(name) == platform.sources[name]),
        unfit,
        words.variables,
        directory,
    )


def _merged(
    sources: Sequence[Given],
) -> tuple[dict[str, Any], dict[str, Any], dict[str, str], frozenset[str]]:
    """The last value of each setting as it is written, as it is read, and its source; and the names of unfit ones."""
    given: dict[str, Any] = {}
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    unfit = set()
    complaints: list[UsageError] = []
    for source in sources:
        complaints += source.complaints
        for name, raw in (*source.values.items(), *source.accepted.items()):
            given[name] = raw
            origins[name] = source.sources.get(name, "command line")
            values.pop(name, None)
            if name not in SETTINGS or _is_unset(name, raw):
                continue
            try:
                values[name] = read_value(SETTINGS[name], raw, origins[name])
            except UsageError as error:
                if name not in ROWS:
                    unfit.add(name)
                elif not _is_lost(name, raw):
                    complaints.append(error)
    raise_all(complaints)
    return given, values, origins, frozenset(unfit)


def _is_lost(name: str, raw: object) -> bool:
    """Whether the table says already that there is nothing here for such a value."""
    return any(note.weight is Weight.LOST for note in ROWS[name].concerning(Deployment({name: raw})))


def _is_unset(name: str, raw: object) -> bool:
    # By type, too: 0 and False are equal.
    return any(type(raw) is type(each) and raw == each for each in SETTINGS[name].about.type.unset)


def joined(words: Sequence[str]) -> str:
    """Words as a line for a shell."""
    return shlex.join(words)
