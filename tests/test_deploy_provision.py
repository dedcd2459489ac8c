"""Setting a queue up: described, compared, made so, and then nothing is left to do."""

from __future__ import annotations

import itertools
import json

import pytest
from click.testing import CliRunner

from fanfold import Fanfold
from fanfold.brokers.boto import BotoTransport
from fanfold.cli import main
from fanfold.deploy import provision
from fanfold.deploy.description import Description, check_dlq_arn, check_place
from fanfold.errors import ConfigurationError, NotFifoError

_NUMBERS = itertools.count()


@pytest.fixture
def name():
    return f"made{next(_NUMBERS)}.fifo"


ARN = "arn:aws:sqs:eu-west-1:123456789012:"


def existing(name, prefix=ARN, sources=(), **attributes):
    attributes = {"QueueArn": f"{prefix}{name}", **attributes}
    return provision.Existing(url=f"https://x/1/{name}", attributes=attributes, sources=sources)


class Remembering:
    """Moto's SQS, with the one attribute that it forgets: RedriveAllowPolicy."""

    def __init__(self, transport):
        self.transport, self.allowed = transport, {}

    async def call(self, action, payload):
        if action == "SetQueueAttributes" and "RedriveAllowPolicy" in payload["Attributes"]:
            self.allowed[payload["QueueUrl"]] = payload["Attributes"]["RedriveAllowPolicy"]
        answer = await self.transport.call(action, payload)
        if action == "GetQueueAttributes" and payload["QueueUrl"] in self.allowed:
            answer["Attributes"]["RedriveAllowPolicy"] = self.allowed[payload["QueueUrl"]]
        return answer


@pytest.fixture
def transport(sqs_client):
    made = BotoTransport(sqs_client)
    yield Remembering(made)
    made.close()


def attributes(client, name):
    url = client.get_queue_url(QueueName=name)["QueueUrl"]
    return client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]


async def test_what_is_missing_is_created_and_then_nothing_is_left_to_change(transport, sqs_client, name):
    wanted = Description(name=name)
    plan = await provision.look(transport, wanted)
    assert [str(change) for change in plan.changes][:2] == [f"create {wanted.dlq_name}", f"create {name}"]
    assert (await provision.apply(transport, plan)).changes == ()
    made, dead = attributes(sqs_client, name), attributes(sqs_client, wanted.dlq_name)
    assert (made["FifoQueue"], dead["FifoQueue"]) == ("true", "true")
    assert made["SqsManagedSseEnabled"] == "true"
    policy = json.loads(made["RedrivePolicy"])
    assert (policy["deadLetterTargetArn"], int(policy["maxReceiveCount"])) == (dead["QueueArn"], 100)
    [allowed] = transport.allowed.values()
    assert json.loads(allowed)["sourceQueueArns"] == [made["QueueArn"]]
    assert (made["MessageRetentionPeriod"], made["FifoThroughputLimit"]) == ("1209600", "perMessageGroupId")


async def test_a_look_changes_nothing(transport, sqs_client, name):
    await provision.look(transport, Description(name=name))
    assert "QueueUrls" not in sqs_client.list_queues(QueueNamePrefix=name.removesuffix(".fifo"))


async def test_only_what_differs_is_set_and_the_rest_is_left_alone(transport, sqs_client, name):
    wanted = Description(name=name)
    await provision.apply(transport, await provision.look(transport, wanted))
    url = sqs_client.get_queue_url(QueueName=name)["QueueUrl"]
    sqs_client.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "5", "MaximumMessageSize": "2048"})
    plan = await provision.look(transport, wanted)
    assert [str(change) for change in plan.changes] == [f"set VisibilityTimeout of {name}: 5 -> 60"]
    assert (await provision.apply(transport, plan)).changes == ()
    assert attributes(sqs_client, name)["MaximumMessageSize"] == "2048"


async def test_a_provisioning_that_was_interrupted_is_completed(transport, sqs_client, name):
    wanted = Description(name=name)
    sqs_client.create_queue(QueueName=wanted.dlq_name, Attributes={"FifoQueue": "true"})
    plan = await provision.look(transport, wanted)
    assert f"create {name}" in [str(change) for change in plan.changes]
    assert (await provision.apply(transport, plan)).changes == ()


def test_a_queue_that_isnt_fifo_is_no_ground_to_build_on():
    with pytest.raises(NotFifoError, match="can't be changed"):
        provision.plan(Description(name="tasks.fifo"), existing("tasks.fifo"))


def test_queues_in_two_regions_are_no_ground_to_build_on():
    here, there = existing("tasks.fifo"), existing("tasks-dlq.fifo", "arn:aws:sqs:eu-west-2:1:")
    with pytest.raises(ConfigurationError, match="another region"):
        provision.plan(Description(name="tasks.fifo"), here, there)


