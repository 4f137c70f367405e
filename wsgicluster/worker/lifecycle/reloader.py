"""For development: asks for a reload when a source file changes.

Files are watched by their modification times from a thread of the worker, so that
the arbiter needs none. An application that cannot be imported is replaced by one
that shows why, until a file changes.
"""

import glob
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from wsgicluster.errors import AppLoadError
from wsgicluster.ipc.messages import RecycleWanted

INTERVAL_S = 0.5


class Reloader:
    """Watches the files of all imported modules, and some more; patterns may hold ``*``.

    To be made before the application is imported: what changes from then on is a change.
    """

    def __init__(self, extra_files: Sequence[str]) -> None:
        self._extra_files = extra_files
        self._began = time.time()
        self._seen: dict[str, float] = {}

    def watch(self, say: Callable[[RecycleWanted], object]) -> None:
        """Start watching; ``say`` is called once for each round in which something changed."""
        thread = threading.Thread(target=self._run, args=(say,), name="wsgicluster-reloader", daemon=True)
        thread.start()

    def changed(self) -> list[str]:
        """The known files whose modification time is not what it was."""
        found = []
        for path in self._paths():
            try:
                modified = os.stat(path).st_mtime
            except OSError:
                continue  # being replaced right now; the next round sees the new file
            # A file that is new here was imported as it is, unless it has changed since the import began.
            if self._seen.get(path, min(modified, self._began)) != modified:
                found.append(path)
            self._seen[path] = modified
        return found

    def _paths(self) -> Iterable[str]:
        for module in list(sys.modules.values()):
            path = getattr(module, "__file__", None)
            if isinstance(path, str):
                yield path
        # A module that cannot be imported is in no list of modules, but its folder's other files are not far.
        folder = sys.path[0] if sys.path else "."
        yield from glob.iglob(os.path.join(glob.escape(folder), "*.py"))
        for pattern in self._extra_files:
            yield from glob.iglob(pattern, recursive=True)

    def _run(self, say: Callable[[RecycleWanted], object]) -> None:
        pause = threading.Event()
        while not pause.wait(INTERVAL_S):
            changed = self.changed()
            if changed:
                say(RecycleWanted("source", ", ".join(changed[:3])))


def failing_application(error: AppLoadError) -> Callable[[dict[str, Any], Callable[..., Any]], list[bytes]]:
    """An application that responds to every request with what went wrong; only used while developing."""
    # Late: only a page of an error needs it.
    import html

    what, trace = html.escape(str(error)), html.escape(error.trace)
    body = f"<!doctype html><title>Cannot load</title><h1>{what}</h1><pre>{trace}</pre>".encode()

    def application(_environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        headers = [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(body)))]
        start_response("500 Internal Server Error", headers)
        return [body]

    return application
