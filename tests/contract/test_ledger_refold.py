"""A completion that died is run again alone."""

from __future__ import annotations

import asyncio

from fanfold.model import FOLD_NAME, Failure, TaskState
from ledgering import claim, finish, plan, run

DEAD = {"failure": Failure(type="LookupError", message="no roof"), "dead": True}


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


async def test_each_generation_of_a_completion_ends_once_and_late_messages_change_nothing(ledger):
    await ledger.open(plan("roof"))
    await run(ledger, "roof", **DEAD)
    await run(ledger, FOLD_NAME, **DEAD)
    await ledger.rerun("f1", [FOLD_NAME])
    assert not (await finish(ledger, FOLD_NAME)).applied
    again = await claim(ledger, FOLD_NAME, generation=1)
    assert not (await finish(ledger, FOLD_NAME, again.attempt)).applied
    assert (await finish(ledger, FOLD_NAME, again.attempt, generation=1, **DEAD)).applied
    assert (await claim(ledger, FOLD_NAME, generation=1)).state is TaskState.DEAD
    assert (await ledger.rerun("f1", [FOLD_NAME])).fan_out.generation == 2
    assert (await claim(ledger, FOLD_NAME, generation=1)).state is TaskState.CANCELLED


async def test_a_completion_that_begins_anew_is_due_until_it_is_claimed(ledger, clock):
    completed_at = clock.now()
    await ledger.open(plan("roof"))
    await run(ledger, "roof", **DEAD)
    await run(ledger, FOLD_NAME, **DEAD)
    clock.advance(60)
    await ledger.rerun("f1", [FOLD_NAME])
    redelivered = await claim(ledger, "roof")
    assert (redelivered.state, redelivered.fold_due, redelivered.generation) == (TaskState.DEAD, True, 1)
    [missing] = await ledger.unfolded(completed_since=completed_at, completed_before=completed_at + 1)
    assert (missing.fan_out_id, missing.generation, missing.completed_at) == ("f1", 1, completed_at)
    await claim(ledger, FOLD_NAME, generation=1)
    assert await ledger.unfolded(completed_since=completed_at, completed_before=completed_at + 1) == []


async def test_a_dead_completion_that_two_run_again_at_once_begins_one_generation(ledger, other):
    await ledger.open(plan("roof"))
    await run(ledger, "roof", **DEAD)
    await run(ledger, FOLD_NAME, **DEAD)
    answers = await asyncio.gather(*(each.rerun("f1", [FOLD_NAME]) for each in (ledger, other, ledger, other)))
    assert [answer.fan_out.generation for answer in answers] == [1, 1, 1, 1]
    assert (await ledger.rerun("f1", [FOLD_NAME])).fan_out.generation == 1


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
