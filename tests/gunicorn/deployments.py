"""Five deployments as they are written for Gunicorn; the tests change no more than the name of the program."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Request:
    """One request: ``fields`` are header fields."""

    path: str
    method: str = "GET"
    fields: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: bytes | None = None


@dataclasses.dataclass(frozen=True)
class Deployment:
    """Files by name, the arguments of the command, and what is asked of it.

    A ``script`` is run in place of the command, by ``interpreter``; ``nginx`` is a server block that passes requests
    on. ``modules`` are what it needs, ``marks`` the words at which lines of its log begin that have to be the same.
    ``booted`` is the line that each of two workers writes when it has booted, as a pattern.
    """

    name: str
    files: Mapping[str, str]
    requests: tuple[Request, ...]
    arguments: str = ""
    environ: Mapping[str, str] = dataclasses.field(default_factory=dict)
    script: str = ""
    interpreter: str = ""
    nginx: str = ""
    modules: tuple[str, ...] = ()
    marks: tuple[str, ...] = ("hook:", "app:", "access:")
    booted: str = ""


ACCESS = 'access: "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s" %({x-forwarded-for}i)s'

FLASK = Deployment(
    name="flask",
    modules=("flask",),
    booted="hook: post_worker_init",
    arguments="shop:app",
    files={
        "shop.py": """
import logging
import os

import flask

app = flask.Flask(__name__)
errors = logging.getLogger("gunicorn.error")
app.logger.handlers = errors.handlers
app.logger.setLevel(errors.level)
app.logger.propagate = False

@app.get("/")
def index():
    app.logger.info("app: index for %s", flask.request.remote_addr)
    response = flask.jsonify(software="gunicorn" in os.environ["SERVER_SOFTWARE"], host=flask.request.host_url)
    response.set_cookie("basket", "7", httponly=True)
    return response

@app.post("/orders")
def order():
    uploaded = flask.request.files["list"].read() if flask.request.files else b""
    return {"form": flask.request.form.to_dict(), "bytes": len(uploaded)}, 201

@app.get("/stream")
def stream():
    return flask.Response((f"{number}\\n" for number in range(3)), mimetype="text/plain")

@app.get("/broken")
def broken():
    app.logger.error("app: about to fail")
    raise ValueError("broken")

@app.get("/moved")
def moved():
    return flask.redirect("/")
""",
        "gunicorn.conf.py": f"""
import multiprocessing

bind = "127.0.0.1:0"
workers = min(2, multiprocessing.cpu_count() + 1)
threads = 1
timeout = 30
accesslog = "-"
access_log_format = '{ACCESS} %(h)s'
logconfig_dict = {{"loggers": {{
    "gunicorn.error": {{"level": "INFO", "handlers": ["error_console"], "propagate": False}},
    "gunicorn.access": {{"level": "INFO", "handlers": ["console"], "propagate": False}},
}}, "formatters": {{"generic": {{"format": "%(name)s %(levelname)s %(message)s", "class": "logging.Formatter"}}}}}}

def on_starting(server):
    server.served = 0
    server.log.info("hook: on_starting of %d workers", server.num_workers)

def when_ready(server):
    server.log.info("hook: when_ready at %s", server.address[0][0])

def pre_fork(server, worker):
    worker.color = ["blue", "green"][worker.age % 2]

def post_fork(server, worker):
    server.log.info("hook: post_fork %s %s", worker.age, worker.color)

def post_worker_init(worker):
    worker.log.info("hook: post_worker_init %s %s", worker.age, callable(worker.app.callable))

def pre_request(worker, req):
    worker.log.info("hook: pre_request %s %s %s", req.method, req.path, dict(req.headers).get("X-TRACE"))

def post_request(worker, req, environ, resp):
    worker.log.info("hook: post_request %s %s %s", req.path, resp.status, resp.sent)

def worker_exit(server, worker):
    server.log.info("hook: worker_exit %s", worker.color)

def child_exit(server, worker):
    server.log.info("hook: child_exit %s", worker.color)

def on_exit(server):
    server.log.info("hook: on_exit")
