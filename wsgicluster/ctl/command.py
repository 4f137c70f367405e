"""One run of wsgiclusterctl, from its arguments to its exit code.

What was asked for goes to standard output and nothing else does; messages go to standard error, in a line each.
"""

import argparse
import dataclasses
import datetime
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from wsgicluster.control.client import ControlConnection, NoServer
from wsgicluster.control.commands import MOST_WAIT_S
from wsgicluster.control.protocol import ControlError, ErrorCode
from wsgicluster.control.status import complete, rates
from wsgicluster.control.surroundings import live_surroundings
from wsgicluster.ctl import options, systemd, tables
from wsgicluster.ctl.doctor.findings import LiveFacts, findings
from wsgicluster.ctl.doctor.start import examine_start
from wsgicluster.ctl.find import Wanted, connect
from wsgicluster.ctl.logs.show import show
from wsgicluster.ctl.profiling import result
from wsgicluster.ctl.profiling.profiler import profile

FAILED, USAGE, NO_SERVER, TIMED_OUT = 1, 2, 3, 6
_CODES = {ErrorCode.INVALID: USAGE, ErrorCode.TIMED_OUT: TIMED_OUT, ErrorCode.STOPPING: NO_SERVER}
WIDE = 200
"""Characters of a line where standard output is no terminal."""


def main(argv: Sequence[str] | None = None, program: str = "wsgiclusterctl") -> int:
    """Run with these arguments (those of the process by default); returns the exit code."""
    given = options.parser(program).parse_args(with_changes(sys.argv[1:] if argv is None else argv))
    if given.command is None:
        options.parser(program).print_help()
        return USAGE
    try:
        return Run(given).run()
    except NoServer as error:
        return _failed(str(error), NO_SERVER)
    except ControlError as error:
        if error.detail:
            print(error.detail.rstrip(), file=sys.stderr)
        return _failed(str(error), _CODES.get(error.code, FAILED))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # `| head` has read enough; nothing more can be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _failed(message: str, code: int) -> int:
    print(f"wsgiclusterctl: error: {message}", file=sys.stderr)
    return code


def with_changes(argv: Sequence[str]) -> list[str]:
    """``scale -1`` as argparse needs it, which takes ``-1`` for an option."""
    found = list(argv)
    for at in range(1, len(found)):
        if found[at - 1] == "scale" and found[at][:1] == "-" and found[at][1:].isdecimal():
            found.insert(at, "--")
            # What comes after the number is an option again.
            rest = found[at + 2 :]
            found[at - 1 :] = ["scale", *rest, *found[at : at + 2]]
            break
    return found


