"""The values that the parts pass to each other: frozen, and free of I/O.

Times are seconds since the epoch (float), durations are seconds, sizes are bytes, unless a name says otherwise.

What is made anew for each message is a msgspec.Struct: a frozen dataclass takes much longer to make. What
applications handle is a dataclass, as they expect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec

from fanfold import limits

Json = Any
"""Any value that JSON can carry."""

FOLD_NAME: Final = "fanfold.fold"
"""The task name under which a fan-out's completion travels; `fanfold.` names are reserved."""


class Timeout:
    """Named timeouts in seconds by kind of work, for `@app.task(..., timeout=Timeout.LLM_INFERENCE)`."""

    FAST_API: Final = 60
    DATABASE: Final = 120
    LLM_INFERENCE: Final = 900
    ML_MODEL: Final = 900
    PIPELINE: Final = 900


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One task as the caller of `enqueue` wants it: a name and its own configuration."""

    name: str
    config: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class FanOutOptions:
    """When a fan-out ends, and how long it is remembered.

    Without `min_succeeded` and `tolerated_failures` it ends when every task is terminal, and has succeeded when none is
    dead or cancelled. A number is a count, a text like `"90%"` a share of its tasks (rounded so that it asks for more,
    or tolerates less).

    Args:
        min_succeeded: it ends, succeeded, as soon as so many tasks have.
        tolerated_failures: so many dead or cancelled tasks are no failure; one more ends it, failed.
        rest: what an early end does with the tasks that are left: `"cancel"` them, or let them `"run"`.
        deadline: seconds from the enqueueing after which it ends, whatever is left: that is cancelled.
        order_by: `"task"` (each task a group of its own), `"entity"` (one after the other), or a function of entity id
            and task name that names the group; None: the application's `group_by`.
        keep: seconds for which the ledger remembers it after its end (14 days).
    """

    min_succeeded: int | str | None = None
    tolerated_failures: int | str | None = None
    rest: str = "cancel"
    deadline: float | None = None
    order_by: str | Callable[[str, str], str] | None = None
    keep: float = 1_209_600.0


class Ended(StrEnum):
    """Why a fan-out ended.

    Every task was terminal, enough had succeeded, too many had failed, its deadline came, or somebody cancelled it.
    """

    COMPLETE = "complete"
    ENOUGH = "enough"
    FAILED = "failed"
    DEADLINE = "deadline"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One named unit of work for one entity: what a message's body carries (wire keys: the field names).

    Of a body only the two names are required: what they mean can't be guessed, the rest has defaults. `fan_out_id` is
    None when an older producer that knows only the first seven keys wrote the message.
    """

    entity_id: str
    task_name: str
    task_config: Mapping[str, Json] = field(default_factory=dict)
    metadata: Mapping[str, Json] = field(default_factory=dict)
    timestamp: str = ""
    retry_count: int = 0
    total_tasks: int = 1
    fan_out_id: str | None = None
    generation: Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)] = 0
    """Bounded, since a number that a ledger can't hold would fail the whole batch of claims that it is in."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A task as SQS carries it, ready to send. `attributes` are String attributes, at most 10."""

    body: str
    group_id: str
    deduplication_id: str
    attributes: Mapping[str, str] = msgspec.field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes as SQS counts them: body, and names, types and values of the attributes."""
        size = limits.utf8_size(self.body)
        for name, value in self.attributes.items():
            size += len(name) + len("String") + limits.utf8_size(value)
        return size


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryError:
    """Why one entry of a batch was not done. `lease_lost`: the receipt handle no longer holds the message."""

    code: str
    text: str
    retryable: bool = False
    lease_lost: bool = False


class SendResult(msgspec.Struct, frozen=True, kw_only=True):
    """The queue's answer for one message: accepted with a `message_id`, or refused with an `error`.

    `duplicate` tells that the queue knew the deduplication id and delivered nothing; Amazon SQS doesn't tell (None).
    """

    message_id: str | None = None
    duplicate: bool | None = None
    error: EntryError | None = None


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A received message. The receipt handle holds it until the lease runs out.

    `receive_count` counts receives including this one. `attributes` are the String message attributes.
    """

    message_id: str
    receipt_handle: str
    body: str
    group_id: str
    deduplication_id: str
    receive_count: int
    sent_at: float
    received_at: float
    attributes: Mapping[str, str] = msgspec.field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStatus:
    """A queue's counts. Messages behind a locked group's head count as available, as SQS counts them."""

    messages_available: int
    messages_in_flight: int
    messages_delayed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An error as values: exception type, message, and the traceback trimmed to the task's own frames.

    Lone surrogates (names of files that aren't UTF-8) become escapes, so that every failure can be stored.
    """

    type: str
    message: str
    traceback: str = ""

    def __post_init__(self) -> None:
        for name in ("type", "message", "traceback"):
            storable = getattr(self, name).encode("utf-8", "backslashreplace").decode()
            object.__setattr__(self, name, storable)

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A message set aside, with all that is known of it.

    `task` is None for a body that can't be read. `reason` is empty when the queue's own redrive policy moved the
    message and no ledger was asked what had happened before. `attempts` counts runs, `receive_count` receives; times
    are None where nobody noted them. `group_id`, `source_message_id` and `attributes` are those that the message had in
    its queue. `state` is the task's in the ledger, None where it isn't known.
    """

    message_id: str
    receipt_handle: str
    body: str
    receive_count: int
    reason: str = ""
    error_type: str = ""
    task: Task | None = None
    traceback: str = ""
    attempts: int | None = None
    enqueued_at: float | None = None
    set_aside_at: float | None = None
    worker: str = ""
    trace_id: str = ""
    group_id: str = ""
    source_message_id: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    state: TaskState | None = None


class TaskState(StrEnum):
    """Where a task stands in the ledger."""

    PENDING = "pending"
    RUNNING = "running"
    FAILED = "failed"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether nothing will happen to the task any more (short of a redrive)."""
        return self in TERMINAL


TERMINAL: Final = frozenset({TaskState.SUCCEEDED, TaskState.DEAD, TaskState.CANCELLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRecord:
    """What the ledger knows of one task. `result` is the JSON value of a succeeded one."""

    task_name: str
    state: TaskState
    attempts: int = 0
    generation: int = 0
    task_config: Mapping[str, Json] = field(default_factory=dict)
    result: Json = None
    failure: Failure | None = None
    worker: str = ""
    updated_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How many tasks of a fan-out are in which state."""

    pending: int = 0
    running: int = 0
    failed: int = 0
    succeeded: int = 0
    dead: int = 0
    cancelled: int = 0

    @property
    def total(self) -> int:
        """All tasks of the fan-out."""
        return self.pending + self.running + self.failed + self.done

    @property
    def done(self) -> int:
        """Tasks in a terminal state."""
        return self.succeeded + self.dead + self.cancelled


@dataclass(frozen=True, slots=True, kw_only=True)
class FanOut:
    """The tasks of one event as a sealed set of names, and how far they are.

    `tasks` stand in the order of the plan; it is empty where only the summary was asked for (`Ledger.list`).
    `completed_at` and `ended` (why) are None while it is open. `fold_state` is None until the completion's own task was
    first claimed. `generation` grows with each re-run, and each has a fold of its own. `parent` is the fan-out whose
    completion enqueued this one. `tolerated_failures` is a count.
    """

    fan_out_id: str
    entity_id: str
    event_id: str | None
    metadata: Mapping[str, Json]
    total_tasks: int
    created_at: float
    completed_at: float | None
    progress: Progress
    fold_state: TaskState | None = None
    generation: int = 0
    parent: str | None = None
    ended: Ended | None = None
    deadline_at: float | None = None
    min_succeeded: int | None = None
    tolerated_failures: int | None = None
    tasks: Sequence[TaskRecord] = ()

    def task(self, task_name: str, task_config: Mapping[str, Json] | None = None) -> Task:
        """A task of this fan-out, in its present generation, as a message is to carry it (without a time)."""
        return Task(
            entity_id=self.entity_id,
            task_name=task_name,
            task_config=task_config or {},
            metadata=self.metadata,
            total_tasks=self.total_tasks,
            fan_out_id=self.fan_out_id,
            generation=self.generation,
        )

    @property
    def succeeded(self) -> bool | None:
        """Whether it ended with enough successes and no more failures than are tolerated; None while it is open."""
        if self.completed_at is None:
            return None
        if self.min_succeeded is not None and self.progress.succeeded >= self.min_succeeded:
            return True
        failed = self.total_tasks - self.progress.succeeded
        return failed <= (self.tolerated_failures or 0)

    @property
    def results(self) -> dict[str, Json]:
        """Results of the succeeded tasks by name, in the order of the plan."""
        return {t.task_name: t.result for t in self.tasks if t.state is TaskState.SUCCEEDED}

    @property
    def failures(self) -> dict[str, Failure]:
        """Why tasks ended without a result, by name, in the order of the plan."""
        ended = (t for t in self.tasks if t.state in (TaskState.DEAD, TaskState.CANCELLED))
        return {t.task_name: t.failure or Failure(type=t.state.value, message="") for t in ended}


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueued:
    """What `enqueue` did with one event.

    `sent` counts accepted messages; `duplicates` those of them that the queue knew already (only the embedded
    queue tells); `settled` names were terminal in the ledger and were not sent.
    """

    fan_out_id: str
    entity_id: str
    total_tasks: int
    sent: int
    duplicates: int
    settled: int
