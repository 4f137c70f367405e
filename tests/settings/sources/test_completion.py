"""Completion of the server's own command, tried in bash."""

import shutil
import subprocess

import pytest

from wsgicluster.errors import UsageError
from wsgicluster.settings.fields import SETTINGS
from wsgicluster.settings.sources.completion import SHELLS, completion, main


@pytest.mark.parametrize("shell", SHELLS)
def test_every_flag_is_there(shell: str) -> None:
    words = completion(shell, ["init"]).replace('"', " ").split()
    prefix = "" if shell == "fish" else "--"
    for setting in SETTINGS.values():
        for flag in setting.about.flags:
            assert not flag.startswith("--") or prefix + flag.removeprefix("--") in words
    assert f"{prefix}help-all" in words
    assert f"{prefix}dirty-app" not in words  # of Gunicorn, and without effect


@pytest.mark.parametrize("given", [["tcsh"], [], ["bash", "zsh"]])
def test_a_shell_that_is_not_known(given: list[str]) -> None:
    with pytest.raises(UsageError, match=r"^completion: .*"):
        main(given, [])


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "expected"),
    [(["in"], "init"), (["--preloa"], "--preload"), (["app:app", "--preloa"], "--preload"), (["app:app", "in"], "")],
)
def test_it_completes(words: list[str], expected: str) -> None:
    line = " ".join(["wsgicluster", *words])
    script = (
        f"{completion('bash', ['init', 'ctl'])}COMP_WORDS=({line}) COMP_CWORD={len(words)}\n"
        '_wsgicluster; echo "${COMPREPLY[*]}"'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout.strip(), done.stderr) == (expected, "")
