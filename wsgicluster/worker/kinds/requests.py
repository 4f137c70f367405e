"""What comes between a complete request and its run: whether it is a probe, its ID, its socket."""

import dataclasses
import io

from wsgicluster.errors import ProtocolError
from wsgicluster.worker.connection.connection import Connection
from wsgicluster.worker.connection.raw import offer_socket
from wsgicluster.worker.hosting.probe_paths import ProbePaths
from wsgicluster.worker.request.cycle import Application
from wsgicluster.worker.runner import ClientWaits, KindRunner, Step
from wsgicluster.wsgi.request_id import RequestIds
from wsgicluster.wsgi.trace_context import TraceContexts
from wsgicluster.wsgi.trust import Trust


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


@dataclasses.dataclass(frozen=True)
class RequestNames:
    """What requests are called in the logs of several servers: by ``ids``, and by ``traces``, each if wanted."""

    ids: RequestIds | None
    traces: TraceContexts | None

    def __bool__(self) -> bool:
        return self.ids is not None or self.traces is not None

    def wrap(self, application: Application) -> Application:
        """The same application, whose responses say so."""
        for each in (self.traces, self.ids):
            if each is not None:
                application = each.wrap(application)
        return application


def request_steps(runner: KindRunner, raw_socket: bool, names: RequestNames, probes: ProbePaths | None = None) -> Step:
    """What is called with each complete request; the runner comes last."""
    first = runner.run
    if raw_socket:
        first = _offering_socket(first, runner.waits)
    if names:
        first = _naming(first, names)
    return first if probes is None else probes.step(first)


def _offering_socket(then: Step, waits: ClientWaits) -> Step:
    def offer(connection: Connection) -> None:
        if "HTTP_UPGRADE" not in connection.reader.environ or offer_socket(waits, connection):
            then(connection)

    return offer


def _naming(then: Step, names: RequestNames) -> Step:
    ids, traces = names.ids, names.traces

    def name_request(connection: Connection) -> None:
        reader, fields = connection.reader, ""
        if traces is not None:
            fields = traces.identify(reader.environ, connection.trusted)
        if ids is not None:
            more, reader.line = ids.identify(reader.environ, connection.trusted, reader.line)
            fields += more
        connection.own_fields = fields
        then(connection)

    return name_request
