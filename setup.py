"""What setup.cfg has no way to declare: the compiled modules, the manual pages, addresses, and an sdist that repeats.

The modules are optional: without Cython or a compiler the installation works, and the plain Python
that they are twins of does their work. So it does where Python has no global lock: these modules
rely on one, and loading them would bring it back for the application's threads, too.
"""

import gzip
import os
import pathlib
import runpy
import subprocess
import sys
import sysconfig
import tarfile

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist
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

SHARED = "wsgicluster._cython_shared"
"""Written by Cython: what it would otherwise put into each module that has a typed memoryview, half of their size."""


class BuildWhatCompiles(build_ext):
    """Goes on without an extension that cannot be built; builds several at a time, which halves the wait."""

    def finalize_options(self) -> None:
        """Use all processors unless a number was asked for."""
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extension(self, ext: Extension) -> None:
        """Build one extension, or say that it is left out."""
        try:
            super().build_extension(ext)
        except (BaseError, CCompilerError, OSError, subprocess.CalledProcessError) as error:
            self.warn(f"{ext.name} is left out, plain Python takes its place: {error}")


class RepeatableSdist(sdist):
    """With ``SOURCE_DATE_EPOCH`` set the archive depends on nothing but names, contents and who may execute a file.

    setuptools writes times, owners and permissions of the checkout into it, and the moment of compression. A wheel
    needs no such care: its writer heeds the variable.
    """

    def make_archive(
        self,
        base_name: str,
        format: str,  # noqa: A002 - setuptools' own name, which it gives by keyword
        root_dir: str | None = None,
        base_dir: str | None = None,
        owner: str | None = None,
        group: str | None = None,
    ) -> str:
        """Write one archive; returns its path."""
        moment = os.environ.get("SOURCE_DATE_EPOCH")
        if format != "gztar" or moment is None or base_dir is None:
            return super().make_archive(base_name, format, root_dir, base_dir, owner, group)

        def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
            entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = int(moment), 0, 0, "", ""
            entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
            return entry

        path = f"{base_name}.tar.gz"
        with (
            open(path, "wb") as file,
            gzip.GzipFile("", "wb", fileobj=file, mtime=int(moment)) as compressed,
            tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            archive.add(base_dir, filter=plain)  # its entries are added in the order of their names
        return path


def extensions() -> list[Extension]:
    """What there is to compile; nothing where Cython is missing, or Python is free-threaded."""
    if cythonize is None or sysconfig.get_config_var("Py_GIL_DISABLED"):
        return []
    # What only a debugger reads is nine tenths of the files. Names of functions, too, which `perf` would show, are left
    # out: an eighth. Linkers of other systems do not know the option.
    stripped = ["-Wl,--strip-all"] if sys.platform == "linux" else []
    sources = {f"wsgicluster.{name}": f"wsgicluster/{name.replace('.', '/')}.pyx" for name in NAMES}
    sources[SHARED] = f"{SHARED.replace('.', '/')}.c"
    found = [
        Extension(name, [source], extra_compile_args=["-g0"], extra_link_args=stripped)
        for name, source in sources.items()
    ]
    made = cythonize(found, language_level=3, shared_utility_qualified_name=SHARED)
    for each in made:
        # Cython forgets it, and an editable installation would fail where there is nothing to copy.
        each.optional = True
    return made


def manual_pages() -> list[tuple[str, list[str]]]:
    """The manual pages and where they are installed; written anew, since they follow from the code."""
    pages = runpy.run_path("docs/manual.py")["write"](pathlib.Path("build/man"))
    return [("share/man/man1", [str(path) for path in pages])]


def addresses() -> dict[str, str]:
    """Where the project is at home; all follow from one line of the package, which names it to users, too."""
    known = runpy.run_path("wsgicluster/version.py")
    home = known["HOME"]
    return {
        "Homepage": home,
        "Documentation": known["DOCS"],
        "Source": home,
        "Changes": f"{home}/blob/main/CHANGES.rst",
        "Issues": f"{home}/issues",
    }


setup(
    project_urls=addresses(),
    ext_modules=extensions(),
    cmdclass={"build_ext": BuildWhatCompiles, "sdist": RepeatableSdist},
    data_files=manual_pages(),
)
