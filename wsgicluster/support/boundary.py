"""The outermost frame of a child that serves no connection: what it raises is reported, and the process ends."""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from wsgicluster.errors import AppLoadError, BootError, ServerError
from wsgicluster.ipc.assignment import Assignment
from wsgicluster.ipc.messages import BootFailed, Broken, ChannelClosed
from wsgicluster.logs.logs import Logs
from wsgicluster.settings import Settings
from wsgicluster.system import forks


def run_child(
    title: str, logs: Logs, settings: Settings, assignment: Assignment, live: Callable[[], object]
) -> NoReturn:
    """Run ``live`` in this freshly forked process, and end the process; never returns.

    The title is what the process is called in logs and lists of processes.
    """
    code = 0
    forks.begin(title, settings.proc_name or settings.wsgi_app or "", logs.error)
    forks.on_fork(assignment.close)
    try:
        live()
    except ServerError as error:
        code = error.exit_code
        trace = error.trace if isinstance(error, AppLoadError) else ""
        with contextlib.suppress(ChannelClosed):
            assignment.channel.send(BootFailed(code, str(error), trace))
    except BaseException as error:  # noqa: BLE001
        # The boundary of this process: a fault of our own ends it, and the arbiter puts it in its record.
        code = BootError.exit_code
        summary = traceback.format_exception_only(error)[-1].strip()
        with contextlib.suppress(ChannelClosed, OSError):
            assignment.channel.send(Broken(summary, "".join(traceback.format_exception(error))))
    if forks.strayed():
        forks.end_stray(logs.error)
    _leave(code)


def _leave(code: int) -> NoReturn:
    try:
        forks.run_exit_functions()
        for stream in (sys.stdout, sys.stderr):
            # The code that ran here may have closed it, or no process may be left to read it.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
    finally:
        os._exit(code)
