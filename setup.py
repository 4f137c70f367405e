"""The compiled modules and the manual pages; the rest is declared in setup.cfg, which has no way to declare these.

The modules are optional: without Cython or a compiler the installation works, and the plain Python
that they are twins of does their work. So it does where Python has no global lock: these modules
rely on one, and loading them would bring it back for the application's threads, too.
"""

import pathlib
import runpy
import subprocess
import sysconfig

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError

try:
    from Cython.Build import cythonize
except ImportError:
    cythonize = None

NAMES = (
    "http._parser",
    "http._writer",
    "worker.request._bodies",
    "worker.request._leaves",
    "worker.request._coalesce",
    "worker.kinds.sync._fast_path",
    "worker.kinds.sync._slow_request_watch",
    "worker.kinds.gevent._frames",
)


class BuildWhatCompiles(build_ext):
    """Goes on without an extension that cannot be built."""

    def build_extension(self, ext: Extension) -> None:
        """Build one extension, or say that it is left out."""
        try:
            super().build_extension(ext)
        except (BaseError, CCompilerError, OSError, subprocess.CalledProcessError) as error:
            self.warn(f"{ext.name} is left out, plain Python takes its place: {error}")


def extensions() -> list[Extension]:
    """What there is to compile; nothing where Cython is missing, or Python is free-threaded."""
    if cythonize is None or sysconfig.get_config_var("Py_GIL_DISABLED"):
        return []
    # What a debugger needs beyond the names of functions is nine tenths of the files.
    found = [
        Extension(
            f"wsgicluster.{name}",
            [f"wsgicluster/{name.replace('.', '/')}.pyx"],
            extra_compile_args=["-g0"],
            optional=True,
        )
        for name in NAMES
    ]
    return cythonize(found, language_level=3)


def manual_pages() -> list[tuple[str, list[str]]]:
    """The manual pages and where they are installed; written anew, since they follow from the code."""
    pages = runpy.run_path("docs/manual.py")["write"](pathlib.Path("build/man"))
    return [("share/man/man1", [str(path) for path in pages])]


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildWhatCompiles}, data_files=manual_pages())
