"""The listening sockets: made or taken over once, inherited by every worker, given back at the end.

Knows addresses and the system's sockets; nothing of workers and their requests.
"""

import contextlib
import errno
import grp
import os
import pathlib
import pwd
import socket
import stat
import time
from collections.abc import Iterable

from wsgicluster.arbiter.listeners import matching
from wsgicluster.arbiter.listeners.matching import ListenTarget
from wsgicluster.arbiter.service.launch import Passed
from wsgicluster.dataclass import dataclass
from wsgicluster.errors import AddressError
from wsgicluster.settings import Address, FdAddress, TcpAddress, UnixAddress
from wsgicluster.system import process
from wsgicluster.system.network import address_holders

ORPHANS_S = 5.0
"""How long workers whose arbiter was killed are waited for, while they still hold the address."""

_ORPHAN_TITLES = ("wsgicluster: worker ", "wsgicluster: admin")
_WAIT_S = 0.1
_UNHELD = 2


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose new socket files are where the address does not say; None leaves them as they are.

    Those whose address has no mode are made without the permissions of ``umask``, which is not the process's own:
    a proxy that runs as another user has to reach them.
    """

    uid: int | None = None
    gid: int | None = None
    umask: int = 0


@dataclass(frozen=True, slots=True)
class Backlog:
    """How new connections wait: at most ``backlog`` of them; one without a byte is not shown for ``defer_s``.

    ``reuse_port`` lets other servers listen on the same TCP port, which then have queues of their own.
    """

    backlog: int
    defer_s: float = 0
    reuse_port: bool = False


class Listener:
    """One listening socket; ``address`` is where clients find it, for people: ``HOST:PORT`` or ``unix:PATH``.

    ``passed`` says where it came from, and is what is passed on to the server after this one.
    """

    def __init__(self, sock: socket.socket, passed: Passed) -> None:
        sock.setblocking(False)
        sock.set_inheritable(False)
        self.sock = sock
        self.address = describe(sock)
        self.passed = passed
        self._path = sock.getsockname() if passed.made else ""

    def url(self, scheme: str) -> str:
        """What clients connect to, for people; they speak ``scheme``. A Unix socket's address is the same for all."""
        return self.address if self.sock.family == socket.AF_UNIX else f"{scheme}://{self.address}"

    def close(self, remove_file: bool = True) -> None:
        """Stop listening, as far as this process goes.

        The socket file is removed if a server has made it, it is still the same one, and ``remove_file`` does not
        say that another server continues with it.
        """
        # Another server may have taken the path over meanwhile; its file is not ours to remove.
        if self._path and remove_file and _is_still(self._path, self.passed.made):
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                os.unlink(self._path)
        self._path = ""
        self.sock.close()


def _identity(path: str) -> tuple[int, int]:
    """Device and inode of a file, not following links."""
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def _is_still(path: str, made: tuple[int, int] | None) -> bool:
    try:
        return _identity(path) == made
    except FileNotFoundError:
        return False


