"""Configuration files and command lines in the manner of those that people run Gunicorn with.

Each of them starts in Gunicorn. The files are of our own making; what occurs in them are the habits that were found in
those of known projects: values from the environment, names of the file's own, everything set to its default.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class ConfigFile:
    """One file, and the settings that it leads to; ``remarks`` are the names that something is said about."""

    name: str
    source: str
    settings: str = ""
    remarks: tuple[str, ...] = ()
    environ: tuple[tuple[str, str], ...] = ()


APPLICATION = """
import os

def application(environ, start_response):
    body = f"{environ['SCRIPT_NAME']}|{environ['PATH_INFO']}|{os.environ.get('STAGE', '')}".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]

app = application

def create_app(name="app", debug=False):
    return application
"""

BASE_CONFIG = """
workers = 2
timeout = 45


def announce(server):
    server.log.info("announced %s", server.pid)
"""
SHOP_LOGS = """
from gunicorn.glogging import CONFIG_DEFAULTS, Logger as Base


class Logger(Base):
    def atoms(self, resp, req, environ, request_time):
        return {**super().atoms(resp, req, environ, request_time), "tenant": environ.get("HTTP_X_TENANT", "-")}
"""

FILES = (
    ConfigFile("small", 'bind = "127.0.0.1:0"\nworkers = 2\n', "workers=2"),
    ConfigFile(
        "processors",
        """
import multiprocessing

bind = "0.0.0.0:0"
cores = multiprocessing.cpu_count()
workers_per_core = 0.5
default_web_concurrency = workers_per_core * cores
web_concurrency = max(int(default_web_concurrency), 2)
workers = min(web_concurrency, 8)
keepalive = 120
""",
        "keepalive=120",
    ),
    ConfigFile(
        "container",
        """
import json
import os

host = os.getenv("HOST", "127.0.0.1")
port = os.getenv("APP_PORT", "0")
bind_env = os.getenv("BIND", None)
use_loglevel = os.getenv("LOG_LEVEL", "info")
if bind_env:
    use_bind = bind_env
else:
    use_bind = f"{host}:{port}"
accesslog_var = os.getenv("ACCESS_LOG", "-")
use_accesslog = accesslog_var or None
errorlog_var = os.getenv("ERROR_LOG", "-")
use_errorlog = errorlog_var or None
graceful_timeout_str = os.getenv("GRACEFUL_TIMEOUT", "120")
timeout_str = os.getenv("TIMEOUT", "120")

loglevel = use_loglevel
bind = use_bind
errorlog = use_errorlog
worker_tmp_dir = "/dev/shm"
accesslog = use_accesslog
graceful_timeout = int(graceful_timeout_str)
timeout = int(timeout_str)

log_data = {"loglevel": loglevel, "host": host, "port": port}
print(json.dumps(log_data))
""",
        "timeout=120 accesslog=-",
    ),
    ConfigFile(
        "loops",
        """
import os

raw_env = []
for key, value in {"STAGE": "test", "REGION": "eu"}.items():
    raw_env.append(f"{key}={value}")
for name in ("A", "B"):
    if name in os.environ:
        raw_env.append(name + "=" + os.environ[name])
with open(os.devnull) as secrets:
    for line in secrets:
        raw_env.append(line.strip())
""",
        "raw_env=***",
    ),
    ConfigFile(
        "unset",
        """
import os

user = os.getenv("RUN_AS")
group = os.getenv("RUN_AS_GROUP")
pidfile = os.getenv("PIDFILE")
errorlog = os.getenv("ERRORLOG")
accesslog = os.getenv("ACCESSLOG")
certfile = os.getenv("CERTFILE")
keyfile = os.getenv("KEYFILE")
proc_name = os.getenv("NAME_OF_SERVER")
pythonpath = None
statsd_host = os.getenv("STATSD_HOST")
""",
    ),
    ConfigFile(
        "everything-at-its-default",
        """
