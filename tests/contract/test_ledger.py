"""What every ledger must do."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fanfold.errors import FanOutSealedError, InvalidInputError
from fanfold.ledgers.protocol import Claim, Claimed, Finish, Opened, Recorded
from fanfold.model import FOLD_NAME, Failure, Progress, TaskSpec, TaskState
from fanfold.testing import START
from ledgering import claim, completed, finish, ids, plan, record, run

SLOW = Failure(type="TimeoutError", message="slow", traceback="Traceback")
HOPELESS = Failure(type="LookupError", message="no roof")


# Opening


async def test_a_new_fan_outs_tasks_are_pending(ledger):
    assert (await ledger.open(plan("words", "roof"))).states == {"words": TaskState.PENDING, "roof": TaskState.PENDING}


async def test_an_opened_fan_out_is_found_with_all_that_the_plan_said(ledger):
    tasks = [TaskSpec("words", {"depth": 2}), TaskSpec("roof")]
    await ledger.open(plan(tasks=tasks, metadata={"tenant": "açme"}))
    found = await ledger.get("f1")
    assert (found.fan_out_id, found.entity_id, found.event_id) == ("f1", "doc-1", "e1")
    assert (found.metadata, found.total_tasks, found.progress) == ({"tenant": "açme"}, 2, Progress(pending=2))
    assert (found.created_at, found.completed_at, found.fold_state) == (START, None, None)
    assert [(task.task_name, task.task_config) for task in found.tasks] == [("words", {"depth": 2}), ("roof", {})]


async def test_an_event_may_have_no_id(ledger):
    await ledger.open(plan(event_id=None))
    assert (await ledger.get("f1")).event_id is None


async def test_tasks_stand_in_the_order_of_the_plan_whatever_happens_to_them(ledger):
    names = [f"task{number}" for number in (3, 1, 2, 11, 0)]
    await ledger.open(plan(*names))
    await run(ledger, "task2")
    await run(ledger, "task0", failure=SLOW)
    assert [task.task_name for task in await ledger.tasks("f1")] == names
    assert [task.task_name for task in (await ledger.get("f1")).tasks] == names


async def test_opened_again_it_answers_where_each_task_stands(ledger):
    await ledger.open(plan("words", "roof", "owner"))
    await run(ledger, "words")
    await run(ledger, "roof", failure=SLOW)
    assert (await ledger.open(plan("words", "roof", "owner"))).states == {
        "words": TaskState.SUCCEEDED,
        "roof": TaskState.FAILED,
        "owner": TaskState.PENDING,
    }


async def test_opened_again_in_another_order_it_keeps_the_first_plan(ledger):
    await ledger.open(plan(tasks=[TaskSpec("words", {"depth": 2}), TaskSpec("roof")]))
    await ledger.open(plan(tasks=[TaskSpec("roof", {"depth": 9}), TaskSpec("words")]))
    found = await ledger.tasks("f1")
    assert [(task.task_name, task.task_config) for task in found] == [("words", {"depth": 2}), ("roof", {})]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["words"], r"new: \[\], missing: \['roof'\]"),
        (["words", "roof", "owner"], r"new: \['owner'\], missing: \[\]"),
        (["words", "owner"], r"new: \['owner'\], missing: \['roof'\]"),
    ],
    ids=["fewer", "more", "others"],
)
async def test_opened_again_with_other_names_it_is_sealed_and_nothing_changes(ledger, names, said):
    await ledger.open(plan("words", "roof"))
    before = await ledger.get("f1")
    with pytest.raises(FanOutSealedError, match=f"'e1' of 'doc-1' .*{said}.* Use another event_id"):
        await ledger.open(plan(*names))
    assert await ledger.get("f1") == before


async def test_after_its_fold_began_it_can_still_be_opened_again(ledger):
    await completed(ledger, "f1")
    await claim(ledger, FOLD_NAME)
    assert (await ledger.open(plan("words"))).states == {"words": TaskState.SUCCEEDED}


async def test_a_plan_that_cant_be_written_leaves_nothing_behind(ledger):
    with pytest.raises(InvalidInputError, match="config of 'roof'"):
        await ledger.open(plan(tasks=[TaskSpec("words"), TaskSpec("roof", {"x": object()})]))
    assert await ledger.get("f1") is None
    assert (await ledger.open(plan())).states == {"words": TaskState.PENDING, "roof": TaskState.PENDING}


async def test_one_event_opened_by_two_at_once_is_one_fan_out(ledger, other):
    answers = await asyncio.gather(*[made.open(plan()) for made in (ledger, other) * 5])
    assert answers == [Opened(generation=0, states={"words": TaskState.PENDING, "roof": TaskState.PENDING})] * 10
    assert len(await ledger.list()) == 1


async def test_a_sealed_fan_out_is_no_obstacle_to_what_is_opened_at_the_same_time(ledger):
    await ledger.open(plan("words"))
    plans = [plan(fan_out_id=f"g{number}") for number in range(5)]
    answers = await asyncio.gather(*map(ledger.open, [*plans, plan("roof")]), return_exceptions=True)
    assert [type(answer) for answer in answers] == [Opened] * 5 + [FanOutSealedError]
    assert sorted(ids(await ledger.list())) == ["f1", "g0", "g1", "g2", "g3", "g4"]


# Claims


async def test_a_claim_starts_the_first_attempt(ledger, clock):
    await ledger.open(plan())
    clock.advance(5)
    assert await claim(ledger, worker="w7") == Claimed(state=TaskState.RUNNING, attempt=1)
    found = await record(ledger)
    assert (found.state, found.attempts, found.worker, found.updated_at) == (TaskState.RUNNING, 1, "w7", START + 5)


async def test_every_claim_counts_an_attempt_and_knows_the_last_failure(ledger):
    await ledger.open(plan())
    await claim(ledger)
    assert await claim(ledger) == Claimed(state=TaskState.RUNNING, attempt=2)
    await finish(ledger, attempt=2, failure=SLOW)
    assert await claim(ledger) == Claimed(state=TaskState.RUNNING, attempt=3, failure=SLOW)


async def test_claims_are_answered_in_their_order(ledger):
    await ledger.open(plan())
    wanted = [("roof", "f1"), ("words", "f1"), ("words", "f9"), ("roof", "f1")]
    answers = await ledger.claim(
        [Claim(fan_out_id=where, task_name=name, generation=0, worker="w") for name, where in wanted]
    )
    assert [answer and answer.attempt for answer in answers] == [1, 1, None, 2]


async def test_nothing_to_claim_or_to_finish_is_nothing_to_answer(ledger):
    assert await ledger.claim([]) == []
    assert await ledger.finish([]) == []


@pytest.mark.parametrize("name", ["words", FOLD_NAME])
async def test_an_unknown_fan_outs_task_is_unknown(ledger, name):
    assert await claim(ledger, name) is None


async def test_an_unknown_task_of_a_known_fan_out_is_unknown(ledger):
    await ledger.open(plan("words"))
    assert await claim(ledger, "roof") is None
    assert len(await ledger.tasks("f1")) == 1


async def test_a_succeeded_tasks_claim_starts_nothing(ledger):
    await ledger.open(plan())
    await run(ledger)
    before = await ledger.get("f1")
    assert await claim(ledger) == Claimed(state=TaskState.SUCCEEDED, attempt=1)
    assert await ledger.get("f1") == before


async def test_a_dead_tasks_claim_tells_why_it_died(ledger):
    await ledger.open(plan())
    await run(ledger, failure=SLOW)
    await run(ledger, failure=HOPELESS, dead=True)
    assert await claim(ledger) == Claimed(state=TaskState.DEAD, attempt=2, failure=HOPELESS)


async def test_claims_at_once_get_an_attempt_each(ledger, other):
    await ledger.open(plan())
    answers = await asyncio.gather(*[claim(made) for made in (ledger, other) * 5])
    assert sorted(answer.attempt for answer in answers) == list(range(1, 11))


# Generations


async def test_a_newer_generations_message_starts_an_attempt_in_it(ledger):
    await ledger.open(plan())
    assert (await claim(ledger, generation=2)).state is TaskState.RUNNING
    assert (await record(ledger)).generation == 2


async def test_a_message_older_than_the_tasks_generation_starts_nothing(ledger):
    await ledger.open(plan())
    await claim(ledger, generation=2)
    assert await claim(ledger, generation=1) == Claimed(state=TaskState.CANCELLED, attempt=1)
    found = await record(ledger)
    assert (found.state, found.attempts, found.generation) == (TaskState.RUNNING, 1, 2)


async def test_a_message_of_the_same_generation_starts_another_attempt(ledger):
    await ledger.open(plan())
    await claim(ledger, generation=2)
    assert await claim(ledger, generation=2) == Claimed(state=TaskState.RUNNING, attempt=2)


# Ends


async def test_a_success_keeps_its_result(ledger, clock):
    await ledger.open(plan())
    await claim(ledger)
    clock.advance(7)
    assert await finish(ledger, result='{"a":[1,null,"é"]}') == Recorded(applied=True)
    found = await record(ledger)
    assert (found.state, found.result, found.failure) == (TaskState.SUCCEEDED, {"a": [1, None, "é"]}, None)
    assert found.updated_at == START + 7


async def test_a_failed_attempt_keeps_its_failure_and_the_task_can_be_claimed_again(ledger):
    await ledger.open(plan())
    assert await run(ledger, failure=SLOW) == Recorded(applied=True)
    found = await record(ledger)
    assert (found.state, found.failure, found.result) == (TaskState.FAILED, SLOW, None)


async def test_a_success_after_a_failure_forgets_the_failure(ledger):
    await ledger.open(plan())
    await run(ledger, failure=SLOW)
    await run(ledger)
    assert (await record(ledger)).failure is None


async def test_a_dead_task_keeps_its_reason(ledger):
    await ledger.open(plan())
    await run(ledger, failure=HOPELESS, dead=True)
    found = await record(ledger)
    assert (found.state, found.failure) == (TaskState.DEAD, HOPELESS)


@pytest.mark.parametrize(
    "how",
    [{"result": "1"}, {"failure": SLOW}, {"failure": HOPELESS, "dead": True}],
    ids=["success", "failure", "death"],
)
@pytest.mark.parametrize(
    "successor",
    [None, {"result": "2"}, {"failure": SLOW}, {"failure": HOPELESS, "dead": True}],
    ids=["runs", "succeeded", "failed", "died"],
)
async def test_a_late_worker_changes_nothing(ledger, how, successor):
    await ledger.open(plan())
    await claim(ledger, worker="late")
    await claim(ledger, worker="successor")
    if successor is not None:
        await finish(ledger, attempt=2, **successor)
    before = await ledger.tasks("f1")
    assert await finish(ledger, attempt=1, **how) == Recorded(applied=False)
    assert await ledger.tasks("f1") == before


@pytest.mark.parametrize(
    "how",
    [{"result": "1"}, {"failure": SLOW}, {"failure": HOPELESS, "dead": True}],
    ids=["success", "failure", "death"],
)
async def test_the_same_end_written_again_counts_as_applied_and_changes_nothing(ledger, clock, how):
    await ledger.open(plan())
    first = await run(ledger, **how)
    before = await ledger.tasks("f1")
    clock.advance(5)
    assert await finish(ledger, **how) == first == Recorded(applied=True)
    assert await ledger.tasks("f1") == before


async def test_the_first_of_two_ends_of_one_attempt_stands(ledger):
    await ledger.open(plan())
    await run(ledger, result="1")
    assert not (await finish(ledger, failure=HOPELESS, dead=True)).applied
    assert (await record(ledger)).result == 1


@pytest.mark.parametrize("attempt", [0, 1, 2])
@pytest.mark.parametrize("how", [{"result": "1"}, {"failure": SLOW}], ids=["success", "failure"])
async def test_what_doesnt_run_cant_end(ledger, attempt, how):
    await ledger.open(plan())
    assert await finish(ledger, attempt=attempt, **how) == Recorded(applied=False)
    assert (await record(ledger)).state is TaskState.PENDING


@pytest.mark.parametrize("name", ["words", FOLD_NAME])
async def test_an_unknown_task_cant_end(ledger, name):
    assert await finish(ledger, name, fan_out_id="f9") == Recorded(applied=False)
    assert await ledger.get("f9") is None


async def test_ends_are_answered_in_their_order(ledger):
    await ledger.open(plan("words", "roof"))
    await claim(ledger, "roof")
    ends = [("words", 1), ("roof", 1), ("roof", 2)]
    answers = await ledger.finish(
        [Finish(fan_out_id="f1", task_name=name, attempt=attempt, result="1") for name, attempt in ends]
    )
    assert [answer.applied for answer in answers] == [False, True, False]


async def bury(ledger, name="words"):
    return await finish(ledger, name, None, failure=HOPELESS, dead=True)


async def pending(_ledger): ...


async def running(ledger):
    await claim(ledger)


async def failed(ledger):
    await run(ledger, failure=SLOW)


@pytest.mark.parametrize("bring", [pending, running, failed])
async def test_a_message_that_the_queue_set_aside_is_dead_whatever_its_attempt(ledger, bring):
    await ledger.open(plan())
    await bring(ledger)
    assert await bury(ledger) == Recorded(applied=True)
    found = await record(ledger)
    assert (found.state, found.failure) == (TaskState.DEAD, HOPELESS)


async def test_what_succeeded_cant_die(ledger):
    await ledger.open(plan())
    await run(ledger)
    assert await bury(ledger) == Recorded(applied=False)
    assert (await record(ledger)).state is TaskState.SUCCEEDED


async def test_a_worker_whose_task_was_buried_meanwhile_is_late(ledger):
    await ledger.open(plan())
    await claim(ledger)
    await bury(ledger)
    assert await finish(ledger) == Recorded(applied=False)


# The fold


@pytest.mark.parametrize("how", [{"result": "1"}, {"failure": HOPELESS, "dead": True}], ids=["succeeded", "dead"])
async def test_the_fold_is_due_when_the_last_name_is_terminal(ledger, clock, how):
    await ledger.open(plan("words", "roof", "owner"))
    assert not (await run(ledger, "words", **how)).fold_due
    assert not (await run(ledger, "roof", failure=SLOW)).fold_due
    assert not (await run(ledger, "owner", **how)).fold_due
    assert (await ledger.get("f1")).completed_at is None
    clock.advance(9)
    assert await run(ledger, "roof", **how) == Recorded(applied=True, fold_due=True)
    assert (await ledger.get("f1")).completed_at == START + 9


async def test_ends_of_the_last_names_in_one_write_make_the_fold_due(ledger):
    await ledger.open(plan("words", "roof"))
    await claim(ledger, "words")
    await claim(ledger, "roof")
    answers = await ledger.finish(
        [Finish(fan_out_id="f1", task_name=name, attempt=1, result="1") for name in ("words", "roof")]
    )
    assert answers[-1] == Recorded(applied=True, fold_due=True)


async def test_a_late_failure_in_the_write_that_completes_a_fan_out_makes_no_fold_due(ledger):
    await ledger.open(plan("words", "roof"))
    await run(ledger, "words")
    await claim(ledger, "roof")
    late = Finish(fan_out_id="f1", task_name="words", attempt=1, failure=SLOW)
    last = Finish(fan_out_id="f1", task_name="roof", attempt=1, result="1")
    assert await ledger.finish([late, last]) == [Recorded(applied=False), Recorded(applied=True, fold_due=True)]


async def test_ends_at_once_make_the_fold_due_for_somebody(ledger, other):
    names = [f"task{number}" for number in range(10)]
    await ledger.open(plan(*names))
    for name in names:
        await claim(ledger, name)
    answers = await asyncio.gather(*[finish(made, name) for made, name in zip((ledger, other) * 5, names, strict=True)])
    assert any(answer.fold_due for answer in answers)


async def test_the_fold_stays_due_until_it_is_over(ledger):
    await completed(ledger, "f1")
    assert (await finish(ledger)).fold_due
    assert (await claim(ledger)).fold_due
    await claim(ledger, FOLD_NAME)
    assert (await claim(ledger)).fold_due
    assert (await finish(ledger)).fold_due
    await finish(ledger, FOLD_NAME, 1, failure=SLOW)
    assert (await claim(ledger)).fold_due
    await run(ledger, FOLD_NAME)
    assert not (await claim(ledger)).fold_due
    assert not (await finish(ledger)).fold_due


async def test_a_dead_fold_is_over(ledger):
    await completed(ledger, "f1")
    await run(ledger, FOLD_NAME, failure=HOPELESS, dead=True)
    assert not (await claim(ledger)).fold_due


async def test_the_fold_itself_makes_no_fold_due(ledger):
    await completed(ledger, "f1")
    assert await run(ledger, FOLD_NAME, failure=SLOW) == Recorded(applied=True)
    assert await run(ledger, FOLD_NAME) == Recorded(applied=True)


async def test_the_fold_is_claimed_counted_and_fenced_like_any_task(ledger):
    await completed(ledger, "f1")
    assert await claim(ledger, FOLD_NAME) == Claimed(state=TaskState.RUNNING, attempt=1)
    assert await claim(ledger, FOLD_NAME) == Claimed(state=TaskState.RUNNING, attempt=2)
    assert not (await finish(ledger, FOLD_NAME, 1)).applied
    assert (await finish(ledger, FOLD_NAME, 2)).applied
    assert await claim(ledger, FOLD_NAME) == Claimed(state=TaskState.SUCCEEDED, attempt=2)


async def test_a_fold_claimed_before_its_fan_out_is_complete_is_cancelled_and_leaves_nothing(ledger):
    await ledger.open(plan("words"))
    assert await claim(ledger, FOLD_NAME) == Claimed(state=TaskState.CANCELLED, attempt=0)
    assert (await ledger.get("f1")).fold_state is None
    assert (await run(ledger)).fold_due
    assert await claim(ledger, FOLD_NAME) == Claimed(state=TaskState.RUNNING, attempt=1)


async def test_the_folds_own_row_is_no_task(ledger):
    await completed(ledger, "f1")
    await claim(ledger, FOLD_NAME)
    found = await ledger.get("f1")
    assert found.fold_state is TaskState.RUNNING
    assert (found.progress, found.total_tasks) == (Progress(succeeded=1), 1)
    assert [task.task_name for task in found.tasks] == ["words"]
    assert [task.task_name for task in await ledger.tasks("f1")] == ["words"]


async def test_a_completed_fan_out_stays_as_it_was_completed(ledger, clock):
    await completed(ledger, "f1")
    clock.advance(5)
    await finish(ledger)
    await run(ledger, FOLD_NAME)
    assert (await ledger.get("f1")).completed_at == START


# Questions


async def test_an_unknown_fan_out_is_none_and_has_no_tasks(ledger):
    assert await ledger.get("f1") is None
    assert await ledger.tasks("f1") == []


async def test_a_fan_outs_progress_counts_its_tasks_by_state(ledger):
    await ledger.open(plan("a", "b", "c", "d", "e"))
    await run(ledger, "a")
    await run(ledger, "b", failure=HOPELESS, dead=True)
    await run(ledger, "c", failure=SLOW)
    await claim(ledger, "d")
    expected = Progress(pending=1, running=1, failed=1, succeeded=1, dead=1)
    assert (await ledger.get("f1")).progress == expected
    assert (await ledger.list())[0].progress == expected


async def test_a_fan_out_answers_results_and_failures_by_name(ledger):
    await ledger.open(plan("roof", "words"))
    await run(ledger, "words", result="42")
    await run(ledger, "roof", failure=HOPELESS, dead=True)
    found = await ledger.get("f1")
    assert (found.results, found.failures) == ({"words": 42}, {"roof": HOPELESS})


async def test_the_list_has_the_newest_first_without_their_tasks(ledger):
    for number in (2, 1, 3):
        await ledger.open(plan(fan_out_id=f"f{number}"))
    found = await ledger.list(limit=2)
    assert ids(found) == ["f3", "f1"]
    assert [list(fan_out.tasks) for fan_out in found] == [[], []]


async def test_the_list_can_leave_out_what_is_complete(ledger):
    await completed(ledger, "f1")
    await ledger.open(plan(fan_out_id="f2"))
    await completed(ledger, "f3")
    assert ids(await ledger.list(open_only=True)) == ["f2"]
    assert ids(await ledger.list()) == ["f3", "f2", "f1"]


async def test_a_fan_out_is_stalled_when_no_attempt_ended_in_it_for_so_long(ledger, clock):
    await ledger.open(plan(fan_out_id="f1"))
    clock.advance(10)
    await ledger.open(plan(fan_out_id="f2"))
    clock.advance(10)
    assert ids(await ledger.stalled(untouched_for=15)) == ["f1"]
    assert ids(await ledger.stalled(untouched_for=5)) == ["f1", "f2"]
    assert ids(await ledger.stalled(untouched_for=5, limit=1)) == ["f1"]
    assert ids(await ledger.stalled(untouched_for=25)) == []


@pytest.mark.parametrize("how", [{"result": "1"}, {"failure": SLOW}], ids=["success", "failure"])
async def test_an_attempts_end_is_a_sign_of_life(ledger, clock, how):
    await ledger.open(plan())
    clock.advance(10)
    await run(ledger, **how)
    assert await ledger.stalled(untouched_for=5) == []
    clock.advance(10)
    assert ids(await ledger.stalled(untouched_for=5)) == ["f1"]


async def test_what_is_complete_never_stalls(ledger, clock):
    await completed(ledger, "f1")
    clock.advance(1_000)
    assert await ledger.stalled(untouched_for=5) == []


async def test_what_was_completed_and_never_folded_is_found_oldest_first(ledger, clock):
    for fan_out_id in ("f1", "f2", "f3"):
        await completed(ledger, fan_out_id)
        clock.advance(10)
    await ledger.open(plan(fan_out_id="f4"))
    found = await ledger.unfolded(completed_since=START, completed_before=START + 20)
    assert ids(found) == ["f1", "f2"]
    assert ids(await ledger.unfolded(completed_since=START + 1, completed_before=START + 21)) == ["f2", "f3"]
    assert ids(await ledger.unfolded(completed_since=START, completed_before=START + 99, limit=1)) == ["f1"]


async def test_a_fold_that_was_claimed_is_no_longer_missing(ledger):
    await completed(ledger, "f1", "f2")
    await claim(ledger, FOLD_NAME)
    assert ids(await ledger.unfolded(completed_since=START, completed_before=START + 1)) == ["f2"]


async def test_a_fold_that_was_claimed_too_early_is_still_missing(ledger):
    await ledger.open(plan("words"))
    await claim(ledger, FOLD_NAME)
    await run(ledger)
    assert ids(await ledger.unfolded(completed_since=START, completed_before=START + 1)) == ["f1"]


# Purging


async def test_purge_forgets_what_is_kept_no_longer_and_says_how_many(ledger, clock):
    for fan_out_id, keep in (("f1", 10), ("f2", 10), ("f4", 11)):
        await ledger.open(plan("words", fan_out_id=fan_out_id, keep=keep))
        await run(ledger, fan_out_id=fan_out_id)
    await ledger.open(plan(fan_out_id="f3", keep=10))
    clock.advance(10)
    assert await ledger.purge() == 2
    assert ids(await ledger.list()) == ["f3", "f4"]
    assert await ledger.get("f1") is None
    assert await ledger.tasks("f1") == []


async def test_purge_takes_the_oldest_first_up_to_its_limit(ledger, clock):
    for fan_out_id in ("f1", "f2", "f3"):
        await ledger.open(plan("words", fan_out_id=fan_out_id, keep=1))
        await run(ledger, fan_out_id=fan_out_id)
        clock.advance(1)
    assert await ledger.purge(limit=2) == 2
    assert ids(await ledger.list()) == ["f3"]
    assert await ledger.purge(limit=2) == 1
    assert await ledger.purge(limit=2) == 0


async def test_what_was_purged_is_unknown_and_can_be_opened_anew(ledger, clock):
    await ledger.open(plan("words", keep=1))
    await run(ledger)
    await run(ledger, FOLD_NAME)
    clock.advance(1)
    await ledger.purge()
    assert await claim(ledger) is None
    assert await claim(ledger, FOLD_NAME) is None
    assert (await ledger.open(plan("words"))).states == {"words": TaskState.PENDING}
    assert (await ledger.get("f1")).fold_state is None


# Life


async def test_what_is_written_is_there_for_the_next_process(connect, ledger):
    await completed(ledger, "f1")
    before = await ledger.get("f1")
    await ledger.close()
    again = connect()
    await again.start()
    assert await again.get("f1") == before
    await again.close()


async def test_two_processes_see_each_others_writes(ledger, other):
    await ledger.open(plan("words"))
    assert await claim(other) == Claimed(state=TaskState.RUNNING, attempt=1)
    assert await claim(ledger) == Claimed(state=TaskState.RUNNING, attempt=2)
    assert not (await finish(other)).applied
    assert (await finish(ledger, attempt=2)).fold_due


async def test_start_and_close_may_come_twice(connect):
    made = connect()
    await made.start()
    await made.start()
    await made.open(plan())
    await made.close()
    await made.close()


async def test_after_close_it_can_be_started_again(connect):
    made = connect()
    for _ in range(2):
        await made.start()
        assert len((await made.open(plan())).states) == 2
        await made.close()


async def test_it_can_be_closed_unstarted(connect):
    await connect().close()


def test_it_works_from_several_event_loops_in_threads_at_once(connect):
    ledger, barrier = connect(), threading.Barrier(2)
    asyncio.run(ledger.start())

    async def work(number):
        names = [f"task{n}" for n in range(20)]
        await ledger.open(plan(*names, fan_out_id=f"f{number}"))
        return await asyncio.gather(*[run(ledger, name, fan_out_id=f"f{number}") for name in names])

    def loop(number):
        barrier.wait()
        return asyncio.run(work(number))

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(loop, range(2)))
    asyncio.run(ledger.close())
    assert [any(answer.fold_due for answer in each) for each in answers] == [True, True]
    assert [answer.applied for each in answers for answer in each] == [True] * 40
