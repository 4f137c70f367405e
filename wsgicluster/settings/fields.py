"""The settings: each one declared once, with its name, type, default, flags, help and the moment a change applies.

Nothing is read or checked here.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

from wsgicluster.dataclass import dataclass
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
from wsgicluster.settings.types import admin as admin_types
from wsgicluster.settings.types import bus as bus_types
from wsgicluster.settings.types import events, general, health, hooks, proxy, rollout, state, worker
from wsgicluster.settings.types import logs as log_types
from wsgicluster.settings.types import scheduling as scheduling_types
from wsgicluster.settings.types.values import Address, Portion, TcpAddress, WorkerRange

NOW, NEXT_WORKER, RESTART = Applies.NOW, Applies.NEXT_WORKER, Applies.RESTART

ACCESS_LOG_FORMAT = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'
SCHEME_HEADERS = {"X-FORWARDED-PROTOCOL": "ssl", "X-FORWARDED-PROTO": "https", "X-FORWARDED-SSL": "on"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of one server; see `declared` for their declarations."""

    # fmt: off
    wsgi_app: str = declare("", Declaration(
        general.TEXT, Group.APPLICATION, NEXT_WORKER,
        "The application: module, module:attribute or module:factory(\"text\", key=1).", default_text="none"))
    chdir: str = declare(".", Declaration(
        general.FOLDER, Group.APPLICATION, NEXT_WORKER,
        "Folder to change to before the application is loaded.", ("--chdir",), default_text="the current folder"))
    pythonpath: tuple[str, ...] = declare((), Declaration(
        general.PATHS, Group.APPLICATION, NEXT_WORKER,
        "Folders to search for modules, after the current one; separated by commas.", ("--pythonpath",)))
    raw_env: tuple[str, ...] = declare((), Declaration(
        general.ASSIGNMENTS, Group.APPLICATION, NEXT_WORKER,
        "Environment variable for the application, as NAME=VALUE; may be repeated.", ("-e", "--env")))
    paste: str | None = declare(None, Declaration(
        general.OPTIONAL_PATH, Group.APPLICATION, NEXT_WORKER,
        "INI file of Paste Deployment that describes the application, PATH or PATH#NAME, in place of wsgi_app. If it "
        "configures logging, that is used unless logconfig is set.", ("--paste", "--paster")))
    raw_paste_global_conf: tuple[str, ...] = declare((), Declaration(
        general.ASSIGNMENTS, Group.APPLICATION, NEXT_WORKER,
        "Variable for that file, as in its [DEFAULT], as NAME=VALUE; may be repeated.", ("--paste-global",)))
    preload_app: bool = declare(False, Declaration(
        general.SWITCH, Group.APPLICATION, NEXT_WORKER,
        "Load the application once, before the workers are forked.", ("--preload",)))
    refork_after: int = declare(0, Declaration(
        general.COUNT, Group.APPLICATION, NEXT_WORKER,
        "With preload_app: requests after which an idle worker becomes the process that the others are forked from, so "
        "that they share what it has loaded; 0 means never.", ("--refork-after",)))
    smoke: tuple[str, ...] = declare((), Declaration(
        rollout.SMOKE, Group.APPLICATION, NEXT_WORKER,
        "Smoke test: paths that the first worker of each generation requests of its application before it serves. Each "
        "response must have a status below 500 and arrive within timeout. A URL also sets the Host.",
        ("--smoke",), default_text="none"))
    reload: bool = declare(False, Declaration(
        general.SWITCH, Group.APPLICATION, NEXT_WORKER,
        "For development: replace all workers when a source file changes.", ("--reload",)))
    reload_extra_files: tuple[str, ...] = declare((), Declaration(
        general.PATTERNS, Group.APPLICATION, NEXT_WORKER,
        "File or glob pattern that reload watches besides the source files; may be repeated.",
        ("--reload-extra-file",)))

    spew: bool = declare(False, Declaration(
        general.SWITCH, Group.APPLICATION, NEXT_WORKER,
        "For development: print each line of Python that a worker executes, except those of the server itself.",
        ("--spew",)))

    bind: tuple[Address, ...] = declare((TcpAddress("127.0.0.1", 8000),), Declaration(
        general.ADDRESSES, Group.ADDRESSES, NEXT_WORKER,
        "Address to listen on; may be repeated. Port 0 lets the system choose one.",
        ("-b", "--bind"), Fallback("PORT", "0.0.0.0:{}")))
    backlog: int = declare(2048, Declaration(
        general.COUNT, Group.ADDRESSES, RESTART,
        "Connections that may wait in the kernel to be accepted.", ("--backlog",)))
    reuse_port: bool = declare(False, Declaration(
        general.SWITCH, Group.ADDRESSES, RESTART,
        "Let other servers of the same user listen on the same TCP port (SO_REUSEPORT); the kernel divides new "
        "connections among them.", ("--reuse-port",)))
    defer_accept: float = declare(1.0, Declaration(
        general.DURATION, Group.ADDRESSES, RESTART,
        "How long the kernel holds back a TCP connection on which no byte has arrived; 0 passes each to a worker at "
        "once.", ("--defer-accept",)))

    workers: int = declare(1, Declaration(
        general.WORKERS, Group.WORKERS, NOW,
        "Number of worker processes; auto starts one for each usable processor, a range such as 2..16 as many as there "
        "is work for.",
        ("-w", "--workers"), Fallback("WEB_CONCURRENCY")))
    worker_idle_timeout: float = declare(60.0, Declaration(
        general.DURATION, Group.WORKERS, NOW,
        "With a range of workers: how long they have to be idle before one of them is stopped.",
        ("--worker-idle-timeout",)))
    worker_class: worker.WorkerClass = declare("sync", Declaration(
        worker.WORKER_CLASS, Group.WORKERS, NEXT_WORKER,
        "Kind of worker: sync, gthread, gevent or a class; the configuration file may also give the class itself.",
        ("-k", "--worker-class")))
    threads: int = declare(1, Declaration(
        general.THREADS, Group.WORKERS, NEXT_WORKER,
        "Threads of a gthread worker that run the application; more than 1 switches sync to gthread.", ("--threads",)))
    worker_connections: int = declare(1000, Declaration(
        general.COUNT_FROM_ONE, Group.WORKERS, NEXT_WORKER,
        "Open connections of a gthread or gevent worker; at this limit it stops accepting.", ("--worker-connections",)))
    scheduling: str = declare(scheduling_types.SHARED, Declaration(
        scheduling_types.SCHEDULING, Group.WORKERS, NEXT_WORKER,
        "Worker that serves a new client: shared (one that waits), round-robin, weighted, least-connections, or sticky "
        "(always the same).", ("--scheduling",)))
    weights: tuple[int, ...] = declare((), Declaration(
        scheduling_types.WEIGHTS, Group.WORKERS, NEXT_WORKER,
        "Shares of the workers in new clients, in the order of their slots; switches scheduling to weighted.",
        ("--weights",)))
    sticky: scheduling_types.Sticky = declare(scheduling_types.Sticky("address"), Declaration(
        scheduling_types.STICKY, Group.WORKERS, NEXT_WORKER,
        "What a client is known by: address, header:NAME, cookie or cookie:NAME; switches scheduling to sticky.",
        ("--sticky",)))
    hand_off_waiting: bool = declare(True, Declaration(
        general.SWITCH, Group.WORKERS, NEXT_WORKER,
        "While a sync worker runs a slow request, hand off the connections on which others come to an idle worker; the "
        "flag turns this off.", ("--no-hand-off-waiting",), flag_value=False))
    stream_body: str = declare("large", Declaration(
        general.STREAM_BODY, Group.WORKERS, NEXT_WORKER,
        "Request bodies that a gevent worker passes to the application while they arrive: those above 64 KiB (large), "
        "all, or none (off).", ("--stream-body",)))
    raw_socket: bool = declare(False, Declaration(
        general.SWITCH, Group.WORKERS, NEXT_WORKER,
        "Add the client's socket to the environ of requests with Upgrade (gunicorn.socket, werkzeug.socket), for "
        "WebSocket libraries.", ("--raw-socket",)))
    reload_surge: Portion = declare(rollout.QUARTER, Declaration(
        rollout.SURGE, Group.WORKERS, NOW,
        "Workers that a reload may start beyond the number wanted, draining ones not counted: a number, or a "
        "percentage of workers. With 0 each old worker exits before its replacement boots, which needs min_ready below "
        "workers.", ("--reload-surge",)))
    reload_probation: float = declare(0.25, Declaration(
        general.DURATION, Group.WORKERS, NOW,
        "How long the first worker of a reload serves beside the old ones before it is trusted. Above 0.25 seconds its "
        "errors and times are compared with theirs, and the reload is aborted if it does worse.",
        ("--reload-probation",)))
    reload_error_share: float = declare(0.05, Declaration(
        rollout.ERROR_SHARE, Group.WORKERS, NOW,
        "A reload on probation is aborted when its share of requests that fail (status 5xx, or an exception) exceeds "
        "that of the old workers by more than this.", ("--reload-error-share",)))
    reload_latency_factor: float = declare(3.0, Declaration(
        rollout.LATENCY_FACTOR, Group.WORKERS, NOW,
        "A reload on probation is aborted when its requests take more than this many times as long as those of the old "
        "workers; 0 means no limit.", ("--reload-latency-factor",)))
    reload_least_requests: int = declare(20, Declaration(
        general.COUNT_FROM_ONE, Group.WORKERS, NOW,
        "Requests that a reload on probation has to serve before it is compared; with fewer it continues.",
        ("--reload-least-requests",)))
    min_ready: int = declare(rollout.ALL_WORKERS, Declaration(
        rollout.MIN_READY, Group.WORKERS, NOW,
        "Workers that must be ready before the server counts as started; reloads keep at least this many.",
        ("--min-ready",)))
    sendfile: bool = declare(True, Declaration(
        general.SWITCH, Group.WORKERS, NEXT_WORKER,
        "Send files of wsgi.file_wrapper with sendfile(2); the flag turns this off.",
        ("--no-sendfile",), Fallback("SENDFILE"), flag_value=False))
    worker_tmp_dir: str | None = declare(None, Declaration(
        general.OPTIONAL_PATH, Group.WORKERS, RESTART,
        "Folder for the worker heartbeat file; use a tmpfs.",
        ("--worker-tmp-dir",), default_text="/dev/shm where that is in memory, else the system's"))
    tmp_upload_dir: str | None = declare(None, Declaration(
        general.OPTIONAL_PATH, Group.WORKERS, NEXT_WORKER,
        "Folder for temporary files with request and response bodies.", default_text="the system's"))
    response_buffer: int = declare(1 << 20, Declaration(
        general.SIZE, Group.WORKERS, NEXT_WORKER,
        "Unsent bytes of a response that are kept in memory for a slow client, the block that exceeds this included. "
        "Beyond that, sync workers store the response on disk, and others make the application wait.",
        ("--response-buffer",)))
    response_spool: int = declare(64 << 20, Declaration(
        general.SIZE, Group.WORKERS, NEXT_WORKER,
        "Unsent bytes of a response that a sync worker stores on disk, in tmp_upload_dir, before the application waits "
        "for the client; in other workers, the largest block that is stored. 0 stores nothing.", ("--response-spool",)))

    timeout: float = declare(30.0, Declaration(
        general.DURATION, Group.TIMES, NEXT_WORKER,
        "A worker that takes longer than this to boot, or whose request produces no part of its response for this "
        "long, is replaced; 0 means never.", ("-t", "--timeout")))
    graceful_timeout: float = declare(30.0, Declaration(
        general.DURATION, Group.TIMES, NEXT_WORKER,
        "How long a worker that is stopping may take to finish its requests.", ("--graceful-timeout",)))
    drain_delay: float = declare(0.0, Declaration(
        general.DURATION, Group.TIMES, NOW,
        "After TERM, how long the server keeps serving while it reports that it is not ready, so that load balancers "
        "stop sending clients first.", ("--drain-delay",)))
    keepalive: float = declare(75.0, Declaration(
        general.DURATION, Group.TIMES, NEXT_WORKER,
        "How long an idle connection waits for its next request; 0 closes each after its response.", ("--keep-alive",)))
    keepalive_slow: float = declare(0.01, Declaration(
        general.DURATION, Group.TIMES, NEXT_WORKER,
        "A sync worker closes the connection after a request that took longer than this, so that the client's next "
        "request can go to a free worker; 0 keeps all connections.", ("--keepalive-slow",)))
    head_timeout: float = declare(20.0, Declaration(
        general.DURATION, Group.TIMES, NEXT_WORKER,
        "How long the head of a request may take to arrive; 0 means no limit.", ("--head-timeout",)))
    body_timeout: float = declare(30.0, Declaration(
        general.DURATION, Group.TIMES, NEXT_WORKER,
        "How long a client may pause while it sends a body; 0 means no limit.", ("--body-timeout",)))
    write_timeout: float = declare(30.0, Declaration(
        general.DURATION, Group.TIMES, NEXT_WORKER,
        "How long a client may pause while it reads its response; 0 means no limit.", ("--write-timeout",)))
    queue_timeout: float = declare(0.0, Declaration(
        general.DURATION, Group.TIMES, NEXT_WORKER,
        "A request that has waited longer than this for a worker gets a 503 instead; 0 means never.",
        ("--queue-timeout",)))

    max_requests: int = declare(0, Declaration(
        general.COUNT, Group.RECYCLING, NEXT_WORKER,
        "Requests that a worker serves before it is replaced; 0 means no limit.", ("--max-requests",)))
    max_requests_jitter: int = declare(0, Declaration(
        general.COUNT, Group.RECYCLING, NEXT_WORKER,
        "Random addition to max_requests, up to this number, so that workers are not replaced all at once.",
        ("--max-requests-jitter",)))
    max_memory: int = declare(0, Declaration(
        general.MEMORY, Group.RECYCLING, NEXT_WORKER,
        "Resident memory of a worker above which it is replaced: a size, or a percentage of the machine's or "
        "container's memory, divided among the workers; 0 means no limit.", ("--max-memory",)))
    max_memory_jitter: int = declare(0, Declaration(
        general.SIZE, Group.RECYCLING, NEXT_WORKER,
        "Random addition to max_memory, up to this size.", ("--max-memory-jitter",)))

    limit_request_line: int = declare(8190, Declaration(
        general.LINE_SIZE, Group.REQUESTS, NEXT_WORKER,
        "Longest request line, in bytes; 0 means 64K.", ("--limit-request-line",)))
    limit_request_fields: int = declare(100, Declaration(
        general.FIELDS, Group.REQUESTS, NEXT_WORKER,
        "Most header fields in a request; 0 means 32768.", ("--limit-request-fields",)))
    limit_request_field_size: int = declare(8190, Declaration(
        general.LINE_SIZE, Group.REQUESTS, NEXT_WORKER,
        "Longest header field, in bytes; 0 means 64K.", ("--limit-request-field_size", "--limit-request-field-size")))
    limit_request_body: int = declare(1 << 30, Declaration(
        general.SIZE, Group.REQUESTS, NEXT_WORKER,
        "Longest request body; 0 means no limit.", ("--limit-request-body",)))
    permit_unconventional_http_method: bool = declare(False, Declaration(
        general.SWITCH, Group.REQUESTS, NEXT_WORKER,
        "Accept methods with lower-case letters or #, and those of less than 3 or more than 20 characters.",
        ("--permit-unconventional-http-method",)))
    casefold_http_method: bool = declare(False, Declaration(
        general.SWITCH, Group.REQUESTS, NEXT_WORKER,
        "Turn methods into capitals; lower-case ones have to be permitted as well.", ("--casefold-http-method",)))
    permit_unconventional_http_version: bool = declare(False, Declaration(
        general.SWITCH, Group.REQUESTS, NEXT_WORKER,
        "Accept requests with another version than HTTP/1.0 and HTTP/1.1 in their request line, and respond with "
        "HTTP/1.1.", ("--permit-unconventional-http-version",)))
    permit_obsolete_folding: bool = declare(False, Declaration(
        general.SWITCH, Group.REQUESTS, NEXT_WORKER,
        "Accept header fields that continue on a line that begins with a space. Other servers on a request's way may "
        "read these differently.", ("--permit-obsolete-folding",)))
    strip_header_spaces: bool = declare(False, Declaration(
        general.SWITCH, Group.REQUESTS, NEXT_WORKER,
        "Accept spaces between the name of a header field and its colon. Other servers on a request's way may read "
        "these differently.", ("--strip-header-spaces",)))

    forwarded_allow_ips: tuple[str, ...] = declare(("127.0.0.1", "::1"), Declaration(
        general.PEERS, Group.PROXIES, NEXT_WORKER,
        "Proxies whose scheme headers (https) are trusted; * trusts every peer.",
        ("--forwarded-allow-ips",), Fallback("FORWARDED_ALLOW_IPS", empty_counts=True)))
    secure_scheme_headers: Mapping[str, str] = declare_computed(lambda: dict(SCHEME_HEADERS), Declaration(
        general.SCHEMES, Group.PROXIES, NEXT_WORKER,
        "Header fields with which a trusted proxy reports the scheme, and the value of each that means https."))
    forwarded_hops: int = declare(0, Declaration(
        proxy.HOPS, Group.PROXIES, NEXT_WORKER,
        "Number of proxies in front that record the client's address: REMOTE_ADDR becomes the address that the "
        "outermost one recorded. 0 keeps the peer's address; auto skips addresses in forwarded_allow_ips.",
        ("--forwarded-hops",)))
    forwarded_fields: tuple[str, ...] = declare(("x-forwarded-for",), Declaration(
        proxy.FORWARDED, Group.PROXIES, NEXT_WORKER,
        "Header fields that all these proxies set in every request; used with forwarded_hops.",
        ("--forwarded-fields",)))
    proxy_protocol: str = declare("off", Declaration(
        proxy.PROXY_MODE, Group.PROXIES, NEXT_WORKER,
        "Version of the PROXY protocol header that begins every connection; the flag alone means auto.",
        ("--proxy-protocol",), bare_value="auto"))
    proxy_allow_ips: tuple[str, ...] = declare(("127.0.0.1", "::1"), Declaration(
        general.PEERS, Group.PROXIES, NEXT_WORKER,
        "Proxies whose PROXY protocol header is trusted; * trusts every peer.", ("--proxy-allow-from",)))
    protocol: str = declare("http", Declaration(
        proxy.PROTOCOL, Group.PROXIES, RESTART,
        "Protocol on all listeners: http, or uwsgi for gateways such as nginx's uwsgi_pass.", ("--protocol",)))
    uwsgi_allow_ips: tuple[str, ...] = declare(("127.0.0.1", "::1"), Declaration(
        general.PEERS, Group.PROXIES, NEXT_WORKER,
        "Gateways that may send requests with the uwsgi protocol; * allows every peer.", ("--uwsgi-allow-from",)))
    header_map: str = declare("drop", Declaration(
        proxy.HEADER_MAP, Group.PROXIES, NEXT_WORKER,
        "Header fields with an underscore in their name: drop them, refuse the request, or accept them (dangerous: "
        "clients can impersonate proxies).", ("--header-map",)))
    forwarder_headers: tuple[str, ...] = declare(("SCRIPT_NAME", "PATH_INFO"), Declaration(
        proxy.HEADER_NAMES, Group.PROXIES, NEXT_WORKER,
        "Header fields with underscores that are accepted from proxies in forwarded_allow_ips; * accepts all.",
        ("--forwarder-headers",)))
    request_id: str = declare("off", Declaration(
        proxy.REQUEST_ID, Group.PROXIES, NEXT_WORKER,
        "Add an ID to each request, its logs and its response: make always generates one; accept prefers the one "
        "that a proxy in forwarded_allow_ips sent.", ("--request-id",)))
    request_id_header: str = declare("X-Request-ID", Declaration(
        proxy.HEADER_NAME, Group.PROXIES, NEXT_WORKER,
        "Header field for the request ID, in requests and responses.", ("--request-id-header",)))

    trace: str = declare("off", Declaration(
        proxy.TRACE, Group.PROXIES, NEXT_WORKER,
        "Add the trace of W3C Trace Context to each request: make always begins one; accept continues the one in "
        "traceparent that a proxy in forwarded_allow_ips sent. The flag alone means accept.",
        ("--trace",), bare_value="accept"))
    trace_spans: bool = declare(False, Declaration(
        general.SWITCH, Group.PROXIES, NEXT_WORKER,
        "Export spans of each request with OpenTelemetry: read, queue, application and write. Its environment "
        "variables say where to; used with trace.", ("--trace-spans",)))
    trace_header: str | None = declare(None, Declaration(
        proxy.OPTIONAL_HEADER_NAME, Group.PROXIES, NEXT_WORKER,
        "Header field of responses for the ID of the trace; used with trace.", ("--trace-header",),
        default_text="none"))
    server_header: str = declare("wsgicluster", Declaration(
        general.SERVER_NAME, Group.PROXIES, NEXT_WORKER,
        "Value of the header field Server in responses whose application sets none; an empty one leaves it out.",
        ("--server-header",)))

    certfile: str | None = declare(None, Declaration(
        general.OPTIONAL_PATH, Group.TLS, NEXT_WORKER,
        "File with the server's certificate chain, in PEM format; enables TLS.", ("--certfile",)))
    keyfile: str | None = declare(None, Declaration(
        general.OPTIONAL_PATH, Group.TLS, NEXT_WORKER,
        "File with the certificate's private key, in PEM format.",
        ("--keyfile",), default_text="in the certificate's file"))
    ca_certs: str | None = declare(None, Declaration(
        general.OPTIONAL_PATH, Group.TLS, NEXT_WORKER,
        "File with the certificate authorities that client certificates are verified against, in PEM format.",
        ("--ca-certs",)))
    cert_reqs: str = declare("none", Declaration(
        general.CERT_REQS, Group.TLS, NEXT_WORKER,
        "Whether clients are asked for a certificate: none, optional or required.", ("--cert-reqs",)))
    tls_minimum: str = declare("1.2", Declaration(
        general.TLS_VERSION, Group.TLS, NEXT_WORKER,
        "Oldest version of TLS that is accepted.", ("--tls-minimum",)))
    ciphers: str | None = declare(None, Declaration(
        general.OPTIONAL_TEXT, Group.TLS, NEXT_WORKER,
        "Ciphers for TLS 1.2, as an OpenSSL cipher list.", ("--ciphers",), default_text="Python's choice"))
    ssl_context: Callable[..., Any] | None = declare(None, Declaration(
        general.FUNCTION, Group.TLS, NEXT_WORKER,
        "Function that returns the ssl.SSLContext to use; its arguments are the settings and a function that returns "
        "the default context."))
    do_handshake_on_connect: bool = declare(False, Declaration(
        general.SWITCH, Group.TLS, NEXT_WORKER,
        "No effect; accepted for Gunicorn compatibility (a handshake never blocks a worker).",
        ("--do-handshake-on-connect",)))
    suppress_ragged_eofs: bool = declare(True, Declaration(
        general.SWITCH, Group.TLS, NEXT_WORKER,
        "No effect; accepted for Gunicorn compatibility.", ("--suppress-ragged-eofs",)))

    store: str | None = declare(None, Declaration(
        state.STORE, Group.CLUSTER, NEXT_WORKER,
        "Where counters, store and locks of wsgicluster.cluster are: the URL of a Redis server, or of Sentinels, for "
        "several machines. Without it they are on this machine, built in.", ("--store",), default_text="built in"))
    store_size: int = declare(32 << 20, Declaration(
        state.STORE_SIZE, Group.CLUSTER, NEXT_WORKER,
        "How large the built-in store may become, beside worker_tmp_dir's file; the default is half of the 64 MB of "
        "memory that a container has there.", ("--store-size",)))

    jobs_worker: bool = declare(False, Declaration(
        general.SWITCH, Group.CLUSTER, NEXT_WORKER,
        "Start a process that boots the application and takes no requests: jobs and message handlers run there.",
        ("--jobs-worker",)))
    event_webhook: str | None = declare(None, Declaration(
        events.WEBHOOK, Group.CLUSTER, NEXT_WORKER,
        "URL to which each event of the server is posted as JSON.", ("--event-webhook",), default_text="none"))
    event_webhook_secret: str | None = declare(None, Declaration(
        events.SECRET, Group.CLUSTER, NEXT_WORKER,
        "Key with which posted events are signed (HMAC-SHA256, in the header field X-Wsgicluster-Signature).",
        ("--event-webhook-secret",), default_text="none"))
    event_exec: str | None = declare(None, Declaration(
        events.COMMAND, Group.CLUSTER, NEXT_WORKER,
        "Command that is run for each event of the server, without a shell; it reads the event as JSON from its "
        "standard input.", ("--event-exec",), default_text="none"))

    bus: str | None = declare(None, Declaration(
        bus_types.BUS, Group.CLUSTER, NEXT_WORKER,
        "Redis server, or Sentinels, over which messages of wsgicluster.cluster reach other machines; else they stay "
        "on this one.",
        ("--bus",), default_text="none"))
    node_name: str = declare_computed(bus_types.default_node, Declaration(
        bus_types.NODE_NAME, Group.CLUSTER, NEXT_WORKER,
        "Name of this machine on the bus, different from that of every other one.", ("--node-name",),
        default_text="the host's name"))

    admin: Address | None = declare(None, Declaration(
        admin_types.ADMIN, Group.ADMIN, NEXT_WORKER,
        "Address of the admin worker: health, metrics and status over HTTP. A port alone is one of 127.0.0.1.",
        ("--admin",), default_text="none"))
    admin_host: tuple[str, ...] = declare((), Declaration(
        admin_types.ADMIN_HOSTS, Group.ADMIN, NEXT_WORKER,
        "Names under which clients reach the admin worker, besides IP addresses, localhost and the name in its "
        "address; may be repeated. Requests that name another host are refused.", ("--admin-host",)))
    admin_token: str | None = declare(None, Declaration(
        admin_types.ADMIN_TOKEN, Group.ADMIN, NEXT_WORKER,
        "Token that requests to the admin worker have to carry which change something; on a command line every user of "
        "the machine can read it.", ("--admin-token",), default_text="none"))
    admin_token_file: str | None = declare(None, Declaration(
        general.OPTIONAL_PATH, Group.ADMIN, NEXT_WORKER,
        "File with that token, read as the user that starts the server.", ("--admin-token-file",),
        default_text="none"))

    app_metrics: bool = declare(False, Declaration(
        general.SWITCH, Group.ADMIN, NEXT_WORKER,
        "Join the application's own metrics, which all processes count with prometheus_client, and show them at "
        "/metrics of the admin worker.", ("--app-metrics",)))

    haproxy_agent: Address | None = declare(None, Declaration(
        admin_types.ADMIN, Group.ADMIN, NEXT_WORKER,
        "Address at which the admin worker responds to HAProxy's agent-check, with state and weight.",
        ("--haproxy-agent",), default_text="none"))
    health_path: str | None = declare(None, Declaration(
        health.PROBE_PATH, Group.ADMIN, NEXT_WORKER,
        "Path at which workers respond with 200 themselves, without the application: for probes that reach no other "
        "address than the application's.", ("--health-path",), default_text="none"))
    ready_path: str | None = declare(None, Declaration(
        health.PROBE_PATH, Group.ADMIN, NEXT_WORKER,
        "The same with 503 while the server starts, stops or is about to: whether load balancers should send clients.",
        ("--ready-path",), default_text="none"))

    daemon: bool = declare(False, Declaration(
        general.SWITCH, Group.PROCESS, RESTART,
        "Run in the background.", ("-D", "--daemon")))
    pidfile: str | None = declare(None, Declaration(
        general.OPTIONAL_PATH, Group.PROCESS, RESTART,
        "File to write the arbiter's process ID to.", ("-p", "--pid")))
    proc_name: str | None = declare(None, Declaration(
        general.OPTIONAL_TEXT, Group.PROCESS, NEXT_WORKER,
        "Name of this server in process titles (ps, top).", ("-n", "--name"), default_text="the application"))
    default_proc_name: str | None = declare(None, Declaration(
        general.OPTIONAL_TEXT, Group.PROCESS, NEXT_WORKER,
        "Name of this server in process titles where proc_name is not set.", default_text="the application"))
    control_socket: str | None = declare(None, Declaration(
        general.OPTIONAL_PATH, Group.PROCESS, RESTART,
        "Unix socket at which wsgiclusterctl reaches the server.", ("--control-socket",),
        default_text="an abstract one, or beside the pid file"))
    control_socket_mode: int | None = declare(None, Declaration(
        general.OPTIONAL_MODE, Group.PROCESS, RESTART,
        "Permissions of that socket's file, octal; whatever they are, only root and the server's own user are "
        "answered.", ("--control-socket-mode",), default_text="600"))
    control_socket_disable: bool = declare(False, Declaration(
        general.SWITCH, Group.PROCESS, RESTART,
        "Open no control socket.", ("--no-control-socket",)))
    user: int = declare_computed(os.geteuid, Declaration(
        general.USER, Group.PROCESS, NEXT_WORKER,
        "User that workers run as: a name or a number.", ("-u", "--user"), default_text="the current one"))
    group: int = declare_computed(os.getegid, Declaration(
        general.GROUP, Group.PROCESS, NEXT_WORKER,
        "Group that workers run as: a name or a number.",
        ("-g", "--group"), default_text="the user's own, or the current one"))
    initgroups: bool = declare(False, Declaration(
        general.SWITCH, Group.PROCESS, NEXT_WORKER,
        "Give workers all supplementary groups of their user.", ("--initgroups",)))
    umask: int | None = declare(None, Declaration(
        general.OPTIONAL_MODE, Group.PROCESS, NEXT_WORKER,
        "File mode creation mask of workers, octal; also for Unix sockets without a mode of their own. Unset, files "
        "get the shell's umask and sockets mode 0777.", ("-m", "--umask"), default_text="unset"))

    errorlog: str = declare("-", Declaration(
        general.LOG_FILE, Group.LOGS, NOW,
        "Error log file; - for standard error.", ("--error-logfile", "--log-file")))
    loglevel: str = declare("info", Declaration(
        general.LOG_LEVEL, Group.LOGS, NOW,
        "Lowest level that is logged: debug, info, warning, error or critical.", ("--log-level",)))
    accesslog: str | None = declare(None, Declaration(
        general.OPTIONAL_LOG_FILE, Group.LOGS, NOW,
        "Access log file; - for standard output.", ("--access-logfile",)))
    access_log_format: str = declare(ACCESS_LOG_FORMAT, Declaration(
        general.TEXT, Group.LOGS, NOW,
        "Format of an access log line.", ("--access-logformat",)))
    access_log_health: bool = declare(False, Declaration(
        general.SWITCH, Group.LOGS, NEXT_WORKER,
        "Log requests of health_path and ready_path, too.", ("--access-log-health",)))
    access_log_skip: tuple[str, ...] = declare((), Declaration(
        log_types.PATHS, Group.LOGS, NOW,
        "Paths that the access log omits; * stands for any text. Separated by commas.",
        ("--access-log-skip",), default_text="none"))
    access_log_sample: float = declare(1.0, Declaration(
        log_types.PORTION, Group.LOGS, NOW,
        "Portion of the requests that the access log has, chosen at random; those with a status from 400 on are always "
        "logged.", ("--access-log-sample",)))
    slow_request: float = declare(0.0, Declaration(
        general.DURATION, Group.LOGS, NEXT_WORKER,
        "Log each request that takes longer than this while it runs, with its stack; 0 logs none.",
        ("--slow-request",)))
    log_format: str = declare("text", Declaration(
        log_types.FORMAT, Group.LOGS, NOW,
        "Format of both logs: text, json or logfmt; access_log_format and formatters of the user apply to text.",
        ("--log-format",)))
    log_to_stdout: bool = declare(False, Declaration(
        general.SWITCH, Group.LOGS, NOW,
        "Write records below warning to standard output, and only the others to the error log.", ("--log-to-stdout",)))
    logconfig_dict: Mapping[str, Any] | None = declare(None, Declaration(
        general.MAPPING, Group.LOGS, NOW,
        "Dictionary for Python's logging.config.dictConfig; what it leaves out is Gunicorn's default."))
    logconfig_json: str | None = declare(None, Declaration(
        general.OPTIONAL_PATH, Group.LOGS, NOW,
        "JSON file with such a dictionary; logconfig_dict takes precedence.", ("--log-config-json",)))
    logconfig: str | None = declare(None, Declaration(
        general.OPTIONAL_PATH, Group.LOGS, NOW,
        "File for Python's logging.config.fileConfig; logconfig_dict and logconfig_json take precedence.",
        ("--log-config",)))
    capture_output: bool = declare(False, Declaration(
        general.SWITCH, Group.LOGS, RESTART,
        "Redirect the application's standard output and error to the error log, which then cannot change on reload.",
        ("--capture-output",)))
    enable_stdio_inheritance: bool = declare(False, Declaration(
        general.SWITCH, Group.LOGS, RESTART,
        "Let a daemon keep the standard output and error that it was started with, unless they are a terminal.",
        ("-R", "--enable-stdio-inheritance")))
    logger_class: Any = declare(None, Declaration(
        log_types.LOGGER_CLASS, Group.LOGS, NOW,
        "Class that sets up the loggers and logs requests, written for Gunicorn: module.Class, or the class itself.",
        ("--logger-class",)))
    syslog: bool = declare(False, Declaration(
        general.SWITCH, Group.LOGS, NOW, "Send both logs to syslog, too.", ("--log-syslog",)))
    syslog_addr: log_types.LogAddress = declare(log_types.LOCAL_SYSLOG, Declaration(
        log_types.SYSLOG_ADDRESS, Group.LOGS, NOW, "Address of syslog.", ("--log-syslog-to",)))
    syslog_prefix: str = declare("", Declaration(
        log_types.PREFIX, Group.LOGS, NOW,
        "Middle of the tag of syslog lines, as in gunicorn.PREFIX.error.", ("--log-syslog-prefix",),
        default_text="proc_name, or the application"))
    syslog_facility: str = declare("user", Declaration(
        log_types.FACILITY, Group.LOGS, NOW, "Facility of syslog lines.", ("--log-syslog-facility",)))
    disable_redirect_access_to_syslog: bool = declare(False, Declaration(
        general.SWITCH, Group.LOGS, NOW, "Do not send the access log to syslog.",
        ("--disable-redirect-access-to-syslog",)))
    statsd_host: log_types.LogAddress | None = declare(None, Declaration(
        log_types.STATSD_ADDRESS, Group.LOGS, NOW,
        "Address of a StatsD server, which gets the metrics that Gunicorn sends.", ("--statsd-host",)))
    statsd_prefix: str = declare("", Declaration(
        log_types.PREFIX, Group.LOGS, NOW, "Prefix of the names of metrics; a dot is added.", ("--statsd-prefix",)))
    dogstatsd_tags: str = declare("", Declaration(
        log_types.TAGS, Group.LOGS, NOW, "Tags of all metrics, for DogStatsD, separated by commas.",
        ("--dogstatsd-tags",)))
    enable_backlog_metric: bool = declare(False, Declaration(
        general.SWITCH, Group.LOGS, NOW,
        "Send StatsD how many connections wait to be accepted, once a second.", ("--enable-backlog-metric",)))

    on_starting: Callable[..., Any] | None = declare(None, Declaration(
        hooks.SERVER, Group.HOOKS, NOW,
        "Called in the arbiter first of all, before addresses are opened."))
    on_reload: Callable[..., Any] | None = declare(None, Declaration(
        hooks.SERVER, Group.HOOKS, NOW,
        "Called in the arbiter in a reload, when the new settings are in force and before the first new worker."))
    when_ready: Callable[..., Any] | None = declare(None, Declaration(
        hooks.SERVER, Group.HOOKS, NOW,
        "Called in the arbiter once the addresses are open, before the first worker."))
    pre_fork: Callable[..., Any] | None = declare(None, Declaration(
        hooks.SERVER_AND_WORKER, Group.HOOKS, NEXT_WORKER,
        "Called in the arbiter before each worker is forked."))
    post_fork: Callable[..., Any] | None = declare(None, Declaration(
        hooks.SERVER_AND_WORKER, Group.HOOKS, NEXT_WORKER,
        "Called in each worker first, before its application is loaded."))
    post_worker_init: Callable[..., Any] | None = declare(None, Declaration(
        hooks.WORKER, Group.HOOKS, NEXT_WORKER,
        "Called in each worker when its application is loaded, before the first request."))
    worker_int: Callable[..., Any] | None = declare(None, Declaration(
        hooks.WORKER, Group.HOOKS, NEXT_WORKER,
        "Called in a worker that gets SIGINT or SIGQUIT, before it exits."))
    worker_abort: Callable[..., Any] | None = declare(None, Declaration(
        hooks.WORKER, Group.HOOKS, NEXT_WORKER,
        "Called in a worker that is ended because it hangs (SIGABRT)."))
    pre_exec: Callable[..., Any] | None = declare(None, Declaration(
        hooks.SERVER, Group.HOOKS, NOW,
        "Called in the process that becomes the new server of an upgrade (SIGUSR2), before it does."))
    pre_request: Callable[..., Any] | None = declare(None, Declaration(
        hooks.REQUEST, Group.HOOKS, NEXT_WORKER,
        "Called in a worker before the application is called with a request."))
    post_request: Callable[..., Any] | None = declare(None, Declaration(
        hooks.RESPONSE, Group.HOOKS, NEXT_WORKER,
        "Called in a worker after each request, with as many of its four arguments as it takes."))
    child_exit: Callable[..., Any] | None = declare(None, Declaration(
        hooks.SERVER_AND_WORKER, Group.HOOKS, NOW,
        "Called in the arbiter when a worker has exited."))
    worker_exit: Callable[..., Any] | None = declare(None, Declaration(
        hooks.SERVER_AND_WORKER, Group.HOOKS, NEXT_WORKER,
        "Called in a worker last of all, before it exits."))
    before_mold_fork: Callable[..., Any] | None = declare(None, Declaration(
        hooks.SERVER_AND_WORKER, Group.HOOKS, NEXT_WORKER,
        "Called in a worker that refork_after promotes, when it has drained: close what workers must not share."))
    after_mold_fork: Callable[..., Any] | None = declare(None, Declaration(
        hooks.SERVER, Group.HOOKS, NEXT_WORKER,
        "Called in the mold that was forked from that worker, before it forks any."))
    nworkers_changed: Callable[..., Any] | None = declare(None, Declaration(
        hooks.NUMBER_OF_WORKERS, Group.HOOKS, NOW,
        "Called in the arbiter when another number of workers is wanted; at the start the old number is None."))
    on_exit: Callable[..., Any] | None = declare(None, Declaration(
        hooks.SERVER, Group.HOOKS, NOW,
        "Called in the arbiter last of all, before it exits."))

    config: str | None = declare(None, Declaration(
        general.OPTIONAL_PATH, Group.CONFIGURATION, RESTART,
        "Configuration file, as PATH, file:PATH or python:MODULE.",
        ("-c", "--config"), default_text="./wsgicluster.conf.py, then ./gunicorn.conf.py"))
    strict: bool = declare(False, Declaration(
        general.SWITCH, Group.CONFIGURATION, RESTART,
        "Fail where the configuration has a name that is similar to a setting's, or a setting of Gunicorn without "
        "effect here, instead of a warning.", ("--strict",)))
    print_config: bool = declare(False, Declaration(
        general.SWITCH, Group.CONFIGURATION, RESTART,
        "Print every setting, its value and its source, and exit.", ("--print-config",)))
    check_config: bool = declare(False, Declaration(
        general.SWITCH, Group.CONFIGURATION, RESTART,
        "Check the settings, load the application, and exit.", ("--check-config",)))
    doctor: bool = declare(False, Declaration(
        general.SWITCH, Group.CONFIGURATION, RESTART,
        "Check settings, machine and application for known problems, print each with its remedy, and exit.",
        ("--doctor",)))
    # fmt: on

    @property
    def workers_most(self) -> int:
        """The upper bound of a range of workers; without a range their number."""
        return self.workers.most if isinstance(self.workers, WorkerRange) else self.workers

    @property
    def has_worker_range(self) -> bool:
        """Whether the number of workers follows their load."""
        return isinstance(self.workers, WorkerRange)

    @property
    def has_tls(self) -> bool:
        """Whether clients have to use TLS."""
        return self.certfile is not None or self.ssl_context is not None

    @property
    def has_hooks(self) -> bool:
        """Whether the configuration file has a function to be called."""
        return any(getattr(self, name) is not None for name in hooks.NAMES)

    @property
    def has_request_hooks(self) -> bool:
        """Whether it has one that is called for each request."""
        return self.pre_request is not None or self.post_request is not None

    @property
    def admin_addresses(self) -> tuple[Address, ...]:
        """Where the admin worker listens: for HTTP first, and for HAProxy, if it does."""
        return tuple(address for address in (self.admin, self.haproxy_agent) if address is not None)

    @property
    def scheme(self) -> str:
        """The protocol of clients, as the scheme of a URL: http, https or uwsgi."""
        return "https" if self.has_tls else self.protocol


SETTINGS: dict[str, Setting] = {setting.name: setting for setting in declared(Settings)}
"""Name to declaration, in the order in which they are listed."""
