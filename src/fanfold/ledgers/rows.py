"""Reading the ledger's tables: rows to values."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from fanfold import codec, sql
from fanfold.model import FOLD_NAME, Failure, FanOut, Progress, TaskRecord, TaskState

SQL: Final = sql.load("fanfold.ledgers", "ledger.sql")

_decode_failure: Final = msgspec.json.Decoder(Failure).decode


def failure(text: str | None) -> Failure | None:
    """A stored failure."""
    return _decode_failure(text) if text is not None else None


def fan_out(connection: sqlite3.Connection, fan_out_id: str) -> FanOut | None:
    """One fan-out with its tasks, or None."""
    row = connection.execute(SQL["fan_out"], (fan_out_id,)).fetchone()
    return _fan_out(connection, row, tasks(connection, fan_out_id)) if row is not None else None


def summaries(connection: sqlite3.Connection, statement: str, values: tuple[Any, ...]) -> list[FanOut]:
    """Fan-outs without their tasks."""
    return [_fan_out(connection, row, ()) for row in connection.execute(statement, values).fetchall()]


def tasks(connection: sqlite3.Connection, fan_out_id: str) -> list[TaskRecord]:
    """The tasks of one fan-out in the order of the plan."""
    # Positions are distinct, so sorting the rows never compares anything else.
    return [_task(row) for row in sorted(connection.execute(SQL["tasks"], (fan_out_id,)))]


def record(connection: sqlite3.Connection, fan_out_id: str, task_name: str) -> TaskRecord | None:
    """One task, or None."""
    row = connection.execute(SQL["record"], (fan_out_id, task_name)).fetchone()
    return _task(row) if row is not None else None


def purge(connection: sqlite3.Connection, completed_before: float, limit: int) -> int:
    """Forget fan-outs completed before a time; answers how many."""
    numbers = connection.execute(SQL["expired"], (completed_before, limit)).fetchall()
    connection.executemany(SQL["forget_tasks"], numbers)
    connection.executemany(SQL["forget_fan_out"], numbers)
    return len(numbers)


def _fan_out(connection: sqlite3.Connection, row: tuple[Any, ...], records: Sequence[TaskRecord]) -> FanOut:
    number, fan_out_id, entity_id, event_id, metadata, total_tasks, created_at, _, completed_at, _, generation = row
    fold = connection.execute(SQL["fold_state"], (number, FOLD_NAME, generation)).fetchone()
    return FanOut(
        fan_out_id=fan_out_id,
        entity_id=entity_id,
        event_id=event_id,
        metadata=codec.from_json(metadata),
        total_tasks=total_tasks,
        created_at=created_at,
        completed_at=completed_at,
        progress=Progress(**dict(connection.execute(SQL["progress"], (number,)))),
        fold_state=TaskState(fold[0]) if fold else None,
        tasks=records,
        generation=generation,
    )


def _task(row: tuple[Any, ...]) -> TaskRecord:
    _, task_name, state, attempts, generation, task_config, result, failed, worker, updated_at = row
    return TaskRecord(
        task_name=task_name,
        state=TaskState(state),
        attempts=attempts,
        generation=generation,
        task_config=codec.from_json(task_config),
        result=codec.from_json(result) if result is not None else None,
        failure=failure(failed),
        worker=worker,
        updated_at=updated_at,
    )
