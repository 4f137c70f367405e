"""What the pages have beyond reStructuredText: figures of a table, charts, drawings."""

import importlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.docs.commands import DOCS

MODULES = ("drawing", "diagrams", "site_parts")

TABLE = """\
.. list-table:: Microseconds
   :header-rows: 1

   * - scenario
     - sync
     - uwsgi
   * - hello
     - 10.5 (1.00)
     - 1,033.4* (3.18)
   * - flask
     - 85.9 (1.00)
     - failed
"""


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The modules of the documentation, which Sphinx imports from its folder."""
    monkeypatch.syspath_prepend(str(DOCS))
    yield {name: importlib.import_module(name) for name in MODULES}
    for name in MODULES:
        sys.modules.pop(name, None)


def test_figures_are_read_without_failures(parts: dict[str, Any]) -> None:
    assert parts["site_parts"].figures(TABLE) == {"hello": {"sync": 10.5, "uwsgi": 1033.4}, "flask": {"sync": 85.9}}


def test_what_the_landing_page_compares_was_measured(parts: dict[str, Any]) -> None:
    found = parts["site_parts"].figures(parts["site_parts"].TABLE.read_text("utf-8"))
    for scenario in parts["site_parts"].SCENARIOS:
        assert set(parts["site_parts"].COMPARED) <= set(found[scenario])


def test_a_chart_is_a_table_whose_longest_bar_is_whole(parts: dict[str, Any]) -> None:
    chart = parts["site_parts"].chart("A & B", {"ours": 50.0, "theirs": 200.0}, {"ours"})
    assert "<caption>A &amp; B</caption>" in chart
    assert '<td class="figure">50.0</td><td class="ours"><span style="width:25.0%">' in chart
    assert '<td class="figure">200</td><td class="theirs"><span style="width:100.0%">' in chart


def test_diagrams_say_what_they_show_and_fit_a_phone(parts: dict[str, Any]) -> None:
    for name, make in parts["diagrams"].DIAGRAMS.items():
        drawing = make()
        assert (drawing.name, drawing.width) == (name, 480)
        assert len(drawing.meaning.split()) > 20
        assert drawing.svg().count('role="img"') == 1


def test_text_that_does_not_fit_is_an_error(parts: dict[str, Any]) -> None:
    drawing = parts["drawing"].Drawing("small", 100, "Nothing.")
    with pytest.raises(ValueError, match="30 units are too few"):
        drawing.box(0, 0, 30, 20, "too long")
    with pytest.raises(ValueError, match="small: 'much too long': 40 units"):
        drawing.text(440, 10, "much too long", anchor="start")


def test_marks_without_a_meaning_are_left_out(parts: dict[str, Any]) -> None:
    body = '<code><span class="pre">a</span> <span class="pre">b</span></code>'
    body += '<dt class="field-odd">C<span class="colon">:</span>'
    context = {"body": f'{body}<div class="table-wrapper container" id="id1">\n<table class="docutils" id="id1">'}
    parts["site_parts"].slim(None, "page", "page.html", context, None)
    assert context["body"] == (
        '<code>a b</code><dt>C:<div class="table-wrapper container" id="id1">\n<table class="docutils">'
    )
