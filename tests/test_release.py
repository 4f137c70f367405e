"""A release is cut in a copy of the repository: version, CHANGES.rst and tag; and refused where it must not be."""

import json
import os
import pathlib
import re
import subprocess
import sys
import zipfile

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a repository")
HEADING = re.compile(r"^(\d+\.\d+\.\d+) \((.*)\)$", re.MULTILINE)


def run(folder: pathlib.Path, *command: str) -> subprocess.CompletedProcess[str]:
    names = {f"GIT_{who}_{what}": "x@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environ = {**os.environ, **names, "BIN": str(pathlib.Path(sys.executable).parent)}
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def copy(tmp_path: pathlib.Path) -> pathlib.Path:
    """A repository with what a release needs, as it is in this folder now."""
    for name in (".ci/release", "CHANGES.rst", "pyproject.toml", "wsgicluster/version.py", "changes/template.rst"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / ".ci/release").chmod(0o755)
    (tmp_path / "changes/README.rst").write_text("Fragments\n")
    (tmp_path / "changes/+one.added.rst").write_text("Something new.\n")
    (tmp_path / "changes/+two.fixed.rst").write_text("A fault.\n")
    for command in ("git init -q", "git add -A", "git commit -q -m x"):
        assert run(tmp_path, *command.split()).returncode == 0
    return tmp_path


def test_a_release_and_the_next(copy: pathlib.Path) -> None:
    before = HEADING.findall((copy / "CHANGES.rst").read_text())[0][0]
    done = run(copy, ".ci/release", "7.2.0")
    assert (done.returncode, done.stderr) == (0, "")
    assert "7.2.0 is committed and tagged here, with 2 changes" in done.stdout
    changes = (copy / "CHANGES.rst").read_text()
    assert [version for version, _ in HEADING.findall(changes)][:2] == ["7.2.0", before]
    assert changes.index("- Something new.") < changes.index("Fixed\n~~~~~\n") < changes.index("- A fault.")
    assert '__version__ = "7.2.0"' in (copy / "wsgicluster/version.py").read_text()
    assert sorted(os.listdir(copy / "changes")) == ["README.rst", "template.rst"]
    assert run(copy, "git", "tag", "--points-at", "HEAD").stdout == "v7.2.0\n"
    assert run(copy, "git", "status", "--porcelain").stdout == ""

    (copy / "changes/+three.changed.rst").write_text("Other words.\n")
    run(copy, "git", "add", "-A")
    run(copy, "git", "commit", "-q", "-m", "x")
    for version, says in {
        "7.2.0": "v7.2.0 is released already",
        "7.1.9": "7.1.9 is older than v7.2.0",
        "7.2.0rc1": "7.2.0rc1 is older than v7.2.0",
    }.items():
        done = run(copy, ".ci/release", version)
        assert (done.returncode, done.stderr) == (1, f"release: error: {says}\n")
    assert run(copy, ".ci/release", "7.10.0rc1").returncode == 0


def test_a_section_that_is_there_is_tagged(copy: pathlib.Path) -> None:
    path = copy / "CHANGES.rst"
    path.write_text(path.read_text().replace("0.", "7.2.0 (2026-01-02)\n------------------\n\n- All.\n\n\n0.", 1))
    run(copy, "git", "commit", "-q", "-a", "-m", "x")
    assert "CHANGES.rst has 7.2.0 already: take over the 2 fragments" in run(copy, ".ci/release", "7.2.0").stderr
    for fragment in (copy / "changes").glob("+*.rst"):
        fragment.unlink()
    run(copy, "git", "commit", "-q", "-a", "-m", "x")
    assert "version.py is not of 7.2.0" in run(copy, ".ci/release", "7.2.0").stderr
    (copy / "wsgicluster/version.py").write_text('__version__ = "7.2.0"\n')
    run(copy, "git", "commit", "-q", "-a", "-m", "x")
    done = run(copy, ".ci/release", "7.2.0")
    assert (done.returncode, done.stderr) == (0, "")
    assert "7.2.0 is tagged here" in done.stdout
    assert run(copy, "git", "tag", "--points-at", "HEAD").stdout == "v7.2.0\n"
    assert path.read_text().count("7.2.0 (") == 1


@pytest.mark.parametrize("version", ["", "7", "7.2", "v7.2.0", "7.2.0;ls", "7.2.0-1"])
def test_what_is_not_a_version(version: str) -> None:
    done = run(ROOT, ".ci/release", version)
    assert done.returncode == 1
    assert done.stderr.startswith(f"release: error: '{version}' is not a version; give one")


def test_nothing_is_released_that_is_not_committed(copy: pathlib.Path) -> None:
    (copy / "changes/+four.added.rst").touch()
    assert "not committed" in run(copy, ".ci/release", "7.2.0").stderr
    for path in (copy / "changes").glob("+*.rst"):
        path.unlink()
    run(copy, "git", "commit", "-q", "-a", "-m", "x")
    assert "nothing to release" in run(copy, ".ci/release", "7.2.0").stderr
    assert run(copy, "git", "tag").stdout == ""


def test_each_compiled_module_is_imported_from_a_wheel() -> None:
    command = (ROOT / "pyproject.toml").read_text().partition("test-command = [")[2].partition("]")[0]
    modules = {path.relative_to(ROOT).with_suffix("") for path in ROOT.glob("wsgicluster/**/*.pyx")}
    assert sorted(re.findall(r"wsgicluster\.[\w.]+", command)) == sorted(".".join(path.parts) for path in modules)


def test_bill_of_materials(tmp_path: pathlib.Path) -> None:
    wheel, sdist = tmp_path / "shop-1.0-py3-none-any.whl", tmp_path / "shop-1.0.tar.gz"
    sdist.write_bytes(b"sources")
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(
            "shop-1.0.dist-info/METADATA",
            "Metadata-Version: 2.4\nName: shop\nVersion: 1.0\nSummary: A shop\nLicense-Expression: MIT\n"
            "Project-URL: Homepage, https://example.org\nProject-URL: Source, https://example.org/source\n"
            "Requires-Dist: psutil>=5.9\nRequires-Dist: Some_Thing; extra == 'more'\n"
            'Requires-Dist: pytest>=8; extra == "test"\n',
        )
        archive.writestr("shop/fast.so", b"..._cython_3_12_1...")
    command = [sys.executable, str(ROOT / ".ci/sbom.py"), str(wheel), str(sdist)]
    texts = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)]
    assert texts[0] == texts[1]
    bill = json.loads(texts[0])
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["purl"] == "pkg:pypi/shop@1.0"
    assert [each["bom-ref"] for each in bill["components"]] == [
        f"file:{wheel.name}", f"file:{sdist.name}", "pkg:pypi/cython@3.12.1", "pkg:pypi/psutil", "pkg:pypi/some-thing",
    ]  # fmt: skip
    assert [each.get("scope") for each in bill["components"][3:]] == ["required", "optional"]
    assert bill["components"][3]["properties"] == [{"name": "versions", "value": ">=5.9"}]
