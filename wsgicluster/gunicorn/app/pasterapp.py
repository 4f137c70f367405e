"""Servers that ``pserve`` starts: the section ``[server:main]`` of a file of Paste Deployment configures them.

The application has been loaded before the server starts, so that a reload replaces workers and loads nothing anew.
"""

from collections.abc import Callable
from typing import Any

from wsgicluster.gunicorn.app.base import Application
from wsgicluster.settings.paste import has_loggers

_WSGIApplication = Callable[..., Any]


class PasteServer(Application):
    """A server of the application, with the settings of its section; a configuration file comes before these.

    ``global_conf`` is ``[DEFAULT]``, whose ``__file__`` is the path of the file. In the section ``config`` is a
    configuration file; ``host`` and ``port`` are an address, ``host`` alone one or several; anything else is a setting.
    """

    def __init__(self, app: _WSGIApplication, global_conf: dict[str, str], section: dict[str, str]) -> None:
        self._app = app
        self._file = global_conf.get("__file__", "")
        self._section = dict(section)
        self._config = self._section.pop("config", None)
        host, port = self._section.pop("host", ""), self._section.pop("port", "")
        if host:
            self._section["bind"] = f"{host}:{port}" if port else host
        super().__init__()

    def load_config(self) -> None:
        """Set what the files say, the section last."""
        if self._file:
            self.cfg.set("default_proc_name", self._file)
            if has_loggers(self._file):
                self.cfg.set("logconfig", self._file)
        self.load_config_from_file(self._config)
        for name, value in self._section.items():
            self.cfg.set(name.lower(), value, f"{self._file} [server]")

    def load(self) -> Any:
        """The application of the file."""
        return self._app


def serve(app: _WSGIApplication, global_conf: dict[str, str], **section: str) -> None:
    """What ``use = egg:wsgicluster`` runs in a section ``[server:main]``; ends the program when the server stops."""
    PasteServer(app, global_conf, section).run()


def server_factory(global_conf: dict[str, str], **section: str) -> Callable[[_WSGIApplication], None]:
    """The same for tools that make a server first, and then give it the application."""
    return lambda app: serve(app, global_conf, **section)
