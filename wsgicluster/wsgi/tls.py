"""What an environ says of the TLS of its connection, in the words of Apache's mod_ssl, which applications know."""

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
"""Names as OpenSSL spells them -> as a distinguished name has them (RFC 4514, section 3)."""

_SPECIAL = '"+,;<>\\'

Name = Iterable[Iterable[tuple[str, str]]]


def tls_variables(tls: ssl.SSLObject) -> dict[str, str]:
    """The variables of a connection whose handshake is over.

    ``SSL_CLIENT_VERIFY`` is there whenever a certificate is asked for; the other fields of the client only when it
    has shown one, which has then been verified.
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
    # nginx's users look for this one.
    variables["SSL_CLIENT_SERIAL"] = variables.get("SSL_CLIENT_M_SERIAL", "")
    return {key: _as_native(value) for key, value in variables.items()}


def distinguished_name(name: Name) -> str:
    """A name as `ssl.SSLObject.getpeercert` has it, as text (RFC 4514, section 2): the last part first."""
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
    # Of several of one kind the first is the one without a number, as in mod_ssl.
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
