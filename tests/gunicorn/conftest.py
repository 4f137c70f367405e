"""The real Gunicorn for tests that compare with it."""

import pytest

from tests.gunicorn.real_gunicorn import ABSENT, RealGunicorn, find


@pytest.fixture(scope="session")
def real_gunicorn() -> RealGunicorn:
    """The Gunicorn that is installed; a test that asks for it is skipped where there is none."""
    found = find()
    if found is None:
        pytest.skip(ABSENT)
    return found
