"""A fan-out isn't forgotten before its completion is over, or certainly never comes."""

from __future__ import annotations

import pytest

from fanfold.model import FOLD_NAME, Failure
from ledgering import claim, finish, ids, plan, run

SLOW = Failure(type="TimeoutError", message="slow")
YEAR = 365 * 86_400.0
DAY = 86_400.0


async def ended(ledger, *fan_out_ids, keep=10):
    for fan_out_id in fan_out_ids:
        await ledger.open(plan("words", fan_out_id=fan_out_id, keep=keep))
        await run(ledger, fan_out_id=fan_out_id)


@pytest.mark.parametrize("fails", [False, True], ids=["its worker died", "its last attempt failed"])
async def test_with_a_completion_that_began_and_isnt_over_it_is_kept_however_long_that_takes(ledger, clock, fails):
    await ended(ledger, "f1")
    claimed = await claim(ledger, FOLD_NAME)
    if fails:
        await finish(ledger, FOLD_NAME, claimed.attempt, failure=SLOW)
    clock.advance(YEAR)
    assert await ledger.purge() == 0
    assert ids(await ledger.unended_folds(untouched_for=DAY)) == ["f1"]
    claimed = await claim(ledger, FOLD_NAME)
    await finish(ledger, FOLD_NAME, claimed.attempt)
    assert await ledger.purge() == 1


@pytest.mark.parametrize("how", [{"result": "1"}, {"failure": SLOW, "dead": True}], ids=["succeeded", "dead"])
async def test_with_a_completion_that_is_over_it_goes_in_its_time(ledger, clock, how):
    await ended(ledger, "f1")
    await run(ledger, FOLD_NAME, **how)
    clock.advance(9)
    assert await ledger.purge(unfolded_for=YEAR) == 0
    clock.advance(1)
    assert await ledger.purge(unfolded_for=YEAR) == 1


async def test_with_a_completion_that_never_began_it_waits_as_long_as_one_may_come(ledger, clock):
    await ended(ledger, "f1")
    clock.advance(DAY - 1)
    assert await ledger.purge(unfolded_for=DAY) == 0
    clock.advance(2)
    assert await ledger.purge(unfolded_for=DAY) == 1


async def test_a_dead_completion_that_is_run_again_has_its_time_anew(ledger, clock):
    await ended(ledger, "f1")
    await run(ledger, FOLD_NAME, failure=SLOW, dead=True)
    clock.advance(DAY)
    await ledger.rerun("f1", [FOLD_NAME])
    assert await ledger.purge(unfolded_for=60) == 0
    clock.advance(59)
    assert await ledger.purge(unfolded_for=60) == 0
    assert (await claim(ledger, FOLD_NAME, generation=1)).attempt == 1
    clock.advance(YEAR)
    assert await ledger.purge() == 0
    await finish(ledger, FOLD_NAME, generation=1)
    assert await ledger.purge() == 1


async def test_those_that_are_kept_on_hide_none_that_may_go(ledger, clock):
    await ended(ledger, "f1", "f2", "f3")
    clock.advance(1)
    await ended(ledger, "f4", "f5")
    for fan_out_id in ("f1", "f2", "f3"):
        await claim(ledger, FOLD_NAME, fan_out_id=fan_out_id)
    clock.advance(10)
    assert await ledger.purge(limit=1) == 1
    assert await ledger.purge(limit=2) == 1
    assert ids(await ledger.list()) == ["f3", "f2", "f1"]
