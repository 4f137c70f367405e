"""What comes between a complete request and its run: whether it is a probe, its ID, its socket."""

import io
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from wsgicluster.dataclass import dataclass
from wsgicluster.errors import ProtocolError
from wsgicluster.logs.access_log import RequestLog
from wsgicluster.settings import Settings
from wsgicluster.worker.connection.connection import Connection
from wsgicluster.worker.connection.offloaded import OffloadedConnection
from wsgicluster.worker.connection.raw import offer_socket
from wsgicluster.worker.from_settings import request_ids, traces
from wsgicluster.worker.hosting.probe_paths import ProbePaths
from wsgicluster.worker.intake.sharing import SiblingOffers
from wsgicluster.worker.request.cycle import Application
from wsgicluster.worker.runner import ClientWaits, KindRunner, Step
from wsgicluster.wsgi.request_id import RequestIds
from wsgicluster.wsgi.trace_context import TraceContexts
from wsgicluster.wsgi.trust import Trust

if TYPE_CHECKING:
    from wsgicluster.worker.kinds.spans import Spans


def finish_environ(connection: Connection, trust: Trust) -> bool:
    """Give a request's environ its body and its scheme; False when it had to be refused."""
    reader = connection.reader
    if "wsgi.input" in reader.environ:
        return True  # of a request that came whole it is complete
    body = reader.body
    reader.environ["wsgi.input"] = io.BytesIO() if body is None else body
    if connection.trusted:
        try:
            trust.set_scheme(reader.environ)
        except ProtocolError as error:
            connection.refuse(error)
            return False
    # A body goes with the last reference to it, not with the connection.
    del reader.body
    return True


@dataclass(frozen=True)
class RequestNames:
    """What requests are called in the logs of several servers: by ``ids``, and by ``traces``, each if wanted.

    ``spans`` exports what becomes of them as parts of those traces.
    """

    ids: RequestIds | None
    traces: TraceContexts | None
    spans: "Spans | None" = None

    def __bool__(self) -> bool:
        return self.ids is not None or self.traces is not None

    def wrap(self, application: Application) -> Application:
        """The same application, whose responses say so."""
        for each in (self.spans, self.traces, self.ids):
            if each is not None:
                application = each.wrap(application)
        return application

    def log(self, then: RequestLog | None) -> RequestLog | None:
        """What notes requests that are over: ``then``, and the spans."""
        if self.spans is None:
            return then
        from wsgicluster.worker.kinds.spans import SpanLog

        return SpanLog(self.spans, then)

    def close(self) -> None:
        """The worker exits."""
        if self.spans is not None:
            self.spans.close()


def request_names(settings: Settings, slot: int) -> RequestNames:
    """Those of one worker, as its settings say."""
    spans = None
    if settings.trace_spans:
        # Not imported by a server without spans.
        from wsgicluster.worker.kinds.spans import open_spans

        spans = open_spans(settings.proc_name or settings.wsgi_app, slot)
    return RequestNames(request_ids(settings), traces(settings), spans)


def request_steps(runner: KindRunner, raw_socket: bool, names: RequestNames, probes: ProbePaths | None = None) -> Step:
    """What is called with each complete request; the runner comes last."""
    first = runner.run
    if raw_socket:
        first = _offering_socket(first, runner.waits)
    if names:
        first = _naming(first, names)
    return first if probes is None else probes.step(first)


def offer_of(probes: ProbePaths | None, offers: SiblingOffers) -> Callable[[OffloadedConnection], bool]:
    """What is asked about a connection on which a request has come for which there is no room."""
    return offers.offer if probes is None else probes.offer(offers.offer)


def _offering_socket(then: Step, waits: ClientWaits) -> Step:
    def offer(connection: Connection) -> None:
        if "HTTP_UPGRADE" not in connection.reader.environ or offer_socket(waits, connection):
            then(connection)

    return offer


def _naming(then: Step, names: RequestNames) -> Step:
    ids, traces, spans = names.ids, names.traces, names.spans

    def name_request(connection: Connection) -> None:
        reader, fields = connection.reader, ""
        if traces is not None and spans is not None:
            begin = partial(spans.begin, connection, reader.environ)
            fields = traces.identify(reader.environ, connection.trusted, begin)
        elif traces is not None:
            fields = traces.identify(reader.environ, connection.trusted)
        if ids is not None:
            more, reader.line = ids.identify(reader.environ, connection.trusted, reader.line)
            fields += more
        connection.own_fields = fields
        then(connection)

    return name_request
