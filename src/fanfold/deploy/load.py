"""A load to reckon with, and the table of prices and quotas: values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

import msgspec

from fanfold import limits
from fanfold.errors import ConfigurationError

MONTH: Final = 30 * 86_400.0
_MOST_SLOTS: Final = 1_000_000
_MOST_TASKS: Final = 10**12
"""Far beyond what one queue can do; what is beyond these is a slip of the keyboard."""
PATTERNS: Final = {"steady": 1.0, "daily": 2.0}
"""How the busiest moment compares with the average: spread evenly, or as a day has it (`Scenario.daily`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Work that comes in over a month of 30 days: so many entities of so many tasks of so many seconds each.

    `workers` have `concurrency` tasks at once each. `bytes` are one message's. `failures` is the share of runs that
    fail and are tried again. `active` is the share of the month in which work comes in, `pattern` how it comes then,
    and `peak` how much faster than on that pattern's average it comes in the busiest hour. `lease` is in seconds.
    """

    entities: int
    tasks: int
    seconds: float
    workers: int = 1
    concurrency: int = 10
    bytes: int = 1_000
    failures: float = 0.0
    active: float = 1.0
    pattern: str = "steady"
    peak: float = 1.0
    lease: float = 60.0

    def __post_init__(self) -> None:
        for name in ("entities", "tasks", "workers", "concurrency", "bytes"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name}={getattr(self, name)}: at least 1")
        self._check("bytes", self.bytes <= limits.MAX_REQUEST_BYTES, f"SQS takes {limits.MAX_REQUEST_BYTES:,} at most")
        held = f"SQS holds a message for {limits.MAX_VISIBILITY:,} s (12 hours) at most"
        self._check("seconds", 0 < self.seconds <= limits.MAX_VISIBILITY, f"above 0; a run's length on average; {held}")
        self._check("failures", 0 <= self.failures < 1, "from 0 to below 1: a share of the runs")
        self._check("active", 0 < self.active <= 1, "above 0, at most 1: a share of the month")
        self._check("peak", 1 <= self.peak < math.inf, "at least 1: the busiest hour in averages")
        self._check("lease", 0 < self.lease <= limits.MAX_VISIBILITY, f"seconds above 0; {held}")
        if self.slots > _MOST_SLOTS:
            raise ConfigurationError(
                f"workers={self.workers} and concurrency={self.concurrency} are {self.slots:,} slots: at most "
                f"{_MOST_SLOTS:,}; SQS hands out 120,000 messages of a queue at once"
            )
        if self.messages > _MOST_TASKS:
            raise ConfigurationError(
                f"entities={self.entities} and tasks={self.tasks} are {self.messages:.3g} tasks a month: at most "
                f"{_MOST_TASKS:,}"
            )
        self._check("pattern", self.pattern in PATTERNS, " or ".join(PATTERNS))

    def _check(self, name: str, holds: bool, rule: str) -> None:  # noqa: FBT001 - a check's answer
        if not holds:
            raise ConfigurationError(f"{name}={getattr(self, name)}: {rule}")

    @property
    def messages(self) -> int:
        """Tasks of the month."""
        return self.entities * self.tasks

    @property
    def runs(self) -> float:
        """Runs of the month, with those that fail."""
        return self.messages / (1 - self.failures)

    @property
    def slots(self) -> int:
        """Tasks at once."""
        return self.workers * self.concurrency

    @property
    def arrivals(self) -> float:
        """Runs a second that become due, on average while work comes in."""
        return self.runs / (MONTH * self.active)

    @property
    def busiest(self) -> float:
        """The same in the busiest hour."""
        return self.arrivals * PATTERNS[self.pattern] * self.peak

    @property
    def utilization(self) -> float:
        """The share of slots that are busy on average while work comes in (Little's law); above 1, work piles up."""
        return self.arrivals * self.seconds / self.slots


def table() -> Mapping[str, Any]:
    """Prices and quotas with their dates and sources."""
    decoded: Mapping[str, Any] = msgspec.json.decode((files("fanfold.deploy") / "prices.json").read_bytes())
    return decoded
