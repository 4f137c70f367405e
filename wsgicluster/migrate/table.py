"""The table of differences from Gunicorn: a row for each of its settings and hooks.

The page "Moving from Gunicorn" is made from it, ``wsgicluster migrate`` reads a configuration by it, and a test runs
both servers and compares what they do with what the rows say.
"""

from collections.abc import Mapping

from wsgicluster.migrate.notes import Deployment, Note, Row, Weight, When


def _better(text: str, when: When | None = None) -> Note:
    return Note(Weight.BETTER, text, when=when)


def _different(text: str, remedy: str = "", when: When | None = None, *, needs_hand: bool = False) -> Note:
    return Note(Weight.DIFFERENT, text, remedy, when, needs_hand)


def _lost(text: str, remedy: str, when: When | None = None) -> Note:
    return Note(Weight.LOST, text, remedy, when, needs_hand=True)


def _always(_deployment: Deployment) -> bool:
    return True


def _unless_given(name: str) -> When:
    # A zero is a value of a number.
    return lambda deployment: deployment.given.get(name) in (None, "")


def _kind(deployment: Deployment) -> str:
    """The kind of workers in one word, for notes that concern only some."""
    text = deployment.text("worker_class") or "sync"
    if any(word in text for word in ("gevent", "eventlet")):
        return "gevent"
    return "gthread" if "thread" in text or deployment.number("threads", 1) > 1 else text


def _same(*names: str) -> tuple[Row, ...]:
    return tuple(Row(name) for name in names)


_ASGI = _lost("wsgicluster serves WSGI applications only", "use an ASGI server for this application")
_HTTP2 = _lost("workers speak HTTP/1.1 only", "let a proxy in front, such as nginx, speak HTTP/2 with clients")
_DIRTY = _lost("there are no dirty workers", "run jobs in jobs_worker, or in a task queue")


def _not_for_wsgi(note: Note, *names: str, **usual: tuple[object, ...]) -> tuple[Row, ...]:
    """Rows of what only other protocols use; ``usual`` are the values that change nothing in Gunicorn either."""
    return tuple(Row(name, (_unless(note, name, usual.get(name, ())),), is_for_wsgi=False) for name in names)


def _unless(note: Note, name: str, usual: tuple[object, ...]) -> Note:
    def is_set(deployment: Deployment) -> bool:
        value = deployment.given.get(name)
        return deployment.has(name) and value not in usual and str(value).strip().lower() not in map(str, usual)

    return Note(note.weight, note.text, note.remedy, is_set, note.needs_hand)


