"""What it costs when hosts are updated, cut off or killed: the drill of ``examples/three_hosts``, again and again.

    sudo .venv/bin/python benchmarks/three_hosts.py [--rounds 5] [--pause 3]

Prints for each step the requests of all rounds, those that were lost, and the median and the worst of each wait. Exit
code 1 if a request was lost that need not have been, or the periodic job ran twice.
"""

import argparse
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from examples.three_hosts.drill import Outcome, Plan, Step, run_drill  # noqa: E402
from examples.three_hosts.figures import Figures, Runs  # noqa: E402
from examples.three_hosts.network import NotPossible  # noqa: E402
from examples.three_hosts.services import NotInTime  # noqa: E402


def summary(steps: Sequence[Step]) -> str:
    """One step in all rounds."""
    figures = [step.figures for step in steps]
    lost: Counter[tuple[str, str, str]] = sum((each.lost for each in figures), Counter())
    whole = Figures(
        sum(each.sent for each in figures),
        lost,
        sum(each.slow for each in figures),
        max(each.longest_s for each in figures),
    )
    lines = [steps[0].name, f"    {whole.text()}"]
    for what in steps[0].waits:
        waits = [step.waits[what] for step in steps]
        lines.append(f"    {what}: median {statistics.median(waits):.2f} s, worst {max(waits):.2f} s")
    return "\n".join(lines)


def report(outcomes: Sequence[Outcome]) -> str:
    """All rounds."""
    lines = [summary(steps) for steps in zip(*(outcome.steps for outcome in outcomes), strict=True)]
    runs = [outcome.runs for outcome in outcomes]
    whole = Runs(
        sum(each.count for each in runs),
        sum(each.twice for each in runs),
        sum(each.together for each in runs),
        max(each.longest_pause_s for each in runs),
    )
    lines.append(f"the periodic job\n    {whole.text()}")
    return "\n".join(lines)


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pause", type=float, default=3.0, help="seconds that each state lasts (default: 3)")
    options = parser.parse_args()
    outcomes = []
    try:
        for number in range(options.rounds):
            outcomes.append(run_drill(Plan(options.pause), lambda _: None))
            print(f"round {number + 1}: {'; '.join(outcomes[-1].faults()) or 'well'}", file=sys.stderr, flush=True)
    except (NotPossible, NotInTime) as error:
        print(f"three_hosts: {error}", file=sys.stderr)
        return 2 if isinstance(error, NotPossible) else 1
    print(report(outcomes))
    return int(any(outcome.faults() for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
