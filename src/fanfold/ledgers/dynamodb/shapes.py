"""What the table's items hold, as values, and what follows from them. Pure.

A fan-out's tasks lie in buckets, each in a partition of its own, so that a large fan-out is spread over the table. A
bucket's own item keeps, as a set, what of it is terminal. An entry is a state's letter, the task's position and, where
it isn't 0, the task's generation: `s7`, `d12.1`. Adding one twice adds it once, and one of a generation before a re-run
counts for nothing: `again` says from which generation on a task's entries count.
"""

from __future__ import annotations

import json
import math
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from fanfold import codec
from fanfold.ledgers.dynamodb.store import Key
from fanfold.ledgers.dynamodb.wire import Item
from fanfold.model import Ended, Failure, FanOut, Progress, TaskRecord, TaskState

BUCKET: Final = 32
"""Tasks in a bucket, about, until there would be more buckets than tasks in one."""
SLOTS: Final = 4
"""Partitions of each index: each takes 1,000 writes a second, and each is one request more to whoever asks."""

TASK: Final = "task/"
"""What the sort key of a task's item begins with."""
FOLDING: Final = 1e10
"""Seconds by which the time of a fold that has begun is set back in the index of those that never did."""

_LETTERS: Final = {"s": TaskState.SUCCEEDED, "d": TaskState.DEAD, "c": TaskState.CANCELLED}
_LETTER_OF: Final = {state: letter for letter, state in _LETTERS.items()}
_decode_failure: Final = msgspec.json.Decoder(Failure | None).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where a fan-out's tasks lie. It never changes while the fan-out is remembered; `nonce` is the opening's own.

    `plain`: it has neither a tolerance nor a deadline, so its end is that of its last task, or somebody's wish.
    """

    fan_out_id: str
    nonce: str
    buckets: int
    plain: bool

    def bucket_of(self, task_name: str) -> int:
        """The bucket that a task lies in."""
        return zlib.crc32(task_name.encode()) % self.buckets

    def partition(self, bucket: int) -> str:
        """The partition key of a bucket and its tasks."""
        return f"bucket/{self.fan_out_id}/{self.nonce}/{bucket}"

    def bucket_key(self, bucket: int) -> Key:
        """The key of a bucket's own item."""
        return self.partition(bucket), "bucket"

    def task_key(self, task_name: str) -> Key:
        """The key of a task's item."""
        return self.partition(self.bucket_of(task_name)), f"{TASK}{task_name}"

    def config_key(self, task_name: str, token: str) -> Key:
        """The key of the configuration that a re-run, by its token, gives to a task."""
        return self.partition(self.bucket_of(task_name)), f"config/{token}/{task_name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A task as it is stored."""

    position: int
    record: TaskRecord

    @property
    def entry(self) -> str:
        """What its bucket says of it when it is terminal."""
        return f"{_LETTER_OF[self.record.state]}{_place(self.position, self.record.generation)}"

    def stopped(self, generation: int) -> bool:
        """Whether nobody wants an attempt of a generation any more."""
        return self.record.state is TaskState.CANCELLED or self.record.generation > generation


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Some tasks of a fan-out: how many, what of them is terminal, and when an attempt last ended."""

    number: int
    size: int
    touched_at: float
    entries: frozenset[str]
    again: frozenset[str]

    @property
    def states(self) -> Mapping[int, TaskState]:
        """The state of each terminal task, by its position."""
        needed: dict[int, int] = {}
        for position, generation in map(_placed, self.again):
            needed[position] = max(generation, needed.get(position, 0))
        found = ((_LETTERS[entry[0]], *_placed(entry[1:])) for entry in self.entries)
        return {position: state for state, position, generation in found if generation >= needed.get(position, 0)}

    @property
    def full(self) -> bool:
        """Whether every task is terminal."""
        return len(self.states) == self.size

    def counted(self) -> Counter[TaskState]:
        """How many of its tasks ended how."""
        return Counter(self.states.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A fan-out as its header says.

    `sweeping`: it ended for this reason, and not all that is left is cancelled yet. `rerunning`: not all that is to run
    again in its generation waits yet, and `rerun_names` and `failed_only` say what that is.
    """

    layout: Layout
    item: Item
    generation: int
    completed_at: float | None
    deadline_at: float | None
    early: bool
    cancel_rest: bool
    sweeping: Ended | None
    rerunning: bool
    fold_state: TaskState | None

    @property
    def fold_due(self) -> bool:
        """Whether it is complete and its fold isn't over."""
        return self.completed_at is not None and not (self.fold_state or TaskState.PENDING).terminal

    @property
    def due_generation(self) -> int:
        """The generation whose fold is due; 0 where none is."""
        return self.generation if self.fold_due else 0

    def overdue(self, now: float) -> bool:
        """Whether its deadline has come while it is open."""
        return self.completed_at is None and self.deadline_at is not None and self.deadline_at <= now

    def chosen(self, tasks: Iterable[Stored], names: Sequence[str] | None, *, failed_only: bool) -> list[Stored]:
        """Those of its terminal tasks that a re-run takes."""
        wanted = None if names is None else set(names)
        return [
            task
            for task in tasks
            if task.record.state.terminal
            and (wanted is None or task.record.task_name in wanted)
            and not (failed_only and task.record.state is TaskState.SUCCEEDED)
        ]


