"""What stays in the table, and for how long: configurations of a re-run that died, and nothing left to a clock."""

from __future__ import annotations

import pytest
from botocore.exceptions import EndpointConnectionError

from dynamodb_clients import Wrapped
from fanfold.errors import InvalidInputError, LedgerUnavailableError
from fanfold.ledgers.dynamodb.table import EXPIRY
from fanfold.model import FOLD_NAME, Failure, TaskSpec
from ledgering import claim, plan, run

DEAD = {"failure": Failure(type="LookupError", message="no roof"), "dead": True}
NAMES = ["a", "b", "c"]
OLD, NEW = {"model": "large"}, {"model": "small"}


class Dying(Wrapped):
    """Makes so many requests, and none after them."""

    left = 0

    def around(self, name, payload, call):
        if self.left == 0:
            raise EndpointConnectionError(endpoint_url="http://ledger")
        self.left -= 1
        return super().around(name, payload, call)


@pytest.fixture
async def ledger(connect_dynamodb, dynamodb_client):
    return await connect_dynamodb(dynamodb_client)


async def test_wherever_an_edited_rerun_dies_its_tasks_begin_with_the_edit_or_not_at_all(
    connect_dynamodb, ledger, dynamodb_client
):
    dying, begun, number = await connect_dynamodb(client := Dying(dynamodb_client)), [], 0
    while not begun or not begun[-1]:
        key = f"f{number}"
        await ledger.open(plan(fan_out_id=key, tasks=[TaskSpec(name, OLD) for name in NAMES]))
        for name in NAMES:
            await run(ledger, name, fan_out_id=key, **DEAD)
        client.left = number
        try:
            begun.append(await dying.rerun(key, configs=dict.fromkeys(NAMES, NEW)))
        except LedgerUnavailableError:
            begun.append(None)
        found = {unsent.fan_out.fan_out_id: unsent for unsent in await ledger.unsent(untouched_for=-1)}
        configs = [task.task_config for task in await ledger.tasks(key)]
        if key in found and found[key].fan_out.generation == 1:
            assert configs == [task.task_config for task in found[key].tasks] == [NEW] * 3
        else:
            assert configs == [OLD] * 3
        await ledger.cancel(key)  # or the next look would see it again
        number += 1
    assert len(begun) > 8


async def test_of_an_edit_nothing_is_left_beside_its_task(ledger, dynamodb_table, dynamodb_client):
    await ledger.open(plan("a"))
    await run(ledger, "a", **DEAD)
    await ledger.rerun("f1", configs={"a": NEW})
    kinds = sorted(
        item["sk"]["S"].partition("/")[0] for item in dynamodb_client.scan(TableName=dynamodb_table)["Items"]
    )
    assert kinds == ["bucket", "header", "task"]


async def test_a_configuration_that_is_too_large_is_refused_before_anything_begins(ledger):
    await ledger.open(plan("a"))
    await run(ledger, "a", **DEAD)
    with pytest.raises(InvalidInputError, match=r"config of 'a' has 100,009 bytes.*holds 100,000"):
        await ledger.rerun("f1", configs={"a": {"t": "x" * 100_001}})
    assert (await ledger.summary("f1")).generation == 0


async def test_only_roles_are_left_to_dynamodbs_clock(ledger, dynamodb_table, dynamodb_client, clock):
    await ledger.open(plan("a", "b", deadline=60.0, min_succeeded=2, keep=1))
    await ledger.sent("f1", 0)
    await run(ledger, "a")
    clock.advance(60)
    await claim(ledger, "b")
    await claim(ledger, FOLD_NAME)
    await ledger.open(plan("a", fan_out_id="f2"))
    await ledger.lead("role", "w", 60)
    clock.advance(60)
    await ledger.purge()
    items = dynamodb_client.scan(TableName=dynamodb_table)["Items"]
    assert {item["sk"]["S"] for item in items if EXPIRY in item} == {"role"}
    assert len(items) == 1 + 4 + 3
