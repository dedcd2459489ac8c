"""Noting in a bucket what of it is terminal. An entry that is there changes nothing, so it may be noted twice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from fanfold.ledgers.dynamodb import shapes
from fanfold.ledgers.dynamodb.shapes import Bucket, Layout, Stored
from fanfold.ledgers.dynamodb.store import Store, together

_NOTE: Final = "SET touched_at = :now ADD done :entries"
_TOUCH: Final = "SET touched_at = :now"
_THERE: Final = "attribute_exists(pk)"


async def note(store: Store, layout: Layout, tasks: Iterable[Stored], now: float) -> list[Bucket]:
    """Note how tasks ended (of those that will be retried, only that something happened), in one write a bucket.

    Answers the buckets as they are then, without those that are there no longer.
    """
    entries: dict[int, set[str]] = defaultdict(set)
    for task in tasks:
        entries[layout.bucket_of(task.record.task_name)] |= {task.entry} if task.record.state.terminal else set()
    written = await together(_note(store, layout, number, ended, now) for number, ended in entries.items())
    return [bucket for bucket in written if bucket is not None]


async def note_if_missing(store: Store, layout: Layout, task: Stored, now: float) -> None:
    """Note how a task ended, if whoever ended it died before it could."""
    number = layout.bucket_of(task.record.task_name)
    item = await store.get(layout.bucket_key(number))
    if item is not None and task.record.state.terminal and task.position not in shapes.bucket_of(item).states:
        await note(store, layout, [task], now)


async def _note(store: Store, layout: Layout, number: int, entries: set[str], now: float) -> Bucket | None:
    key = layout.bucket_key(number)
    if entries:
        written = await store.update(key, _NOTE, {"now": now, "entries": entries}, when=_THERE)
    else:
        written = await store.update(key, _TOUCH, {"now": now}, when=_THERE)
    return shapes.bucket_of(written.item) if written.item is not None else None
