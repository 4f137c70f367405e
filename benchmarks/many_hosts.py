"""What a thousand hosts would do, by simulation: weights of the agent-check, a periodic job, a broadcast.

    python benchmarks/many_hosts.py [--hosts 1000] [--seed 1]

Nothing runs but this process. Decisions are the server's own (weights, ticks, how often processes look); requests,
HAProxy and Redis are models, whose constants were measured on one machine and are at the top. The same seed gives the
same figures.
"""

import argparse
import bisect
import collections
import dataclasses
import heapq
import itertools
import math
import random
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from wsgicluster.admin.agent_line import weight_of  # noqa: E402
from wsgicluster.cluster.messages.bridge import LOOK_S, REGISTER_S  # noqa: E402
from wsgicluster.cluster.redis.leases import LEASE_S  # noqa: E402
from wsgicluster.cluster.state.schedule import (  # noqa: E402
    ASK_AGAIN_S,
    LONGEST_POLL_S,
    SHORTEST_POLL_S,
    following,
)

COMMAND_S = 10e-6
"""What a small command costs Redis, receipt and response included: it serves 100,000 a second."""
TRIP_S = 0.5e-3
"""To Redis and back."""
MAIL_S = 3.5e-6
"""What a broadcast costs Redis for each host: two commands of its script."""

THREADS = 8
SERVICE_S = 0.25
SLOW_SHARE, SLOW_FACTOR = 0.1, 2.0
"""One host in ten is half as fast as the others."""
CHECK_S = 1.0
"""The time from one agent-check of a host to the next."""
SETTLED_S = 5.0
"""What comes before is not counted: all weights are the same at first."""