""",
    },
    requests=(
        Request("/?q=1", fields={"X-Trace": "7"}),
        Request("/orders", "POST", {"Content-Type": "application/x-www-form-urlencoded"}, b"a=1&b=%C3%A4"),
        Request(
            "/orders", "POST", {"Content-Type": "multipart/form-data; boundary=x"},
            b'--x\r\nContent-Disposition: form-data; name="list"; filename="a"\r\n\r\n'
            + b"a" * 100_000 + b"\r\n--x--\r\n",
        ),
        Request("/stream"), Request("/broken"), Request("/moved"), Request("/none"),
        Request("/orders", "DELETE"),
    ),
)  # fmt: skip

DJANGO = Deployment(
    name="django",
    modules=("django",),
    booted=r"hook: \d+",
    arguments="site_wsgi",
    files={
        "site_settings.py": """
import pathlib

SECRET_KEY = "only a test"
ALLOWED_HOSTS = ["shop.example"]
ROOT_URLCONF = "site_urls"
STATIC_URL = "/static/"
USE_TZ = True
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
USE_X_FORWARDED_HOST = True
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
]
SECURE_HSTS_SECONDS = 60
LOGGING = {
    "version": 1, "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "app: %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "loggers": {"site": {"handlers": ["console"], "level": "INFO"}},
}
""",
        "site_urls.py": """
import logging

from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

log = logging.getLogger("site")

def index(request):
    log.info("index, secure: %s", request.is_secure())
    return JsonResponse({
        "uri": request.build_absolute_uri(), "secure": request.is_secure(), "user": request.META.get("REMOTE_USER"),
        "scheme": request.META["wsgi.url_scheme"], "for": request.META.get("HTTP_X_FORWARDED_FOR"),
        "body": len(request.body),
    })

urlpatterns = [
    path("", csrf_exempt(index)),
    path("form", index),
    path("file", lambda request: FileResponse(open("static/site.css", "rb"))),
    path("stream", lambda request: StreamingHttpResponse(iter(["a", "b"]))),
    path("text", lambda request: HttpResponse("text" * 1000)),
]
""",
        "site_wsgi.py": """
import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_settings")
application = get_wsgi_application()
""",
        "gunicorn.conf.py": """
bind = "unix:app.sock"
workers = 2
worker_class = "gthread"
threads = 2
preload_app = True
accesslog = "-"
access_log_format = 'access: "%(r)s" %(s)s %({x-forwarded-for}i)s'  # Gunicorn counts no byte of a file
proc_name = "site"

def post_worker_init(worker):
    worker.log.info("hook: %d", worker.age)
""",
        "static/site.css": "body {}\n" * 2000,
    },
    nginx="""
server {
    listen 127.0.0.1:PORT;
    location /static/ { alias FOLDER/static/; }
    location / {
        proxy_pass http://unix:FOLDER/app.sock;
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto https;
        proxy_redirect off;
    }
}
""",
    requests=(
        Request("/?a=%20b"),
        Request("/", "POST", {}, b"a" * 300_000),
        Request("/form", "POST", {}, b"a=1"),
        Request("/file"), Request("/stream"),
        Request("/text"),
        Request("/static/site.css"), Request("/none"),
        Request("/", fields={"Host": "elsewhere.example"}),
    ),
)  # fmt: skip

PYRAMID = Deployment(
    name="pyramid",
    modules=("pyramid", "paste.deploy"),
    arguments="--paste production.ini#shop --paste-global stage=test -b 127.0.0.1:0 --threads 2 --access-logfile -"
    f" --access-logformat '{ACCESS}'",
    files={
        "shop_site.py": """
import logging

from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPForbidden
from pyramid.response import Response

log = logging.getLogger("shop")

def hello(request):
    log.info("hello %s", request.matchdict["name"])
    return {"name": request.matchdict["name"], "stage": request.registry.settings["stage"], "url": request.url}

def forbidden(request):
    raise HTTPForbidden("not here")

