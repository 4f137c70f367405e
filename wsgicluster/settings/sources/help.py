"""What ``--help`` shows: the settings that most servers need, in groups and in a line or two each.

``--help-all`` is the text of the whole parser, with what is declared of each setting. Here it is said again in few
words; flags, groups and defaults follow from the declarations.
"""

import textwrap
from collections.abc import Iterable, Iterator, Mapping

from wsgicluster.settings.declaration import Group, Setting
from wsgicluster.settings.fields import SETTINGS
from wsgicluster.version import DOCS

COMMON = {
    "chdir": "folder to change to before it is loaded",
    "raw_env": "environment variable for it; may be repeated",
    "preload_app": "load it once, before workers are forked",
    "smoke": "paths that it must answer before it serves",
    "reload": "for development: replace workers when a file changes",
    "bind": "HOST:PORT or unix:PATH [{}]",
    "workers": "number, auto (one for each processor), or 2..16 [{}]",
    "worker_class": "sync, gthread or gevent [{}]",
    "threads": "requests at a time in each gthread worker [{}]",
    "worker_connections": "clients of a gthread or gevent worker [{}]",
    "timeout": "replace a worker that hangs so long [{}]",
    "graceful_timeout": "time for requests in progress at a stop [{}]",
    "drain_delay": "after TERM serve on for so long [{}]",
    "keepalive": "how long idle connections are kept [{}]",
    "max_requests": "replace a worker after so many requests; 0: never [{}]",
    "max_memory": "or beyond this size; 0: never [{}]",
    "forwarded_allow_ips": "proxies whose X-Forwarded-Proto is trusted",
    "forwarded_hops": "proxies in front that record the client's address [{}]",
    "certfile": "certificate chain (PEM); enables TLS",
    "keyfile": "its private key [{}]",
    "admin": "port of health, metrics and dashboard [{}]",
    "daemon": "run in the background",
    "pidfile": "write the process ID of the server to this file",
    "proc_name": "name of the server in ps and wsgiclusterctl",
    "user": "run workers as this user",
    "group": "run workers as this group",
    "accesslog": "log of requests; - for standard output [{}]",
    "errorlog": "log of the server; - for standard error [{}]",
    "loglevel": "debug, info, warning, error or critical [{}]",
    "log_format": "text, json or logfmt [{}]",
    "slow_request": "log requests that take longer, with their stack",
    "config": "configuration file [wsgicluster.conf.py]",
    "print_config": "print every setting with its source, and exit",
    "check_config": "check settings and application, and exit",
    "doctor": "also find known problems of this machine, and exit",
}
"""What ``--help`` says about a setting, by its name; ``{}`` stands for the default. All of them have flags."""

QUESTIONS = {
    "-h, --help": "show this help, and exit",
    "--help-all": "show every flag with default and variable, and exit",
    "-v, --version": "show the version (--verbose: also Python's), and exit",
}
EXAMPLES = """\
  wsgicluster shop:app                      app of shop.py at 127.0.0.1:8000
  wsgicluster shop:app -w 4 -b 0.0.0.0:80   4 workers, reached from anywhere
  wsgicluster init && wsgicluster           write a configuration, serve by it
"""
UNITS = "TIME is 30, 30s, 500ms, 2m or 1h; SIZE is 8190, 512K, 512M or 1G."
USAGE = ("wsgicluster [option ...] [APPLICATION]", "wsgicluster COMMAND [argument ...]")
_MARGIN = 26
_NARROWEST = 60


def common_help(subcommands: Mapping[str, str], width: int = 80) -> str:
    """The text of ``--help`` for a terminal of this width; ``subcommands`` are the words that may come first."""
    width = max(width, _NARROWEST)
    lines = [f"usage: {USAGE[0]}", f"       {USAGE[1]}", "", "Serve a WSGI application.", ""]
    lines += ["Examples:", EXAMPLES]
    lines += _section("Commands", subcommands, width)
    for group in Group:
        shown = {_flags(SETTINGS[name]): _about(name) for name in COMMON if SETTINGS[name].about.group is group}
        if group is Group.APPLICATION:
            shown = {"APPLICATION": "module, module:attribute or module:factory()", **shown}
        if group is Group.CONFIGURATION:
            shown |= QUESTIONS
        if shown:
            lines += _section(group.value, shown, width)
    hidden = len(SETTINGS) - len(COMMON)
    lines += [UNITS, f"{hidden} more settings: wsgicluster --help-all, or man wsgicluster", f"Documentation: {DOCS}"]
    return "\n".join(lines) + "\n"


def _section(title: str, rows: Mapping[str, str], width: int) -> Iterator[str]:
    yield f"{title}:"
    for name, text in rows.items():
        yield from _row(name, text, width)
    yield ""


def _row(name: str, text: str, width: int) -> Iterable[str]:
    head = f"  {name}"
    lines = textwrap.wrap(text, width - _MARGIN, break_on_hyphens=False)
    if len(head) + 2 > _MARGIN:
        return [head, *(" " * _MARGIN + line for line in lines)]
    first, *rest = lines
    return [f"{head:<{_MARGIN}}{first}", *(" " * _MARGIN + line for line in rest)]


def _flags(setting: Setting) -> str:
    """The short flag and the first long one, with what it takes."""
    short = [flag for flag in setting.about.flags if not flag.startswith("--")]
    argument = "" if setting.is_switch else f" {setting.about.type.metavar}"
    return ", ".join([*short[:1], setting.flag]) + argument


def _about(name: str) -> str:
    return COMMON[name].replace("{}", default_with_unit(SETTINGS[name]))


def default_with_unit(setting: Setting) -> str:
    """The default of a setting as help texts show it, with its unit; ``none`` where it is empty."""
    shown, unit = setting.default_shown or "none", setting.about.type.unit
    if not unit or not shown.replace(".", "", 1).isdecimal():  # a size may have its unit already, as in 1M
        return shown
    return f"{shown} {unit.removesuffix('s') if shown == '1' else unit}"
