"""The settings of a server: declared once, read from every source, checked."""

from wsgicluster.settings.checks import read_token_file, resolve
from wsgicluster.settings.declaration import Applies
from wsgicluster.settings.fields import SETTINGS, Settings
from wsgicluster.settings.sources.merge import Action, Loaded, load
from wsgicluster.settings.types.values import Address, FdAddress, NamedFdAddress, TcpAddress, UnixAddress

__all__ = [
    "SETTINGS",
    "Action",
    "Address",
    "Applies",
    "FdAddress",
    "Loaded",
    "NamedFdAddress",
    "Settings",
    "TcpAddress",
    "UnixAddress",
    "load",
    "read_token_file",
    "resolve",
]
