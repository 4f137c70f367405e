"""How the parts of a worker are made and joined."""

import sys
from collections.abc import Callable

from wsgicluster.dataclass import dataclass
from wsgicluster.ipc.assignment import Assignment
from wsgicluster.ipc.scoreboard import Cell
from wsgicluster.logs.logs import Logs
from wsgicluster.settings import Settings
from wsgicluster.worker.connection.preamble import PreambleSettings
from wsgicluster.worker.context import PolicyInForce, WorkerContext
from wsgicluster.worker.from_settings import fast_paths_fit, trust
from wsgicluster.worker.hosting.factory import ConnectionFactory
from wsgicluster.worker.hosting.host import ConnectionHost, HostParts
from wsgicluster.worker.hosting.probe_paths import probe_paths
from wsgicluster.worker.hosting.refusals import Refusals
from wsgicluster.worker.intake.acceptor import Acceptor, AcceptorParts
from wsgicluster.worker.intake.adoption import Adoption, EntryParts
from wsgicluster.worker.intake.connection_share import ConnectionShare
from wsgicluster.worker.intake.drain import Drain, DrainParts
from wsgicluster.worker.intake.eviction import SilentEviction
from wsgicluster.worker.intake.listeners import WatchedListeners
from wsgicluster.worker.intake.mail import ConnectionMail
from wsgicluster.worker.intake.overflow import Overflow
from wsgicluster.worker.intake.policy_switch import PolicySwitch, SwitchParts
from wsgicluster.worker.intake.reserve import DescriptorReserve
from wsgicluster.worker.intake.sharing import SiblingOffers
from wsgicluster.worker.kinds.parts import KindParts, RunnerParts
from wsgicluster.worker.kinds.requests import RequestNames, offer_of, request_names, request_steps
from wsgicluster.worker.kinds.worker import Worker, WorkerParts
from wsgicluster.worker.lifecycle.arbiter_channel import ArbiterChannel
from wsgicluster.worker.lifecycle.configured_hooks import ConfiguredHooks
from wsgicluster.worker.lifecycle.exit_request import ExitRequest
from wsgicluster.worker.lifecycle.log_writer import LogWriter
from wsgicluster.worker.lifecycle.promotion import Promotion
from wsgicluster.worker.lifecycle.recycle import Recycling
from wsgicluster.worker.lifecycle.signals import WorkerSignals
from wsgicluster.worker.lifecycle.state import StateCell
from wsgicluster.worker.loop.loop import Loop
from wsgicluster.worker.request.cycle import Application, Cycle
from wsgicluster.worker.request.first_failure import FirstFailure
from wsgicluster.worker.request.outcome import Outcome
from wsgicluster.worker.scheduling.scheduler import scheduler_of
from wsgicluster.wsgi.error_stream import ErrorStream

Wrap = Callable[[Application], Application]
Serve = Callable[..., Outcome]


@dataclass(frozen=True)
class Booted:
    """What a process has when its application is there."""

    settings: Settings
    assignment: Assignment
    logs: Logs
    state: StateCell
    recycling: Recycling
    preamble: PreambleSettings | None = None
    signals: WorkerSignals | None = None
    configured: ConfiguredHooks | None = None
    """The hooks of the configuration file, None where there are none."""
    promotion: Promotion | None = None
    """Whether a mold may be forked from the worker, where that may be asked of it."""
    loop: Loop | None = None
    """One that was made for it already."""


