"""Checks of settings against each other and the system, and values computed from others, once each value is valid."""

import dataclasses
import importlib.util
import os
import pwd
from collections.abc import Callable, Mapping
from typing import Any

from wsgicluster.counting import count_of
from wsgicluster.dataclass import dataclass
from wsgicluster.errors import UsageError
from wsgicluster.settings.fields import Settings
from wsgicluster.settings.span_exporters import lacking
from wsgicluster.settings.types.admin import TOKEN_EXPECTED, is_token
from wsgicluster.settings.types.general import GROUP, MASK, MOST_WORKERS, SIZE, USER
from wsgicluster.settings.types.proxy import ALL_TRUSTED
from wsgicluster.settings.types.rollout import ALL_WORKERS
from wsgicluster.settings.types.scheduling import STICKY_POLICY, WEIGHTS
from wsgicluster.settings.types.values import Address, Automatic, FdAddress, MemoryShare, UnixAddress
from wsgicluster.settings.types.worker import kind_row
from wsgicluster.settings.wording import complaint, quoted, raise_all

DEFAULT = "default"
"""The source of a value that no other source has set."""

NEEDED_POLICY = {"weights": "weighted", "sticky": "sticky"}
"""Settings that one policy alone uses, and that choose it where no other has been chosen."""

CHILDREN_COUNTED = {
    "python:airflow.www.gunicorn_config": "Airflow 2",
    "python:airflow.api_internal.gunicorn_config": "Airflow 2",
}
"""Configurations of programs that start a server and take all its children for workers, and whose they are."""

_LAST_STANDARD_STREAM = 2
_TOKEN_FILE_CHARACTERS = 4096


@dataclass(frozen=True)
class Completed:
    """The settings with values that follow from others; ``remarks`` are for the log."""

    settings: Settings
    sources: Mapping[str, str]
    remarks: tuple[str, ...] = ()


def complete(settings: Settings, sources: Mapping[str, str]) -> Completed:
    """Set values that follow from others, and turn off what others exclude. Raises UsageError."""
    changes: dict[str, Any] = {}
    changed: dict[str, str] = {}
    remarks = []
    if settings.user != os.geteuid() and sources["group"] == DEFAULT:
        # Keeping the group of the user who starts the server is never intended; for root it would be root's.
        changes["group"] = _primary_group(settings.user, sources["user"])
        changed["group"] = "the user's own group"
    if settings.initgroups and os.geteuid() == 0 and not _has_name(settings.user):
        raise complaint(
            sources["initgroups"],
            "initgroups",
            "true",
            f"a user with a name; user {settings.user} has none on this system",
        )
    if settings.bus is not None and importlib.util.find_spec("redis") is None:
        raise UsageError("bus: needs the package redis; pip install 'wsgicluster[redis]'")
    for name in ("admin", "app_metrics"):
        if getattr(settings, name) and importlib.util.find_spec("prometheus_client") is None:
            raise UsageError(f"{name}: needs the package prometheus-client; pip install 'wsgicluster[admin]'")
    if settings.proc_name is None and settings.default_proc_name is not None:
        changes["proc_name"] = settings.default_proc_name
        changed["proc_name"] = f"{sources['default_proc_name']} (default_proc_name)"
    because, why = _no_preload(settings)
    if because:
        changes["preload_app"] = False
        changed["preload_app"] = f"{sources[because]} ({because})"
        remarks.append(f"preload_app: turned off, because {why}")
        if settings.refork_after:
            changes["refork_after"] = 0
            changed["refork_after"] = f"{sources[because]} ({because})"
    if settings.reload and settings.smoke:
        changes["smoke"] = ()
        changed["smoke"] = f"{sources['reload']} (reload)"
        remarks.append("smoke: turned off, because with reload each worker reports its errors itself")
    if settings.threads > 1 and (wanted := kind_row(settings.worker_class).with_threads):
        changes["worker_class"] = wanted
        changed["worker_class"] = f"{sources['threads']} (threads)"
    policy, reason = policy_of(settings, sources)
    if reason:
        changes["scheduling"] = policy
        changed["scheduling"] = f"{sources[reason]} ({reason})"
    remarks += scheduling_remarks(settings, policy)
    return Completed(dataclasses.replace(settings, **changes), {**sources, **changed}, tuple(remarks))