class Run:
    """One command; ``given`` are its arguments."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._given = given
        self._wanted = Wanted(given.pidfile, given.name, given.socket)

    def run(self) -> int:
        """Carry it out; returns the exit code. Raises NoServer and ControlError."""
        name = options.ALIASES.get(self._given.command, self._given.command)
        if name == "completion":
            print(options.completion(self._given.shell), end="")
            return 0
        action: Callable[[ControlConnection], int] = getattr(self, f"_{name.replace('-', '_')}")
        with connect(self._wanted) as connection:
            return action(connection)

    def _say(self, message: str) -> None:
        if not self._given.quiet:
            print(message)

    # Look

    def _list(self, connection: ControlConnection) -> int:
        if self._given.json:
            _print_json(complete(connection.call("status")))
            return 0
        before, began = complete(connection.call("status")), time.monotonic()
        found: dict[int, dict[str, float]] = {}
        after = before
        if self._given.sample > 0:
            time.sleep(self._given.sample)
            after = complete(connection.call("status"))
            found = rates(before, after, time.monotonic() - began)
        if not self._given.quiet:
            print(tables.headline(after["server"])[: _width()])
        wanted = tables.columns(_now(), found)
        for line in tables.table(after["workers"], wanted, _width(), self._given.header):
            print(line)
        return 0

    def _show(self, connection: ControlConnection) -> int:
        slot = self._given.slot
        found = connection.call("show", {"slot": slot})
        status = complete({"server": {"pid": None}, "workers": found["workers"], "others": []})
        found["workers"] = status["workers"]
        if self._given.json:
            _print_json(found)
            return 0
        for line in tables.details(found, _now()):
            print(line)
        return 0

    def _top(self, connection: ControlConnection) -> int:
        if not sys.stdout.isatty():
            # It would show nothing, and not end.
            return _failed("top needs a terminal; list prints its table once", FAILED)
        try:
            # Late: nothing else needs rich.
            from wsgicluster.ctl.top import Top
        except ImportError:
            return _failed("top needs rich: pip install 'wsgicluster[ctl]'", FAILED)
        return Top(connection, self._given.interval).run()

    def _requests(self, connection: ControlConnection) -> int:
        workers = connection.call("status")["workers"]
        found = [
            {"slot": each["slot"], "pid": each["pid"], **each["oldest_request"], "in_progress": each["in_progress"]}
            for each in workers
            if each.get("oldest_request")
        ]
        found.sort(key=lambda each: -each["seconds"])
        if self._given.json:
            _print_json({"schema": 1, "requests": found})
            return 0
        wanted = [
            tables.Column("SLOT", lambda row: str(row["slot"])),
            tables.Column("PID", lambda row: str(row["pid"])),
            tables.Column("FOR", lambda row: tables.seconds_text(row["seconds"])),
            tables.Column("OF", lambda row: str(row["in_progress"])),
            tables.Column("CLIENT", lambda row: row["client"] or "-", right=False),
            tables.Column("REQUEST", lambda row: f"{row['method']} {row['path']}", right=False),
        ]
        for line in tables.table(found, wanted, _width(), header=bool(found)):
            print(line)
        if not found and not self._given.quiet:
            print("no request is in progress", file=sys.stderr)
        return 0

    def _events(self, connection: ControlConnection) -> int:
        args = {"last": self._given.last, "follow": self._given.follow}
        for event in connection.items("events", args):
            print(json.dumps(event) if self._given.json else tables.event_line(event), flush=True)
        return 0

    def _stacks(self, connection: ControlConnection) -> int:
        print(connection.call("stacks", {"slot": self._given.slot})["stacks"])
        return 0

    def _logs(self, connection: ControlConnection) -> int:
        show(connection, self._given)
        return 0

    def _profile(self, connection: ControlConnection) -> int:
        given = self._given
        facts, samples, ended = profile(connection, given.slot, given.seconds)
        if ended and not samples.counts:
            return _failed(f"there is no profile: {ended}", FAILED)
        now = datetime.datetime.now().astimezone()
        says = result.write(facts, samples, given.output, given.collapsed, given.idle, now)
        if not given.quiet:
            print(says, file=sys.stderr)
        return _failed(f"the profile ended early: {ended}", FAILED) if ended else 0

    def _memory(self, connection: ControlConnection) -> int:
        given = self._given
        action = given.action or "top"
        top = 0 if action != "top" else given.top
        args = {"slot": given.slot, "action": action, "top": top, "timeout": given.timeout}
        found = connection.call("memory", args)
        if given.json:
            _print_json(found)
        elif action == "start":
            self._say(
                f"worker {given.slot} (pid {found['pid']}) traces its memory until --stop; this takes time and memory"
            )
        elif action == "stop":
            self._say(f"worker {given.slot} (pid {found['pid']}) traces its memory no longer")
        else:
            for line in tables.memory(found, _width()):
                print(line)
        return 0

    def _get(self, connection: ControlConnection) -> int:
        name = self._given.name_of_setting
        found = connection.call("get", {"name": name} if name else {})
        if self._given.json:
            _print_json(found)
        elif name:
            ((_, setting),) = found["settings"].items()
            print(setting["value"])
        else:
            width = max(map(len, found["settings"]))
            for each, setting in found["settings"].items():
                print(f"{each:<{width}} = {setting['value']}".rstrip())
        return 0

    def _health(self, connection: ControlConnection) -> int:
        server = connection.call("status")["server"]
        healthy = server["state"] in ("serving", "reloading") and not server["degraded"]
        if self._given.json:
            _print_json({"healthy": healthy, "state": server["state"], "workers": server["workers"]})
        else:
            workers = server["workers"]
            allowed = f" ({workers['range']})" if workers.get("range") else ""
            self._say(f"{server['state']}: {workers['ready']} of {workers['wanted']} workers{allowed} ready")
        return 0 if healthy else FAILED

    def _doctor(self, connection: ControlConnection) -> int:
        status = complete(connection.call("status"))
        settings = {name: each["value"] for name, each in connection.call("get")["settings"].items()}
        pids = [each["pid"] for each in status["workers"] if each["pid"]]
        surroundings = live_surroundings(status["server"]["pid"], pids)
        found = findings(LiveFacts(status, settings, surroundings))
        if self._given.json:
            _print_json({"schema": 1, "findings": [dataclasses.asdict(each) for each in found]})
        else:
            for each in found:
                print(each)
            self._say(f"{len(found)} finding{'s' * (len(found) != 1)}" if found else "no findings")
        sound = not self._given.full or examine_start(connection.call("launch"))
        return FAILED if found or not sound else 0

    def _systemd(self, connection: ControlConnection) -> int:
        print(systemd.unit(connection.call("launch"), str(connection.call("hello")["name"])), end="")
        return 0

    def _pid(self, connection: ControlConnection) -> int:
        status = connection.call("status")
        if self._given.slot is None:
            print(status["server"]["pid"])
            return 0
        found = [each["pid"] for each in status["workers"] if each["slot"] == self._given.slot and each["pid"]]
        if not found:
            return _failed(f"no worker has slot {self._given.slot}", FAILED)
        print(*found, sep="\n")
        return 0

    # Change

    def _waiting(self, **args: Any) -> dict[str, Any]:
        timeout = self._given.timeout
        return {**args, "wait": self._given.wait, "timeout": MOST_WAIT_S if timeout is None else timeout}

    def _scale(self, connection: ControlConnection) -> int:
        found = connection.call("scale", self._waiting(workers=self._given.workers))
        self._say(f"{found['before']} -> {found['workers']} workers")
        return 0

    def _set(self, connection: ControlConnection) -> int:
        found = connection.call("set", {"name": self._given.name_of_setting, "value": self._given.value})
        for name, setting in found["settings"].items():
            self._say(f"{name} = {setting['value']} ({setting['applies']})")
        return 0

    def _reload(self, connection: ControlConnection) -> int:
        canary = {} if self._given.canary is None else {"canary": self._given.canary}
        found = connection.call("reload", self._waiting(smoke=self._given.smoke, **canary))
        if self._given.wait:
            workers = f"{found['workers']} worker{'s' * (found['workers'] != 1)}"
            self._say(f"generation {found['generation']} serves with {workers} after {found['seconds']:.1f} s")
        else:
            self._say("reload requested; --wait tells how it ends")
        return 0

    def _restart(self, connection: ControlConnection) -> int:
        found = connection.call("restart", self._waiting(slots=self._given.slots))
        slots = ", ".join(map(str, found["slots"]))
        self._say(f"slot{'s' * (len(found['slots']) != 1)} {slots}: {'replaced' if self._given.wait else 'requested'}")
        return 0

    def _stop(self, connection: ControlConnection) -> int:
        code = int(connection.call("stop", {"quick": self._given.quick})["exit_code"])
        self._say("stopped" if not code else f"stopped, with exit code {code}")
        return code

    def _upgrade(self, connection: ControlConnection) -> int:
        pid = connection.call("upgrade", self._waiting())["pid"]
        says = "serves beside the old one; stop the one you do not want" if self._given.wait else "starts"
        self._say(f"the new server (pid {pid}) {says}")
        return 0

    def _reopen_logs(self, connection: ControlConnection) -> int:
        connection.call("reopen-logs")
        self._say("log files opened anew")
        return 0


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def _width() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDE


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2))
