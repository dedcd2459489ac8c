"""Re-runs: the header decides, in one write, what runs again in which generation; `intents` carries it out."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from fanfold.ledgers.dynamodb import concluding, reading, shapes
from fanfold.ledgers.dynamodb.shapes import Header, Layout, Stored
from fanfold.ledgers.dynamodb.store import Store
from fanfold.ledgers.dynamodb.wire import Item
from fanfold.ledgers.protocol import Unsent
from fanfold.model import FOLD_NAME, TaskState

_REOPEN: Final = (
    "SET generation = :next, rerunning = :yes, rerun_names = :names, rerun_failed_only = :failed_only, early = :no, "
    "open_at = :now, unsent_at = :now, rerun_token = :token "
    "REMOVE completed_at, ended_by, unfolded_at, purge_at, deadline_at, ends_by, "
    "fold_state, fold_attempts, fold_failure, fold_worker, fold_at, fold_claimed_by"
)
_IF_SETTLED: Final = (
    "nonce = :nonce AND generation = :generation AND attribute_not_exists(rerunning) AND attribute_not_exists(sweeping)"
)
# The fan-out stays complete, and its fold is again one that was never claimed.
_REFOLD: Final = (
    "SET generation = :next, unfolded_at = completed_at, purge_at = :now + keep_for "
    "REMOVE fold_state, fold_attempts, fold_failure, fold_worker, fold_at, fold_claimed_by"
)
_IF_FOLD_DEAD: Final = (
    "nonce = :nonce AND generation = :generation AND attribute_exists(completed_at) AND fold_state = :dead"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a re-run lets begin anew: names (None: all), only what failed, and new configurations as JSON, by name.

    Configurations are items of their own beside their tasks, which the header's intent names by a `token`: all of them
    together needn't fit into the header, nor one of them beside the task's former one.
    """

    names: Sequence[str] | None
    failed_only: bool
    configs: Mapping[str, str]
    token: str = field(default_factory=lambda: secrets.token_hex(8))


async def rerun(store: Store, fan_out_id: str, wanted: Wanted, now: float) -> Unsent | None:
    """Let terminal tasks start anew, in the fan-out's next generation; where there are none, a dead fold alone."""
    while True:
        header = await concluding.settled(store, fan_out_id, now)
        if header is None:
            return None
        stored = await reading.tasks(store, header.layout)
        chosen = header.chosen(stored, wanted.names, failed_only=wanted.failed_only)
        # A write whose answer was lost is refused when boto3 makes it again, and the next look finds it done.
        if chosen:
            changed = await _reopen(store, header, chosen, wanted, now)
        elif wanted.names is not None and FOLD_NAME in wanted.names and header.fold_state is TaskState.DEAD:
            changed = await _refold(store, header, now)
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


async def _reopen(store: Store, header: Header, chosen: Sequence[Stored], wanted: Wanted, now: float) -> bool:
    edited = [name for task in chosen if (name := task.record.task_name) in wanted.configs]
    await store.write_many(puts=[_config(header.layout, name, wanted) for name in edited])
    latest = max(header.generation, *(task.record.generation for task in chosen))
    values = {
        "next": latest + 1,
        "yes": True,
        "no": False,
        "names": json.dumps(None if wanted.names is None else list(wanted.names)),
        "failed_only": wanted.failed_only,
        "token": wanted.token if edited else "",
        "now": now,
        "nonce": header.layout.nonce,
        "generation": header.generation,
    }
    written = await store.update(shapes.header_key(header.layout.fan_out_id), _REOPEN, values, when=_IF_SETTLED)
    return written.applied


def _config(layout: Layout, name: str, wanted: Wanted) -> Item:
    key = layout.config_key(name, wanted.token)
    return {"pk": key[0], "sk": key[1], "task_name": name, "task_config": wanted.configs[name]}


async def _refold(store: Store, header: Header, now: float) -> bool:
    values = {
        "now": now,
        "next": header.generation + 1,
        "nonce": header.layout.nonce,
        "generation": header.generation,
        "dead": TaskState.DEAD.value,
    }
    written = await store.update(shapes.header_key(header.layout.fan_out_id), _REFOLD, values, when=_IF_FOLD_DEAD)
    return written.applied
