"""How a load stands to workers, quotas and limits. Formulas only; `simulation` checks them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from fanfold.deploy.cost import company, received_together
from fanfold.deploy.load import Load, table

_BUSY_AT_MOST: Final = 0.8
"""Above that share, waiting grows faster than work (`expected_wait`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How a load stands to the limits, in its busiest hour.

    `slots_needed` and `workers_needed` keep a fifth of the slots free. `utilization` is of the slots there are; at 1
    and above, work piles up. `drain_seconds`: to work off a month's tasks that are there at once. `wait_seconds`: from
    a task's arrival to its start, on average (infinite where work piles up). `calls` a second are of the busiest
    action, `quota` is that action's, `partitions` those that the queue needs.
    """

    slots_needed: int
    workers_needed: int
    utilization: float
    wait_seconds: float
    drain_seconds: float
    in_flight: int
    in_flight_limit: int
    calls: float
    quota: int
    partitions: int

    @property
    def problems(self) -> list[str]:
        """What doesn't fit, and what would."""
        found = []
        if self.utilization >= 1:
            found.append(f"work piles up: {self.workers_needed:,} workers would do it")
        if self.in_flight >= self.in_flight_limit:
            found.append(
                f"{self.in_flight:,} messages in flight, SQS allows {self.in_flight_limit:,} of a queue: use several"
            )
        if self.calls > self.quota:
            found.append(f"{self.calls:,.0f} calls a second, the quota is {self.quota:,}: high throughput, or ask AWS")
        return found


def fit(load: Load, *, region: str = "us-east-1", high_throughput: bool = True, times: float = 1.0) -> Fit:
    """How a load stands, where it comes `times` as fast as it says.

    Little's law: the slots that are busy on average are arrivals a second times seconds a task.
    """
    quotas = table()["quotas"]
    arrivals = load.busiest * times
    busy = arrivals * load.seconds
    needed = max(1, math.ceil(busy / _BUSY_AT_MOST))
    calls = arrivals / min(received_together(load), company(min(arrivals, load.slots / load.seconds) / load.workers))
    quota = quotas["regions"].get(region, quotas["least"]) if high_throughput else quotas["plain"]
    return Fit(
        slots_needed=needed,
        workers_needed=math.ceil(needed / load.concurrency),
        utilization=busy / load.slots,
        wait_seconds=expected_wait(arrivals, load.seconds, load.slots),
        drain_seconds=load.runs * load.seconds / load.slots,
        in_flight=math.ceil(min(load.slots, busy)),
        in_flight_limit=quotas["in_flight"],
        calls=calls,
        quota=quota,
        partitions=max(1, math.ceil(calls / quotas["partition"])),
    )


def expected_wait(rate: float, seconds: float, slots: int) -> float:
    """Seconds that a task waits for a slot on average: Erlang's C, for random arrivals and run times (M/M/c).

    Infinite where more comes in than can be done.
    """
    busy = rate * seconds
    if busy >= slots:
        return math.inf
    blocked = 1.0  # Erlang's B, slot by slot: no factorials, so no overflow
    for slot in range(1, slots + 1):
        blocked = busy * blocked / (slot + busy * blocked)
    waits = blocked / (1 - busy / slots * (1 - blocked))
    return waits * seconds / (slots - busy)
