"""The dashboard in a real browser: it shows what happens, reloads, and asks nobody else for anything."""

import contextlib
import json
import pathlib
import signal
import urllib.parse
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import StartServer, wait_until
from tests.live.axe import axe_core, violations
from tests.live.browser import BROWSER, LONGEST_S, Page, opened
from tests.live.client import Connection
from tests.live.test_admin import APP, TOKEN, admin_port, wait_admin

pytestmark = [pytest.mark.live, pytest.mark.skipif(BROWSER is None, reason="needs Chromium")]


@pytest.fixture
def open_page(tmp_path: pathlib.Path) -> Iterator[Callable[[int, int], Page]]:
    """Opens the one empty page of a browser with this width and height."""
    with contextlib.ExitStack() as owned:
        yield lambda width, height: owned.enter_context(opened(tmp_path / "browser", width, height))


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (390, 844)], ids=["desk", "phone"])
def test_it_shows_what_happens_and_reloads(
    server: StartServer, open_page: Callable[[int, int], Page], width: int, height: int
) -> None:
    ranged = ("-w", "2..4", "--worker-idle-timeout", "10m")
    live = server("app:app", *ranged, "--admin", "0", "--admin-token", TOKEN, source=APP)
    live.wait_log("Started: 2 workers serve")
    wait_admin(live)
    page = open_page(width, height)
    page.call("Page.navigate", url=f"http://127.0.0.1:{admin_port(live)}/")

    def wait_text(name: str, words: str) -> None:
        wait_until(lambda: words in page.text(name), LONGEST_S, f"{name}: {words}")

    wait_text("state", "serving")
    wait_text("about", "2 of 2 workers ready (2..4)")
    wait_text("events", "ready: worker 2")
    assert page.value("document.querySelectorAll('#workers tr').length") == 2
    assert page.value("document.documentElement.scrollWidth <= window.innerWidth"), "nothing is cut off"
    page.value(f"document.getElementById('token').value = {json.dumps(TOKEN)}")
    page.value("document.getElementById('count').value = 3; document.getElementById('scale').click()")
    wait_text("about", "3 of 3 workers ready (2..4)")
    wait_text("tiles", "3 in 2..4")
    live.send(signal.SIGTTIN)
    wait_text("about", "4 of 4 workers ready (2..4)")
    assert page.value("document.getElementById('count').value") == "4", "it follows"
    page.value("document.getElementById('count').value = 2")
    live.send(signal.SIGTTOU)
    wait_text("about", "3 of 3 workers ready (2..4)")
    assert page.value("document.getElementById('count').value") == "2", "what is typed stays"
    wait_text("events", "scale: server, 3 workers")
    page.value("document.getElementById('reload').click()")
    wait_text("result", "Reload complete: generation 2 serves.")
    wait_text("about", "generation 2")
    wait_until(lambda: page.value("document.getElementById('lost').hidden"), LONGEST_S, "it is connected again")
    page.value("document.getElementById('token').value = 'wrong-but-long-enough'")

    def is_refused() -> bool:
        # The connection that it uses may be one that the admin worker before this one has closed.
        if page.text("result") != "Reload requested …":
            page.value("document.getElementById('reload').click()")
        return "the token is wrong" in page.text("result")

    wait_until(is_refused, LONGEST_S, "a wrong token is refused")

    hosts = {urllib.parse.urlsplit(each["request"]["url"]).netloc for each in page.of("Network.requestWillBeSent")}
    assert hosts <= {f"127.0.0.1:{admin_port(live)}", ","}, "it asks nobody else"
    assert not page.of("Runtime.exceptionThrown")
    # A response of 401 is logged by the browser, and so is a connection that a reload has ended.
    violations = [each["entry"]["text"] for each in page.of("Log.entryAdded") if each["entry"]["source"] == "security"]
    assert not violations


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1440, 900), (390, 844)], ids=["desk", "phone"])
def test_axe_core_finds_nothing(
    server: StartServer, open_page: Callable[[int, int], Page], width: int, height: int, scheme: str
) -> None:
    """Contrast (AA) and the other rules of WCAG 2.1: with a request in progress, a result, and without connection."""
    axe = axe_core()
    if axe is None:
        pytest.skip("needs axe-core: the package axe-core-python, or AXE_CORE=PATH of its axe.min.js")
    live = server("app:app", "-w", "2", "--admin", "0", "--admin-token", TOKEN, source=APP)
    live.wait_log("Started: 2 workers serve")
    wait_admin(live)
    page = open_page(width, height)
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    with Connection(live.port) as busy:
        busy.ask("/hang")
        page.call("Page.navigate", url=f"http://127.0.0.1:{admin_port(live)}/")
        wait_until(lambda: "/hang" in page.text("workers"), LONGEST_S, "the request is shown")
        wait_until(lambda: "ready: worker 2" in page.text("events"), LONGEST_S, "events are shown")
        assert violations(page, axe) == []
        page.value("document.getElementById('token').value = 'wrong-but-long-enough'")
        page.value("document.getElementById('reload').click()")
        wait_until(lambda: "the token is wrong" in page.text("result"), LONGEST_S, "a result is shown")
        assert violations(page, axe) == []
        (live.folder / "go-on").touch()
        assert busy.response().status == 200
    live.stop(signal.SIGQUIT)
    wait_until(lambda: not page.value("document.getElementById('lost').hidden"), LONGEST_S, "the connection is lost")
    assert violations(page, axe) == []
