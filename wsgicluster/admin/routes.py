"""What is answered at which path. It knows no socket but through what it is given."""

import http
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from wsgicluster.admin import probes
from wsgicluster.admin.access import AdminAccess
from wsgicluster.admin.app_metrics import AppMetrics
from wsgicluster.admin.dashboard import dashboard
from wsgicluster.admin.event_stream import SHOWN, EventStreams
from wsgicluster.admin.exchange import AdminRequest, AdminResponse, error_response, json_response
from wsgicluster.admin.exposition import expose
from wsgicluster.admin.probes import ProbeResult
from wsgicluster.admin.scrape_facts import ScrapeFacts
from wsgicluster.control.protocol import ControlError, ErrorCode

Command = Callable[[str, Mapping[str, Any]], Any]
"""Carries out a command of the control protocol, with its arguments; raises ControlError."""

_STATUS_OF: dict[ErrorCode, int] = {
    ErrorCode.INVALID: 400,
    ErrorCode.REFUSED: 409,
    ErrorCode.FAILED: 409,
    ErrorCode.TIMED_OUT: 503,
    ErrorCode.STOPPING: 503,
    ErrorCode.OVERLOADED: 503,
}
_METHODS_OF_LOOKING = ("GET", "HEAD")
_MOST_LAST = 1000


class AdminRoutes:
    """Answers requests, in whatever thread; ``status`` raises ControlError.

    Without ``app_metrics`` those of the application are not shown.
    """

    def __init__(
        self,
        status: Callable[[], dict[str, Any]],
        command: Command,
        events: EventStreams,
        access: AdminAccess,
        scrape_facts: ScrapeFacts,
        app_metrics: AppMetrics | None = None,
    ) -> None:
        self._status = status
        self._command = command
        self._events = events
        self._access = access
        self._scrape_facts = scrape_facts
        self._app_metrics = app_metrics
        # Read now: the user that the process becomes may not be allowed to.
        self._dashboard = dashboard()
        self._look: dict[str, Callable[[AdminRequest], AdminResponse]] = {
            "/": lambda _: self._dashboard,
            "/livez": lambda _: self._probe(probes.live),
            "/readyz": lambda _: self._probe(probes.ready),
            "/startupz": lambda _: self._probe(probes.started),
            "/metrics": self._metrics,
            "/status": lambda _: json_response(http.HTTPStatus.OK, self._status()),
            "/events": self._follow,
        }
        self._change: dict[str, Callable[[AdminRequest], AdminResponse]] = {
            "/reload": self._reload,
            "/scale": self._scale,
        }

    @property
    def paths(self) -> list[str]:
        """All that there is an answer for."""
        return [*self._look, *self._change]

    def respond(self, request: AdminRequest) -> AdminResponse:
        """The response to one request."""
        look, change = self._look.get(request.path), self._change.get(request.path)
        if look is None and change is None:
            return error_response(http.HTTPStatus.NOT_FOUND, f"there is {', '.join(self.paths)}")
        allowed = _METHODS_OF_LOOKING if look is not None else ("POST",)
        if request.method not in allowed:
            message = f"{request.path} takes {' and '.join(allowed)}"
            return error_response(http.HTTPStatus.METHOD_NOT_ALLOWED, message, (("Allow", ", ".join(allowed)),))
        try:
            if look is not None:
                return look(request)
            assert change is not None
            return self._access.refusal(request) or change(request)
        except ControlError as error:
            return error_response(_STATUS_OF.get(error.code, http.HTTPStatus.INTERNAL_SERVER_ERROR), str(error))

    # Look

    def _probe(self, judge: Callable[[Mapping[str, Any]], ProbeResult]) -> AdminResponse:
        try:
            found = judge(self._status())
        except ControlError as error:
            found = probes.unreachable(str(error))
        code = http.HTTPStatus.OK if found.ok else http.HTTPStatus.SERVICE_UNAVAILABLE
        return json_response(code, found.as_json())

    def _metrics(self, request: AdminRequest) -> AdminResponse:
        began = time.monotonic()
        try:
            status = self._status()
        except ControlError:
            self._scrape_facts.errors.note()
            raise
        own = {"scrape_duration_seconds": time.monotonic() - began}
        accept, encoding = request.field("Accept"), request.field("Accept-Encoding")
        content_type, body, is_compressed = expose(
            {**status, **self._scrape_facts.look()}, own, accept, encoding, self._app_metrics
        )
        fields = (("Vary", "Accept, Accept-Encoding"), *((("Content-Encoding", "gzip"),) if is_compressed else ()))
        return AdminResponse(http.HTTPStatus.OK, content_type, body, fields)

    def _follow(self, request: AdminRequest) -> AdminResponse:
        last = _number(request.query().get("last", str(SHOWN)), "last")
        stream = self._events.stream(request.field("Last-Event-ID"), min(last, _MOST_LAST))
        # What stands in front must pass on each event as it comes.
        fields = (("X-Accel-Buffering", "no"),)
        return AdminResponse(http.HTTPStatus.OK, "text/event-stream; charset=utf-8", fields=fields, stream=stream)

    # Change

    def _reload(self, _request: AdminRequest) -> AdminResponse:
        return json_response(http.HTTPStatus.ACCEPTED, self._command("reload", {}))

    def _scale(self, request: AdminRequest) -> AdminResponse:
        args = {**request.query(), **_object_in(request.body)}
        unknown = sorted(set(args) - {"workers"})
        if unknown:
            raise ControlError(ErrorCode.INVALID, f"scale has no argument {unknown[0]!r}; it takes workers")
        return json_response(http.HTTPStatus.ACCEPTED, self._command("scale", args))


def _number(text: str, name: str) -> int:
    if not (text.isdecimal() and text.isascii() and len(text) < 10):
        raise ControlError(ErrorCode.INVALID, f"{name}: expected a number, not {text[:80]!r}")
    return int(text)


def _object_in(body: bytes) -> dict[str, Any]:
    """The JSON object in a body, empty without one. Raises ControlError."""
    if not body.strip():
        return {}
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ControlError(ErrorCode.INVALID, f"the body is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ControlError(ErrorCode.INVALID, "the body is not a JSON object")
    return found
