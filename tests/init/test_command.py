"""The command: a file that is written whole or not at all, and errors of one line."""

import os
import pathlib
import resource
import stat

import pytest

from tests.forked import Forked
from wsgicluster.cli import main
from wsgicluster.errors import ServerError
from wsgicluster.init.command import write

NAME = "wsgicluster.conf.py"


@pytest.fixture(autouse=True)
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    (tmp_path / "shop.py").write_text("from flask import Flask\napp = Flask(__name__)\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 1) -> str:
    assert main(["init", *arguments]) == code
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    return err.removeprefix("wsgicluster: error: init: ").rstrip("\n")


def test_it_writes_and_says_how_to_start(folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init"]) == 0
    assert capsys.readouterr().out == f"wrote {NAME} for shop:app (shop.py, Flask)\nstart it with: wsgicluster\n"
    assert 'wsgi_app = "shop:app"' in (folder / NAME).read_text()
    assert main(["init", "other:make()", "-o", "x.py", "--full"]) == 0
    assert capsys.readouterr().out.endswith("start it with: wsgicluster -c x.py\n")
    assert 'wsgi_app = "other:make()"' in (folder / "x.py").read_text()
    assert sorted(os.listdir()) == ["shop.py", NAME, "x.py"]
    assert main(["init", "--output", "-"]) == 0
    assert capsys.readouterr().out == (folder / NAME).read_text()


def test_a_folder_without_an_application(folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "shop.py").unlink()
    assert main(["init"]) == 0
    assert capsys.readouterr().out.startswith(f"wrote {NAME}; no application was found here: name it as wsgi_app")
    (folder / "api.py").write_text("app = FastAPI()")
    assert main(["init", "--force"]) == 0
    assert "as in api.py, cannot be served" in capsys.readouterr().out


def test_a_file_that_is_there_is_kept(folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / NAME).write_text("workers = 3\n")
    (folder / NAME).chmod(0o640)
    assert refused(capsys) == f"{NAME} exists; give --force to replace it, or --output for another file"
    assert (folder / NAME).read_text() == "workers = 3\n"
    assert main(["init", "-f"]) == 0
    assert "shop:app" in (folder / NAME).read_text()
    assert stat.S_IMODE((folder / NAME).stat().st_mode) == 0o640


def test_gunicorns_file_stays_in_use(folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "gunicorn.conf.py").touch()
    assert refused(capsys).startswith("gunicorn.conf.py is here, which the server reads as it is")
    assert main(["init", "-o", "mine.py"]) == 0
    assert main(["init", "--force"]) == 0


def test_a_link_stays_one(folder: pathlib.Path) -> None:
    (folder / "real.py").touch()
    (folder / NAME).symlink_to("real.py")
    assert main(["init", "--force"]) == 0
    assert (folder / NAME).is_symlink()
    assert "shop:app" in (folder / "real.py").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["-o", "gone/x.py"], 1, "cannot write gone/x.py: No such file or directory"),
        (["-o", "shop.py/x.py"], 1, "cannot write shop.py/x.py: Not a directory"),
        (["-f", "-o", "."], 1, "cannot write .: "),
        (["-o", "/sys/x.py"], 1, "cannot write /sys/x.py: "),  # not even by root
        (["--ful"], 2, "unrecognized arguments: --ful"),
        ([""], 2, "'': not an application; expected module:attribute or module:factory()"),
        (['a"b'], 2, "'a\"b': not an application"),
    ],
)
def test_errors_are_one_line(arguments: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, *arguments, code=code).startswith(says)
    assert os.listdir() == ["shop.py"]


def test_a_full_disk_leaves_what_was_there(folder: pathlib.Path) -> None:
    (folder / NAME).write_text("workers = 3\n")

    def write_too_much() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))  # Python ignores SIGXFSZ: EFBIG, as ENOSPC
        os._exit(main(["init", "--force"]))

    with Forked(write_too_much) as child:
        assert child.code() == 1
    assert (folder / NAME).read_text() == "workers = 3\n"
    assert sorted(os.listdir()) == ["shop.py", NAME]


def test_a_file_that_appears_meanwhile_is_kept(folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / NAME).write_text("workers = 3\n")
    with pytest.raises(ServerError, match="File exists"):
        write(NAME, "text", force=False)
    assert (folder / NAME).read_text() == "workers = 3\n"