def main(global_config, **settings):
    with Configurator(settings={**global_config, **settings}) as config:
        config.add_route("hello", "/hello/{name}")
        config.add_view(hello, route_name="hello", renderer="json")
        config.add_route("forbidden", "/forbidden")
        config.add_view(forbidden, route_name="forbidden")
        return config.make_wsgi_app()

def shout(app, global_conf):
    def shouting(environ, start_response):
        environ["HTTP_X_SHOUT"] = "1"
        return app(environ, start_response)
    return shouting
""",
        "production.ini": """
[DEFAULT]
stage = unknown

[filter:shout]
paste.filter_app_factory = shop_site:shout

[app:site]
use = call:shop_site:main

[pipeline:shop]
pipeline = shout site

[server:main]
use = egg:gunicorn#main
host = 127.0.0.1
port = 1

[loggers]
keys = root, shop, gunicorn.error, gunicorn.access

[handlers]
keys = console

[formatters]
keys = generic

[logger_root]
level = INFO
handlers = console

[logger_shop]
level = INFO
handlers =
qualname = shop

[logger_gunicorn.error]
level = INFO
handlers =
qualname = gunicorn.error

[logger_gunicorn.access]
level = INFO
handlers =
qualname = gunicorn.access

[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = generic

[formatter_generic]
format = log: %(name)s: %(message)s
""",
    },
    requests=(Request("/hello/ann?x=1"), Request("/hello/b%C3%A4r"), Request("/forbidden"), Request("/none")),
    marks=("log: shop:", "log: gunicorn.access:"),
)

EMBEDDED = Deployment(
    name="base-application",
    interpreter="python",
    script="serve.py",
    files={
        "serve.py": """
import sys

from gunicorn.app.base import BaseApplication

def application(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Workers", environ["shop.workers"])])
    return [environ["REQUEST_METHOD"].encode(), b" ", environ["PATH_INFO"].encode(), b" ", body]

class Counted:
    def __init__(self, app, workers):
        self.app, self.workers = app, workers

    def __call__(self, environ, start_response):
        environ["shop.workers"] = str(self.workers)
        return self.app(environ, start_response)

class StandaloneApplication(BaseApplication):
    def __init__(self, app, options=None):
        self.options = options or {}
        self.application = app
        super().__init__()

    def load_config(self):
        config = {key: value for key, value in self.options.items()
                  if key in self.cfg.settings and value is not None}
        for key, value in config.items():
            self.cfg.set(key.lower(), value)

    def load(self):
        return Counted(self.application, self.cfg.workers)

def post_fork(server, worker):
    server.log.info("hook: post_fork %s", worker.age)

if __name__ == "__main__":
    options = {"bind": "%s:%s" % ("127.0.0.1", "0"), "workers": 1, "accesslog": "-", "post_fork": post_fork,
               "access_log_format": 'access: "%(r)s" %(s)s %(b)s', "not_a_setting": 5}
    StandaloneApplication(application, options).run()
""",
    },
    requests=(Request("/a"), Request("/b", "POST", {}, b"body")),
)

CONTAINER = Deployment(
    name="container",
    interpreter="sh",
    script="entrypoint.sh",
    environ={
        "GUNICORN_CMD_ARGS": "--bind=127.0.0.1:0 --access-logfile=- "
        """--access-logformat='access: "%(r)s" %(s)s %({X-Stage}o)s' --env STAGE=test""",
        "WEB_CONCURRENCY": "2",
    },
    files={
        "entrypoint.sh": """#!/bin/sh
set -e
export MIGRATED=yes
exec gunicorn --worker-tmp-dir /dev/shm --max-requests 1000 --max-requests-jitter 50 "$@" 'app:make_app("x", flag=True)'
""",
        "app.py": """
import os

def make_app(name, flag=False):
    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain"), ("X-Stage", os.environ["STAGE"])])
        yield f"{name} {flag} {os.environ['MIGRATED']} {environ['SCRIPT_NAME']}|{environ['PATH_INFO']}".encode()
    return application
""",
    },
    requests=(Request("/"), Request("/a/b?c"), Request("/", "OPTIONS")),
)

DEPLOYMENTS = (FLASK, DJANGO, PYRAMID, EMBEDDED, CONTAINER)
