from __future__ import annotations

import asyncio
from functools import partial

import pytest

from fanfold.errors import FanOutSealedError
from fanfold.ledgers import openings
from fanfold.ledgers.protocol import Claim, Plan
from fanfold.ledgers.sqlite import SqliteLedger
from fanfold.model import Progress, TaskSpec
from fanfold.testing import FakeClock


@pytest.fixture
async def ledger(tmp_path):
    made = SqliteLedger(f"sqlite:///{tmp_path}/ledger.db", clock=FakeClock())
    await made.start()
    yield made
    await made.close()


def plan(count):
    tasks = [TaskSpec(f"t{number}") for number in range(count)]
    return Plan(fan_out_id="f1", entity_id="doc-1", event_id="e1", metadata={}, tasks=tasks)


async def begin(ledger, of, *, pieces, now=0.0):
    """What a producer leaves that dies after so many pieces."""
    opening = await ledger._write(lambda connection: openings.begin(connection, of, now))
    for piece in range(pieces):
        at = piece * openings.PIECE
        await ledger._write(partial(openings.add_piece, opening=opening, plan=of, at=at, now=now))
    return opening


async def test_what_is_half_written_is_there_for_nobody(ledger):
    await begin(ledger, plan(2_500), pieces=2)
    assert await ledger.get("f1") is None
    assert await ledger.list() == []
    assert await ledger.claim([Claim(fan_out_id="f1", task_name="t0", generation=0, worker="w")]) == [None]
    assert await ledger.cancel("f1") is None
    assert await ledger.rerun("f1") is None
    assert await ledger.unsent(untouched_for=-1e12) == []


def rows_left(ledger, table):
    return ledger._database.read(lambda connection: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608


async def test_what_a_dead_producer_left_half_written_is_cleared_away_a_day_after_it_was_written(tmp_path, clock):
    ledger = SqliteLedger(f"sqlite:///{tmp_path}/ledger.db", clock=clock)
    await ledger.start()
    await begin(ledger, plan(2_500), pieces=1, now=clock.now())
    clock.advance(50_000)
    await begin(ledger, plan(2_500), pieces=1, now=clock.now())
    clock.advance(86_399)
    await ledger.purge(unfolded_for=1e9)
    assert rows_left(ledger, "tasks").result() == 1_000
    clock.advance(1)
    await ledger.purge(unfolded_for=1e9)
    assert (rows_left(ledger, "tasks").result(), rows_left(ledger, "fan_outs").result()) == (0, 0)
    await ledger.close()


async def test_what_was_left_half_written_and_sealed_later_is_kept(tmp_path, clock):
    ledger = SqliteLedger(f"sqlite:///{tmp_path}/ledger.db", clock=clock)
    await ledger.start()
    await begin(ledger, plan(2_500), pieces=1, now=clock.now())
    await ledger.open(plan(2_500))
    clock.advance(90_000)
    assert await ledger.purge() == 0
    await ledger.close()


async def test_what_a_dead_producer_left_half_written_is_completed_by_the_next(ledger):
    await begin(ledger, plan(2_500), pieces=2)
    await ledger.open(plan(2_500))
    assert (await ledger.get("f1")).progress == Progress(pending=2_500)


@pytest.mark.parametrize("count", [2_000, 3, 2_501], ids=["fewer", "few", "more"])
async def test_what_was_left_half_written_of_another_plan_gives_way(ledger, count):
    await begin(ledger, plan(2_500), pieces=3)
    await ledger.open(plan(count))
    assert (await ledger.get("f1")).progress == Progress(pending=count)


async def test_a_producer_whose_plan_gave_way_is_told(ledger):
    opening = await begin(ledger, plan(2_500), pieces=1)
    await begin(ledger, plan(1_500), pieces=1)
    late = partial(openings.add_piece, opening=opening, plan=plan(2_500), at=1_000, now=0.0)
    with pytest.raises(FanOutSealedError, match="'e1' of 'doc-1' is being enqueued elsewhere"):
        await ledger._write(late)


async def test_a_producer_whose_plan_gave_way_to_one_that_is_sealed_is_told(ledger):
    opening = await begin(ledger, plan(2_500), pieces=1)
    await ledger.open(plan(1_500))
    await ledger._write(partial(openings.add_piece, opening=opening, plan=plan(2_500), at=1_000, now=0.0))
    with pytest.raises(FanOutSealedError, match="'e1' of 'doc-1' was enqueued before"):
        await ledger._write(lambda connection: openings.seal(connection, opening, plan(2_500), 0.0))
    assert (await ledger.get("f1")).progress == Progress(pending=1_500)


async def test_a_producer_whose_plan_was_sealed_by_another_finds_it_sealed(ledger):
    opening = await begin(ledger, plan(2_500), pieces=1)
    done = await ledger.open(plan(2_500))
    await ledger._write(partial(openings.add_piece, opening=opening, plan=plan(2_500), at=1_000, now=0.0))
    sealed = await ledger._write(lambda connection: openings.seal(connection, opening, plan(2_500), 0.0))
    assert sealed.states == done.states
    assert (await ledger.get("f1")).progress == Progress(pending=2_500)


async def test_other_writers_go_on_while_a_large_plan_is_written(ledger):
    large = asyncio.create_task(ledger.open(plan(20_000)))
    small = Plan(fan_out_id="f2", entity_id="doc-2", event_id=None, metadata={}, tasks=[TaskSpec("words")])
    await ledger.open(small)
    assert not large.done()
    await large
