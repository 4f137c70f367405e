"""``cfg`` as hooks and applications of Gunicorn's kind see it: every setting under its name, in Gunicorn's shapes."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from wsgicluster.settings import Settings
from wsgicluster.settings.fields import SETTINGS
from wsgicluster.settings.sources.gunicorn_names import ACCEPTED
from wsgicluster.settings.types.hooks import NAMES
from wsgicluster.settings.types.values import TcpAddress, UnixAddress
from wsgicluster.worker.hooks import OF_KIND

_WITHOUT_EFFECT: Mapping[str, Any] = {
    "asgi_lifespan": "auto", "asgi_loop": "auto", "disable_redirect_access_to_syslog": False, "dogstatsd_tags": "",
    "enable_backlog_metric": False, "enable_stdio_inheritance": False, "http_parser": "auto", "http_protocols": ["h1"],
    "reload_engine": "auto", "spew": False, "statsd_prefix": "", "syslog": False, "syslog_facility": "user",
}  # fmt: skip
"""The values that Gunicorn has by default where nothing is done here."""


def _nothing(*_arguments: object) -> None:
    """A hook that is not set."""


class SettingView:
    """One setting, as ``cfg.settings`` has it."""

    def __init__(self, name: str, get: Callable[[], Any], default: Any) -> None:
        self.name = name
        self.default = default
        self.get = get

    @property
    def value(self) -> Any:
        """Its value."""
        return self.get()


class Configuration:
    """The settings of a server, to be read; ``settings`` has their names."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def settings(self) -> dict[str, SettingView]:
        """All settings by name."""
        return {name: SettingView(name, functools.partial(getattr, self, name), _default(name)) for name in names()}

    @property
    def address(self) -> list[Any]:
        """Where the server listens: a tuple of host and port, the path of a Unix socket, or a text."""
        return [_place(each) for each in self._settings.bind]

    @property
    def uid(self) -> int:
        """The user ID of workers."""
        return self._settings.user

    @property
    def gid(self) -> int:
        """The group ID of workers."""
        return self._settings.group

    @property
    def is_ssl(self) -> bool:
        """Whether clients have to use TLS."""
        return self._settings.has_tls

    @property
    def worker_class_str(self) -> str:
        """The name of the kind of workers."""
        kind = self._settings.worker_class
        return kind if isinstance(kind, str) else kind.__qualname__

    @property
    def proc_name(self) -> str:
        """What the server is called in process titles."""
        return self._settings.proc_name or self._settings.default_proc_name or self._settings.wsgi_app

    @property
    def env(self) -> dict[str, str]:
        """``raw_env`` as a dictionary."""
        return dict(entry.partition("=")[::2] for entry in self._settings.raw_env)

    @property
    def workers(self) -> int:
        """How many workers there are at the start."""
        return int(self._settings.workers)

    @property
    def worker_class(self) -> Any:
        """The class of workers, or how it is named where that is not imported here."""
        kind = self._settings.worker_class
        return OF_KIND.get(kind, kind) if isinstance(kind, str) else kind

    def __getattr__(self, name: str) -> Any:
        if name in NAMES:
            return getattr(self._settings, name) or _nothing
        if name in SETTINGS:
            return _shape(name, getattr(self._settings, name))
        if name in ACCEPTED:
            return _WITHOUT_EFFECT.get(name)
        raise AttributeError(f"no setting {name!r}")

    def __iter__(self) -> Iterator[str]:
        return iter(names())


def names() -> list[str]:
    """The names of all settings: ours, and those that are accepted without effect."""
    return [*SETTINGS, *ACCEPTED]


def _default(name: str) -> Any:
    return _shape(name, SETTINGS[name].default) if name in SETTINGS else _WITHOUT_EFFECT.get(name)


def _shape(name: str, value: Any) -> Any:
    if name == "bind":
        return [str(each) for each in value]
    if name == "syslog_addr":
        return str(value)
    return list(value) if type(value) is tuple else value


def _place(address: object) -> Any:
    if isinstance(address, TcpAddress):
        return (address.host, address.port)
    return address.path if isinstance(address, UnixAddress) else str(address)
