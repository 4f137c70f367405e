"""Sources of small applications that tests write to a folder and replace while a server runs."""

GOOD = '''\
"""Returns its version and process."""
import os
import time

VERSION = "@VERSION@"
time.sleep(@BOOT_S@)


def application(environ, start_response):
    name, _, argument = environ["PATH_INFO"].lstrip("/").partition("/")
    if name == "slow":
        time.sleep(float(argument))
    environ["wsgi.input"].read()
    body = f"{VERSION} {os.getpid()}".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
'''

RAISES = """\
def connect():
    raise RuntimeError("no database today")

connect()
"""

SYNTAX = "def application(environ, start_response:\n    return []\n"

DIES = """
import threading

threading.Timer(0.05, os._exit, (9,)).start()
"""
"""Appended to a good source: the worker ends soon after its boot, whatever it does."""


def good(version: str = "1", boot_s: float = 0.0) -> str:
    """An application that boots in ``boot_s`` and returns ``VERSION PID``."""
    return GOOD.replace("@VERSION@", version).replace("@BOOT_S@", str(boot_s))
