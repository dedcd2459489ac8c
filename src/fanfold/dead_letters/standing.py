"""Where the tasks of dead letters stand in the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from fanfold.ledgers.protocol import Ledger
from fanfold.model import FOLD_NAME, DeadLetter, FanOut, TaskRecord, TaskState

_AT_ONCE: Final = 32
"""Questions to the ledger under way at once."""


async def standing(ledger: Ledger | None, letters: Sequence[DeadLetter]) -> list[TaskRecord | None]:
    """What the ledger knows of each letter's task; None where it knows nothing, or there is no ledger."""
    wanted = list(dict.fromkeys(key for letter in letters if (key := fan_out_of(letter)) is not None))
    if ledger is None or not wanted:
        return [None] * len(letters)
    fan_outs = await _fan_outs(ledger, wanted)
    records = {(fan_out.fan_out_id, record.task_name): record for fan_out in fan_outs for record in _records(fan_out)}
    return [records.get((fan_out_of(letter) or "", letter.task.task_name if letter.task else "")) for letter in letters]


def fan_out_of(letter: DeadLetter) -> str | None:
    """The fan-out that a letter's task belongs to, or None."""
    return letter.task.fan_out_id if letter.task is not None else None


async def _fan_outs(ledger: Ledger, wanted: Sequence[str]) -> list[FanOut]:
    found: list[FanOut | None] = []
    for at in range(0, len(wanted), _AT_ONCE):
        found += await asyncio.gather(*(ledger.get(fan_out_id) for fan_out_id in wanted[at : at + _AT_ONCE]))
    return [fan_out for fan_out in found if fan_out is not None]


def _records(fan_out: FanOut) -> Iterable[TaskRecord]:
    """Its tasks, and its completion as one more: one that is being worked for, while tasks of its are left."""
    yield from fan_out.tasks
    waits = TaskState.RUNNING if fan_out.completed_at is None else TaskState.PENDING
    state = fan_out.fold_state or waits
    yield TaskRecord(task_name=FOLD_NAME, state=state, generation=fan_out.generation)