_SERVER: tuple[Row, ...] = (
    Row("config", remark="without -c, ./wsgicluster.conf.py comes before ./gunicorn.conf.py"),
    Row("wsgi_app"),
    Row(
        "bind",
        (
            _better("names sockets of systemd, and gives a Unix socket mode, user and group", _always),
            _different(
                "a path without unix: is a Unix socket, where Gunicorn looks for a host of that name",
                when=lambda deployment: deployment.text("bind").startswith("/"),
            ),
        ),
    ),
    Row(
        "backlog",
        remark="a TCP connection without a byte is accepted after a second; defer_accept = 0 accepts it at once",
    ),
    Row(
        "workers",
        (
            _better(
                "may be auto, for the processors that there are, or a range such as 2..16 that follows the load",
                _always,
            ),
            _different(
                "0 starts one worker, where Gunicorn starts none",
                when=lambda deployment: deployment.text("workers") == "0" or deployment.given.get("workers") == 0,
            ),
        ),
        page="howto/autoscaling",
    ),
    Row(
        "worker_class",
        (
            _lost(
                "there are sync, gthread and gevent workers, by all names that Gunicorn has for them, and no others of "
                "Gunicorn's",
                "use gevent in place of eventlet, gthread in place of tornado",
                when=lambda deployment: _is_of_another_framework(deployment.text("worker_class")),
            ),
            _different(
                "a class derived from Gunicorn's worker may override init_process, patch and the methods of signals; "
                "one that overrides others, such as handle_request, is refused",
                "use hooks instead of these, or derive it from a class of wsgicluster.worker",
                when=lambda deployment: _is_class_of_user(deployment.given.get("worker_class")),
                needs_hand=True,
            ),
        ),
        page="howto/custom-workers",
    ),
    Row(
        "threads",
        (
            _better(
                "a worker whose threads are all busy passes new requests on to others",
                lambda each: _kind(each) == "gthread",
            ),
        ),
        page="howto/worker-kinds",
    ),
    Row("worker_connections"),
    Row(
        "max_requests",
        (_better("a worker serves on, beyond this number, until the next one is ready"),),
    ),
    Row("max_requests_jitter"),
    Row(
        "timeout",
        (
            _better("it bounds the start of a worker, too, and never cuts a stream that continues", _always),
            _different(
                "in gthread and gevent workers a request that takes longer is reported and aborted, where Gunicorn "
                "only watches the worker as a whole",
                "set it above the longest request, or to 0",
                when=lambda deployment: _kind(deployment) in ("gthread", "gevent"),
            ),
        ),
        page="explanation/hang",
    ),
    Row(
        "graceful_timeout",
        (
            _different(
                "a stop that had to abort requests ends with exit code 5, where Gunicorn's ends with 0", when=_always
            ),
        ),
        page="howto/stop",
    ),
    Row(
        "keepalive",
        (
            _different(
                "75 seconds by default, where Gunicorn has 2",
                "set keepalive where clients have to be dropped sooner",
                when=_unless_given("keepalive"),
            ),
            _different(
                "sync workers keep connections, too",
                "keepalive = 0 closes each after its response",
                when=lambda deployment: _kind(deployment) == "sync" and deployment.number("keepalive", 2) != 0,
            ),
        ),
        page="explanation/differences",
    ),
    Row(
        "limit_request_line",
        (
            _different(
                "8190 bytes by default, where Gunicorn has 4094",
                "limit_request_line = 4094 is Gunicorn's",
                when=_unless_given("limit_request_line"),
            ),
        ),
    ),
    Row("limit_request_fields"),
    Row("limit_request_field_size"),
    Row(
        "reload",
        (_better("each error of the code is shown in the browser and ends no server, not a SyntaxError alone"),),
        page="howto/develop",
    ),
    Row(
        "reload_engine",
        (
            _different(
                "inotify polls, as auto and poll do",
                when=lambda deployment: deployment.text("reload_engine") == "inotify",
            ),
        ),
    ),
    Row("reload_extra_files"),
    Row("spew", (_different("prints the lines of the application and its packages, not those of the server"),)),
    Row("check_config"),
    Row("print_config", (_better("shows the source of each value, and no secrets"),)),
    Row(
        "preload_app",
        (
            _better("new code is loaded in a reload, by a process of its own, which then forks the workers"),
            _different(
                "of what pre_fork changes, only the environment, simple variables of its file, server and worker reach "
                "the workers",
                "set an attribute of worker for anything else",
                when=lambda deployment: deployment.has("preload_app") and deployment.has("pre_fork"),
            ),
        ),
        page="reference/hooks",
    ),
    Row("sendfile"),
    Row("reuse_port"),
    Row("chdir"),
    Row(
        "daemon",
        (_better("the command returns when the first worker is ready, with an exit code that says whether one is"),),
        page="howto/daemon",
    ),
    Row("raw_env"),
    Row("pidfile"),
    Row("worker_tmp_dir", (_better("accepted; need not be set, since no heartbeat is written to a disk"),)),
    Row("user"),
    Row(
        "group",
        (
            _different(
                "without it workers get the own group of user, where Gunicorn keeps root's",
                "set group",
                when=lambda deployment: deployment.has("user") and not deployment.has("group"),
            ),
        ),
    ),
    Row(
        "umask",
        (
            _different(
                "it holds for files that the application makes, too, where Gunicorn applies it to Unix sockets only",
                "leave it out, and write bind as unix:PATH,mode=0660, if it was meant for a socket",
                when=lambda deployment: deployment.given.get("umask") not in (None, ""),
                needs_hand=True,
            ),
            _different(
                "a text is octal, as in -m 022, where Gunicorn reads a decimal number unless it begins with 0",
                "write a number such as 0o022 in the file",
                when=lambda deployment: (
                    deployment.text("umask").isdigit()
                    and isinstance(deployment.given["umask"], str)
                    and not deployment.text("umask").startswith("0")
                ),
                needs_hand=True,
            ),
        ),
    ),
    Row("initgroups", (_better("group is set as well, where Gunicorn leaves workers the group of root"),)),
    Row(
        "tmp_upload_dir",
        (_better("is used: for large request bodies, and responses to slow clients"),),
        page="howto/slow-clients",
    ),
)

