"""Loads an application that a file of Paste Deployment describes."""

from collections.abc import Callable, Mapping
from typing import Any

from wsgicluster.errors import AppLoadError
from wsgicluster.wsgi.loader import made_by


def load_paste(uri: str, global_conf: Mapping[str, str]) -> Callable[..., Any]:
    """The application of ``config:PATH`` or ``config:PATH#NAME``; ``global_conf`` is added to its ``[DEFAULT]``.

    Raises AppLoadError, whatever the application raises, and where PasteDeploy is not installed.
    """
    try:
        from paste.deploy import loadapp  # type: ignore[import-untyped]
    except ImportError as error:
        raise AppLoadError(f"{uri}: needs the package PasteDeploy; pip install 'wsgicluster[paste]'") from error
    return made_by(lambda: loadapp(uri, global_conf=dict(global_conf)), uri)
