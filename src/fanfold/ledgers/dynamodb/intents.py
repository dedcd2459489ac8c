"""What the header of a fan-out says is still to be done: cancel what an end left, or let tasks run again.

Both touch many items, so they are first written into the header, in the write that decides them, and then carried out
by whoever meets them there. Each step is conditional on the generation: two may do it at once, and a third much later.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from fanfold.ledgers.dynamodb import noting, reading, shapes
from fanfold.ledgers.dynamodb.reading import Contents
from fanfold.ledgers.dynamodb.shapes import Header, Stored
from fanfold.ledgers.dynamodb.store import Store, together
from fanfold.ledgers.endings import CANCELLED_BY
from fanfold.model import Ended

_CANCEL: Final = "SET task_state = :cancelled, task_failure = :failure, updated_at = :now REMOVE task_result"
_IF_CANCELLABLE: Final = "task_state IN (:pending, :running, :failed) AND generation <= :generation"
_SWEPT: Final = "REMOVE sweeping"
_IF_SWEEPING: Final = "nonce = :nonce AND generation = :generation AND attribute_exists(sweeping)"

_AGAIN: Final = "ADD again :again DELETE done :done"
_THERE: Final = "attribute_exists(pk)"
_RESET: Final = (
    "REMOVE task_result, task_failure, worker, claimed_by "
    "SET task_state = :pending, attempts = :none, generation = :generation, updated_at = :now"
)
_RESET_EDITED: Final = f"{_RESET}, task_config = :task_config"
_IF_BEFORE: Final = "task_state IN (:succeeded, :dead, :cancelled) AND generation < :generation"
_RERUN: Final = "REMOVE rerunning, rerun_names, rerun_failed_only, rerun_token"
_IF_RERUNNING: Final = "nonce = :nonce AND generation = :generation AND attribute_exists(rerunning)"

_OPEN: Final = {"pending": "pending", "running": "running", "failed": "failed"}
_OVER: Final = {"succeeded": "succeeded", "dead": "dead", "cancelled": "cancelled"}


async def carry_out(store: Store, header: Header, now: float) -> bool:
    """Do what the header says is to be done; answers whether there was anything."""
    if header.rerunning:
        await _carry_out_rerun(store, header, now)
    elif header.sweeping is not None:
        await sweep(store, header, header.sweeping, now)
    return header.rerunning or header.sweeping is not None


async def sweep(store: Store, header: Header, ended: Ended, now: float) -> list[str]:
    """Cancel what is left of a fan-out, and note what nobody noted; answers the names cancelled now, in order."""
    known = await reading.buckets(store, header.layout)
    numbers = [bucket.number for bucket in known if not bucket.full]
    found = await reading.contents(store, header.layout, numbers)
    cancelled: list[list[Stored]] = await together(_sweep(store, header, each, ended, now) for each in found)
    await _done(store, header, _SWEPT, _IF_SWEEPING)
    in_order = sorted((task for some in cancelled for task in some), key=lambda task: task.position)
    return [task.record.task_name for task in in_order]


async def cancel_tasks(store: Store, header: Header, tasks: Iterable[str], ended: Ended, now: float) -> list[Stored]:
    """Cancel those of these tasks that aren't terminal and of no later generation; answers them. Notes nothing."""
    values = _OPEN | {
        "cancelled": "cancelled",
        "failure": CANCELLED_BY[ended],
        "now": now,
        "generation": header.generation,
    }
    keys = [header.layout.task_key(name) for name in tasks]
    written = await together(store.update(key, _CANCEL, values, when=_IF_CANCELLABLE) for key in keys)
    return [shapes.task_of(each.item) for each in written if each.applied and each.item is not None]


async def _sweep(store: Store, header: Header, found: Contents, ended: Ended, now: float) -> list[Stored]:
    left = [task.record.task_name for task in found.tasks if not task.record.state.terminal]
    cancelled = await cancel_tasks(store, header, left, ended, now)
    over = [task for task in found.tasks if task.record.state.terminal]
    await noting.note(store, header.layout, [*over, *cancelled], now)
    return cancelled


async def _carry_out_rerun(store: Store, header: Header, now: float) -> None:
    names = shapes.to_names(header.item["rerun_names"])
    stored = await reading.tasks(store, header.layout)
    chosen = header.chosen(stored, names, failed_only=header.item["rerun_failed_only"])
    earlier = [task for task in chosen if task.record.generation < header.generation]
    configs = await _configs(store, header, earlier)
    by_bucket: dict[int, list[Stored]] = defaultdict(list)
    for task in earlier:
        by_bucket[header.layout.bucket_of(task.record.task_name)].append(task)
    await together(_again(store, header, some, configs, now) for some in by_bucket.values())
    await _done(store, header, _RERUN, _IF_RERUNNING)
    # Whoever dies before this leaves them to the purge: no other re-run has their token.
    await store.write_many(deletes=[header.layout.config_key(name, header.item["rerun_token"]) for name in configs])


async def _configs(store: Store, header: Header, tasks: Iterable[Stored]) -> dict[str, str]:
    """The configurations that the re-run gives to some of its tasks, as JSON by their names."""
    token = header.item.get("rerun_token")
    if not token:
        return {}
    found = await store.get_many([header.layout.config_key(task.record.task_name, token) for task in tasks])
    return {item["task_name"]: item["task_config"] for item in found}


async def _again(store: Store, header: Header, tasks: Sequence[Stored], configs: Mapping[str, str], now: float) -> None:
    # The bucket first: entries of the generation before count for nothing from then on.
    again = {shapes.again_entry(task, header.generation) for task in tasks}
    values = {"again": again, "done": {task.entry for task in tasks}}
    bucket = header.layout.bucket_of(tasks[0].record.task_name)
    await store.update(header.layout.bucket_key(bucket), _AGAIN, values, when=_THERE)
    await together(_reset(store, header, task.record.task_name, configs, now) for task in tasks)


async def _reset(store: Store, header: Header, name: str, configs: Mapping[str, str], now: float) -> None:
    values = _OVER | {"pending": "pending", "none": 0, "generation": header.generation, "now": now}
    key = header.layout.task_key(name)
    if name in configs:
        await store.update(key, _RESET_EDITED, values | {"task_config": configs[name]}, when=_IF_BEFORE)
    else:
        await store.update(key, _RESET, values, when=_IF_BEFORE)


async def _done(store: Store, header: Header, change: str, when: str) -> None:
    values = {"nonce": header.layout.nonce, "generation": header.generation}
    await store.update(shapes.header_key(header.layout.fan_out_id), change, values, when=when)
