"""Message move tasks: a dead letter queue's messages back to where they came from, or elsewhere.

A task's state is in the file, so that whoever steps next carries it on: after a restart, or in another process. A step
is one operation on a connection and moves a slice. Times are milliseconds since the epoch.
"""

from __future__ import annotations

import dataclasses
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fanfold import sql
from fanfold.engine import counting, moving, queues, stocks
from fanfold.engine.deferred import at_once
from fanfold.engine.queues import Queue

_SQL: Final = sql.load("fanfold.engine", "moves.sql")
_SLICE: Final = 100
"""Messages that a step looks at."""
_KEPT: Final = 10
"""Tasks of a source that are remembered."""
_BEFORE_ALL: Final = -(2**62)
_SECOND: Final = 1000

RUNNING: Final = "RUNNING"
_COMPLETED: Final = "COMPLETED"
_FAILED: Final = "FAILED"
_CANCELLED: Final = "CANCELLED"
_NO_QUEUE: Final = "AWS.SimpleQueueService.NonExistentQueue"
_NO_SOURCE: Final = "CouldNotDetermineMessageSource"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task. `rate` is messages a second; without a destination, each message goes back to its own source."""

    id: str
    source: str
    destination: str | None
    rate: int | None
    status: str
    failure: str | None
    moved: int
    to_move: int
    last_seq: int
    reached_at: int
    reached_seq: int
    stepped_at: int
    started_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A task that is asked for."""

    id: str
    destination: str | None = None
    rate: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a step did: how many messages went to which queue, and when the next step is due (None: it was the last)."""

    arrived: Mapping[str, int]
    due: int | None


def start(connection: sqlite3.Connection, source: Queue, order: Order, now: int) -> None:
    """Begin a task; nothing is moved before its first step."""
    rate = order.rate
    values = {
        "id": order.id,
        "source": source.name,
        "destination": order.destination,
        "rate": rate,
        "to_move": counting.total(connection, source),
        "last_seq": connection.execute(_SQL["last_seq"]).fetchone()[0] or 0,
        "reached_at": _BEFORE_ALL,
        "stepped_at": now - _SECOND // rate if rate else now,
        "now": now,
    }
    connection.execute(_SQL["start"], values)
    connection.execute(_SQL["forget"], (source.name, source.name, _KEPT))


def running(connection: sqlite3.Connection) -> list[Task]:
    """The tasks that run."""
    return [Task(**_fields(row)) for row in connection.execute(_SQL["running"])]


def of_source(connection: sqlite3.Connection, source: str, most: int) -> list[Task]:
    """A queue's tasks, the newest first."""
    return [Task(**_fields(row)) for row in connection.execute(_SQL["of_source"], (source, most))]


def find(connection: sqlite3.Connection, task_id: str) -> Task | None:
    """The task of that id, or None."""
    row = connection.execute(_SQL["find"], (task_id,)).fetchone()
    return None if row is None else Task(**_fields(row))


def cancel(connection: sqlite3.Connection, task: Task) -> None:
    """End a running task; what it has moved stays moved."""
    _save(connection, dataclasses.replace(task, status=_CANCELLED))


def step(connection: sqlite3.Connection, task: Task, new_id: Callable[[], str], now: int) -> Step:
    """Move a slice of a running task's messages, as far as its rate allows.

    Passed over are messages that are held, those behind them in their group, and what came after the task began.
    """
    source = queues.find(connection, task.source)
    if source is None:
        _save(connection, dataclasses.replace(task, status=_FAILED, failure=_NO_QUEUE))
        return Step(arrived={}, due=None)
    walk = _Walk(connection, source, dataclasses.replace(task, stepped_at=_not_ahead(task, now)), new_id, now)
    task = walk.go()
    _save(connection, task)
    return Step(arrived=walk.arrived, due=_due(task, now))


class _Walk:
    """One step's way through the source, by age."""

    def __init__(
        self, connection: sqlite3.Connection, source: Queue, task: Task, new_id: Callable[[], str], now: int
    ) -> None:
        self._connection = connection
        self._source = source
        self._task = task
        self._new_id = new_id
        self._now = now
        self.arrived: Counter[str] = Counter()

    def go(self) -> Task:
        """The task after the step."""
        task, allowed = self._task, _allowance(self._task, self._now)
        place = (self._source.stock, task.reached_at, task.reached_seq, _SLICE)
        keys = self._connection.execute(_SQL["next"], place).fetchall()
        for sent_at, seq in keys:
            if task.moved - self._task.moved == allowed:
                return _spent(task, allowed)
            failure, moved = self._move(seq) if seq <= task.last_seq else (None, False)
            if failure is not None:
                return dataclasses.replace(task, status=_FAILED, failure=failure)
            task = dataclasses.replace(task, reached_at=sent_at, reached_seq=seq, moved=task.moved + moved)
        status = _COMPLETED if len(keys) < _SLICE else task.status
        return _spent(dataclasses.replace(task, status=status), task.moved - self._task.moved)

    def _move(self, seq: int) -> tuple[str | None, bool]:
        """Move one message, if it can be; answers why it never can, and whether it was moved."""
        retention = self._source.settings.retention
        oldest = _BEFORE_ALL if retention is None else self._now - retention
        values = (seq, self._source.stock, self._now, oldest)
        row = self._connection.execute(_SQL["movable"], values).fetchone()
        if row is None:
            return None, False
        name = self._task.destination or row[1]
        target = None if name is None else queues.find(self._connection, name)
        if target is None:
            return (_NO_SOURCE if name is None else _NO_QUEUE), False
        self._put(seq, row[0], target)
        return None, True

    def _put(self, seq: int, group_id: str, target: Queue) -> None:
        values = {"stock": target.stock, "message_id": self._new_id(), "now": self._now, "seq": seq}
        self._connection.execute(_SQL["move" if target.fifo else "move_loose"], values)
        stocks.count(at_once(self._connection), target.stock, messages=1)
        moving.depart(self._connection, seq, self._now)
        moving.remove(self._connection, self._source, seq, group_id, self._now)
        self.arrived[target.name] += 1


def _not_ahead(task: Task, now: int) -> int:
    """Up to when the rate is used up: never in the future (the clock stepped back), and a second saved at most."""
    return max(min(task.stepped_at, now), now - _SECOND)


def _allowance(task: Task, now: int) -> int:
    if task.rate is None:
        return _SLICE
    return (now - task.stepped_at) * task.rate // _SECOND


def _spent(task: Task, moved: int) -> Task:
    if task.rate is None:
        return task
    return dataclasses.replace(task, stepped_at=task.stepped_at + moved * _SECOND // task.rate)


def _due(task: Task, now: int) -> int | None:
    if task.status != RUNNING:
        return None
    return now if task.rate is None else task.stepped_at + -(-_SECOND // task.rate)


def _save(connection: sqlite3.Connection, task: Task) -> None:
    connection.execute(_SQL["advance"], dataclasses.asdict(task))


def _fields(row: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip((field.name for field in dataclasses.fields(Task)), row, strict=True))
