"""The text of a new configuration file: what a newcomer needs, with the reasons, or every setting.

Defaults are those that are declared; a line that begins with ``# name =`` has the default of that setting.
"""

import textwrap
from collections.abc import Iterator, Sequence

from wsgicluster.init.detection import Candidate, Certainty
from wsgicluster.settings import SETTINGS
from wsgicluster.settings.declaration import Group, Setting
from wsgicluster.version import DOCS, __version__

_WIDTH = 118
_NOT_IN_A_FILE = frozenset({"wsgi_app", "config", "print_config", "check_config", "doctor"})
"""The application has a paragraph of its own; the others are questions to a command."""

_FRONT = """\
# Settings of wsgicluster for the application in this folder; written by "wsgicluster init", version {version}.
#
#     wsgicluster                   start the server in this folder, where it finds this file
#     wsgicluster --check-config    check this file, and whether the application can be loaded
#     wsgicluster --doctor          also look for known problems of this machine
#     wsgiclusterctl reload         have a running server read this file and the code again, without a break
#     wsgiclusterctl stop           stop it; Ctrl-C does so in its terminal
#
# The file is Python. A line such as "# timeout = 30" shows a default: remove the "# " to set it. The environment
# (WSGICLUSTER_TIMEOUT=60) overrides this file, and flags (--timeout 60) override both.
# All settings: wsgicluster --help-all, wsgicluster init --full, or
# {docs}
"""

_COMMON = """\
# Where it listens. "0.0.0.0:8000" lets other machines in, as a container needs it; a proxy on this machine can use
# "unix:/run/shop/shop.sock". On platforms that set the variable PORT, remove the line: then the variable counts.
bind = {bind}

# Worker processes, each with a copy of the application. "auto" is one for each processor that may be used, also in a
# container; "2..16" as many as there is work for.
workers = "auto"

# A sync worker runs one request at a time: best where requests mostly compute. Where they wait for databases and other
# services, several share a worker: with threads = 8, or as greenlets with "gevent" (pip install 'wsgicluster[gevent]').
# worker_class = {worker_class}
# threads = {threads}

# Seconds after which a worker is replaced whose request produces nothing, with its stack in the log; and how long
# requests in progress may take when the server stops.
# timeout = {timeout}
# graceful_timeout = {graceful_timeout}

# Replace workers before they grow too large: beyond a size ("300M", or "80%" of what the machine or container has, for
# all of them together), or after a number of requests. 0 means no limit.
# max_memory = {max_memory}
# max_requests = {max_requests}

# Load the application once, and fork the workers from it, which saves memory. Connections that it opens while it is
# imported are then shared by all workers; most libraries do not allow that.
# preload_app = {preload_app}

# Behind a proxy: addresses of proxies that may say that a request came by HTTPS; and the number of proxies, so that
# REMOTE_ADDR becomes the client's address.
# forwarded_allow_ips = {forwarded_allow_ips}
# forwarded_hops = {forwarded_hops}

# Logs: "-" is standard error, or standard output for the log of requests, which is off by default; else a path.
# errorlog = {errorlog}
# accesslog = {accesslog}
# loglevel = {loglevel}

# Health checks, Prometheus metrics and a dashboard, at an address of their own: 9000 is a port of this machine.
# admin = {admin}

# For development: replace the workers when a source file changes.
# reload = {reload}
"""

_NOTES = {
    "Django": (
        "Django does not serve static files in production: have the proxy do it, or WhiteNoise. DJANGO_SETTINGS_MODULE "
        'is set by its wsgi.py; other variables can be set by raw_env = ["NAME=VALUE"].'
    ),
    "Flask": "Flask's own server and its debugger are not used; reload = True below replaces workers as code changes.",
}


def common(found: Sequence[Candidate]) -> str:
    """The short file for the first of these applications; the others are mentioned."""
    defaults = {name: as_python(setting) for name, setting in SETTINGS.items()}
    return "\n\n".join([_front(), "\n".join(_application(found)), _COMMON.format_map(defaults)])


def full(found: Sequence[Candidate]) -> str:
    """The file with every setting, all but the application as comments."""
    parts = [_front(), "\n".join(_application(found))]
    for group in Group:
        shown = [
            setting
            for setting in SETTINGS.values()
            if setting.about.group is group and setting.name not in _NOT_IN_A_FILE
        ]
        if shown:
            parts.append(f"# {group.value}\n# {'-' * len(group.value)}")
        parts += ["\n".join([*comment(setting.about.help), _default_line(setting)]) for setting in shown]
    return "\n\n".join(parts) + "\n"


def comment(text: str) -> list[str]:
    """A paragraph as lines of a comment."""
    return [f"# {line}" for line in textwrap.wrap(text, _WIDTH - 2, break_on_hyphens=False, break_long_words=False)]


def _front() -> str:
    return _FRONT.format(version=__version__, docs=DOCS).rstrip("\n")


def _application(found: Sequence[Candidate]) -> Iterator[str]:
    """What is served, or how to say it where nothing was found."""
    served = [each for each in found if each.certainty is not Certainty.ASGI]
    if not served:
        yield from comment(
            "The application: MODULE:NAME, or MODULE:FACTORY(). None was found in this folder; name it here, or on the "
            "command line."
        )
        yield '# wsgi_app = "module:app"'
    else:
        first, *others = served
        what = f"a {first.framework} application" if first.framework else "the application"
        more = f" Others here: {', '.join(each.target for each in others[:4])}." if others else ""
        yield from comment(f"The application: MODULE:NAME, or MODULE:FACTORY(). This is {what}, {first.path}.{more}")
        if first.framework in _NOTES:
            yield from comment(_NOTES[first.framework])
        yield f'wsgi_app = "{first.target}"'
    for each in found:
        if each.certainty is Certainty.ASGI:
            kind = f" ({each.framework})" if each.framework else ""
            yield from comment(f"{each.target}{kind} is an ASGI application, which this server cannot serve.")


def _default_line(setting: Setting) -> str:
    """The default as a line of Python behind a ``#``; in words where it depends on the machine."""
    line = f"# {setting.name} = {as_python(setting)}"
    words = setting.about.default_text
    return f"{line}  # default: {words}" if words and words != "none" else line


def as_python(setting: Setting) -> str:
    """A value that sets the default where it is written in the file; None where only the machine knows it."""
    value = setting.default
    if setting.about.default_text and not isinstance(value, str | tuple):
        return "None"
    if isinstance(value, str):
        return _quoted(value)
    if value is None or isinstance(value, bool):
        return repr(value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple) and all(isinstance(each, str) for each in value):
        return _quoted(list(value))
    if isinstance(value, dict):
        return _quoted(value)
    if type(value) is int and setting.default_shown == str(value):
        return str(value)
    return _quoted(setting.default_shown)


def _quoted(value: object) -> str:
    """The literal with the quotes that code formatters use."""
    text = repr(value)
    return text if '"' in text else text.replace("'", '"')
