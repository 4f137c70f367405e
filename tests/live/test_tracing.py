"""Requests with traces, in each kind of worker and both cores: in environ, response and access log."""

import re

import pytest

from tests.conftest import StartServer
from tests.live.client import Connection, Patron, fetch
from tests.live.test_probe_paths import CORES, KINDS

pytestmark = pytest.mark.live

SOURCE = """
def application(environ, start_response):
    if environ["PATH_INFO"] == "/fail":
        raise ValueError("on purpose")
    names = ("wsgicluster.trace_id", "wsgicluster.span_id", "wsgicluster.trace_sampled")
    body = " ".join([*(str(environ.get(name)) for name in names), environ.get("HTTP_TRACEPARENT", "-")]).encode()
    own = [("Trace-ID", "own")] if environ["PATH_INFO"] == "/own" else []
    start_response("200 OK", [("Content-Length", str(len(body))), *own])
    return [body]
"""
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GIVEN = f"traceparent: 00-{TRACE}-{SPAN}-00\r\n"
FORMAT = "%(U)s %({wsgicluster.trace_id}e)s %({trace-id}o)s."


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("kind", KINDS)
def test_from_end_to_end(server: StartServer, kind: str, core: str) -> None:
    if kind == "gevent":
        pytest.importorskip("gevent")
    live = server(
        "app", "-k", *KINDS[kind], "--trace", "accept", "--trace-header", "Trace-ID", "--request-id", "accept",
        "--access-logfile", "-", "--access-logformat", FORMAT, source=SOURCE, environ=CORES[core],
    )  # fmt: skip
    with Patron(lambda: Connection(live.port)) as client:
        for _ in range(2):
            (response,) = client.exchange("/given", GIVEN)
            assert response.body.decode() == f"{TRACE} {SPAN} False 00-{TRACE}-{SPAN}-00"
            assert response.headers["trace-id"] == TRACE
            assert "x-request-id" in response.headers
            (response,) = client.exchange("/made")
            trace_id, span_id, sampled, field = response.body.decode().split()
            assert re.fullmatch("[0-9a-f]{32}", trace_id)
            assert (sampled, field) == ("True", f"00-{trace_id}-{span_id}-01")
            assert response.headers["trace-id"] == trace_id
            live.wait_log(rf"/made {trace_id} {trace_id}\.")
            assert client.exchange("/own", GIVEN)[0].headers["trace-id"] == "own"
            (response,) = client.exchange("/fail", GIVEN)
            assert (response.status, response.headers["trace-id"]) == (500, TRACE)
    live.wait_log(rf"/given {TRACE} {TRACE}\.", count=2)
    live.wait_log(rf"/fail {TRACE} -\.", count=2)


@pytest.mark.parametrize("kind", KINDS)
def test_strangers_are_not_believed(server: StartServer, kind: str) -> None:
    if kind == "gevent":
        pytest.importorskip("gevent")
    live = server("app", "-k", *KINDS[kind], "--trace", "--forwarded-allow-ips", "192.0.2.1", source=SOURCE)
    assert TRACE not in fetch(live.port, "/", extra=GIVEN).body.decode()


@pytest.mark.parametrize("core", CORES)
def test_without_it_nothing_is_added(server: StartServer, core: str) -> None:
    live = server("app", source=SOURCE, environ=CORES[core])
    assert fetch(live.port, "/").body == b"None None None -"
    assert fetch(live.port, "/", extra=GIVEN).body.decode() == f"None None None 00-{TRACE}-{SPAN}-00"
