"""What every ledger must do about ends by choice: tolerance, deadlines, cancelling, re-runs, large plans, chains."""

from __future__ import annotations

import asyncio

import pytest

from fanfold.errors import FanOutSealedError
from fanfold.ledgers.protocol import Cancelled, Claim
from fanfold.model import FOLD_NAME, Ended, Failure, Progress, TaskSpec, TaskState
from fanfold.testing import START
from ledgering import claim, completed, finish, ids, plan, record, run

DEAD = {"failure": Failure(type="LookupError", message="no roof"), "dead": True}


def many(count):
    return [TaskSpec(f"t{number}", {"page": number}) for number in range(count)]


async def states(ledger, fan_out_id="f1"):
    return {task.task_name: task.state.value for task in await ledger.tasks(fan_out_id)}


async def stopped(ledger, name="words", generation=0):
    asked = Claim(fan_out_id="f1", task_name=name, generation=generation, worker="w1")
    [answer] = await ledger.stopped([asked])
    return answer


# Tolerance


async def test_without_options_a_fan_out_succeeds_when_all_of_its_tasks_did(ledger):
    await ledger.open(plan("words", "roof"))
    await run(ledger, "words")
    assert (await ledger.get("f1")).succeeded is None
    await run(ledger, "roof")
    found = await ledger.get("f1")
    assert (found.succeeded, found.ended) == (True, Ended.COMPLETE)


async def test_without_options_one_dead_task_is_a_failure_and_the_others_still_run(ledger):
    await ledger.open(plan("words", "roof"))
    await run(ledger, "words", **DEAD)
    assert (await ledger.get("f1")).completed_at is None
    await run(ledger, "roof")
    found = await ledger.get("f1")
    assert (found.succeeded, found.ended) == (False, Ended.COMPLETE)


async def test_with_enough_successes_it_ends_early_and_the_rest_is_cancelled(ledger, clock):
    await ledger.open(plan("a", "b", "c", min_succeeded=2))
    await claim(ledger, "c")
    assert not (await run(ledger, "a")).fold_due
    clock.advance(5)
    assert (await run(ledger, "b")).fold_due
    found = await ledger.get("f1")
    assert (found.ended, found.succeeded, found.completed_at) == (Ended.ENOUGH, True, START + 5)
    assert await states(ledger) == {"a": "succeeded", "b": "succeeded", "c": "cancelled"}
    assert "enough" in (await record(ledger, "c")).failure.message


async def test_the_rest_may_run_on_and_changes_nothing_about_the_end(ledger, clock):
    await ledger.open(plan("a", "b", min_succeeded=1, cancel_rest=False))
    await claim(ledger, "b")
    assert (await run(ledger, "a")).fold_due
    await run(ledger, FOLD_NAME)
    clock.advance(5)
    late = await finish(ledger, "b", result="2")
    assert (late.applied, late.fold_due) == (True, False)
    found = await ledger.get("f1")
    assert (found.ended, found.completed_at) == (Ended.ENOUGH, START)
    assert found.results == {"a": 1, "b": 2}


async def test_more_failures_than_are_tolerated_end_it_early_as_failed(ledger):
    await ledger.open(plan("a", "b", "c", tolerated_failures=1))
    assert not (await run(ledger, "a", **DEAD)).fold_due
    assert (await run(ledger, "b", **DEAD)).fold_due
    found = await ledger.get("f1")
    assert (found.ended, found.succeeded) == (Ended.FAILED, False)
    assert await states(ledger) == {"a": "dead", "b": "dead", "c": "cancelled"}


async def test_as_many_failures_as_are_tolerated_are_a_success(ledger):
    await ledger.open(plan("a", "b", tolerated_failures=1))
    await run(ledger, "a", **DEAD)
    await run(ledger, "b")
    found = await ledger.get("f1")
    assert (found.ended, found.succeeded) == (Ended.COMPLETE, True)


async def test_ends_at_once_end_a_tolerant_fan_out_once(ledger, other):
    names = [f"t{number}" for number in range(8)]
    await ledger.open(plan(*names, min_succeeded=4))
    await asyncio.gather(*(run(made, name) for name, made in zip(names, (ledger, other) * 4, strict=True)))
    found = await ledger.get("f1")
    assert (found.ended in (Ended.ENOUGH, Ended.COMPLETE), found.succeeded) == (True, True)
    assert found.progress.succeeded >= 4
    assert found.progress.done == 8


