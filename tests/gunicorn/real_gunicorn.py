"""The real Gunicorn that tests compare with: where it is, and how to make an environment that has it.

``python tests/gunicorn/real_gunicorn.py`` makes the environment in build/gunicorn, where tests find it.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from dataclasses import dataclass

ROOT = pathlib.Path(__file__).parent.parent.parent
FOLDER = ROOT / "build" / "gunicorn"
VARIABLE = "GUNICORN_TO_COMPARE"
"""Names the program ``gunicorn`` of another environment."""

NEWEST = (27,)
"""The version that the table of differences is about, or a later one. Of older ones only the names of settings are
compared."""

PACKAGES = (
    f"gunicorn[http2]>={NEWEST[0]}",
    "django>=5.2",
    "flask>=3",
    "pastedeploy>=3",
    "psutil",
    "pyramid>=2",
    "setproctitle",
)
"""Also what deployments need that run under both servers, and what wsgicluster needs to be run in there."""

MAKE = "python tests/gunicorn/real_gunicorn.py"
ABSENT = f"no real Gunicorn is here; {VARIABLE} may name one, {MAKE} installs one"


@dataclass(frozen=True)
class RealGunicorn:
    """A Gunicorn that is installed: its ``program``, and the ``python`` beside that, which can import it."""

    program: pathlib.Path
    python: pathlib.Path

    def version(self) -> tuple[int, ...]:
        """Its version, as numbers."""
        code = "import gunicorn; print(*gunicorn.version_info[:3])"
        done = subprocess.run([str(self.python), "-c", code], capture_output=True, text=True, timeout=60, check=True)
        return tuple(map(int, done.stdout.split()))

    def can_import(self, *modules: str) -> bool:
        """Whether its environment has these modules, too."""
        look = f"import importlib.util; assert all(map(importlib.util.find_spec, {modules!r}))"
        command = [str(self.python), "-c", look]
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0


def find() -> RealGunicorn | None:
    """The one that the environment names, that was made here, or that is installed; None where there is none."""
    for program in _candidates():
        # Not resolved: a link to the interpreter alone would leave the environment.
        python = program.parent / "python"
        if program.exists() and python.exists():
            return RealGunicorn(program, python)
    return None


def _candidates() -> Iterator[pathlib.Path]:
    named = os.environ.get(VARIABLE)
    if named:
        yield pathlib.Path(named)
        return
    yield FOLDER / "bin" / "gunicorn"
    yield pathlib.Path("~/.cache/wsgicluster-peers/bin/gunicorn").expanduser()
    installed = shutil.which("gunicorn")
    if installed:
        yield pathlib.Path(installed)


def make(folder: pathlib.Path = FOLDER) -> None:
    """Make the environment, or bring it up to date. Raises CalledProcessError without a registry of packages."""
    if not (folder / "bin" / "pip").exists():
        venv.create(folder, with_pip=True, clear=True)
    # Without a network this has to end soon.
    patience = ["--retries", "1", "--timeout", "20", "--disable-pip-version-check"]
    subprocess.run([folder / "bin" / "pip", "install", "-q", *patience, *PACKAGES], check=True)


if __name__ == "__main__":
    try:
        make()
    except subprocess.CalledProcessError:
        sys.exit("Gunicorn could not be installed")
    print(FOLDER / "bin" / "gunicorn")
