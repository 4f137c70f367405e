"""When a worker's logs are written: lines of requests once in each turn, and all of them before the process ends."""

from wsgicluster.logs.logs import Logs
from wsgicluster.worker.lifecycle.signals import WorkerSignals
from wsgicluster.wsgi.error_stream import ErrorStream


class LogWriter:
    """Writes what requests leave to be logged; reopens the files when USR1 has asked for that, as ``signals`` know."""

    def __init__(self, logs: Logs, error_stream: ErrorStream, signals: WorkerSignals | None) -> None:
        self._logs = logs
        self._access = logs.access
        self._error_stream = error_stream
        self.signals = signals

    def write(self) -> None:
        """Write what requests have left to be logged by now; then open the files anew if that has been asked for."""
        if self._access is not None:
            self._access.flush()
        if self._error_stream.unfinished:
            self._error_stream.settle()
        if self.signals is not None and self.signals.reopen:
            self.signals.reopen = False
            self._logs.reopen()

    def flush(self) -> None:
        """Write all that is left: the process ends in a moment."""
        if self._access is not None:
            self._access.flush()
        self._error_stream.end_all()

    def forget(self) -> None:
        """In a process that the application has forked, which writes nothing that is the worker's."""
        self._error_stream.forget()
