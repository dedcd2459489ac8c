"""A completion that died is run again alone."""

from __future__ import annotations

import pytest

from fanfold.model import FOLD_NAME, Failure, TaskState
from ledgering import claim, finish, plan, run

DEAD = {"failure": Failure(type="LookupError", message="no roof"), "dead": True}

pytestmark = pytest.mark.parametrize("connect", ["sqlite", "postgres"], indirect=True)


async def test_a_dead_completion_begins_the_next_generation_of_a_fan_out_that_stays_complete(ledger):
    await ledger.open(plan("roof"))
    await run(ledger, "roof", **DEAD)
    await run(ledger, FOLD_NAME, **DEAD)
    unsent = await ledger.rerun("f1", [FOLD_NAME])
    assert (list(unsent.tasks), unsent.fan_out.generation, unsent.fan_out.fold_state) == ([], 1, None)
    assert unsent.fan_out.completed_at is not None
    assert (await claim(ledger, FOLD_NAME)).state is TaskState.CANCELLED
    again = await claim(ledger, FOLD_NAME, generation=1)
    assert (again.state, again.attempt) == (TaskState.RUNNING, 1)
    assert [task.state for task in await ledger.tasks("f1")] == [TaskState.DEAD]


async def test_a_completion_that_succeeded_or_still_runs_does_not_begin_anew(ledger):
    await ledger.open(plan("roof"))
    await run(ledger, "roof", **DEAD)
    claimed = await claim(ledger, FOLD_NAME)
    assert (await ledger.rerun("f1", [FOLD_NAME])).fan_out.generation == 0
    await finish(ledger, FOLD_NAME, claimed.attempt)
    assert (await ledger.rerun("f1", [FOLD_NAME])).fan_out.generation == 0


async def test_with_tasks_to_re_run_the_completion_waits_for_them(ledger):
    await ledger.open(plan("roof"))
    await run(ledger, "roof", **DEAD)
    await run(ledger, FOLD_NAME, **DEAD)
    unsent = await ledger.rerun("f1", ["roof", FOLD_NAME])
    assert [task.task_name for task in unsent.tasks] == ["roof"]
    assert (unsent.fan_out.generation, unsent.fan_out.completed_at) == (1, None)
