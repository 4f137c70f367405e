"""Three hosts behind HAProxy, with Redis, on this machine: what is lost when they are replaced, cut off or killed.

    sudo .venv/bin/python -m examples.three_hosts

Each host is a network namespace. Nothing is left of them at the end, or after Ctrl+C. Exit code 1 if a request was lost
that need not have been, or the periodic job ran twice; 2 if this machine lacks something.
"""

import argparse
import signal
import sys

from examples.three_hosts.drill import Plan, run_drill
from examples.three_hosts.network import NotPossible
from examples.three_hosts.services import NotInTime


def main() -> int:
    """Run the drill, print its figures, judge."""
    parser = argparse.ArgumentParser(prog="three_hosts", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pause", type=float, default=3.0, help="seconds that each state lasts (default: 3)")
    options = parser.parse_args()
    # Like Ctrl+C, so that all is cleared up.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        outcome = run_drill(Plan(options.pause), lambda text: print(text, flush=True))
    except NotPossible as error:
        print(f"three_hosts: {error}", file=sys.stderr)
        return 2
    except NotInTime as error:
        print(f"three_hosts: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("three_hosts: interrupted; all is cleared up", file=sys.stderr)
        return 130
    print(f"the periodic job, once a second in the whole cluster\n    {outcome.runs.text()}")
    for fault in outcome.faults():
        print(f"three_hosts: {fault}", file=sys.stderr)
    return int(bool(outcome.faults()))


if __name__ == "__main__":
    sys.exit(main())