def allowing(sources, allow=None):
    """Who may set messages aside after provisioning, where these queues do so before."""
    attributes = {"FifoQueue": "true"} | ({"RedriveAllowPolicy": json.dumps(allow)} if allow is not None else {})
    dead = existing("tasks-dlq.fifo", sources=sources, **attributes)
    made = provision.plan(Description(name="tasks.fifo"), None, dead)
    return [json.loads(change.after) for change in made.changes if change.attribute == "RedriveAllowPolicy"]


def test_who_else_sets_messages_aside_in_a_dead_letter_queue_goes_on_doing_so():
    ours, theirs, named = (f"{ARN}{name}.fifo" for name in ("tasks", "orders", "stock"))
    by_name = {"redrivePermission": "byQueue", "sourceQueueArns": [named]}
    assert allowing([theirs]) == [{"redrivePermission": "byQueue", "sourceQueueArns": [theirs, ours]}]
    assert allowing([theirs], by_name) == [{"redrivePermission": "byQueue", "sourceQueueArns": [theirs, named, ours]}]
    assert allowing([theirs], {"redrivePermission": "byQueue", "sourceQueueArns": [ours, theirs]}) == []


def test_more_than_ten_sources_cant_be_named_so_all_are_let_in():
    many = [f"{ARN}q{n}.fifo" for n in range(10)]
    assert allowing(many) == [{"redrivePermission": "allowAll"}]
    assert allowing(many, {"redrivePermission": "allowAll"}) == []


def test_one_kind_of_encryption_gives_way_to_the_other():
    assert provision._settable({"SqsManagedSseEnabled": "true"}) == {
        "KmsMasterKeyId": "",
        "SqsManagedSseEnabled": "true",
    }
    assert Description(name="a.fifo", encryption="alias/mine").queue_attributes["KmsMasterKeyId"] == "alias/mine"


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"name": "tasks"}, NotFifoError, "write 'tasks.fifo'"),
        ({"name": "x" * 72 + ".fifo"}, ConfigurationError, "81 characters"),
        ({"name": "a b.fifo"}, ConfigurationError, "letters, digits"),
        ({"name": "a.fifo", "dlq_name": "b"}, NotFifoError, "'b.fifo'"),
        ({"name": "a.fifo", "dlq_name": "a.fifo"}, ConfigurationError, "its own"),
        ({"name": "a.fifo", "max_receive_count": 5}, ConfigurationError, "isn't above max_attempts"),
        ({"name": "a.fifo", "max_receive_count": 1_001}, ConfigurationError, "1 to 1,000"),
        ({"name": "a.fifo", "visibility": 43_201}, ConfigurationError, "0 to 43,200"),
        ({"name": "a.fifo", "dlq_name": f"{ARN}d.fifo"}, ConfigurationError, "its name alone"),
        ({"name": "a.fifo", "encryption": "mine"}, ConfigurationError, "write sse-sqs, or a KMS key"),
        ({"name": "a.fifo", "retention": 59}, ConfigurationError, "60 to 1,209,600"),
    ],
)
def test_what_sqs_would_refuse_is_refused_before_it_is_asked(given, error, said):
    with pytest.raises(error, match=said):
        Description(**given)


@pytest.mark.parametrize(
    ("dlq", "said"),
    [
        ("arn:aws:sqs:us-east-1:123456789012:d.fifo", "another region"),
        ("arn:aws:sqs:eu-west-1:210987654321:d.fifo", "another account"),
        ("arn:aws:sqs:eu-west-1:123456789012:d", "isn't FIFO"),
        ("d.fifo", "is not the ARN"),
    ],
)
def test_a_dead_letter_queue_elsewhere_or_of_the_other_kind_is_refused(dlq, said):
    with pytest.raises(ConfigurationError, match=said):
        check_dlq_arn("arn:aws:sqs:eu-west-1:123456789012:q.fifo", dlq)


@pytest.mark.parametrize(("account", "region"), [("1", "eu-west-1"), ("123456789012", "europe")])
def test_a_place_that_cant_be_is_refused(account, region):
    with pytest.raises(ConfigurationError):
        check_place(account, region)


@pytest.mark.parametrize(
    ("options", "variable", "said"),
    [
        (["--region", "europe"], "", "write it as eu-west-1"),
        (["--endpoint-url", "localhost:9324"], "", "write http://"),
        ([], "", "no AWS region is known"),
        ([], "nowhere", "write it as eu-west-1"),
    ],
)
def test_a_place_that_cant_be_is_refused_before_anybody_is_asked(monkeypatch, options, variable, said):
    monkeypatch.setenv("AWS_DEFAULT_REGION", variable)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    ran = CliRunner().invoke(main, ["provision", "tasks.fifo", *options])
    assert (ran.exit_code, said in ran.stderr) == (1, True)


