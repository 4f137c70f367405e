"""What TLS contexts are made of, and when a reload has to have other keys for session tickets."""

import pathlib
import ssl

import pytest

from wsgicluster.errors import UsageError
from wsgicluster.settings import Settings
from wsgicluster.settings.tls_context import TICKET_KEYS_S, base_for, server_context


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    for name in ("ca", "other"):
        (tmp_path / f"{name}.pem").write_text(name)
    return tmp_path


REQUIRED = Settings(certfile="a.pem", ca_certs="ca.pem", cert_reqs="required")


class TestBases:
    """`base_for` keeps the base that there is, unless one reason not to applies."""

    def test_kept(self, folder: pathlib.Path) -> None:
        first = base_for(REQUIRED, str(folder), None, 5.0)
        assert base_for(REQUIRED, str(folder), first, 5.0 + TICKET_KEYS_S - 1.0) is first
        renewed = Settings(certfile="b.pem", keyfile="b.key", ca_certs="ca.pem", cert_reqs="required", workers=9)
        assert base_for(renewed, str(folder), first, 6.0) is first

    def test_too_old(self, folder: pathlib.Path) -> None:
        first = base_for(REQUIRED, str(folder), None, 5.0)
        second = base_for(REQUIRED, str(folder), first, 5.0 + TICKET_KEYS_S)
        assert second is not first
        assert second.context is not first.context
        assert second.made_at == 5.0 + TICKET_KEYS_S
        assert base_for(REQUIRED, str(folder), second, TICKET_KEYS_S + 6.0) is second

    @pytest.mark.parametrize(
        "changed",
        [
            {"cert_reqs": "optional"},
            {"cert_reqs": "none"},
            {"ca_certs": "other.pem"},
            {"ca_certs": None},
            {"tls_minimum": "1.3"},
            {"ciphers": "HIGH"},
            {"ssl_context": print},
        ],
        ids=str,
    )
    def test_other_clients_wanted(self, folder: pathlib.Path, changed: dict[str, object]) -> None:
        first = base_for(REQUIRED, str(folder), None, 5.0)
        wanted = {"certfile": "a.pem", "ca_certs": "ca.pem", "cert_reqs": "required", **changed}
        assert base_for(Settings(**wanted), str(folder), first, 6.0) is not first  # type: ignore[arg-type]

    def test_other_authorities_in_the_file(self, folder: pathlib.Path) -> None:
        first = base_for(REQUIRED, str(folder), None, 5.0)
        (folder / "ca.pem").write_text("another one")
        assert base_for(REQUIRED, str(folder), first, 6.0) is not first
        (folder / "ca.pem").unlink()
        missing = base_for(REQUIRED, str(folder), first, 6.0)
        assert base_for(REQUIRED, str(folder), missing, 6.0) is not missing

    def test_a_function_may_want_anything(self, folder: pathlib.Path) -> None:
        settings = Settings(ssl_context=lambda config, factory: factory())
        first = base_for(settings, str(folder), None, 5.0)
        assert base_for(settings, str(folder), first, 6.0) is not first

    def test_a_new_one_has_no_setting(self, folder: pathlib.Path) -> None:
        made, new = base_for(REQUIRED, str(folder), None, 5.0).context, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        assert made.cert_store_stats() == new.cert_store_stats()
        assert (made.verify_mode, made.options) == (new.verify_mode, new.options)


class TestContexts:
    """`server_context` takes the base once."""

    def test_the_default_is_the_base(self) -> None:
        base = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        assert server_context(Settings(tls_minimum="1.3"), base) is base
        assert base.minimum_version is ssl.TLSVersion.TLSv1_3

    def test_the_first_of_a_function_is_the_base(self) -> None:
        made: list[ssl.SSLContext] = []

        def two(_config: object, factory: object) -> ssl.SSLContext:
            assert callable(factory)
            made.extend((factory(), factory()))
            return made[1]

        base = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        assert server_context(Settings(ssl_context=two), base) is made[1]
        assert made[0] is base
        assert made[1] is not base
        assert server_context(Settings(ssl_context=two)) is not base

    def test_a_class_that_has_been_replaced(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As gevent does: the properties of the former class look it up by name."""

        class Replacement(ssl.SSLContext):
            pass

        base = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        monkeypatch.setattr(ssl, "SSLContext", Replacement)
        assert server_context(Settings(), base) is base
        assert ssl.SSLContext is Replacement
        made = server_context(Settings(ssl_context=lambda config, factory: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)))
        assert type(made) is not Replacement
        with pytest.raises(UsageError, match=r"returned 1; expected an ssl\.SSLContext"):
            server_context(Settings(ssl_context=lambda config, factory: 1), base)
        assert ssl.SSLContext is Replacement