def buckets_for(total: int) -> int:
    """How many buckets a fan-out of so many tasks has: as few as there are tasks in one, when it is large."""
    return max(1, math.ceil(total / max(BUCKET, math.isqrt(total))))


def header_key(fan_out_id: str) -> Key:
    """The key of a fan-out's header."""
    return f"fan_out/{fan_out_id}", "header"


def remains_key(layout: Layout) -> Key:
    """The key of the note that buckets are there which belong to no fan-out: not yet, or no longer."""
    return f"fan_out/{layout.fan_out_id}", f"remains/{layout.nonce}"


def slot_of(fan_out_id: str) -> str:
    """The partition of each index that a fan-out is in."""
    return str(zlib.crc32(fan_out_id.encode()) % SLOTS)


def layout_of(item: Item) -> Layout:
    """Where the tasks of a header, or of remains, lie."""
    return Layout(
        fan_out_id=item["fan_out_id"], nonce=item["nonce"], buckets=item["bucket_count"], plain=item.get("plain", True)
    )


def header_of(item: Item) -> Header:
    """A header."""
    return Header(
        layout=layout_of(item),
        item=item,
        generation=item["generation"],
        completed_at=item.get("completed_at"),
        deadline_at=item.get("deadline_at"),
        early=item["early"],
        cancel_rest=item["cancel_rest"],
        sweeping=Ended(item["sweeping"]) if "sweeping" in item else None,
        rerunning="rerunning" in item,
        fold_state=TaskState(item["fold_state"]) if "fold_state" in item else None,
    )


def bucket_of(item: Item) -> Bucket:
    """A bucket."""
    return Bucket(
        number=item["bucket_number"],
        size=item["bucket_size"],
        touched_at=item["touched_at"],
        entries=item.get("done", frozenset()),
        again=item.get("again", frozenset()),
    )


def task_of(item: Item) -> Stored:
    """A task."""
    record = TaskRecord(
        task_name=item["task_name"],
        state=TaskState(item["task_state"]),
        attempts=item["attempts"],
        generation=item["generation"],
        task_config=codec.from_json(item["task_config"]),
        result=codec.from_json(item["task_result"]) if "task_result" in item else None,
        failure=failure_of(item.get("task_failure")),
        worker=item.get("worker", ""),
        updated_at=item["updated_at"],
    )
    return Stored(position=item["task_position"], record=record)


def failure_of(text: str | None) -> Failure | None:
    """A stored failure."""
    return _decode_failure(text) if text is not None else None


def fan_out_of(header: Header, progress: Progress, tasks: Sequence[TaskRecord]) -> FanOut:
    """A fan-out as its readers see it."""
    item = header.item
    return FanOut(
        fan_out_id=item["fan_out_id"],
        entity_id=item["entity_id"],
        event_id=item.get("event_id"),
        metadata=codec.from_json(item["metadata"]),
        total_tasks=item["total_tasks"],
        created_at=item["created_at"],
        completed_at=header.completed_at,
        progress=progress,
        fold_state=header.fold_state,
        generation=header.generation,
        parent=item.get("parent_id"),
        ended=Ended(item["ended_by"]) if "ended_by" in item else None,
        deadline_at=header.deadline_at,
        min_succeeded=item.get("min_succeeded"),
        tolerated_failures=item.get("tolerated_failures"),
        tasks=tasks,
    )


def progress_of(counts: Mapping[TaskState, int]) -> Progress:
    """How many tasks are in which state."""
    return Progress(**{state.value: count for state, count in counts.items()})


def end_of(header: Header, buckets: Iterable[Bucket]) -> Ended | None:
    """Why an open fan-out ends now, or None."""
    known = list(buckets)
    if all(bucket.full for bucket in known):
        return Ended.COMPLETE
    if not header.early:
        return None
    counts = sum((bucket.counted() for bucket in known), Counter[TaskState]())
    enough, tolerated = header.item.get("min_succeeded"), header.item.get("tolerated_failures")
    if enough is not None and counts[TaskState.SUCCEEDED] >= enough:
        return Ended.ENOUGH
    if tolerated is not None and counts[TaskState.DEAD] + counts[TaskState.CANCELLED] > tolerated:
        return Ended.FAILED
    return None


def to_names(text: str) -> Sequence[str] | None:
    """The names that a header keeps for its re-run; None: all."""
    names: list[str] | None = json.loads(text)
    return names


def again_entry(task: Stored, generation: int) -> str:
    """What a bucket's `again` says of a task that runs again in a generation."""
    return _place(task.position, generation)


def _place(position: int, generation: int) -> str:
    return f"{position}.{generation}" if generation else str(position)


def _placed(text: str) -> tuple[int, int]:
    position, _, generation = text.partition(".")
    return int(position), int(generation or 0)


def total(counts: Iterable[Mapping[TaskState, int]]) -> dict[TaskState, int]:
    """Counts added up."""
    added: Counter[TaskState] = Counter()
    for count in counts:
        added.update(count)
    return dict(added)
