"""The built documentation: links lead somewhere, nothing comes from elsewhere, pages are light, accessible and fit."""

import pathlib
import re
from collections.abc import Iterator

import pytest

from tests.conftest import wait_until
from tests.docs import site as built
from tests.live.axe import axe_core, violations
from tests.live.browser import BROWSER, LONGEST_S, opened
from tests.live.browser import Page as Tab

pytestmark = pytest.mark.live
"""Not one of the quick tests: the build takes ten seconds."""

needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs Chromium")

HEAVIEST_BYTES = 300_000
SCREENS = {"desk": 1440, "tablet": 820, "phone": 390}
TEMPLATES = (
    "index.html",
    "howto/gunicorn.html",
    "howto/admin.html",
    "explanation/reload.html",
    "explanation/performance.html",
    "reference/exit-codes.html",
    "search.html",
)
"""A page of each sort: landing, how-to, pictures, diagrams, charts, reference, search."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("docs")
    built.build(folder)
    return folder


@pytest.fixture(scope="module")
def pages(site: pathlib.Path) -> dict[str, built.Page]:
    return built.pages(site)


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with opened(tmp_path_factory.mktemp("browser"), 1440, 900) as page:
        yield page


def show(tab: Tab, page: built.Page, width: int = 1440, scheme: str = "light") -> None:
    """Load a page in a window of this width, with the colours that its reader prefers."""
    tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    tab.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    address = (page.site / page.name).as_uri()
    tab.call("Page.navigate", url=address)
    wait_until(
        lambda: tab.value(f"location.href === {address!r} && document.readyState === 'complete'"), LONGEST_S, page.name
    )


def test_links_lead_somewhere(pages: dict[str, built.Page]) -> None:
    assert sum(len(page.links) for page in pages.values()) > 2000
    assert built.broken_links(pages) == []


def test_nothing_comes_from_elsewhere(site: pathlib.Path, pages: dict[str, built.Page]) -> None:
    assert [(name, each) for name, page in pages.items() for each in page.loaded if built.is_elsewhere(each)] == []
    for sheet in site.rglob("*.css"):
        loaded = re.findall(r"@import[^;]*|url\([^)]*\)", sheet.read_text("utf-8"))
        assert [each for each in loaded if re.search(r"https?:|//", each.partition("data:")[0])] == [], sheet


def test_pages_are_light(pages: dict[str, built.Page]) -> None:
    weights = {name: page.weight() for name, page in pages.items()}
    assert weights["index.html"] > 80_000, "style sheets are weighed"
    assert {name: weight for name, weight in weights.items() if weight >= HEAVIEST_BYTES} == {}


@needs_browser
@pytest.mark.parametrize(("screen", "scheme"), [("desk", "light"), ("phone", "dark")])
def test_axe_core_finds_nothing(pages: dict[str, built.Page], tab: Tab, screen: str, scheme: str) -> None:
    axe = axe_core()
    if axe is None:
        pytest.skip("needs axe-core: the package axe-core-python, or AXE_CORE=PATH of its axe.min.js")
    found = {}
    for name in TEMPLATES:
        show(tab, pages[name], SCREENS[screen], scheme)
        found[name] = violations(tab, axe)
    assert found == {name: [] for name in TEMPLATES}


@needs_browser
def test_no_page_is_wider_than_a_phone(pages: dict[str, built.Page], tab: Tab) -> None:
    wide = {}
    for name, page in pages.items():
        show(tab, page, SCREENS["phone"])
        width = int(tab.value("document.documentElement.scrollWidth"))
        if width > SCREENS["phone"]:
            wide[name] = width
    assert wide == {}


@needs_browser
def test_what_scrolls_is_reached_with_the_keyboard(pages: dict[str, built.Page], tab: Tab) -> None:
    scrolling = (
        "[...document.querySelectorAll('pre, .table-wrapper')].filter(each => each.scrollWidth > each.clientWidth)"
    )
    show(tab, pages["howto/gunicorn.html"], SCREENS["phone"])
    on_a_phone = tab.value(f"{scrolling}.length")
    assert on_a_phone > 1
    assert tab.value(f"{scrolling}.every(each => each.tabIndex === 0)")
    tab.call("Emulation.setDeviceMetricsOverride", width=1440, height=900, deviceScaleFactor=1, mobile=False)
    stops = "document.querySelectorAll('pre[tabindex], .table-wrapper[tabindex]').length"
    wait_until(
        lambda: tab.value(stops) == tab.value(f"{scrolling}.length") < on_a_phone, LONGEST_S, "what fits is none"
    )
