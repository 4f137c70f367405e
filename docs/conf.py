"""Sphinx configuration. What can be derived is written before anything is read: settings, signals, rooms, phrases."""

import ast
import pathlib
import re
import sys

from sphinx.application import Sphinx

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import wsgicluster  # noqa: E402  (the package of this checkout, whatever is installed)

project = "wsgicluster"
author = "the wsgicluster authors"
copyright = "the wsgicluster authors"
version = release = wsgicluster.__version__

extensions = ["site_parts"]
exclude_patterns = ["_build", "explanation/performance-table.rst"]
nitpicky = True
html_theme = "furo"
html_title = f"{project} {release}"
templates_path = ["_templates"]
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = [("site.js", {"defer": "defer"})]
html_copy_source = False
html_show_sphinx = False
highlight_language = "none"


def write(name: str, text: str) -> None:
    """Write a derived file; an unchanged one is left alone, so that its page is not built again."""
    page = HERE / name
    if not page.exists() or page.read_text("utf-8") != text:
        page.write_text(text, "utf-8")


def table(rows: list[tuple[str, ...]], widths: str) -> str:
    """A list-table, the first row of which is its head."""
    text = f".. list-table::\n   :header-rows: 1\n   :widths: {widths}\n\n"
    for row in rows:
        text += "".join(f"   {'* -' if not at else '  -'} {cell}\n" for at, cell in enumerate(row))
    return text


def path_of(room: str) -> pathlib.Path:
    """The file that says what a room is for."""
    path = HERE.parent / "wsgicluster" / room.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def responsibility(room: str) -> str:
    """The first paragraph of a room's docstring."""
    docstring = ast.get_docstring(ast.parse(path_of(room).read_text("utf-8"))) or ""
    return " ".join(docstring.partition("\n\n")[0].split())


def rooms() -> str:
    """Each room of the code, what it is for, and what it may import: from the sources, and from the test of layers."""
    from tests.test_architecture import ALLOWED

    rows: list[tuple[str, ...]] = [("Room", "Its first line", "May import")]
    for room, allowed in ALLOWED.items():
        if not path_of(room).exists():
            continue
        shown = ", ".join(f"``{other}``" for other in sorted(allowed - {"errors", "clock"}))
        rows.append((f"``{room}``", responsibility(room), shown or "nothing of ours"))
    return table(rows, "20 45 35")


def phrases() -> str:
    """The phrases that ``tests/test_words.py`` refuses."""
    from tests.test_words import KIN, PHRASES

    return table([("Not", "But"), *((f"``{each.avoid}``", each.instead) for each in (*PHRASES, *KIN))], "35 65")


def signals(process: str) -> str:
    """What ``arbiter``, ``worker`` or ``mold`` does on each signal; those with the same effect share a row."""
    from wsgicluster.system.signals import TABLE, UNCAUGHT

    names: dict[str, list[str]] = {}
    for row in TABLE:
        effect = getattr(row, f"for_{process}")
        if effect and (process != "arbiter" or row.arbiter):
            names.setdefault(effect, []).append(f"``{row.name}``")
    rows = [(", ".join(found), effect) for effect, found in names.items()]
    rows += [
        (each, effects)
        for each, *texts in UNCAUGHT
        if (effects := {"arbiter": texts[0], "worker": texts[1]}.get(process))
    ]
    return table([("Signal", "Effect"), *rows], "15 85")


def signals_merged() -> str:
    """Which signals count each, and which do not."""
    from wsgicluster.system.signals import TABLE

    merged, each = (
        " and ".join(
            ", ".join(f"``{row.name}``" for row in TABLE if row.arbiter and row.merged is wanted).rsplit(", ", 1)
        )
        for wanted in (True, False)
    )
    return f"Several of {merged} that come at once are as good as one, while each of {each} counts.\n"


def signals_caught() -> str:
    """What applications cannot handle in a worker."""
    from wsgicluster.system.signals import WORKER_ACTIONS

    names = ", ".join(f"``{number.name.removeprefix('SIG')}``" for number in WORKER_ACTIONS)
    return (
        f"An application that sets handlers for one of {names} when it is imported loses them again, and the log says "
        "so. Every other signal is its own: ``ALRM`` for instance, or ``RTMIN`` and the next ones.\n"
    )


def commands() -> str:
    """What ``make`` runs: the list that ``make help`` prints."""
    found = re.findall(r"^([a-z]+):.*  ## (.*)$", (HERE.parent / "Makefile").read_text("utf-8"), re.MULTILINE)
    return table([("Command", "What it does"), *((f"``make {name}``", text) for name, text in found)], "20 80")


def metrics() -> str:
    """What the admin worker exposes, from the table that it is exposed from."""
    from wsgicluster.admin.metrics import METRICS, OWN_METRICS, PREFIX

    rows = [(each.full_name, each.kind, each.labels, each.help) for each in METRICS]
    rows += [(PREFIX + name, kind, (), text) for name, kind, text in OWN_METRICS]
    shown = [(f"``{name}``", kind.value, ", ".join(labels), text) for name, kind, labels, text in rows]
    return table([("Name", "Type", "Labels", "Meaning"), *shown], "35 8 17 40")


def differences() -> str:
    """What each setting of Gunicorn is here, from the table that ``wsgicluster migrate`` reads, in its order."""
    from wsgicluster.migrate.table import ROWS

    rows: list[tuple[str, ...]] = [("Setting", "Here", "How, and what to do")]
    alike: list[str] = []
    for row in (*ROWS.values(), None):
        if row is not None and not row.explained and not row.page:
            alike.append(f"``{row.name}``")
            continue
        if alike:
            rows.append((", ".join(alike), "same", ""))
            alike.clear()
        if row is not None:
            page = f" See :doc:`/{row.page}`." if row.page else ""
            rows.append((f"``{row.name}``", row.agreement.value, row.explained.replace("*", "\\*") + page))
    return table(rows, "30 12 58")


def write_derived(_app: Sphinx) -> None:
    """Write what other sources say already."""
    from wsgicluster.settings.reference import render

    write("reference/settings.rst", render())
    for process in ("arbiter", "worker", "mold"):
        write(f"reference/signals-{process}.inc", signals(process))
    write("reference/signals-merged.inc", signals_merged())
    write("reference/signals-caught.inc", signals_caught())
    write("reference/metrics.inc", metrics())
    write("howto/gunicorn-differences.inc", differences())
    write("contributing/rooms.inc", rooms())
    write("contributing/phrases.inc", phrases())
    write("contributing/commands.inc", commands())


def setup(app: Sphinx) -> None:
    """Hook into the build."""
    app.connect("config-inited", lambda app, _config: write_derived(app))
