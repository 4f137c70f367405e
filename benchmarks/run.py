"""Compare servers side by side: ``python benchmarks/run.py``.

Installs the peers, runs every scenario in rounds (all servers, then all again, so that
a noisy minute meets each of them), and writes a table, a chart and the figures as JSON.
What counts is processor time for each request; throughput is bounded by the load
generator on machines with few cores. With ``--lean``, the figures of lean.py are among the
results, in a table of their own.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import lean
import report
import servers
from applications import FILE
from measure import Sample, free_port, running, sample
from scenarios import SCENARIOS


def medians(samples: list[Sample]) -> dict[str, float | str]:
    """The median of each figure, and what went wrong in any round."""
    found: dict[str, float | str] = {"errors": "; ".join(sorted({item.errors for item in samples if item.errors}))}
    for field in ("processor_us", "requests_s", "p99_ms", "memory_mib"):
        found[field] = statistics.median(getattr(item, field) for item in samples)
    return found


def measure(scenario_name: str, server_name: str, seconds: float, folder: Path) -> Sample | None:
    """One round of one server."""
    scenario = SCENARIOS[scenario_name]
    port = free_port()
    command = servers.COMMANDS[server_name](scenario.application, port)
    with running(command, servers.environment(server_name), port, folder) as pid:
        if pid is None:
            return None
        return sample(pid, port, seconds, scenario.connections, scenario.script(folder))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", default=",".join(SCENARIOS), help="comma-separated (default: all)")
    parser.add_argument("--servers", default=",".join(servers.COMMANDS), help="comma-separated (default: all)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of load in each round (default: 3)")
    parser.add_argument("--reference", default="sync", help="the server that ratios refer to (default: sync)")
    parser.add_argument("--lean", action="store_true", help="measure memory, start and respawn beside Gunicorn, too")
    parser.add_argument("--out", type=Path, default=Path("benchmark-results"), help="folder for the results")
    return parser.parse_args()


def main() -> int:
    """Run the comparison; 1 when a server of ours did not answer."""
    options = arguments()
    for program in ("wrk", "taskset"):
        if shutil.which(program) is None:
            print(f"{program} is needed: apt-get install wrk util-linux", file=sys.stderr)
            return 2
    servers.install()
    if not os.path.exists(FILE):
        Path(FILE).write_bytes(os.urandom(10 << 20))
    results: dict[str, dict[str, dict[str, float | str]]] = {}
    missing = []
    with tempfile.TemporaryDirectory(prefix="wsgicluster-benchmark-") as name:
        for scenario in options.scenarios.split(","):
            found: dict[str, list[Sample]] = {server: [] for server in options.servers.split(",")}
            for _ in range(options.rounds):
                for server, samples in found.items():
                    one = measure(scenario, server, options.seconds, Path(name))
                    if one is not None:
                        samples.append(one)
            results[scenario] = {server: medians(samples) for server, samples in found.items() if samples}
            missing += [f"{scenario}/{server}" for server, samples in found.items() if not samples]
            for server, figures in results[scenario].items():
                print(f"{scenario:12s} {server:18s} {figures['processor_us']:10.2f} us/request"
                      f"  {figures['requests_s']:10.1f} requests/s  {figures['errors']}", flush=True)  # fmt: skip
    write(options, results)
    if options.lean:
        figures = lean.measure(options.rounds, [4, 16])
        (options.out / "lean.json").write_text(json.dumps(figures, indent=1) + "\n")
        (options.out / "lean-table.rst").write_text(report.lean_table(figures))
    if missing:
        print("did not answer:", ", ".join(missing), file=sys.stderr)
    return int(any(name.rpartition("/")[2].startswith("sync") for name in missing))


def write(options: argparse.Namespace, results: dict[str, dict[str, dict[str, float | str]]]) -> None:
    """The table, the chart and the figures."""
    options.out.mkdir(parents=True, exist_ok=True)
    facts = {"python": platform.python_version(), "machine": platform.machine(), "kernel": platform.release()}
    shape = {"rounds": options.rounds, "seconds": options.seconds}
    document = {"machine": facts, "shape": shape, "versions": servers.versions(), "results": results}
    (options.out / "results.json").write_text(json.dumps(document, indent=1) + "\n")
    plain = {name: {server: dict(figures) for server, figures in found.items()} for name, found in results.items()}
    (options.out / "table.rst").write_text(report.table(plain, options.reference))
    for scenario in results:
        try:
            report.chart(plain, scenario, options.out / f"{scenario}.svg")
        except ImportError:
            print("no chart: matplotlib is not installed", file=sys.stderr)
            return


if __name__ == "__main__":
    sys.exit(main())
