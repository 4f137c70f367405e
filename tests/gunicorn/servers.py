"""Servers of the real Gunicorn, used as our own are."""

from tests.conftest import LiveServer
from tests.gunicorn.real_gunicorn import find


class GunicornServer(LiveServer):
    """The same command with the one word changed. Its log has ``Listening at``, too, but not ``Started``."""

    def program(self) -> list[str]:
        """What is started, without its arguments."""
        gunicorn = find()
        assert gunicorn is not None, "tests that need one ask for the fixture real_gunicorn"
        return [str(gunicorn.program)]
