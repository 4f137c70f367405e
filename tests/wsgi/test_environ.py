"""The environ's entries that do not come from the request, and the files around it."""

import io
import sys
from pathlib import Path

from tests.wsgi.test_error_stream import Written
from wsgicluster.wsgi.environ import connection_template, listener_template
from wsgicluster.wsgi.error_stream import ErrorStream
from wsgicluster.wsgi.files import FileWrapper, file_region


def test_templates_hold_addresses_as_strings() -> None:
    base = listener_template(("127.0.0.1", 8000), ErrorStream(Written()), {"wsgi.multithread": False})
    environ = connection_template(base, ("::1", 4711, 0, 0))
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("127.0.0.1", "8000")
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == ("::1", "4711")
    assert "REMOTE_ADDR" not in base
    assert environ["wsgi.version"] == (1, 0)
    assert environ["wsgi.input_terminated"] is True


def test_environs_do_not_grow_while_a_browsers_request_is_read() -> None:
    base = listener_template(("127.0.0.1", 8000), ErrorStream(Written()), {"wsgi.multithread": False})
    assert "" not in base
    environ = connection_template(base, ("127.0.0.1", 4711)).copy()
    size = sys.getsizeof(environ)
    environ.update({f"HTTP_X_{number}": "" for number in range(24)})
    assert sys.getsizeof(environ) == size


def test_a_unix_socket_has_a_name_and_a_port_too() -> None:
    environ = connection_template(listener_template("/run/app.sock", ErrorStream(Written()), {}), b"")
    assert environ["SERVER_NAME"]
    assert environ["SERVER_PORT"]
    assert environ["REMOTE_ADDR"] == ""


def test_file_region_starts_at_the_position(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with path.open("rb") as file:
        file.read(3)
        region = file_region(FileWrapper(file))
        assert region is not None
        assert region[1:] == (3, 7)


def test_what_is_not_a_real_file_is_iterated() -> None:
    wrapper = FileWrapper(io.BytesIO(b"x" * 20), 8)
    assert file_region(wrapper) is None
    assert list(wrapper) == [b"x" * 8, b"x" * 8, b"x" * 4]
    wrapper.close()
    with open("/dev/null", "rb") as device:
        assert file_region(FileWrapper(device)) is None