KEY = "arn:aws:kms:us-east-1:123456789012:key/12345678-1234-1234-1234-123456789012"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["provision", "t.fifo", "--region", "eu-west-1", "--encryption", KEY], "that key is in us-east-1"),
        (["template", "iam", "t.fifo", "--region", "eu-west-1", "--account", "1" * 12, "--encryption", KEY],
         "that key is in us-east-1"),
        (["provision", "t.fifo", "--region", "eu-west-1", "--retention", "nan"], "retention=nan: SQS keeps messages"),
        (["provision", "t.fifo", "--region", "eu-west-1", "--retention", "15"], "retention=15: SQS keeps messages"),
        (["provision", "t.fifo", "--region", "eu-west-1", "--max-attempts", "0"], "max_attempts=0: at least 1"),
        (["provision", "--queue-url", "https://sqs.eu-west-1.amazonaws.com/1/t.fifo"], "give the queue's NAME.fifo"),
    ],
)  # fmt: skip
def test_what_sqs_would_refuse_is_refused_by_the_command_before_anybody_is_asked(arguments, said):
    refused = CliRunner().invoke(main, arguments)
    assert (refused.exit_code, said in refused.stderr) == (1, True)


@pytest.mark.usefixtures("sqs_client")  # for its credentials
def test_the_command_shows_first_and_changes_with_yes_only(sqs_endpoint, name):
    def run(*options):
        place = ["--endpoint-url", sqs_endpoint, "--region", "eu-west-1"]
        return CliRunner().invoke(main, ["provision", name, *place, *options])

    shown = run()
    assert (shown.exit_code, "run it with --yes" in shown.stdout) == (3, True)
    assert run().stdout == shown.stdout
    made = run("--yes")
    assert (made.exit_code, "change(s) made." in made.stdout) == (0, True)
    # Moto forgets the RedriveAllowPolicy; nothing else is left.
    assert [change["attribute"] for change in json.loads(run("--json").stdout)] == ["RedriveAllowPolicy"]


def embedded(tmp_path, *options):
    return CliRunner().invoke(main, ["provision", "--queue-url", f"sqlite:///{tmp_path}/tasks.db", *options])


def test_an_embedded_queue_is_shown_first_and_made_with_yes_only(tmp_path):
    shown = embedded(tmp_path)
    assert (shown.exit_code, list(tmp_path.iterdir())) == (3, [])
    for change in (f"create {tmp_path}/tasks.db", "create tasks-dlq.fifo", "create tasks.fifo", "set RedrivePolicy of"):
        assert change in shown.stdout
    made = embedded(tmp_path, "--yes")
    assert (made.exit_code, (tmp_path / "tasks.db").exists()) == (0, True)
    assert embedded(tmp_path).stdout == "Nothing to change.\n"


def test_an_embedded_queue_keeps_what_it_was_set_up_with_when_it_is_used(tmp_path):
    embedded(tmp_path, "--yes", "--max-receive-count", "50", "--visibility", "90")
    with Fanfold(f"sqlite:///{tmp_path}/tasks.db") as app:
        app.enqueue("doc-1", ["title"])
    told = json.loads(embedded(tmp_path, "--visibility", "90", "--json").stdout)
    assert [(change["target"], change["attribute"]) for change in told] == [("tasks.fifo", "RedrivePolicy")]
    assert json.loads(told[0]["before"])["maxReceiveCount"] == 50


def test_an_embedded_queue_that_is_in_use_is_changed_where_it_differs(tmp_path):
    with Fanfold(f"sqlite:///{tmp_path}/tasks.db") as app:
        app.enqueue("doc-1", ["title"])
        changed = embedded(tmp_path, "--yes").stdout
        assert app.status().messages_available == 1
    assert "set VisibilityTimeout of tasks.fifo: 30 -> 60" in changed
    assert embedded(tmp_path).stdout == "Nothing to change.\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["other.fifo"], "the queues in it are tasks.fifo and tasks-dlq.fifo"),
        (["--dlq-name", "dead.fifo"], "leave NAME and --dlq-name out"),
        (["--ledger", "mysql://db"], "write sqlite:///ledger.db"),
    ],
)
def test_what_an_embedded_set_up_cant_be_is_refused(tmp_path, options, said):
    refused = embedded(tmp_path, "--yes", *options)
    assert (refused.exit_code, said in refused.stderr, list(tmp_path.iterdir())) == (1, True, [])


def test_a_ledger_in_a_file_of_its_own_is_made_too(tmp_path):
    ledger = f"sqlite:///{tmp_path}/ledger.db"
    assert f"create {tmp_path}/ledger.db" in embedded(tmp_path, "--ledger", ledger).stdout
    assert embedded(tmp_path, "--ledger", ledger, "--yes").exit_code == 0
    with Fanfold(f"sqlite:///{tmp_path}/tasks.db", ledger=ledger) as app:
        assert app.fan_outs() == []
    assert embedded(tmp_path, "--ledger", ledger).stdout == "Nothing to change.\n"


def test_no_ledger_is_nothing_to_set_up(tmp_path):
    assert "ledger" not in embedded(tmp_path, "--ledger", "none", "--yes").stdout
