"""Random faults under load: ``python benchmarks/chaos.py --seconds 300 --seed 1 --kind gthread``.

Starts a server in a folder of its own, kills and stops its processes, breaks and mends its application, sends storms of
signals, hangs and bloats its workers, all from a seed, and then checks whether anything is left that should not be: a
lost request that no death explains, a death without a record, a zombie, a descriptor, a temp file. Exit code 1 when so.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.conftest import LiveServer  # noqa: E402
from tests.live.chaos import ARGUMENTS, KINDS, Chaos  # noqa: E402


def once(kind: str, seed: int, seconds: float) -> list[str]:
    """One run; what should not have been."""
    with tempfile.TemporaryDirectory(prefix="wsgicluster-chaos-") as name:
        folder = Path(name)
        temporary = folder / "temporary"
        temporary.mkdir()
        (folder / "app.py").write_text(Chaos.source(1))
        arguments = ["-b", "127.0.0.1:0", *ARGUMENTS, *KINDS[kind]]
        live = LiveServer(folder, arguments, {"TMPDIR": str(temporary)}).start().wait_listening()
        try:
            chaos = Chaos(live, kind, seed, temporary)
            chaos.run(seconds)
            chaos.end()
        finally:
            live.end()
        print(f"{kind}, seed {seed}, {seconds:g} s: {chaos.summary()}", flush=True)
        if chaos.complaints:
            kept = Path(tempfile.gettempdir()) / f"wsgicluster-chaos-{kind}-{seed}.log"
            kept.write_text(live.log())
            print(f"the server's log: {kept}")
        return chaos.complaints


def main() -> int:
    """Run, and say what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0, help="of faults (default: 300)")
    parser.add_argument("--seed", type=int, default=1, help="of the sequence of faults (default: 1)")
    parser.add_argument("--kind", choices=[*KINDS, "all"], default="all", help="of workers (default: all, in turn)")
    options = parser.parse_args()
    failed = 0
    for kind in KINDS if options.kind == "all" else [options.kind]:
        for complaint in once(kind, options.seed, options.seconds):
            failed = 1
            print(f"  {complaint}", file=sys.stderr)
    return failed


if __name__ == "__main__":
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    sys.exit(main())
