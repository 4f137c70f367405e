"""What is in an sdist and a wheel: everything that it takes, and nothing else. Exit code 1 and a list when not."""

import fnmatch
import pathlib
import sys
import tarfile
import zipfile

ROOT = pathlib.Path(__file__).parent.parent
WHEEL_LIMIT_BYTES = 1_350_000
SDIST_LIMIT_BYTES = 800_000
TAGS = (".dist-info", ".data")
MANUAL_PAGES = {f"data/share/man/man1/{name}.1" for name in ("wsgicluster", "wsgicluster-migrate", "wsgiclusterctl")}


def sources(*patterns: str) -> set[str]:
    """Files of the package in this checkout, by pattern, relative to it."""
    return {path.relative_to(ROOT).as_posix() for pattern in patterns for path in ROOT.glob(f"wsgicluster/{pattern}")}


def matching(names: set[str], *patterns: str) -> set[str]:
    return {name for name in names for pattern in patterns if fnmatch.fnmatch(name, pattern)}


def complaints(sdist: pathlib.Path, wheel: pathlib.Path) -> list[str]:
    """What is missing or too much."""
    with tarfile.open(sdist) as archive:
        shipped = {name.partition("/")[2] for name in archive.getnames()}
    with zipfile.ZipFile(wheel) as archive_of_wheel:
        installed = set(archive_of_wheel.namelist())
        # The name of the table of symbols is in an ELF file that was not stripped, and only there.
        unstripped = [
            name for name in installed if name.endswith(".so") and b"\0.symtab\0" in archive_of_wheel.read(name)
        ]
    code = sources("**/*.py", "**/*.pyi", "py.typed")
    found = [f"sdist: without {name}" for name in sorted((code | sources("**/*.pyx", "**/*.pxd")) - shipped)]
    found += [f"sdist: {name}" for name in sorted(matching(shipped, "tests*", "*.c", "*.so", "*.pyc"))]
    found += [f"wheel: without {name}" for name in sorted(code - installed)]
    found += [f"wheel: {name}" for name in sorted(matching(installed, "tests*", "*.c", "*.pyx", "*.pxd", "*.pyc"))]
    # Each is optional when the package is built: one that does not compile would be left out without a word.
    compiled = {name.partition(".")[0] for name in installed if name.endswith(".so")}
    expected = {name.removesuffix(".pyx") for name in sources("**/*.pyx")} | {"wsgicluster/_cython_shared"}
    found += [f"wheel: without the compiled {name}" for name in sorted(expected - compiled) if compiled]
    found += [f"wheel: not stripped: {name}" for name in sorted(unstripped)]
    top = {name.partition("/")[0] for name in installed}
    found += [f"wheel: {name}" for name in sorted(top) if name != "wsgicluster" and not name.endswith(TAGS)]
    data = {name.partition(".data/")[2] for name in installed if ".data/" in name}
    found += [f"wheel: other files than the manual pages: {name}" for name in sorted(data ^ MANUAL_PAGES)]
    for path, limit in ((sdist, SDIST_LIMIT_BYTES), (wheel, WHEEL_LIMIT_BYTES)):
        size = path.stat().st_size
        print(f"{path.name}: {size / 1000:,.0f} kB")
        if size > limit:
            found.append(f"{path.name}: {size} bytes, more than {limit}")
    return found


def main() -> int:
    """Print what is wrong."""
    found = complaints(*map(pathlib.Path, sys.argv[1:3]))
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
