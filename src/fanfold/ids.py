"""Ids on the wire: fan-outs, message groups and deduplication.

All are functions of what they name, so that the same event gives the same ids whenever and wherever it is enqueued.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from itertools import count
from typing import Final

from fanfold import limits

GroupBy = Callable[[str, str], str]
"""A group strategy: (entity_id, task_name) to the parts that share a lane."""

_DIGEST_LENGTH: Final = 40
_FAN_OUT_ID_LENGTH: Final = 32


def derived_fan_out_id(entity_id: str, event_id: str) -> str:
    """The id of the fan-out of one event for one entity: 32 hexadecimal digits, the same for a redelivered event."""
    return _digest(entity_id, event_id)[:_FAN_OUT_ID_LENGTH]


def new_fan_out_id(now: float, random_bits: int) -> str:
    """A new, time-ordered id (UUID version 7, RFC 9562): 32 hexadecimal digits.

    Args:
        now: seconds since the epoch; a UUID of this kind orders by its milliseconds.
        random_bits: at least 74 random bits.
    """
    milliseconds = int(now * 1000) & (1 << 48) - 1
    high, low = random_bits & 0xFFF, random_bits >> 12 & (1 << 62) - 1
    return f"{milliseconds << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low:032x}"


def random_uuid() -> str:
    """A random UUID (version 4, RFC 9562), as text. `uuid.uuid4` makes an object of it first, which costs more."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def numbered_uuids() -> Callable[[], str]:
    """What makes UUIDs for less than `random_uuid`, for ids that may be guessed from one another.

    Each of these functions has random digits of its own, behind which the last 12 count.
    """
    beginning, numbers = random_uuid()[:24], count()
    return lambda: f"{beginning}{next(numbers):012x}"


def group_per_task(entity_id: str, task_name: str) -> str:
    """Each task is a group of its own: all run in parallel, and a task's own retries stay in order (the default)."""
    return f"{entity_id}-{task_name}"


def group_per_entity(entity_id: str, task_name: str) -> str:  # noqa: ARG001 - the shape of a strategy
    """The tasks of one entity run one after the other, in the order of the plan."""
    return entity_id


def group_id(entity_id: str, task_name: str, group_by: GroupBy = group_per_task) -> str:
    """The MessageGroupId. What SQS would refuse keeps its readable beginning and ends in a digest."""
    readable = group_by(entity_id, task_name)
    return readable if limits.is_sqs_id(readable) else _shortened(readable, readable)


def deduplication_id(entity_id: str, task_name: str, fan_out_id: str, generation: int = 0) -> str:
    """The MessageDeduplicationId: `{entity_id}-{task_name}-{fan_out_id}`, with `-{generation}` after a redrive.

    Two (entity, task) pairs never share one: a fan-out belongs to one entity, and its id ends the readable form.
    Where SQS would refuse the readable form, its tail gives way to a digest of the exact parts.
    """
    readable = f"{entity_id}-{task_name}-{fan_out_id}" + (f"-{generation}" if generation else "")
    if limits.is_sqs_id(readable):
        return readable
    return _shortened(f"{entity_id}-{task_name}", entity_id, task_name, fan_out_id, str(generation))


def _shortened(readable: str, *exact: str) -> str:
    head = re.sub(r"[^A-Za-z0-9!-/:-@\[-`{-~]", "_", readable)
    return f"{head[: limits.MAX_ID_LENGTH - _DIGEST_LENGTH - 1]}-{_digest(*exact)[:_DIGEST_LENGTH]}"


def _digest(*parts: str) -> str:
    # Length-prefixed, so that ("ab", "c") and ("a", "bc") differ. `surrogatepass`: a lone surrogate is refused
    # elsewhere with a better error than UnicodeEncodeError.
    hashed = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        hashed.update(len(raw).to_bytes(8, "big") + raw)
    return hashed.hexdigest()