def _no_preload(settings: Settings) -> tuple[str, str]:
    """The setting with which ``preload_app`` cannot be on, and why; empty where it can, or is off."""
    if not settings.preload_app:
        return "", ""
    if settings.reload:
        return "reload", "with reload each worker loads the application itself"
    if settings.config in CHILDREN_COUNTED:
        program = CHILDREN_COUNTED[settings.config]
        return "config", f"{program} takes each child of the server for a worker, and with preload_app one forks these"
    return "", ""


def scheduling_remarks(settings: Settings, policy: str) -> list[str]:
    """What clients are known by in place of what was asked for."""
    remarks = []
    if settings.sticky.form != "address" and settings.has_tls:
        remarks.append(
            f"sticky: by address in place of {settings.sticky.form}, because a connection cannot move to another "
            "worker once it is encrypted"
        )
    if policy == STICKY_POLICY and _has_no_address(settings):
        remarks.append(
            "sticky: round-robin for clients of a Unix socket, because these have no address (see forwarded_hops and "
            "proxy_protocol for the addresses that a proxy says)"
        )
    return remarks


def _has_no_address(settings: Settings) -> bool:
    """Whether clients are to be known by an address that some of them do not have."""
    if settings.sticky.form != "address" and not settings.has_tls:
        return False
    said = settings.proxy_protocol != "off" or settings.forwarded_hops or settings.protocol == "uwsgi"
    return not said and any(isinstance(address, UnixAddress) for address in settings.bind)


def policy_of(settings: Settings, sources: Mapping[str, str]) -> tuple[str, str]:
    """The scheduling policy, and the name of the setting that has chosen it where ``scheduling`` has not."""
    if sources["scheduling"] == DEFAULT:
        for name, policy in NEEDED_POLICY.items():
            if sources[name] != DEFAULT:
                return policy, name
    return settings.scheduling, ""


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
            source, "group", "not set", f"a group: user {uid} is not known to this system and has none of its own"
        ) from None


def check(settings: Settings, sources: Mapping[str, str], directory: str) -> None:
    """Check settings against each other and the files they name; paths are relative to ``directory``.

    Raises UsageError, with one line for each check that finds something.
    """
    inside = os.path.join(directory, settings.chdir)
    steps: tuple[Callable[[], None], ...] = (
        lambda: _check_presence(settings),
        lambda: _check_folder(settings.chdir, "chdir", sources, directory),
        lambda: _check_folder(settings.worker_tmp_dir, "worker_tmp_dir", sources, inside),
        lambda: _check_folder(settings.tmp_upload_dir, "tmp_upload_dir", sources, inside),
        lambda: _check_addresses(settings, sources),
        lambda: None if isinstance(settings.workers, Automatic) else _check_strength(settings, sources),
        lambda: None if isinstance(settings.workers, Automatic) else check_scheduling(settings, sources),
        lambda: _check_refork(settings, sources),
        lambda: _check_responses(settings, sources),
        lambda: _check_proxies(settings, sources),
        lambda: _check_raw_socket(settings, sources),
        lambda: _check_protocol(settings, sources, inside),
        lambda: _check_admin(settings, sources, inside),
        lambda: _check_probe_paths(settings, sources),
        lambda: _check_spans(settings, sources),
    )
    complaints = []
    for step in steps:
        try:
            step()
        except UsageError as error:
            complaints.append(error)
    raise_all(complaints)


def _check_presence(settings: Settings) -> None:
    if not settings.wsgi_app and (settings.doctor or not settings.print_config):
        raise complaint(
            "command line",
            "APPLICATION",
            "not given",
            "the application, such as module:application, here or as wsgi_app (wsgicluster init finds it)",
        )


def _check_protocol(settings: Settings, sources: Mapping[str, str], directory: str) -> None:
    _check_uwsgi(settings, sources)
    _check_tls(settings, sources, directory)


def _check_strength(settings: Settings, sources: Mapping[str, str]) -> None:
    """Whether there are enough workers for min_ready, and whether a reload can replace one."""
    workers, least = int(settings.workers), settings.min_ready
    if least > workers:
        raise complaint(
            sources["min_ready"], "min_ready", str(least),
            f"at most the number of workers, which is {workers}; lower it, or raise workers",
        )  # fmt: skip
    if settings.reload_surge.of(workers) == 0 and least in (ALL_WORKERS, workers):
        raise complaint(
            sources["reload_surge"], "reload_surge", str(settings.reload_surge),
            f"1 or more, or a min_ready below the number of workers, which is {workers}: otherwise a reload may "
            "neither start an extra worker nor stop an old one",
        )  # fmt: skip


