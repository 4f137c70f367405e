"""The command line of wsgiclusterctl: its commands, their arguments and their help."""

import argparse
import difflib
import math
import re
from typing import NoReturn

from wsgicluster.ctl.logs.records import LEVELS
from wsgicluster.version import __version__

EXIT_CODES = """\
exit codes:
  0  done, or nothing was to be done
  1  the command has failed, or was refused
  2  the command line is wrong
  3  there is no server, or more than one
  5  stop: requests were aborted, or workers killed
  6  it is not over within --timeout; it continues
  health: 0 serving, 1 degraded or not serving, 3 no server
  doctor: 0 no findings, 1 findings, 3 no server
"""
_EXAMPLES = """\
examples:
  wsgiclusterctl list                    the only server of this machine
  wsgiclusterctl -n shop top             the server called shop
  wsgiclusterctl -p /run/app.pid reload --wait
  wsgiclusterctl scale +2
  wsgiclusterctl list --json | jq '.workers[].pid'

"""
DEFAULT_EVENTS = 15
DEFAULT_RECORDS = 15
TRACING_COSTS = (
    "Tracing costs: from --start on, an allocation takes about ten times as long, and more memory, until --stop or "
    "until the worker is replaced. Before, nothing is paid for it."
)
CANARY_S = 30.0
"""How long a worker is tried where no time is given."""
ALIASES = {"ls": "list", "status": "list", "describe": "show", "monit": "top", "drain": "restart", "ping": "health"}
"""Other names to the first one."""
SHELLS = ("bash", "zsh", "fish")
_BEFORE_COMMAND = ("-p", "--pid-file", "-n", "--name", "--socket", "-q", "--quiet")
_NO_SUCH_COMMAND = re.compile(r"argument COMMAND: invalid choice: '(.*?)' \(choose from (.*)\)")
_LEFT_OVER = re.compile(r"unrecognized arguments: ([^ =]+)")


class LineParser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line, with the remedy."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2. What argparse says in words that are not known here is shown as it is."""
        command, rest = _NO_SUCH_COMMAND.match(message), _LEFT_OVER.match(message)
        remedy = f"see {self.prog} --help"
        if command is not None:
            message = f"{command[1]}: no such command"
            near = difflib.get_close_matches(command[1], re.findall(r"[\w-]+", command[2]), 1)
            remedy = f"did you mean {near[0]}?" if near else remedy
        elif rest is not None and rest[1] in _BEFORE_COMMAND:
            message = f"{rest[1]} is not an option of the command"
            remedy = f"it belongs before it, as in: {self.prog} {rest[1]} ... COMMAND"
        self.exit(2, f"{self.prog}: error: {message}; {remedy}\n")


