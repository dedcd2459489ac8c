"""When a fan-out may end early: what its options mean for so many tasks. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fanfold.errors import InvalidInputError
from fanfold.model import FanOutOptions

_SHARE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_RESTS: Final = ("cancel", "run")
_ORDERS: Final = ("task", "entity")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """Options as counts of tasks. None: not asked for."""

    min_succeeded: int | None
    tolerated_failures: int | None


def tolerance(options: FanOutOptions, total: int) -> Tolerance:
    """What `options` mean for a fan-out of `total` tasks.

    Raises:
        InvalidInputError: an option that can't be met, or of another kind than it must be.
    """
    if options.rest not in _RESTS:
        raise InvalidInputError(f"rest={options.rest!r}: an early end can 'cancel' the rest or let it 'run'")
    if isinstance(options.order_by, str) and options.order_by not in _ORDERS:
        raise InvalidInputError(f"order_by={options.order_by!r}: it is 'task', 'entity' or a function of both names")
    for name, seconds in (("deadline", options.deadline), ("keep", options.keep)):
        if seconds is not None and not (_is_number(seconds) and 0 < seconds < math.inf):
            raise InvalidInputError(f"{name}={seconds!r}: it must be a number of seconds above 0")
    return Tolerance(
        min_succeeded=_count("min_succeeded", options.min_succeeded, total, math.ceil, least=1),
        tolerated_failures=_count("tolerated_failures", options.tolerated_failures, total, math.floor, least=0),
    )


def _count(
    name: str, value: int | str | None, total: int, rounded: Callable[[float], int], *, least: int
) -> int | None:
    if value is None:
        return None
    share = _SHARE.fullmatch(value.strip()) if isinstance(value, str) else None
    if share is not None:
        # Rounded to millionths first: 0.07 * 100 is 7.000000000000001 in binary.
        count = rounded(round(float(share[1]) * total / 100, 6))
    elif isinstance(value, int) and not isinstance(value, bool):
        count = value
    else:
        raise InvalidInputError(f"{name}={value!r}: write a number of tasks, or a share like '90%'")
    if not least <= count <= total:
        raise InvalidInputError(
            f"{name}={value!r} can't be met: that is {count} of {total} tasks; it must be from {least} to {total}"
        )
    return count


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
