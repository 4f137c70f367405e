"""A flame graph as one SVG file: no other file and no network is needed to look at it. Pure.

Each box is a function, as wide as its share of the samples; what it has called is above it. A tooltip has the figures.
A click on a box makes it as wide as the picture, and a search colours what it finds, by the script in the file.
"""

import dataclasses
import zlib
from collections.abc import Iterator, Mapping
from xml.sax.saxutils import escape

from wsgicluster.ctl.profiling.samples import Stack
from wsgicluster.dataclass import dataclass

WIDTH, ROW, MARGIN, TOP = 1200, 17, 10, 60
LEAST_WIDTH = 0.3
"""Narrower boxes are left out, in pixels: nobody sees them."""
_CHARACTER = 6.6
_SCRIPT = """
var boxes = Array.from(document.querySelectorAll('g.box')), left = 0, share = 1;
function place() {
  boxes.forEach(function (box) {
    var x = (box.dataset.x - left) / share, w = box.dataset.w / share;
    var from = Math.max(0, x), to = Math.min(1, x + w), shown = to - from > 0.0002;
    box.style.display = shown ? '' : 'none';
    if (!shown) return;
    var rect = box.querySelector('rect'), text = box.querySelector('text');
    rect.setAttribute('x', MARGIN + from * WIDTH);
    rect.setAttribute('width', Math.max(0.1, (to - from) * WIDTH - 0.5));
    text.setAttribute('x', MARGIN + from * WIDTH + 3);
    var room = Math.floor(((to - from) * WIDTH - 6) / 6.6), name = box.dataset.name;
    text.textContent = room < 3 ? '' : name.length <= room ? name : name.slice(0, room - 1) + '\\u2026';
  });
}
boxes.forEach(function (box) {
  box.addEventListener('click', function () { left = +box.dataset.x; share = +box.dataset.w; place(); });
});
document.getElementById('reset').addEventListener('click', function () { left = 0; share = 1; place(); });
document.getElementById('search').addEventListener('click', function () {
  var wanted = prompt('Functions or files that contain:', ''), found = [];
  boxes.forEach(function (box) {
    var hit = wanted && box.dataset.name.toLowerCase().indexOf(wanted.toLowerCase()) >= 0;
    box.querySelector('rect').style.fill = hit ? '#6a5acd' : '';
    if (hit) found.push([+box.dataset.x, +box.dataset.w]);
  });
  found.sort(function (a, b) { return a[0] - b[0] || b[1] - a[1]; });
  var sum = 0, end = -1;
  found.forEach(function (each) {
    if (each[0] >= end - 1e-9) { sum += each[1]; end = each[0] + each[1]; }
  });
  document.getElementById('found').textContent = wanted ? (100 * sum).toFixed(1) + ' % contain ' + wanted : '';
});
"""


@dataclass
class CallNode:
    """A function where it was called in this way, how many samples have it, and what it has called."""

    name: str
    count: int = 0
    called: "dict[str, CallNode]" = dataclasses.field(default_factory=dict)


def tree(counts: Mapping[Stack, int]) -> CallNode:
    """The stacks joined where they begin alike."""
    root = CallNode("all")
    for stack, count in counts.items():
        node = root
        node.count += count
        for frame in stack:
            node = node.called.setdefault(frame, CallNode(frame))
            node.count += count
    return root


def _boxes(node: CallNode, x: float, depth: int, total: int) -> Iterator[tuple[CallNode, float, int]]:
    """All nodes with their places: left edge as a share, and how deep; those that nobody would see are left out."""
    todo = [(node, x, depth)]
    while todo:
        at, left, level = todo.pop()
        if at.count / total * WIDTH < LEAST_WIDTH:
            continue
        yield at, left, level
        edge = left
        for name in sorted(at.called):
            todo.append((at.called[name], edge, level + 1))
            edge += at.called[name].count / total


def _colour(name: str) -> str:
    """The same one for a name each time, in the colours of fire."""
    value = zlib.crc32(name.encode("utf-8", "replace"))
    return f"rgb({205 + value % 50},{90 + value // 50 % 130},{40 + value // 6500 % 40})"


def svg(counts: Mapping[Stack, int], title: str, subtitle: str) -> str:
    """The picture; ``subtitle`` says what was sampled."""
    root = tree(counts)
    total = max(1, root.count)
    found = list(_boxes(root, 0.0, 0, total))
    deepest = max((depth for _, _, depth in found), default=0)
    height = TOP + (deepest + 1) * ROW + MARGIN
    whole = WIDTH + 2 * MARGIN
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{whole}" height="{height}" viewBox="0 0 {whole} {height}"',
        ' font-family="monospace" font-size="11">',
        "<style>g.box{cursor:pointer} g.box:hover rect{stroke:#000} .button{cursor:pointer;fill:#2a5db0}</style>",
        '<rect width="100%" height="100%" fill="#fffdf7"/>',
        f'<text x="{MARGIN}" y="20" font-size="15">{escape(title)}</text>',
        f'<text x="{MARGIN}" y="38">{escape(subtitle)}</text>',
        f'<text id="reset" class="button" x="{MARGIN}" y="54">Show all</text>',
        f'<text id="search" class="button" x="{MARGIN + 80}" y="54">Search</text>',
        f'<text id="found" x="{MARGIN + 150}" y="54"></text>',
    ]
    lines += [_box(node, x, deepest - depth, total) for node, x, depth in found]
    script = _SCRIPT.replace("MARGIN", str(MARGIN)).replace("WIDTH", str(WIDTH))
    lines += [f"<script><![CDATA[{script}]]></script>", "</svg>"]
    return "\n".join(lines) + "\n"


def _box(node: CallNode, x: float, row: int, total: int) -> str:
    wide = node.count / total
    left, top, width = MARGIN + x * WIDTH, TOP + row * ROW, max(0.1, wide * WIDTH - 0.5)
    room = int((width - 6) / _CHARACTER)
    label = "" if room < 3 else node.name if len(node.name) <= room else f"{node.name[: room - 1]}\u2026"
    name = escape(_printable(node.name), {'"': "&quot;"})
    samples = f"{node.count} sample{'s' * (node.count != 1)}"
    return (
        f'<g class="box" data-x="{x:.6f}" data-w="{wide:.6f}" data-name="{name}">'
        f"<title>{name}: {samples}, {100 * wide:.1f} %</title>"
        f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{ROW - 1}" fill="{_colour(node.name)}" rx="1"/>'
        f'<text x="{left + 3:.1f}" y="{top + 12}">{escape(_printable(label))}</text></g>'
    )


def _printable(text: str) -> str:
    """Without characters that XML has no place for."""
    return "".join(character if character.isprintable() else "?" for character in text)
