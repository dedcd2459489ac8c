"""The ledger in a SQLite file, by default the one that holds the embedded queue."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final

from fanfold import codec, sql
from fanfold.clock import Clock, SystemClock
from fanfold.connection_thread import Operation, T
from fanfold.database import Database
from fanfold.ledgers import openings, rows, writes
from fanfold.ledgers.protocol import Cancelled, Claim, Claimed, Configs, Finish, Opened, Plan, Recorded, Unsent
from fanfold.model import FOLD_NAME, Ended, FanOut, TaskRecord
from fanfold.urls import parse_sqlite

_SQL: Final = rows.SQL
_SCHEMA: Final = tuple(sql.load("fanfold.ledgers", "schema.sql").values())


class SqliteLedger:
    """A `Ledger` on SQLite. Each call is one operation in a transaction that it shares with concurrent callers.

    Only `open` of a large plan is several: one for each piece, so that it keeps no other writer waiting for long.
    """

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

    async def open(self, plan: Plan) -> Opened:
        """Seal the plan's names, or find them as they stand."""
        now = self._clock.now()
        if len(plan.tasks) <= openings.PIECE:
            return await self._write(lambda connection: openings.open_at_once(connection, plan, now))
        return await self._open_piece_by_piece(plan, now)

    async def sent(self, fan_out_id: str, generation: int) -> None:
        """Note that the queue has accepted what waits."""
        values = self._clock.now(), fan_out_id, generation
        await self._write(lambda connection: connection.execute(_SQL["sent"], values).rowcount)

    async def claim(self, claims: Sequence[Claim]) -> list[Claimed | None]:
        """Start attempts."""
        now = self._clock.now()
        return await self._write(lambda connection: writes.claim(connection, claims, now))

    async def finish(self, finishes: Sequence[Finish]) -> list[Recorded]:
        """End attempts."""
        now = self._clock.now()
        return await self._write(lambda connection: writes.finish(connection, finishes, now))

    async def stopped(self, claims: Sequence[Claim]) -> list[bool]:
        """Which running attempts nobody wants any more."""
        return await self._read(lambda connection: [rows.stopped(connection, claim) for claim in claims])

    async def cancel(
        self, fan_out_id: str, task_names: Sequence[str] | None = None, *, ended: Ended = Ended.CANCELLED
    ) -> Cancelled | None:
        """Cancel some tasks, or all."""
        now = self._clock.now()
        return await self._write(lambda connection: writes.cancel(connection, fan_out_id, task_names, ended, now))

    async def rerun(
        self,
        fan_out_id: str,
        task_names: Sequence[str] | None = None,
        *,
        failed_only: bool = True,
        configs: Configs | None = None,
    ) -> Unsent | None:
        """Let terminal tasks start anew."""
        chosen = writes.Chosen(names=task_names, failed_only=failed_only, configs=codec.configs(configs or {}))
        now = self._clock.now()
        return await self._write(lambda connection: writes.rerun(connection, fan_out_id, chosen, now))

    async def get(self, fan_out_id: str) -> FanOut | None:
        """One fan-out with its tasks."""
        return await self._read(lambda connection: rows.fan_out(connection, fan_out_id))

    async def summary(self, fan_out_id: str) -> FanOut | None:
        """One fan-out without its tasks."""
        found = await self._read(lambda connection: rows.summaries(connection, _SQL["fan_out"], (fan_out_id,)))
        return found[0] if found else None

    async def list(
        self, *, limit: int = 50, open_only: bool = False, entity_id: str | None = None, parent: str | None = None
    ) -> Sequence[FanOut]:
        """The newest fan-outs (with `open_only`: those that were touched last) first, without their tasks."""
        if parent is not None:
            statement, values = "newest_of_parent", [parent]
        elif entity_id is not None:
            statement, values = "newest_of_entity", [entity_id]
        else:
            statement, values = "open_newest" if open_only else "newest", []
        found = await self._read(partial(rows.summaries, statement=_SQL[statement], values=(*values, limit)))
        return [fan_out for fan_out in found if not open_only or fan_out.completed_at is None]

    async def tasks(self, fan_out_id: str) -> Sequence[TaskRecord]:
        """The tasks of one fan-out in the order of the plan."""
        return await self._read(lambda connection: rows.tasks(connection, fan_out_id))

    async def unsent(self, *, untouched_for: float, limit: int = 100) -> Sequence[Unsent]:
        """Open fan-outs that nobody noted as sent."""
        since = self._clock.now() - untouched_for
        return await self._read(lambda connection: rows.unsent(connection, since, limit))

    async def stalled(self, *, untouched_for: float, limit: int = 100) -> Sequence[FanOut]:
        """Open fan-outs in which no attempt ended for so many seconds."""
        return await self._summaries("stalled", self._clock.now() - untouched_for, limit)

    async def overdue(self, *, limit: int = 100) -> Sequence[FanOut]:
        """Open fan-outs whose deadline has come."""
        return await self._summaries("overdue", self._clock.now(), limit)

    async def unfolded(self, *, completed_since: float, completed_before: float, limit: int = 100) -> Sequence[FanOut]:
        """Completed fan-outs whose fold was never claimed."""
        return await self._summaries("unfolded", completed_since, completed_before, limit)

    async def unended_folds(self, *, untouched_for: float, limit: int = 100) -> Sequence[FanOut]:
        """Fan-outs whose fold was claimed once, and of which nothing was heard for so many seconds."""
        return await self._summaries("unended_folds", self._clock.now() - untouched_for, limit)

    async def lead(self, role: str, holder: str, seconds: float) -> bool:
        """Take or keep a role."""
        values = {"role": role, "holder": holder, "seconds": seconds, "now": self._clock.now()}
        return await self._write(lambda connection: connection.execute(_SQL["lead"], values).rowcount) > 0

    async def purge(self, *, unfolded_for: float = 0.0, limit: int = 1000) -> int:
        """Forget fan-outs that are kept no longer."""
        now = self._clock.now()
        values = {"now": now, "since": now - unfolded_for, "fold": FOLD_NAME, "limit": limit}
        return await self._write(lambda connection: writes.purge(connection, values))

    async def _open_piece_by_piece(self, plan: Plan, now: float) -> Opened:
        begun = await self._write(lambda connection: openings.begin(connection, plan, now))
        if isinstance(begun, Opened):
            return begun
        for at in range(0, len(plan.tasks), openings.PIECE):
            await self._write(partial(openings.add_piece, opening=begun, plan=plan, at=at, now=now))
        return await self._write(lambda connection: openings.seal(connection, begun, plan, self._clock.now()))

    async def _summaries(self, statement: str, *values: float) -> Sequence[FanOut]:
        return await self._read(lambda connection: rows.summaries(connection, _SQL[statement], values))

    def _open(self) -> None:
        with self._database.opening():
            self._database.migrate("ledger", _SCHEMA)

    async def _write(self, operation: Operation[T]) -> T:
        return await asyncio.wrap_future(self._database.write(operation))

    async def _read(self, operation: Operation[T]) -> T:
        return await asyncio.wrap_future(self._database.read(operation))