backlog = 2048
workers = 1
worker_class = 'sync'
worker_connections = 1000
timeout = 30
keepalive = 2
spew = False
daemon = False
raw_env = []
pidfile = None
umask = 0
tmp_upload_dir = None
errorlog = '-'
loglevel = 'info'
accesslog = '-'
access_log_format = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'
proc_name = None
threads = 1
max_requests = 0
max_requests_jitter = 0
graceful_timeout = 30
limit_request_line = 4094
limit_request_fields = 100
limit_request_field_size = 8190
reload = False
reload_engine = "auto"
reload_extra_files = []
check_config = False
preload_app = False
reuse_port = False
initgroups = False
worker_tmp_dir = None
disable_redirect_access_to_syslog = False
capture_output = False
logger_class = "gunicorn.glogging.Logger"
logconfig = None
logconfig_dict = {}
logconfig_json = None
syslog = False
syslog_prefix = None
syslog_facility = "user"
enable_stdio_inheritance = False
statsd_host = None
dogstatsd_tags = ""
statsd_prefix = ""
enable_backlog_metric = False
suppress_ragged_eofs = True
do_handshake_on_connect = False
ciphers = None
permit_obsolete_folding = False
strip_header_spaces = False
permit_unconventional_http_method = False
permit_unconventional_http_version = False
casefold_http_method = False
header_map = "drop"
http_parser = "auto"
http_protocols = "h1"
root_path = ""
asgi_loop = "auto"
asgi_lifespan = "auto"
dirty_apps = []
dirty_workers = 0
dirty_timeout = 300
dirty_threads = 1
dirty_graceful_timeout = 30
control_socket_disable = True
""",
        "umask=0 control_socket_disable=true",
    ),
    ConfigFile(
        "imports-gunicorn",
        """
import gunicorn

gunicorn.SERVER_SOFTWARE = "web"
gunicorn.SERVER = "web"
workers = 2
""",
        "workers=2",
    ),
    ConfigFile(
        "extends-its-logs",
        """
from copy import deepcopy

from gunicorn.glogging import CONFIG_DEFAULTS

logconfig_dict = deepcopy(CONFIG_DEFAULTS)
logconfig_dict["formatters"]["generic"]["format"] = "%(levelname)s %(message)s"
""",
    ),
    ConfigFile(
        "annotations",
        """
from __future__ import annotations

from typing import TYPE_CHECKING

from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.workers.base import Worker

if TYPE_CHECKING:
    from gunicorn.http.message import Request

workers: int = 2
bind: list[str] = ["127.0.0.1:0"]


def name_of(worker: Worker, server: Arbiter, config: Config) -> str:
    return f"{server.pid} {worker.pid}"
""",
        "workers=2",
    ),
    ConfigFile("gthread-by-path", 'worker_class = "gunicorn.workers.gthread.ThreadWorker"\n', "worker_class=gthread"),
    ConfigFile("sync-by-egg", 'worker_class = "egg:gunicorn#sync"\nthreads = 4\n', "worker_class=gthread threads=4"),
    ConfigFile(
        "gevent",
        'worker_class = "gevent"\nworker_connections = 2000\ntimeout = 0\nkeepalive = 5\n',
        "worker_class=gevent worker_connections=2000",
    ),
    ConfigFile("gevent-by-path", 'worker_class = "gunicorn.workers.ggevent.GeventWorker"\n', "worker_class=gevent"),
    ConfigFile(
        "django",
        """
import os

os.environ.setdefault("STAGE", "production")
chdir = os.path.dirname(os.path.abspath(__file__))
wsgi_app = "app:application"
workers = 3
threads = 2
preload_app = True
max_requests = 1000
max_requests_jitter = 50
forwarded_allow_ips = "*"
secure_scheme_headers = {"X-FORWARDED-PROTO": "https"}
""",
        "workers=3 preload_app=true",
    ),
    ConfigFile(
        "numbers-as-text",
        """
import os

workers = os.environ.get("WORKERS", "3")
threads = os.environ.get("THREADS", "2")
timeout = os.environ.get("TIMEOUT", "60")
max_requests = "1000"
backlog = "512"
umask = "0o007"
preload_app = "true"
""",
        "workers=3 threads=2 backlog=512 umask=07 preload_app=true",
    ),
    ConfigFile(
        "dictionary-of-logs",
        """
