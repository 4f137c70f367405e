"""The flame graph in a browser: a click enlarges a box, and a search colours what it finds."""

import pathlib
import shutil
import subprocess
from xml.etree import ElementTree

import pytest

from wsgicluster.ctl.profiling import flame_graph

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SVG = "{http://www.w3.org/2000/svg}"
COUNTS = {("main", "pay"): 70, ("main", "read"): 20, ("main",): 10}
ACTS = """<script>
boxes.filter(function (box) { return box.dataset.name == 'pay'; })[0].dispatchEvent(new Event('click'));
window.prompt = function () { return 'READ'; };
document.getElementById('search').dispatchEvent(new Event('click'));
</script></svg>"""

pytestmark = [pytest.mark.live, pytest.mark.skipif(BROWSER is None, reason="needs Chromium")]


def test_a_click_and_a_search(tmp_path: pathlib.Path) -> None:
    assert BROWSER is not None
    picture = tmp_path / "profile.svg"
    picture.write_text(flame_graph.svg(COUNTS, "title", "subtitle").replace("</svg>", ACTS), "utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [*command, "--dump-dom", picture.as_uri()], capture_output=True, text=True, timeout=90, check=True
    )
    text = done.stdout.partition("<script>")[0] + "</svg>"
    tree = ElementTree.fromstring(text)
    found = {box.attrib["data-name"]: box for box in tree.iter(f"{SVG}g")}
    pay = found["pay"].find(f"{SVG}rect")
    assert pay is not None
    assert float(pay.attrib["width"]) == pytest.approx(flame_graph.WIDTH, abs=1)
    assert found["read"].attrib["style"] == "display: none;"
    assert [each.text for each in tree.iter(f"{SVG}text") if each.attrib.get("id") == "found"] == [
        "20.0 % contain READ"
    ]
