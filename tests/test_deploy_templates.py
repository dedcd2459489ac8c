"""The templates: linted, deployed into moto, and compared with each other."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import boto3
import hcl2
import pytest
from click.testing import CliRunner

from fanfold.cli import main
from fanfold.deploy.cloudformation import template
from fanfold.deploy.description import Description
from fanfold.deploy.roles import ROLES, policy
from fanfold.deploy.scaling import Service, scaled_object
from fanfold.deploy.terraform import Raw, _value, configuration
from fanfold.errors import ConfigurationError

KEY = "1234abcd-12ab-34cd-56ef-1234567890ab"
DESCRIPTIONS = {
    "plain": Description(name="tasks.fifo"),
    "with a key": Description(name="orders.fifo", encryption=KEY, high_throughput=False, max_receive_count=7),
}
PROPERTIES = {
    "FifoQueue": "fifo_queue",
    "DeduplicationScope": "deduplication_scope",
    "FifoThroughputLimit": "fifo_throughput_limit",
    "SqsManagedSseEnabled": "sqs_managed_sse_enabled",
    "KmsMasterKeyId": "kms_master_key_id",
    "MessageRetentionPeriod": "message_retention_seconds",
    "VisibilityTimeout": "visibility_timeout_seconds",
    "ReceiveMessageWaitTimeSeconds": "receive_wait_time_seconds",
    "QueueName": "name",
}
ALARM_PROPERTIES = {
    "MetricName": "metric_name",
    "Threshold": "threshold",
    "Period": "period",
    "EvaluationPeriods": "evaluation_periods",
    "ComparisonOperator": "comparison_operator",
    "TreatMissingData": "treat_missing_data",
    "Statistic": "statistic",
    "Namespace": "namespace",
}


@pytest.fixture(params=DESCRIPTIONS)
def wanted(request):
    return DESCRIPTIONS[request.param]


def resources(text):
    """Terraform's resources by type and name, without the quotes that the parser keeps."""
    found = {}
    for block in hcl2.loads(text)["resource"]:
        for kind, named in block.items():
            for name, body in named.items():
                found[_bare(kind), _bare(name)] = {key: _bare(value) for key, value in body.items()}
    return found


def _bare(value):
    return value.strip('"') if isinstance(value, str) else value


@pytest.mark.parametrize("service", [None, Service(app="app:app")], ids=["queues", "with a service"])
def test_the_cloudformation_template_passes_the_linter(wanted, service, tmp_path):
    file = tmp_path / "template.json"
    file.write_text(json.dumps(template(wanted, service)))
    command = [Path(sys.executable).with_name("cfn-lint"), str(file)]
    linted = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (linted.returncode, linted.stdout) == (0, "")


def test_the_cloudformation_template_makes_the_queues_that_were_described(sqs_client, sqs_endpoint):
    client = boto3.client("cloudformation", endpoint_url=sqs_endpoint)
    wanted = Description(name="stacked.fifo", max_receive_count=9)
    client.create_stack(StackName="queues", TemplateBody=json.dumps(template(wanted)))
    [stack] = client.describe_stacks(StackName="queues")["Stacks"]
    client.close()
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    url = sqs_client.get_queue_url(QueueName="stacked.fifo")["QueueUrl"]
    dead = sqs_client.get_queue_url(QueueName="stacked-dlq.fifo")["QueueUrl"]
    made = sqs_client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    arn = sqs_client.get_queue_attributes(QueueUrl=dead, AttributeNames=["All"])["Attributes"]["QueueArn"]
    assert made["FifoQueue"] == "true"
    assert json.loads(made["RedrivePolicy"])["deadLetterTargetArn"] == arn
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    assert outputs.keys() == {"QueueUrl", "DeadLetterQueueUrl"}
    assert outputs["QueueUrl"].endswith("stacked.fifo")


