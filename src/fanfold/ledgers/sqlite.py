"""The ledger in a SQLite file, by default the one that holds the embedded queue."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from typing import Final

import msgspec

from fanfold import codec, sql
from fanfold.clock import Clock, SystemClock
from fanfold.connection_thread import Operation, T
from fanfold.database import Database
from fanfold.errors import FanOutSealedError
from fanfold.ledgers import rows
from fanfold.ledgers.protocol import Claim, Claimed, Finish, Plan, Recorded
from fanfold.model import FOLD_NAME, FanOut, TaskRecord, TaskState
from fanfold.urls import parse_sqlite

_SQL: Final = rows.SQL
_SCHEMA: Final = tuple(sql.load("fanfold.ledgers", "schema.sql").values())


class SqliteLedger:
    """A `Ledger` on SQLite. Each call is one operation in a transaction that it shares with concurrent callers."""

    def __init__(self, url: str, *, database: Database | None = None, clock: Clock | None = None) -> None:
        """Nothing is opened before `start`.

        Args:
            url: `sqlite:///…`; what it says of a queue is ignored.
            database: the open file to share, when the embedded queue lives in the same one.
            clock: where times come from.
        """
        address = parse_sqlite(url)
        self.url = url
        self._database = database or Database(address.path, synchronous=address.synchronous)
        self._clock = clock or SystemClock()
        self._started = False

    async def start(self) -> None:
        """Open the file and bring the tables up to date. Idempotent."""
        if not self._started:
            await asyncio.to_thread(self._open)
            self._started = True

    async def close(self) -> None:
        """Let go of the file. Idempotent."""
        if self._started:
            self._started = False
            await asyncio.to_thread(self._database.close)

    async def open(self, plan: Plan) -> dict[str, TaskState]:
        """Seal the plan's names, or find them as they stand."""
        now = self._clock.now()
        return await self._write(lambda connection: _open(connection, plan, now))

    async def claim(self, claims: Sequence[Claim]) -> list[Claimed | None]:
        """Start attempts."""
        now = self._clock.now()
        return await self._write(lambda connection: [_claim(connection, claim, now) for claim in claims])

    async def finish(self, finishes: Sequence[Finish]) -> list[Recorded]:
        """End attempts."""
        now = self._clock.now()
        return await self._write(lambda connection: _finish(connection, finishes, now))

    async def get(self, fan_out_id: str) -> FanOut | None:
        """One fan-out with its tasks."""
        return await self._read(lambda connection: rows.fan_out(connection, fan_out_id))

    async def list(self, *, limit: int = 50, open_only: bool = False) -> Sequence[FanOut]:
        """The newest fan-outs (with `open_only`: those that were touched last) first, without their tasks."""
        statement = _SQL["open_newest" if open_only else "newest"]
        return await self._read(lambda connection: rows.summaries(connection, statement, (limit,)))

    async def tasks(self, fan_out_id: str) -> Sequence[TaskRecord]:
        """The tasks of one fan-out in the order of the plan."""
        return await self._read(lambda connection: rows.tasks(connection, fan_out_id))

    async def stalled(self, *, untouched_for: float, limit: int = 100) -> Sequence[FanOut]:
        """Open fan-outs in which no attempt ended for so many seconds."""
        since = self._clock.now() - untouched_for
        return await self._read(lambda connection: rows.summaries(connection, _SQL["stalled"], (since, limit)))

    async def unfolded(self, *, completed_since: float, completed_before: float, limit: int = 100) -> Sequence[FanOut]:
        """Completed fan-outs whose fold was never claimed."""
        values = (completed_since, completed_before, limit)
        return await self._read(lambda connection: rows.summaries(connection, _SQL["unfolded"], values))

    async def purge(self, *, completed_before: float, limit: int = 1000) -> int:
        """Forget fan-outs completed before that time."""
        return await self._write(lambda connection: rows.purge(connection, completed_before, limit))

    def _open(self) -> None:
        with self._database.opening():
            self._database.migrate("ledger", _SCHEMA)

    async def _write(self, operation: Operation[T]) -> T:
        return await asyncio.wrap_future(self._database.write(operation))

    async def _read(self, operation: Operation[T]) -> T:
        return await asyncio.wrap_future(self._database.read(operation))


