"""The addresses of the project have one place."""

import re

from tests.conftest import ROOT
from wsgicluster.version import DOCS, HOME


def test_no_page_names_another_address() -> None:
    assert DOCS.startswith(f"{HOME}/")
    for name in ("README.rst", "SECURITY.rst", "CONTRIBUTING.rst", "setup.cfg", "docs/contributing/releasing.rst"):
        text = (ROOT / name).read_text("utf-8")
        assert all(url.startswith(HOME) for url in re.findall(r"https://github\.com[^\s,<>]*", text)), name