@pytest.mark.parametrize(("cfn", "tf"), [("Queue", "queue"), ("DeadLetterQueue", "dead_letter_queue")])
def test_terraforms_queues_are_cloudformations(wanted, cfn, tf):
    properties = template(wanted)["Resources"][cfn]["Properties"]
    ours = {PROPERTIES[name]: value for name, value in properties.items() if name in PROPERTIES}
    body = resources(configuration(wanted))["aws_sqs_queue", tf]
    assert {name: body[name] for name in ours} == ours
    assert body.keys() - ours.keys() <= {"redrive_policy", "__is_block__"}


def test_terraforms_alarms_are_cloudformations(wanted):
    terraform = resources(configuration(wanted))
    made = template(wanted)["Resources"]
    alarms = {name: r["Properties"] for name, r in made.items() if r["Type"] == "AWS::CloudWatch::Alarm"}
    assert {name for kind, name in terraform if kind == "aws_cloudwatch_metric_alarm"} == alarms.keys()
    for name, properties in alarms.items():
        body = terraform["aws_cloudwatch_metric_alarm", name]
        assert {tf: body[tf] for tf in ALARM_PROPERTIES.values()} == {
            tf: properties[cfn] for cfn, tf in ALARM_PROPERTIES.items()
        }


@pytest.mark.parametrize("role", ROLES)
def test_the_roles_of_all_templates_have_the_same_rights(role):
    wanted = DESCRIPTIONS["plain"]
    [made] = template(wanted)["Resources"][f"{role.title()}Role"]["Properties"]["Policies"]
    queue, dead = ({"Fn::GetAtt": [name, "Arn"]} for name in ("Queue", "DeadLetterQueue"))
    assert made["PolicyDocument"] == policy(role, queue_arn=queue, dlq_arn=dead)
    arns = {"queue_arn": Raw("aws_sqs_queue.queue.arn"), "dlq_arn": Raw("aws_sqs_queue.dead_letter_queue.arn")}
    assert f"policy = jsonencode({_value(policy(role, **arns))})" in configuration(wanted)


def test_the_policies_stand_on_exact_arns():
    run = ["template", "iam", "tasks.fifo", "--account", "123456789012", "--region", "eu-west-1", "--role", "worker"]
    made = json.loads(CliRunner().invoke(main, run).stdout)
    assert [statement["Resource"] for statement in made["Statement"]] == [
        "arn:aws:sqs:eu-west-1:123456789012:tasks.fifo",
        "arn:aws:sqs:eu-west-1:123456789012:tasks-dlq.fifo",
    ]


def test_keda_scales_on_the_backlog_per_worker():
    made = scaled_object(Description(name="tasks.fifo"), Service(app="app:app"), region="eu-west-1", account="1" * 12)
    [trigger] = made["spec"]["triggers"]
    assert trigger["metadata"]["queueURL"] == "https://sqs.eu-west-1.amazonaws.com/111111111111/tasks.fifo"
    assert trigger["metadata"]["queueLength"] == "100"


@pytest.mark.parametrize("given", [{"least": 3, "most": 2}, {"backlog_per_worker": 0}, {"app": "app"}])
def test_a_service_that_cant_run_is_refused(given):
    with pytest.raises(ConfigurationError):
        Service(**{"app": "app:app"} | given)


@pytest.mark.parametrize("kind", ["cloudformation", "terraform"])
def test_a_name_too_long_is_refused_before_anything_is_printed(kind):
    refused = CliRunner().invoke(main, ["template", kind, "x" * 72 + ".fifo"])
    assert (refused.exit_code, refused.stdout, "at most 80" in refused.stderr) == (1, "", True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["cloudformation", "--service", "app:app"],
        ["terraform"],
        ["keda", "--account", "1" * 12, "--region", "eu-west-1"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_each_command_prints_its_template(arguments):
    assert CliRunner().invoke(main, ["template", arguments[0], "tasks.fifo", *arguments[1:]]).exit_code == 0
