"""A server within a program of the user's: the program has the application and the settings, and calls `serve`."""

import os
import threading
from collections.abc import Callable
from typing import Any

from wsgicluster.arbiter.service.launch import take
from wsgicluster.cli import Command
from wsgicluster.errors import UsageError
from wsgicluster.settings import Loaded
from wsgicluster.settings.sources.merge import load_values
from wsgicluster.system import process
from wsgicluster.wsgi import loader


def serve(application: Callable[..., Any], **settings: Any) -> int:
    """Serve a WSGI application until the server is stopped; returns its exit code.

    Settings are those of the configuration file, by name; no file, environment variable or command line is read. To be
    called in the main thread, which gets the signals. Raises a ServerError when the server cannot start, a UsageError
    for a wrong setting.
    """
    name = name_of(application)
    directory = os.getcwd()
    return run(name, lambda: application, lambda: load_values({**settings, "wsgi_app": name}, "serve", directory))


def run(name: str, load: Callable[[], Any], read: Callable[[], Loaded]) -> int:
    """Serve what ``load`` returns, under this name, with the settings that ``read`` returns; returns the exit code.

    ``load`` is called in each worker, or once with ``preload_app``; ``read`` at the start and at each reload.
    """
    if threading.current_thread() is not threading.main_thread():
        raise UsageError("serve: has to be called in the main thread, since only that gets signals; start a process")
    process.open_missing_streams()
    loader.give(name, load)
    return Command((), take(os.environ, os.getpid()), read).run()


def name_of(thing: Any) -> str:
    """What an object is called, as ``module:name``."""
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{named.__module__}:{named.__qualname__}"
