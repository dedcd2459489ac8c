"""Values to what PostgreSQL's functions take, and its rows to values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from psycopg.rows import DictRow

from fanfold import codec
from fanfold.ledgers import endings
from fanfold.ledgers.protocol import Claim, Claimed, Finish, Plan, Recorded, Unsent
from fanfold.model import FOLD_NAME, Ended, Failure, FanOut, Progress, TaskRecord, TaskSpec, TaskState

_COUNTS: Final = tuple(state.value for state in TaskState)
_SAME: Final = (
    *("fan_out_id", "entity_id", "event_id", "total_tasks", "created_at", "completed_at", "generation", "parent"),
    *("deadline_at", "min_succeeded", "tolerated_failures"),
)
_decode_failure: Final = msgspec.json.Decoder(Failure).decode


def encode(value: Any) -> str:
    """JSON text for a `jsonb` argument."""
    return msgspec.json.encode(value).decode()


def plan(of: Plan) -> str:
    """A plan without its tasks."""
    names = ("fan_out_id", "entity_id", "event_id", "parent", "min_succeeded", "tolerated_failures", "cancel_rest",
             "deadline", "order_by", "keep")  # fmt: skip
    said = {name: getattr(of, name) for name in names}
    return encode(said | {"metadata": codec.to_json(of.metadata, what="metadata"), "total_tasks": len(of.tasks)})


def tasks_of(planned: Sequence[TaskSpec]) -> str:
    """The tasks of a plan: names and configurations."""
    return encode([(task.name, codec.to_json(task.config, what=f"config of {task.name!r}")) for task in planned])


def ids(of: Sequence[Claim] | Sequence[Finish]) -> list[str]:
    """The fan-outs of claims or ends, each once."""
    return list({entry.fan_out_id for entry in of})


def finishes(of: Sequence[Finish]) -> str:
    """The ends of attempts."""
    return encode([endings.values(finish) for finish in of])


def claimed(row: DictRow) -> Claimed | None:
    """The answer to a claim."""
    if row["state"] is None:
        return None
    due = row["fold_generation"]
    return Claimed(
        state=TaskState(row["state"]),
        attempt=row["attempt"],
        fold_due=due is not None,
        generation=due or 0,
        failure=_failure(row["failure"]),
        deadline_at=row["deadline_at"],
    )


def recorded(of: Sequence[Finish], answer: DictRow) -> list[Recorded]:
    """The answers to the ends of attempts."""
    answers = []
    for finish, applied in zip(of, answer["applied"], strict=True):
        asks = finish.state.terminal and finish.task_name != FOLD_NAME
        due = answer["due"][finish.fan_out_id] if asks else None
        answers.append(Recorded(applied=applied, fold_due=due is not None, generation=due or 0))
    return answers


def fan_out(row: DictRow, records: Sequence[DictRow] = ()) -> FanOut:
    """A fan-out, with its tasks where there are any."""
    return FanOut(
        **{name: row[name] for name in _SAME},
        metadata=codec.from_json(row["metadata"]),
        progress=Progress(**{name: row[name] for name in _COUNTS}),
        fold_state=TaskState(row["fold_state"]) if row["fold_state"] else None,
        ended=Ended(row["ended"]) if row["ended"] else None,
        tasks=[task(record) for record in records] if records else (),
    )


def task(row: DictRow) -> TaskRecord:
    """A task."""
    result = row["result"]
    return TaskRecord(
        task_name=row["task_name"],
        state=TaskState(row["state"]),
        attempts=row["attempts"],
        generation=row["generation"],
        task_config=codec.from_json(row["task_config"]),
        result=codec.from_json(result) if result is not None else None,
        failure=_failure(row["failure"]),
        worker=row["worker"],
        updated_at=row["updated_at"],
    )


def unsent(row: DictRow, records: Sequence[DictRow]) -> Unsent:
    """A fan-out with those of its tasks that nobody has claimed yet."""
    waiting = [task(record) for record in records if record["state"] == TaskState.PENDING]
    return Unsent(fan_out=fan_out(row), order_by=row["order_by"], tasks=waiting)


def _failure(text: str | None) -> Failure | None:
    return _decode_failure(text) if text is not None else None
