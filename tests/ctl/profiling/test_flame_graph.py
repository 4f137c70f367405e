"""The picture of a profile: one file, valid XML, boxes as wide as their share, nothing from elsewhere."""

import re
from xml.etree import ElementTree

from wsgicluster.ctl.profiling import flame_graph

SVG = "{http://www.w3.org/2000/svg}"
COUNTS = {("main", "pay"): 70, ("main", "read"): 20, ("main",): 10}


def boxes(text: str) -> dict[str, ElementTree.Element]:
    tree = ElementTree.fromstring(text.encode())
    return {box.attrib["data-name"]: box for box in tree.iter(f"{SVG}g")}


def test_boxes_are_as_wide_as_their_share_and_have_a_tooltip() -> None:
    found = boxes(flame_graph.svg(COUNTS, "title", "subtitle"))
    assert {name: float(box.attrib["data-w"]) for name, box in found.items()} == {
        "all": 1.0, "main": 1.0, "pay": 0.7, "read": 0.2,
    }  # fmt: skip
    assert float(found["read"].attrib["data-x"]) == 0.7
    assert found["pay"].findtext(f"{SVG}title") == "pay: 70 samples, 70.0 %"
    rows = {name: float(box.find(f"{SVG}rect").attrib["y"]) for name, box in found.items()}  # type: ignore[union-attr]
    assert rows["all"] > rows["main"] > rows["pay"] == rows["read"], "what is called is above"


def test_any_name_is_valid_xml() -> None:
    name = '<listcomp> "a" & \x00\x1b ]]> (b.py)'
    (_, box) = boxes(flame_graph.svg({(name,): 1}, "<title>", "a & b")).items()
    assert box[0] == '<listcomp> "a" & ?? ]]> (b.py)'


def test_nothing_comes_from_elsewhere() -> None:
    text = flame_graph.svg(COUNTS, "title", "subtitle")
    assert re.findall(r"https?://[^\"]*", text) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"href|src=|url\(|@import|eval\(|innerHTML", text)


def test_boxes_that_nobody_would_see_are_left_out_and_deep_stacks_are_drawn() -> None:
    deep = tuple(f"f{depth}" for depth in range(3000))
    found = boxes(flame_graph.svg({deep: 100_000, ("rare",): 1}, "title", "subtitle"))
    assert len(found) == 3001
    assert "rare" not in found


def test_without_samples_there_is_an_empty_picture() -> None:
    assert list(boxes(flame_graph.svg({}, "title", "subtitle"))) == []