def _open(connection: sqlite3.Connection, plan: Plan, now: float) -> dict[str, TaskState]:
    number = connection.execute(
        _SQL["open_fan_out"],
        {
            "fan_out_id": plan.fan_out_id,
            "entity_id": plan.entity_id,
            "event_id": plan.event_id,
            "metadata": codec.to_json(plan.metadata, what="metadata"),
            "total_tasks": len(plan.tasks),
            "now": now,
        },
    ).fetchone()
    if number is None:
        return _reopen(connection, plan)
    sealed = [
        (number[0], task.name, position, codec.to_json(task.config, what=f"config of {task.name!r}"), now)
        for position, task in enumerate(plan.tasks)
    ]
    connection.executemany(_SQL["add_task"], sealed)
    return dict.fromkeys((task.name for task in plan.tasks), TaskState.PENDING)


def _reopen(connection: sqlite3.Connection, plan: Plan) -> dict[str, TaskState]:
    found = connection.execute(_SQL["states"], (plan.fan_out_id,))
    states = {name: TaskState(state) for name, state in found}
    planned = {task.name for task in plan.tasks}
    if planned != states.keys():
        added, missing = sorted(planned - states.keys()), sorted(states.keys() - planned)
        raise FanOutSealedError(
            f"event {plan.event_id!r} of {plan.entity_id!r} was enqueued before with other task names (new: {added}, "
            f"missing: {missing}); a fan-out is sealed. Use another event_id for another set of tasks."
        )
    return states


def _claim(connection: sqlite3.Connection, claim: Claim, now: float) -> Claimed | None:
    values = {
        "fan_out_id": claim.fan_out_id,
        "task_name": claim.task_name,
        "generation": claim.generation,
        "worker": claim.worker,
        "now": now,
    }
    if claim.task_name == FOLD_NAME:
        connection.execute(_SQL["begin_fold"], values)
        connection.execute(_SQL["note_fold"], values)
    row = connection.execute(_SQL["claim"], values).fetchone()
    if row is not None:
        return Claimed(state=TaskState.RUNNING, attempt=row[0], failure=rows.failure(row[1]))
    return _refusal(connection, claim)


def _refusal(connection: sqlite3.Connection, claim: Claim) -> Claimed | None:
    keys = {"fan_out_id": claim.fan_out_id, "task_name": claim.task_name, "fold": FOLD_NAME}
    row = connection.execute(_SQL["standing"], keys).fetchone()
    if row is None:
        return None
    state, attempts, generation, failure, complete, fold_state = row
    if claim.task_name == FOLD_NAME:
        # No row: the fan-out was opened again since the fold was sent; its next completion sends another.
        return Claimed(
            state=TaskState(state or TaskState.CANCELLED), attempt=attempts or 0, failure=rows.failure(failure)
        )
    if state is None:
        return None
    superseded = generation > claim.generation
    due = bool(complete) and not TaskState(fold_state or TaskState.PENDING).terminal
    return Claimed(
        state=TaskState.CANCELLED if superseded else TaskState(state),
        attempt=attempts,
        fold_due=due,
        failure=rows.failure(failure),
    )


def _finish(connection: sqlite3.Connection, finishes: Sequence[Finish], now: float) -> list[Recorded]:
    applied = [_end(connection, finish, now) for finish in finishes]
    of_plan = [finish for finish in finishes if finish.task_name != FOLD_NAME]
    touched = {finish.fan_out_id for finish in of_plan}
    connection.executemany(_SQL["touch"], [{"fan_out_id": fan_out_id, "now": now} for fan_out_id in touched])
    ended = {finish.fan_out_id for finish in of_plan if finish.state.terminal}
    due = {fan_out_id for fan_out_id in ended if _fold_due(connection, fan_out_id)}
    return [
        Recorded(
            applied=done, fold_due=finish.fan_out_id in due and finish.task_name != FOLD_NAME and finish.state.terminal
        )
        for finish, done in zip(finishes, applied, strict=True)
    ]


def _end(connection: sqlite3.Connection, finish: Finish, now: float) -> bool:
    values = {
        "fan_out_id": finish.fan_out_id,
        "task_name": finish.task_name,
        "attempt": finish.attempt,
        "state": finish.state.value,
        "result": finish.result,
        "failure": msgspec.json.encode(finish.failure).decode() if finish.failure else None,
        "now": now,
    }
    if connection.execute(_SQL["finish"], values).rowcount:
        return True
    return connection.execute(_SQL["finished_so"], values).fetchone() is not None


def _fold_due(connection: sqlite3.Connection, fan_out_id: str) -> bool:
    row = connection.execute(_SQL["fold_due"], {"fan_out_id": fan_out_id, "fold": FOLD_NAME}).fetchone()
    return row is not None
