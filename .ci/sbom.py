"""Print the bill of materials of a release, in CycloneDX 1.6: what the files are, need, and have compiled into them.

``sbom.py FILE...``: the wheels and the sdist of one version. Everything is read from the files: the requirements from
the metadata, with the versions that they allow, since an installation chooses one; Cython, whose runtime is part of the
compiled modules, from these. The same files give the same text. Needs nothing but the standard library.
"""

import datetime
import email.message
import email.parser
import hashlib
import json
import os
import pathlib
import re
import sys
import uuid
import zipfile
from typing import Any

_CYTHON = re.compile(rb"_cython_(\d+)_(\d+)_(\d+)")
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)\s*(?P<versions>[^;]*?)\s*(?:;\s*(?P<marker>.*))?")
_EXTRA = re.compile(r"extra == ['\"](.+?)['\"]")
_EXTRAS_OF_DEVELOPERS = frozenset({"test", "docs"})


def metadata_of(wheel: pathlib.Path) -> email.message.Message:
    """The metadata of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.parser.HeaderParser().parsestr(archive.read(name).decode("utf-8"))


def requirements(metadata: email.message.Message) -> list[dict[str, Any]]:
    """What an installation needs, or may need: a component for each project."""
    found: dict[str, dict[str, Any]] = {}
    for text in metadata.get_all("Requires-Dist") or []:
        parts = _REQUIREMENT.fullmatch(text)
        extra = _EXTRA.search(parts["marker"] or "") if parts else None
        if parts is None or (extra is not None and extra[1] in _EXTRAS_OF_DEVELOPERS):
            continue
        name = re.sub(r"[-_.]+", "-", parts["name"]).lower()
        needed_by = [{"name": "extra", "value": extra[1]}] if extra is not None else []
        found[name] = {
            "type": "library",
            "bom-ref": f"pkg:pypi/{name}",
            "name": name,
            "scope": "optional" if extra is not None else "required",
            "purl": f"pkg:pypi/{name}",
            "properties": [{"name": "versions", "value": parts["versions"] or "any"}, *needed_by],
        }
    return list(found.values())


def compiled_in(wheel: pathlib.Path) -> list[dict[str, Any]]:
    """Whose code is within the compiled modules of a wheel; nothing where there are none."""
    with zipfile.ZipFile(wheel) as archive:
        modules = [archive.read(name) for name in archive.namelist() if name.endswith(".so")]
    versions = {b".".join(found.groups()).decode() for module in modules if (found := _CYTHON.search(module))}
    return [
        {
            "type": "library",
            "bom-ref": f"pkg:pypi/cython@{version}",
            "name": "cython",
            "version": version,
            "description": "its runtime support, as part of the compiled modules",
            "licenses": [{"license": {"id": "Apache-2.0"}}],
            "purl": f"pkg:pypi/cython@{version}",
        }
        for version in sorted(versions)
    ]


def file_component(path: pathlib.Path) -> dict[str, Any]:
    """One file of the release with its checksum."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {
        "type": "file",
        "bom-ref": f"file:{path.name}",
        "name": path.name,
        "hashes": [{"alg": "SHA-256", "content": digest}],
    }


def bill(files: list[pathlib.Path]) -> dict[str, Any]:
    """The whole document."""
    wheels = [path for path in files if path.suffix == ".whl"]
    metadata = metadata_of(wheels[0])
    name, version = metadata["Name"], metadata["Version"]
    purl = f"pkg:pypi/{name}@{version}"
    needed = requirements(metadata)
    inner = {each["bom-ref"]: each for wheel in wheels for each in compiled_in(wheel)}
    shipped = [file_component(path) for path in files]
    urls = dict(entry.split(", ", 1) for entry in metadata.get_all("Project-URL") or [])
    moment = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    hashes = "".join(each["hashes"][0]["content"] for each in shipped)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, purl + hashes)}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.datetime.fromtimestamp(moment, datetime.timezone.utc).isoformat(),
            "component": {
                "type": "application",
                "bom-ref": purl,
                "name": name,
                "version": version,
                "description": metadata["Summary"],
                "licenses": [{"expression": metadata["License-Expression"]}],
                "purl": purl,
                "externalReferences": [
                    {"type": "website", "url": urls["Homepage"]},
                    {"type": "vcs", "url": urls["Source"]},
                ],
            },
        },
        "components": [*shipped, *inner.values(), *needed],
        "dependencies": [
            {"ref": purl, "dependsOn": sorted([*inner, *(each["bom-ref"] for each in needed)])},
        ],
    }


def main() -> None:
    """Print it."""
    json.dump(bill([pathlib.Path(name) for name in sys.argv[1:]]), sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
