"""What goes wrong in the cluster, as its users catch it: each error is also the standard one that it resembles."""

import queue


class ClusterError(Exception):
    """Everything that `wsgicluster.cluster` raises on purpose, but for errors in its arguments."""


class NotInCluster(ClusterError, RuntimeError):
    """This process was forked by the application from a process of the server, and is none itself."""


# Messages


class WorkerGone(ClusterError, LookupError):
    """There is no such slot or role, or the process that had a request ended without having answered it."""


class QueueFull(ClusterError, queue.Full):
    """The receiver's mailbox takes no more now: try again later, or do without. Nothing was sent."""


class MessageTooLarge(ClusterError, ValueError):
    """A value, key or name that is longer than its limit, or a message for which there is no room.

    Nothing was sent or stored.
    """


class RequestTimeout(ClusterError, TimeoutError):
    """The reply did not come in time; one that comes later reaches no one."""


class RemoteError(ClusterError):
    """The handler of a request raised an error, or returned what is not a message; the text is what it was."""


class NoHandler(ClusterError, LookupError):
    """The process that was asked has no handler for the topic."""


# Shared state


class StoreFull(ClusterError, RuntimeError):
    """The store has no room for a value, or there are too many names of counters."""


class LockNotHeld(ClusterError, RuntimeError):
    """A lock is released, or asked for its token, that this process does not hold."""


class LockLost(ClusterError, RuntimeError):
    """A lock in Redis was not renewed in time: another process may have held it meanwhile."""


class Deadlock(ClusterError, RuntimeError):
    """Waiting for a lock would never end: its holder waits for one that this thread holds, or is this thread."""


# Other machines


class BusDown(ClusterError, ConnectionError):
    """Redis cannot be reached, or has not responded in time; whether a change was made is not known."""