def check_scheduling(settings: Settings, sources: Mapping[str, str]) -> None:
    """Whether the policy has what it needs, and nothing is given that it does not use."""
    policy, weights = policy_of(settings, sources)[0], settings.weights
    if policy == "weighted" and len(weights) != settings.workers_most:
        raise complaint(
            sources["weights"] if weights else sources["scheduling"], "weights", WEIGHTS.show(weights),
            f"one for each of {count_of(settings.workers_most, 'worker')}",
        )  # fmt: skip
    for name, wanted in NEEDED_POLICY.items():
        if sources[name] != DEFAULT and policy != wanted:
            given = settings.sticky if name == "sticky" else WEIGHTS.show(weights)
            raise complaint(sources[name], name, str(given), f"scheduling = {wanted} with it, not {policy}")


def _check_refork(settings: Settings, sources: Mapping[str, str]) -> None:
    """Whether there is a mold that a worker could take the place of, and workers of which one may."""
    if settings.refork_after and not settings.preload_app:
        raise complaint(sources["refork_after"], "refork_after", str(settings.refork_after), "preload_app as well")
    if settings.refork_after and kind_row(settings.worker_class).cooperative:
        raise complaint(
            sources["refork_after"], "refork_after", str(settings.refork_after),
            f"0 with {settings.worker_class} workers, or sync or gthread: greenlets that wait for something, and the "
            "event loop that would wake them, cannot be forked",
        )  # fmt: skip


def _check_responses(settings: Settings, sources: Mapping[str, str]) -> None:
    """Whether the disk stores more of a response than memory does."""
    if 0 < settings.response_spool < settings.response_buffer:
        raise complaint(
            sources["response_spool"], "response_spool", SIZE.show(settings.response_spool),
            f"response_buffer ({SIZE.show(settings.response_buffer)}) or more, or 0 to store nothing",
        )  # fmt: skip


def _check_proxies(settings: Settings, sources: Mapping[str, str]) -> None:
    if settings.forwarded_hops == ALL_TRUSTED and "*" in settings.forwarded_allow_ips:
        raise complaint(
            sources["forwarded_hops"], "forwarded_hops", "'auto'",
            "a number: with * in forwarded_allow_ips every address is a proxy's",
        )  # fmt: skip


def _check_uwsgi(settings: Settings, sources: Mapping[str, str]) -> None:
    if settings.protocol != "uwsgi":
        return
    if settings.has_tls:
        other = "certfile" if settings.certfile is not None else "ssl_context"
        reason = "gateways use uwsgi without TLS"
    elif settings.proxy_protocol != "off":
        other, reason = "proxy_protocol", "gateways send the client's address with each request"
    else:
        return
    raise complaint(sources["protocol"], "protocol", "'uwsgi'", f"http together with {other}: {reason}")


def _check_raw_socket(settings: Settings, sources: Mapping[str, str]) -> None:
    if not settings.raw_socket:
        return
    if settings.has_tls:
        other = "certfile" if settings.certfile is not None else "ssl_context"
        reason = "the application would read encrypted bytes; let a proxy terminate TLS"
    elif settings.protocol == "uwsgi":
        other, reason = "protocol = uwsgi", "gateways do not forward upgrades"
    else:
        return
    raise complaint(sources["raw_socket"], "raw_socket", "true", f"false together with {other}: {reason}")


def _check_tls(settings: Settings, sources: Mapping[str, str], directory: str) -> None:
    hook = settings.ssl_context is not None
    if settings.keyfile is not None and not settings.has_tls:
        raise complaint(sources["keyfile"], "keyfile", quoted(settings.keyfile), "a certfile as well")
    if settings.cert_reqs != "none" and settings.ca_certs is None and not hook:
        # The system's authorities sign certificates for all sites.
        raise complaint(sources["cert_reqs"], "cert_reqs", quoted(settings.cert_reqs), "ca_certs as well")
    if settings.certfile is not None:
        # Late: a server without TLS saves several megabytes.
        from wsgicluster.settings.tls_context import default_context

        default_context(settings, directory)


