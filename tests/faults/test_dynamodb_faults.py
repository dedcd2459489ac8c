"""Requests to DynamoDB fail, each in one of the lives of an event, before they have an effect or after it; in the end,
every promise must hold."""

from __future__ import annotations

import pytest

from dynamodb_clients import Failing
from fanfold.errors import LedgerUnavailableError
from fanfold.ledgers.dynamodb.ledger import DynamoDBLedger
from fanfold.ledgers.protocol import Claim, Finish
from fanfold.model import FOLD_NAME, Failure, TaskState
from fanfold.testing import FakeClock
from ledgering import plan
from servers import table_of

NAMES = ["words", "roof", "owner"]
DEAD = Failure(type="LookupError", message="no roof")
TRIES = 5


class Line:
    """A producer, a queue, and a worker: what failed is tried again, and a message stays until it is acknowledged."""

    def __init__(self, ledger, clock):
        self.ledger, self.clock = ledger, clock
        self.folds = []

    async def insist(self, call, *arguments, **options):
        """Call until it is answered, as producers, workers and the reconciler do."""
        for _ in range(TRIES):
            try:
                return await call(*arguments, **options)
            except LedgerUnavailableError:
                self.clock.advance(1)
        raise AssertionError("it never recovers")

    async def deliver(self, name, generation, how):
        """One message from its claim to its acknowledgement; a fold that is due is run before that."""
        claim = Claim(fan_out_id="f1", task_name=name, generation=generation, worker="w")
        [answer] = await self.insist(self.ledger.claim, [claim])
        if answer.state is TaskState.RUNNING:
            finish = Finish(fan_out_id="f1", task_name=name, attempt=answer.attempt, generation=generation, **how)
            [answer] = await self.insist(self.ledger.finish, [finish])
            assert answer.applied
            if name == FOLD_NAME:
                self.folds.append(generation)
        if answer.fold_due:
            await self.deliver(FOLD_NAME, answer.generation, {"result": "null"})

    async def live(self):
        """An event's whole life: tasks that succeed and die, a message twice, a re-run, a cancelled rest, the end."""
        await self.insist(self.ledger.open, plan(*NAMES, keep=10))
        await self.insist(self.ledger.sent, "f1", 0)
        await self.deliver("words", 0, {"result": "1"})
        await self.deliver("roof", 0, {"failure": DEAD})
        await self.deliver("roof", 0, {"failure": DEAD, "dead": True})
        await self.deliver("owner", 0, {"result": "2"})
        await self.deliver("owner", 0, {"result": "2"})
        assert self.folds == [0]
        unsent = await self.insist(self.ledger.rerun, "f1", ["roof", "words"], failed_only=False)
        if not unsent.tasks:  # it was done, and only the answer was lost
            [unsent] = await self.insist(self.ledger.unsent, untouched_for=0)
        assert [task.task_name for task in unsent.tasks] == ["words", "roof"]
        assert unsent.fan_out.generation == 1
        await self.deliver("words", 1, {"result": "3"})
        cancelled = await self.insist(self.ledger.cancel, "f1")
        if cancelled.fold_due:
            await self.deliver(FOLD_NAME, cancelled.generation, {"result": "null"})
        await self.deliver("roof", 1, {"result": "9"})


async def connect(name, client, clock):
    made = DynamoDBLedger(f"dynamodb://{name}?create=true", client=client, clock=clock)
    await made.start()
    return made


async def lived(name, client):
    """The line after its life, and the ledger as it stands."""
    clock = FakeClock()
    ledger = await connect(name, client, clock)
    line = Line(ledger, clock)
    await line.live()
    found = await line.insist(ledger.get, "f1")
    clock.advance(10)
    for _ in range(TRIES):
        await line.insist(ledger.purge)
        clock.advance(86_400)
    await ledger.close()
    return line, found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("after", [False, True], ids=["before its effect", "after it"])
async def test_whichever_requests_fail_names_end_once_and_each_generation_is_folded_once(
    tmp_path, dynamodb_client, after
):
    failed = 0
    for first in range(Failing.EVERY):
        name = table_of(tmp_path / f"{first}-{after}")
        client = Failing(dynamodb_client, first, after=after)
        line, found = await lived(name, client)
        failed += client.failed
        assert line.folds == [0, 1], first
        states = {task.task_name: task.state.value for task in found.tasks}
        assert states == {"words": "succeeded", "roof": "cancelled", "owner": "succeeded"}, first
        assert found.results == {"words": 3, "owner": 2}, first
        assert found.fold_state is TaskState.SUCCEEDED, first
        assert dynamodb_client.scan(TableName=name)["Items"] == [], first
        dynamodb_client.delete_table(TableName=name)
    assert failed > 3 * Failing.EVERY
