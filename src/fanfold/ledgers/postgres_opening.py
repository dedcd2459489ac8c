"""Sealing a fan-out in PostgreSQL: at once, or a large one piece by piece."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

from psycopg.rows import DictRow

from fanfold.clock import Clock
from fanfold.ledgers import postgres_rows as rows
from fanfold.ledgers import sealing
from fanfold.ledgers.protocol import Opened, Plan
from fanfold.model import TaskState

PIECE: Final = 2_000
"""Tasks that are written in one round trip."""


class Run(Protocol):
    """Runs a statement by its name."""

    async def __call__(self, statement: str, /, **values: Any) -> Sequence[DictRow]:
        """Its rows."""


async def open_fan_out(run: Run, plan: Plan, clock: Clock) -> Opened:
    """Seal a plan, or find it sealed.

    Raises:
        FanOutSealedError: with other names, or another producer with other names took over.
    """
    large = len(plan.tasks) > PIECE
    digest = sealing.digest(plan) if large else None
    found: Sequence[DictRow] = []
    # Whoever began another plan, or purged one, in this very moment makes it begin anew.
    while not found or found[0]["opening"] not in (None, digest):
        found = await (_begin(run, plan, digest, clock) if large else _at_once(run, plan, clock))
    [begun] = found
    if begun["opening"] is not None:
        return await _write(run, plan, begun, clock)
    if begun["fresh"]:
        return sealing.new(plan)
    return await _found(run, plan, begun)


async def _at_once(run: Run, plan: Plan, clock: Clock) -> Sequence[DictRow]:
    return await run("open_fan_out", plan=rows.plan(plan), tasks=rows.tasks_of(plan.tasks), now=clock.now())


async def _begin(run: Run, plan: Plan, digest: str | None, clock: Clock) -> Sequence[DictRow]:
    return await run("begin_fan_out", plan=rows.plan(plan), digest=digest, now=clock.now())


async def _write(run: Run, plan: Plan, begun: DictRow, clock: Clock) -> Opened:
    """Write a large plan's pieces, and seal it; or find it sealed by another producer of the same plan."""
    of = {"fan_out_id": plan.fan_out_id, "number": begun["number"], "digest": begun["opening"]}
    for at in range(0, len(plan.tasks) + PIECE, PIECE):
        tasks = rows.tasks_of(plan.tasks[at : at + PIECE]) if at < len(plan.tasks) else None  # None seals it
        [answer] = await run("continue_opening", **of, tasks=tasks, at=at, now=clock.now())
        if answer["continues"] is None:
            raise sealing.taken_over(plan)
        if not answer["continues"]:
            return await _found(run, plan, begun)
    return sealing.new(plan)


async def _found(run: Run, plan: Plan, begun: DictRow) -> Opened:
    states = {row["task_name"]: TaskState(row["state"]) for row in await run("states", number=begun["number"])}
    return sealing.found(plan, begun["generation"], states)
