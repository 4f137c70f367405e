"""Keys for TLS session tickets over the life of a server."""

import pathlib

from tests.arbiter.supervised import Hands
from wsgicluster.arbiter.ticket_keys import TicketKeys
from wsgicluster.settings import Settings
from wsgicluster.settings.tls_context import TICKET_KEYS_S


def test_kept_until_they_are_old(tmp_path: pathlib.Path) -> None:
    hands = Hands()
    keys = TicketKeys(str(tmp_path), hands)
    settings = Settings(certfile="server.pem")
    first = keys.for_workers(settings)
    assert first is not None
    hands.now += TICKET_KEYS_S / 2
    assert keys.for_workers(settings) is first
    hands.now += TICKET_KEYS_S / 2
    assert keys.for_workers(settings) not in (first, None)


def test_none_without_tls(tmp_path: pathlib.Path) -> None:
    keys = TicketKeys(str(tmp_path), Hands())
    assert keys.for_workers(Settings()) is None
    first = keys.for_workers(Settings(certfile="server.pem"))
    assert keys.for_workers(Settings()) is None
    assert keys.for_workers(Settings(certfile="server.pem")) is not first


def test_authorities_are_in_the_folder_of_the_application(tmp_path: pathlib.Path) -> None:
    (tmp_path / "inside").mkdir()
    authorities = tmp_path / "inside" / "ca.pem"
    authorities.write_text("one")
    keys = TicketKeys(str(tmp_path), Hands())
    settings = Settings(certfile="server.pem", ca_certs="ca.pem", chdir="inside")
    first = keys.for_workers(settings)
    assert keys.for_workers(settings) is first
    authorities.write_text("another")
    assert keys.for_workers(settings) is not first
