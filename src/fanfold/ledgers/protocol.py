"""What a ledger must do. `tests/contract/test_ledger.py` holds every implementation to it.

Every write is conditional on the state it finds, so a duplicate, a late worker or a replay changes nothing.
Methods on sequences answer one entry each, in the order given, in as few round trips as the store allows.
Every method may be awaited from any event loop and from several at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from fanfold.model import Ended, Failure, FanOut, FanOutOptions, Json, TaskRecord, TaskSpec, TaskState

Configs = Mapping[str, Mapping[str, Json]]
"""Configurations of tasks, by their names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A fan-out to be opened: the sealed set of its tasks, in order, and when it ends.

    `min_succeeded` and `tolerated_failures` are counts; `deadline` and `keep` are seconds; `order_by` is remembered for
    whoever has to send the messages again. See `FanOutOptions`.
    """

    fan_out_id: str
    entity_id: str
    event_id: str | None
    metadata: Mapping[str, Json]
    tasks: Sequence[TaskSpec]
    parent: str | None = None
    min_succeeded: int | None = None
    tolerated_failures: int | None = None
    cancel_rest: bool = True
    deadline: float | None = None
    order_by: str | None = None
    keep: float = FanOutOptions().keep


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A fan-out as it stands: its generation, and each name's state (all PENDING when it is new)."""

    generation: int
    states: Mapping[str, TaskState]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsent:
    """Waiting tasks of one fan-out of whose messages nobody knows that the queue has accepted them."""

    fan_out: FanOut
    order_by: str | None
    tasks: Sequence[TaskRecord]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """The tasks that were cancelled now. `fold_due` and `generation` are as in `Claimed`."""

    task_names: Sequence[str]
    fold_due: bool = False
    generation: int = 0


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A run about to start: the ledger counts it as an attempt if the task isn't terminal."""

    fan_out_id: str
    task_name: str
    generation: int
    worker: str


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """The ledger's answer to a claim.

    `state` is RUNNING when the run may start, as attempt number `attempt`; a terminal state tells how it ended before.
    `fold_due`: the fan-out is complete and the fold of its `generation` wasn't done yet, as far as the ledger knows.
    `failure` is the last recorded one. `deadline_at` is the fan-out's, in seconds since the epoch.
    """

    state: TaskState
    attempt: int
    fold_due: bool = False
    generation: int = 0
    failure: Failure | None = None
    deadline_at: float | None = None


class Finish(msgspec.Struct, frozen=True, kw_only=True):
    """The end of one attempt. Exactly one kind: a JSON `result`, or a `failure` that is final (`dead`) or not.

    Applied only while the task is RUNNING (for `dead` also PENDING or FAILED) in that `attempt`: a worker that lost its
    lease can't overwrite what its successor does. `attempt` None (only with `dead`): whatever attempt is current.
    Attempts are counted anew in each `generation`.
    """

    fan_out_id: str
    task_name: str
    attempt: int | None
    generation: int = 0
    result: str | None = None
    failure: Failure | None = None
    dead: bool = False

    @property
    def state(self) -> TaskState:
        """The state that the task ends in."""
        if self.dead:
            return TaskState.DEAD
        return TaskState.SUCCEEDED if self.failure is None else TaskState.FAILED


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """What a write did.

    `applied` is False for a late worker; the same write again (its answer may have been lost) counts as applied,
    except one without an `attempt`: nobody can tell whose it was.
    `fold_due` and `generation` are as in `Claimed`; `fold_due` is False while the task isn't terminal.
    """

    applied: bool
    fold_due: bool = False
    generation: int = 0