# Deadlines


async def test_a_claim_tells_the_deadline(ledger):
    await ledger.open(plan(deadline=60.0))
    assert (await claim(ledger)).deadline_at == START + 60


async def test_before_its_deadline_nothing_is_overdue(ledger, clock):
    await ledger.open(plan(deadline=60.0))
    clock.advance(59)
    assert await ledger.overdue() == []
    clock.advance(1)
    assert ids(await ledger.overdue()) == ["f1"]


async def test_a_claim_after_the_deadline_starts_nothing_and_ends_the_fan_out(ledger, clock):
    await ledger.open(plan("words", "roof", deadline=60.0))
    await run(ledger, "words")
    clock.advance(60)
    late = await claim(ledger, "roof")
    assert (late.state, late.fold_due) == (TaskState.CANCELLED, True)
    found = await ledger.get("f1")
    assert (found.ended, found.succeeded, found.results) == (Ended.DEADLINE, False, {"words": 1})
    assert await ledger.overdue() == []


async def test_what_ended_in_time_is_never_overdue(ledger, clock):
    await ledger.open(plan("words", deadline=60.0))
    await run(ledger)
    clock.advance(100)
    assert await ledger.overdue() == []
    assert (await claim(ledger, FOLD_NAME)).state is TaskState.RUNNING


# Cancelling


async def test_a_cancelled_fan_outs_waiting_and_running_tasks_are_cancelled_and_its_fold_is_due(ledger):
    await ledger.open(plan("a", "b", "c"))
    await run(ledger, "a")
    await claim(ledger, "b")
    assert await ledger.cancel("f1") == Cancelled(task_names=["b", "c"], fold_due=True)
    found = await ledger.get("f1")
    assert (found.ended, found.progress) == (Ended.CANCELLED, Progress(succeeded=1, cancelled=2))
    assert (await claim(ledger, "c")).state is TaskState.CANCELLED


async def test_a_running_attempt_learns_that_it_was_cancelled_and_its_end_is_refused(ledger):
    await ledger.open(plan("words", "roof"))
    await claim(ledger)
    assert not await stopped(ledger)
    await ledger.cancel("f1", ["words"])
    assert await stopped(ledger)
    assert not (await finish(ledger, "words", result="1")).applied
    assert (await record(ledger)).state is TaskState.CANCELLED


async def test_one_cancelled_task_leaves_the_others(ledger):
    await ledger.open(plan("words", "roof"))
    assert await ledger.cancel("f1", ["words"]) == Cancelled(task_names=["words"])
    assert (await ledger.get("f1")).completed_at is None
    assert (await run(ledger, "roof")).fold_due
    assert (await ledger.get("f1")).ended is Ended.COMPLETE


async def test_the_last_open_task_that_is_cancelled_makes_the_fold_due(ledger):
    await ledger.open(plan("words", "roof"))
    await run(ledger, "roof")
    assert (await ledger.cancel("f1", ["words"])).fold_due


async def test_what_is_over_cant_be_cancelled(ledger):
    await completed(ledger, "f1")
    await run(ledger, FOLD_NAME)
    assert await ledger.cancel("f1") == Cancelled(task_names=[])
    assert await ledger.cancel("f1", ["words", "never heard of"]) == Cancelled(task_names=[])
    assert (await ledger.get("f1")).ended is Ended.COMPLETE


async def test_an_unknown_fan_out_cant_be_cancelled_or_run_again(ledger):
    assert await ledger.cancel("nobody") is None
    assert await ledger.rerun("nobody") is None
    assert await ledger.summary("nobody") is None


# Re-runs


async def test_a_rerun_takes_what_failed_into_the_next_generation(ledger):
    await ledger.open(plan("a", "b", "c"))
    await run(ledger, "a")
    await run(ledger, "b", **DEAD)
    await ledger.cancel("f1", ["c"])
    await run(ledger, FOLD_NAME)
    unsent = await ledger.rerun("f1")
    assert [task.task_name for task in unsent.tasks] == ["b", "c"]
    assert (unsent.fan_out.generation, unsent.fan_out.completed_at, unsent.fan_out.fold_state) == (1, None, None)
    again = await record(ledger, "b")
    assert (again.state, again.attempts, again.failure, again.generation) == (TaskState.PENDING, 0, None, 1)
    assert (await record(ledger, "a")).state is TaskState.SUCCEEDED