def describe(sock: socket.socket) -> str:
    """The address of a socket as ``HOST:PORT`` or ``unix:PATH``."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{os.fsdecode(name)}"
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def open_listeners(
    targets: Iterable[ListenTarget], queue: Backlog, owner: Owner, setting: str = "bind"
) -> list[Listener]:
    """Listen on all of them; raises AddressError, having closed again what was open by then.

    ``setting`` is where the addresses come from, for that.
    The socket files of those that were passed on are left alone when this fails: another process still serves them.
    """
    with contextlib.ExitStack() as undo:
        listeners = []
        for target in targets:
            listener = (
                _take_over(target, queue, owner) if target.passed else _open(target.address, queue, owner, setting)
            )
            undo.callback(listener.close, remove_file=target.passed is None)
            listeners.append(listener)
        undo.pop_all()
    return listeners


def _take_over(target: ListenTarget, queue: Backlog, owner: Owner) -> Listener:
    """A listener of a socket that was passed on; one of a service manager is left as that has made it."""
    passed, address = target.passed, target.address
    assert passed is not None, "only for what was passed"
    sock = _stream_socket(passed.fd, address or f"fd://{passed.name or passed.fd}")
    try:
        if passed.activated or isinstance(address, FdAddress):
            if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                sock.listen(queue.backlog)
        else:
            # What the settings say may have changed since.
            sock.listen(queue.backlog)
            if isinstance(address, TcpAddress):
                _defer(sock, queue.defer_s)
            if isinstance(address, UnixAddress) and _is_still(address.path, passed.made):
                _give(address, owner)
        return Listener(sock, passed)
    except OSError as error:
        sock.close()
        raise AddressError(f"cannot take over {address or passed.name}: {error.strerror}") from error


def _open(address: Address | None, queue: Backlog, owner: Owner, setting: str) -> Listener:
    if isinstance(address, FdAddress):
        return _take_over(ListenTarget(address, Passed(address.fd, str(address))), queue, owner)
    assert isinstance(address, UnixAddress | TcpAddress), "nothing else is opened"
    give_up_at = time.monotonic() + ORPHANS_S
    unheld = 0
    while True:
        try:
            if isinstance(address, UnixAddress):
                sock = _open_unix(address, queue.backlog, owner)
                return Listener(sock, _passed(address, sock, _identity(address.path)))
            sock = _open_tcp(address, queue)
            return Listener(sock, _passed(address, sock))
        except OSError as error:
            pids = _holders(address, error)
            # No process holds it: the last one has just exited, or it is one that we may not inspect.
            unheld += not pids
            orphans = error.errno == errno.EADDRINUSE and all(process.title(p).startswith(_ORPHAN_TITLES) for p in pids)
            if not orphans or unheld > _UNHELD or time.monotonic() >= give_up_at:
                raise AddressError(
                    f"cannot listen on {address}: {_reason(error)}{_named(pids)}{_remedy(error, setting)}"
                ) from error
            # Workers whose arbiter was killed exit by themselves; the restart need not fail because of them.
            time.sleep(_WAIT_S)


def _passed(address: Address, sock: socket.socket, made: tuple[int, int] | None = None) -> Passed:
    return Passed(sock.fileno(), matching.canonical_address(address), made=made)


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the address is in use"
    return error.strerror or str(error)


def _named(pids: list[int]) -> str:
    named = [f"{pid} ({process.title(pid) or 'name unknown'})" for pid in pids[:3]]
    more = f" and {len(pids) - 3} more" if len(pids) > 3 else ""
    return f" by process {', '.join(named)}{more}" if pids else ""


def _remedy(error: OSError, setting: str) -> str:
    in_use = error.errno == errno.EADDRINUSE
    return f"; stop what listens there, or choose another address ({setting})" if in_use else ""


def _holders(address: TcpAddress | UnixAddress, error: OSError) -> list[int]:
    if error.errno != errno.EADDRINUSE:
        return []
    if isinstance(address, UnixAddress):
        return address_holders.pids(address_holders.unix_inodes(address.path))
    return address_holders.pids(address_holders.tcp_inodes(address.port))


def _open_tcp(address: TcpAddress, queue: Backlog) -> socket.socket:
    family, target = _resolve(address)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if queue.reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # Accepted connections inherit it, which spares each of them the call.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _defer(sock, queue.defer_s)
        sock.bind(target)
        sock.listen(queue.backlog)
        return sock
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
    """Address family and numeric address; a name stands for its IPv4 address if it has one."""
    host = "0.0.0.0" if address.host in ("", "*") else address.host
    # Text would be encoded by a codec for international names, whose tables take a megabyte.
    encoded = host.encode("ascii") if host.isascii() else host
    for family in (socket.AF_INET6,) if ":" in host else (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(socket.gaierror):  # no address of this family
            found = socket.getaddrinfo(encoded, address.port, family, socket.SOCK_STREAM)
            return family, found[0][4]
    raise AddressError(f"cannot listen on {address}: the host name {address.host!r} has no address")


def _open_unix(address: UnixAddress, backlog: int, owner: Owner) -> socket.socket:
    _owner(address, owner)  # before anything is made: there may be no such user
    _remove_stale(address)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(owner.umask)
        try:
            sock.bind(address.path)
        finally:
            os.umask(before)
        # Until listen() all clients are refused, so that none can use the wrong mode.
        _give(address, owner)
        sock.listen(backlog)
        return sock
    except BaseException:
        sock.close()
        raise


def _give(address: UnixAddress, owner: Owner) -> None:
    """Give the socket file the mode and owner that it is to have."""
    uid, gid = _owner(address, owner)
    if address.mode is not None:
        os.chmod(address.path, address.mode)
    if (uid, gid) != (-1, -1):
        os.chown(address.path, uid, gid)


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
    """Remove the socket file of a server that has exited; raises OSError when a process still listens there."""
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
            # Its queue is full, so there is a listener.
            pass
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _stream_socket(fd: int, name: object) -> socket.socket:
    """The socket behind a descriptor; raises AddressError when it is not a stream socket."""
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise AddressError(f"cannot listen on {name}: this is not a socket: {error.strerror}") from error
    if sock.type != socket.SOCK_STREAM:
        sock.close()
        raise AddressError(f"cannot listen on {name}: this is not a stream socket")
    return sock


def backlog_limit(root: str = "/") -> int | None:
    """The longest queue of new connections that the kernel grants, where it says so."""
    try:
        return int((pathlib.Path(root) / "proc/sys/net/core/somaxconn").read_text())
    except (OSError, ValueError):
        # Not Linux, or a sandbox that hides it.
        return None
