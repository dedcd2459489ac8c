from __future__ import annotations

import asyncio

import pytest

from doubles import Heard, ScriptedLedger, until
from fanfold.claims import Claims
from fanfold.errors import LedgerError, StorageBusyError
from fanfold.ledgers.protocol import Claim, Claimed
from fanfold.model import Task, TaskState
from fanfold.testing import FakeClock

FAN_OUT = "f" * 32


@pytest.fixture
async def heard():
    return Heard()


@pytest.fixture
def ledger():
    return ScriptedLedger()


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def claims(ledger, clock, heard):
    return Claims(ledger, worker="w1", clock=clock, telemetry=heard.telemetry)


def task(name="title", **fields):
    return Task(entity_id="doc-1", task_name=name, **({"fan_out_id": FAN_OUT} | fields))


async def test_the_ledgers_answer_is_the_answer(claims, ledger):
    answer = Claimed(state=TaskState.RUNNING, attempt=3)
    ledger.answers["claim"] = [[answer]]
    assert await claims.claim(task(generation=2)) == answer
    assert ledger.claimed == [[Claim(fan_out_id=FAN_OUT, task_name="title", generation=2, worker="w1")]]


async def test_a_task_that_the_ledger_doesnt_know_has_no_claim(claims, ledger):
    ledger.answers["claim"] = [[None]]
    assert await claims.claim(task()) is None


async def test_the_ledger_isnt_asked_about_a_task_without_a_fan_out(claims, ledger):
    assert await claims.claim(task(fan_out_id=None)) is None
    assert ledger.claimed == []


async def test_without_a_ledger_nobody_is_asked(clock, heard):
    claims = Claims(None, worker="w1", clock=clock, telemetry=heard.telemetry)
    assert await claims.claim(task()) is None


async def test_what_comes_together_is_one_request_of_a_hundred_at_most(claims, ledger):
    await asyncio.gather(*(claims.claim(task(f"t{number}")) for number in range(101)))
    assert [len(asked) for asked in ledger.claimed] == [100, 1]


@pytest.mark.parametrize("error", [StorageBusyError("locked"), LedgerError("denied")], ids=["passing", "lasting"])
async def test_while_the_ledger_is_away_nothing_starts_and_it_is_asked_again(claims, ledger, clock, heard, error):
    ledger.answers["claim"] = [error, error]
    claiming = asyncio.create_task(claims.claim(task()))
    for times in (1, 2):
        await heard.until("claim.failed", times)
        assert not claiming.done()
        await until(lambda: clock.sleepers == 1)
        clock.advance(10)
    assert (await claiming).state is TaskState.RUNNING
    assert len(ledger.claimed) == 3


async def test_it_asks_less_and_less_often_but_every_ten_seconds(claims, ledger, clock, heard):
    ledger.answers["claim"] = [StorageBusyError("locked")] * 9
    claiming = asyncio.create_task(claims.claim(task()))
    for times in range(1, 10):
        await heard.until("claim.failed", times)
        await until(lambda: clock.sleepers == 1)
        clock.advance(10)
    await claiming
    waits = [fields["retry_in"] for fields in heard.of("claim.failed")]
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


async def test_a_bug_in_the_ledger_is_raised(claims, ledger):
    ledger.answers["claim"] = [TypeError("a bug")]
    with pytest.raises(TypeError, match="a bug"):
        await claims.claim(task())


async def test_one_who_stops_waiting_leaves_the_others_their_answer(claims):
    given_up, patient = (asyncio.create_task(claims.claim(task(name))) for name in ("a", "b"))
    await asyncio.sleep(0)
    given_up.cancel()
    assert (await patient).state is TaskState.RUNNING
