"""Draws diagrams as SVG within a page, in the page's own colours: readable in light and dark, and on a phone.

A drawing is 480 units wide at most, so that its text keeps a readable size on a screen of 390 pixels. It says in one
sentence, for those who do not see it, what it shows. What the diagrams show is in ``diagrams.py``.
"""

import dataclasses
import html

ROOM_PX = 480
"""The width of the widest drawing; one pixel is one unit where there is room."""
_LINE = 17
_CHARACTER = 6.9
"""The width that a character of a label needs, on the safe side."""


@dataclasses.dataclass
class Drawing:
    """Shapes that are put on a canvas one after the other; positions and sizes are in units of the canvas.

    ``name`` is unique among the drawings of a page, ``meaning`` is the sentence that a screen reader reads.
    """

    name: str
    height: int
    meaning: str
    width: int = ROOM_PX
    parts: list[str] = dataclasses.field(default_factory=list)

    def box(self, x: float, y: float, width: float, height: float, *lines: str, kind: str = "box") -> None:
        """A box with lines of text in its middle, the first of which is its name."""
        longest = max(map(len, lines), default=0)
        if longest * _CHARACTER > width:
            raise ValueError(f"{self.name}: {lines}: {width} units are too few")
        self.parts.append(f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="5"/>')
        top = y + height / 2 - (len(lines) - 1) * _LINE / 2 + 5
        for at, line in enumerate(lines):
            self.text(x + width / 2, top + at * _LINE, line, kind="small" if at else "name")

    def bar(self, x: float, y: float, width: float, height: float, kind: str) -> None:
        """A stretch of time, without text."""
        self.parts.append(f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"/>')

    def text(self, x: float, y: float, text: str, anchor: str = "middle", kind: str = "small") -> None:
        """A line of text; ``anchor`` is start, middle or end."""
        room = {"start": self.width - x, "end": x, "middle": 2 * min(x, self.width - x)}[anchor]
        if len(text) * _CHARACTER > room:
            raise ValueError(f"{self.name}: {text!r}: {room:g} units are too few")
        shown = html.escape(text, quote=False)
        self.parts.append(f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{shown}</text>')

    def line(self, *points: tuple[float, float], kind: str = "line") -> None:
        """A line through these points."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        self.parts.append(f'<polyline class="{kind}" points="{path}"/>')

    def arrow(self, *points: tuple[float, float], kind: str = "line") -> None:
        """A line through these points, with a head at its end."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        self.parts.append(f'<polyline class="{kind}" points="{path}" marker-end="url(#{self.name}-head)"/>')

    def svg(self) -> str:
        """The element, to be put into a page of HTML."""
        head = (
            f'<svg class="drawing" role="img" aria-label="{html.escape(self.meaning)}" '
            f'viewBox="0 0 {self.width} {self.height}" width="{self.width}" height="{self.height}">'
            f'<defs><marker id="{self.name}-head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
            'markerHeight="8" orient="auto-start-reverse"><path class="head" d="M0,0 L8,4 L0,8 z"/></marker></defs>'
        )
        return head + "".join(self.parts) + "</svg>"
