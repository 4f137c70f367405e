"""What the tests of several kinds of workers share."""

from collections.abc import Iterator

import pytest

from tests.worker.kinds.gated import Gate


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Opened at the end, so that no thread stays behind."""
    found = Gate()
    yield found
    found.open.set()
