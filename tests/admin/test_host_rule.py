"""Which names of the server are its own."""

import json

import pytest

from wsgicluster.admin.exchange import AdminRequest, AdminResponse, json_response
from wsgicluster.admin.host_rule import HostRule

RULE = HostRule(["shop.internal", "Bound"])


@pytest.mark.parametrize(
    "field",
    [
        "", "127.0.0.1", "127.0.0.1:9100", "10.1.2.3:9100", "[::1]", "[::1]:9100", "[fe80::1%25eth0]:9100", "localhost",
        "LOCALHOST:9100", "localhost.", "a.localhost:1", "shop.internal", "Shop.Internal.:9100", "bound:9100",
    ],
)  # fmt: skip
def test_allowed(field: str) -> None:
    assert RULE.allows(field)


@pytest.mark.parametrize(
    "field",
    [
        "evil.example", "evil.example:9100", "127.0.0.1.evil.example", "localhost.evil.example", "notlocalhost",
        "shop.internal.evil.example", "2130706433", "0x7f.1", "127.1", "[evil.example]", "a@127.0.0.1",
    ],
)  # fmt: skip
def test_refused(field: str) -> None:
    assert not RULE.allows(field)


def respond(request: AdminRequest) -> AdminResponse:
    return json_response(200, request.path)


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_the_remedy_is_named(method: str) -> None:
    guarded = RULE.guard(respond)
    assert guarded(AdminRequest(method, "/x", {"HTTP_HOST": "127.0.0.1"})).status == 200
    found = guarded(AdminRequest(method, "/x", {"HTTP_HOST": "evil.example:9100"}))
    assert found.status == 421
    assert "--admin-host evil.example" in json.loads(found.body)["error"]
