"""What is checked and computed of the settings as a whole, when every single value is sound."""

import dataclasses
import os
import pwd
from collections.abc import Mapping
from typing import Any

from wsgicluster.settings.fields import Settings
from wsgicluster.settings.kinds import GROUP, MOST_WORKERS, USER
from wsgicluster.settings.proxy_kinds import ALL_TRUSTED
from wsgicluster.settings.rollout_kinds import ALL_WORKERS
from wsgicluster.settings.values import Automatic, FdAddress, MemoryShare, UnixAddress
from wsgicluster.settings.wording import complaint, quoted

DEFAULT = "default"
"""The source of what nobody has given."""

_LAST_STANDARD_STREAM = 2


@dataclasses.dataclass(frozen=True)
class Completed:
    """The settings with what follows from others of them; ``remarks`` are for the log."""

    settings: Settings
    sources: Mapping[str, str]
    remarks: tuple[str, ...] = ()


def complete(settings: Settings, sources: Mapping[str, str]) -> Completed:
    """Fill in what nobody has given, and settle what does not go together. Raises UsageError."""
    changes: dict[str, Any] = {}
    changed: dict[str, str] = {}
    remarks = []
    if settings.user != os.geteuid() and sources["group"] == DEFAULT:
        # To stay in the group of whoever started the server is never meant, and is root's where root did.
        changes["group"] = _primary_group(settings.user, sources["user"])
        changed["group"] = "the user's own group"
    if settings.initgroups and os.geteuid() == 0 and not _has_name(settings.user):
        raise complaint(
            sources["initgroups"], "initgroups", "true", f"a user with a name, which {settings.user} has not"
        )
    if settings.reload and settings.preload_app:
        changes["preload_app"] = False
        changed["preload_app"] = f"{sources['reload']} (reload)"
        remarks.append("preload_app: off, because reload has each worker load the application anew")
    if settings.reload and settings.smoke:
        changes["smoke"] = ()
        changed["smoke"] = f"{sources['reload']} (reload)"
        remarks.append("smoke: off, because with reload each worker shows its mistakes itself")
    if settings.worker_class == "sync" and settings.threads > 1:
        changes["worker_class"] = "gthread"
        changed["worker_class"] = f"{sources['threads']} (threads)"
    return Completed(dataclasses.replace(settings, **changes), {**sources, **changed}, tuple(remarks))


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _primary_group(uid: int, source: str) -> int:
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        # Containers run under any number.
        raise complaint(
            source, "group", "nothing", f"a group, because user {uid} is not known to this system and has none"
        ) from None


def check(settings: Settings, sources: Mapping[str, str], directory: str) -> None:
    """Look at what settings refer to; paths are relative to ``directory``. Raises UsageError."""
    if not settings.wsgi_app and (settings.doctor or not settings.print_config):
        raise complaint("command line", "wsgi_app", "nothing", "the application, such as module:application")
    _check_folder(settings.chdir, "chdir", sources, directory)
    inside = os.path.join(directory, settings.chdir)
    _check_folder(settings.worker_tmp_dir, "worker_tmp_dir", sources, inside)
    _check_folder(settings.tmp_upload_dir, "tmp_upload_dir", sources, inside)
    _check_addresses(settings, sources)
    if not isinstance(settings.workers, Automatic):
        _check_strength(settings, sources)
    _check_proxies(settings, sources)
    _check_uwsgi(settings, sources)
    _check_tls(settings, sources, inside)


def _check_strength(settings: Settings, sources: Mapping[str, str]) -> None:
    """Whether there are as many workers as reloads and the server's start count on."""
    workers, least = settings.workers, settings.min_ready
    if least > workers:
        raise complaint(
            sources["min_ready"], "min_ready", str(least),
            f"at most the number of workers, which is {workers}; lower it, or raise workers",
        )  # fmt: skip
    if settings.reload_surge.of(workers) == 0 and least in (ALL_WORKERS, workers):
        raise complaint(
            sources["reload_surge"], "reload_surge", str(settings.reload_surge),
            f"1 or more, or a min_ready below the number of workers, which is {workers}: none may be missing, and none "
            "may be too many, so that none could be replaced",
        )  # fmt: skip


