"""The arguments of a start: what they come to, and the quick way to read the plain ones.

Most starts have whole flags, each with its argument in the next word, and the application. These are read here, in the
hundredth of the time that it takes to make a parser of all flags; whatever else there is, `command_line` reads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field

from wsgicluster.dataclass import dataclass
from wsgicluster.settings.declaration import Setting
from wsgicluster.settings.fields import SETTINGS

WHERE = "command line"
APPLICATION = "wsgi_app"


@dataclass(frozen=True)
class CommandLine:
    """The arguments: settings by name (texts, lists of texts, or the value of a switch), and questions.

    ``remarks`` are about flags of Gunicorn that have no effect, ``accepted`` are the values of these.
    """

    given: Mapping[str, str | list[str] | bool]
    remarks: tuple[str, ...] = ()
    accepted: Mapping[str, object] = field(default_factory=dict)
    help: bool = False
    help_all: bool = False
    version: bool = False
    verbose: bool = False


def source_of(setting: Setting, where: str = WHERE) -> str:
    """The name of a value from the command line, for messages."""
    return f"{where} {setting.flag or 'APPLICATION'}"


def read_plain(argv: Sequence[str]) -> CommandLine | None:
    """The arguments after the program's name; None where they are not plain, or wrong."""
    flags = {flag: setting for setting in SETTINGS.values() for flag in setting.about.flags}
    given = dict[str, str | list[str] | bool]()
    words = iter(argv)
    for word in words:
        if not word.startswith("-") or word == "-":
            if APPLICATION in given:
                return None
            given[APPLICATION] = word
            continue
        flag, joined, value = word.partition("=") if word.startswith("--") else (word, "", "")
        setting = flags.get(flag)
        if setting is None:
            return None
        if setting.is_switch:
            if joined:
                return None
            given[setting.name] = setting.about.flag_value
            continue
        if not joined:
            if setting.about.bare_value:
                return None
            value = next(words, "--")
            if value.startswith("-") and value != "-":
                return None
        present = given.get(setting.name)
        if not setting.about.type.repeats:
            given[setting.name] = value
        elif isinstance(present, list):
            present.append(value)
        else:
            given[setting.name] = [value]
    return CommandLine(given)
