"""The environ's variables about the TLS of its connection, named as in Apache's mod_ssl, which applications read."""

import ssl
from collections.abc import Iterable
from typing import cast

_SHORT_NAMES = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "emailAddress": "emailAddress",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "streetAddress": "STREET",
    "userId": "UID",
}
"""OpenSSL's names of attributes to those of a distinguished name (RFC 4514, section 3)."""

_SPECIAL = '"+,;<>\\'

Name = Iterable[Iterable[tuple[str, str]]]


def tls_variables(tls: ssl.SSLObject) -> dict[str, str]:
    """The variables of a connection whose handshake is complete.

    ``SSL_CLIENT_VERIFY`` is set whenever a certificate is requested; the client's other variables only when it
    has sent one, which has then been verified.
    """
    variables = {"wsgi.url_scheme": "https", "HTTPS": "on", "SSL_PROTOCOL": tls.version() or ""}
    cipher = tls.cipher()
    if cipher is not None:
        variables["SSL_CIPHER"], _, bits = cipher
        variables["SSL_CIPHER_USEKEYSIZE"] = str(bits)
    if tls.context.verify_mode is ssl.CERT_NONE:
        return variables
    encoded = tls.getpeercert(binary_form=True)
    if not encoded:
        variables["SSL_CLIENT_VERIFY"] = "NONE"
        return variables
    variables["SSL_CLIENT_VERIFY"] = "SUCCESS"
    variables["SSL_CLIENT_CERT"] = ssl.DER_cert_to_PEM_cert(encoded)
    said = tls.getpeercert() or {}
    for key, field in (("SSL_CLIENT_S_DN", "subject"), ("SSL_CLIENT_I_DN", "issuer")):
        name = cast(Name, said.get(field))
        if name:
            variables[key] = distinguished_name(name)
            variables.update((f"{key}_{short}", value) for short, value in _single_values(name))
    for key, field in (
        ("SSL_CLIENT_M_SERIAL", "serialNumber"),
        ("SSL_CLIENT_V_START", "notBefore"),
        ("SSL_CLIENT_V_END", "notAfter"),
    ):
        value = said.get(field)
        if isinstance(value, str):
            variables[key] = value
    # The name in nginx.
    variables["SSL_CLIENT_SERIAL"] = variables.get("SSL_CLIENT_M_SERIAL", "")
    return {key: _as_native(value) for key, value in variables.items()}


def distinguished_name(name: Name) -> str:
    """A name of `ssl.SSLObject.getpeercert` as text (RFC 4514, section 2): the last part first."""
    parts = [
        "+".join(f"{_SHORT_NAMES.get(kind, kind)}={_escaped(value)}" for kind, value in part) for part in name
    ]  # fmt: skip
    return ",".join(reversed(parts))


def _escaped(value: str) -> str:
    # RFC 4514, section 2.4.
    text = "".join(f"\\{character}" if character in _SPECIAL else character for character in value)
    text = text.replace("\0", "\\00")
    if text.startswith(("#", " ")):
        text = "\\" + text
    if text.endswith(" ") and len(value) > 1:
        text = text[:-1] + "\\ "
    return text


def _single_values(name: Name) -> Iterable[tuple[str, str]]:
    # Of several of one type the first has no number, as in mod_ssl.
    seen: set[str] = set()
    for part in name:
        for kind, value in part:
            short = _SHORT_NAMES.get(kind)
            if short is not None and short not in seen:
                seen.add(short)
                yield ("Email" if short == "emailAddress" else short), value


def _as_native(text: str) -> str:
    # PEP 3333: texts in an environ hold bytes, as latin-1 characters.
    return text.encode("utf-8", "surrogateescape").decode("latin-1")
