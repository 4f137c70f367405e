"""What the pages have beyond reStructuredText: ``diagram``, ``costs`` and ``cost-bars``, and tables that may scroll."""

import html
import pathlib
import re
from typing import Any, ClassVar

from diagrams import DIAGRAMS
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

TABLE = pathlib.Path(__file__).parent / "explanation" / "performance-table.rst"
COMPARED = {"sync": "wsgicluster", "gunicorn-sync": "Gunicorn"}
SCENARIOS = {
    "hello": "a small request, connection kept",
    "close": "a small request, new connection",
    "flask": "a page of Flask",
    "django": "a page of Django",
}


def figures(table: str) -> dict[str, dict[str, float]]:
    """Microseconds by scenario and server, of a list-table whose first row names the servers; without failures."""
    parts = re.split(r"^(?=   \* -)", table, flags=re.MULTILINE)
    rows = [re.findall(r"^   [ *] - (.*)$", row, re.MULTILINE) for row in parts]
    _, names, *measured = rows
    return {
        scenario: {
            server: float(found[0].replace(",", ""))
            for server, cell in zip(names[1:], cells, strict=True)
            if (found := re.match(r"[\d.,]+", cell))
        }
        for scenario, *cells in measured
    }


def bar(server: str, microseconds: float, most: float, *, ours: bool) -> str:
    """A row of a chart: the server, its figure, and a bar."""
    shown = f"{microseconds:,.0f}" if microseconds >= 100 else f"{microseconds:.1f}"
    kind = "ours" if ours else "theirs"
    return (
        f'<tr><th scope="row">{html.escape(server)}</th><td class="figure">{shown}</td>'
        f'<td class="{kind}"><span style="width:{100 * microseconds / most:.1f}%"></span></td></tr>'
    )


def chart(caption: str, rows: dict[str, float], ours: set[str]) -> str:
    """A table of HTML whose last column is drawn: it is read as a table where it is not seen."""
    most = max(rows.values())
    bars = "".join(bar(server, value, most, ours=server in ours) for server, value in rows.items())
    heads = '<thead><tr><th scope="col">Server</th><th scope="col">Microseconds</th><td></td></tr></thead>'
    return f'<table class="costs"><caption>{html.escape(caption)}</caption>{heads}<tbody>{bars}</tbody></table>'


class Costs(SphinxDirective):
    """``.. costs::`` shows what a few scenarios cost here and in Gunicorn."""

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(TABLE))
        found = figures(TABLE.read_text("utf-8"))
        charts = [
            chart(label, {name: found[scenario][server] for server, name in COMPARED.items()}, {"wsgicluster"})
            for scenario, label in SCENARIOS.items()
        ]
        return [nodes.raw("", f'<div class="charts">{"".join(charts)}</div>', format="html")]


class CostBars(SphinxDirective):
    """``.. cost-bars:: SCENARIO`` shows what one scenario costs in each server."""

    required_arguments = 1
    OURS: ClassVar[set[str]] = {"sync", "sync-pure", "gthread", "gevent"}

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(TABLE))
        scenario = self.arguments[0]
        rows = figures(TABLE.read_text("utf-8"))[scenario]
        return [nodes.raw("", chart(SCENARIOS[scenario], rows, self.OURS), format="html")]


class Diagram(SphinxDirective):
    """``.. diagram:: NAME`` shows one of the diagrams; a content is its caption."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        figure = nodes.container(classes=["diagram"])
        figure += nodes.raw("", DIAGRAMS[self.arguments[0]]().svg(), format="html")
        figure += self.parse_content_to_nodes()
        return [figure]


_NO_MEANING = re.compile(r'<span class="pre">([^<]*)</span>| class="field-(?:odd|even)"|<span class="colon">(:)</span>')

_TWICE = re.compile(r'(<div class="table-wrapper[^>]* id="([^"]+)">\s*<table[^>]*) id="\2"')
"""The name of a table, which the theme also gives to what it puts the table into."""


def slim(_app: Sphinx, _page: str, _template: str, context: dict[str, Any], _doctree: nodes.document | None) -> None:
    """Leave out the marks that the theme does nothing with, a quarter of the page about settings, and second names."""
    if "body" in context:
        text = _NO_MEANING.sub(lambda found: found[1] or found[2] or "", context["body"])
        context["body"] = _TWICE.sub(r"\1", text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Hook into the build."""
    app.add_directive("costs", Costs)
    app.add_directive("cost-bars", CostBars)
    app.add_directive("diagram", Diagram)
    app.connect("html-page-context", slim)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
