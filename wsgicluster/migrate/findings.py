"""What the table of differences says of one configuration. Pure."""

from collections.abc import Iterator

from wsgicluster.dataclass import dataclass
from wsgicluster.migrate.notes import Note, Weight
from wsgicluster.migrate.reading import SERVER_NAME, ReadConfiguration
from wsgicluster.migrate.table import ROWS
from wsgicluster.settings.fields import SETTINGS
from wsgicluster.settings.types.general import without_passwords
from wsgicluster.settings.wording import quoted

_SHOWN_BY_NAME = frozenset({"raw_env", "logconfig_dict"})
"""Settings whose values are not repeated: they are long, or secrets."""

_MODES = frozenset({"umask", "control_socket_mode"})


@dataclass(frozen=True)
class SettingFinding:
    """One setting and what is said of it; ``weight`` is None where it is the same."""

    name: str
    weight: Weight | None
    value: str
    source: str
    text: str = ""
    remedy: str = ""
    page: str = ""
    needs_hand: bool = False


def findings(reading: ReadConfiguration) -> list[SettingFinding]:
    """All that is to be said of a configuration, in the order of the table; what is not set and no different is not."""
    return [*_of_settings(reading), *_of_own_names(reading)]


def _of_settings(reading: ReadConfiguration) -> Iterator[SettingFinding]:
    deployment = reading.deployment
    for name, row in ROWS.items():
        is_given = name in deployment.given
        notes: tuple[Note, ...] = row.concerning(deployment)
        if not is_given:
            notes = tuple(note for note in notes if note.weight is not Weight.BETTER)
        for note in notes:
            yield _finding(reading, name, note, row.page)
        if is_given and not notes:
            yield SettingFinding(name, None, shown(name, deployment.given[name]), reading.source_of(name))


def _finding(reading: ReadConfiguration, name: str, note: Note, page: str) -> SettingFinding:
    given = reading.deployment.given
    value = shown(name, given[name]) if name in given else ""
    source = reading.source_of(name)
    return SettingFinding(name, note.weight, value, source, note.text, note.remedy, page, note.needs_hand)


def _of_own_names(reading: ReadConfiguration) -> Iterator[SettingFinding]:
    """Variables of the file that mean nothing to Gunicorn, and are settings here."""
    for name in sorted(reading.in_file - ROWS.keys() - {SERVER_NAME}):
        text = "a variable of the file's own in Gunicorn, and a setting here"
        if name in reading.unfit:
            text += f", which cannot have that value; expected {SETTINGS[name].about.type.expected}"
        value = shown(name, reading.deployment.given[name])
        source = reading.source_of(name)
        yield SettingFinding(
            name, Weight.DIFFERENT, value, source, text, "rename it, unless the setting is meant", "", True
        )


def shown(name: str, value: object) -> str:
    """A value for people: short, and without secrets."""
    if name in _SHOWN_BY_NAME:
        return "***" if value else quoted(value)
    if name in _MODES and isinstance(value, int):
        return f"0o{value:03o}"
    if callable(value):
        return str(getattr(value, "__name__", "a function"))
    return without_passwords(quoted(value))


def needs_hand(found: list[SettingFinding]) -> bool:
    """Whether something is lost, or has to be looked at before the move."""
    return any(each.needs_hand for each in found)
