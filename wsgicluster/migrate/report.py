"""What ``wsgicluster migrate`` prints: lines for people, or JSON. Pure."""

import json
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from wsgicluster.migrate.equivalent import Equivalent
from wsgicluster.migrate.findings import SettingFinding, needs_hand
from wsgicluster.migrate.notes import Weight
from wsgicluster.migrate.reading import ReadConfiguration
from wsgicluster.migrate.table import GENERAL

_WIDTH = 100
_OF_PROGRAM = (
    "These are the values that its code has led to here and now. Keep the file if they depend on the machine or the "
    "environment, or if the code does more: wsgicluster reads it as it is."
)
_TITLES = {Weight.LOST: "Lost", Weight.DIFFERENT: "Different", Weight.BETTER: "Better"}


def text(reading: ReadConfiguration, found: Sequence[SettingFinding], instead: Equivalent) -> str:
    """The report in lines."""
    lines = [*_same(found)]
    for weight in (Weight.BETTER, Weight.DIFFERENT, Weight.LOST):
        chosen = [each for each in found if each.weight is weight]
        if chosen:
            lines += ["", f"{_TITLES[weight]}:"]
            for each in chosen:
                lines += _of_finding(each)
    if reading.remarks:
        lines += ["", "Perhaps misspelt:", *(line for remark in reading.remarks for line in _wrapped(remark, "  "))]
    lines += ["", "In every deployment:", *(line for each in GENERAL for line in _wrapped(each, "  "))]
    lines += ["", *_instead(instead, bool(reading.values.get("wsgi_app")))]
    count = len({each.name for each in found if each.needs_hand})
    names = ", ".join(dict.fromkeys(each.name for each in found if each.needs_hand))
    lines += ["", f"To look at before the move: {names}" if count else "Nothing is lost."]
    return "\n".join(lines) + "\n"


def _same(found: Sequence[SettingFinding]) -> Iterator[str]:
    names = [each.name for each in found if each.weight is None]
    yield from _wrapped(f"Same: {', '.join(names)}" if names else "Same: nothing that is set", "", "  ")


def _of_finding(each: SettingFinding) -> Iterator[str]:
    given = f" = {each.value}" if each.value else ""
    yield from _wrapped(f"{each.name}{given} ({each.source}): {each.text}", "  ", "      ")
    if each.remedy:
        yield from _wrapped(f"-> {each.remedy}", "      ", "         ")


def _instead(instead: Equivalent, names_application: bool) -> Iterator[str]:
    yield "The shortest equivalent:"
    yield ""
    yield f"    {instead.command}"
    if not names_application:
        yield ""
        yield "with the application behind it, such as module:application, which was not given"
    if instead.file:
        yield ""
        yield "with wsgicluster.conf.py:"
        yield ""
        yield from (f"    {line}" for line in instead.file.splitlines())
    if instead.replaced:
        yield ""
        yield f"in place of {instead.replaced}"
        if instead.is_program:
            yield from _wrapped(_OF_PROGRAM, "  ", "  ")
    if instead.kept:
        yield ""
        yield f"with {instead.kept}, which stays"
    if instead.needless:
        yield ""
        yield from _wrapped(
            f"{instead.kept} needs no longer: {', '.join(instead.needless)} (defaults, or without effect)", "", "  "
        )


def _wrapped(line: str, first: str, rest: str = "    ") -> list[str]:
    return textwrap.wrap(
        " ".join(line.split()), _WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False
    )


def as_json(reading: ReadConfiguration, found: Sequence[SettingFinding], instead: Equivalent) -> str:
    """The same for programs: ``findings``, ``equivalent``, ``remarks`` and ``needs_hand``."""
    content: dict[str, Any] = {
        "findings": [
            {
                "setting": each.name,
                "agreement": "same" if each.weight is None else each.weight.value,
                "value": each.value,
                "source": each.source,
                "text": each.text,
                "remedy": each.remedy,
                "needs_hand": each.needs_hand,
            }
            for each in found
        ],
        "equivalent": {
            "command": instead.command,
            "file": instead.file,
            "kept": instead.kept,
            "needless": list(instead.needless),
            "replaced": instead.replaced,
            "is_program": instead.is_program,
        },
        "remarks": list(reading.remarks),
        "needs_hand": needs_hand(list(found)),
    }
    return json.dumps(content, indent=2) + "\n"
