"""TLS sessions at several workers: how many connections resume theirs, and what a handshake costs the server.

    python benchmarks/resumption.py [--connections N] [--workers N]

Each connection makes one handshake and one small request. Processor time is that of the workers, user and system,
for each connection. The figures come last.
"""

import argparse
import contextlib
import dataclasses
import socket
import ssl
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.certificates import make_certificates  # noqa: E402
from tests.conftest import LiveServer  # noqa: E402
from tests.live.tls_client import TlsClient  # noqa: E402

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
KEYS = ("EC", "RSA")
ROUNDS = 5


@dataclasses.dataclass
class Cost:
    """What some connections have cost all workers together, and with how many of them they were."""

    connections: int = 0
    resumed: int = 0
    processor_s: float = 0.0
    workers: set[bytes] = dataclasses.field(default_factory=set)

    @property
    def each_us(self) -> float:
        return self.processor_s / self.connections * 1e6


def processor_s(live: LiveServer) -> float:
    """User and system time of all workers, as finely as the kernel knows it."""
    return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in live.children()) / 1e9


def connect(live: LiveServer, context: ssl.SSLContext, cost: Cost, count: int, resume: bool) -> None:
    """Make so many connections one after the other; those that resume do so with the session of another one."""
    with TlsClient(live.port, context) as client:
        client.exchange()
        session = client.tls.session if resume else None
    began = processor_s(live)
    for _ in range(count):
        with TlsClient(live.port, context, session=session) as client:
            # As clients do: else the request behind a handshake waits for what the server delays, its acknowledgement.
            client.tls.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            cost.workers.add(client.exchange().body.split()[1])
            cost.resumed += bool(client.tls.session_reused)
    cost.processor_s += processor_s(live) - began
    cost.connections += count


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=4)
    options = parser.parse_args()
    lines = []
    for algorithm in KEYS:
        with tempfile.TemporaryDirectory(prefix="wsgicluster-tls-") as name, contextlib.ExitStack() as owned:
            certificates = make_certificates(Path(name), algorithm)
            workers = ("-w", str(options.workers), "--scheduling", "round-robin")
            live = LiveServer(
                Path(name), ["-b", "127.0.0.1:0", "tests.apps.basic", *workers, *certificates.flags()], {}
            )
            owned.callback(live.end)
            live.start().wait_log("Started")
            for text, version in VERSIONS.items():
                context = certificates.client(version=version)
                whole, resumed = Cost(), Cost()
                for _ in range(ROUNDS):  # side by side: the machine may become busier meanwhile
                    connect(live, context, whole, options.connections // ROUNDS, resume=False)
                    connect(live, context, resumed, options.connections // ROUNDS, resume=True)
                lines.append(
                    f"TLS {text}, {algorithm} key: {resumed.resumed} of {resumed.connections} connections to "
                    f"{len(resumed.workers)} workers resumed ({resumed.resumed / resumed.connections:.0%}); "
                    f"processor time of the server {whole.each_us:.0f} us for a whole handshake with its request, "
                    f"{resumed.each_us:.0f} us for a resumed one ({resumed.each_us / whole.each_us:.2f})"
                )
    print(*lines, sep="\n")


if __name__ == "__main__":
    main()
