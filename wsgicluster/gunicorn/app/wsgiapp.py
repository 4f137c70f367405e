"""``WSGIApplication``: serves the application that ``app_uri`` names."""

import os
from collections.abc import Sequence
from typing import Any

from wsgicluster.errors import UsageError
from wsgicluster.gunicorn.app.base import Application
from wsgicluster.settings.paste import URI, global_conf, has_loggers, located
from wsgicluster.wsgi.loader import load_callable
from wsgicluster.wsgi.paste import load_paste


class WSGIApplication(Application):
    """What the command does, as a class; ``app_uri`` is ``module:application``."""

    app_uri: str | None = None

    def init(self, parser: Any, opts: Any, args: Sequence[str]) -> Any:
        """Take the application's name from the command line."""
        paste_file = opts.given.get("paste")
        if paste_file:
            self._take_paste(str(paste_file))
        elif args:
            self.app_uri = args[0]

    def _take_paste(self, text: str) -> None:
        file, self.app_uri = located(text, os.getcwd(), "paste")
        self.cfg.set("default_proc_name", file)
        if has_loggers(file):
            self.cfg.set("logconfig", file)

    def load_config(self) -> None:
        """Read all sources; one of them has to name the application."""
        super().load_config()
        if self.cfg.paste and not self.app_uri:
            self._take_paste(self.cfg.paste)
        self.app_uri = self.app_uri or self.cfg.wsgi_app
        if not self.app_uri:
            raise UsageError("APPLICATION: not given; expected the application, such as module:application")

    def load(self) -> Any:
        """Import the application."""
        if self.cfg.paste:
            return load_paste(URI + (self.app_uri or ""), global_conf(tuple(self.cfg.raw_paste_global_conf)))
        return load_callable(self.app_uri or "")


def run(prog: str | None = None) -> None:
    """Run the command."""
    WSGIApplication("%(prog)s [OPTIONS] [APP_MODULE]", prog=prog).run()