def percentile(values: list[float], share: float) -> float:
    """The value that this share of all is not above; 0.0 without any."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


# -- Weights


def no_weight(load: float) -> int:
    """Without the agent-check."""
    return 100


def half_weight(load: float) -> int:
    """As the server has it: load takes up to one half."""
    return weight_of(1.0, load)


def whole_weight(load: float) -> int:
    """What a server would say that lets load take all of it."""
    return max(1, round(100 * (1 - min(1.0, load))))


@dataclasses.dataclass
class Host:
    """One host: when each of its threads is free, its requests in progress or waiting, and what it has said last."""

    slowness: float
    free_at: list[float]
    open: int = 0
    busy_s: float = 0.0
    weight: int = 100


@dataclasses.dataclass(frozen=True)
class Balance:
    """How well requests were spread; waits in seconds, ``swing`` is the mean change of a weight between two checks."""

    wait_p99_s: float
    waited: float
    load: float
    slow_load: float
    swing: float

    def text(self) -> str:
        """One line for people."""
        return (
            f"busy: fast hosts {self.load:.0%}, slow ones {self.slow_load:.0%}; {self.waited:.1%} of the requests wait "
            f"for a thread, 1 in 100 for {self.wait_p99_s:.2f} s or more; a weight changes by {self.swing:.1f} a check"
        )


class Balancing:
    """HAProxy in front of the hosts: ``balance roundrobin`` by weight, or ``leastconn``."""

    def __init__(self, hosts: int, weigh: Callable[[float], int], least: bool, seed: int) -> None:
        self._luck = random.Random(seed)
        self._hosts = [
            Host(SLOW_FACTOR if number < hosts * SLOW_SHARE else 1.0, [0.0] * THREADS) for number in range(hosts)
        ]
        self._weigh = weigh
        self._least = least
        self._ends: list[tuple[float, int, float]] = []
        self._fewest = [(0.0, number) for number in range(hosts)]
        self._bounds = list(itertools.accumulate(host.weight for host in self._hosts))
        self._changes: list[int] = []
        self._waits: list[float] = []

    def run(self, seconds: float, use: float) -> Balance:
        """Requests come at ``use`` of what all hosts could serve; each host is asked once in `CHECK_S`."""
        rate = use * sum(THREADS / (SERVICE_S * host.slowness) for host in self._hosts)
        checks = [(self._luck.uniform(0, CHECK_S), number) for number in range(len(self._hosts))]
        heapq.heapify(checks)
        now, count, next_bounds = 0.0, 0, 0.0
        busy_s = [0.0, 0.0]
        while now < seconds:
            now += self._luck.expovariate(rate)
            count += 1
            for ended, number, took_s in self._ended(now):
                self._hosts[number].open -= 1
                self._hosts[number].busy_s += took_s
                if ended > SETTLED_S:
                    busy_s[self._hosts[number].slowness > 1] += took_s
                self._note(number)
            while checks[0][0] <= now:
                at, number = heapq.heapreplace(checks, (checks[0][0] + CHECK_S, checks[0][1]))
                self._check(number, at)
            if now >= next_bounds:
                self._bounds = list(itertools.accumulate(host.weight for host in self._hosts))
                next_bounds = now + CHECK_S / 20
            self._take(self._choose(count), now)
        slow = sum(host.slowness > 1 for host in self._hosts)
        threads_s = THREADS * (seconds - SETTLED_S)
        return Balance(
            percentile(self._waits, 0.99),
            sum(wait > 0 for wait in self._waits) / len(self._waits),
            busy_s[0] / (threads_s * (len(self._hosts) - slow)),
            busy_s[1] / (threads_s * slow),
            sum(self._changes) / len(self._changes),
        )

    def _ended(self, now: float) -> list[tuple[float, int, float]]:
        found = []
        while self._ends and self._ends[0][0] <= now:
            found.append(heapq.heappop(self._ends))
        return found

    def _check(self, number: int, at: float) -> None:
        host = self._hosts[number]
        weight = self._weigh(host.busy_s / CHECK_S / THREADS)
        if at > SETTLED_S:
            self._changes.append(abs(weight - host.weight))
        host.weight, host.busy_s = weight, 0.0
        self._note(number)

    def _note(self, number: int) -> None:
        if self._least:
            heapq.heappush(self._fewest, (self._crowd(number), number))

    def _crowd(self, number: int) -> float:
        return self._hosts[number].open / self._hosts[number].weight

    def _choose(self, count: int) -> int:
        if not self._least:
            # By the golden ratio hosts get their shares evenly in time, as by a rotation that heeds weights.
            return bisect.bisect(self._bounds, count * 0.6180339887498949 % 1 * self._bounds[-1])
        while self._fewest[0][0] != self._crowd(self._fewest[0][1]):
            heapq.heappop(self._fewest)  # it has changed since, and is in there anew
        return self._fewest[0][1]

    def _take(self, number: int, now: float) -> None:
        host = self._hosts[number]
        took_s = self._luck.expovariate(1 / (SERVICE_S * host.slowness))
        began = max(now, host.free_at[0])
        heapq.heapreplace(host.free_at, began + took_s)
        heapq.heappush(self._ends, (began + took_s, number, took_s))
        host.open += 1
        self._note(number)
        if now > SETTLED_S:
            self._waits.append(began - now)


def late_requests(hosts: int, drain_delay_s: float, rate: float, seed: int) -> float:
    """How many requests a host that stops is sent after it has closed, on average over all hosts.

    HAProxy learns of the stop at the host's next check, and sends ``rate`` requests a second until then.
    """
    luck = random.Random(seed)
    return sum(rate * max(0.0, luck.uniform(0, CHECK_S) - drain_delay_s) for _ in range(hosts)) / hosts


# -- A periodic job


@dataclasses.dataclass(frozen=True)
class Ticks:
    """What a periodic job did, and what it cost Redis; ``peak`` is the most commands within a tenth of a second."""

    runs: int
    most_of_a_tick: int
    missed: int
    latest_s: float
    commands_per_s: float
    peak: int
    slowest_s: float

    def text(self) -> str:
        """One line for people."""
        return (
            f"{self.runs} runs, at most {self.most_of_a_tick} of a tick, {self.missed} ticks without one; the latest "
            f"{self.latest_s:.2f} s late; Redis: {self.commands_per_s:,.0f} commands a second, at most {self.peak:,} "
            f"in a tenth of one, for which a process waits {self.slowest_s * 1000:.0f} ms at most"
        )


class Job:
    """All processes that look at one job, in one Redis; ``ask_again_s`` is how soon they look again."""

    def __init__(self, processes: int, seconds: float, ask_again_s: float, seed: int) -> None:
        self._luck = random.Random(seed)
        self._processes = processes
        self._seconds = seconds
        self._ask_again_s = ask_again_s
        self._poll_s = min(LONGEST_POLL_S, max(SHORTEST_POLL_S, seconds / 10))
        self._redis_free_at = 0.0
        self._tick = seconds
        self._locked_until = 0.0
        self._commands: collections.Counter[int] = collections.Counter()
        self._slowest_s = 0.0
        self._runs: collections.Counter[int] = collections.Counter()
        self._latest_s = 0.0

    def run(self, lasting_s: float, run_s: float, death_share: float) -> Ticks:
        """In ``death_share`` of the runs the host dies that has begun it, and its lock ends with its lease."""
        turns = [(self._luck.uniform(0, self._ask_again_s), number) for number in range(self._processes)]
        heapq.heapify(turns)
        while turns[0][0] < lasting_s:
            at, number = heapq.heappop(turns)
            heapq.heappush(turns, (self._turn(at, run_s, death_share), number))
        ticks = math.ceil(lasting_s / self._seconds) - 1
        total = sum(self._commands.values())
        return Ticks(
            sum(self._runs.values()),
            max(self._runs.values()),
            ticks - sum(tick <= ticks for tick in self._runs),
            self._latest_s,
            total / lasting_s,
            max(self._commands.values()),
            self._slowest_s,
        )

    def _ask(self, at: float, commands: int) -> float:
        """Have Redis do commands one after another; when the last response is there."""
        self._redis_free_at = max(self._redis_free_at, at + TRIP_S / 2) + commands * COMMAND_S
        self._commands[int(at * 10)] += commands
        ended = self._redis_free_at + commands * TRIP_S - TRIP_S / 2
        self._slowest_s = max(self._slowest_s, ended - at)
        return ended

    def _turn(self, at: float, run_s: float, death_share: float) -> float:
        """What a process does when it looks; when it looks again."""
        now = self._ask(at, 2)
        if self._tick > now:
            return now + min(self._tick - now, self._ask_again_s * self._luck.uniform(0.8, 1.0))
        now = self._ask(now, 1)
        if now < self._locked_until:
            return now + self._poll_s
        now = self._ask(now, 3)
        if self._tick > now:
            return self._ask(now, 1)  # another one has had it since
        self._runs[round(self._tick / self._seconds)] += 1
        self._latest_s = max(self._latest_s, now - self._tick)
        self._tick = following(self._tick, self._seconds, now)
        if self._luck.random() < death_share:
            self._locked_until = now + LEASE_S
            return math.inf
        self._locked_until = now + run_s
        self._commands[int(self._locked_until * 10)] += 1  # it releases the lock
        return self._locked_until


# -- A broadcast


def broadcast_figures(hosts: int) -> str:
    """What Redis does for the bus."""
    script_s = hosts * MAIL_S
    idle = hosts * (1 / LOOK_S + 1 / REGISTER_S)
    # All hosts wait in BLPOP: each is written its message after the script, one after the other.
    last_s = TRIP_S + script_s + hosts * COMMAND_S
    return (
        f"a broadcast keeps Redis busy for {script_s * 1000:.1f} ms and has reached the last host after "
        f"{last_s * 1000:.0f} ms; {1 / (script_s + hosts * COMMAND_S):.0f} a second are its limit; without any "
        f"message hosts ask for {idle:,.0f} commands a second"
    )


def main() -> int:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=4, help="of each host (default: 4)")
    parser.add_argument("--seconds", type=float, default=25.0, help="of load (default: 25)")
    parser.add_argument("--use", type=float, default=0.75, help="of what all hosts could serve (default: 0.75)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(f"{options.hosts} hosts, one in ten half as fast, at {options.use:.0%} of what they could serve")
    weights = {
        "no weights": no_weight,
        "weights, load takes half": half_weight,
        "weights, load takes all": whole_weight,
    }
    for least, (name, weigh) in itertools.product((False, True), weights.items()):
        found = Balancing(options.hosts, weigh, least, options.seed).run(options.seconds, options.use)
        print(f"  {'leastconn' if least else 'roundrobin'}, {name}\n    {found.text()}")
    for delay_s in (0.0, 0.5, 1.0):
        late = late_requests(options.hosts, delay_s, THREADS / SERVICE_S * options.use, options.seed)
        print(f"  drain_delay {delay_s:g} s: {late:.1f} requests reach a host after it has closed")
    processes = options.hosts * options.workers
    for seconds in (1.0, 10.0, 60.0):
        job = Job(processes, seconds, ASK_AGAIN_S, options.seed)
        found_ticks = job.run(max(60.0, 5 * seconds), run_s=seconds / 10, death_share=0.2)
        print(f"  every({seconds:g}) in {processes:,} processes, one run in five ends with its host's death")
        print(f"    {found_ticks.text()}")
    print(f"  {broadcast_figures(options.hosts)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
