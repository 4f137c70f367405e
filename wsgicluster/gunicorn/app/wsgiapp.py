"""``WSGIApplication``: serves the application that ``app_uri`` names."""

from collections.abc import Sequence
from typing import Any

from wsgicluster.errors import UsageError
from wsgicluster.gunicorn.app.base import Application
from wsgicluster.wsgi.loader import load_callable


class WSGIApplication(Application):
    """What the command does, as a class; ``app_uri`` is ``module:application``."""

    app_uri: str | None = None

    def init(self, parser: Any, opts: Any, args: Sequence[str]) -> Any:
        """Take the application's name from the command line."""
        if args:
            self.app_uri = args[0]

    def load_config(self) -> None:
        """Read all sources; one of them has to name the application."""
        super().load_config()
        self.app_uri = self.app_uri or self.cfg.wsgi_app
        if not self.app_uri:
            raise UsageError("APPLICATION: not given; expected the application, such as module:application")

    def load(self) -> Any:
        """Import the application."""
        return load_callable(self.app_uri or "")


def run(prog: str | None = None) -> None:
    """Run the command."""
    WSGIApplication("%(prog)s [OPTIONS] [APP_MODULE]", prog=prog).run()