def build_worker(booted: Booted, kind: KindParts, application: Application) -> Worker:
    """A worker that may begin to serve."""
    settings, assignment, logs, preamble = booted.settings, booted.assignment, booted.logs, booted.preamble
    context = _context(booted, kind)
    scheduler = scheduler_of(context, trust(settings))
    names = request_names(settings, context.slot)
    wrap, serve = _with_hooks(names, booted.configured if settings.has_request_hooks else None)
    cycle = _cycle(booted, context, names, wrap(application))
    exit_request = ExitRequest(context.state, settings.graceful_timeout, assignment.stacks_fd)
    channel = ArbiterChannel(assignment, context.loop, logs.error, exit_request.orphan)
    log_writer = LogWriter(logs, context.error_stream, booted.signals)
    refusals = Refusals(context.slot, logs.error, logs.access, context.loop)
    listeners = WatchedListeners(assignment, context.loop, context.state)
    parts = RunnerParts(
        cycle, listeners, trust(settings), refusals, channel, log_writer, bool(names), fast_paths_fit(settings), serve
    )
    runner = kind.runner(context, parts)
    # A preamble has to come before the first request, which arrivals would be answered to at once.
    arrivals = runner.arrivals if preamble is None else None
    reserve = DescriptorReserve(context, listeners, arrivals)
    offers = SiblingOffers(context, listeners, runner.load)
    mail, probes = ConnectionMail(context, listeners), probe_paths(context, cycle)
    on_request = request_steps(runner, settings.raw_socket, names, probes)
    fast_path = runner.fast_path_for(on_request)
    offer = offer_of(probes, offers)
    host = ConnectionHost(context, HostParts(cycle, runner, fast_path, offer, exit_request, refusals, on_request))
    factory = ConnectionFactory(context, host, runner, reserve.note, kind.connection, kind.multithread)
    silent, overflow = SilentEviction(context), Overflow(context, listeners, runner.load)
    entry = EntryParts(listeners, reserve, factory, runner.load, silent, overflow, arrivals, preamble, scheduler)
    adoption = Adoption(context, entry, mail)
    acceptor = Acceptor(context, AcceptorParts(entry, adoption, offers, arrivals))
    switch = None
    if scheduler is not None:
        scheduler.capacity = runner.load.capacity if kind.multithread else 1
        followers = SwitchParts(scheduler, acceptor, factory, host, fast_path, cycle, preamble, wrap)
        switch = PolicySwitch(context, followers, application)
        switch.follow()
    drain = Drain(context, DrainParts(listeners, acceptor, adoption, runner.load, host, exit_request, channel, mail))
    return Worker(
        context,
        WorkerParts(
            cycle=cycle,
            host=host,
            listeners=listeners,
            reserve=reserve,
            acceptor=acceptor,
            runner=runner,
            drain=drain,
            recycling=booted.recycling,
            channel=channel,
            exit_request=exit_request,
            logs=log_writer,
            refusals=refusals,
            switch=switch,
            replace_application=_replacing(cycle, wrap) if switch is None else switch.replace_application,
            names=names,
            share=ConnectionShare(context, mail),
            promotion=booted.promotion or Promotion(),
        ),
    )


def _replacing(cycle: Cycle, wrap: Wrap) -> Callable[[Application], None]:
    """What has another application called, where no policy comes in between."""
    return lambda application: cycle.replace_application(wrap(application))


def _with_hooks(names: RequestNames, configured: ConfiguredHooks | None) -> tuple[Wrap, Serve | None]:
    """What is put around the application, and how requests are served if not in the usual way."""
    if configured is None:
        return names.wrap, None
    hooked = configured.wrap
    return lambda application: hooked(names.wrap(application)), configured.around(Cycle.serve)


def _cycle(booted: Booted, context: WorkerContext, names: RequestNames, application: Application) -> Cycle:
    logs, settings, assignment = booted.logs, booted.settings, booted.assignment
    cycle = Cycle(application, context.page, settings.timeout, logs.error, names.log(logs.access))
    cycle.sendfile = settings.sendfile
    if assignment.is_judged:
        cycle.on_failure = FirstFailure(assignment.channel.send).note
    return cycle


def _context(booted: Booted, kind: KindParts) -> WorkerContext:
    settings, assignment = booted.settings, booted.assignment
    cells = assignment.page.cells
    errors = ErrorStream(booted.logs) if kind.multithread else ErrorStream(booted.logs, lambda: cells[Cell.REQUESTS])
    in_force = PolicyInForce(settings)
    in_force.look(assignment.board.server)
    return WorkerContext(
        settings,
        assignment,
        booted.logs,
        booted.loop or kind.loop(assignment.page, settings.timeout),
        booted.state,
        errors,
        in_force,
        most_open=settings.worker_connections if kind.row.limits_connections else sys.maxsize,
    )