import sys

logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(name)s %(message)s"}},
    "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "plain", "stream": sys.stdout}},
    "loggers": {
        "gunicorn.error": {"level": "INFO", "handlers": ["out"], "propagate": False},
        "gunicorn.access": {"level": "INFO", "handlers": ["out"], "propagate": False},
    },
    "root": {"level": "INFO", "handlers": ["out"]},
}
""",
    ),
    ConfigFile(
        "access-log-of-a-logger-of-its-own",
        "accesslog = '-'\naccess_log_format = '%(h)s %(t)s \"%(r)s\" %(s)s %({x-request-id}i)s %(trace_id)s %(D)s'\n",
    ),
    ConfigFile(
        "two-addresses",
        'bind = ["127.0.0.1:0", "unix:web.sock"]\numask = 0o117\n',
        "umask=0117",
    ),
    ConfigFile("base-and-more", "from base_config import *\n\nworkers = workers + 1\n", "workers=3 timeout=45"),
    ConfigFile(
        "classes",
        """
class Production:
    workers = 4
    timeout = 60

class Development(Production):
    workers = 1
    reload = True

globals().update({name: value for name, value in vars(Production).items() if not name.startswith("_")})
""",
        "workers=4 timeout=60",
    ),
    ConfigFile(
        "its-own-module",
        """
import sys

this = sys.modules["__config__"]
this.workers = 2
setattr(sys.modules[__name__], "threads", 3)
""",
        "workers=2 threads=3",
    ),
    ConfigFile(
        "capitals",
        """
WORKERS = 2
TIMEOUT = 90
PORT_NUMBER = 0
bind = "127.0.0.1:%d" % PORT_NUMBER
workers = WORKERS
timeout = TIMEOUT
""",
        "workers=2 timeout=90",
    ),
    ConfigFile(
        "development",
        """
import glob

reload = True
reload_engine = "poll"
reload_extra_files = glob.glob("templates/**/*.html", recursive=True)
loglevel = "debug"
capture_output = True
""",
        "reload=true capture_output=true",
    ),
    ConfigFile(
        "hosting",
        """
import os

port = os.environ["HOSTING_PORT"]
bind = f"0.0.0.0:{port}"
worker_tmp_dir = "/dev/shm"
workers = int(os.environ.get("CONCURRENCY", 2))
""",
        "workers=2",
        environ=(("HOSTING_PORT", "0"),),
    ),
    ConfigFile("balancer", 'proxy_protocol = True\nproxy_allow_ips = "*"\n', "proxy_protocol=auto proxy_allow_ips=*"),
    ConfigFile(
        "functions",
        """
import logging
import os

logger = logging.getLogger(__name__)


def number(name, default):
    try:
        return int(os.environ[name])
    except (KeyError, ValueError):
        logger.debug("%s is not set", name)
        return default


workers = number("PROCESSES", 2)
threads = number("THREADS_EACH", 4)
pool_size = workers * threads
""",
        "workers=2 threads=4",
    ),
    ConfigFile("misspelt", "worker = 4\npreload = True\nworkers = 2\n", "workers=2", remarks=("preload",)),
    ConfigFile("traced", "spew = False\nstatsd_host = 'localhost:8125'\n"),
    ConfigFile(
        "modern",
        """
http_protocols = "h1"
asgi_lifespan = "off"
dirty_timeout = 60
http2_max_concurrent_streams = 50
control_socket_disable = True
reuse_port = True
default_proc_name = "shop"
""",
        "reuse_port=true proc_name=shop",
    ),
    ConfigFile("odd-levels", "loglevel = 'WARN'\nworkers = 0\nthreads = 0\n", "loglevel=warning workers=1 threads=1"),
    ConfigFile("mounted", "raw_env = ['SCRIPT_NAME=/geo', 'STAGE=test']\n"),
    ConfigFile(
        "legacy-syntax",
        """
