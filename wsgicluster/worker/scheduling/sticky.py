"""Stickiness: which slot a client belongs to, by its address, a header field or a cookie. Pure.

Addresses and header fields are hashed over the *wanted* slots by rendezvous (highest random weight): each slot has a
score for the key, and the highest wins. When a slot comes or goes only its own share moves, about one in N; a slot
that is between two workers keeps its clients. A cookie names the slot itself, with a signature, so that a client can
neither choose a slot nor find out how many there are by trying.

Hashes are imported late: OpenSSL comes with them, for two milliseconds of each start. A server that needs them imports
them before it forks.
"""

from collections.abc import Collection
from typing import Any
from urllib.parse import quote

from wsgicluster.dataclass import dataclass

COOKIE = "wsgicluster"
"""The name of the cookie, unless the setting says another."""

KEY_BYTES = 32
_SIGNATURE_BYTES = 9
_SCORE_BYTES = 8


class Rendezvous:
    """Scores of slots for keys; ``salt`` is the server's own (up to 64 bytes), so that no client can aim at a slot."""

    def __init__(self, salt: bytes) -> None:
        self._salt = salt
        self._states: list[Any] = []

    def slot(self, key: bytes, slots: int, without: Collection[int] = ()) -> int:
        """The slot, from 1 to ``slots``, that ``key`` belongs to; the next choice where that is one of ``without``."""
        while len(self._states) < slots:
            import hashlib

            number = (len(self._states) + 1).to_bytes(4, "big")
            self._states.append(hashlib.blake2b(number, digest_size=_SCORE_BYTES, key=self._salt))
        best, best_score = 1, b""
        for index in range(slots):
            state = self._states[index].copy()
            state.update(key)
            score = state.digest()
            if score > best_score and index + 1 not in without:
                best, best_score = index + 1, score
        return best


@dataclass(frozen=True, slots=True)
class StickyCookie:
    """Signs slots for a cookie of this name and reads them back; ``key`` outlives reloads and upgrades."""

    name: str
    key: bytes

    def value(self, slot: int) -> str:
        """What the cookie says for a slot."""
        return f"{slot}.{self._signature(slot)}"

    def slot(self, cookies: str, slots: int) -> int | None:
        """The slot that a ``Cookie`` field (RFC 6265, section 4.2) names; None if none, or none of ours, or too high.

        Of several cookies of the name the first that is sound counts: a client may hold one for another path, too.
        """
        import hmac

        prefix = self.name + "="
        for pair in (each.strip(" \t") for each in cookies.split(";")):
            if not pair.startswith(prefix):
                continue
            number, _, signature = pair[len(prefix) :].strip('"').partition(".")
            if not (number.isascii() and number.isdigit() and len(number) <= len(str(slots))):
                continue
            slot = int(number)
            if 1 <= slot <= slots and hmac.compare_digest(signature.encode("latin-1"), self._signature(slot).encode()):
                return slot
        return None

    def _signature(self, slot: int) -> str:
        import hashlib

        message = f"{self.name}={slot}".encode()
        return hashlib.blake2b(message, digest_size=_SIGNATURE_BYTES, key=self.key, person=b"wsgicluster").hexdigest()

    def field(self, slot: int, path: str, secure: bool) -> tuple[str, str]:
        """The ``Set-Cookie`` field that binds a client to a slot, for as long as its browser runs.

        ``path`` is the ``SCRIPT_NAME`` of the application.
        """
        where = quote(path.encode("latin-1"), safe="/:@!$&'()*+,=~") or "/"
        parts = [f"{self.name}={self.value(slot)}", f"Path={where}", "HttpOnly", "SameSite=Lax"]
        if secure:
            parts.append("Secure")
        return "Set-Cookie", "; ".join(parts)


def cache_control(present: str | None) -> str | None:
    """``Cache-Control`` of a response that sets the cookie: a shared cache must not hand it to others.

    None says that the response's own field is strict enough (RFC 9111, section 5.2.2: ``private``, ``no-store``).
    """
    if present is None or not present.strip():
        return "private"
    directives = [part.strip() for part in present.split(",") if part.strip()]
    # "private" with a list of fields leaves the response itself to shared caches.
    if not {"private", "no-store"}.isdisjoint(map(str.lower, directives)):
        return None
    return ", ".join([*(each for each in directives if each.lower() != "public"), "private"])
