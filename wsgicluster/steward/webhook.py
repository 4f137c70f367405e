"""Posts events to a URL, signed, and again with growing waits where that fails.

The signature is an HMAC-SHA256 (RFC 2104) with the secret over the timestamp, a dot and the body.
"""

import hashlib
import hmac
import json
import logging
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from typing import Any

from wsgicluster.ipc.events import Event, as_json

TIMEOUT_S = 10.0
WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Before each further attempt; after the last one the event is dropped, which is logged."""


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """The value of ``X-Wsgicluster-Signature``."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """A redirected POST would become a GET without its body."""


class WebHook:
    """One URL; ``secret`` is None for events that are not signed."""

    def __init__(self, url: str, secret: str | None, log: logging.Logger, waits_s: tuple[float, ...] = WAITS_S) -> None:
        self._url = url
        self._secret = secret
        self._log = log
        self._waits_s = waits_s
        self._opener = urllib.request.build_opener(_NoRedirect())

    def deliver(self, event: Event, wait: Callable[[float], bool]) -> None:
        """Post an event until the receiver has taken it, or for as long as is sensible; see `EventQueue`."""
        body = json.dumps(as_json(event)).encode()
        number = uuid.uuid4().hex
        failure = ""
        for wait_s in (0.0, *self._waits_s):
            if wait_s and wait(wait_s):
                break  # the process is about to exit
            failure = self._post(event.name, number, body)
            if not failure:
                return
        self._log.error("event_webhook: event %s was not delivered: %s", event.name, failure)

    def _post(self, name: str, number: str, body: bytes) -> str:
        """Post once; returns why that failed, or nothing."""
        timestamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "wsgicluster",
            "X-Wsgicluster-Event": name,
            "X-Wsgicluster-Delivery": number,
            "X-Wsgicluster-Timestamp": timestamp,
        }
        if self._secret is not None:
            headers["X-Wsgicluster-Signature"] = signature(self._secret, timestamp, body)
        request = urllib.request.Request(self._url, body, headers, method="POST")
        try:
            with self._opener.open(request, timeout=TIMEOUT_S):
                return ""
        except urllib.error.HTTPError as error:
            error.close()
            return f"status {error.code}"
        except urllib.error.URLError as error:
            return str(error.reason)
        except (OSError, ValueError) as error:
            return str(error) or type(error).__name__
        except Exception as error:  # noqa: BLE001
            # http.client raises its own errors for a reply that is not HTTP.
            return f"{type(error).__name__}: {error}"
