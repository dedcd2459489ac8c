"""What a source has done so far, in numbers, and what it says about trouble."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fanfold.clock import Clock
from fanfold.sources.record import Record
from fanfold.telemetry import Telemetry

_QUIET: Final = 5.0
"""Seconds between two words about trouble: while the queue is away, every record in flight meets it."""


@dataclass(slots=True)
class Tally:
    """Counts since the start, by what became of the records; `waiting` is how many wait for their next try now."""

    read: int = 0
    enqueued: int = 0
    nothing: int = 0
    poison: int = 0
    waiting: int = 0


class Trouble:
    """Says what keeps records from being enqueued: the first time at once, then every few seconds while it lasts."""

    def __init__(self, telemetry: Telemetry, clock: Clock, tally: Tally) -> None:
        self._telemetry = telemetry
        self._clock = clock
        self._tally = tally
        self._said_at = float("-inf")

    def planned_before(self, record: Record, error: object) -> None:
        """A record was enqueued before, by a planner that wanted other tasks; those stand."""
        self._telemetry.emit("kafka.planned_before", record=record.place, reason=str(error))

    def met(self, record: Record, error: object, attempt: int) -> None:
        """A record's try number `attempt` failed, and there will be another."""
        now = self._clock.now()
        if abs(now - self._said_at) >= _QUIET:
            self._said_at = now
            self._telemetry.emit(
                "kafka.waiting",
                record=record.place,
                attempt=attempt,
                records=self._tally.waiting + 1,
                reason=str(error) or repr(error),
            )
