"""A fold that has begun, and of whose message nobody knows any more, is found by the time of its last attempt."""

from __future__ import annotations

from fanfold.model import FOLD_NAME, Failure
from ledgering import claim, completed, finish, ids

FAILED = {"failure": Failure(type="TimeoutError", message="slow")}


async def found(ledger, seconds=60):
    return ids(await ledger.unended_folds(untouched_for=seconds))


async def test_a_fold_that_never_began_is_not_one_that_was_left(ledger, clock):
    await completed(ledger, "f1")
    clock.advance(120)
    assert await found(ledger) == []


async def test_a_fold_whose_worker_died_is_found_after_its_time_oldest_first(ledger, clock):
    await completed(ledger, "f1", "f2", "f3")
    for fan_out_id in ("f2", "f1"):
        await claim(ledger, FOLD_NAME, fan_out_id=fan_out_id)
        clock.advance(30)
    assert await found(ledger) == []
    clock.advance(31)
    assert await found(ledger) == ["f2", "f1"]
    assert ids(await ledger.unended_folds(untouched_for=60, limit=1)) == ["f2"]
    assert ids(await ledger.unfolded(completed_since=0, completed_before=clock.now())) == ["f3"]


async def test_a_fold_that_failed_is_found_by_the_time_of_its_failure(ledger, clock):
    await completed(ledger, "f1")
    claimed = await claim(ledger, FOLD_NAME)
    clock.advance(50)
    await finish(ledger, FOLD_NAME, claimed.attempt, **FAILED)
    clock.advance(50)
    assert await found(ledger) == []
    clock.advance(11)
    assert await found(ledger) == ["f1"]
    await claim(ledger, FOLD_NAME)
    assert await found(ledger) == []


async def test_a_fold_that_is_over_or_begins_anew_is_not_found(ledger, clock):
    await completed(ledger, "f1", "f2")
    claimed = await claim(ledger, FOLD_NAME)
    await finish(ledger, FOLD_NAME, claimed.attempt)
    await claim(ledger, FOLD_NAME, fan_out_id="f2")
    await ledger.rerun("f2", failed_only=False)
    clock.advance(120)
    assert await found(ledger) == []
