"""What a load costs on Amazon SQS: requests, dollars, and how far it is from the quotas. Formulas only."""

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
_HOLD: Final = 3.0
"""The heartbeat extends a lease at a third of it."""
_CHUNK: Final = 65_536
_NAIVE_POLL: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Work that comes in over a month: so many entities of so many tasks of so many seconds each.

    `workers` have `concurrency` tasks at once each. `bytes` are one message's. `failures` is the share of runs that
    fail and are tried again. `active` is the share of the month in which there is work.
    """

    entities: int
    tasks: int
    seconds: float
    workers: int = 1
    concurrency: int = 10
    bytes: int = 1_000
    failures: float = 0.0
    active: float = 1.0
    lease: float = 60.0

    def __post_init__(self) -> None:
        for name, low in (("entities", 1), ("tasks", 1), ("workers", 1), ("concurrency", 1), ("bytes", 1)):
            if getattr(self, name) < low:
                raise ConfigurationError(f"{name}={getattr(self, name)}: at least {low}")
        if not (self.seconds >= 0 and 0 <= self.failures < 1 and 0 < self.active <= 1 and self.lease > 0):
            raise ConfigurationError(
                f"seconds={self.seconds}, failures={self.failures}, active={self.active}, lease={self.lease}: seconds "
                "are at least 0, failures from 0 to below 1, active above 0 to 1, the lease above 0"
            )

    @property
    def messages(self) -> int:
        """Messages of the month, without the folds."""
        return self.entities * self.tasks

    @property
    def runs(self) -> float:
        """Runs, with those that failed."""
        return self.messages / (1 - self.failures)


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """Billed requests of a month by kind. `saturated`: the workers always find ten messages and settle ten together."""

    send: float
    receive: float
    delete: float
    change: float
    empty: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.send + self.receive + self.delete + self.change + self.empty


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How a load stands to the limits. `utilization` is of the slots; `calls` a second are of the busiest action."""

    slots_needed: int
    workers_needed: int
    utilization: float
    drain_seconds: float
    in_flight: int
    in_flight_limit: int
    calls: float
    quota: int
    partitions: int


def requests(load: Load, *, batch: int = limits.MAX_BATCH_ENTRIES) -> Requests:
    """Requests with messages in batches: a fan-out's in tens, and receives and deletes as a busy worker makes them."""
    folds = load.entities
    sends = load.entities * _requests_of(load.tasks, load.bytes, batch) + folds
    received = (load.runs + folds) / batch * max(1, math.ceil(batch * load.bytes / _CHUNK))
    extensions = load.runs * max(0.0, load.seconds - load.lease / _HOLD) // (load.lease / _HOLD) / batch
    retries = (load.runs - load.messages) / batch
    return Requests(
        send=sends,
        receive=received,
        delete=(load.messages + folds) / batch,
        change=extensions + retries,
        empty=_empty(load, limits.MAX_WAIT, polls=1),
    )


def naive(load: Load) -> Requests:
    """The same by a loop that sends, receives and deletes one message a request, and polls every 5 seconds."""
    chunks = max(1, math.ceil(load.bytes / _CHUNK))
    return Requests(
        send=load.messages * chunks,
        receive=load.runs * chunks,
        delete=load.messages,
        change=0.0,
        empty=_empty(load, _NAIVE_POLL, polls=load.concurrency),
    )


def dollars(made: Requests, *, region: str = "us-east-1", kind: str = "fifo") -> float:
    """A month's price. Regions that aren't in the table are reckoned as us-east-1."""
    prices = table()["prices"]
    price = prices["regions"].get(region, prices["regions"]["us-east-1"])[kind]
    return float(max(0.0, made.total - prices["free_requests"]) / 1_000_000 * price)


def fit(load: Load, *, region: str = "us-east-1", high_throughput: bool = True, peak: float = 1.0) -> Fit:
    """How a load stands to slots, quotas and partitions, where arrivals come `peak` times as fast as on average.

    Little's law: the slots that are busy on average are arrivals a second times seconds a task.
    """
    quotas = table()["quotas"]
    arrivals = load.runs / (MONTH * load.active) * peak
    busy, slots = arrivals * load.seconds, load.workers * load.concurrency
    calls = arrivals / limits.MAX_BATCH_ENTRIES
    quota = quotas["regions"].get(region, quotas["least"]) if high_throughput else quotas["plain"]
    needed = max(1, math.ceil(busy / 0.8))  # above 80 % busy, waiting grows faster than work
    return Fit(
        slots_needed=needed,
        workers_needed=math.ceil(needed / load.concurrency),
        utilization=busy / slots,
        drain_seconds=load.runs * load.seconds / slots,
        in_flight=min(slots, math.ceil(busy)),
        in_flight_limit=quotas["in_flight"],
        calls=calls,
        quota=quota,
        partitions=max(1, math.ceil(calls / quotas["partition"])),
    )


def table() -> Mapping[str, Any]:
    """Prices and quotas with their dates and sources."""
    decoded: Mapping[str, Any] = msgspec.json.decode((files("fanfold.deploy") / "prices.json").read_bytes())
    return decoded


def _requests_of(messages: int, size: int, batch: int) -> float:
    """Billed requests to send so many messages: a batch of ten is one, and one more for each further 64 KB."""
    whole, rest = divmod(messages, batch)
    return whole * max(1, math.ceil(batch * size / _CHUNK)) + (max(1, math.ceil(rest * size / _CHUNK)) if rest else 0)


def _empty(load: Load, wait: float, *, polls: int) -> float:
    """Empty receives: an idle worker has `polls` of them under way, each for `wait` seconds."""
    busy = min(1.0, load.runs * load.seconds / (load.workers * load.concurrency * MONTH))
    return load.workers * polls * MONTH * (1 - max(busy, 0.0)) / wait
