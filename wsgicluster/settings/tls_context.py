"""The TLS context that the settings describe; errors in its files are reported in one line.

It is made once to check the settings, when the server starts and at each reload, and then by each worker for itself:
of a `ContextBase`, which its siblings have, too. Which process makes what is not known here.
"""

import contextlib
import hashlib
import os
import ssl
from collections.abc import Iterator
from typing import NoReturn

from wsgicluster.dataclass import dataclass
from wsgicluster.errors import UsageError
from wsgicluster.settings.fields import Settings
from wsgicluster.settings.wording import complaint, quoted

_CONTEXT_CLASS = ssl.SSLContext
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_VERIFY = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


TICKET_KEYS_S = 12 * 3600.0
"""A reload makes new keys for session tickets when the present ones are older than this, so that one every night does.

A ticket of TLS 1.2 holds the key of its session, so that the keys of tickets decrypt what was recorded while they were
in use. RFC 9325, section 3.4, demands new ones once a week.
"""


@dataclass(frozen=True, slots=True)
class ContextBase:
    """What contexts of several processes are made of, so that each accepts the session tickets of the others.

    ``context`` is as OpenSSL makes it: with random keys for tickets, which Python neither shows nor sets, and no
    setting. Each process gets its own copy with its fork, and alone changes that. ``scope`` says for which settings
    sessions may be resumed, None for these alone; ``made_at`` is in seconds of the clock that `base_for` was given.
    """

    context: ssl.SSLContext
    scope: bytes | None
    made_at: float


def base_for(settings: Settings, directory: str, present: ContextBase | None, now: float) -> ContextBase:
    """The base of contexts with these settings: ``present``, unless its sessions must not be resumed with them.

    A session that is resumed is one with the certificate and the cipher it began with: OpenSSL verifies neither again,
    even where clients now have to send a certificate. So what is wanted of clients decides; the server's own
    certificate does not.
    """
    scope = _scope(settings, directory)
    if present is not None and scope is not None and scope == present.scope and now < present.made_at + TICKET_KEYS_S:
        return present
    return ContextBase(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), scope, now)


def _scope(settings: Settings, directory: str) -> bytes | None:
    if settings.ssl_context is not None:
        return None  # what the function demands of clients is not known
    digest = hashlib.sha256()
    digest.update(repr((settings.cert_reqs, settings.tls_minimum, settings.ciphers)).encode())
    if settings.ca_certs:
        path = _path(directory, settings.ca_certs)
        try:
            with open(path, "rb") as file:
                digest.update(file.read())
        except OSError:
            return None  # taken away since it was checked: workers will say so
    return digest.digest()


def server_context(settings: Settings, base: ssl.SSLContext | None = None) -> ssl.SSLContext:
    """The context of a worker: the default one, or what ``ssl_context`` returns. Raises UsageError.

    ``base`` is that of a `ContextBase`, to be changed here and used for nothing else in this process. Paths are
    relative to the current folder.
    """
    hook = settings.ssl_context
    if hook is None:
        with _as_imported():
            return default_context(settings, base=base)
    bases = [] if base is None else [base]

    def factory() -> ssl.SSLContext:
        # A second one is another context, as for a second name: OpenSSL encrypts its tickets with the first one's keys.
        return default_context(settings, base=bases.pop() if bases else None)

    try:
        with _as_imported():
            context = hook(settings, factory)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"ssl_context: the function raised {type(error).__name__}: {error}") from error
    if not isinstance(context, _CONTEXT_CLASS):
        raise UsageError(f"ssl_context: the function returned {quoted(context)}; expected an ssl.SSLContext")
    return context


@contextlib.contextmanager
def _as_imported() -> Iterator[None]:
    """Have the class of contexts that was there when the arbiter imported this.

    gevent puts another one in its place, whose callbacks work with sockets alone; then the properties of the former,
    which look it up by name, call themselves without end.
    """
    names = vars(ssl)
    present, names["SSLContext"] = names["SSLContext"], _CONTEXT_CLASS
    try:
        yield
    finally:
        names["SSLContext"] = present


def default_context(settings: Settings, directory: str = "", base: ssl.SSLContext | None = None) -> ssl.SSLContext:
    """A context with the certificate, the authorities and the limits of the settings. Raises UsageError.

    It is ``base``, to which nothing has been set yet, or a new one.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if base is None else base
    context.minimum_version = VERSIONS[settings.tls_minimum]
    # Renegotiation costs the server far more than the client (RFC 5746; TLS 1.3 has none).
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    if settings.ciphers:
        try:
            context.set_ciphers(settings.ciphers)
        except ssl.SSLError:
            _refuse("ciphers", settings.ciphers, "ciphers that OpenSSL knows (see: openssl ciphers)")
    if settings.ca_certs:
        path = _readable("ca_certs", _path(directory, settings.ca_certs))
        try:
            context.load_verify_locations(path)
        except ssl.SSLError:
            _refuse("ca_certs", path, "a file of certificates in PEM form")
    context.verify_mode = _VERIFY[settings.cert_reqs]
    if settings.certfile:
        _load_chain(context, settings, directory)
    return context


def _load_chain(context: ssl.SSLContext, settings: Settings, directory: str) -> None:
    certificate = _readable("certfile", _path(directory, settings.certfile or ""))
    key = _readable("keyfile", _path(directory, settings.keyfile)) if settings.keyfile else None
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
    """The key is encrypted: OpenSSL asks for a password, which a worker cannot enter."""


def _no_password() -> NoReturn:
    raise _EncryptedKey


def _holds(path: str, what: str) -> bool:
    with open(path, encoding="latin-1") as file:
        return f"{what}-----" in file.read()


def _path(directory: str, path: str) -> str:
    return os.path.normpath(os.path.join(directory, path))


def _readable(name: str, path: str) -> str:
    try:
        with open(path, "rb"):
            return path
    except OSError as error:
        _refuse(name, path, f"a file that can be read ({error.strerror})")


def _refuse(name: str, given: str, expected: str) -> NoReturn:
    raise complaint("TLS", name, quoted(given), expected)
