"""What comes in one call comes in its order, also where it is about one task."""

from __future__ import annotations

from fanfold.ledgers.protocol import Claim, Finish
from fanfold.model import FOLD_NAME, Failure, TaskState
from ledgering import claim, completed, plan, record, run

FAILED = Failure(type="TimeoutError", message="slow")


def claims(*names, **fields):
    return [Claim(**{"fan_out_id": "f1", "task_name": name, "generation": 0, "worker": "w"} | fields) for name in names]


def end(name="words", attempt=1, **fields):
    return Finish(fan_out_id="f1", task_name=name, attempt=attempt, **fields)


async def test_each_of_two_claims_to_one_task_is_an_attempt(ledger):
    await ledger.open(plan("words", "roof"))
    answers = await ledger.claim(claims("words", "roof", "words"))
    assert [answer.attempt for answer in answers] == [1, 1, 2]


async def test_of_two_ends_of_one_attempt_the_first_stands(ledger):
    await ledger.open(plan("words", "roof"))
    await claim(ledger)
    answers = await ledger.finish([end(result="1"), end(failure=FAILED), end(result="1")])
    assert [answer.applied for answer in answers] == [True, False, True]
    assert (await record(ledger)).state is TaskState.SUCCEEDED


async def test_of_two_ends_of_one_attempt_the_first_stands_though_others_ended_like_the_second(ledger):
    await ledger.open(plan("words", "roof"))
    await ledger.claim(claims("words", "roof"))
    answers = await ledger.finish([end("roof", result="1"), end(failure=FAILED), end(result="1")])
    assert [answer.applied for answer in answers] == [True, True, False]
    assert (await record(ledger)).state is TaskState.FAILED


async def test_a_death_after_a_failure_is_one(ledger):
    await ledger.open(plan("words"))
    await claim(ledger)
    answers = await ledger.finish([end(failure=FAILED), end(attempt=None, failure=FAILED, dead=True)])
    assert [answer.applied for answer in answers] == [True, True]
    assert answers[1].fold_due
    assert (await record(ledger)).state is TaskState.DEAD


async def test_what_starts_what_is_over_and_what_nobody_knows_are_answered_beside_each_other(ledger, clock):
    await ledger.open(plan("words", "roof", "year"))
    await run(ledger, "roof")
    await completed(ledger, "f2")
    await ledger.open(plan("late", fan_out_id="f3", deadline=5))
    clock.advance(6)
    [fold], [late] = claims(FOLD_NAME, fan_out_id="f2"), claims("late", fan_out_id="f3")
    known = await ledger.claim([*claims("words", "roof", "nobody"), fold, late, *claims("year")])
    states = [answer and (answer.state, answer.attempt, answer.fold_due) for answer in known]
    assert states == [
        (TaskState.RUNNING, 1, False),
        (TaskState.SUCCEEDED, 1, False),
        None,
        (TaskState.RUNNING, 1, False),
        (TaskState.CANCELLED, 0, True),
        (TaskState.RUNNING, 1, False),
    ]
