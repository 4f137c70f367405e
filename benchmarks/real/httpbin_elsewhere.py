"""A plugin for the tests of requests: their httpbin is the server that is named in the environment."""

import os

import pytest


class _Place:
    def __init__(self, url: str) -> None:
        self.url = url

    def __add__(self, path: str) -> str:
        return self.url + path


@pytest.fixture(name="httpbin")
def _httpbin() -> _Place:
    return _Place(os.environ["HTTPBIN_URL"])


@pytest.fixture(name="httpbin_both", params=["HTTPBIN_URL", "HTTPBIN_SECURE_URL"])
def _httpbin_both(request: pytest.FixtureRequest) -> _Place:
    return _Place(os.environ[request.param])


@pytest.fixture(name="httpbin_secure")
def _httpbin_secure() -> _Place:
    return _Place(os.environ["HTTPBIN_SECURE_URL"])


@pytest.fixture
def httpbin_ca_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificate of the server that speaks TLS is that of pytest-httpbin."""
    from pytest_httpbin import certs

    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certs.where())
