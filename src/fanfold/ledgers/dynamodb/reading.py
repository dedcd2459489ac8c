"""Reading the table: items to values."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from fanfold.ledgers.dynamodb import shapes
from fanfold.ledgers.dynamodb.shapes import Bucket, Header, Layout, Stored
from fanfold.ledgers.dynamodb.store import Store, together
from fanfold.model import FanOut, TaskState

_PARTITION: Final = "pk = :pk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """A bucket with its tasks."""

    bucket: Bucket
    tasks: Sequence[Stored]


class Layouts:
    """Where fan-outs' tasks lie, kept, so that a task costs no look at its fan-out's header."""

    _KEPT: Final = 10_000

    def __init__(self) -> None:
        self._known: dict[str, Layout] = {}
        self._guard = threading.Lock()

    def get(self, fan_out_id: str) -> Layout | None:
        """What is known of a fan-out."""
        return self._known.get(fan_out_id)

    def keep(self, layout: Layout) -> None:
        """Remember one; the oldest is forgotten when there are many."""
        with self._guard:
            if len(self._known) >= self._KEPT:
                self._known.pop(next(iter(self._known)))
            self._known[layout.fan_out_id] = layout

    def forget(self, fan_out_id: str) -> None:
        """Its fan-out was purged, and may have been opened anew."""
        with self._guard:
            self._known.pop(fan_out_id, None)


async def layout(store: Store, layouts: Layouts, fan_out_id: str) -> Layout | None:
    """Where a fan-out's tasks lie, from its header where it isn't known (any more); None: there is no such fan-out."""
    known = layouts.get(fan_out_id)
    if known is None and (found := await header(store, fan_out_id)) is not None:
        known = found.layout
        layouts.keep(known)
    return known


async def header(store: Store, fan_out_id: str) -> Header | None:
    """One header."""
    item = await store.get(shapes.header_key(fan_out_id))
    return shapes.header_of(item) if item is not None else None


async def headers(store: Store, fan_out_ids: Iterable[str]) -> dict[str, Header]:
    """Headers by fan-out, of those that are there."""
    items = await store.get_many([shapes.header_key(fan_out_id) for fan_out_id in dict.fromkeys(fan_out_ids)])
    return {item["fan_out_id"]: shapes.header_of(item) for item in items}


async def buckets(store: Store, layout: Layout) -> list[Bucket]:
    """All buckets of a fan-out, without their tasks."""
    items = await store.get_many([layout.bucket_key(number) for number in range(layout.buckets)])
    return [shapes.bucket_of(item) for item in items]


async def contents(store: Store, layout: Layout, numbers: Iterable[int]) -> list[Contents]:
    """Some buckets with their tasks; a bucket that isn't there (its fan-out was purged meanwhile) is left out."""
    found: list[Contents | None] = await together(_contents(store, layout, number) for number in numbers)
    return [each for each in found if each is not None]


async def tasks(store: Store, layout: Layout) -> list[Stored]:
    """All tasks of a fan-out in the order of the plan."""
    found = await contents(store, layout, range(layout.buckets))
    return sorted((task for each in found for task in each.tasks), key=lambda task: task.position)


async def fan_out(store: Store, found: Header) -> FanOut:
    """A fan-out with its tasks."""
    stored = [task.record for task in await tasks(store, found.layout)]
    counts = Counter(record.state for record in stored)
    return shapes.fan_out_of(found, shapes.progress_of(counts), stored)


async def summary(store: Store, found: Header) -> FanOut:
    """A fan-out without its tasks: only those of buckets that aren't full are looked at."""
    known = await buckets(store, found.layout)
    unfinished = [bucket.number for bucket in known if not bucket.full]
    looked = await contents(store, found.layout, unfinished)
    counts: list[Counter[TaskState]] = [bucket.counted() for bucket in known if bucket.full]
    counts += [Counter(task.record.state for task in each.tasks) for each in looked]
    return shapes.fan_out_of(found, shapes.progress_of(shapes.total(counts)), ())


async def summaries(store: Store, found: Iterable[Header]) -> list[FanOut]:
    """Several of them."""
    return await together(summary(store, each) for each in found)


async def _contents(store: Store, layout: Layout, number: int) -> Contents | None:
    items = await store.query(_PARTITION, {"pk": layout.partition(number)}, ConsistentRead=True)
    own = next((item for item in items if item["sk"] == "bucket"), None)
    if own is None:
        return None
    stored = [shapes.task_of(item) for item in items if item["sk"].startswith(shapes.TASK)]
    return Contents(bucket=shapes.bucket_of(own), tasks=stored)
