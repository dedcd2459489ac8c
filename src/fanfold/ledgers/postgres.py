"""The ledger in a PostgreSQL database, for workers on many machines."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from psycopg.rows import DictRow

from fanfold import codec
from fanfold.clock import Clock, SystemClock
from fanfold.ledgers import postgres_rows as rows
from fanfold.ledgers.endings import CANCELLED_BY
from fanfold.ledgers.postgres_address import parse_postgres
from fanfold.ledgers.postgres_company import Company
from fanfold.ledgers.postgres_connections import Connections
from fanfold.ledgers.postgres_opening import open_fan_out
from fanfold.ledgers.postgres_schema import migrate
from fanfold.ledgers.protocol import Cancelled, Claim, Claimed, Configs, Finish, Opened, Plan, Recorded, Unsent
from fanfold.model import Ended, FanOut, TaskRecord

_REASONS: Final = rows.encode(CANCELLED_BY)


class PostgresLedger:
    """A `Ledger` on PostgreSQL (14 or newer). Each call is one round trip, and one transaction on the server.

    Claims and ends that come while others are under way share the next round trip. Functions in the database
    (`postgres_functions.sql`) decide about a fan-out's end while they hold its row, so two workers can't both miss it.
    `open` of a large plan is several round trips, and what reads several fan-outs' tasks is two.
    """

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        """Nothing is connected before `start`.

        Args:
            url: `postgresql://…`, as `postgres_address.parse_postgres` reads it.
            clock: where times come from: all workers' clocks should agree to a second or so.
        """
        self._address = parse_postgres(url)
        self.url = self._address.shown
        self._clock = clock or SystemClock()
        self._connections = Connections(self._address)
        self._company: Company[Claim | Finish, Claimed | Recorded | None] = Company(
            self._advance, self._connections.start
        )

    async def start(self) -> None:
        """Connect, and bring the tables up to date. Idempotent."""
        if self._connections.open():
            try:
                await asyncio.to_thread(self._migrate)
            except BaseException:
                await self.close()
                raise

    async def close(self) -> None:
        """Let go of threads and connections. Idempotent."""
        await asyncio.to_thread(self._connections.close)

    async def open(self, plan: Plan) -> Opened:
        """Seal the plan's names, or find them as they stand."""
        return await open_fan_out(self._run, plan, self._clock)

    async def sent(self, fan_out_id: str, generation: int) -> None:
        """Note that the queue has accepted what waits."""
        await self._run("sent", fan_out_id=fan_out_id, generation=generation, now=self._clock.now())

    async def claim(self, claims: Sequence[Claim]) -> list[Claimed | None]:
        """Start attempts."""
        answers = await asyncio.wrap_future(self._company.add(claims)) if claims else []
        return [answer for answer in answers if not isinstance(answer, Recorded)]

    async def finish(self, finishes: Sequence[Finish]) -> list[Recorded]:
        """End attempts."""
        answers = await asyncio.wrap_future(self._company.add(finishes)) if finishes else []
        return [answer for answer in answers if isinstance(answer, Recorded)]

    async def stopped(self, claims: Sequence[Claim]) -> list[bool]:
        """Which running attempts nobody wants any more."""
        return [bool(row["stopped"]) for row in await self._run("stopped", claims=rows.encode(claims))]

    async def cancel(
        self, fan_out_id: str, task_names: Sequence[str] | None = None, *, ended: Ended = Ended.CANCELLED
    ) -> Cancelled | None:
        """Cancel some tasks, or all."""
        names = None if task_names is None else list(task_names)
        how = {"names": names, "ended": ended.value, "reasons": _REASONS, "now": self._clock.now()}
        for row in await self._run("cancel", fan_out_id=fan_out_id, **how):
            due = row["fold_generation"]
            return Cancelled(task_names=row["cancelled"], fold_due=due is not None, generation=due or 0)
        return None

    async def rerun(
        self,
        fan_out_id: str,
        task_names: Sequence[str] | None = None,
        *,
        failed_only: bool = True,
        configs: Configs | None = None,
    ) -> Unsent | None:
        """Let terminal tasks start anew."""
        names = None if task_names is None else list(task_names)
        others = rows.encode(codec.configs(configs or {}))
        how = {"names": names, "failed_only": failed_only, "configs": others, "now": self._clock.now()}
        [answer] = await self._run("run_again", fan_out_id=fan_out_id, **how)
        found = await self._run("whole", fan_out_id=fan_out_id) if answer["found"] else []
        return rows.unsent(found[0], found[0]["tasks"]) if found else None

    async def get(self, fan_out_id: str) -> FanOut | None:
        """One fan-out with its tasks."""
        found = await self._run("whole", fan_out_id=fan_out_id)
        return rows.fan_out(found[0], found[0]["tasks"]) if found else None

    async def summary(self, fan_out_id: str) -> FanOut | None:
        """One fan-out without its tasks."""
        found = await self._run("fan_out", fan_out_id=fan_out_id)
        return rows.fan_out(found[0]) if found else None

    async def list(
        self, *, limit: int = 50, open_only: bool = False, entity_id: str | None = None, parent: str | None = None
    ) -> Sequence[FanOut]:
        """The newest fan-outs (with `open_only`: those that were touched last) first, without their tasks."""
        if parent is not None:
            found = await self._summaries("newest_of_parent", of=parent, limit=limit)
        elif entity_id is not None:
            found = await self._summaries("newest_of_entity", of=entity_id, limit=limit)
        else:
            found = await self._summaries("open_newest" if open_only else "newest", limit=limit)
        return [fan_out for fan_out in found if not open_only or fan_out.completed_at is None]

    async def tasks(self, fan_out_id: str) -> Sequence[TaskRecord]:
        """The tasks of one fan-out in the order of the plan."""
        return [rows.task(row) for row in await self._run("tasks", fan_out_id=fan_out_id)]

    async def unsent(self, *, untouched_for: float, limit: int = 100) -> Sequence[Unsent]:
        """Open fan-outs that nobody noted as sent."""
        found = await self._run("unsent", since=self._clock.now() - untouched_for, limit=limit)
        waiting: dict[int, list[DictRow]] = {row["number"]: [] for row in found}
        for task in await self._run("waiting", numbers=list(waiting)) if found else ():
            waiting[task["fan_out"]].append(task)
        return [rows.unsent(row, waiting[row["number"]]) for row in found]

    async def stalled(self, *, untouched_for: float, limit: int = 100) -> Sequence[FanOut]:
        """Open fan-outs in which no attempt ended for so many seconds."""
        return await self._summaries("stalled", since=self._clock.now() - untouched_for, limit=limit)

    async def overdue(self, *, limit: int = 100) -> Sequence[FanOut]:
        """Open fan-outs whose deadline has come."""
        return await self._summaries("overdue", now=self._clock.now(), limit=limit)

    async def unfolded(self, *, completed_since: float, completed_before: float, limit: int = 100) -> Sequence[FanOut]:
        """Completed fan-outs whose fold was never claimed."""
        return await self._summaries("unfolded", since=completed_since, before=completed_before, limit=limit)

    async def unended_folds(self, *, untouched_for: float, limit: int = 100) -> Sequence[FanOut]:
        """Fan-outs whose fold was claimed once, and of which nothing was heard for so many seconds."""
        return await self._summaries("unended_folds", since=self._clock.now() - untouched_for, limit=limit)

    async def lead(self, role: str, holder: str, seconds: float) -> bool:
        """Take or keep a role."""
        return bool(await self._run("lead", role=role, holder=holder, seconds=seconds, now=self._clock.now()))

    async def purge(self, *, unfolded_for: float = 0.0, limit: int = 1000) -> int:
        """Forget fan-outs that are kept no longer."""
        now = self._clock.now()
        [answer] = await self._run("forget", limit=limit, since=now - unfolded_for, now=now)
        return int(answer["forgotten"])

    def _migrate(self) -> None:
        with self._connections.connect() as connection:
            migrate(connection, self._address)

    def _advance(self, entries: Sequence[Claim | Finish]) -> Sequence[Claimed | Recorded | None]:
        claims = [entry for entry in entries if isinstance(entry, Claim)]
        finishes = [entry for entry in entries if isinstance(entry, Finish)]
        values = rows.advance(claims, finishes) | {"reasons": _REASONS, "now": self._clock.now()}
        [answer] = self._connections.run("advance", values)
        claimed, recorded = iter(rows.claimed(claims, answer)), iter(rows.recorded(finishes, answer))
        return [next(claimed) if isinstance(entry, Claim) else next(recorded) for entry in entries]

    async def _summaries(self, statement: str, **values: Any) -> Sequence[FanOut]:
        return [rows.fan_out(row) for row in await self._run(statement, **values)]

    async def _run(self, statement: str, /, **values: Any) -> Sequence[DictRow]:
        return await asyncio.wrap_future(self._connections.submit(statement, values))
