"""What comes between a complete request and its run: whether it is a probe, its ID, its socket."""

import io

from wsgicluster.errors import ProtocolError
from wsgicluster.worker.connection.connection import Connection
from wsgicluster.worker.connection.raw import offer_socket
from wsgicluster.worker.hosting.probe_paths import ProbePaths
from wsgicluster.worker.runner import ClientWaits, KindRunner, Step
from wsgicluster.wsgi.request_id import RequestIds
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


def request_steps(
    runner: KindRunner, raw_socket: bool, ids: RequestIds | None, probes: ProbePaths | None = None
) -> Step:
    """What is called with each complete request; the runner comes last."""
    first = runner.run
    if raw_socket:
        first = _offering_socket(first, runner.waits)
    if ids is not None:
        first = _naming(first, ids)
    return first if probes is None else probes.step(first)


def _offering_socket(then: Step, waits: ClientWaits) -> Step:
    def offer(connection: Connection) -> None:
        if "HTTP_UPGRADE" not in connection.reader.environ or offer_socket(waits, connection):
            then(connection)

    return offer


def _naming(then: Step, ids: RequestIds) -> Step:
    def name_request(connection: Connection) -> None:
        reader = connection.reader
        connection.own_fields, reader.line = ids.identify(reader.environ, connection.trusted, reader.line)
        then(connection)

    return name_request
