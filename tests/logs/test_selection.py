"""Requests that the access log omits."""

from typing import Any

import pytest

from wsgicluster.logs.access_log import AccessLog, compile_format
from wsgicluster.logs.selection import SelectedRequests


def logged(skipped: tuple[str, ...], portion: float, drawn: float, path: str, status: str) -> bool:
    lines: list[str] = []
    selected = SelectedRequests(AccessLog(compile_format("%(U)s"), lines.extend), skipped, portion, lambda: drawn)
    environ: dict[str, Any] = {"PATH_INFO": path}
    selected.record(environ, status, [], 0, 0.0, 0.0)
    selected.flush()
    return bool(lines)


@pytest.mark.parametrize(
    ("pattern", "path", "skipped"),
    [
        ("/healthz", "/healthz", True),
        ("/healthz", "/healthz/", False),
        ("/healthz", "/x/healthz", False),
        ("/static/*", "/static/a/b.css", True),
        ("/static/*", "/static", False),
        ("*.ico", "/a/favicon.ico", True),
        ("/a[1]", "/a[1]", True),
        ("/a[1]", "/a1", False),
        ("/a.b", "/aXb", False),
        ("/a", "/a\n/b", False),
    ],
)
def test_skipped_paths(pattern: str, path: str, skipped: bool) -> None:
    assert logged(("/other", pattern), 1.0, 0.0, path, "200 OK") is not skipped
    assert logged((pattern,), 1.0, 0.0, path, "500 Oops") is not skipped


@pytest.mark.parametrize(
    ("portion", "drawn", "status", "wanted"),
    [
        (0.1, 0.05, "200 OK", True),
        (0.1, 0.1, "200 OK", False),
        (0.1, 0.9, "302 Found", False),
        (0.1, 0.9, "404 Not Found", True),
        (0.0, 0.0, "200 OK", False),
        (0.0, 0.9, "500 Oops", True),
        (1.0, 0.9, "200 OK", True),
    ],
)
def test_samples(portion: float, drawn: float, status: str, wanted: bool) -> None:
    assert logged((), portion, drawn, "/", status) is wanted


def test_refused_requests_are_always_logged() -> None:
    lines: list[str] = []
    selected = SelectedRequests(AccessLog(compile_format("%(s)s"), lines.extend), ("*",), 0.0)
    selected.record_refused({"REQUEST_LINE": ""}, "400 Bad Request", 0, 0.0)
    selected.flush()
    assert lines == ["400"]
