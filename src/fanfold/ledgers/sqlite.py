"""The ledger in a SQLite file, by default the one that holds the embedded queue."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from fanfold import codec, sql
from fanfold.clock import Clock, SystemClock
from fanfold.connection_thread import Operation, T
from fanfold.database import Database
from fanfold.errors import FanOutSealedError
from fanfold.ledgers import rows
from fanfold.ledgers.protocol import Claim, Claimed, Finish, Plan, Recorded, Reopen
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

    async def reopen(self, reopens: Sequence[Reopen]) -> list[bool]:
        """Let tasks begin anew in a later generation."""
        now = self._clock.now()
        return await self._write(lambda connection: [_begin_anew(connection, reopen, now) for reopen in reopens])

    async def records(self, keys: Sequence[tuple[str, str]]) -> list[TaskRecord | None]:
        """Tasks by fan-out and name."""
        return await self._read(lambda connection: [rows.record(connection, *key) for key in keys])

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
    if claim.generation:
        _advance(connection, values)
    if claim.task_name == FOLD_NAME:
        for statement in ("begin_fold", "renew_fold", "note_fold"):
            connection.execute(_SQL[statement], values)
    row = connection.execute(_SQL["claim"], values).fetchone()
    if row is not None:
        return Claimed(state=TaskState.RUNNING, attempt=row[0], failure=rows.failure(row[1]))
    return _refusal(connection, claim)


def _refusal(connection: sqlite3.Connection, claim: Claim) -> Claimed | None:
    keys = {"fan_out_id": claim.fan_out_id, "task_name": claim.task_name, "fold": FOLD_NAME}
    row = connection.execute(_SQL["standing"], keys).fetchone()
    if row is None:
        return None
    state, attempts, generation, failure, complete, fold_generation, fold_state = row
    if claim.task_name == FOLD_NAME:
        # Not over: the fan-out was opened again since the fold was sent; its next completion sends another.
        over = TaskState(state or TaskState.PENDING).terminal
        return Claimed(
            state=TaskState(state) if over else TaskState.CANCELLED,
            attempt=attempts or 0,
            failure=rows.failure(failure),
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
        fold_generation=fold_generation,
    )


def _begin_anew(connection: sqlite3.Connection, reopen: Reopen, now: float) -> bool:
    values = {
        "fan_out_id": reopen.fan_out_id,
        "task_name": reopen.task_name,
        "generation": reopen.generation,
        "fold": FOLD_NAME,
        "now": now,
    }
    _advance(connection, values)
    if reopen.task_config is not None:
        config = codec.to_json(reopen.task_config, what=f"config of {reopen.task_name!r}")
        connection.execute(_SQL["configure"], values | {"task_config": config})
    return connection.execute(_SQL["reopened"], values).fetchone() is not None


def _advance(connection: sqlite3.Connection, values: Mapping[str, Any]) -> None:
    """Let a task that can begin anew do so in the generation that `values` name, if that is a later one."""
    if values["task_name"] == FOLD_NAME:
        connection.execute(_SQL["raise_fold"], values)
    elif connection.execute(_SQL["reopen"], values).rowcount:
        connection.execute(_SQL["reopen_fan_out"], values)


def _finish(connection: sqlite3.Connection, finishes: Sequence[Finish], now: float) -> list[Recorded]:
    applied = [_end(connection, finish, now) for finish in finishes]
    of_plan = [finish for finish in finishes if finish.task_name != FOLD_NAME]
    touched = {finish.fan_out_id for finish in of_plan}
    connection.executemany(_SQL["touch"], [{"fan_out_id": fan_out_id, "now": now} for fan_out_id in touched])
    ended = {finish.fan_out_id for finish in of_plan if finish.state.terminal}
    due = {fan_out_id: _fold_due(connection, fan_out_id) for fan_out_id in ended}
    return [_recorded(finish, done, due.get(finish.fan_out_id)) for finish, done in zip(finishes, applied, strict=True)]


def _recorded(finish: Finish, applied: bool, fold_generation: int | None) -> Recorded:  # noqa: FBT001 - a column
    due = fold_generation is not None and finish.task_name != FOLD_NAME and finish.state.terminal
    return Recorded(applied=applied, fold_due=due, fold_generation=(fold_generation or 0) if due else 0)


def _end(connection: sqlite3.Connection, finish: Finish, now: float) -> bool:
    values = {
        "fan_out_id": finish.fan_out_id,
        "task_name": finish.task_name,
        "attempt": finish.attempt,
        "generation": finish.generation,
        "state": finish.state.value,
        "result": finish.result,
        "failure": msgspec.json.encode(finish.failure).decode() if finish.failure else None,
        "now": now,
    }
    if connection.execute(_SQL["finish"], values).rowcount:
        return True
    return connection.execute(_SQL["finished_so"], values).fetchone() is not None


def _fold_due(connection: sqlite3.Connection, fan_out_id: str) -> int | None:
    """The generation of the fold that is due, or None."""
    row = connection.execute(_SQL["fold_due"], {"fan_out_id": fan_out_id, "fold": FOLD_NAME}).fetchone()
    return row[0] if row is not None else None