permit_unconventional_http_method = True
limit_request_line = 0
limit_request_fields = 32000
header_map = "dangerous"
""",
        "permit_unconventional_http_method=true header_map=dangerous",
    ),
    ConfigFile(
        "hooks",
        """
import threading

workers = 2


def on_starting(server):
    server.started_by = "hook"
    server.log.info("starting %s", server.cfg.proc_name)


def nworkers_changed(server, new_value, old_value):
    server.log.info("workers: %s, before %s", new_value, old_value)


def when_ready(server):
    addresses = ", ".join(str(listener) for listener in server.LISTENERS)
    server.log.info("ready: %s, %d workers of %s", addresses, server.num_workers, server.worker_class)


def pre_fork(server, worker):
    worker.number = len(server.WORKERS) + 1


def post_fork(server, worker):
    server.log.info("worker %d of age %s", worker.number, worker.age)


def post_worker_init(worker):
    worker.log.info("booted: %s", type(worker.app.callable).__name__)


def pre_request(worker, req):
    req.place = threading.current_thread().name
    worker.log.debug("%s %s", req.method, req.path)


def post_request(worker, req, environ, resp):
    worker.log.info("hooked %s %s %s", req.method, req.path, resp.status)


def worker_int(worker):
    worker.log.info("interrupted")


def worker_abort(worker):
    worker.log.error("aborted", extra={"worker": worker.pid})


def worker_exit(server, worker):
    server.log.info("worker %s exits after %s requests", worker.pid, worker.nr)


def child_exit(server, worker):
    server.log.info("worker %s has exited", worker.pid)


def pre_exec(server):
    server.log.info("upgrade")


def on_reload(server):
    server.log.info("reload")


def on_exit(server):
    server.log.info("exit")
""",
        "workers=2",
    ),
    ConfigFile(
        "hooks-in-each-shape",
        """
import functools

from base_config import announce as when_ready
from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker


def described(prefix, worker):
    worker.log.info("%s %s", prefix, worker.pid)


class Requests:
    def __call__(self, worker, req):
        worker.log.info("called for %s", req.path)


def post_fork(server: Arbiter, worker: Worker) -> None:
    server.log.info("forked %s", worker.pid)


on_starting = lambda server: server.log.info("starts")
on_exit = "base_config.announce"
post_worker_init = functools.partial(described, "initialized")
pre_request = Requests()
post_request = lambda worker, req: worker.log.info("done")
globals().update(pre_fork=lambda server, worker: None)
""",
    ),
    ConfigFile(
        "hooks-of-a-class",
        """
class Hooks:
    @staticmethod
    def when_ready(server):
        server.log.info("ready")

    @classmethod
    def post_fork(cls, server, worker):
        server.log.info("%s: %s", cls.__name__, worker.pid)

when_ready = Hooks.when_ready
post_fork = Hooks.post_fork
""",
    ),
    ConfigFile(
        "metrics",
        """
import os
import tempfile

os.environ.setdefault("METRICS_FOLDER", tempfile.gettempdir())
try:
    from prometheus_client import multiprocess
except ImportError:
    multiprocess = None


def child_exit(server, worker):
    if multiprocess is not None:
        multiprocess.mark_process_dead(worker.pid, path=os.environ["METRICS_FOLDER"])
""",
    ),
    ConfigFile(
        "logger-of-its-own",
        """
import logging

from gunicorn import glogging


class Logger(glogging.Logger):
    def setup(self, cfg):
        super().setup(cfg)
        self._set_handler(self.error_log, cfg.errorlog, logging.Formatter("%(levelname)s %(message)s"))

    def access(self, resp, req, environ, request_time):
        if req.path not in ("/health", "/ready"):
            super().access(resp, req, environ, request_time)


accesslog = "-"
logger_class = Logger


def when_ready(server):
    server.log.info("ready")
""",
    ),
    ConfigFile("logger-of-a-module", 'accesslog = "-"\nlogger_class = "shop_logs.Logger"\n'),
    ConfigFile(
        "logger-that-counts",
        """
from gunicorn.instrument.statsd import Statsd


class Counting(Statsd):
    def access(self, resp, req, environ, request_time):
        super().access(resp, req, environ, request_time)
        self.increment("shop.requests", 1)