async def test_a_rerun_may_take_chosen_tasks_or_everything(ledger):
    await ledger.open(plan("a", "b"))
    await run(ledger, "a")
    await run(ledger, "b", **DEAD)
    assert [task.task_name for task in (await ledger.rerun("f1", ["a"])).tasks] == []
    assert [task.task_name for task in (await ledger.rerun("f1", ["a"], failed_only=False)).tasks] == ["a"]
    assert [task.task_name for task in (await ledger.rerun("f1", failed_only=False)).tasks] == ["a", "b"]


async def test_with_nothing_to_run_again_nothing_changes(ledger):
    await completed(ledger, "f1")
    before = await ledger.get("f1")
    unsent = await ledger.rerun("f1")
    assert (unsent.tasks, unsent.fan_out.generation) == ([], 0)
    assert await ledger.get("f1") == before


async def test_the_former_generations_messages_start_nothing_and_its_workers_change_nothing(ledger):
    await ledger.open(plan("words"))
    await run(ledger, **DEAD)
    await ledger.rerun("f1")
    assert (await claim(ledger, generation=0)).state is TaskState.CANCELLED
    assert (await claim(ledger, generation=1)).attempt == 1
    assert not (await finish(ledger, attempt=1, generation=0, result="1")).applied
    assert await stopped(ledger, generation=0)
    assert not await stopped(ledger, generation=1)
    assert (await finish(ledger, attempt=1, generation=1, result="2")).applied


async def test_a_message_that_the_queue_set_aside_before_a_rerun_kills_nothing_of_it(ledger):
    await ledger.open(plan("words"))
    await run(ledger, **DEAD)
    await ledger.rerun("f1")
    assert not (await finish(ledger, attempt=None, generation=0, **DEAD)).applied
    assert (await record(ledger)).state is TaskState.PENDING


async def test_each_generation_has_a_fold_of_its_own(ledger):
    await ledger.open(plan("words"))
    await run(ledger, **DEAD)
    await run(ledger, FOLD_NAME)
    await ledger.rerun("f1")
    claimed = await claim(ledger, generation=1)
    ended = await finish(ledger, attempt=claimed.attempt, generation=1, result="1")
    assert (ended.fold_due, ended.generation) == (True, 1)
    assert (await claim(ledger, FOLD_NAME, generation=0)).state is TaskState.CANCELLED
    assert (await claim(ledger, FOLD_NAME, generation=1)).state is TaskState.RUNNING


async def test_a_fold_that_runs_while_its_fan_out_is_run_again_ends_unnoticed(ledger):
    await ledger.open(plan("words"))
    await run(ledger, **DEAD)
    await claim(ledger, FOLD_NAME)
    await ledger.rerun("f1")
    assert not (await finish(ledger, FOLD_NAME, result="null")).applied
    assert (await ledger.get("f1")).fold_state is None


async def test_a_rerun_ends_when_all_is_over_whatever_its_fan_outs_options_were(ledger, clock):
    await ledger.open(plan("a", "b", min_succeeded=1, deadline=60.0))
    await run(ledger, "a")
    clock.advance(100)
    await ledger.rerun("f1", failed_only=False)
    assert await ledger.overdue() == []
    for name in ("a", "b"):
        assert (await ledger.get("f1")).completed_at is None
        claimed = await claim(ledger, name, generation=1)
        await finish(ledger, name, claimed.attempt, generation=1, result="1")
    assert (await ledger.get("f1")).ended is Ended.COMPLETE


# Large plans


async def test_a_large_plan_is_sealed_as_a_whole(ledger, count):
    tasks = many(count)
    opened = await ledger.open(plan(tasks=tasks))
    assert opened.states == dict.fromkeys((task.name for task in tasks), TaskState.PENDING)
    found = await ledger.get("f1")
    assert (found.total_tasks, found.progress) == (count, Progress(pending=count))
    assert [(task.task_name, task.task_config) for task in found.tasks] == [(task.name, task.config) for task in tasks]
    assert await ledger.open(plan(tasks=tasks)) == opened


async def test_a_large_plan_opened_by_two_at_once_is_one_fan_out(ledger, other, count):
    tasks = many(count)
    left, right = await asyncio.gather(ledger.open(plan(tasks=tasks)), other.open(plan(tasks=tasks)))
    assert left.states == right.states
    assert (await ledger.get("f1")).progress == Progress(pending=count)


