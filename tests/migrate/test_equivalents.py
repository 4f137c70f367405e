"""The shortest equivalent of a file or a command line means what that means."""

import dataclasses
import pathlib
import shlex
import sys

import pytest

from tests.gunicorn.config_files import APPLICATION, BASE_CONFIG, COMMAND_LINES, FILES, SHOP_LOGS, ConfigFile
from wsgicluster.migrate.equivalent import equivalent
from wsgicluster.migrate.findings import findings
from wsgicluster.migrate.reading import read, split
from wsgicluster.settings import Settings, load

WITHOUT_EFFECT = ("config", "worker_tmp_dir", "do_handshake_on_connect", "suppress_ragged_eofs", "check_config")


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    for name, text in (("app", APPLICATION), ("base_config", BASE_CONFIG), ("shop_logs", SHOP_LOGS)):
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


def of_effect(settings: Settings) -> dict[str, object]:
    return {name: value for name, value in dataclasses.asdict(settings).items() if name not in WITHOUT_EFFECT}


def compare(folder: pathlib.Path, words: list[str], environ: dict[str, str]) -> None:
    found = read(split(words), environ, str(folder))
    assert findings(found)
    instead = equivalent(found)
    if instead.kept or "***" in instead.command + instead.file:
        return  # the file stays, or its secrets are not repeated
    before = load(words, environ, str(folder)).settings
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "app.py").write_text(APPLICATION)
    if instead.file:
        (elsewhere / "wsgicluster.conf.py").write_text(instead.file)
    after = load(shlex.split(instead.command)[1:], environ, str(elsewhere)).settings
    assert of_effect(after) == of_effect(before), instead


@pytest.mark.parametrize("case", FILES, ids=lambda case: case.name)
def test_of_files(folder: pathlib.Path, case: ConfigFile, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in case.environ:
        monkeypatch.setenv(name, value)
    sys.modules.pop("base_config", None)
    (folder / "gunicorn.conf.py").write_text(case.source)
    compare(folder, ["app"], {name: value for name, value in case.environ if name != "GUNICORN_CMD_ARGS"})


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_of_command_lines(folder: pathlib.Path, line: str) -> None:
    compare(folder, shlex.split(line), {})
