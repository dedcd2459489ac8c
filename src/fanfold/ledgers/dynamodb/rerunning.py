"""Re-runs: the header decides, in one write, what runs again in which generation; `intents` carries it out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from fanfold.ledgers.dynamodb import concluding, reading, shapes
from fanfold.ledgers.dynamodb.shapes import Header, Stored
from fanfold.ledgers.dynamodb.store import Store
from fanfold.ledgers.protocol import Unsent
from fanfold.model import FOLD_NAME, TaskState

_REOPEN: Final = (
    "SET generation = :next, rerunning = :yes, rerun_names = :names, rerun_failed_only = :failed_only, early = :no, "
    "open_at = :now, unsent_at = :now "
    "REMOVE completed_at, ended_by, unfolded_at, purge_at, deadline_at, ends_by, "
    "fold_state, fold_attempts, fold_failure, fold_worker, fold_at, fold_claimed_by"
)
_IF_SETTLED: Final = (
    "nonce = :nonce AND generation = :generation AND attribute_not_exists(rerunning) AND attribute_not_exists(sweeping)"
)
# The fan-out stays complete, and its fold is again one that was never claimed.
_REFOLD: Final = (
    "SET generation = :next, unfolded_at = completed_at "
    "REMOVE fold_state, fold_attempts, fold_failure, fold_worker, fold_at, fold_claimed_by"
)
_IF_FOLD_DEAD: Final = (
    "nonce = :nonce AND generation = :generation AND attribute_exists(completed_at) AND fold_state = :dead"
)


async def rerun(
    store: Store, fan_out_id: str, names: Sequence[str] | None, now: float, *, failed_only: bool
) -> Unsent | None:
    """Let terminal tasks start anew, in the fan-out's next generation; where there are none, a dead fold alone."""
    while True:
        header = await concluding.settled(store, fan_out_id, now)
        if header is None:
            return None
        chosen = header.chosen(await reading.tasks(store, header.layout), names, failed_only=failed_only)
        # A write whose answer was lost is refused when boto3 makes it again, and the next look finds it done.
        if chosen:
            changed = await _reopen(store, header, chosen, names, now, failed_only=failed_only)
        elif names is not None and FOLD_NAME in names and header.fold_state is TaskState.DEAD:
            changed = await _refold(store, header)
        else:
            return await unsent_of(store, header)
        if changed:
            header = await concluding.settled(store, fan_out_id, now)
            return await unsent_of(store, header) if header is not None else None


async def unsent_of(store: Store, header: Header) -> Unsent:
    """What of a fan-out must be sent: the tasks that nobody has claimed yet."""
    records = [task.record for task in await reading.tasks(store, header.layout)]
    waiting = [record for record in records if record.state is TaskState.PENDING]
    fan_out = await reading.summary(store, header)
    return Unsent(fan_out=fan_out, order_by=header.item.get("order_by"), tasks=waiting)


async def _reopen(
    store: Store,
    header: Header,
    chosen: Sequence[Stored],
    names: Sequence[str] | None,
    now: float,
    *,
    failed_only: bool,
) -> bool:
    latest = max(header.generation, *(task.record.generation for task in chosen))
    values = {
        "next": latest + 1,
        "yes": True,
        "no": False,
        "names": json.dumps(None if names is None else list(names)),
        "failed_only": failed_only,
        "now": now,
        "nonce": header.layout.nonce,
        "generation": header.generation,
    }
    written = await store.update(shapes.header_key(header.layout.fan_out_id), _REOPEN, values, when=_IF_SETTLED)
    return written.applied


async def _refold(store: Store, header: Header) -> bool:
    values = {
        "next": header.generation + 1,
        "nonce": header.layout.nonce,
        "generation": header.generation,
        "dead": TaskState.DEAD.value,
    }
    written = await store.update(shapes.header_key(header.layout.fan_out_id), _REFOLD, values, when=_IF_FOLD_DEAD)
    return written.applied