def _check_proxies(settings: Settings, sources: Mapping[str, str]) -> None:
    if settings.forwarded_hops == ALL_TRUSTED and "*" in settings.forwarded_allow_ips:
        raise complaint(
            sources["forwarded_hops"], "forwarded_hops", "'auto'",
            "a number: with * in forwarded_allow_ips every address is a proxy's, and none a client's",
        )  # fmt: skip


def _check_uwsgi(settings: Settings, sources: Mapping[str, str]) -> None:
    if settings.protocol != "uwsgi":
        return
    if settings.has_tls:
        other = "certfile" if settings.certfile is not None else "ssl_context"
        reason = "gateways speak uwsgi in the clear"
    elif settings.proxy_protocol != "off":
        other, reason = "proxy_protocol", "gateways say in each request who the client is"
    else:
        return
    raise complaint(sources["protocol"], "protocol", "'uwsgi'", f"http together with {other}: {reason}")


def _check_tls(settings: Settings, sources: Mapping[str, str], directory: str) -> None:
    hook = settings.ssl_context is not None
    if settings.keyfile is not None and not settings.has_tls:
        raise complaint(sources["keyfile"], "keyfile", quoted(settings.keyfile), "a certfile as well")
    if settings.cert_reqs != "none" and settings.ca_certs is None and not hook:
        # The authorities of the web vouch for everybody's certificate.
        raise complaint(sources["cert_reqs"], "cert_reqs", quoted(settings.cert_reqs), "ca_certs as well")
    if settings.certfile is not None:
        # Not imported by a server without TLS, which is several megabytes smaller for it.
        from wsgicluster.settings.certificates import usual_context

        usual_context(settings, directory)


def _check_addresses(settings: Settings, sources: Mapping[str, str]) -> None:
    seen = set()
    for address in settings.bind:
        place = address.path if isinstance(address, UnixAddress) else str(address)
        if place in seen and not place.endswith(":0"):
            raise complaint(sources["bind"], "bind", quoted(str(address)), "each address once")
        seen.add(place)
        if settings.daemon and isinstance(address, FdAddress) and address.fd <= _LAST_STANDARD_STREAM:
            raise complaint(
                sources["bind"], "bind", quoted(str(address)), "a descriptor above 2: a daemon lets go of 0, 1 and 2"
            )
        for kind, name in ((USER, getattr(address, "user", None)), (GROUP, getattr(address, "group", None))):
            try:
                kind.read(name if name is not None else 0)
            except ValueError:
                raise complaint(sources["bind"], "bind", quoted(str(address)), kind.expected) from None


def _check_folder(path: str | None, name: str, sources: Mapping[str, str], directory: str) -> None:
    if path is not None and not os.path.isdir(os.path.join(directory, path)):
        raise complaint(sources[name], name, quoted(path), "a folder that exists")


def resolve(settings: Settings, processors: int, memory_bytes: int) -> Settings:
    """With plain numbers for what depends on the machine: its usable processors and memory.

    Raises UsageError when there turn out to be fewer workers than the settings count on.
    """
    workers = min(MOST_WORKERS, processors) if isinstance(settings.workers, Automatic) else settings.workers
    limit = settings.max_memory
    limit_bytes = limit.of(memory_bytes, workers) if isinstance(limit, MemoryShare) else limit
    resolved = dataclasses.replace(settings, workers=workers, max_memory=limit_bytes)
    if isinstance(settings.workers, Automatic):
        _check_strength(resolved, dict.fromkeys(("min_ready", "reload_surge"), "workers = auto"))
    return resolved
