"""Install an sdist or a wheel as a stranger would, and use it: init, serve, list, reload, stop.

``packages_use.py PYTHON WHEELHOUSE FILE CORE``: in a new environment, from the files of the wheelhouse alone. There is
no compiler, since nothing but the environment's own programs is on the path. CORE is ``compiled`` or ``plain``: which
one has to be installed then. Needs nothing but the standard library. Exit code 1 and a line if something is wrong.
"""

import fcntl
import os
import pathlib
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

APPLICATION = """\
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["SERVER_SOFTWARE"].encode()]
"""
DEADLINE_S = 60.0
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


def raise_loopback() -> None:
    """Take the loopback of a new network namespace into use; where there is another network, it is already."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sh14x", b"lo", 0)
        _, flags = struct.unpack("16sh14x", fcntl.ioctl(sock, SIOCGIFFLAGS, request))
        if not flags & IFF_UP:
            fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


class Place:
    """A folder with an environment in which a package is installed, and an application."""

    def __init__(self, folder: pathlib.Path, python: str, wheelhouse: str, file: str) -> None:
        self.folder = folder
        self.bin = folder / "venv/bin"
        subprocess.run([python, "-m", "venv", folder / "venv"], check=True)
        # Programs find themselves and nothing else: no compiler, whatever the machine has.
        self.environ = {"PATH": str(self.bin), "HOME": str(folder), "LANG": "C.UTF-8", "PIP_NO_CACHE_DIR": "1"}
        self.run("pip", "install", "--disable-pip-version-check", "--no-index", "--find-links", wheelhouse, file)
        (folder / "shop.py").write_text(APPLICATION)

    def run(self, *command: str) -> str:
        """The output of a program of the environment, which has to succeed."""
        done = subprocess.run(
            [self.bin / command[0], *command[1:]],
            cwd=self.folder,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE_S * 5,
            check=False,
        )
        if done.returncode:
            sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}")
        return done.stdout

    def serve(self) -> None:
        """Write a configuration, serve by it, steer the server, and stop it."""
        expect("shop:app", self.run("wsgicluster", "init"))
        expect("OK", self.run("wsgicluster", "--check-config"))
        log = self.folder / "log"
        with log.open("w") as file:
            server = subprocess.Popen(
                [self.bin / "wsgicluster", "-b", "127.0.0.1:0", "-w", "2"],
                cwd=self.folder,
                env=self.environ,
                stdout=file,
                stderr=file,
            )
        try:
            url = address(log)
            expect("wsgicluster", fetch(url))
            expect("shop:app", self.run("wsgiclusterctl", "list"))
            expect("generation 2", self.run("wsgiclusterctl", "reload", "--wait"))
            expect("wsgicluster", fetch(url))
            expect("2 of 2 workers", self.run("wsgicluster", "ctl", "health"))
            expect("stopped", self.run("wsgiclusterctl", "stop"))
            if server.wait(DEADLINE_S):
                sys.exit(f"exit code {server.returncode}\n{log.read_text()}")
        finally:
            server.kill()
            server.wait()


def expect(words: str, text: str) -> None:
    """End where an output lacks what it should have."""
    if words not in text:
        sys.exit(f"expected {words!r} in {text!r}")


def address(log: pathlib.Path) -> str:
    """The address in the log of a server that starts."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        found = re.search(r"Listening at: (http://127\.0\.0\.1:[1-9]\d*)", log.read_text())
        if found:
            return found[1]
        time.sleep(0.05)
    sys.exit(f"it does not serve:\n{log.read_text()}")


def fetch(url: str) -> str:
    """The body of a response."""
    with urllib.request.urlopen(url, timeout=DEADLINE_S) as response:
        text: str = response.read().decode()
    return text


def main() -> None:
    """Do all of it."""
    python, wheelhouse, file, core = sys.argv[1:]
    began = time.monotonic()
    raise_loopback()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        place = Place(folder, python, os.path.abspath(wheelhouse), os.path.abspath(file))
        wanted = "compiled" if core == "compiled" else "plain Python"
        expect(f"http core: {wanted}", place.run("wsgicluster", "--version", "--verbose"))
        pages = {path.name for path in (folder / "venv/share/man/man1").iterdir()}
        if pages != {"wsgicluster.1", "wsgicluster-migrate.1", "wsgiclusterctl.1"}:
            sys.exit(f"manual pages: {pages}")
        place.serve()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    what = "wheel" if file.endswith(".whl") else "sdist"
    print(f"Python {version}, {what}, no network, no compiler: {core}, used, {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
