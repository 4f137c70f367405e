"""How a server's processes are shown by the control socket."""

import datetime

import pytest

from wsgicluster.arbiter.supervision.observation import rfc3339


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_700_000_000.5, "2023-11-14T22:13:20.500Z"),
        (1_700_000_000.999_9, "2023-11-14T22:13:20.999Z"),
        (1_700_000_000.999_999_9, "2023-11-14T22:13:21.000Z"),
        (951_782_400.004_5, "2000-02-29T00:00:00.004Z"),
    ],
)
def test_moments(seconds: float, text: str) -> None:
    assert rfc3339(seconds) == text
    with_library = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).isoformat(timespec="milliseconds")
    assert with_library.replace("+00:00", "Z") == text
