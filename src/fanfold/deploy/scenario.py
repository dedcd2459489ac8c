"""What is simulated, and how it went: values."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field, replace
from typing import Final

from fanfold.deploy.load import Load
from fanfold.errors import ConfigurationError
from fanfold.retry import Backoff

_DAY: Final = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What comes in, and who works on it. Times are seconds.

    `rate` tasks a second come at random, `fan_out` of them together; 0: all are there at the start. `daily`: they come
    as in a day, most at noon and none at midnight, `rate` on average. A run takes `seconds`, or, `random_times`, so
    long on average and exponentially distributed. During `outage` (from, to) the region is away: nothing is sent,
    received or settled. In `poisoned` (from, to) each run fails: a bad deployment. Failed runs come back after
    `backoff`, `attempts` runs in all; then the task is dead.

    `linger`, `round_trip` and `poll` are how a Fanfold worker talks to SQS: seconds that it waits for company, that a
    request takes, and that an empty receive takes.
    """

    tasks: int
    seconds: float
    workers: int = 1
    concurrency: int = 10
    rate: float = 0.0
    fan_out: int = 1
    daily: bool = False
    random_times: bool = True
    failures: float = 0.0
    attempts: int = 5
    backoff: Backoff = field(default_factory=Backoff)
    outage: tuple[float, float] | None = None
    poisoned: tuple[float, float] | None = None
    linger: float = 0.02
    round_trip: float = 0.01
    poll: float = 20.0
    in_flight_limit: int = 120_000
    seed: int = 1

    def __post_init__(self) -> None:
        if min(self.tasks, self.workers, self.concurrency, self.fan_out, self.attempts, self.in_flight_limit) < 1:
            raise ConfigurationError(
                f"tasks={self.tasks}, workers={self.workers}, concurrency={self.concurrency}, fan_out={self.fan_out}, "
                f"attempts={self.attempts}, in_flight_limit={self.in_flight_limit}: each is at least 1"
            )
        if not (0 < self.seconds < math.inf and 0 <= self.rate < math.inf and 0 <= self.failures <= 1):
            raise ConfigurationError(
                f"seconds={self.seconds}, rate={self.rate}, failures={self.failures}: seconds are above 0, the rate is "
                "at least 0, failures are a share from 0 to 1"
            )

    @property
    def slots(self) -> int:
        """Tasks at once."""
        return self.workers * self.concurrency

    def run_time(self, rng: random.Random) -> float:
        """Seconds that a run takes."""
        return rng.expovariate(1 / self.seconds) if self.random_times else self.seconds

    @property
    def drawn(self) -> float:
        """Fan-outs a second that are drawn; of them, `share` come."""
        return self.rate / self.fan_out * (2 if self.daily else 1)

    def share(self, now: float) -> float:
        """The share of what is drawn that comes at this time of the day."""
        return (1 - math.cos(math.tau * now / _DAY)) / 2 if self.daily else 1.0


@dataclass(slots=True)
class Course:
    """How it went: seconds from the first arrival to the last end, waits from arrival to a first start.

    `receives`, `empty`, `deletes` and `changes` are requests.
    """

    done: int = 0
    dead: int = 0
    runs: int = 0
    seconds: float = 0.0
    busy: float = 0.0
    waited: float = 0.0
    longest_wait: float = 0.0
    most_waiting: int = 0
    most_in_flight: int = 0
    receives: int = 0
    empty: int = 0
    deletes: int = 0
    changes: int = 0

    @property
    def mean_wait(self) -> float:
        """Seconds from arrival to the first start, on average."""
        return self.waited / max(1, self.done + self.dead)

    def utilization(self, slots: int) -> float:
        """The share of its slots' time in which there was work."""
        return self.busy / (slots * self.seconds) if self.seconds else 0.0


def scenarios(load: Load, tasks: int) -> dict[str, Scenario]:
    """A load as it is planned, and what may become of it, each with so many tasks."""
    rate = load.busiest
    base = Scenario(
        tasks=tasks,
        seconds=load.seconds,
        workers=load.workers,
        concurrency=load.concurrency,
        rate=rate,
        fan_out=load.tasks,
        failures=load.failures,
    )
    length = tasks / rate
    trouble = (length * 0.2, length * 0.3)
    return {
        "as planned": base,
        "10 times the load": replace(base, rate=10 * rate),
        "100 times the load": replace(base, rate=100 * rate),
        f"the region is away for {length * 0.1:,.0f} s": replace(base, outage=trouble),
        f"every run fails for {length * 0.1:,.0f} s": replace(base, poisoned=trouble),
    }
