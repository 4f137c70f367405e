"""Python without a global lock, where the tests run on one."""

import sysconfig

import pytest

from tests.conftest import StartServer
from tests.live.client import fetch

pytestmark = pytest.mark.live

SOURCE = """
import sys

def application(environ, start_response):
    body = str(sys._is_gil_enabled()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python has a global lock")
def test_nothing_of_ours_brings_the_lock_back(server: StartServer) -> None:
    live = server("app", "-k", "gthread", "--threads", "4", source=SOURCE)
    assert fetch(live.port).body == b"False"
    assert "RuntimeWarning" not in live.log()
