"""The commands that the pages tell a reader to type, and a machine of one's own to type them on."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator

from tests.conftest import ROOT, children_of, is_passed_on, wait_until

DOCS = ROOT / "docs"
_HERE = "/run/here"
"""The reader's folder, on the machine that is made."""
PAGES = sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.rst") if path.name != "settings.rst")

_LITERAL = re.compile(r"::(?: console| text| sh)?\n\n((?:(?: {4}.*)?\n)+)")
_PROGRAMS = (
    "wsgicluster(?! [0-9])", "wsgiclusterctl", "python3?", "pip", "curl", "kill", "cd", "sudo", "export", "gunicorn",
    "systemctl", "systemd-[a-z-]+", "docker", "kubectl", "supervisorctl", "prometheus", "promtool", "openssl",
)  # fmt: skip
_COMMAND = re.compile(rf"\$ (?P<shown>.+)|(?P<bare>(?:old=\$\(|\. |(?:{'|'.join(_PROGRAMS)})(?= )(?! =)).*)")
_NEEDED = sorted({ROOT, pathlib.Path(sys.prefix), pathlib.Path(sys.base_prefix)})


def commands(text: str) -> list[str]:
    """All commands of a page in order: what follows a prompt, and lines of literal blocks that begin with a program."""
    return [
        command
        for block in _LITERAL.findall(text)
        if not block.startswith("    #!")  # a script, which is not typed
        for line in re.sub(r" *\\\n\s+", " ", block).splitlines()
        if (found := _COMMAND.fullmatch(line.strip())) and (command := found["shown"] or found["bare"])
    ]


def is_server(command: str) -> bool:
    """Whether a command serves until it is stopped."""
    words = re.sub(r"^cd \S+ && ", "", command).removesuffix(" &").split()
    ends = {
        "completion",
        "ctl",
        "doctor",
        "init",
        "migrate",
        "--help",
        "--help-all",
        "--version",
        "--check-config",
        "--print-config",
        "--doctor",
        "-D",
    }
    return words[0] == "wsgicluster" and not ends & {*words}


class Machine:
    """A network, mounts and processes of its own, in which ports and folders of pages are free; needs ``unshare``.

    Root of this machine is needed for nothing: another user becomes root of the machine that is made.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self._user = [] if os.getuid() == 0 else ["--map-root-user"]
        self._owned = contextlib.ExitStack()
        self._target = 0
        self._logs: list[pathlib.Path] = []
        self._servers: list[subprocess.Popen[bytes]] = []
        self._before = ""
        self._environ = {name: value for name, value in os.environ.items() if is_passed_on(name)}
        path = f"{_HERE}/bin:{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin:/sbin"
        self._environ.update(PATH=path, HOME=_HERE, PYTHONUNBUFFERED="1", TERM="dumb")

    @staticmethod
    def can_be_made() -> bool:
        """Whether this system lets its users, or root, make namespaces."""
        if not all(map(shutil.which, ("unshare", "nsenter", "ip", "bash", "curl"))):
            return False
        user = [] if os.getuid() == 0 else ["--map-root-user"]
        done = subprocess.run(
            ["unshare", *user, "--net", "--mount", "--pid", "--fork", "--mount-proc", "ip", "link", "set", "lo", "up"],
            capture_output=True,
            check=False,
        )
        return done.returncode == 0

    def __enter__(self) -> "Machine":
        hosts = self.folder / "hosts"
        hosts.write_text("127.0.0.1 localhost redis.internal collector\n")
        # What the commands themselves are may be in a folder that is emptied.
        kept = [path for path in _NEEDED if path.is_relative_to("/tmp") or path.is_relative_to("/srv")]
        prepare = " && ".join([
            f"ip link set lo up && mount -t tmpfs none /run && mkdir -p {_HERE} && mount --bind . {_HERE}",
            *(f"mkdir /run/{at} && mount --bind '{path}' /run/{at}" for at, path in enumerate(kept)),
            "mount --bind hosts /etc/hosts && mount -t tmpfs none /srv && mount -t tmpfs none /tmp",
            *(f"mkdir -p '{path}' && mount --bind /run/{at} '{path}'" for at, path in enumerate(kept)),
            f"ln -s {_HERE} /srv/shop && echo ready && exec cat",
        ])  # fmt: skip
        spaces = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        first = subprocess.Popen(
            ["unshare", *self._user, *spaces, "sh", "-c", prepare],
            cwd=self.folder, env=self._environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert first.stdin is not None
        assert first.stdout is not None
        # Its first process ends with its input, and all others with it.
        self._owned.callback(first.wait, 30)
        self._owned.callback(first.stdout.close)
        self._owned.callback(first.stdin.close)
        assert first.stdout.readline() == b"ready\n"
        (self._target,) = children_of(first.pid)
        return self

    def __exit__(self, *_: object) -> None:
        self._owned.close()
        for server in self._servers:
            server.wait(30)

    def _inside(self, command: str) -> list[str]:
        spaces = ["--net", "--mount", "--pid", *(["--user", "--preserve-credentials"] if self._user else [])]
        script = f"cd {_HERE}; {self._before}{command}"
        return ["nsenter", f"--target={self._target}", *spaces, "bash", "-c", script]

    def run(self, command: str) -> tuple[int, str]:
        """Exit code and output of a command; folders and variables stay for those that follow."""
        # What a daemon holds open does not keep the test waiting: its output is read from a file.
        with (self.folder / "output").open("w+b") as output:
            done = subprocess.run(
                self._inside(command), env=self._environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                check=False, timeout=60,
            )  # fmt: skip
            output.seek(0)
            text = output.read().decode("utf-8", "replace")
        if re.match(r"cd \S+$|export |\. ", command):
            self._before += f"{command}; "
        return done.returncode, text

    def serve(self, command: str) -> None:
        """Start a server, and wait until its workers serve; one without ``&`` has the terminal of those before it."""
        if not command.endswith(" &"):
            self.stop()
        # In the place of the shell, so that a signal reaches it.
        alone = re.sub(r"^(cd \S+ && )?(?=wsgicluster\b)", r"\1exec ", command.removesuffix(" &"))
        self._logs.append(self.folder / f"server-{len(self._logs)}.log")
        with self._logs[-1].open("wb") as log:
            server = subprocess.Popen(
                self._inside(alone), env=self._environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._servers.append(server)
        wait_until(lambda: "Started: " in self.log() or server.poll() is not None, 30, command)
        assert server.poll() is None, f"{command}\n{self.log()}"

    def log(self) -> str:
        """What the last server has said."""
        return self._logs[-1].read_text("utf-8", "replace") if self._logs else ""

    def stop(self) -> None:
        """Stop the servers that run as Ctrl-C does, and see that each has ended as it should."""
        for server in self._servers:
            for pid in children_of(server.pid):
                with contextlib.suppress(ProcessLookupError):  # just ended: a command has stopped it
                    os.kill(pid, signal.SIGINT)
            assert server.wait(30) == 0, self.log()
        self._servers.clear()


@contextlib.contextmanager
def machine(folder: pathlib.Path) -> Iterator[Machine]:
    """A machine that has this folder, for as long as it is used."""
    with Machine(folder) as made:
        yield made
