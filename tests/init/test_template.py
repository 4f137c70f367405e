"""The files that are written: valid, and with the defaults that the server has."""

import pathlib
import re
from collections.abc import Callable, Sequence

import pytest

from wsgicluster.init.detection import Candidate, Certainty
from wsgicluster.init.template import common, full
from wsgicluster.settings import SETTINGS, Settings, load

FLASK = Candidate("shop:app", "Flask", "shop.py", Certainty.KNOWN_FRAMEWORK)
OTHER = Candidate("wsgi:application", "", "wsgi.py", Certainty.USUAL_NAME)
ASGI = Candidate("api:app", "FastAPI", "api.py", Certainty.ASGI)
LEFT_OUT = {"wsgi_app", "weights", "sticky"}
"""An example; and what is for another scheduling than the usual."""
_DEFAULT = re.compile(r"^# (\w+) = (.*)$", re.MULTILINE)


def loaded(folder: pathlib.Path, text: str) -> Settings:
    (folder / "wsgicluster.conf.py").write_text(text)
    found = load(["--print-config"], {}, str(folder))  # which needs no application
    assert found.remarks == ()
    return found.settings


@pytest.mark.parametrize("found", [[], [FLASK], [FLASK, OTHER, ASGI], [ASGI], [OTHER]])
@pytest.mark.parametrize("write", [common, full])
def test_it_is_valid(
    write: Callable[[Sequence[Candidate]], str], found: list[Candidate], tmp_path: pathlib.Path
) -> None:
    text = write(found)
    settings = loaded(tmp_path, text)
    served = [each for each in found if each is not ASGI]
    assert settings.wsgi_app == (served[0].target if served else "")
    assert ("api:app (FastAPI) is an ASGI application" in text) == (ASGI in found)
    assert ("wsgi:application" in text) == (OTHER in found)
    assert max(map(len, text.splitlines())) <= 140


def test_only_few_lines_are_in_force() -> None:
    lines = [line for line in common([FLASK]).splitlines() if line and not line.startswith("#")]
    assert lines == ['wsgi_app = "shop:app"', 'bind = "127.0.0.1:8000"', 'workers = "auto"']
    assert [line for line in full([FLASK]).splitlines() if line and not line.startswith("#")] == lines[:1]


def test_the_full_file_has_every_setting() -> None:
    shown = {name for name, _ in _DEFAULT.findall(full([]))}
    assert SETTINGS.keys() - shown == {"config", "print_config", "check_config", "doctor"}


def test_lines_that_are_uncommented_set_the_defaults(tmp_path: pathlib.Path) -> None:
    for text in (common([]), full([])):
        rows = [(name, value) for name, value in _DEFAULT.findall(text) if name not in LEFT_OUT]
        assert len(rows) > 10
        settings = loaded(tmp_path, "".join(f"{name} = {value}\n" for name, value in rows))
        defaults = load(["--print-config"], {}, "/").settings
        assert {name for name in SETTINGS if getattr(settings, name) != getattr(defaults, name)} <= {"config"}
