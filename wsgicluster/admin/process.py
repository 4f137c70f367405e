"""The admin worker's process, from fork to exit."""

import gc
import os
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from wsgicluster.admin.access import AdminAccess
from wsgicluster.admin.agent_line import LoadMeter, agent_line
from wsgicluster.admin.agent_server import AgentServer
from wsgicluster.admin.app_metrics import AppMetrics
from wsgicluster.admin.event_stream import KEPT, EventStreams
from wsgicluster.admin.host_rule import HostRule, Respond
from wsgicluster.admin.http_server import AdminServer
from wsgicluster.admin.routes import AdminRoutes
from wsgicluster.admin.scrape_facts import ScrapeErrors, ScrapeFacts
from wsgicluster.admin.status_source import StatusSource, UsageReader
from wsgicluster.clock import SystemClock
from wsgicluster.control.protocol import ControlError
from wsgicluster.control.shared_connection import SharedConnection
from wsgicluster.ipc.assignment import Assignment
from wsgicluster.ipc.messages import Online, Ready
from wsgicluster.logs.logs import Logs
from wsgicluster.settings import Settings, read_token_file
from wsgicluster.settings.types.values import TcpAddress
from wsgicluster.support.boundary import run_child
from wsgicluster.support.child_loop import ChildLoop
from wsgicluster.system import forks, privileges, usage

COMMAND_S = 5.0
"""How long the arbiter may take for what it only begins."""
FINISH_S = 3.0
"""How long requests in progress have when the process is to exit: none waits for anything but the arbiter."""


def boot_admin(logs: Logs, settings: Settings, assignment: Assignment) -> NoReturn:
    """Run the admin worker in this freshly forked process; ends the process, never returns."""
    run_child("admin", logs, settings, assignment, lambda: _live(logs, settings, assignment))


def _live(logs: Logs, settings: Settings, assignment: Assignment) -> None:
    began = time.monotonic()
    assert assignment.control is not None, "the admin worker has a connection to the control server"
    clock = SystemClock()
    loop = ChildLoop(assignment, settings.timeout, logs.reopen)
    loop.install()
    arbiter = SharedConnection(assignment.control)

    def command(name: str, args: Mapping[str, Any]) -> Any:
        return arbiter.call(name, dict(args), COMMAND_S)

    events = EventStreams(f"{os.getpid()}-{int(clock.time())}")
    source = StatusSource(lambda timeout_s: arbiter.call("status", None, timeout_s), clock, UsageReader(clock))
    # All files are read, and all modules imported, as the user that has started the server.
    usage.prepare()
    token = read_token_file(settings.admin_token_file) if settings.admin_token_file else settings.admin_token
    facts = ScrapeFacts(settings.certfile, ScrapeErrors(assignment.page, assignment.board), clock)
    access = AdminAccess(token, logs.error, clock)
    applications = AppMetrics(assignment.app_metrics, logs.error) if assignment.app_metrics else None
    routes = AdminRoutes(source.status, command, events, access, facts, applications)
    server = AdminServer(assignment.listeners[:1], _respond(settings, routes.respond), logs.error)
    agent = _agent(assignment.listeners[1:], source, clock, logs)
    privileges.drop_privileges(settings.user, settings.group, settings.initgroups)
    assignment.channel.send(Online())
    gc.collect()
    gc.freeze()
    arbiter.start()
    arbiter.follow("events", {"last": KEPT, "follow": True}, events.add)
    server.start()
    if agent is not None:
        agent.start()
    forks.booted()
    assignment.channel.send(Ready(time.monotonic() - began))
    loop.run(lambda: None)
    server.stop()
    events.close()
    loop.finish(lambda: server.is_done, FINISH_S)
    if agent is not None:
        agent.stop()
    arbiter.close()


def _respond(settings: Settings, respond: Respond) -> Respond:
    """No browser reaches a Unix socket by itself."""
    address = settings.admin
    return HostRule((*settings.admin_host, address.host)).guard(respond) if isinstance(address, TcpAddress) else respond


def _agent(
    listeners: Sequence[socket.socket], source: StatusSource, clock: SystemClock, logs: Logs
) -> AgentServer | None:
    """What responds to HAProxy, if there is an address for that."""
    meter = LoadMeter(clock)

    def line() -> str:
        try:
            status = source.status()
        except ControlError:
            return ""  # the workers may serve nevertheless, and HAProxy keeps to the last line
        return agent_line(status, meter.load(status))

    return AgentServer(listeners[0], line, logs.error) if listeners else None