def _check_admin(settings: Settings, sources: Mapping[str, str], directory: str) -> None:
    """Whether the token can be had; the admin worker reads the file again."""
    if settings.admin_token is not None and settings.admin_token_file is not None:
        raise complaint(sources["admin_token"], "admin_token", MASK, "either this or admin_token_file, not both")
    for name in ("admin_host", "admin_token", "admin_token_file", "haproxy_agent"):
        if settings.admin is None and getattr(settings, name):
            raise complaint(sources[name], name, "given without admin", "admin as well, the address")
    if settings.haproxy_agent is not None and settings.haproxy_agent == settings.admin:
        raise complaint(
            sources["haproxy_agent"], "haproxy_agent", quoted(str(settings.admin)), "another address than admin"
        )
    for name in ("admin", "haproxy_agent"):
        address = getattr(settings, name)
        if isinstance(address, UnixAddress):
            _check_owner(name, address, sources)
    if settings.admin_token_file is not None:
        read_token_file(os.path.join(directory, settings.admin_token_file), sources["admin_token_file"])


def _check_spans(settings: Settings, sources: Mapping[str, str]) -> None:
    if not settings.trace_spans:
        return
    if settings.trace == "off":
        raise complaint(sources["trace_spans"], "trace_spans", "given without trace", "trace as well: accept or make")
    given = dict(each.split("=", 1) for each in settings.raw_env)
    if missing := lacking({**os.environ, **given}):
        raise UsageError(f"{sources['trace_spans']}: trace_spans: {missing}")


def _check_probe_paths(settings: Settings, sources: Mapping[str, str]) -> None:
    if settings.ready_path is not None and settings.ready_path == settings.health_path:
        raise complaint(
            sources["ready_path"], "ready_path", quoted(settings.ready_path), "another path than health_path"
        )


def read_token_file(path: str, where: str = "admin worker") -> str:
    """The token in a file, without the line end. Raises UsageError; ``where`` the file is named, for that."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            text = file.read(_TOKEN_FILE_CHARACTERS).strip()
    except OSError as error:
        raise UsageError(f"{where}: admin_token_file: cannot read {path}: {error.strerror}") from None
    if not is_token(text):
        raise complaint(where, "admin_token_file", quoted(path), f"a file with {TOKEN_EXPECTED} in it")
    return text


def _check_owner(name: str, address: Address, sources: Mapping[str, str]) -> None:
    for identity, given in ((USER, getattr(address, "user", None)), (GROUP, getattr(address, "group", None))):
        try:
            identity.read(given if given is not None else 0)
        except ValueError:
            raise complaint(sources[name], name, quoted(str(address)), identity.expected) from None


def _check_addresses(settings: Settings, sources: Mapping[str, str]) -> None:
    seen = set()
    for address in settings.bind:
        place = address.path if isinstance(address, UnixAddress) else str(address)
        if place in seen and not place.endswith(":0"):
            raise complaint(sources["bind"], "bind", quoted(str(address)), "each address once")
        seen.add(place)
        if settings.daemon and isinstance(address, FdAddress) and address.fd <= _LAST_STANDARD_STREAM:
            raise complaint(
                sources["bind"], "bind", quoted(str(address)), "a descriptor above 2: a daemon closes 0, 1 and 2"
            )
        _check_owner("bind", address, sources)


def _check_folder(path: str | None, name: str, sources: Mapping[str, str], directory: str) -> None:
    if path is not None and not os.path.isdir(os.path.join(directory, path)):
        raise complaint(sources[name], name, quoted(path), "a folder that exists")


def resolve(settings: Settings, processors: int, memory_bytes: int) -> Settings:
    """The settings with plain numbers for what depends on the machine: its usable processors and memory.

    Raises UsageError when that number of workers does not fit the other settings.
    """
    workers = min(MOST_WORKERS, processors) if isinstance(settings.workers, Automatic) else settings.workers
    limit = settings.max_memory
    counted = dataclasses.replace(settings, workers=workers)
    limit_bytes = limit.of(memory_bytes, counted.workers_most) if isinstance(limit, MemoryShare) else limit
    resolved = dataclasses.replace(counted, max_memory=limit_bytes)
    if isinstance(settings.workers, Automatic):
        where = "workers = auto"
        _check_strength(resolved, dict.fromkeys(("min_ready", "reload_surge"), where))
        if resolved.scheduling == "weighted":
            check_scheduling(resolved, {"weights": where, "scheduling": where, "sticky": DEFAULT})
    return resolved
