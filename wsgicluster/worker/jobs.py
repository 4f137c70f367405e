"""The jobs worker: a process that boots the application and serves no connection.

Message handlers and jobs run in it, in threads of their own; this module only keeps the process: signals, beat, memory.
"""

import contextlib
import gc
import time
from typing import NoReturn

from wsgicluster.ipc import membership
from wsgicluster.ipc.assignment import Assignment
from wsgicluster.ipc.messages import ChannelClosed, Online, Ready, RecycleWanted
from wsgicluster.logs.logs import Logs
from wsgicluster.settings import Settings
from wsgicluster.support.boundary import run_child
from wsgicluster.support.child_loop import ChildLoop
from wsgicluster.system import forks, privileges, process
from wsgicluster.worker.boot import load_application
from wsgicluster.worker.lifecycle import app_metrics

MEMORY_LOOK_S = 5.0


class JobsMemory:
    """Asks once to be replaced when the process is larger than ``limit_bytes``, 0 for no limit."""

    def __init__(self, assignment: Assignment, limit_bytes: int) -> None:
        self._assignment = assignment
        self._limit_bytes = limit_bytes
        self._memory = process.ResidentMemory()
        self._look_at = 0.0

    def check(self) -> None:
        """Look at the memory, from time to time."""
        now = time.monotonic()
        if not self._limit_bytes or now < self._look_at:
            return
        self._look_at = now + MEMORY_LOOK_S
        size = self._memory.bytes()
        if size > self._limit_bytes:
            self._look_at = float("inf")
            detail = f"{size >> 20} MiB of memory, more than max_memory ({self._limit_bytes >> 20} MiB)"
            with contextlib.suppress(ChannelClosed):
                self._assignment.channel.send(RecycleWanted("memory", detail))


def boot_jobs(logs: Logs, settings: Settings, assignment: Assignment) -> NoReturn:
    """Run the jobs worker in this freshly forked process; ends the process, never returns."""
    run_child("jobs worker", logs, settings, assignment, lambda: _live(logs, settings, assignment))


def _live(logs: Logs, settings: Settings, assignment: Assignment) -> None:
    began = time.monotonic()
    loop = ChildLoop(assignment, settings.timeout, logs.reopen)
    loop.install()
    privileges.drop_privileges(settings.user, settings.group, settings.initgroups)
    app_metrics.begin(assignment)
    # Before the application is imported.
    membership.join(assignment.membership("jobs", settings))
    assignment.channel.send(Online())
    load_application(settings)
    if forks.strayed():
        forks.end_stray(logs.error)
    forks.booted()
    loop.install()  # the application may have taken signals
    gc.collect()
    gc.freeze()
    limit = JobsMemory(assignment, settings.max_memory)
    assignment.channel.send(Ready(time.monotonic() - began))
    loop.run(limit.check)
    membership.stop_activities()
    loop.finish(lambda: not membership.busy_since(), settings.graceful_timeout)