async def test_a_large_fan_out_is_sealed_against_other_names(ledger, count):
    await ledger.open(plan(tasks=many(count)))
    for other_names in (many(count - 1), many(2), [*many(count - 1), TaskSpec("roof")]):
        with pytest.raises(FanOutSealedError, match="is sealed"):
            await ledger.open(plan(tasks=other_names))
    assert (await ledger.get("f1")).progress == Progress(pending=count)


# Sending


async def test_what_nobody_noted_as_sent_is_found_with_what_must_be_sent(ledger, clock):
    await ledger.open(plan(tasks=[TaskSpec("words", {"depth": 2}), TaskSpec("roof")], order_by="entity"))
    await claim(ledger, "roof")
    clock.advance(60)
    assert await ledger.unsent(untouched_for=61) == []
    [unsent] = await ledger.unsent(untouched_for=59)
    assert [(task.task_name, task.task_config) for task in unsent.tasks] == [("words", {"depth": 2})]
    assert (unsent.fan_out.fan_out_id, unsent.order_by) == ("f1", "entity")


async def test_what_was_noted_as_sent_is_not_unsent_until_it_is_run_again(ledger, clock):
    await ledger.open(plan("words"))
    await ledger.sent("f1", 0)
    await run(ledger, **DEAD)
    await ledger.rerun("f1")
    clock.advance(60)
    assert [len(unsent.tasks) for unsent in await ledger.unsent(untouched_for=1)] == [1]
    await ledger.sent("f1", 0)  # late word of the generation before
    assert len(await ledger.unsent(untouched_for=1)) == 1
    await ledger.sent("f1", 1)
    assert await ledger.unsent(untouched_for=1) == []


async def test_what_was_sent_again_has_its_time_again_before_it_counts_as_stalled(ledger, clock):
    await ledger.open(plan("words"))
    clock.advance(60)
    await ledger.sent("f1", 0)
    clock.advance(59)
    assert await ledger.stalled(untouched_for=60) == []
    clock.advance(2)
    assert ids(await ledger.stalled(untouched_for=60)) == ["f1"]


# Chains and listings


async def test_a_fan_out_knows_whose_completion_enqueued_it_and_can_be_found_by_that(ledger):
    await ledger.open(plan(fan_out_id="first"))
    await ledger.open(plan(fan_out_id="second", parent="first"))
    await ledger.open(plan(fan_out_id="third", parent="second"))
    assert (await ledger.get("second")).parent == "first"
    assert ids(await ledger.list(parent="first")) == ["second"]
    assert ids(await ledger.list(parent="third")) == []


async def test_an_entitys_fan_outs_can_be_listed(ledger):
    for fan_out_id, entity_id in (("f1", "doc-1"), ("f2", "doc-2"), ("f3", "doc-1")):
        await ledger.open(plan("words", fan_out_id=fan_out_id, entity_id=entity_id))
    assert ids(await ledger.list(entity_id="doc-1")) == ["f3", "f1"]
    assert ids(await ledger.list(entity_id="doc-1", limit=1)) == ["f3"]
    await run(ledger, fan_out_id="f3")
    assert ids(await ledger.list(entity_id="doc-1", open_only=True)) == ["f1"]


async def test_a_summary_is_the_fan_out_without_its_tasks(ledger):
    await ledger.open(plan("words", "roof"))
    await run(ledger)
    summary = await ledger.summary("f1")
    assert (summary.progress, summary.tasks) == (Progress(pending=1, succeeded=1), ())


# Roles


async def test_one_at_a_time_has_a_role(ledger, other, clock):
    assert await ledger.lead("reconciler", "w1", 60)
    assert not await other.lead("reconciler", "w2", 60)
    assert await other.lead("sweeper", "w2", 60)
    clock.advance(59)
    assert await ledger.lead("reconciler", "w1", 60)
    clock.advance(59)
    assert not await other.lead("reconciler", "w2", 60)
    clock.advance(1)
    assert await other.lead("reconciler", "w2", 60)
    assert not await ledger.lead("reconciler", "w1", 60)


async def test_of_those_who_want_a_role_at_once_one_gets_it(ledger, other):
    wanted = [made.lead("reconciler", f"w{number}", 60) for number, made in enumerate((ledger, other) * 5)]
    assert sum(await asyncio.gather(*wanted)) == 1
