"""Certificates for tests: an authority, and the certificates it signs, made by the openssl command."""

import dataclasses
import pathlib
import shutil
import ssl
import subprocess
from collections.abc import Sequence

import pytest


@dataclasses.dataclass(frozen=True)
class Certificates:
    """A folder with ``ca.pem``, and for each name ``NAME.pem`` and ``NAME.key``."""

    folder: pathlib.Path

    def path(self, name: str) -> str:
        """The path of one of the files."""
        return str(self.folder / name)

    def flags(self, name: str = "server") -> tuple[str, ...]:
        """The server's flags for a certificate."""
        return ("--certfile", self.path(f"{name}.pem"), "--keyfile", self.path(f"{name}.key"))

    def install(self, folder: pathlib.Path, name: str) -> None:
        """Put a certificate and its key where a server looks: ``tls.pem`` and ``tls.key`` in this folder."""
        for kind in ("key", "pem"):
            shutil.copy(self.path(f"{name}.{kind}"), folder / f"tls.{kind}")

    def client(self, name: str = "", version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        """The context of a client that trusts the authority, and shows the certificate of that name if there is one."""
        context = ssl.create_default_context(cafile=self.path("ca.pem"))
        context.set_alpn_protocols(["h2", "http/1.1"])
        if name:
            context.load_cert_chain(self.path(f"{name}.pem"), self.path(f"{name}.key"))
        if version is not None:
            context.minimum_version = context.maximum_version = version
        return context


def make_certificates(folder: pathlib.Path, algorithm: str = "EC") -> Certificates:
    """An authority, ``server`` and ``other`` for localhost, ``second`` for second.test, ``person`` for a client.

    ``algorithm`` is that of the keys of all, EC (P-256) or RSA (2048 bits).
    """
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command")
    folder.mkdir(exist_ok=True)
    _key(folder, "ca", algorithm)
    # Python 3.13 verifies as strictly as RFC 5280 says: the uses of keys, and identifiers of them, must be there.
    uses = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    subject = ("-days", "30", "-subj", "/CN=Test CA")
    _run(folder, "req", "-x509", "-new", "-key", "ca.key", "-out", "ca.pem", *subject, *uses)
    for name in ("server", "other"):
        _certify(folder, name, algorithm, f"/CN={name}", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    _certify(folder, "second", algorithm, "/CN=second", "subjectAltName=DNS:second.test")
    _certify(folder, "person", algorithm, "/O=Some, Inc./CN=A Person", "extendedKeyUsage=clientAuth")
    return Certificates(folder)


def _key(folder: pathlib.Path, name: str, algorithm: str) -> None:
    size = {"EC": "ec_paramgen_curve:P-256", "RSA": "rsa_keygen_bits:2048"}[algorithm]
    _run(folder, "genpkey", "-algorithm", algorithm, "-pkeyopt", size, "-out", f"{name}.key")


def _certify(folder: pathlib.Path, name: str, algorithm: str, subject: str, extension: str) -> None:
    _key(folder, name, algorithm)
    identifiers = "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid"
    (folder / "extensions").write_text(f"{extension}\n{identifiers}\n", "ascii")
    _run(folder, "req", "-new", "-key", f"{name}.key", "-out", f"{name}.csr", "-subj", subject)
    signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30", "-extfile", "extensions")
    _run(folder, "x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signing)


def _run(folder: pathlib.Path, *arguments: str | Sequence[str]) -> None:
    subprocess.run(["openssl", *map(str, arguments)], cwd=folder, check=True, capture_output=True, timeout=20)