_REQUESTS: tuple[Row, ...] = (
    *_same(
        "secure_scheme_headers",
        "forwarded_allow_ips",
        "forwarder_headers",
        "header_map",
        "permit_obsolete_folding",
        "strip_header_spaces",
        "permit_unconventional_http_method",
        "permit_unconventional_http_version",
        "casefold_http_method",
        "proxy_allow_ips",
    ),
    Row(
        "proxy_protocol",
        (
            _different(
                "with v1 and v2 each connection has to begin with the header, where Gunicorn also serves others",
                "use auto, or True, where some clients connect directly",
                when=lambda deployment: deployment.text("proxy_protocol") in ("v1", "v2"),
            ),
        ),
    ),
    *_same("protocol", "uwsgi_allow_ips", "keyfile", "certfile", "ca_certs", "ciphers"),
    Row(
        "ssl_context",
        (
            _different(
                "a context may have certificates of its own: clients have to use TLS without certfile, too, where "
                "Gunicorn speaks plain HTTP then",
                "define the function only where certfile is set, unless it loads certificates itself",
                when=lambda deployment: deployment.has("ssl_context") and not deployment.has("certfile"),
                needs_hand=True,
            ),
        ),
        page="howto/tls",
    ),
    Row("ssl_version", remark="without effect, as in Gunicorn; tls_minimum is the oldest version of TLS"),
    Row(
        "cert_reqs",
        (
            _different(
                "needs ca_certs",
                "name the certificates to verify those of clients against",
                when=lambda deployment: (
                    deployment.text("cert_reqs") not in ("", "0", "none") and not deployment.has("ca_certs")
                ),
                needs_hand=True,
            ),
        ),
        page="howto/tls",
    ),
    Row("suppress_ragged_eofs", remark="accepted; a connection that is closed in the midst of TLS is no error"),
    Row(
        "do_handshake_on_connect",
        (_better("accepted; a handshake never occupies a worker, whatever it is set to"),),
    ),
    Row(
        "http_parser",
        (
            _different(
                "the compiled parser is used where a C compiler was there, whatever is set",
                "WSGICLUSTER_PURE=1 selects plain Python",
                when=lambda deployment: deployment.text("http_parser") == "python",
            ),
        ),
    ),
)

_LOGS: tuple[Row, ...] = (
    Row("accesslog", (_better("has refused requests, too"),), page="howto/logging"),
    *_same("disable_redirect_access_to_syslog", "access_log_format"),
    Row(
        "errorlog",
        (
            _different(
                "None is standard error, where Gunicorn logs nothing",
                when=lambda deployment: "errorlog" in deployment.given and deployment.given["errorlog"] is None,
            ),
        ),
    ),
    Row(
        "loglevel",
        (
            _better(
                "knows warn and notset as warning and debug, where Gunicorn takes them for info",
                lambda deployment: deployment.text("loglevel") in ("warn", "notset"),
            ),
        ),
    ),
    *_same(
        "capture_output",
        "logger_class",
        "logconfig",
        "logconfig_dict",
        "logconfig_json",
        "syslog_addr",
        "syslog",
        "syslog_prefix",
        "syslog_facility",
        "enable_stdio_inheritance",
        "statsd_host",
        "dogstatsd_tags",
        "statsd_prefix",
        "enable_backlog_metric",
    ),
)

