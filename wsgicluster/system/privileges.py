"""Another user for a process, with no way back."""

import os
import pwd

from wsgicluster.errors import BootError


def drop_privileges(uid: int, gid: int, initgroups: bool) -> None:
    """Become ``uid`` and ``gid`` for good, supplementary groups included.

    With ``initgroups`` the user's own groups are kept, else none but ``gid``.
    Raises BootError when that is not possible or when a way back is left open.
    """
    if (uid, gid) == (os.geteuid(), os.getegid()) and not (initgroups and os.geteuid() == 0):
        return
    if os.geteuid() != 0:
        raise BootError(f"only root can run workers as user {uid} and group {gid}")
    try:
        os.setgroups([gid])
        if initgroups:
            os.initgroups(pwd.getpwuid(uid).pw_name, gid)
        os.setgid(gid)
        os.setuid(uid)
    except KeyError as error:
        raise BootError(f"initgroups: user {uid} has no name, and so no groups") from error
    except OSError as error:
        raise BootError(f"cannot become user {uid} and group {gid}: {error.strerror}") from error
    if (os.getuid(), os.geteuid(), os.getgid(), os.getegid()) != (uid, uid, gid, gid):
        raise BootError(f"the system did not make this process user {uid} and group {gid}")
    if uid != 0:
        _check_no_way_back()


def _check_no_way_back() -> None:
    # A saved id or a kept capability would let an application become root again; only trying tells.
    for attempt in (os.setuid, os.setgid):
        try:
            attempt(0)
        except PermissionError:
            continue
        raise BootError("root's privileges could be taken up again; check the capabilities of this process")
