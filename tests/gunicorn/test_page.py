"""The page about moving from Gunicorn has every setting of it."""

import runpy

import pytest

from tests.conftest import ROOT
from wsgicluster.migrate.table import ROWS

TABLE: str = runpy.run_path(str(ROOT / "docs/conf.py"))["differences"]()


@pytest.mark.parametrize("name", sorted(ROWS))
def test_every_setting_is_there(name: str) -> None:
    assert f"``{name}``" in TABLE


def test_the_page_includes_it() -> None:
    assert ".. include:: gunicorn-differences.inc" in (ROOT / "docs/howto/gunicorn.rst").read_text("utf-8")
