"""What a load costs on Amazon SQS: requests and dollars a month. Formulas only; `simulation` checks them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from fanfold import limits
from fanfold.deploy.load import MONTH, Load, table
from fanfold.deploy.prices import Prices

_CHUNK: Final = 65_536
_LINGER: Final = 0.02
"""Seconds that a worker waits for company before it receives or settles (`SqsBroker.linger`)."""
_LOOK: Final = 1 / 6
_EXTENSION: Final = 1 / 3
"""The heartbeat extends when a third of a lease is gone, and looks after it every sixth (`leases`)."""
_NAIVE_POLL: Final = 5.0
_WATCH: Final = 60.0 / 1.1
"""While fan-outs are open, the dead letter queue is counted once a minute and looked through in every tenth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """Billed requests of a month by what they are for."""

    send: float
    receive: float
    empty: float
    delete: float
    change: float
    watch: float = 0.0

    @property
    def total(self) -> float:
        """All of them."""
        return self.send + self.receive + self.empty + self.delete + self.change + self.watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """A month's dollars: SQS by requests, DynamoDB by units (0 and 0 without it)."""

    sqs: float
    ledger: float
    write_units: float
    read_units: float


def requests(load: Load) -> Requests:
    """Requests as Fanfold makes them.

    A fan-out is sent in tens, its completion alone. What ends within 20 ms is settled together, up to ten; so is what
    is received when there are few free slots, and with many, a fan-out comes in tens. An idle worker has one long poll.
    """
    folds = load.entities
    ends = company(_ends_a_second(load))
    received = (load.runs + folds) / received_together(load)
    return Requests(
        send=load.entities * _sends(load) + folds,
        receive=received * _chunks(received_together(load) * load.bytes),
        empty=load.workers * _empty(load, wait=limits.MAX_WAIT, events=load.arrivals / load.tasks),
        delete=(load.messages + folds) / ends,
        change=(load.runs - load.messages) / ends + _extensions(load),
        watch=MONTH * load.active / _WATCH,
    )


def naive(load: Load) -> Requests:
    """The same by loops, as many as slots, that send, receive and delete one message a request and poll 5 seconds."""
    chunks = _chunks(load.bytes)
    return Requests(
        send=load.messages * chunks,
        receive=load.runs * chunks,
        empty=load.slots * _empty(load, wait=_NAIVE_POLL, events=load.arrivals / load.slots),
        delete=load.messages,
        change=0.0,
    )


def company(rate: float) -> float:
    """How many of those that come at random, `rate` a second, go together: the first and who follows in 20 ms."""
    return min(float(limits.MAX_BATCH_ENTRIES), 1 + rate * _LINGER)


def received_together(load: Load) -> float:
    """Messages that a receive answers on average.

    An idle worker's long poll was made when one slot became free, so it brings one message; what finds more free slots
    comes in as many as they are, up to ten. The rest comes as slots become free.
    """
    free = max(0.0, 1 - load.utilization) * load.concurrency
    at_once = min(float(load.tasks), free * load.workers)
    first = min(float(load.workers), at_once)
    size = max(1.0, min(float(limits.MAX_BATCH_ENTRIES), free))
    later = (load.tasks - at_once) / company(load.concurrency / load.seconds)
    return min(float(limits.MAX_BATCH_ENTRIES), load.tasks / (first + (at_once - first) / size + later))


def bill(made: Requests, load: Load, prices: Prices, *, ledger: bool = False) -> Bill:
    """A month's price."""
    free, units = table()["prices"]["free_requests"], table()["ledger"]
    retries = load.runs - load.messages
    writes = load.messages * units["write_units_a_task"] + retries * units["write_units_a_retry"] if ledger else 0.0
    reads = load.runs * units["read_units_a_run"] if ledger else 0.0
    return Bill(
        sqs=max(0.0, made.total - free) / 1_000_000 * prices.fifo,
        ledger=(writes * prices.dynamodb_write + reads * prices.dynamodb_read) / 1_000_000,
        write_units=writes,
        read_units=reads,
    )


def _ends_a_second(load: Load) -> float:
    """Runs that end in one worker in a second, while it works."""
    return min(load.arrivals / load.workers, load.concurrency / load.seconds)


def _sends(load: Load) -> float:
    """Billed requests that send one fan-out: up to ten and 1 MiB are one, and one more for each further 64 KB."""
    batch = min(limits.MAX_BATCH_ENTRIES, limits.MAX_REQUEST_BYTES // load.bytes)
    whole, rest = divmod(load.tasks, batch)
    return whole * _chunks(batch * load.bytes) + (_chunks(rest * load.bytes) if rest else 0)


def _chunks(size: float) -> int:
    return max(1, math.ceil(size / _CHUNK))


def _extensions(load: Load) -> float:
    every = load.lease * (_EXTENSION + _LOOK / 2)
    due = min(load.utilization, 1.0) * load.concurrency * load.lease * _LOOK / every
    return load.runs * (load.seconds // every) / max(1.0, min(float(limits.MAX_BATCH_ENTRIES), due))


def _empty(load: Load, *, wait: float, events: float) -> float:
    """Empty receives of one poller in a month.

    A long poll ends empty where nothing comes within `wait` seconds. Of `events` that come at random, so many a
    second, e^-(events * wait) are that far from the one before.
    """
    silence = math.exp(-min(events * wait, 700.0))
    each_second = events * silence / (1 - silence) if silence < 1 else 1 / wait
    while_active = each_second if load.utilization < 1 else 0.0
    return MONTH * (load.active * while_active + (1 - load.active) / wait)