class Ledger(Protocol):
    """Fan-outs and their tasks, keyed by `(fan_out_id, task_name)`."""

    url: str

    async def start(self) -> None:
        """Connect and bring the schema up to date. Idempotent."""

    async def close(self) -> None:
        """Let go of threads, connections and files. Idempotent."""

    async def open(self, plan: Plan) -> Opened:
        """Record the sealed set, or find it again.

        A large plan is written piece by piece, but a fan-out is there for nobody (not to claim, not to find) before its
        last piece is. One that its producer left half written is taken over by the next who opens it, or cleared away
        by `purge` after a day.

        Raises:
            FanOutSealedError: the fan-out exists with another set of names.
        """

    async def sent(self, fan_out_id: str, generation: int) -> None:
        """Note that the queue has now accepted the messages of all tasks that wait in this generation."""

    async def claim(self, claims: Sequence[Claim]) -> list[Claimed | None]:
        """Start attempts. None: the ledger doesn't know the task (an older producer, or purged).

        The fold (`FOLD_NAME`) can be claimed once its fan-out is complete, in its generation; its row begins with the
        first claim. A claim after the fan-out's deadline ends the fan-out.
        """

    async def finish(self, finishes: Sequence[Finish]) -> list[Recorded]:
        """End attempts: succeeded, failed (will be retried) or dead."""

    async def stopped(self, claims: Sequence[Claim]) -> list[bool]:
        """Which of these running attempts nobody wants any more: cancelled, or superseded by a re-run."""

    async def cancel(
        self, fan_out_id: str, task_names: Sequence[str] | None = None, *, ended: Ended = Ended.CANCELLED
    ) -> Cancelled | None:
        """Cancel what isn't terminal of some tasks, or of all (None), which ends the fan-out for the reason `ended`.

        None: there is no such fan-out.
        """

    async def rerun(
        self,
        fan_out_id: str,
        task_names: Sequence[str] | None = None,
        *,
        failed_only: bool = True,
        configs: Configs | None = None,
    ) -> Unsent | None:
        """Let terminal tasks (named ones, or all; with `failed_only` those that didn't succeed) start anew.

        They are pending, in the fan-out's next generation, which ends without an early end or a deadline and has a fold
        of its own. Answers what must be sent: no tasks, and the same generation, where there was nothing to re-run.
        `configs` are what those that begin anew get instead of their configurations, in the same write: whoever sends
        their messages later sends these.
        With the name `FOLD_NAME` and no task to re-run, a fan-out that is complete, and whose fold is dead, begins its
        next generation for the sake of another fold alone: it stays complete, and the caller sends that fold.
        None: there is no such fan-out.
        """

    async def get(self, fan_out_id: str) -> FanOut | None:
        """One fan-out with its tasks in the order of the plan, or None."""

    async def summary(self, fan_out_id: str) -> FanOut | None:
        """One fan-out without its tasks, or None: as cheap for a large one as for a small one, as far as can be."""

    async def list(
        self, *, limit: int = 50, open_only: bool = False, entity_id: str | None = None, parent: str | None = None
    ) -> Sequence[FanOut]:
        """The newest fan-outs first (with `open_only` those touched last), without their tasks.

        `entity_id` or `parent`: only those of this entity, or that this fan-out's completion enqueued.
        """

    async def tasks(self, fan_out_id: str) -> Sequence[TaskRecord]:
        """The tasks of one fan-out in the order of the plan; empty when there is none."""

    async def unsent(self, *, untouched_for: float, limit: int = 100) -> Sequence[Unsent]:
        """Open fan-outs that nobody noted as sent, and in which nothing happened for so many seconds, oldest first.

        Their producer died, or failed, between `open` and `sent`. With the tasks that nobody has claimed yet.
        """

    async def stalled(self, *, untouched_for: float, limit: int = 100) -> Sequence[FanOut]:
        """Open fan-outs that were sent, and in which no attempt ended since, for so many seconds; oldest first.

        Without their tasks.
        """

    async def overdue(self, *, limit: int = 100) -> Sequence[FanOut]:
        """Open fan-outs whose deadline has come, oldest deadline first, without their tasks."""

    async def unfolded(self, *, completed_since: float, completed_before: float, limit: int = 100) -> Sequence[FanOut]:
        """Fan-outs completed between two times whose fold was never claimed, oldest first, without their tasks."""

    async def unended_folds(self, *, untouched_for: float, limit: int = 100) -> Sequence[FanOut]:
        """Fan-outs whose fold was claimed and isn't over, untouched for so many seconds; oldest first.

        Without their tasks.
        """

    async def lead(self, role: str, holder: str, seconds: float) -> bool:
        """Take or keep a role that one at a time may have, for so many seconds from now. False: another has it."""

    async def purge(self, *, unfolded_for: float = 0.0, limit: int = 1000) -> int:
        """Forget up to `limit` fan-outs that are kept no longer; answers how many.

        Never one whose fold has begun and isn't over, however long that takes: its message may be lost, and then only
        the ledger knows of it. One whose fold never began goes only `unfolded_for` seconds after that was due: as long
        as a message of it may be under way, or is still to be sent.
        """
