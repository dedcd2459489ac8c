"""The ledger's table on DynamoDB: set up by the command, in templates, and what each role asks of it."""

from __future__ import annotations

import asyncio
import itertools
import json

import boto3
import pytest
from click.testing import CliRunner
from psycopg.sql import SQL

from dynamodb_clients import Wrapped, refusal
from fanfold import Fanfold, Reject
from fanfold.cli import main
from fanfold.deploy import ledger_rights, ledger_table
from fanfold.deploy.cloudformation import template
from fanfold.deploy.description import Description
from fanfold.deploy.hcl import document
from fanfold.deploy.ledger_table import GRANTS
from fanfold.errors import ConfigurationError, LedgerError
from fanfold.ledgers import postgres_schema
from fanfold.ledgers.dynamodb.table import definition
from test_deploy_templates import resources

_NUMBERS = itertools.count()
_TRANSACTION = {"PutItem", "DeleteItem"}
"""What the one kind of transaction puts and deletes; there is no right to make transactions as such."""


@pytest.fixture
def dynamodb(sqs_client, sqs_endpoint):
    assert sqs_client is not None  # for its credentials
    client = boto3.client("dynamodb", endpoint_url=sqs_endpoint)
    yield client
    client.close()


@pytest.fixture
def url(sqs_endpoint):
    return f"dynamodb://ledger{next(_NUMBERS)}?region=eu-west-1&endpoint_url={sqs_endpoint}"


def named(url):
    return url.removeprefix("dynamodb://").partition("?")[0]


def told(url, *options):
    ran = CliRunner().invoke(main, ["provision", "--queue-url", "sqlite:///tasks.db", "--ledger", url, *options])
    return ran.exit_code, [change for change in ran.stdout.splitlines() if "table" in change]


