"""The setting ``paste``: what a file of Paste Deployment says about the server besides its application.

As in Gunicorn, the application is all that is taken of it, and its logging configuration where it has one; its section
``[server:main]`` is for those who start the server by ``pserve``.
"""

import dataclasses
import os
import re
from collections.abc import Mapping

from wsgicluster.errors import UsageError
from wsgicluster.settings.fields import Settings
from wsgicluster.settings.wording import complaint, quoted

URI = "config:"
"""How an application begins that a file of Paste Deployment describes: what follows is its path, and ``#name``."""


def completed(
    settings: Settings, sources: Mapping[str, str], directory: str, default: str
) -> tuple[Settings, Mapping[str, str]]:
    """The settings, with the application of ``paste`` if that is set, and what else follows from it.

    Paths are relative to ``directory``; ``default`` is the source of a value that is not set. Raises UsageError.
    """
    if not settings.paste:
        return settings, sources
    file, path = located(settings.paste, directory, sources["paste"])
    changes = {"wsgi_app": URI + path}
    if sources["default_proc_name"] == default:
        changes["default_proc_name"] = file
    configures_logs = any(sources[name] != default for name in ("logconfig", "logconfig_dict", "logconfig_json"))
    if not configures_logs and has_loggers(file):
        changes["logconfig"] = file
    changed = dict.fromkeys(changes, f"{sources['paste']} (paste)")
    return dataclasses.replace(settings, **changes), {**sources, **changed}  # type: ignore[arg-type]


def located(text: str, directory: str, source: str) -> tuple[str, str]:
    """The path of a file, and the same with the name of the application, ``#name``, if it has one.

    Raises UsageError where there is no such file.
    """
    path = os.path.abspath(os.path.join(directory, text))
    file = path.partition("#")[0]
    if not os.path.isfile(file):
        raise complaint(source, "paste", f"{quoted(text)}: no such file", "an INI file of Paste Deployment")
    return file, path


def has_loggers(path: str) -> bool:
    """Whether a file configures Python's logging, too. Raises UsageError for another kind of file."""
    import configparser  # late: few deployments have such a file

    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise UsageError(f"paste: {path}: {' '.join(str(error).split())}") from error
    return parser.has_section("loggers")


def global_conf(assignments: tuple[str, ...]) -> dict[str, str]:
    r"""The names and values of ``raw_paste_global_conf``; a ``=`` in a name has a ``\`` before it, as in Gunicorn."""
    pairs = (re.split(r"(?<!\\)=", text, maxsplit=1) for text in assignments)
    return {name.replace("\\=", "=").strip(): value.replace("\\=", "=").strip() for name, value in pairs}
