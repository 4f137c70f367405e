"""The page about moving from Gunicorn has every setting of it."""

import re

import pytest

from tests.conftest import ROOT
from tests.settings.test_fields import GUNICORN_FLAGS
from wsgicluster.settings.sources.gunicorn_names import ACCEPTED

PAGE = (ROOT / "docs/howto/gunicorn.rst").read_text("utf-8")
NAMES = [re.escape(name).replace(r"\*", r"\w*") for name in re.findall(r"``([\w*]+)``", PAGE)]


@pytest.mark.parametrize("name", sorted({*ACCEPTED, *GUNICORN_FLAGS}))
def test_every_setting_is_there(name: str) -> None:
    if name.startswith(("dirty", "on_dirty")):
        name = "dirty_"  # one row, with their hooks
    assert any(re.fullmatch(each, name) for each in NAMES), name
