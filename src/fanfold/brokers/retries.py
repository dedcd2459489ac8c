"""When a request is made again, and after how long: botocore's standard mode."""

from __future__ import annotations

import random
import threading
from typing import Final

from fanfold.brokers.answers import Again, Fault

ATTEMPTS: Final = 3
"""Requests at most for one call."""
_CAPACITY: Final = 500
_COST: Final = {Again.PASSING: 14, Again.THROTTLED: 5}
_SCALE: Final = {Again.PASSING: 0.05, Again.THROTTLED: 1.0}
"""Seconds that the first pause may last; each further one may last twice as long."""
_LONGEST: Final = 20.0
_LONGER_IF_ASKED: Final = 5.0
"""Seconds that the server may add to a pause."""


class Retries:
    """Decides about requests that failed, for all callers of one transport.

    What may pass is tried again after a pause with full jitter. Each retry costs a part of a budget that successes fill
    up again: when everything fails, retries end, and a queue in trouble isn't asked three times as often as otherwise.
    A wrong clock and refused keys are mended at once, and once.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._guard = threading.Lock()
        self._left = _CAPACITY

    def pause(self, fault: Fault, attempt: int) -> float | None:
        """Seconds until attempt number `attempt` (from 1) should be followed by another; None: give up."""
        if fault.again is None or attempt >= ATTEMPTS:
            return None
        if fault.again not in _COST:
            return 0.0 if attempt == 1 else None
        with self._guard:
            if self._left < _COST[fault.again]:
                return None
            self._left -= _COST[fault.again]
        jittered = self._rng.random() * min(_LONGEST, _SCALE[fault.again] * 2.0 ** (attempt - 1))
        return max(jittered, min(fault.after or 0.0, jittered + _LONGER_IF_ASKED))

    def succeeded(self, last: Fault | None) -> None:
        """Give back to the budget what the last retry took, or a little where there was none."""
        if last is None and self._left == _CAPACITY:
            return
        earned = _COST.get(last.again, 1) if last is not None and last.again is not None else 1
        with self._guard:
            self._left = min(_CAPACITY, self._left + earned)
