"""All applications on all servers: a table, and every fact in which a server differs from the first one."""

import os
import pathlib
import sys
import tempfile
import time

from checks import CHECKS, Facts, Missing, facts_of, faults_logged
from servers import SERVERS, Server

Results = dict[str, dict[str, Facts]]


def cell(facts: Facts, reference: Facts) -> str:
    """Whether the facts are those of the reference; a fact without a value only says which test it was."""
    names = {name for found in (facts, reference) for name, value in found.items() if value}
    other = sum(facts.get(name) != reference.get(name) for name in names)
    return f"{other} of {len(names)} differ" if other else "the same"


def table(results: Results, servers: list[Server]) -> str:
    """In reStructuredText; the first server is what the others are compared with."""
    lines = [
        ".. list-table:: Responses beside those of the first server",
        "   :header-rows: 1",
        "",
        "   * - application",
    ]
    lines += [f"     - {server.name}" for server in servers]
    for name, found in results.items():
        lines.append(f"   * - {name}")
        reference = found[servers[0].name]
        lines += [f"     - {cell(found[server.name], reference)}" for server in servers]
    return "\n".join(lines) + "\n"


def differences(results: Results, servers: list[Server]) -> list[str]:
    """One line for each fact that is not the same everywhere."""
    lines = []
    for application, found in results.items():
        for name in dict.fromkeys(name for facts in found.values() for name in facts):
            values = {server.name: found[server.name].get(name, "(none)") for server in servers}
            if len(set(values.values())) > 1:
                lines.append(f"{application}: {name}")
                lines += [f"    {server}: {value}" for server, value in values.items()]
    return lines


def main() -> int:
    """Try, print, and end with 1 when a worker died or hung."""
    cache = pathlib.Path(sys.argv[1])
    chosen = sys.argv[2:] or list(CHECKS)
    only = os.environ.get("SERVERS", "")
    servers = [server for server in SERVERS if not only or server.name in only.split(",")]
    results: Results = {}
    faults: list[str] = []
    for name in chosen:
        found: dict[str, Facts] = {}
        for server in servers:
            began = time.monotonic()
            with tempfile.TemporaryDirectory(prefix="wsgicluster-real-", ignore_cleanup_errors=True) as folder:
                try:
                    found[server.name] = facts_of(name, cache, server, pathlib.Path(folder))
                except Missing as error:
                    print(f"{name}: LEFT OUT, needs {error}", file=sys.stderr)
                    break
                faults += [f"{name} on {server.name}: {line}" for line in faults_logged(pathlib.Path(folder))]
            print(f"{name} on {server.name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
            for fact, value in found[server.name].items():
                print(f"    {fact}: {value}", file=sys.stderr, flush=True)
        else:
            results[name] = found
    print(table(results, servers))
    print("\n".join(["What differs", "", *differences(results, servers)]))
    print("\n".join(["", "Workers that died or hung", "", *(faults or ["none"])]))
    return int(any("wsgicluster" in fault for fault in faults))


if __name__ == "__main__":
    sys.exit(main())
