"""How far a source is, as its consumer saw it last: for telemetry."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from fanfold.sources.assignment import Assignment, Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A look at a consumer. Times are of `time.monotonic`."""

    polled_at: float = field(default_factory=time.monotonic)
    in_flight: int = 0
    bytes: int = 0
    oldest: float = 0.0
    """Seconds that the record that is in flight for longest has been so."""
    paused: int = 0
    committed: int = 0
    """Records below committed offsets, since the start."""
    lag: Mapping[Place, int] = field(default_factory=dict)
    """By partition: records that aren't safe yet, whether in flight or not read."""


def look(books: Assignment, ends: Mapping[Place, int], *, committed: int, now: float) -> Standing:
    """The standing by the books and the `ends` of the partitions' logs (the offset that comes next)."""
    oldest = books.oldest()
    return Standing(
        polled_at=now,
        in_flight=books.unsettled(),
        bytes=books.bytes,
        oldest=now - oldest.received_at if oldest is not None else 0.0,
        paused=len(books.paused),
        committed=committed,
        lag={place: _lag(books.next_needed(place), end) for place, end in ends.items()},
    )


def _lag(needed: int | None, end: int) -> int:
    # Where nothing was received, nothing waits: what waits is received at once.
    return max(0, end - needed) if needed is not None else 0
