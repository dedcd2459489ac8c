"""Sealing a fan-out in SQLite: at once, or a large one piece by piece. Operations on a connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fanfold import codec
from fanfold.ledgers import sealing
from fanfold.ledgers.protocol import Opened, Plan
from fanfold.ledgers.rows import SQL
from fanfold.model import TaskSpec, TaskState

PIECE: Final = 1_000
"""Tasks that are written in one transaction: some milliseconds, for which other writers wait."""


@dataclass(frozen=True, slots=True)
class Opening:
    """A fan-out that is being written: its row, and the digest of the plan that it is written from."""

    number: int
    digest: str


def open_at_once(connection: sqlite3.Connection, plan: Plan, now: float) -> Opened:
    """Seal a plan in one transaction, or find it as it stands."""
    begun = _insert(connection, plan, None, now)
    if begun is None:
        return _found(connection, plan, now)
    connection.executemany(SQL["add_task"], _task_rows(begun, 0, plan.tasks, now))
    return sealing.new(plan)


def begin(connection: sqlite3.Connection, plan: Plan, now: float) -> Opening | Opened:
    """Begin to write a large plan, go on with one that was left half written, or find it sealed."""
    digest = sealing.digest(plan)
    number = _insert(connection, plan, digest, now)
    if number is None:
        number, _, opening = connection.execute(SQL["opening"], (plan.fan_out_id,)).fetchone()
        if opening is None:
            return _found(connection, plan, now)
        if opening != digest:
            _drop_unsealed(connection, plan)
            return begin(connection, plan, now)
    return Opening(number, digest)


def add_piece(connection: sqlite3.Connection, *, opening: Opening, plan: Plan, at: int, now: float) -> None:
    """Write some tasks of a large plan; those that another producer of the same plan wrote already stay.

    Raises:
        FanOutSealedError: a producer with another plan for the same event took over.
    """
    if not _sealed_meanwhile(connection, opening, plan):
        rows = _task_rows(opening.number, at, plan.tasks[at : at + PIECE], now)
        connection.executemany(SQL["add_task_once"], rows)
        connection.execute(SQL["still_opening"], {"number": opening.number, "opening": opening.digest, "now": now})


def seal(connection: sqlite3.Connection, opening: Opening, plan: Plan, now: float) -> Opened:
    """Make a large plan there for everybody. Raises FanOutSealedError as `add_piece` does."""
    if _sealed_meanwhile(connection, opening, plan):
        return _found(connection, plan, now)
    connection.execute(SQL["seal"], {"number": opening.number, "opening": opening.digest, "now": now})
    return sealing.new(plan)


def _sealed_meanwhile(connection: sqlite3.Connection, opening: Opening, plan: Plan) -> bool:
    row = connection.execute(SQL["opening"], (plan.fan_out_id,)).fetchone()
    if row is None or row[0] != opening.number or row[2] not in (None, opening.digest):
        raise sealing.taken_over(plan)
    return row[2] is None


def _insert(connection: sqlite3.Connection, plan: Plan, digest: str | None, now: float) -> int | None:
    values = {
        "fan_out_id": plan.fan_out_id,
        "entity_id": plan.entity_id,
        "event_id": plan.event_id,
        "metadata": codec.to_json(plan.metadata, what="metadata"),
        "total_tasks": len(plan.tasks),
        "parent": plan.parent,
        "early": plan.min_succeeded is not None or plan.tolerated_failures is not None,
        "min_succeeded": plan.min_succeeded,
        "tolerated_failures": plan.tolerated_failures,
        "cancel_rest": plan.cancel_rest,
        "deadline": plan.deadline,
        "order_by": plan.order_by,
        "keep": plan.keep,
        "opening": digest,
        "now": now,
    }
    row = connection.execute(SQL["open_fan_out"], values).fetchone()
    return row[0] if row is not None else None


def _found(connection: sqlite3.Connection, plan: Plan, now: float) -> Opened:
    number, generation, opening = connection.execute(SQL["opening"], (plan.fan_out_id,)).fetchone()
    if opening is not None:  # left half written, by a producer with more tasks
        _drop_unsealed(connection, plan)
        return open_at_once(connection, plan, now)
    states = {name: TaskState(state) for name, state in connection.execute(SQL["states"], (number,))}
    return sealing.found(plan, generation, states)


def _drop_unsealed(connection: sqlite3.Connection, plan: Plan) -> None:
    connection.execute(SQL["begin_again"], (plan.fan_out_id,))
    connection.execute(SQL["drop_unsealed"], (plan.fan_out_id,))


def _task_rows(number: int, at: int, tasks: Sequence[TaskSpec], now: float) -> list[tuple[int, str, int, str, float]]:
    return [
        (number, task.name, position, codec.to_json(task.config, what=f"config of {task.name!r}"), now)
        for position, task in enumerate(tasks, at)
    ]
