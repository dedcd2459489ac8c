"""What a ledger must do. `tests/contract/test_ledger.py` holds every implementation to it.

Every write is conditional on the state it finds, so a duplicate, a late worker or a replay changes nothing.
Methods on sequences answer one entry each, in the order given, in as few round trips as the store allows.
Every method may be awaited from any event loop and from several at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from fanfold.model import Failure, FanOut, Json, TaskRecord, TaskSpec, TaskState


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A fan-out to be opened: the sealed set of its tasks, in order."""

    fan_out_id: str
    entity_id: str
    event_id: str | None
    metadata: Mapping[str, Json]
    tasks: Sequence[TaskSpec]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A run about to start: the ledger counts it as an attempt if the task isn't terminal."""

    fan_out_id: str
    task_name: str
    generation: int
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """The ledger's answer to a claim.

    `state` is RUNNING when the run may start, as attempt number `attempt`; a terminal state tells how it ended before.
    `fold_due`: the fan-out is complete and its fold wasn't done yet, as far as the ledger knows; `fold_generation` is
    then the one to send. `failure` is the last recorded one.
    """

    state: TaskState
    attempt: int
    fold_due: bool = False
    failure: Failure | None = None
    fold_generation: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The end of one attempt. Exactly one kind: a JSON `result`, or a `failure` that is final (`dead`) or not.

    Applied only while the task is RUNNING (for `dead` also PENDING or FAILED) in that `attempt` of that `generation`: a
    worker that lost its lease can't overwrite what its successor does. `attempt` None (only with `dead`): whatever
    attempt is current.
    """

    fan_out_id: str
    task_name: str
    attempt: int | None
    result: str | None = None
    failure: Failure | None = None
    dead: bool = False
    generation: int = 0

    @property
    def state(self) -> TaskState:
        """The state that the task ends in."""
        if self.dead:
            return TaskState.DEAD
        return TaskState.SUCCEEDED if self.failure is None else TaskState.FAILED


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What a write did.

    `applied` is False for a late worker; the same write again (its answer may have been lost) counts as applied,
    except one without an `attempt`: nobody can tell whose it was.
    `fold_due` is as in `Claimed`, and False while the task isn't terminal.
    """

    applied: bool
    fold_due: bool = False
    fold_generation: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reopen:
    """A task whose dead letter was sent back: it begins anew in a later `generation`.

    `task_config`: what an edit made of it; None: unchanged.
    """

    fan_out_id: str
    task_name: str
    generation: int
    task_config: Mapping[str, Json] | None = None


class Ledger(Protocol):
    """Fan-outs and their tasks, keyed by `(fan_out_id, task_name)`."""

    url: str

    async def start(self) -> None:
        """Connect and bring the schema up to date. Idempotent."""

    async def close(self) -> None:
        """Let go of threads, connections and files. Idempotent."""

    async def open(self, plan: Plan) -> dict[str, TaskState]:
        """Record the sealed set, or find it again; answers each name's state (all PENDING when new).

        Raises:
            FanOutSealedError: the fan-out exists with another set of names.
        """

    async def claim(self, claims: Sequence[Claim]) -> list[Claimed | None]:
        """Start attempts. None: the ledger doesn't know the task (an older producer, or purged).

        The fold (`FOLD_NAME`) can be claimed once its fan-out is complete; its row begins with the first claim.
        A claim of a later generation does what `reopen` does first: the message may be quicker than that.
        """

    async def finish(self, finishes: Sequence[Finish]) -> list[Recorded]:
        """End attempts: succeeded, failed (will be retried) or dead."""

    async def reopen(self, reopens: Sequence[Reopen]) -> list[bool]:
        """Let tasks begin anew: pending, no attempts, in a later generation. Answers whether each stands there now.

        Only what neither succeeded nor was cancelled can be reopened, and never into an earlier generation; the same
        write again changes nothing. A fan-out that was complete is open again, and its next completion is announced by
        a fold of its own, one generation up (`FanOut.generation`). Reopening the fold itself (`FOLD_NAME`) of a
        complete fan-out makes it due in that generation.
        """

    async def records(self, keys: Sequence[tuple[str, str]]) -> list[TaskRecord | None]:
        """Tasks by `(fan_out_id, task_name)`, the fold's included; None where the ledger doesn't know one."""

    async def get(self, fan_out_id: str) -> FanOut | None:
        """One fan-out with its tasks in the order of the plan, or None."""

    async def list(self, *, limit: int = 50, open_only: bool = False) -> Sequence[FanOut]:
        """The newest fan-outs first, without their tasks."""

    async def tasks(self, fan_out_id: str) -> Sequence[TaskRecord]:
        """The tasks of one fan-out in the order of the plan; empty when there is none."""

    async def stalled(self, *, untouched_for: float, limit: int = 100) -> Sequence[FanOut]:
        """Open fan-outs in which no attempt ended for so many seconds, oldest first, without their tasks."""

    async def unfolded(self, *, completed_since: float, completed_before: float, limit: int = 100) -> Sequence[FanOut]:
        """Fan-outs completed between two times whose fold was never claimed, oldest first, without their tasks."""

    async def purge(self, *, completed_before: float, limit: int = 1000) -> int:
        """Forget up to `limit` fan-outs completed before that time; answers how many."""
