from __future__ import annotations

import asyncio

import pytest

from fanfold.cancellations import Cancellations
from fanfold.errors import StorageBusyError
from fanfold.ledgers.protocol import Claim
from fanfold.runs import Run
from fanfold.telemetry import Telemetry


class Ledger:
    """What is asked of a ledger: which claims are stopped."""

    def __init__(self):
        self.cancelled = set()
        self.asked = []
        self.errors = []

    async def stopped(self, claims):
        await asyncio.sleep(0)
        self.asked.append([claim.task_name for claim in claims])
        if self.errors:
            raise self.errors.pop()
        return [claim.task_name in self.cancelled for claim in claims]


@pytest.fixture
def ledger():
    return Ledger()


@pytest.fixture
def said():
    return []


@pytest.fixture
async def cancellations(ledger, clock, said):
    made = Cancellations(ledger, every=20.0, clock=clock, telemetry=Telemetry(said.append))
    yield made
    await made.stop()


def run(cancellations, name):
    async def work():
        under_way = Run()
        under_way.begin()
        cancellations.watch(under_way, Claim(fan_out_id="f1", task_name=name, generation=0, worker="w"))
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancellations.forget(under_way)

    return asyncio.create_task(work())


async def test_a_run_that_is_cancelled_is_told_and_the_others_go_on(cancellations, ledger, said):
    stop, stay = run(cancellations, "stop"), run(cancellations, "stay")
    await asyncio.sleep(0)
    ledger.cancelled = {"stop"}
    await cancellations.look()
    with pytest.raises(asyncio.CancelledError):
        await stop
    assert not stay.done()
    assert [(event.name, event.fields["task_name"]) for event in said] == [("task.cancelled", "stop")]
    stay.cancel()


async def test_one_question_is_about_all_that_runs_and_none_is_asked_of_what_is_over(cancellations, ledger):
    runs = [run(cancellations, name) for name in "abc"]
    await asyncio.sleep(0)
    await cancellations.look()
    runs[1].cancel()
    await asyncio.wait([runs[1]])
    await cancellations.look()
    for task in runs:
        task.cancel()
    await asyncio.wait(runs)
    await cancellations.look()
    assert ledger.asked == [["a", "b", "c"], ["a", "c"]]


async def test_a_run_that_ended_while_the_ledger_answered_is_left_alone(cancellations, ledger, said):
    ledger.cancelled = {"a"}

    async def work():
        run = Run()
        cancellations.watch(run, Claim(fan_out_id="f1", task_name="a", generation=0, worker="w"))
        looking = asyncio.create_task(cancellations.look())
        await asyncio.sleep(0)
        cancellations.forget(run)
        await looking
        return "settled"

    assert await work() == "settled"
    assert said == []


async def test_a_beat_that_fails_is_reported_and_followed_by_another(cancellations, ledger, clock, said, until):
    await cancellations.start()
    task = run(cancellations, "a")
    ledger.errors, ledger.cancelled = [StorageBusyError("busy")], {"a"}
    for _ in range(2):
        await until(lambda: clock.sleepers == 1)
        clock.advance(20)
    await asyncio.wait([task])
    assert [event.name for event in said] == ["cancellations.failed", "task.cancelled"]


async def test_without_a_ledger_nothing_beats(clock, said):
    idle = Cancellations(None, every=20.0, clock=clock, telemetry=Telemetry(said.append))
    await idle.start()
    await idle.look()
    assert clock.sleepers == 0
    await idle.stop()
