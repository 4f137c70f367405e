"""The steward's process, from fork to exit."""

import gc
import time
from typing import Literal, NoReturn

from wsgicluster.cluster.events import subscriptions
from wsgicluster.ipc import membership
from wsgicluster.ipc.assignment import Assignment
from wsgicluster.ipc.messages import Online, Ready
from wsgicluster.logs.logs import Logs
from wsgicluster.settings import Settings
from wsgicluster.steward.command import EventCommand
from wsgicluster.steward.delivery import Delivery
from wsgicluster.steward.event_queue import EventQueue
from wsgicluster.steward.webhook import WebHook
from wsgicluster.support.boundary import run_child
from wsgicluster.support.child_loop import ChildLoop
from wsgicluster.system import forks, privileges

FORWARD_S = 5.0
"""How long the server's stop waits for a web hook or a command that is slow."""
ROLE: Literal["steward"] = "steward"


def boot_steward(logs: Logs, settings: Settings, assignment: Assignment, registered: object | None) -> NoReturn:
    """Run the steward in this freshly forked process; ends the process, never returns.

    ``registered`` is a `wsgicluster.cluster.events.subscriptions.Registered`, or None.
    """
    run_child(ROLE, logs, settings, assignment, lambda: _live(logs, settings, assignment, registered))


def _live(logs: Logs, settings: Settings, assignment: Assignment, registered: object | None) -> None:
    began = time.monotonic()
    assert assignment.events is not None, "the steward has a socket for events"
    loop = ChildLoop(assignment, settings.timeout, logs.reopen)
    loop.install()
    privileges.drop_privileges(settings.user, settings.group, settings.initgroups)
    if isinstance(registered, subscriptions.Registered):
        subscriptions.restore(registered)
    membership.join(assignment.membership(ROLE, settings))
    assignment.channel.send(Online())
    forwardings = _forwardings(logs, settings)
    delivery = Delivery(assignment.events, subscriptions.subscriptions, [each.add for each in forwardings], logs.error)
    gc.collect()
    gc.freeze()
    for each in forwardings:
        each.start()
    delivery.start()
    membership.add_activity(delivery)
    forks.booted()
    assignment.channel.send(Ready(time.monotonic() - began))
    loop.run(lambda: None)
    # What has been sent until now is still delivered, within the time that a worker has to drain.
    until = time.monotonic() + settings.graceful_timeout
    membership.stop_activities()
    loop.finish(lambda: delivery.is_done and not membership.busy_since(), settings.graceful_timeout)
    for each in forwardings:
        each.finish()
    loop.finish(lambda: all(each.is_done for each in forwardings), min(FORWARD_S, until - time.monotonic()))


def _forwardings(logs: Logs, settings: Settings) -> list[EventQueue]:
    """What gets all events besides the handlers."""
    found = []
    if settings.event_webhook:
        hook = WebHook(settings.event_webhook, settings.event_webhook_secret, logs.error)
        found.append(EventQueue("event_webhook", hook.deliver, logs.error))
    if settings.event_exec:
        found.append(EventQueue("event_exec", EventCommand(settings.event_exec, logs.error).deliver, logs.error))
    return found
