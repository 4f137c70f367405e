"""The listening sockets: made once, inherited by every worker, given back at the end.

Knows addresses and the system's sockets; nothing of workers and their requests.
"""

import contextlib
import dataclasses
import errno
import grp
import os
import pathlib
import pwd
import socket
import stat
import time
from collections.abc import Iterable

from wsgicluster import process
from wsgicluster.arbiter import holders
from wsgicluster.errors import AddressError
from wsgicluster.settings import FdAddress, TcpAddress, UnixAddress

ORPHANS_S = 5.0
"""How long workers whose arbiter was killed are waited for, while they still hold the address."""

_ORPHAN_TITLE = "wsgicluster: worker "
_WAIT_S = 0.1
_UNHELD = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Owner:
    """Whom new socket files belong to where the address does not say; None leaves them as they are."""

    uid: int | None = None
    gid: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Queue:
    """How new connections wait: at most ``backlog`` of them; one without a byte is not shown for ``defer_s``."""

    backlog: int
    defer_s: float = 0


class Listener:
    """One listening socket; ``address`` is where clients find it, for people: ``HOST:PORT`` or ``unix:PATH``."""

    def __init__(self, sock: socket.socket, made: os.stat_result | None = None) -> None:
        sock.setblocking(False)
        sock.set_inheritable(False)
        self.sock = sock
        self.address = describe(sock)
        self._path = sock.getsockname() if made else ""
        self._made = made

    def url(self, scheme: str) -> str:
        """What clients connect to, for people; they speak ``scheme``. A Unix socket's address is the same for all."""
        return self.address if self.sock.family == socket.AF_UNIX else f"{scheme}://{self.address}"

    def close(self) -> None:
        """Stop listening, as far as this process goes, and remove the socket file if it is still ours."""
        if self._made:
            with contextlib.suppress(FileNotFoundError):  # somebody was faster
                found = os.lstat(self._path)
                # Another server may have taken the path over meanwhile; its file is not ours to remove.
                if (found.st_dev, found.st_ino) == (self._made.st_dev, self._made.st_ino):
                    os.unlink(self._path)
            self._made = None
        self.sock.close()


