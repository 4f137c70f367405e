"""The dashboard's page: nothing of others in it, a policy that allows nothing else, and colours that can be read."""

import base64
import hashlib
import re

import pytest

from wsgicluster.admin.dashboard import PAGE, dashboard, inline, policy_of

LEAST_CONTRAST = 4.5
"""WCAG 2.2, success criterion 1.4.3, level AA, for text of any size."""
TEXTS = ("text", "muted", "accent", "good", "bad")


def luminance(colour: str) -> float:
    """Relative luminance of ``#rrggbb``, as WCAG 2.2 defines it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def schemes() -> list[dict[str, str]]:
    """The colours of the light scheme and of the dark one."""
    blocks = re.findall(r":root \{(.*?)\}", PAGE.read_text("utf-8"), re.DOTALL)
    return [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for block in blocks]


def test_the_page_comes_with_its_policy() -> None:
    response = dashboard()
    fields = dict(response.fields)
    assert response.content_type == "text/html; charset=utf-8"
    assert response.body == PAGE.read_bytes()
    assert "default-src 'none'" in fields["Content-Security-Policy"]
    assert "unsafe" not in fields["Content-Security-Policy"]


@pytest.mark.parametrize("element", ["script", "style"])
def test_the_policy_names_what_is_in_the_page(element: str) -> None:
    page = PAGE.read_text("utf-8")
    (text,) = inline(page, element)
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    assert f"{element}-src 'sha256-{digest}';" in policy_of(page)
    assert page.count(f"<{element}") == 1, "no other one"


def test_nothing_is_taken_from_elsewhere() -> None:
    page = PAGE.read_text("utf-8")
    addresses = set(re.findall(r"(?:https?:)?//[a-z][\w.-]*\.[a-z]+[\w./]*", page))
    assert addresses == {"http://www.w3.org/2000/svg"}, "the name of a kind of elements, which is not fetched"
    assert not re.search(r"\s(?:src|style|on\w+)=", page), "nothing that the policy would refuse"
    assert set(re.findall(r'href="([^"]*)"', page)) == {"data:,"}
    assert "innerHTML" not in page, "what a client has sent is never taken for elements"


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_texts_can_be_read(scheme: int) -> None:
    colours = schemes()[scheme]
    for text in TEXTS:
        for back in ("back", "card"):
            assert contrast(colours[text], colours[back]) >= LEAST_CONTRAST, (text, back)
    assert contrast(colours["on-button"], colours["button"]) >= LEAST_CONTRAST


def test_contrast_is_what_wcag_says() -> None:
    assert round(contrast("#000000", "#ffffff"), 2) == 21
    assert round(contrast("#767676", "#ffffff"), 2) == 4.54
