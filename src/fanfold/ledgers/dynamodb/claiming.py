"""Claims: one conditional write to the task's item, and a look at more only where that refuses."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fanfold.ledgers.dynamodb import concluding, noting, reading, shapes
from fanfold.ledgers.dynamodb.reading import Layouts
from fanfold.ledgers.dynamodb.shapes import Header, Layout, Stored
from fanfold.ledgers.dynamodb.store import Store
from fanfold.ledgers.dynamodb.wire import Item
from fanfold.ledgers.protocol import Claim, Claimed
from fanfold.model import Ended, TaskState

# The token tells a claim whose answer was lost, and that boto3 made again, from somebody else's.
_CLAIM: Final = (
    "SET task_state = :running, attempts = attempts + :one, generation = :generation, worker = :worker, "
    "updated_at = :now, claimed_by = :token"
)
_IF_CLAIMABLE: Final = (
    "task_state IN (:pending, :running, :failed) AND generation <= :generation "
    "AND (attribute_not_exists(claimed_by) OR claimed_by <> :token)"
)
_CLAIM_FOLD: Final = (
    "SET fold_state = :running, fold_attempts = if_not_exists(fold_attempts, :none) + :one, fold_worker = :worker, "
    "fold_at = :now, fold_claimed_by = :token, unfolded_at = :folding"
)
_IF_FOLD_CLAIMABLE: Final = (
    "generation = :generation AND attribute_exists(completed_at) AND attribute_not_exists(sweeping) "
    "AND attribute_not_exists(rerunning) "
    "AND (attribute_not_exists(fold_state) OR fold_state IN (:pending, :running, :failed)) "
    "AND (attribute_not_exists(fold_claimed_by) OR fold_claimed_by <> :token)"
)
_STATES: Final = {"pending": "pending", "running": "running", "failed": "failed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Claiming:
    """Answers claims, with the headers that the batch has read already."""

    store: Store
    layouts: Layouts
    headers: Mapping[str, Header]
    now: float

    async def claim(self, claim: Claim) -> Claimed | None:
        """Start an attempt of a task."""
        layout = await reading.layout(self.store, self.layouts, claim.fan_out_id)
        if layout is None:
            return None
        if layout.plain:
            return await self._start(claim, layout, None)
        header = self.headers.get(claim.fan_out_id) or await reading.header(self.store, claim.fan_out_id)
        if header is None:
            return None
        if header.overdue(self.now):
            await concluding.cancel(self.store, claim.fan_out_id, Ended.DEADLINE, self.now)
        return await self._start(claim, layout, header.deadline_at if header.completed_at is None else None)

    async def claim_fold(self, claim: Claim) -> Claimed | None:
        """Start an attempt of a fan-out's fold, if that is complete and of the claim's generation."""
        header = await concluding.settled(self.store, claim.fan_out_id, self.now)
        if header is None:
            return None
        values = _values(claim, self.now) | {"none": 0, "folding": self.now - shapes.FOLDING}
        key = shapes.header_key(claim.fan_out_id)
        written = await self.store.update(key, _CLAIM_FOLD, values, when=_IF_FOLD_CLAIMABLE)
        if written.item is None:
            return None
        if "sweeping" in written.item or "rerunning" in written.item:
            return await self.claim_fold(claim)
        if not written.applied and written.item.get("fold_claimed_by") != values["token"]:
            return _fold_refusal(written.item, claim)
        return Claimed(
            state=TaskState.RUNNING,
            attempt=written.item["fold_attempts"],
            failure=shapes.failure_of(written.item.get("fold_failure")),
        )

    async def _start(self, claim: Claim, layout: Layout, deadline_at: float | None) -> Claimed | None:
        values = _values(claim, self.now)
        written = await self.store.update(layout.task_key(claim.task_name), _CLAIM, values, when=_IF_CLAIMABLE)
        if written.item is None:
            return await self._unknown(claim, layout)
        task = shapes.task_of(written.item)
        if written.applied or written.item.get("claimed_by") == values["token"]:
            return _started(task, deadline_at)
        if not task.record.state.terminal and task.record.generation <= claim.generation:
            return await self._start(claim, layout, deadline_at)  # it was let run again in between
        return await self._refusal(claim, layout, task)

    async def _unknown(self, claim: Claim, layout: Layout) -> Claimed | None:
        """There is no such task where it should be: in this fan-out, or since another was opened with its id."""
        header = await concluding.settled(self.store, claim.fan_out_id, self.now)
        if header is None:
            self.layouts.forget(claim.fan_out_id)
        elif header.layout != layout:
            self.layouts.keep(header.layout)
            return await self.claim(claim)
        return None

    async def _refusal(self, claim: Claim, layout: Layout, task: Stored) -> Claimed | None:
        await noting.note_if_missing(self.store, layout, task, self.now)
        header = await concluding.conclude(self.store, claim.fan_out_id, self.now)
        if header is None:
            return None
        return Claimed(
            state=TaskState.CANCELLED if task.record.generation > claim.generation else task.record.state,
            attempt=task.record.attempts,
            fold_due=header.fold_due,
            generation=header.due_generation,
            failure=task.record.failure,
        )


def _values(claim: Claim, now: float) -> dict[str, Any]:
    fresh = {
        "token": secrets.token_hex(8),
        "worker": claim.worker,
        "generation": claim.generation,
        "now": now,
        "one": 1,
    }
    return _STATES | fresh


def _started(task: Stored, deadline_at: float | None) -> Claimed:
    record = task.record
    return Claimed(state=TaskState.RUNNING, attempt=record.attempts, failure=record.failure, deadline_at=deadline_at)


def _fold_refusal(item: Item, claim: Claim) -> Claimed:
    # Not complete, or another generation's: the fan-out was opened again since this fold was sent.
    if "fold_state" not in item or item["generation"] != claim.generation:
        return Claimed(state=TaskState.CANCELLED, attempt=0)
    failure = shapes.failure_of(item.get("fold_failure"))
    return Claimed(state=TaskState(item["fold_state"]), attempt=item["fold_attempts"], failure=failure)
