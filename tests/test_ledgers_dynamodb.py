"""What only the ledger on DynamoDB has to do: its table, what it costs, what it says when something is missing."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from botocore.exceptions import EndpointConnectionError, NoCredentialsError

from dynamodb_clients import Away, Metered, Recording, Wrapped, refusal
from fanfold.errors import ConfigurationError, InvalidInputError, LedgerError, LedgerUnavailableError
from fanfold.ledgers.dynamodb import address, faults, shapes, table
from fanfold.ledgers.dynamodb.ledger import DynamoDBLedger
from fanfold.ledgers.dynamodb.opening import PATIENCE
from fanfold.ledgers.dynamodb.reading import Layouts
from fanfold.ledgers.protocol import Claim, Finish
from fanfold.model import FOLD_NAME, Failure, Progress, TaskSpec, TaskState
from ledgering import claim, completed, finish, ids, plan, run
from servers import table_of

SLOW = Failure(type="TimeoutError", message="slow")
FORTY_TWO = [f"field{number}" for number in range(42)]


@pytest.fixture
async def ledger(connect_dynamodb, dynamodb_client):
    return await connect_dynamodb(dynamodb_client)


def items(client, table_name):
    return client.scan(TableName=table_name)["Items"]


# Addresses


def test_an_address_says_table_region_endpoint_and_whether_to_make_it():
    said = address.parse("dynamodb://fan.fold-1?region=eu-west-1&endpoint_url=http://localhost:8000&create=true")
    assert said == address.Address(
        table="fan.fold-1", region="eu-west-1", endpoint_url="http://localhost:8000", create=True
    )
    assert address.parse("dynamodb://fanfold") == address.Address(table="fanfold")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("dynamodb://", "3 to 255"),
        ("dynamodb://a/b", "3 to 255"),
        ("dynamodb://fanfold?zone=1", "unknown option 'zone'"),
        ("dynamodb://fanfold?create=perhaps", "create='perhaps'"),
    ],
)
def test_an_address_that_cant_work_says_why(url, said):
    with pytest.raises(ConfigurationError, match=said):
        address.parse(url)


# The table


async def test_a_missing_table_is_named_with_the_ways_to_make_it(dynamodb_client):
    made = DynamoDBLedger("dynamodb://nowhere", client=dynamodb_client)
    with pytest.raises(LedgerError, match=r"dynamodb://nowhere: there is no such table .*create=true") as raised:
        await made.start()
    assert "fanfold provision QUEUE --ledger 'dynamodb://nowhere' --yes" in str(raised.value)
    await made.close()


async def test_the_table_is_made_where_the_url_says_so_and_is_used_by_the_next(tmp_path, dynamodb_client):
    url = f"dynamodb://{table_of(tmp_path)}?create=true"
    for _ in range(2):
        made = DynamoDBLedger(url, client=dynamodb_client)
        await made.start()
        await made.close()
    described = dynamodb_client.describe_table(TableName=table_of(tmp_path))["Table"]
    assert described["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert {index["IndexName"] for index in described["GlobalSecondaryIndexes"]} == set(table.INDEXES)
    ttl = dynamodb_client.describe_time_to_live(TableName=table_of(tmp_path))["TimeToLiveDescription"]
    assert ttl == {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires_at"}


def test_making_a_table_that_is_there_leaves_it_as_it_is(dynamodb_table, dynamodb_client):
    dynamodb_client.put_item(TableName=dynamodb_table, Item={"pk": {"S": "role/r"}, "sk": {"S": "role"}})
    table.create_table(f"dynamodb://{dynamodb_table}", client=dynamodb_client)
    assert len(items(dynamodb_client, dynamodb_table)) == 1


async def test_another_applications_table_is_refused(tmp_path, dynamodb_client):
    definition = table.definition(table_of(tmp_path))
    definition["GlobalSecondaryIndexes"] = [
        index for index in definition["GlobalSecondaryIndexes"] if index["IndexName"] != "unfolded"
    ]
    definition["AttributeDefinitions"] = [
        attribute for attribute in definition["AttributeDefinitions"] if attribute["AttributeName"] != "unfolded_at"
    ]
    dynamodb_client.create_table(**definition)
    with pytest.raises(LedgerError, match=r"another application's table.*without the indexes \['unfolded'\]"):
        await DynamoDBLedger(f"dynamodb://{table_of(tmp_path)}", client=dynamodb_client).start()


async def test_a_ledger_that_isnt_started_says_so(dynamodb_table, dynamodb_client):
    with pytest.raises(LedgerError, match="isn't started"):
        await DynamoDBLedger(f"dynamodb://{dynamodb_table}", client=dynamodb_client).get("f1")


# What is away, missing or too large


@pytest.mark.parametrize(
    "error",
    [
        NoCredentialsError(),
        EndpointConnectionError(endpoint_url="http://ledger"),
        refusal("ExpiredTokenException"),
        refusal("ProvisionedThroughputExceededException"),
        refusal("ThrottlingException"),
        refusal("InternalServerError", status=500),
        refusal(
            "TransactionCanceledException", CancellationReasons=[{"Code": "None"}, {"Code": "TransactionConflict"}]
        ),
    ],
    ids=lambda error: faults.code(error) or type(error).__name__,
)
async def test_while_dynamodb_is_away_a_try_later_may_help_and_does(connect_dynamodb, dynamodb_client, error):
    client = Away(dynamodb_client)
    made = await connect_dynamodb(client)
    await made.open(plan("words"))
    await claim(made)
    client.error = error
    with pytest.raises(LedgerUnavailableError, match="dynamodb://"):
        await finish(made)
    client.error = None
    assert (await finish(made)).fold_due


async def test_a_missing_right_is_named(connect_dynamodb, dynamodb_client):
    client = Away(dynamodb_client)
    made = await connect_dynamodb(client)
    client.error = refusal("AccessDeniedException")
    with pytest.raises(LedgerError, match="Add dynamodb:BatchGetItem on the table") as raised:
        await claim(made)
    assert not raised.value.transient


async def test_a_table_that_was_dropped_is_named(ledger, dynamodb_table, dynamodb_client):
    dynamodb_client.delete_table(TableName=dynamodb_table)
    with pytest.raises(LedgerError, match="there is no such table"):
        await ledger.open(plan("words"))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"metadata": {"page": "x" * 350_000}}, "metadata has 350,0"),
        ({"tasks": [TaskSpec("words", {"page": "x" * 100_000})]}, "config of 'words' has 100,0"),
    ],
)
async def test_what_an_item_cant_hold_is_refused_before_anything_is_written(
    ledger, dynamodb_table, dynamodb_client, fields, said
):
    with pytest.raises(InvalidInputError, match=said):
        await ledger.open(plan(**fields))
    assert items(dynamodb_client, dynamodb_table) == []


async def test_the_largest_result_and_the_longest_traceback_fit_beside_the_largest_config(ledger):
    await ledger.open(plan(tasks=[TaskSpec("words", {"page": "x" * 99_000}), TaskSpec("roof", {"page": "x" * 99_000})]))
    await run(ledger, "words", result=f'"{"y" * 262_142}"')
    long = Failure(type="ValueError", message="m" * 500_000, traceback="t" * 500_000)
    await run(ledger, "roof", failure=long, dead=True)
    words, roof = await ledger.tasks("f1")
    assert len(words.result) == 262_142
    assert (len(roof.failure.message), len(roof.failure.traceback)) == (20_000, 20_000)


class Unprocessing(Wrapped):
    """Leaves all but the first entry of a batch undone, as DynamoDB does when it throttles."""

    def around(self, name, payload, call):
        if name == "batch_write_item":
            [(where, requests)] = payload["RequestItems"].items()
            answer = self.real.batch_write_item(RequestItems={where: requests[:1]})
            return answer | {"UnprocessedItems": {where: requests[1:]} if requests[1:] else {}}
        if name == "batch_get_item":
            [(where, wanted)] = payload["RequestItems"].items()
            keys = wanted["Keys"]
            answer = self.real.batch_get_item(RequestItems={where: wanted | {"Keys": keys[:1]}})
            return answer | {"UnprocessedKeys": {where: wanted | {"Keys": keys[1:]}} if keys[1:] else {}}
        return call()


async def test_what_dynamodb_leaves_undone_is_asked_for_again(connect_dynamodb, dynamodb_client, until):
    made = await connect_dynamodb(Unprocessing(dynamodb_client))
    opening = asyncio.ensure_future(made.open(plan(*[f"t{number}" for number in range(5)])))
    await until(opening.done, moving=True)
    assert len((await opening).states) == 5
    assert len(await made.tasks("f1")) == 5


async def test_what_dynamodb_leaves_undone_for_too_long_is_a_ledger_that_is_away(
    connect_dynamodb, dynamodb_client, until
):
    class Never(Wrapped):
        def around(self, name, payload, call):
            return {"UnprocessedItems": payload["RequestItems"]} if name == "batch_write_item" else call()

    made = await connect_dynamodb(Never(dynamodb_client))
    opening = asyncio.ensure_future(made.open(plan("words")))
    await until(opening.done, moving=True)
    with pytest.raises(LedgerUnavailableError, match="left items undone"):
        await opening


# Requests whose answer was lost


class Twice(Wrapped):
    """Makes each request twice, as boto3 does where the answer to the first was lost."""

    def around(self, _name, _payload, call):
        call()
        return call()


async def test_a_claim_that_boto3_made_twice_counts_one_attempt(connect_dynamodb, dynamodb_client):
    made = await connect_dynamodb(Twice(dynamodb_client))
    await completed(made, "f1")
    [done] = await made.tasks("f1")
    assert done.attempts == 1
    assert (await claim(made, FOLD_NAME)).attempt == 1
    assert (await finish(made, FOLD_NAME)).applied
    assert (await made.get("f1")).fold_state is TaskState.SUCCEEDED


async def test_a_dead_fold_that_boto3_ran_again_twice_begins_one_generation(connect_dynamodb, dynamodb_client):
    made = await connect_dynamodb(Twice(dynamodb_client))
    await completed(made, "f1")
    await run(made, FOLD_NAME, failure=Failure(type="LookupError", message="no roof"), dead=True)
    unsent = await made.rerun("f1", [FOLD_NAME])
    assert (unsent.fan_out.generation, unsent.fan_out.fold_state) == (1, None)
    assert (await claim(made, FOLD_NAME, generation=1)).attempt == 1


# Openings that were left


class Dying(Wrapped):
    """Dies before the seal."""

    def around(self, name, _payload, call):
        if name == "transact_write_items":
            raise EndpointConnectionError(endpoint_url="http://ledger")
        return call()


async def test_what_a_dead_producer_left_is_there_for_nobody_and_is_cleared_away(
    connect_dynamodb, ledger, dynamodb_table, dynamodb_client, clock
):
    dying = await connect_dynamodb(Dying(dynamodb_client))
    with pytest.raises(LedgerUnavailableError):
        await dying.open(plan("words", "roof"))
    assert await claim(ledger) is None
    assert await ledger.list() == []
    assert len(items(dynamodb_client, dynamodb_table)) == 4
    clock.advance(PATIENCE - 1)
    await ledger.purge()
    assert len(items(dynamodb_client, dynamodb_table)) == 4
    clock.advance(1)
    assert await ledger.purge() == 0
    assert items(dynamodb_client, dynamodb_table) == []


async def test_another_producer_opens_what_a_dead_one_left_with_any_names(
    connect_dynamodb, ledger, dynamodb_client, clock
):
    dying = await connect_dynamodb(Dying(dynamodb_client))
    with pytest.raises(LedgerUnavailableError):
        await dying.open(plan("words", "roof"))
    await ledger.open(plan("owner"))
    clock.advance(PATIENCE)
    await ledger.purge()
    assert [task.task_name for task in await ledger.tasks("f1")] == ["owner"]
    assert (await run(ledger, "owner")).fold_due


async def test_a_producer_that_is_slower_than_the_clearing_opens_anew(connect_dynamodb, ledger, dynamodb_client, clock):
    class Slow(Wrapped):
        cleared = False

        def around(self, name, _payload, call):
            if name == "transact_write_items" and not self.cleared:
                self.cleared = True
                clock.advance(PATIENCE)
                asyncio.run(clear())
            return call()

    async def clear():
        other = DynamoDBLedger(ledger.url, client=dynamodb_client, clock=clock)
        await other.start()
        await other.purge()
        await other.close()

    slow = await connect_dynamodb(Slow(dynamodb_client))
    await slow.open(plan("words", "roof"))
    assert [task.task_name for task in await ledger.tasks("f1")] == ["words", "roof"]


async def test_purging_leaves_nothing_behind(ledger, dynamodb_table, dynamodb_client, clock):
    await ledger.open(plan("words", keep=1))
    await run(ledger)
    await run(ledger, FOLD_NAME)
    clock.advance(1)
    assert await ledger.purge() == 1
    assert items(dynamodb_client, dynamodb_table) == []


# What it costs


async def test_start_and_finish_of_a_task_in_a_fan_out_of_42_cost_at_most_4_write_units(
    connect_dynamodb, dynamodb_table, dynamodb_client
):
    client = Metered(dynamodb_client, dynamodb_table)
    made = await connect_dynamodb(client)
    await made.open(plan(*FORTY_TWO))
    await made.sent("f1", 0)
    opened, client.units = client.units, 0
    for task in FORTY_TWO:
        await run(made, task, result='{"value": 1987, "confidence": 0.98}')
    await run(made, FOLD_NAME, result="null")
    assert (await made.get("f1")).fold_state is TaskState.SUCCEEDED
    assert 3.0 <= client.units / 42 <= 3.3
    assert opened / 42 <= 1.6


async def test_ends_that_come_together_cost_less(connect_dynamodb, dynamodb_table, dynamodb_client):
    client = Metered(dynamodb_client, dynamodb_table)
    made = await connect_dynamodb(client)
    await made.open(plan(*FORTY_TWO))
    client.units = 0
    for names in (FORTY_TWO[at : at + 10] for at in range(0, 42, 10)):
        await made.claim([Claim(fan_out_id="f1", task_name=each, generation=0, worker="w") for each in names])
        await made.finish([Finish(fan_out_id="f1", task_name=each, attempt=1, result="1") for each in names])
    assert (await made.get("f1")).progress == Progress(succeeded=42)
    assert client.units / 42 <= 2.5


async def test_the_header_isnt_written_while_tasks_start_and_finish(connect_dynamodb, dynamodb_table, dynamodb_client):
    client = Metered(dynamodb_client, dynamodb_table)
    made = await connect_dynamodb(client)
    await made.open(plan(*FORTY_TWO))
    client.by_kind = {}
    for task in FORTY_TWO[:-1]:
        await run(made, task)
    assert client.by_kind == {"task": 82, "bucket": 41}


def test_a_large_fan_out_is_spread_over_as_many_partitions_as_each_holds_tasks():
    assert [shapes.buckets_for(total) for total in (1, 32, 42, 1_000, 10_000, 100_000)] == [1, 1, 2, 32, 100, 317]


async def test_no_request_looks_through_the_table(connect_dynamodb, dynamodb_client):
    client = Recording(dynamodb_client)
    made = await connect_dynamodb(client)
    await completed(made, "f1")
    await made.list()
    await made.stalled(untouched_for=1)
    await made.unsent(untouched_for=1)
    await made.purge()
    assert "scan" not in client.names


async def test_what_is_no_longer_kept_in_mind_is_looked_up(ledger, monkeypatch):
    monkeypatch.setattr(Layouts, "_KEPT", 1)
    for fan_out_id in ("f1", "f2"):
        await ledger.open(plan("words", fan_out_id=fan_out_id))
    claims = [Claim(fan_out_id=each, task_name="words", generation=0, worker="w") for each in ("f2", "f1")]
    assert [answer.attempt for answer in await ledger.claim(claims)] == [1, 1]
    ends = [Finish(fan_out_id=each, task_name="words", attempt=1, result="1") for each in ("f1", "f2")]
    assert [answer.fold_due for answer in await ledger.finish(ends)] == [True, True]


# What nobody noted


async def test_a_fan_out_whose_last_end_nobody_noted_is_ended_when_somebody_asks_for_what_is_stalled(
    connect_dynamodb, ledger, dynamodb_client, clock
):
    class Forgetful(Wrapped):
        def around(self, name, payload, call):
            if name == "update_item" and payload["Key"]["sk"]["S"] == "bucket":
                raise EndpointConnectionError(endpoint_url="http://ledger")
            return call()

    await ledger.open(plan("words"))
    dying = await connect_dynamodb(Forgetful(dynamodb_client))
    await claim(dying)
    with pytest.raises(LedgerUnavailableError):
        await finish(dying)
    assert (await ledger.get("f1")).completed_at is None
    clock.advance(60)
    assert await ledger.stalled(untouched_for=30) == []
    assert ids(await ledger.unfolded(completed_since=0, completed_before=clock.now() + 1)) == ["f1"]
    assert (await claim(ledger, FOLD_NAME)).state is TaskState.RUNNING


async def test_a_fan_out_with_much_going_on_is_no_obstacle_to_finding_a_stalled_one(ledger, clock):
    for number in range(5):
        await ledger.open(plan("words", "roof", fan_out_id=f"busy{number}"))
    await ledger.open(plan(fan_out_id="f1"))
    clock.advance(60)
    for number in range(5):
        await run(ledger, fan_out_id=f"busy{number}")
    assert ids(await ledger.stalled(untouched_for=30, limit=1)) == ["f1"]


# Rights


IAM = {"transact_write_items": {"PutItem", "DeleteItem"}}


def rights(names):
    """The actions that a role needs for requests."""
    return set().union(*(IAM.get(name, {name.title().replace("_", "")}) for name in names))


def documented(role):
    """The actions that the documentation gives to a role."""
    text = (Path(__file__).parents[1] / "docs" / "ledgers.md").read_text()
    [row] = re.findall(rf"^\| {role}[^|]*\|(.*)\|$", text, re.MULTILINE)
    return set(re.findall(r"`(\w+)`", row)) if "the same" not in row else documented("producer")


async def test_what_a_role_may_do_is_what_it_does(connect_dynamodb, dynamodb_client, clock):
    producer, worker, reader = (Recording(dynamodb_client) for _ in range(3))
    enqueuing, working, reading = [await connect_dynamodb(client) for client in (producer, worker, reader)]
    for _ in range(2):
        await enqueuing.open(plan("words", "roof", keep=1))
    await enqueuing.sent("f1", 0)
    await run(working)
    await working.cancel("f1")
    await working.rerun("f1")
    await working.cancel("f1")
    await run(working, FOLD_NAME)
    await reading.get("f1")
    await reading.list()
    clock.advance(1)
    await working.purge()
    assert rights(producer.names) | {"DescribeTable"} <= documented("producer")
    assert rights(worker.names) | {"DescribeTable"} == documented("worker")
    assert rights(reader.names) | {"DescribeTable"} == documented("reader")


class WatchedTables:
    """A client that remembers what is asked of tables themselves."""

    def __init__(self, client):
        self._client, self.names = client, []

    def __getattr__(self, name):
        method = getattr(self._client, name)
        if name == "get_waiter":
            self.names.append("describe_table")
        elif name in ("create_table", "describe_table", "update_time_to_live"):
            self.names.append(name)
        return method


def test_who_makes_the_table_needs_what_is_documented(tmp_path, dynamodb_client):
    client = WatchedTables(dynamodb_client)
    table.create_table(f"dynamodb://{table_of(tmp_path)}", client=client)
    assert rights(client.names) == documented("whoever makes the table")
