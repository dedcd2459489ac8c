"""The doctor's judgement on made-up set-ups, and its look at a real one."""

from __future__ import annotations

import dataclasses
import json

import pytest
from click.testing import CliRunner

from fanfold.brokers.boto import BotoTransport
from fanfold.cli import main
from fanfold.deploy import probes
from fanfold.deploy.doctor import Application, Grade, Seen, judge, worst
from fanfold.errors import PermissionMissingError

GOOD = {
    "FifoQueue": "true",
    "FifoThroughputLimit": "perMessageGroupId",
    "DeduplicationScope": "messageGroup",
    "MessageRetentionPeriod": "1209600",
    "SqsManagedSseEnabled": "true",
}
POLICY = json.dumps({"deadLetterTargetArn": "arn", "maxReceiveCount": 100})
SEEN = Seen(
    queue_url="https://x/1/tasks.fifo",
    queue={**GOOD, "RedrivePolicy": POLICY},
    dlq=GOOD,
    dlq_known=True,
    skew=0.0,
    round_trip=0.01,
    key_kind="role",
)
APPLICATION = Application(lease=60, max_attempts=5, has_ledger=True)


def bad(seen=SEEN, application=APPLICATION):
    return [finding for finding in judge(seen, application) if finding.grade is not Grade.OK]


def seen(*, queue=None, dlq=None, **fields):
    changed = {"queue": {**SEEN.queue, **(queue or {})}, "dlq": {**SEEN.dlq, **(dlq or {})}, **fields}
    return dataclasses.replace(SEEN, **changed)


def test_a_set_up_that_is_right_has_nothing_against_it():
    assert bad() == []
    assert worst(judge(SEEN, APPLICATION)) is Grade.OK


@pytest.mark.parametrize(
    ("found", "grade", "said"),
    [
        (seen(queue={"FifoThroughputLimit": "perQueue"}), Grade.WARNING, "high throughput is off"),
        (seen(queue={"MessageRetentionPeriod": "3600"}), Grade.WARNING, "the queue keeps messages for 0.0 days"),
        (seen(dlq={"MessageRetentionPeriod": "86400"}), Grade.WARNING, "the dead letter queue keeps messages for 1.0"),
        (seen(queue={"SqsManagedSseEnabled": "false"}), Grade.WARNING, "the queue isn't encrypted"),
        (seen(dlq={"FifoQueue": "false"}), Grade.ERROR, "the dead letter queue isn't FIFO"),
        (seen(queue={"RedrivePolicy": ""}), Grade.WARNING, "no redrive policy"),
        (seen(queue={"RedrivePolicy": '{"maxReceiveCount": "5"}'}), Grade.ERROR, "isn't above max_attempts 5"),
        (dataclasses.replace(SEEN, dlq=None, dlq_known=False), Grade.ERROR, "no dead letter queue is known"),
        (seen(denied=["sqs:DeleteMessage"]), Grade.ERROR, "sqs:DeleteMessage is denied"),
        (seen(key_kind="long-lived"), Grade.WARNING, "long-lived access keys"),
        (seen(skew=90.0), Grade.WARNING, "+90 s off"),
        (seen(skew=-400.0), Grade.ERROR, "-400 s off"),
        (seen(round_trip=0.25), Grade.WARNING, "takes 250 ms"),
    ],
)
def test_each_fault_is_found_with_its_reason_and_its_cure(found, grade, said):
    [finding] = bad(found)
    assert finding.grade is grade
    assert said in finding.what
    assert finding.why
    assert finding.cure


@pytest.mark.parametrize(
    ("application", "said"),
    [
        (dataclasses.replace(APPLICATION, timeouts={"long": 43_200}), "'long' may run for 43,200 s"),
        (dataclasses.replace(APPLICATION, folds=True, has_ledger=False), "on_complete is declared"),
        (dataclasses.replace(APPLICATION, attempts={"stubborn": 100}), "isn't above max_attempts 100"),
    ],
)
def test_the_tasks_are_looked_at_too(application, said):
    [finding] = bad(application=application)
    assert said in finding.what


async def test_every_missing_permission_is_found_without_changing_anything():
    class Denying:
        async def call(self, action, payload):  # noqa: ARG002 - what is asked with is all the same
            if action == "GetQueueAttributes":
                return {"Attributes": GOOD}
            raise PermissionMissingError(f"sqs:{action}", "denied")

    found = await probes.look(Denying(), "http://127.0.0.1:1/1/tasks.fifo", None, key_kind=None)
    assert found.denied == ["sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:SendMessage"]
    assert found.skew is None


async def test_probing_a_queue_leaves_it_as_it_was(sqs_client, sqs_queue):
    url, dlq_url = sqs_queue
    transport = BotoTransport(sqs_client)
    found = await probes.look(transport, url, dlq_url, key_kind="role")
    transport.close()
    assert found.denied == []
    assert found.queue["FifoQueue"] == found.dlq["FifoQueue"] == "true"
    assert found.round_trip > 0
    for queue in sqs_queue:
        counts = sqs_client.get_queue_attributes(QueueUrl=queue, AttributeNames=["ApproximateNumberOfMessages"])
        assert counts["Attributes"]["ApproximateNumberOfMessages"] == "0"


@pytest.mark.parametrize(
    ("key", "kind"),
    [("AKIAIOSFODNN7EXAMPLE", "long-lived"), ("ASIAIOSFODNN7EXAMPLE", "role"), (None, None), ("", None)],
)
def test_a_users_key_is_told_from_a_roles(key, kind):
    assert probes.kind_of(key) == kind


@pytest.mark.usefixtures("sqs_client")  # for its credentials
def test_the_command_says_what_cures_each_finding_and_its_exit_code_how_bad_it_is(sqs_queue):
    ran = CliRunner().invoke(main, ["doctor", "--queue-url", sqs_queue[0], "--region", "eu-west-1"])
    assert (ran.exit_code, "ERROR" in ran.stdout) == (3, False)
    assert "high throughput is off" in ran.stdout
    assert "cure:" in ran.stdout


def test_an_embedded_set_up_is_right(tmp_path):
    ran = CliRunner().invoke(main, ["doctor", "--queue-url", f"sqlite:///{tmp_path}/tasks.db", "--json"])
    assert (ran.exit_code, [finding["grade"] for finding in json.loads(ran.stdout)]) == (0, ["ok"])


def test_a_queue_that_is_gone_is_an_error(sqs_client, sqs_endpoint):
    url = f"{sqs_endpoint}/123456789012/nowhere.fifo"
    assert sqs_client is not None
    ran = CliRunner().invoke(main, ["doctor", "--queue-url", url, "--region", "eu-west-1"])
    assert (ran.exit_code, "doesn't exist" in ran.stdout) == (1, True)
