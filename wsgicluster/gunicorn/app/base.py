"""``BaseApplication`` and ``Application``: a server as an object that is configured by overriding methods.

The names of methods and attributes are Gunicorn's, since classes of users override and read them.
"""

import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from wsgicluster.embedding import name_of, run
from wsgicluster.errors import ServerError
from wsgicluster.gunicorn.configuration import Configuration, names
from wsgicluster.settings import Loaded, Settings
from wsgicluster.settings.fields import SETTINGS
from wsgicluster.settings.sources import command_line
from wsgicluster.settings.sources.config_file import read_config
from wsgicluster.settings.sources.gunicorn_names import ACCEPTED
from wsgicluster.settings.sources.merge import fallbacks, load_values, read_sources, read_value


class OpenConfiguration(Configuration):
    """``cfg`` while it is being made: settings can be set."""

    def __init__(self, usage: str | None = None, prog: str | None = None) -> None:
        # As in Gunicorn, a program's own class begins with what platforms set, such as PORT.
        outside = fallbacks(os.environ)
        self.given: dict[str, Any] = dict(outside.values)
        read = {name: read_value(SETTINGS[name], self.given[name], outside.sources[name]) for name in self.given}
        super().__init__(Settings(**read))
        self.usage = usage
        self.prog = prog or os.path.basename(sys.argv[0])
        self.remarks: list[str] = []

    def set(self, name: str, value: Any, source: str = "cfg.set") -> None:
        """Give a setting a value, as the configuration file may have it. Raises AttributeError, and UsageError."""
        if name in ACCEPTED:
            remark = ACCEPTED[name].remark(value, source)
            self.remarks += [remark] if remark else []
            return
        if name not in SETTINGS:
            raise AttributeError(f"no configuration setting for: {name}")
        if any(type(value) is type(unset) and value == unset for unset in SETTINGS[name].about.type.unset):
            self.given.pop(name, None)
        else:
            read_value(SETTINGS[name], value, source)
            self.given[name] = value
        read = {each: read_value(SETTINGS[each], self.given[each], source) for each in self.given}
        self._settings = Settings(**read)

    def get(self, name: str) -> Any:
        """The value of a setting."""
        if name not in names():
            raise AttributeError(f"no configuration setting for: {name}")
        return getattr(self, name)


class BaseApplication:
    """A server whose class says what is served, by `load`, and how, by `load_config`, which calls ``self.cfg.set``."""

    def __init__(self, usage: str | None = None, prog: str | None = None) -> None:
        self.usage = usage
        self.prog = prog
        self.cfg: Any = None
        self.callable: Any = None
        self.logger: Any = None
        self.do_load_config()

    def do_load_config(self) -> None:
        """Make the configuration anew; ends the program with one line where that fails."""
        try:
            self.load_default_config()
            self.load_config()
        except (ServerError, AttributeError) as error:
            _fail(error)

    def load_default_config(self) -> None:
        """Begin with defaults."""
        self.cfg = OpenConfiguration(self.usage, prog=self.prog)

    def load_config(self) -> None:
        """To be overridden: set what is not to have its default."""
        raise NotImplementedError

    def load(self) -> Any:
        """To be overridden: return the application; called in each worker, or once with ``preload_app``."""
        raise NotImplementedError

    def init(self, parser: Any, opts: Any, args: Sequence[str]) -> Any:
        """May be overridden: return settings, of what is on the command line."""
        return None

    def reload(self) -> None:
        """Make the configuration anew, in a reload."""
        self.load_default_config()
        self.load_config()

    def wsgi(self) -> Any:
        """The application, loaded once."""
        if self.callable is None:
            self.callable = self.load()
        return self.callable

    def run(self) -> None:
        """Serve; ends the program when the server has stopped."""
        has_begun = False

        def read() -> Loaded:
            nonlocal has_begun
            if has_begun:
                self.reload()
            has_begun = True
            loaded = load_values({**self.cfg.given, "wsgi_app": name}, "cfg.set", directory)
            return Loaded(loaded.settings, loaded.sources, loaded.action, (*loaded.remarks, *self.cfg.remarks))

        name, directory = name_of(type(self)), os.getcwd()
        try:
            sys.exit(run(name, self.wsgi, read))
        except ServerError as error:
            _fail(error)


class Application(BaseApplication):
    """One that also reads the command line, the environment and the configuration file, as the command does."""

    def load_config_from_file(self, filename: str | None) -> None:
        """Set what a configuration file says, or the first default one that is there for None. Raises UsageError."""
        found = read_config(filename, os.getcwd())
        if found is not None:
            self.cfg.remarks += found.remarks
            for name, value in found.names.items():
                self.cfg.set(name, value, found.source)

    def load_config(self) -> None:
        """Set what all of them say; what `init` returns is overridden by them."""
        arguments = command_line.parse(sys.argv[1:])
        name = arguments.given.get("wsgi_app")
        own = self.init(None, arguments, [str(name)] if name else [])
        for key, value in (own or {}).items():
            self.cfg.set(key.lower(), value)
        given, _, _ = read_sources(arguments, os.environ, os.getcwd())
        for source in given:
            for complaint in source.complaints:
                raise complaint
            self.cfg.remarks += source.remarks
            for key, value in source.values.items():
                self.cfg.set(key, value, source.sources[key])


def _fail(error: Exception) -> NoReturn:
    trace = getattr(error, "trace", "")
    lines = [*([trace] if trace else []), *(f"wsgicluster: error: {line}" for line in str(error).splitlines())]
    print("\n".join(lines), file=sys.stderr)
    sys.exit(getattr(error, "exit_code", ServerError.exit_code))
