"""Who may change something: those who know the token. Pure, but for the log."""

import hmac
import http
import logging

from wsgicluster.admin.exchange import AdminRequest, AdminResponse, error_response
from wsgicluster.clock import Clock

_SCHEME = "bearer"
_CHALLENGE = ("WWW-Authenticate", 'Bearer realm="wsgicluster"')
LOG_EVERY_S = 1.0
"""No more than one wrong token is logged in so many seconds."""


class AdminAccess:
    """Without a ``token`` no client may."""

    def __init__(self, token: str | None, log: logging.Logger, clock: Clock) -> None:
        self._token = token.encode() if token is not None else None
        self._log = log
        self._clock = clock
        self._log_at = 0.0

    def refusal(self, request: AdminRequest) -> AdminResponse | None:
        """What a client is answered that may not change anything; None for one that may.

        The token comes as RFC 6750, section 2.1, has it.
        """
        if self._token is None:
            message = "nothing can be changed here: the server has no admin_token and no admin_token_file"
            return error_response(http.HTTPStatus.FORBIDDEN, message)
        scheme, _, given = request.field("Authorization").partition(" ")
        if scheme.lower() != _SCHEME or not given:
            message = "the token is missing: send it as Authorization: Bearer TOKEN"
            return error_response(http.HTTPStatus.UNAUTHORIZED, message, (_CHALLENGE,))
        if not hmac.compare_digest(given.strip().encode("latin-1"), self._token):
            self._say(request)
            return error_response(http.HTTPStatus.UNAUTHORIZED, "the token is wrong", (_CHALLENGE,))
        return None

    def _say(self, request: AdminRequest) -> None:
        now = self._clock.monotonic()
        if now >= self._log_at:
            self._log_at = now + LOG_EVERY_S
            self._log.warning("Admin worker: wrong token from %s (%s %s)", request.peer, request.method, request.path)
