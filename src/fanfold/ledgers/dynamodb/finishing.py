"""Ends of attempts: a write to each task's item, one to each bucket, and the fan-out's end where that is due."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from fanfold.ledgers.dynamodb import concluding, noting, reading, shapes
from fanfold.ledgers.dynamodb.reading import Layouts
from fanfold.ledgers.dynamodb.shapes import Bucket, Header, Layout, Stored
from fanfold.ledgers.dynamodb.store import Store, together
from fanfold.ledgers.dynamodb.wire import Item
from fanfold.ledgers.protocol import Finish, Recorded
from fanfold.model import FOLD_NAME, Failure, TaskState

MAX_FAILURE: Final = 20_000
"""Characters that are kept of an error's text and of its traceback: both must fit the item, beside the config."""

_SUCCEED: Final = "SET task_state = :state, task_result = :result, updated_at = :now REMOVE task_failure"
_FAIL: Final = "SET task_state = :state, task_failure = :failure, updated_at = :now REMOVE task_result"
_IF_RUNNING: Final = "task_state = :running AND generation = :generation AND attempts = :attempt"
_IF_NOT_OVER: Final = "task_state IN (:pending, :running, :failed) AND generation = :generation AND attempts = :attempt"
_IF_NOT_OVER_WHATEVER: Final = "task_state IN (:pending, :running, :failed) AND generation = :generation"

_END_FOLD: Final = "SET fold_state = :state, fold_failure = :failure, fold_at = :now REMOVE unfolded_at"
_FAIL_FOLD: Final = "SET fold_state = :state, fold_failure = :failure, fold_at = :now, unfolded_at = :folding"
_IF_FOLD_RUNNING: Final = "fold_state = :running AND generation = :generation AND fold_attempts = :attempt"
_IF_FOLD_NOT_OVER: Final = (
    "fold_state IN (:pending, :running, :failed) AND generation = :generation AND fold_attempts = :attempt"
)
_IF_FOLD_NOT_OVER_WHATEVER: Final = "fold_state IN (:pending, :running, :failed) AND generation = :generation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What a write did to a task, and the task as it stands then (None: there is none, or it is the fold)."""

    finish: Finish
    applied: bool
    layout: Layout | None = None
    task: Stored | None = None


async def end(store: Store, layouts: Layouts, finish: Finish, now: float) -> Ended:
    """Write one end."""
    if finish.task_name == FOLD_NAME:
        return Ended(finish=finish, applied=await _end_fold(store, finish, now))
    layout = await reading.layout(store, layouts, finish.fan_out_id)
    if layout is None:
        return Ended(finish=finish, applied=False)
    conditions = _IF_RUNNING, _IF_NOT_OVER, _IF_NOT_OVER_WHATEVER
    change = _SUCCEED if finish.failure is None else _FAIL
    key = layout.task_key(finish.task_name)
    written = await store.update(key, change, _values(finish, now), when=_condition(finish, conditions))
    if written.item is None:
        return Ended(finish=finish, applied=False)
    task = shapes.task_of(written.item)
    record = task.record
    same = _same(finish, record.state, record.generation, record.attempts)
    return Ended(finish=finish, applied=written.applied or same, layout=layout, task=task)


async def recorded(store: Store, ended: Sequence[Ended], now: float) -> list[Recorded]:
    """Note what is terminal now, end the fan-outs whose time it is, and say whose folds are due."""
    noted = await together(_note(store, *of, now) for of in _by_layout(ended).items())
    full = {layout.fan_out_id for layout, buckets in noted if any(bucket.full for bucket in buckets)}
    of_plan = [each for each in ended if each.finish.task_name != FOLD_NAME]
    asked = dict.fromkeys(each.finish.fan_out_id for each in of_plan if _may_be_complete(each, full))
    found = await together(concluding.conclude(store, fan_out_id, now) for fan_out_id in asked)
    headers = dict(zip(asked, found, strict=True))
    return [_recorded(each, headers.get(each.finish.fan_out_id)) for each in ended]


def _may_be_complete(ended: Ended, full: set[str]) -> bool:
    """Whether the header must be looked at: not for a task that ended in time, while its bucket isn't full."""
    if ended.layout is None:
        return False
    return ended.finish.fan_out_id in full or not ended.layout.plain or not ended.applied


def _by_layout(ended: Iterable[Ended]) -> Mapping[Layout, Sequence[Stored]]:
    found: dict[Layout, list[Stored]] = {}
    for each in ended:
        if each.layout is not None and each.task is not None and (each.applied or each.task.record.state.terminal):
            found.setdefault(each.layout, []).append(each.task)
    return found


async def _note(store: Store, layout: Layout, tasks: Sequence[Stored], now: float) -> tuple[Layout, list[Bucket]]:
    return layout, await noting.note(store, layout, tasks, now)


async def _end_fold(store: Store, finish: Finish, now: float) -> bool:
    conditions = _IF_FOLD_RUNNING, _IF_FOLD_NOT_OVER, _IF_FOLD_NOT_OVER_WHATEVER
    values = {name: value for name, value in _values(finish, now).items() if name != "result"}
    values = values | {"failure": values.get("failure", "null")}
    if not finish.state.terminal:
        values = values | {"folding": now - shapes.FOLDING}
    change = _END_FOLD if finish.state.terminal else _FAIL_FOLD
    key = shapes.header_key(finish.fan_out_id)
    written = await store.update(key, change, values, when=_condition(finish, conditions))
    item = written.item
    if item is None or "fold_state" not in item:
        return False
    state = TaskState(item["fold_state"])
    return written.applied or _same(finish, state, item["generation"], item["fold_attempts"])


def _condition(finish: Finish, conditions: tuple[str, str, str]) -> str:
    running, not_over, whatever = conditions
    if not finish.dead:
        return running
    return whatever if finish.attempt is None else not_over


def _values(finish: Finish, now: float) -> Item:
    values: dict[str, object] = {"now": now, "state": finish.state.value, "running": "running"}
    values |= {"generation": finish.generation, "attempt": finish.attempt}
    if finish.dead:
        values |= {"pending": "pending", "failed": "failed"}
    if finish.failure is None:
        return values | {"result": finish.result or "null"}
    return values | {"failure": msgspec.json.encode(_short(finish.failure)).decode()}


def _short(failure: Failure) -> Failure:
    return Failure(
        type=failure.type[:MAX_FAILURE],
        message=failure.message[:MAX_FAILURE],
        traceback=failure.traceback[-MAX_FAILURE:],
    )


def _same(finish: Finish, state: TaskState, generation: int, attempts: int) -> bool:
    """Whether something stands as this write would have left it: it is the same write, whose answer was lost."""
    return state is finish.state and generation == finish.generation and attempts == finish.attempt


def _recorded(ended: Ended, header: Header | None) -> Recorded:
    if header is None or ended.finish.task_name == FOLD_NAME or not ended.finish.state.terminal:
        return Recorded(applied=ended.applied)
    return Recorded(applied=ended.applied, fold_due=header.fold_due, generation=header.due_generation)