_PROCESSES: tuple[Row, ...] = (
    *_same("proc_name", "default_proc_name", "pythonpath"),
    *_same("paste", "raw_paste_global_conf"),
    Row(
        "control_socket",
        (
            _different(
                "the socket is an abstract one by default, and is for wsgiclusterctl, which has its own protocol",
                "use wsgiclusterctl in place of gunicornc",
                when=_always,
            ),
        ),
        page="howto/ctl",
    ),
    *_same("control_socket_mode", "control_socket_disable"),
)

_RAISES = "an exception in it is logged, where it ends Gunicorn's arbiter"

_HOOKS: tuple[Row, ...] = (
    *_same("on_starting", "when_ready"),
    Row("on_reload", (_better(_RAISES),)),
    Row(
        "pre_fork",
        (
            _better(_RAISES),
            _different("in a reload it comes before worker_exit and child_exit of the worker that is replaced"),
        ),
    ),
    Row(
        "post_fork",
        (
            _different(
                "with user and preload_app it does not run as root",
                "do what needs root in on_starting or when_ready",
                when=lambda deployment: all(map(deployment.has, ("user", "preload_app", "post_fork"))),
                needs_hand=True,
            ),
        ),
    ),
    *_same("post_worker_init"),
    Row(
        "worker_int",
        (_different("QUIT to a worker calls it; INT is ignored there, since terminals send it to all processes"),),
    ),
    *_same("worker_abort"),
    *_same("pre_exec", "pre_request", "post_request"),
    Row("child_exit", (_better(_RAISES),)),
    *_same("worker_exit"),
    Row("nworkers_changed", (_better(_RAISES + ", but for the first call"),)),
    *_same("on_exit"),
)

_OTHER_PROTOCOLS: tuple[Row, ...] = (
    *_not_for_wsgi(
        _HTTP2, "http_protocols", "http2_cleartext", "http2_max_concurrent_streams", "http2_initial_window_size",
        "http2_max_frame_size", "http2_max_header_list_size",
        http_protocols=("h1", ["h1"], ("h1",)), http2_cleartext=("off",), http2_max_concurrent_streams=(100,),
        http2_initial_window_size=(65535,), http2_max_frame_size=(16384,), http2_max_header_list_size=(65536,),
    ),
    *_not_for_wsgi(
        _ASGI, "asgi_loop", "asgi_lifespan", "asgi_disconnect_grace_period", "root_path", "websocket_max_message_size",
        asgi_loop=("auto",), asgi_lifespan=("auto", "off"), asgi_disconnect_grace_period=(3,),
        websocket_max_message_size=(16777216,),
    ),
    *_not_for_wsgi(
        _DIRTY, "dirty_apps", "dirty_workers", "dirty_timeout", "dirty_threads", "dirty_graceful_timeout",
        "on_dirty_starting", "dirty_post_fork", "dirty_worker_init", "dirty_worker_exit",
        dirty_timeout=(300,), dirty_threads=(1,), dirty_graceful_timeout=(30,),
    ),
)  # fmt: skip


def _is_of_another_framework(worker_class: str) -> bool:
    frameworks = ("eventlet", "tornado", "asgi", "uvicorn", "meinheld", "aiohttp", "sanic")
    return any(name in worker_class for name in frameworks)


def _is_class_of_user(value: object) -> bool:
    if isinstance(value, type):
        return True
    text = str(value or "")
    is_known = text.startswith(("gunicorn.", "egg:")) or _is_of_another_framework(text.lower())
    return "." in text.replace(":", ".") and not is_known


ROWS: Mapping[str, Row] = {
    row.name: row for row in (*_SERVER, *_REQUESTS, *_LOGS, *_PROCESSES, *_HOOKS, *_OTHER_PROTOCOLS)
}
"""Each setting of Gunicorn by its name, its hooks among them."""

GENERAL = (
    "An address that is in use is an error at once, where Gunicorn tries for 5 seconds.",
    "Exit codes: 2 for an invalid configuration (1 in Gunicorn), 4 where the application cannot be loaded (3).",
)
"""What no setting decides, in a line each, for those who move."""
