"""The unit of systemd for a running server, from how that was started. Pure: values in, text out.

No value of an environment variable is in it: the file can be read by every user of the machine.
"""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

STOP_MARGIN_S = 10
"""systemd kills what is left later than the server itself would."""
_OWN_VARIABLES = re.compile(r"(WSGICLUSTER_|GUNICORN_|PYTHON)\w+|PORT|WEB_CONCURRENCY|FORWARDED_ALLOW_IPS")
_PLAIN = re.compile(r"[\w@+=:,./^-]+")
_PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]+@")
_MODULE_OPTIONS = ("-m", "-c")
_WITH_VALUE = ("-W", "-X", "--check-hash-based-pycs")
_TEMPORARY = ("/tmp/", "/var/tmp/")
_HOMES = ("/home/", "/root/", "/run/user/")
_RUNTIME = re.compile(r"(?:/var)?/run/((?!user/|lock/|systemd/)[^/].*)/[^/]+")
"""A file in a folder below ``/run``, which is empty after a boot."""


def unit(launch: Mapping[str, Any], name: str) -> str:
    """The text of the unit; ``launch`` is the result of the command of that name, ``name`` that of the server."""
    command = without_daemon(absolute(launch["command"], launch["directory"]))
    places = [launch["directory"], *(word for word in command if word.startswith("/"))]
    lines = [
        *_remarks(launch, command),
        "[Unit]",
        f"Description=wsgicluster serves {specifiers(name)}",
        "After=network.target",
        "",
        "[Service]",
        "Type=notify",
        "NotifyAccess=main",
    ]
    if launch["user"] != "root":
        lines += [f"User={launch['user']}", f"Group={launch['group']}"]
    lines += [
        f"WorkingDirectory={specifiers(launch['directory'])}",
        *_runtime_folders(launch.get("files", [])),
        f"ExecStart={' '.join(map(quoted, command))}",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "KillMode=mixed",
        f"TimeoutStopSec={round(launch['stop_seconds']) + STOP_MARGIN_S}",
        "WatchdogSec=30",
        "Restart=on-failure",
        "RestartPreventExitStatus=2",
        *_limit(launch["open_files"]),
        "",
        "NoNewPrivileges=true",
        # Not strict: which folders the application writes to is not known here.
        "ProtectSystem=full",
        f"ProtectHome={'read-only' if _is_below(places, _HOMES) else 'true'}",
        f"PrivateTmp={'false' if _is_below(places, _TEMPORARY) else 'true'}",
        "ProtectControlGroups=true",
        "ProtectKernelModules=true",
        "ProtectKernelTunables=true",
        "RestrictSUIDSGID=true",
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return "\n".join(lines) + "\n"


def _remarks(launch: Mapping[str, Any], command: Sequence[str]) -> list[str]:
    """What a unit cannot say by itself, as comments in front of it."""
    found = ["# Written by wsgiclusterctl systemd; docs: Run under systemd."]
    variables = [each for each in launch["variables"] if _OWN_VARIABLES.fullmatch(each)]
    if variables:
        found.append(f"# The server was started with {', '.join(variables)} set: pass them on by EnvironmentFile=.")
    if any(word in ("-e", "--env") or word.startswith("--env=") or _PASSWORD.search(word) for word in command):
        found.append("# Every user of this machine can read the secrets of ExecStart=: move them to EnvironmentFile=.")
    if launch["daemon"]:
        found.append("# A service is no daemon: see that neither the configuration file nor a variable sets daemon.")
    if launch["user"] == "root" and launch["worker_user"] != "root":
        found.append(f"# The arbiter runs as root, its workers as {launch['worker_user']} (user).")
    elif launch["user"] == "root":
        found.append("# The server runs as root: User=www-data is safer.")
    return [*found, ""]


def _limit(open_files: Mapping[str, int]) -> list[str]:
    """The limit on open files, but for systemd's own default."""
    soft, hard = open_files["soft"], open_files["hard"]
    if soft <= 1024:
        return []
    shown = ["infinity" if each < 0 or each >= 1 << 62 else str(each) for each in (soft, hard)]
    return [f"LimitNOFILE={shown[0]}:{shown[1]}"]


def _runtime_folders(files: Sequence[str]) -> list[str]:
    """The folders of sockets and of the pid file that systemd is to make, since no one else does after a boot."""
    matches = (_RUNTIME.fullmatch(os.path.normpath(file)) for file in files)
    folders = dict.fromkeys(match[1] for match in matches if match)
    return [f"RuntimeDirectory={' '.join(map(quoted, folders))}"] if folders else []


def _is_below(places: Sequence[str], folders: Sequence[str]) -> bool:
    return any(f"{place}/".startswith(folder) for place in places for folder in folders)


def absolute(command: Sequence[str], directory: str) -> list[str]:
    """The command with the path of its script made absolute: systemd starts in ``/``, and searches no PATH for it."""
    found = list(command)
    at = 1
    while at < len(found):
        word = found[at]
        if word.startswith(_MODULE_OPTIONS):
            return found
        if word in _WITH_VALUE:
            at += 2
        elif word.startswith("-"):
            at += 1
        else:
            found[at] = os.path.normpath(os.path.join(directory, word))
            return found
    return found


def without_daemon(command: Sequence[str]) -> list[str]:
    """The command without the flag that sends the server to the background."""
    return [word for at, word in enumerate(command) if not at or word not in ("-D", "--daemon")]


def specifiers(text: str) -> str:
    """A text in which systemd replaces nothing; line feeds would begin another line."""
    return " ".join(text.replace("%", "%%").split("\n"))


def quoted(word: str) -> str:
    """A word of ExecStart as systemd reads it back."""
    text = word.replace("%", "%%").replace("$", "$$")
    if _PLAIN.fullmatch(word):
        return text
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{text}"'