logger_class = Counting
statsd_host = "127.0.0.1:8125"
statsd_prefix = "shop"
""",
    ),
    ConfigFile(
        "worker-class-of-its-own",
        """
from gunicorn.workers.gthread import ThreadWorker


class Announcing(ThreadWorker):
    def init_process(self):
        self.log.info("worker %s of %s", self.age, self.cfg.proc_name)
        super().init_process()

    def handle_quit(self, sig, frame):
        self.log.info("quits")
        super().handle_quit(sig, frame)


worker_class = Announcing
threads = 4
""",
        "threads=4",
    ),
    ConfigFile(
        "wrapped-application",
        """
def post_worker_init(worker):
    application = worker.wsgi
    worker.wsgi = lambda environ, start_response: application(environ, start_response)


def when_ready(server):
    server.log.info("started in %s by %s", server.START_CTX["cwd"], server.START_CTX["args"])


def post_request(worker, req, environ, resp):
    worker.log.info("%s of %s bytes, %s", resp.status, resp.response_length, req.should_close())
""",
    ),
    ConfigFile(
        "response-without-server",
        """
from gunicorn.http import wsgi


class Response(wsgi.Response):
    def default_headers(self, *args, **kwargs):
        return [line for line in super().default_headers(*args, **kwargs) if not line.startswith("Server:")]


wsgi.Response = Response
""",
        "server_header=",
    ),
    ConfigFile(
        "executes-another",
        """
from pathlib import Path

exec(Path(__file__).with_name("base_config.py").read_text())
workers += 2
when_ready = announce
""",
        "workers=4 timeout=45",
    ),
    ConfigFile(
        "formatter-of-its-own",
        """
import json
import logging


class Requests(logging.Formatter):
    def format(self, record):
        atoms = record.args
        return json.dumps({"path": atoms["U"], "status": str(atoms["s"]), "id": atoms["{x-request-id}i"]})


accesslog = "-"
logconfig_dict = {
    "formatters": {"requests": {"()": Requests}},
    "handlers": {"requests": {"class": "logging.StreamHandler", "formatter": "requests", "stream": "ext://sys.stdout"}},
    "root": {"level": "INFO", "handlers": []},
    "loggers": {"gunicorn.access": {"level": "INFO", "handlers": ["requests"], "propagate": False}},
}
""",
        "accesslog=-",
    ),
)

COMMAND_LINES = (
    "app:application -w 2",
    "--workers=2 --threads 4 --timeout 120 app:app",
    "-b 127.0.0.1:0 -k gthread --threads 8 --access-logfile - --error-logfile - app:app",
    "--worker-con 100 --error-log - --access-logfi - --log-lev debug app",
    "--keep 5 --graceful 10 --max-requests 100 --max-requests-j 10 app",
    "app:create_app()",
    """-w 2 "app:create_app('shop', debug=True)" """,
    "--preload --worker-tmp-dir /dev/shm --forwarded-allow-ips=* app",
    "-e STAGE=test --env SCRIPT_NAME=/geo -n shop --umask 007 app",
    "--reload --reload-engine poll --reload-extra-file app.py app",
    "--log-syslog-prefix shop --log-syslog-facility local0 --statsd-prefix shop app",
    "-R --capture-output --enable-stdio-inheritance --log-file=- app",
    "--no-sendfile --reuse-port --backlog 64 --limit-request-line 8190 --limit-request-field_size 0 app",
    "--permit-obsolete-folding --strip-header-spaces --casefold-http-method app",
    "--http-protocols h1 --asgi-lifespan off --dirty-workers 0 --no-control-socket app",
    "--worker-class gunicorn.workers.sync.SyncWorker --chdir . --pythonpath .,.. app",
    "--proxy-protocol auto --proxy-allow-from 10.0.0.1 --certfile= app",
    "-c python:base_config -p shop.pid -m 007 -t 90 app",
    "app:app --logger-class gunicorn.instrument.statsd.Statsd --statsd-host 127.0.0.1:8125 --dogstatsd-tags a:b",
)
