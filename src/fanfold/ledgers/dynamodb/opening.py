"""Opening a fan-out: its tasks are written first, where nobody looks, and its header last, which makes it there.

Each opening writes to keys of its own (its nonce is in them), so that one that is slow can't overwrite what another has
sealed and workers have gone on with. A note of these remains is written before them, and the header is only put in the
write that takes it away: by it, what a producer left half written that died is found and cleared away, and whoever is
slower than that can't seal.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from fanfold import codec
from fanfold.errors import InvalidInputError
from fanfold.ledgers import sealing
from fanfold.ledgers.dynamodb import concluding, purging, reading, shapes
from fanfold.ledgers.dynamodb.reading import Layouts
from fanfold.ledgers.dynamodb.shapes import Layout
from fanfold.ledgers.dynamodb.store import Store
from fanfold.ledgers.dynamodb.wire import Item
from fanfold.ledgers.protocol import Opened, Plan
from fanfold.model import Json, TaskState

PIECE: Final = 1_000
"""Tasks that are encoded and under way at once."""
PATIENCE: Final = 86_400.0
"""Seconds after which an opening's remains are cleared away."""
MAX_CONFIG: Final = 100_000
MAX_METADATA: Final = 350_000
"""Bytes of JSON: with a result of 256 KiB or a failure, and the header's own fields, an item's 400 KB hold them."""

_IF_NEW: Final = "attribute_not_exists(pk)"
_IF_NOTED: Final = "attribute_exists(pk) AND attribute_not_exists(clearing)"


async def open_fan_out(store: Store, layouts: Layouts, plan: Plan, listed_as: str, now: float) -> Opened:
    """Seal a plan, or find it as it stands.

    Raises:
        FanOutSealedError: the fan-out exists with another set of names.
        InvalidInputError: metadata or a config that isn't JSON, or too large.
    """
    layout = _layout(plan)
    header = _header(plan, layout, listed_as, now)
    configs = [encoded_config(task.name, task.config) for task in plan.tasks]
    while True:
        found = await _found(store, layouts, plan, now)
        if found is not None:
            return found
        if await _write(store, plan, layout, header, configs):
            layouts.keep(layout)
            return sealing.new(plan)
        layout = _layout(plan)
        header = header | {"nonce": layout.nonce}


async def _found(store: Store, layouts: Layouts, plan: Plan, now: float) -> Opened | None:
    header = await concluding.settled(store, plan.fan_out_id, now)
    if header is None:
        return None
    layouts.keep(header.layout)
    stored = await reading.tasks(store, header.layout)
    states = {task.record.task_name: task.record.state for task in stored}
    return sealing.found(plan, header.generation, states)


async def _write(store: Store, plan: Plan, layout: Layout, header: Item, configs: list[str]) -> bool:
    """Write everything and seal it; False: another opening was first."""
    now = header["created_at"]
    await store.write_many(puts=[purging.remains_of(layout, now + PATIENCE)])
    await store.write_many(puts=_buckets(plan, layout, now))
    for at in range(0, len(configs), PIECE):
        await store.write_many(puts=_tasks(plan, layout, configs, at, now))
    new, noted = await store.swap(
        put=header, when_put=_IF_NEW, delete=shapes.remains_key(layout), when_deleted=_IF_NOTED, values={}
    )
    if new and noted:
        return True
    there = await reading.header(store, plan.fan_out_id)
    if there is not None and there.layout.nonce == layout.nonce:
        return True  # it was sealed, and only the answer was lost
    await purging.clear(store, layout)
    return False


def _layout(plan: Plan) -> Layout:
    return Layout(
        fan_out_id=plan.fan_out_id,
        nonce=secrets.token_hex(6),
        buckets=shapes.buckets_for(len(plan.tasks)),
        plain=plan.min_succeeded is None and plan.tolerated_failures is None and plan.deadline is None,
    )


def _header(plan: Plan, layout: Layout, listed_as: str, now: float) -> dict[str, Any]:
    key = shapes.header_key(plan.fan_out_id)
    ends_by = now + plan.deadline if plan.deadline is not None else None
    return {
        "pk": key[0],
        "sk": key[1],
        "fan_out_id": plan.fan_out_id,
        "nonce": layout.nonce,
        "bucket_count": layout.buckets,
        "plain": layout.plain,
        "entity_id": plan.entity_id,
        "event_id": plan.event_id,
        "parent_id": plan.parent,
        "metadata": _encoded(plan.metadata, "metadata", MAX_METADATA),
        "total_tasks": len(plan.tasks),
        "created_at": now,
        "generation": 0,
        "early": plan.min_succeeded is not None or plan.tolerated_failures is not None,
        "min_succeeded": plan.min_succeeded,
        "tolerated_failures": plan.tolerated_failures,
        "cancel_rest": plan.cancel_rest,
        "order_by": plan.order_by,
        "keep_for": plan.keep,
        "deadline_at": ends_by,
        "ends_by": ends_by,
        "slot": shapes.slot_of(plan.fan_out_id),
        "listed_as": listed_as,
        "open_at": now,
        "unsent_at": now,
    }


def _buckets(plan: Plan, layout: Layout, now: float) -> list[Item]:
    sizes = Counter(layout.bucket_of(task.name) for task in plan.tasks)
    return [
        {
            "pk": layout.partition(number),
            "sk": "bucket",
            "bucket_number": number,
            "bucket_size": sizes[number],
            "touched_at": now,
        }
        for number in range(layout.buckets)
    ]


def _tasks(plan: Plan, layout: Layout, configs: list[str], at: int, now: float) -> list[Item]:
    keys = [layout.task_key(task.name) for task in plan.tasks[at : at + PIECE]]
    return [
        {
            "pk": key[0],
            "sk": key[1],
            "task_name": task.name,
            "task_position": position,
            "task_state": TaskState.PENDING.value,
            "attempts": 0,
            "generation": 0,
            "task_config": configs[position],
            "updated_at": now,
        }
        for position, (task, key) in enumerate(zip(plan.tasks[at : at + PIECE], keys, strict=True), at)
    ]


def encoded_config(task_name: str, config: Mapping[str, Json]) -> str:
    """A task's configuration as JSON. Raises InvalidInputError where it is too large or no JSON."""
    return _encoded(config, f"config of {task_name!r}", MAX_CONFIG)


def _encoded(value: Any, what: str, limit: int) -> str:
    text = codec.to_json(value, what=what)
    size = len(text.encode())
    if size > limit:
        raise InvalidInputError(
            f"{what} has {size:,} bytes of JSON; a ledger on DynamoDB holds {limit:,}. Put a reference there (S3)"
        )
    return text