def test_the_table_is_shown_first_and_made_with_yes_only(dynamodb, url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert told(url) == (3, [f"create table {named(url)}"])
    assert named(url) not in dynamodb.list_tables()["TableNames"]
    assert told(url, "--yes") == (0, [f"create table {named(url)}"])
    made = dynamodb.describe_table(TableName=named(url))["Table"]
    assert made["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert told(url) == (0, [])


@pytest.mark.usefixtures("sqs_client")  # for its credentials
def test_a_set_up_that_was_interrupted_before_the_tables_ttl_is_completed(dynamodb, url):
    dynamodb.create_table(**definition(named(url)))
    [missing] = ledger_table.look(url)
    assert str(missing) == f"set TimeToLive of table {named(url)}: nothing -> expires_at"
    ledger_table.apply(url)
    assert ledger_table.look(url) == []


def test_another_applications_table_is_left_alone(dynamodb, url):
    key = {"AttributeName": "id", "KeyType": "HASH"}
    kind = {"AttributeName": "id", "AttributeType": "S"}
    dynamodb.create_table(
        TableName=named(url), KeySchema=[key], AttributeDefinitions=[kind], BillingMode="PAY_PER_REQUEST"
    )
    with pytest.raises(LedgerError, match="another application's table"):
        ledger_table.look(url)


@pytest.mark.parametrize("name", ["ab", "a b", "x" * 256])
def test_a_name_that_dynamodb_refuses_is_refused_before_anything_is_asked(name):
    with pytest.raises(ConfigurationError, match="3 to 255"):
        Description(name="tasks.fifo", ledger_table=name)


def test_terraforms_table_is_cloudformations():
    ours = ledger_table.resource("fanfold")["Properties"]
    theirs = resources(document([ledger_table.block("fanfold")]))["aws_dynamodb_table", "ledger"]
    keys = {key["KeyType"]: key["AttributeName"] for key in ours["KeySchema"]}
    assert (theirs["hash_key"], theirs["range_key"]) == (keys["HASH"], keys["RANGE"])
    assert (theirs["name"], theirs["billing_mode"]) == (ours["TableName"], ours["BillingMode"])
    assert {(each["name"], each["type"]) for each in theirs["attribute"]} == {
        (each["AttributeName"], each["AttributeType"]) for each in ours["AttributeDefinitions"]
    }
    assert [_index(each) for each in theirs["global_secondary_index"]] == [
        (each["IndexName"], *(key["AttributeName"] for key in each["KeySchema"]), each["Projection"]["ProjectionType"])
        for each in ours["GlobalSecondaryIndexes"]
    ]
    ttl = ours["TimeToLiveSpecification"]
    assert theirs["ttl"] == [{"attribute_name": ttl["AttributeName"], "enabled": ttl["Enabled"]}]


def _index(of):
    return of["name"], of["hash_key"], of["range_key"], of["projection_type"]


def test_the_stack_makes_a_table_that_the_ledger_takes(dynamodb, url, sqs_endpoint):
    wanted = Description(name=f"{named(url)}.fifo", ledger_table=named(url))
    client = boto3.client("cloudformation", endpoint_url=sqs_endpoint)
    client.create_stack(StackName=named(url), TemplateBody=json.dumps(template(wanted)))
    client.close()
    assert named(url) in dynamodb.list_tables()["TableNames"]
    assert [change for change in ledger_table.look(url) if change.attribute is None] == []


async def record(app):
    """What the application's ledger asks of DynamoDB from now on."""
    ledger = (await app._open()).ledger
    asked = {"DescribeTable"}  # by the opening

    def note(model, **_):
        asked.update(_TRANSACTION if model.name == "TransactWriteItems" else {model.name})

    ledger._client.meta.events.register("before-call.dynamodb", note)
    return asked


@pytest.mark.usefixtures("dynamodb")  # for its credentials
async def test_each_role_asks_for_nothing_but_what_it_is_granted(url, tmp_path):
    await asyncio.to_thread(ledger_table.apply, url)
    folded = asyncio.Event()
    async with Fanfold(f"sqlite:///{tmp_path}/tasks.db", ledger=url) as app:

        @app.task("good")
        async def good(): ...

        @app.task("bad")
        async def bad():
            raise Reject("no")

        @app.on_complete
        async def fold():
            folded.set()

        producing = await record(app)
        for _ in range(2):
            await app.enqueue_async("doc-1", ["good", "bad"], event_id="e1")
        await app.close_async()
        working = await record(app)
        worker = await app.worker()
        await worker.start()
        await folded.wait()
        await worker.stop()
        await worker._reconciler.reconcile(worker._reconciler._ledger)
        await app.close_async()
        operating = await record(app)
        [fan_out] = await app.fan_outs_async()
        handle = app.fan_out(fan_out.fan_out_id)
        await handle.rerun_async()
        await handle.cancel_async()
    assert {"PutItem", "DeleteItem", "BatchWriteItem"} <= producing <= set(GRANTS["producer"])
    assert {"UpdateItem", "Query"} <= working <= set(GRANTS["worker"])
    assert {"UpdateItem", "Query"} <= operating <= set(GRANTS["operator"])


def test_the_policies_name_the_table_and_its_indexes():
    run = ["template", "iam", "tasks.fifo", "--account", "1" * 12, "--region", "eu-west-1", "--ledger-table", "fanfold"]
    made = json.loads(CliRunner().invoke(main, [*run, "--role", "producer"]).stdout)
    arn = f"arn:aws:dynamodb:eu-west-1:{'1' * 12}:table/fanfold"
    assert made["Statement"][-1]["Resource"] == [arn, f"{arn}/index/*"]


class Denying(Wrapped):
    """A client that may do nothing of some kinds."""

    def __init__(self, client, names):
        super().__init__(client)
        self.names = names

    def __getattr__(self, name):
        if name in self.names:
            return self.refuse
        return super().__getattr__(name)

    def refuse(self, **_):
        raise refusal("AccessDeniedException")


def _method(action):
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in action).lstrip("_")


@pytest.mark.parametrize("action", GRANTS["worker"])
def test_a_right_that_is_missing_is_found_by_its_name_and_probing_leaves_the_table_as_it_was(dynamodb, url, action):
    ledger_table.apply(url)
    assert ledger_rights.lacking(url, "worker", client=dynamodb) == []
    found = ledger_rights.lacking(url, "worker", client=Denying(dynamodb, {_method(action)}))
    assert {denial.action for denial in found} == {f"dynamodb:{action}"}
    assert dynamodb.scan(TableName=named(url))["Items"] == []


@pytest.mark.usefixtures("dynamodb")  # for its credentials
def test_a_table_that_isnt_there_is_no_finding_about_rights(url):
    with pytest.raises(LedgerError, match="no such table"):
        ledger_rights.lacking(url, "worker")


def postgres_told(url, *options):
    ran = CliRunner().invoke(main, ["provision", "--queue-url", "sqlite:///tasks.db", "--ledger", url, *options])
    return ran.exit_code, [change for change in ran.stdout.splitlines() if "schema" in change]


def test_tables_in_postgresql_are_shown_first_and_made_with_yes_only(
    postgres, postgres_url, schema, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    there = f"SELECT count(*) FROM pg_namespace WHERE nspname = '{schema}'"  # noqa: S608 - our own name
    shown = [f"create tables in schema {schema} of {postgres.url}"]
    assert postgres_told(postgres_url) == (3, shown)
    assert postgres.execute(there) == [(0,)]
    assert postgres_told(postgres_url, "--yes") == (0, shown)
    assert postgres_told(postgres_url) == (0, [])
    monkeypatch.setattr(postgres_schema, "_VERSIONS", (*postgres_schema._VERSIONS, SQL("SELECT 1")))
    code, [change] = postgres_told(postgres_url)
    assert (code, change.startswith(f"set version of tables in schema {schema}")) == (3, True)


def test_a_right_that_postgresqls_role_lacks_is_found_and_nothing_is_made(postgres, postgres_url, schema, tmp_path):
    queue = f"sqlite:///{tmp_path}/tasks.db"
    unmade = CliRunner().invoke(main, ["doctor", "--queue-url", queue, "--ledger", postgres_url])
    assert "no such file" in unmade.stdout
    CliRunner().invoke(main, ["provision", "--queue-url", queue, "--yes"])
    missing = CliRunner().invoke(main, ["doctor", "--queue-url", queue, "--ledger", postgres_url])
    assert (missing.exit_code, "the ledger isn't set up: create tables" in missing.stdout) == (3, True)
    CliRunner().invoke(main, ["provision", "--queue-url", queue, "--ledger", postgres_url, "--yes"])
    postgres.execute(
        f"CREATE ROLE {schema}_reader LOGIN",
        f"GRANT USAGE ON SCHEMA {schema} TO {schema}_reader",
        f"GRANT SELECT, INSERT, DELETE ON ALL TABLES IN SCHEMA {schema} TO {schema}_reader",
    )
    as_reader = postgres_url.replace("fanfold@", f"{schema}_reader@")
    ran = CliRunner().invoke(main, ["doctor", "--queue-url", queue, "--ledger", as_reader])
    assert (ran.exit_code, f"lacks UPDATE ON {schema}.tasks" in ran.stdout) == (1, True)
    assert "lacks INSERT" not in ran.stdout
