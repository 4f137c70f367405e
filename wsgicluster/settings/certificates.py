"""The TLS context that the settings describe, and what is wrong with its files in one line.

It is made once to check the settings, when the server starts and at each reload, and then by each worker for itself.
"""

import os
import ssl
from typing import NoReturn

from wsgicluster.errors import UsageError
from wsgicluster.settings.fields import Settings
from wsgicluster.settings.wording import complaint, quoted

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_VERIFY = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


def server_context(settings: Settings) -> ssl.SSLContext:
    """The context of a worker; what the configuration file's ``ssl_context`` makes of the usual one. Raises UsageError.

    Paths are relative to the current folder.
    """
    hook = settings.ssl_context
    if hook is None:
        return usual_context(settings)
    try:
        context = hook(settings, lambda: usual_context(settings))
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"ssl_context: the function raised {type(error).__name__}: {error}") from error
    if not isinstance(context, ssl.SSLContext):
        raise UsageError(f"ssl_context: the function returned {quoted(context)}; expected an ssl.SSLContext")
    return context


def usual_context(settings: Settings, directory: str = "") -> ssl.SSLContext:
    """A context with the certificate, the authorities and the limits of the settings. Raises UsageError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = VERSIONS[settings.tls_minimum]
    # A client that starts over and over makes us compute far more than itself (RFC 5746; TLS 1.3 has none of it).
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    if settings.ciphers:
        try:
            context.set_ciphers(settings.ciphers)
        except ssl.SSLError:
            _refuse("ciphers", settings.ciphers, "ciphers that OpenSSL knows (see: openssl ciphers)")
    if settings.ca_certs:
        path = _readable("ca_certs", os.path.join(directory, settings.ca_certs))
        try:
            context.load_verify_locations(path)
        except ssl.SSLError:
            _refuse("ca_certs", path, "a file of certificates in PEM form")
    context.verify_mode = _VERIFY[settings.cert_reqs]
    if settings.certfile:
        _load_chain(context, settings, directory)
    return context


def _load_chain(context: ssl.SSLContext, settings: Settings, directory: str) -> None:
    certificate = _readable("certfile", os.path.join(directory, settings.certfile or ""))
    key = _readable("keyfile", os.path.join(directory, settings.keyfile)) if settings.keyfile else None
    try:
        context.load_cert_chain(certificate, key, _no_password)
    except _EncryptedKey:
        _refuse("keyfile", key or certificate, "a key without a password (see: openssl pkey), or an ssl_context")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            _refuse("keyfile", key or certificate, f"the key of the certificate in {certificate}")
        if error.reason in ("EE_KEY_TOO_SMALL", "CA_MD_TOO_WEAK", "CA_KEY_TOO_SMALL"):
            _refuse("certfile", certificate, "a certificate with a longer key or a better signature")
        if not _holds(certificate, "CERTIFICATE"):
            _refuse("certfile", certificate, "a certificate in PEM form")
        if not _holds(key or certificate, "PRIVATE KEY"):
            _refuse("keyfile", key or certificate, "a file with the certificate's key in PEM form")
        _refuse("certfile", certificate, f"a certificate and its key in PEM form (OpenSSL says: {error.reason})")


class _EncryptedKey(Exception):
    """OpenSSL asks for a password; nobody is there to type it when a worker starts at night."""


def _no_password() -> NoReturn:
    raise _EncryptedKey


def _holds(path: str, what: str) -> bool:
    with open(path, encoding="latin-1") as file:
        return f"{what}-----" in file.read()


def _readable(name: str, path: str) -> str:
    try:
        with open(path, "rb"):
            return path
    except OSError as error:
        _refuse(name, path, f"a file that can be read ({error.strerror})")


def _refuse(name: str, given: str, expected: str) -> NoReturn:
    raise complaint("TLS", name, quoted(given), expected)
