"""Backoff: how long a failed task waits, as a pure function of its attempt."""

from __future__ import annotations

import random
from dataclasses import dataclass

from fanfold import limits
from fanfold.errors import DeclarationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Exponential backoff with jitter, in seconds.

    The wait after attempt n lies between half of and the whole of `base * factor ** (n - 1)`, capped at `cap` ("equal
    jitter": it spreads tasks that failed together and still keeps a floor under the wait). At most 12 hours, since the
    wait is a visibility timeout.
    """

    base: float = 5.0
    factor: float = 2.0
    cap: float = 900.0

    def __post_init__(self) -> None:
        if not (self.base >= 0 and self.factor >= 1 and 0 <= self.cap <= limits.MAX_VISIBILITY):
            raise DeclarationError(
                f"{self}: base and cap are seconds from 0 to {limits.MAX_VISIBILITY:,} (12 h), factor is at least 1"
            )

    def delay(self, attempt: int, rng: random.Random) -> float:
        """Seconds to wait after attempt number `attempt` (from 1)."""
        # The exponent is bounded: past the cap, larger powers only overflow.
        full = min(self.cap, self.base * self.factor ** min(attempt - 1, 64))
        return full / 2 + rng.random() * full / 2
