"""Reading the ledger's tables: rows to values."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from fanfold import codec, sql
from fanfold.ledgers.protocol import Claim, Unsent
from fanfold.model import FOLD_NAME, Ended, Failure, FanOut, Progress, TaskRecord, TaskState

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


def unsent(connection: sqlite3.Connection, since: float, limit: int) -> list[Unsent]:
    """Open fan-outs that nobody noted as sent, untouched since a time."""
    found = connection.execute(SQL["unsent"], (since, limit)).fetchall()
    return [_unsent(connection, row) for row in found]


def unsent_of(connection: sqlite3.Connection, fan_out_id: str) -> Unsent:
    """What of one fan-out must be sent: the tasks that nobody has claimed yet."""
    return _unsent(connection, connection.execute(SQL["fan_out"], (fan_out_id,)).fetchone())


def stopped(connection: sqlite3.Connection, claim: Claim) -> bool:
    """Whether a running attempt isn't wanted any more."""
    values = {"fan_out_id": claim.fan_out_id, "task_name": claim.task_name, "generation": claim.generation}
    row = connection.execute(SQL["stopped"], values).fetchone()
    return row is not None and bool(row[0])


def _unsent(connection: sqlite3.Connection, row: tuple[Any, ...]) -> Unsent:
    waiting = [task for task in tasks(connection, row[1]) if task.state is TaskState.PENDING]
    return Unsent(fan_out=_fan_out(connection, row, ()), order_by=row[14], tasks=waiting)


def _fan_out(connection: sqlite3.Connection, row: tuple[Any, ...], records: Sequence[TaskRecord]) -> FanOut:
    number, fan_out_id, entity_id, event_id, metadata, total_tasks, created_at, completed_at = row[:8]
    generation, parent, ended, deadline_at, min_succeeded, tolerated_failures = row[8:14]
    fold = connection.execute(SQL["fold_state"], (number, FOLD_NAME)).fetchone()
    return FanOut(
        fan_out_id=fan_out_id,
        entity_id=entity_id,
        event_id=event_id,
        metadata=codec.from_json(metadata),
        total_tasks=total_tasks,
        created_at=created_at,
        completed_at=completed_at,
        progress=_progress(connection, number),
        fold_state=TaskState(fold[0]) if fold else None,
        generation=generation,
        parent=parent,
        ended=Ended(ended) if ended else None,
        deadline_at=deadline_at,
        min_succeeded=min_succeeded,
        tolerated_failures=tolerated_failures,
        tasks=records,
    )


def _progress(connection: sqlite3.Connection, number: int) -> Progress:
    pending, running, failed, succeeded, dead, cancelled = connection.execute(SQL["progress"], (number,)).fetchone()
    return Progress(
        pending=pending, running=running, failed=failed, succeeded=succeeded, dead=dead, cancelled=cancelled
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
