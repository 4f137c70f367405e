"""Servers of the real Gunicorn, used as our own are."""

import subprocess
from collections.abc import Sequence

from tests.conftest import LiveServer
from tests.gunicorn.real_gunicorn import find


class GunicornServer(LiveServer):
    """The same command with the one word changed. Its log has ``Listening at``, too, but not ``Started``."""

    def start(self, prefix: Sequence[str] = ()) -> "GunicornServer":
        """Start the process; does not wait for anything."""
        gunicorn = find()
        assert gunicorn is not None, "tests that need one ask for the fixture real_gunicorn"
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*prefix, str(gunicorn.program), *self.arguments],
                cwd=self.folder,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self