def describe(sock: socket.socket) -> str:
    """The address of a socket as ``HOST:PORT`` or ``unix:PATH``."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{os.fsdecode(name)}"
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def open_listeners(
    addresses: Iterable[TcpAddress | UnixAddress | FdAddress], queue: Queue, owner: Owner
) -> list[Listener]:
    """Listen on all addresses; raises AddressError, having closed again what was open by then."""
    with contextlib.ExitStack() as undo:
        listeners = [undo.enter_context(contextlib.closing(_open(address, queue, owner))) for address in addresses]
        undo.pop_all()
    return listeners


def _open(address: TcpAddress | UnixAddress | FdAddress, queue: Queue, owner: Owner) -> Listener:
    if isinstance(address, FdAddress):
        return _take_over(address, queue.backlog)
    give_up_at = time.monotonic() + ORPHANS_S
    unheld = 0
    while True:
        try:
            if isinstance(address, UnixAddress):
                return _open_unix(address, queue.backlog, owner)
            return _open_tcp(address, queue)
        except OSError as error:
            pids = _holders(address, error)
            # Nobody holds it: the last one has just left, or it is somebody whom we may not look at.
            unheld += not pids
            orphans = error.errno == errno.EADDRINUSE and all(process.title(p).startswith(_ORPHAN_TITLE) for p in pids)
            if not orphans or unheld > _UNHELD or time.monotonic() >= give_up_at:
                raise AddressError(f"cannot listen on {address}: {_reason(error)}{_named(pids)}") from error
            # Workers whose arbiter was killed leave by themselves; the restart need not fail for them.
            time.sleep(_WAIT_S)


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the address is in use"
    return error.strerror or str(error)


def _named(pids: list[int]) -> str:
    named = [f"{pid} ({process.title(pid) or 'name unknown'})" for pid in pids[:3]]
    more = f" and {len(pids) - 3} more" if len(pids) > 3 else ""
    return f" by process {', '.join(named)}{more}" if pids else ""


def _holders(address: TcpAddress | UnixAddress, error: OSError) -> list[int]:
    if error.errno != errno.EADDRINUSE:
        return []
    if isinstance(address, UnixAddress):
        return holders.pids(holders.unix_inodes(address.path))
    return holders.pids(holders.tcp_inodes(address.port))


def _open_tcp(address: TcpAddress, queue: Queue) -> Listener:
    family, target = _resolve(address)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # Accepted connections inherit it, which spares each of them the call.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _defer(sock, queue.defer_s)
        sock.bind(target)
        sock.listen(queue.backlog)
        return Listener(sock)
    except BaseException:
        sock.close()
        raise


def _defer(sock: socket.socket, seconds: float) -> None:
    """Have the kernel keep a new connection to itself until its first byte comes, or ``seconds`` are over.

    A worker is then woken once for a connection and its request, and never for one that says nothing.
    """
    if seconds > 0 and hasattr(socket, "TCP_DEFER_ACCEPT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, max(1, round(seconds)))


def _resolve(address: TcpAddress) -> tuple[int, tuple[object, ...]]:
    """Family and numeric address; a name stands for its IPv4 address if it has one."""
    host = "0.0.0.0" if address.host in ("", "*") else address.host
    for family in (socket.AF_INET6,) if ":" in host else (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(socket.gaierror):  # no address of this family
            found = socket.getaddrinfo(host, address.port, family, socket.SOCK_STREAM)
            return family, found[0][4]
    raise AddressError(f"cannot listen on {address}: the host name {address.host!r} has no address")


def _open_unix(address: UnixAddress, backlog: int, owner: Owner) -> Listener:
    uid, gid = _owner(address, owner)
    _remove_stale(address)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(address.path)
        made = os.lstat(address.path)
        # Until listen() everybody is refused, so that the wrong mode is never open to anybody.
        if address.mode is not None:
            os.chmod(address.path, address.mode)
        if (uid, gid) != (-1, -1):
            os.chown(address.path, uid, gid)
        sock.listen(backlog)
        return Listener(sock, made)
    except BaseException:
        sock.close()
        raise


def _owner(address: UnixAddress, owner: Owner) -> tuple[int, int]:
    uid = -1 if owner.uid is None else owner.uid
    gid = -1 if owner.gid is None else owner.gid
    try:
        if address.user is not None:
            uid = int(address.user) if address.user.isdigit() else pwd.getpwnam(address.user).pw_uid
        if address.group is not None:
            gid = int(address.group) if address.group.isdigit() else grp.getgrnam(address.group).gr_gid
    except KeyError as error:
        raise AddressError(f"cannot listen on {address}: {error.args[0]}") from error
    # What it is anyway needs no right to change it.
    return (-1 if uid == os.geteuid() else uid), (-1 if gid == os.getegid() else gid)


def _remove_stale(address: UnixAddress) -> None:
    """Remove the socket file of a server that is gone; raises OSError when somebody still listens there."""
    try:
        mode = os.lstat(address.path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise AddressError(f"cannot listen on {address}: there is another file of that name")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(address.path)
        except ConnectionRefusedError:
            os.unlink(address.path)
            return
        except BlockingIOError:
            # Its queue is full, so somebody has one.
            pass
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _take_over(address: FdAddress, backlog: int) -> Listener:
    try:
        sock = socket.socket(fileno=address.fd)
    except OSError as error:
        raise AddressError(f"cannot listen on {address}: this is no socket: {error.strerror}") from error
    try:
        if sock.type != socket.SOCK_STREAM:
            sock.close()
            raise AddressError(f"cannot listen on {address}: this is no stream socket")
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            sock.listen(backlog)
        return Listener(sock)
    except OSError as error:
        raise AddressError(f"cannot listen on {address}: {error.strerror}") from error


def backlog_limit(root: str = "/") -> int | None:
    """The longest queue of new connections that the kernel grants, where it says so."""
    try:
        return int((pathlib.Path(root) / "proc/sys/net/core/somaxconn").read_text())
    except (OSError, ValueError):
        # Not Linux, or a sandbox that hides it.
        return None