def parser(program: str = "wsgiclusterctl") -> argparse.ArgumentParser:
    """The parser; the result's ``command`` is None where none was given."""
    found = LineParser(
        prog=program,
        description="List, watch and steer running wsgicluster servers.",
        epilog=_EXAMPLES + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    which = found.add_argument_group("which server, before the command (default: the only one that runs here)")
    one = which.add_mutually_exclusive_group()
    one.add_argument("-p", "--pid-file", dest="pidfile", metavar="PIDFILE", help="the one with this pid file")
    one.add_argument("-n", "--name", metavar="NAME", help="the one with this name (proc_name or application), or pid")
    one.add_argument("--socket", metavar="PATH", help="the one with this control socket; @NAME for an abstract one")
    found.add_argument("-q", "--quiet", action="store_true", help="print nothing but what was asked for")
    found.add_argument("--version", action="version", version=f"wsgiclusterctl {__version__}")
    commands = CommandParsers(found)
    commands.add_looks()
    commands.add_changes()
    return found


class CommandParsers:
    """The commands of a parser."""

    def __init__(self, of: argparse.ArgumentParser) -> None:
        self._all = of.add_subparsers(dest="command", metavar="COMMAND", title="commands")

    def names(self) -> list[str]:
        """All by their first name."""
        return [name for name in self._all.choices if name not in ALIASES]

    def _add(self, name: str, summary: str) -> argparse.ArgumentParser:
        aliases = [alias for alias, first in ALIASES.items() if first == name]
        return self._all.add_parser(name, help=summary, description=summary, aliases=aliases, allow_abbrev=False)

    def add_looks(self) -> None:
        """Those that change nothing."""
        listed = self._add("list", "All workers, a line each.")
        _add_json(listed)
        listed.add_argument("--no-header", dest="header", action="store_false", help="leave out the titles")
        listed.add_argument(
            "--sample", type=_seconds, default=0.3, metavar="SECONDS",
            help="how long to count for REQ/S and CPU%% (default: 0.3; 0 leaves them out)",
        )  # fmt: skip
        shown = self._add("show", "Everything about the worker of a slot.")
        shown.add_argument("slot", type=int, metavar="SLOT")
        _add_json(shown)
        top = self._add("top", "A table of workers and requests that is renewed; q quits.")
        top.add_argument(
            "--interval", type=_seconds, default=1.0, metavar="SECONDS", help="between two looks (default: 1)"
        )
        _add_json(self._add("requests", "The oldest request in progress of each worker."))
        events = self._add("events", "What has happened to workers and the server.")
        events.add_argument("-f", "--follow", action="store_true", help="go on with what happens")
        events.add_argument(
            "-n", "--last", type=int, default=DEFAULT_EVENTS, metavar="COUNT",
            help=f"how many past ones (default: {DEFAULT_EVENTS})",
        )  # fmt: skip
        _add_json(events)
        stacks = self._add("stacks", "What the threads and greenlets of a worker do now.")
        stacks.add_argument("slot", type=int, metavar="SLOT")
        self._add_logs()
        self._add_profile()
        self._add_memory()
        get = self._add("get", "Settings in force, and when a change of them applies.")
        get.add_argument("name_of_setting", nargs="?", metavar="NAME")
        _add_json(get)
        _add_json(self._add("health", "One line and an exit code: 0 serving, 1 not."))
        doctor = self._add(
            "doctor", "What is wrong with the server, or soon will be, with the remedy: exit code 1 for findings."
        )
        doctor.add_argument(
            "--full", action="store_true",
            help="also run the server's own command with --doctor, which loads the application once more",
        )  # fmt: skip
        _add_json(doctor)
        self._add("systemd", "Print a unit of systemd that starts this server as it was started.")
        pid = self._add("pid", "The arbiter's pid, or those of a slot's workers.")
        pid.add_argument("slot", type=int, nargs="?", metavar="SLOT")
        completion = self._add("completion", 'Completion for a shell: eval "$(wsgiclusterctl completion bash)".')
        completion.add_argument("shell", choices=SHELLS)

    def _add_logs(self) -> None:
        logs = self._add("logs", "The last records of the error log, where that is a file.")
        logs.add_argument("-f", "--follow", action="store_true", help="go on with those that come")
        logs.add_argument(
            "-n", "--last", type=_count, default=DEFAULT_RECORDS, metavar="COUNT",
            help=f"how many past ones (default: {DEFAULT_RECORDS})",
        )  # fmt: skip
        logs.add_argument("--slot", type=int, metavar="N", help="of this slot's workers, and about them")
        logs.add_argument("--level", choices=LEVELS, help="this level and those above")
        logs.add_argument("--grep", metavar="PATTERN", help="with a line in which this regular expression is found")
        _add_json(logs)

    def _add_profile(self) -> None:
        profile = self._add(
            "profile",
            "Where a worker spends its time: a flame graph of stacks, taken 100 times a second. Ctrl-C ends it early.",
        )
        profile.add_argument("slot", type=int, metavar="SLOT")
        profile.add_argument(
            "seconds", type=_seconds, nargs="?", default=10.0, metavar="SECONDS", help="default: 10; most: 600"
        )
        profile.add_argument(
            "-o", "--output", metavar="FILE",
            help="where to write it; - for standard output (default: profile-SLOT-TIME.svg here)",
        )  # fmt: skip
        profile.add_argument(
            "--collapsed", action="store_true",
            help="write a line for each stack and its count instead, to standard output by default",
        )  # fmt: skip
        profile.add_argument("--idle", action="store_true", help="count waits for requests, too")

    def _add_memory(self) -> None:
        memory = self._add(
            "memory",
            "Which lines of code have allocated the memory of a worker, and which ones most since the last call.",
        )
        memory.epilog = TRACING_COSTS
        memory.add_argument("slot", type=int, metavar="SLOT")
        action = memory.add_mutually_exclusive_group()
        action.add_argument("--start", dest="action", action="store_const", const="start", help="begin to trace")
        action.add_argument("--stop", dest="action", action="store_const", const="stop", help="trace no longer")
        memory.add_argument(
            "--top",
            type=_count,
            default=20,
            metavar="COUNT",
            help="how many lines of each list (default: 20; most: 50)",
        )
        memory.add_argument(
            "--timeout", type=_seconds, default=10.0, metavar="SECONDS",
            help="how long the worker may take to answer; a sync worker answers between two requests (default: 10)",
        )  # fmt: skip
        _add_json(memory)

    def add_changes(self) -> None:
        """Those that do something."""
        scale = self._add("scale", "Another number of workers: 4, +1 or -1.")
        scale.add_argument("workers", metavar="N|+N|-N")
        _add_wait(scale, "all of them serve")
        set_ = self._add("set", "Change scheduling, weights, sticky or workers until the next reload.")
        set_.add_argument("name_of_setting", metavar="NAME")
        set_.add_argument("value", metavar="VALUE")
        reload_ = self._add("reload", "Read settings and code again, and replace the workers one after another.")
        reload_.add_argument(
            "--smoke",
            metavar="PATHS",
            help="paths that the first new worker has to answer, as /,/login, for this reload",
        )
        reload_.add_argument(
            "--canary", type=float, nargs="?", const=CANARY_S, default=None, metavar="SECONDS",
            help="try the new code on one worker first, and abort the reload if it does worse than the others in that "
            f"time (default: {CANARY_S:g})",
        )  # fmt: skip
        _add_wait(reload_, "all workers run the new code; fails with its traceback where it cannot start")
        restart = self._add("restart", "Replace the workers of slots: 2, 1,3, 1-4 or all.")
        restart.add_argument("slots", metavar="SLOTS")
        _add_wait(restart, "their replacements serve and they have exited")
        stop = self._add("stop", "Stop the server; requests in progress are finished.")
        stop.add_argument("--quick", action="store_true", help="abort requests in progress")
        upgrade = self._add("upgrade", "Start a new server beside this one, on its listeners, to take over from it.")
        _add_wait(upgrade, "the new one serves")
        self._add("reopen-logs", "Open the log files anew, after they were rotated.")


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return found


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0")
    return int(text)


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print JSON, whose fields stay")


def _add_wait(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument("--wait", action="store_true", help=f"return when {what}")
    command.add_argument(
        "--timeout", type=_seconds, default=None, metavar="SECONDS", help="with --wait: the longest wait"
    )


def completion(shell: str) -> str:
    """What a shell reads to complete the names of commands."""
    commands = CommandParsers(argparse.ArgumentParser())
    commands.add_looks()
    commands.add_changes()
    names = " ".join(commands.names())
    if shell == "fish":
        return f"complete -c wsgiclusterctl -f -n __fish_use_subcommand -a '{names}'\n"
    lines = [
        "_wsgiclusterctl() {",
        "    local word",
        '    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do',
        f'        case " {names} " in *" $word "*) return ;; esac',
        "    done",
        f'    COMPREPLY=($(compgen -W "{names}" -- "${{COMP_WORDS[COMP_CWORD]}}"))',
        "}",
        "complete -F _wsgiclusterctl wsgiclusterctl",
    ]
    if shell == "zsh":
        lines.insert(0, "autoload -U +X bashcompinit && bashcompinit")
    return "\n".join(lines) + "\n"
