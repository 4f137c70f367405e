"""The dashboard: one page that asks nothing of any other server, and a policy that lets it ask nothing.

The page shows what ``/status`` and ``/events`` say, by a script and a style of its own; the policy names both by their
hashes (Content Security Policy, Level 3).
"""

import base64
import hashlib
import pathlib
import re

from wsgicluster.admin.exchange import AdminResponse

PAGE = pathlib.Path(__file__).with_name("dashboard.html")


def inline(page: str, element: str) -> list[str]:
    """What stands in the elements of a name, which have no attributes."""
    return re.findall(rf"<{element}>(.*?)</{element}>", page, re.DOTALL)


def _hashes(page: str, element: str) -> str:
    digests = (hashlib.sha256(text.encode()).digest() for text in inline(page, element))
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)


def policy_of(page: str) -> str:
    """The Content-Security-Policy of a page: its own script and style, and what this server itself gives."""
    return (
        f"default-src 'none'; script-src {_hashes(page, 'script')}; style-src {_hashes(page, 'style')}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def dashboard() -> AdminResponse:
    """The page."""
    page = PAGE.read_text("utf-8")
    fields = (("Content-Security-Policy", policy_of(page)), ("Referrer-Policy", "no-referrer"))
    return AdminResponse(200, "text/html; charset=utf-8", page.encode(), fields)
