"""Names of Gunicorn beside our settings: its settings that are accepted without effect, and its flags.

A setting without effect is accepted in silence at the values that change nothing in Gunicorn either; at any other, one
line says what is not done, so that a deployment that moves starts, and its operator knows.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from wsgicluster.dataclass import dataclass
from wsgicluster.settings.wording import complaint, quoted

ANY = object()
"""As a value: whatever it is, nothing is said, because it does nothing in Gunicorn either."""

_NOTHING: tuple[object, ...] = (None, "", False, (), [], {}, 0, "0", "false", "False")


@dataclass(frozen=True, slots=True)
class Accepted:
    """One setting without effect; ``missing`` says what is not done, and ``usual`` are the values that change nothing.

    ``argument`` is how often its flags take one: ``""`` for a switch, ``"once"``, or ``"each"`` if it may be repeated.
    """

    name: str
    missing: str
    usual: tuple[object, ...] = ()
    flags: tuple[str, ...] = ()
    argument: str = "once"

    def remark(self, value: object, source: str) -> str | None:
        """What to say of a value, None for nothing."""
        if ANY in self.usual or any(type(value) is type(each) and value == each for each in (*_NOTHING, *self.usual)):
            return None
        if isinstance(value, str) and value.strip().lower() in map(str, self.usual):
            return None
        return str(complaint(source, self.name, f"{_short(value)}: {self.missing}"))


def _short(value: object) -> str:
    return getattr(value, "__name__", "") if callable(value) else quoted(value)


def _rows(missing: str, *rows: tuple[Any, ...]) -> Iterable[Accepted]:
    """Rows that say the same: each is a name, then its usual values; the flag follows from the name."""
    return (Accepted(name, missing, tuple(usual), ("--" + name.replace("_", "-"),)) for name, *usual in rows)


_NO_ASGI = "not used: wsgicluster serves WSGI applications; use an ASGI server for others"
_NO_HTTP2 = "not done: workers speak HTTP/1.1; let a proxy in front, such as nginx, speak HTTP/2 with clients"
_NO_DIRTY = "not done: there are no dirty workers; use jobs_worker, or a task queue"

ACCEPTED: Mapping[str, Accepted] = {
    row.name: row
    for row in (
        Accepted(
            "reload_engine", "not used: reload compares the times of files", ("auto", "poll"), ("--reload-engine",)
        ),
        Accepted(
            "http_parser", "not used: WSGICLUSTER_PURE=1 selects plain Python", ("auto", "fast"), ("--http-parser",)
        ),
        Accepted("ssl_version", "not used; see tls_minimum", (ANY,), ("--ssl-version",)),
        *_rows(
            _NO_HTTP2, ("http_protocols", "h1", ["h1"], ("h1",)), ("http2_cleartext", "off"),
            ("http2_max_concurrent_streams", ANY), ("http2_initial_window_size", ANY), ("http2_max_frame_size", ANY),
            ("http2_max_header_list_size", ANY),
        ),
        *_rows(
            _NO_ASGI, ("asgi_loop", "auto"), ("asgi_lifespan", "auto", "off"),
            ("asgi_disconnect_grace_period", 3, "3"), ("root_path",), ("websocket_max_message_size", ANY),
        ),
        Accepted("dirty_apps", _NO_DIRTY, (), ("--dirty-app",), "each"),
        *_rows(
            _NO_DIRTY, ("dirty_workers",), ("dirty_timeout", ANY), ("dirty_threads", ANY),
            ("dirty_graceful_timeout", ANY),
        ),
        *(
            Accepted(name, _NO_DIRTY)
            for name in ("on_dirty_starting", "dirty_post_fork", "dirty_worker_init", "dirty_worker_exit")
        ),
    )
}  # fmt: skip
"""Settings of Gunicorn that are accepted without effect, by name."""

FLAGS = frozenset(
    """
    --access-logfile --access-logformat --asgi-disconnect-grace-period --asgi-lifespan --asgi-loop --backlog --bind
    --ca-certs --capture-output --casefold-http-method --cert-reqs --certfile --chdir --check-config --ciphers --config
    --control-socket --control-socket-mode --daemon --dirty-app --dirty-graceful-timeout --dirty-threads --dirty-timeout
    --dirty-workers --disable-redirect-access-to-syslog --do-handshake-on-connect --dogstatsd-tags
    --enable-backlog-metric --enable-stdio-inheritance --env --error-logfile --forwarded-allow-ips --forwarder-headers
    --graceful-timeout --group --header-map --http-parser --http-protocols --http2-cleartext
    --http2-initial-window-size --http2-max-concurrent-streams --http2-max-frame-size --http2-max-header-list-size
    --initgroups --keep-alive --keyfile --limit-request-field_size --limit-request-fields --limit-request-line
    --log-config --log-config-json --log-file --log-level --log-syslog --log-syslog-facility --log-syslog-prefix
    --log-syslog-to --logger-class --max-requests --max-requests-jitter --name --no-control-socket --no-sendfile --paste
    --paste-global --paster --permit-obsolete-folding --permit-unconventional-http-method
    --permit-unconventional-http-version --pid --preload --print-config --protocol --proxy-allow-from --proxy-protocol
    --pythonpath --reload --reload-engine --reload-extra-file --reuse-port --root-path --spew --ssl-version
    --statsd-host --statsd-prefix --strip-header-spaces --suppress-ragged-eofs --threads --timeout --umask --user
    --uwsgi-allow-from --websocket-max-message-size --worker-class --worker-connections --worker-tmp-dir --workers
    --help --version
    """.split()
)
"""Gunicorn's long flags: an abbreviation that means one of them in Gunicorn means the same here."""
