"""The settings: each one declared once, with its name, type, default, flags, help and the moment a change applies.

Nothing is read or checked here.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from wsgicluster.settings import kinds, proxy_kinds, rollout_kinds, worker_kinds
from wsgicluster.settings.declaration import (
    Applies,
    Declaration,
    Fallback,
    Group,
    Setting,
    declare,
    declare_computed,
    declared,
)
from wsgicluster.settings.values import Address, Portion, TcpAddress

NOW, NEXT_WORKER, RESTART = Applies.NOW, Applies.NEXT_WORKER, Applies.RESTART

ACCESS_LOG_FORMAT = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'
SCHEME_HEADERS = {"X-FORWARDED-PROTOCOL": "ssl", "X-FORWARDED-PROTO": "https", "X-FORWARDED-SSL": "on"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of one server; see `declared` for what is known about each of them."""

    # fmt: off
    wsgi_app: str = declare("", Declaration(
        kinds.TEXT, Group.APPLICATION, NEXT_WORKER,
        "The application: module, module:attribute or module:factory(\"text\", key=1).", default_text="none"))
    chdir: str = declare(".", Declaration(
        kinds.FOLDER, Group.APPLICATION, NEXT_WORKER,
        "Folder to change to before the application is loaded.", ("--chdir",), default_text="the current folder"))
    pythonpath: tuple[str, ...] = declare((), Declaration(
        kinds.PATHS, Group.APPLICATION, NEXT_WORKER,
        "Folders in which modules are looked for, behind the current one; parted by commas.", ("--pythonpath",)))
    raw_env: tuple[str, ...] = declare((), Declaration(
        kinds.ASSIGNMENTS, Group.APPLICATION, NEXT_WORKER,
        "Environment variable for the application; may be given several times.", ("-e", "--env")))
    preload_app: bool = declare(False, Declaration(
        kinds.SWITCH, Group.APPLICATION, NEXT_WORKER,
        "Load the application once for all workers, before they are forked.", ("--preload",)))
    smoke: tuple[str, ...] = declare((), Declaration(
        rollout_kinds.SMOKE, Group.APPLICATION, NEXT_WORKER,
        "Paths that the first worker of each generation asks its application for, before it serves; every answer must "
        "have a status below 500, within timeout. A URL names the host as well.", ("--smoke",), default_text="none"))
    reload: bool = declare(False, Declaration(
        kinds.SWITCH, Group.APPLICATION, NEXT_WORKER,
        "For development: replace the workers when a source file changes.", ("--reload",)))
    reload_extra_files: tuple[str, ...] = declare((), Declaration(
        kinds.PATTERNS, Group.APPLICATION, NEXT_WORKER,
        "File (or pattern) to watch besides the source files; may be given several times.", ("--reload-extra-file",)))

    bind: tuple[Address, ...] = declare((TcpAddress("127.0.0.1", 8000),), Declaration(
        kinds.ADDRESSES, Group.ADDRESSES, NEXT_WORKER,
        "Address to listen at; may be given several times. Port 0 lets the system choose.", ("-b", "--bind"),
        Fallback("PORT", "0.0.0.0:{}")))
    backlog: int = declare(2048, Declaration(
        kinds.COUNT_FROM_ONE, Group.ADDRESSES, RESTART,
        "Connections that may wait to be accepted.", ("--backlog",)))
    defer_accept: float = declare(1.0, Declaration(
        kinds.DURATION, Group.ADDRESSES, RESTART,
        "How long the kernel keeps a TCP connection without a byte to itself; 0 shows each to a worker at once.",
        ("--defer-accept",)))

    workers: int = declare(1, Declaration(
        kinds.WORKERS, Group.WORKERS, NOW,
        "Number of worker processes; auto is one for each processor that may be used.", ("-w", "--workers"),
        Fallback("WEB_CONCURRENCY")))
    worker_class: worker_kinds.WorkerClass = declare("sync", Declaration(  # noqa: RUF009
        worker_kinds.WORKER_CLASS, Group.WORKERS, NEXT_WORKER,
        "Kind of the workers; in the configuration file it may be a class itself.", ("-k", "--worker-class")))
    threads: int = declare(1, Declaration(
        kinds.COUNT_FROM_ONE, Group.WORKERS, NEXT_WORKER,
        "Threads of a gthread worker that run the application; more than one make sync workers such ones.",
        ("--threads",)))
    worker_connections: int = declare(1000, Declaration(
        kinds.COUNT_FROM_ONE, Group.WORKERS, NEXT_WORKER,
        "Connections that a gthread or gevent worker keeps open; at so many it accepts no more.",
        ("--worker-connections",)))
    stream_body: str = declare("large", Declaration(
        kinds.STREAM_BODY, Group.WORKERS, NEXT_WORKER,
        "Request bodies that a gevent worker gives to the application while they arrive: those whose length is above "
        "64 KiB (large), all, or none (off).", ("--stream-body",)))
    reload_surge: Portion = declare(rollout_kinds.QUARTER, Declaration(  # noqa: RUF009
        rollout_kinds.SURGE, Group.WORKERS, NOW,
        "How many workers more than wanted may boot and serve while a new generation takes over, those not counted "
        "that are leaving: a number, or with % a part of the workers. With 0 an old worker is gone before its "
        "successor boots, which needs a min_ready below workers.", ("--reload-surge",)))
    min_ready: int = declare(rollout_kinds.ALL_WORKERS, Declaration(
        rollout_kinds.MIN_READY, Group.WORKERS, NOW,
        "So many workers must be ready before the server counts as started, and no reload goes below this number.",
        ("--min-ready",)))
    sendfile: bool = declare(True, Declaration(
        kinds.SWITCH, Group.WORKERS, NEXT_WORKER,
        "Send the files of wsgi.file_wrapper by the system's sendfile; the flag turns it off.", ("--no-sendfile",),
        Fallback("SENDFILE"), flag_value=False))
    worker_tmp_dir: str | None = declare(None, Declaration(
        kinds.OPTIONAL_PATH, Group.WORKERS, RESTART,
        "Folder for the file through which workers show that they live; best one that is in memory.",
        ("--worker-tmp-dir",), default_text="/dev/shm where that is in memory, else the system's"))
    tmp_upload_dir: str | None = declare(None, Declaration(
        kinds.OPTIONAL_PATH, Group.WORKERS, NEXT_WORKER,
        "Folder for request and response bodies that are kept on disk.", default_text="the system's"))

    timeout: float = declare(30.0, Declaration(
        kinds.DURATION, Group.TIMES, NEXT_WORKER,
        "A worker that boots, or is busy with one request, for longer than this is replaced; 0 means never.",
        ("-t", "--timeout")))
    graceful_timeout: float = declare(30.0, Declaration(
        kinds.DURATION, Group.TIMES, NEXT_WORKER,
        "Time in which a worker that is asked to leave may finish its requests.", ("--graceful-timeout",)))
    drain_delay: float = declare(0.0, Declaration(
        kinds.DURATION, Group.TIMES, NOW,
        "After TERM, time for which the server goes on as before but says that it is not ready, so that load balancers "
        "send it nobody any more when it stops.", ("--drain-delay",)))
    keepalive: float = declare(75.0, Declaration(
        kinds.DURATION, Group.TIMES, NEXT_WORKER,
        "Time for which a connection waits for its next request; 0 closes each after its response.",
        ("--keep-alive",)))
    keepalive_slow: float = declare(0.01, Declaration(
        kinds.DURATION, Group.TIMES, NEXT_WORKER,
        "A sync worker closes a connection after a request that took longer than this: its client's next request then "
        "goes to a worker that is free. 0 keeps all.", ("--keepalive-slow",)))
    head_timeout: float = declare(20.0, Declaration(
        kinds.DURATION, Group.TIMES, NEXT_WORKER,
        "Time in which the head of a request must arrive; 0 means no limit.", ("--head-timeout",)))
    body_timeout: float = declare(30.0, Declaration(
        kinds.DURATION, Group.TIMES, NEXT_WORKER,
        "Time for which the body of a request may pause; 0 means no limit.", ("--body-timeout",)))
    write_timeout: float = declare(30.0, Declaration(
        kinds.DURATION, Group.TIMES, NEXT_WORKER,
        "Time for which a client may pause in taking its response; 0 means no limit.", ("--write-timeout",)))
    queue_timeout: float = declare(0.0, Declaration(
        kinds.DURATION, Group.TIMES, NEXT_WORKER,
        "A request that has waited for longer than this before it is run is answered 503 instead; 0 means never.",
        ("--queue-timeout",)))

    max_requests: int = declare(0, Declaration(
        kinds.COUNT, Group.RECYCLING, NEXT_WORKER,
        "Requests after which a worker is replaced; 0 means never.", ("--max-requests",)))
    max_requests_jitter: int = declare(0, Declaration(
        kinds.COUNT, Group.RECYCLING, NEXT_WORKER,
        "Up to so many more requests, at random, so that workers do not leave together.",
        ("--max-requests-jitter",)))
    max_memory: int = declare(0, Declaration(
        kinds.MEMORY, Group.RECYCLING, NEXT_WORKER,
        "Resident memory above which a worker is replaced: a size, or with % a part of the memory that all workers "
        "may use together; 0 means never.", ("--max-memory",)))
    max_memory_jitter: int = declare(0, Declaration(
        kinds.SIZE, Group.RECYCLING, NEXT_WORKER,
        "Up to so much more memory, at random.", ("--max-memory-jitter",)))

    limit_request_line: int = declare(8190, Declaration(
        kinds.LINE_SIZE, Group.REQUESTS, NEXT_WORKER,
        "Longest request line; 0 stands for 64K.", ("--limit-request-line",)))
    limit_request_fields: int = declare(100, Declaration(
        kinds.FIELDS, Group.REQUESTS, NEXT_WORKER,
        "Most header fields; 0 stands for 32768.", ("--limit-request-fields",)))
    limit_request_field_size: int = declare(8190, Declaration(
        kinds.LINE_SIZE, Group.REQUESTS, NEXT_WORKER,
        "Longest header field; 0 stands for 64K.", ("--limit-request-field_size", "--limit-request-field-size")))
    limit_request_body: int = declare(1 << 30, Declaration(
        kinds.SIZE, Group.REQUESTS, NEXT_WORKER,
        "Longest body; 0 means no limit.", ("--limit-request-body",)))

    forwarded_allow_ips: tuple[str, ...] = declare(("127.0.0.1", "::1"), Declaration(
        kinds.PEERS, Group.PROXIES, NEXT_WORKER,
        "Proxies that may say whether the client used https; * for every peer.", ("--forwarded-allow-ips",),
        Fallback("FORWARDED_ALLOW_IPS", empty_counts=True)))
    secure_scheme_headers: Mapping[str, str] = declare_computed(lambda: dict(SCHEME_HEADERS), Declaration(
        kinds.SCHEMES, Group.PROXIES, NEXT_WORKER,
        "Header fields by which a proxy says so, and the value of each that means https."))
    forwarded_hops: int = declare(0, Declaration(
        proxy_kinds.HOPS, Group.PROXIES, NEXT_WORKER,
        "How many proxies have written down the client's address, the one that connects included: REMOTE_ADDR is then "
        "what the outermost of them wrote. 0 leaves the peer's address; auto passes over addresses in "
        "forwarded_allow_ips.", ("--forwarded-hops",)))
    forwarded_fields: tuple[str, ...] = declare(("x-forwarded-for",), Declaration(
        proxy_kinds.FORWARDED, Group.PROXIES, NEXT_WORKER,
        "Header fields that these proxies set, each of them in every request; only with forwarded_hops.",
        ("--forwarded-fields",)))
    proxy_protocol: str = declare("off", Declaration(
        proxy_kinds.PROXY_MODE, Group.PROXIES, NEXT_WORKER,
        "Version of the PROXY protocol with which every connection begins; the flag alone means auto.",
        ("--proxy-protocol",), bare_value="auto"))
    proxy_allow_ips: tuple[str, ...] = declare(("127.0.0.1", "::1"), Declaration(
        kinds.PEERS, Group.PROXIES, NEXT_WORKER,
        "Proxies that may introduce clients by the PROXY protocol; * for every peer.", ("--proxy-allow-from",)))
    protocol: str = declare("http", Declaration(
        proxy_kinds.PROTOCOL, Group.PROXIES, RESTART,
        "What is spoken at every address: http, or uwsgi with gateways such as nginx's uwsgi_pass.", ("--protocol",)))
    uwsgi_allow_ips: tuple[str, ...] = declare(("127.0.0.1", "::1"), Declaration(
        kinds.PEERS, Group.PROXIES, NEXT_WORKER,
        "Gateways that may send requests by the uwsgi protocol; * for every peer.", ("--uwsgi-allow-from",)))
    header_map: str = declare("drop", Declaration(
        proxy_kinds.HEADER_MAP, Group.PROXIES, NEXT_WORKER,
        "What becomes of header fields whose name has an underscore: drop them, refuse the request, or (dangerous) let "
        "clients pose as proxies.", ("--header-map",)))
    forwarder_headers: tuple[str, ...] = declare(("SCRIPT_NAME", "PATH_INFO"), Declaration(
        proxy_kinds.HEADER_NAMES, Group.PROXIES, NEXT_WORKER,
        "Header fields with underscores that proxies in forwarded_allow_ips may send all the same; * for any.",
        ("--forwarder-headers",)))
    request_id: str = declare("off", Declaration(
        proxy_kinds.REQUEST_ID, Group.PROXIES, NEXT_WORKER,
        "Give each request an ID, shown in logs and responses: always make one, or accept that of proxies in "
        "forwarded_allow_ips and make one where there is none.", ("--request-id",)))
    request_id_header: str = declare("X-Request-ID", Declaration(
        proxy_kinds.HEADER_NAME, Group.PROXIES, NEXT_WORKER,
        "Header field of these IDs, in requests and responses.", ("--request-id-header",)))

    certfile: str | None = declare(None, Declaration(
        kinds.OPTIONAL_PATH, Group.TLS, NEXT_WORKER,
        "File with the server's certificate and those between it and the authority, in PEM form; turns TLS on.",
        ("--certfile",)))
    keyfile: str | None = declare(None, Declaration(
        kinds.OPTIONAL_PATH, Group.TLS, NEXT_WORKER,
        "File with the certificate's key.", ("--keyfile",), default_text="in the certificate's file"))
    ca_certs: str | None = declare(None, Declaration(
        kinds.OPTIONAL_PATH, Group.TLS, NEXT_WORKER,
        "File with the certificates of the authorities that vouch for clients.", ("--ca-certs",)))
    cert_reqs: str = declare("none", Declaration(
        kinds.CERT_REQS, Group.TLS, NEXT_WORKER,
        "Whether clients may, or must, show a certificate.", ("--cert-reqs",)))
    tls_minimum: str = declare("1.2", Declaration(
        kinds.TLS_VERSION, Group.TLS, NEXT_WORKER,
        "Oldest version of TLS that is spoken.", ("--tls-minimum",)))
    ciphers: str | None = declare(None, Declaration(
        kinds.OPTIONAL_TEXT, Group.TLS, NEXT_WORKER,
        "Ciphers for TLS 1.2, in OpenSSL's words.", ("--ciphers",), default_text="Python's choice"))
    ssl_context: Callable[..., Any] | None = declare(None, Declaration(  # noqa: RUF009
        kinds.FUNCTION, Group.TLS, NEXT_WORKER,
        "Function that is given these settings and a function without arguments that makes the usual "
        "ssl.SSLContext, and returns the context to use."))
    do_handshake_on_connect: bool = declare(False, Declaration(
        kinds.SWITCH, Group.TLS, NEXT_WORKER,
        "Without effect: no handshake ever keeps a worker waiting.", ("--do-handshake-on-connect",)))
    suppress_ragged_eofs: bool = declare(True, Declaration(
        kinds.SWITCH, Group.TLS, NEXT_WORKER,
        "Without effect: a connection that ends, ends, with or without a word of TLS.", ("--suppress-ragged-eofs",)))

    daemon: bool = declare(False, Declaration(
        kinds.SWITCH, Group.PROCESS, RESTART,
        "Run in the background.", ("-D", "--daemon")))
    pidfile: str | None = declare(None, Declaration(
        kinds.OPTIONAL_PATH, Group.PROCESS, RESTART,
        "File to write the arbiter's process id to.", ("-p", "--pid")))
    proc_name: str | None = declare(None, Declaration(
        kinds.OPTIONAL_TEXT, Group.PROCESS, NEXT_WORKER,
        "Name of this server in process listings.", ("-n", "--name"), default_text="the application"))
    user: int = declare_computed(os.geteuid, Declaration(
        kinds.USER, Group.PROCESS, NEXT_WORKER,
        "User that workers run as.", ("-u", "--user"), default_text="the current one"))
    group: int = declare_computed(os.getegid, Declaration(
        kinds.GROUP, Group.PROCESS, NEXT_WORKER,
        "Group that workers run as.", ("-g", "--group"), default_text="the user's own, or the current one"))
    initgroups: bool = declare(False, Declaration(
        kinds.SWITCH, Group.PROCESS, NEXT_WORKER,
        "Give workers all groups of their user.", ("--initgroups",)))
    umask: int = declare(0, Declaration(
        kinds.MODE, Group.PROCESS, RESTART,
        "Permissions that new files are made without, in octal.", ("-m", "--umask")))

    errorlog: str = declare("-", Declaration(
        kinds.LOG_FILE, Group.LOGS, NOW,
        "Where errors and events are logged.", ("--error-logfile", "--log-file")))
    loglevel: str = declare("info", Declaration(
        kinds.LOG_LEVEL, Group.LOGS, NOW,
        "Least severe messages that are logged.", ("--log-level",)))
    accesslog: str | None = declare(None, Declaration(
        kinds.OPTIONAL_LOG_FILE, Group.LOGS, NOW,
        "Where requests are logged.", ("--access-logfile",)))
    access_log_format: str = declare(ACCESS_LOG_FORMAT, Declaration(
        kinds.TEXT, Group.LOGS, NOW,
        "What is logged of a request.", ("--access-logformat",)))
    logconfig_dict: Mapping[str, Any] | None = declare(None, Declaration(
        kinds.MAPPING, Group.LOGS, NOW,
        "Configuration for Python's logging.config.dictConfig."))
    capture_output: bool = declare(False, Declaration(
        kinds.SWITCH, Group.LOGS, RESTART,
        "Send what the application prints to the error log's file, which then stays the same until a restart.",
        ("--capture-output",)))

    config: str | None = declare(None, Declaration(
        kinds.OPTIONAL_PATH, Group.CONFIGURATION, RESTART,
        "Configuration file: PATH, file:PATH or python:MODULE.", ("-c", "--config"),
        default_text="./wsgicluster.conf.py, then ./gunicorn.conf.py"))
    print_config: bool = declare(False, Declaration(
        kinds.SWITCH, Group.CONFIGURATION, RESTART,
        "Show every setting, its value and where that comes from.", ("--print-config",)))
    check_config: bool = declare(False, Declaration(
        kinds.SWITCH, Group.CONFIGURATION, RESTART,
        "Check the settings, load the application, and end.", ("--check-config",)))
    doctor: bool = declare(False, Declaration(
        kinds.SWITCH, Group.CONFIGURATION, RESTART,
        "Look at settings, machine and application for what is known to bite, show each finding with its remedy, "
        "and end.", ("--doctor",)))
    # fmt: on

    @property
    def has_tls(self) -> bool:
        """Whether clients have to speak TLS."""
        return self.certfile is not None or self.ssl_context is not None

    @property
    def scheme(self) -> str:
        """What clients speak, as the first word of a URL: http, https or uwsgi."""
        return "https" if self.has_tls else self.protocol


SETTINGS: dict[str, Setting] = {setting.name: setting for setting in declared(Settings)}
"""Name to declaration, in the order in which they are listed."""
