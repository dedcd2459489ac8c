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
# What `advance` answers, see there.
_decode_started: Final = msgspec.json.Decoder(list[tuple[int, int, str | None, float | None]]).decode
_decode_others: Final = msgspec.json.Decoder(
    list[tuple[int, str | None, int | None, int | None, str | None, float | None]]
).decode
_decode_missed: Final = msgspec.json.Decoder(list[int]).decode
_decode_due: Final = msgspec.json.Decoder(dict[str, int]).decode


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


def advance(claims: Sequence[Claim], finishes: Sequence[Finish]) -> dict[str, Any]:
    """What is asked for claims and ends together."""
    ended = {finish.fan_out_id for finish in finishes}
    return {
        "ids": list(ended | {claim.fan_out_id for claim in claims}),
        "of_ends": list({finish.fan_out_id for finish in finishes if finish.task_name != FOLD_NAME}),
        "finishes": encode([endings.values(finish) for finish in finishes]) if finishes else None,
        "claims": encode(claims) if claims else None,
    }


def claimed(claims: Sequence[Claim], answer: DictRow) -> list[Claimed | None]:
    """The answers to claims."""
    answers: list[Claimed | None] = [None] * len(claims)
    for n, attempt, failed, until in _decode_started(answer["started"] or "[]"):
        answers[n - 1] = Claimed(state=TaskState.RUNNING, attempt=attempt, failure=_failure(failed), deadline_at=until)
    for n, state, attempts, due, failed, until in _decode_others(answer["others"] or "[]"):
        if state is not None:
            answers[n - 1] = Claimed(
                state=TaskState(state),
                attempt=attempts or 0,
                fold_due=due is not None,
                generation=due or 0,
                failure=_failure(failed),
                deadline_at=until,
            )
    return answers


def recorded(finishes: Sequence[Finish], answer: DictRow) -> list[Recorded]:
    """The answers to the ends of attempts."""
    missed, due = set(_decode_missed(answer["missed"] or "[]")), _decode_due(answer["due"] or "{}")
    answers = []
    for n, finish in enumerate(finishes, 1):
        asks = finish.task_name != FOLD_NAME and finish.state.terminal
        generation = due.get(finish.fan_out_id) if due and asks else None
        applied = n not in missed
        answers.append(Recorded(applied=applied, fold_due=generation is not None, generation=generation or 0))
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
