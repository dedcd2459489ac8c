"""The templates: linted, deployed into moto, and compared with each other."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import boto3
import hcl2
import pytest
from click.testing import CliRunner

from fanfold.cli import main
from fanfold.deploy import hcl, scaling
from fanfold.deploy.cloudformation import template
from fanfold.deploy.description import Description
from fanfold.deploy.roles import ROLES, policy
from fanfold.deploy.scaling import Service
from fanfold.deploy.terraform import configuration
from fanfold.errors import ConfigurationError

KEY = "1234abcd-12ab-34cd-56ef-1234567890ab"
DESCRIPTIONS = {
    "plain": Description(name="tasks.fifo"),
    "with a key": Description(name="orders.fifo", encryption=KEY, high_throughput=False, max_receive_count=7),
    "with a ledger": Description(name="ledgered.fifo", ledger_table="fanfold"),
    "with an alias": Description(name="stock.fifo", encryption="alias/mine", dlq_name="dead.fifo", retention=3_600),
}
SERVICE = Service(app="shop.tasks:app", least=2, most=30, backlog_per_worker=50, cpu=1024, memory=2048)
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
    "AlarmDescription": "alarm_description",
}
KINDS = {
    "AWS::SQS::Queue": "aws_sqs_queue",
    "AWS::DynamoDB::Table": "aws_dynamodb_table",
    "AWS::CloudWatch::Alarm": "aws_cloudwatch_metric_alarm",
    "AWS::IAM::Role": "aws_iam_role",
    "AWS::ECS::TaskDefinition": "aws_ecs_task_definition",
    "AWS::ECS::Service": "aws_ecs_service",
    "AWS::Logs::LogGroup": "aws_cloudwatch_log_group",
    "AWS::ApplicationAutoScaling::ScalableTarget": "aws_appautoscaling_target",
    "AWS::ApplicationAutoScaling::ScalingPolicy": "aws_appautoscaling_policy",
}
INLINE = {"aws_sqs_queue_redrive_policy", "aws_sqs_queue_redrive_allow_policy", "aws_iam_role_policy"}
"""What CloudFormation has as a property of another resource."""


@pytest.fixture(params=DESCRIPTIONS)
def wanted(request):
    return DESCRIPTIONS[request.param]


@pytest.fixture(params=[None, SERVICE], ids=["queues", "with a service"])
def service(request):
    return request.param


def resources(text):
    """Terraform's resources by type and name."""
    return {
        (_bare(kind), _bare(name)): _bare(body)
        for block in hcl2.loads(text)["resource"]
        for kind, named in block.items()
        for name, body in named.items()
    }


def _bare(value):
    """Without the quotes and marks of blocks that the parser keeps."""
    if isinstance(value, dict):
        return {_bare(key): _bare(each) for key, each in value.items() if key != "__is_block__"}
    if isinstance(value, list):
        return [_bare(each) for each in value]
    return value.strip('"') if isinstance(value, str) else value


def properties(wanted, service, name):
    return template(wanted, service)["Resources"][name]["Properties"]


def lint(templates, tmp_path):
    """The linter's exit code and what it says, of all of them at once: it takes seconds to start."""
    for number, of in enumerate(templates):
        (tmp_path / f"{number}.json").write_text(json.dumps(of))
    command = [Path(sys.executable).with_name("cfn-lint"), *sorted(tmp_path.glob("*.json"))]
    linted = subprocess.run(command, capture_output=True, text=True, check=False)
    return linted.returncode, linted.stdout


def test_the_cloudformation_templates_pass_the_linter(tmp_path):
    made = [template(wanted, service) for wanted in DESCRIPTIONS.values() for service in (None, SERVICE)]
    assert lint(made, tmp_path) == (0, "")


def test_the_linter_would_notice_a_mistake(tmp_path):
    wrong = template(DESCRIPTIONS["plain"])
    wrong["Resources"]["Queue"]["Properties"]["VisibilityTimeout"] = 50_000
    assert lint([wrong], tmp_path)[0] != 0


@pytest.fixture
def cluster(sqs_client, sqs_endpoint):
    """A cluster on ECS."""
    assert sqs_client is not None  # for its credentials
    client = boto3.client("ecs", endpoint_url=sqs_endpoint)
    client.create_cluster(clusterName="workers")
    client.close()
    return "workers"


def test_the_cloudformation_template_makes_what_was_described(sqs_client, sqs_endpoint, service, cluster):
    client = boto3.client("cloudformation", endpoint_url=sqs_endpoint)
    name = "stacked" if service is None else "served"
    wanted = Description(name=f"{name}.fifo", max_receive_count=9)
    given = {"Cluster": cluster, "Image": "i", "Subnets": "subnet-1", "SecurityGroups": "sg-1", "ExecutionRole": "r"}
    parameters = [{"ParameterKey": key, "ParameterValue": value} for key, value in given.items() if service is not None]
    client.create_stack(StackName=name, TemplateBody=json.dumps(template(wanted, service)), Parameters=parameters)
    [stack] = client.describe_stacks(StackName=name)["Stacks"]
    made = client.describe_stack_resources(StackName=name)["StackResources"]
    client.close()
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    assert {resource.get("ResourceType") for resource in made} >= {"AWS::SQS::Queue", "AWS::IAM::Role"}
    url = sqs_client.get_queue_url(QueueName=f"{name}.fifo")["QueueUrl"]
    dead = sqs_client.get_queue_url(QueueName=f"{name}-dlq.fifo")["QueueUrl"]
    attributes = sqs_client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    arn = sqs_client.get_queue_attributes(QueueUrl=dead, AttributeNames=["All"])["Attributes"]["QueueArn"]
    assert attributes["FifoQueue"] == "true"
    policy = json.loads(attributes["RedrivePolicy"])
    assert (policy["deadLetterTargetArn"], int(policy["maxReceiveCount"])) == (arn, 9)
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    assert outputs.keys() == {"QueueUrl", "DeadLetterQueueUrl"}
    assert outputs["QueueUrl"].endswith(f"{name}.fifo")


def test_what_is_deleted_with_a_stack_is_never_a_queue(wanted):
    made = template(wanted)["Resources"]
    for name in ("Queue", "DeadLetterQueue"):
        assert (made[name]["DeletionPolicy"], made[name]["UpdateReplacePolicy"]) == ("Retain", "Retain")
    kept = resources(configuration(wanted))
    for name in ("queue", "dead_letter_queue"):
        assert kept["aws_sqs_queue", name]["lifecycle"] == [{"prevent_destroy": True}]


def test_terraform_has_the_resources_that_cloudformation_has(wanted, service):
    ours = Counter(KINDS[resource["Type"]] for resource in template(wanted, service)["Resources"].values())
    theirs = Counter(kind for kind, _ in resources(configuration(wanted, service)) if kind not in INLINE)
    assert ours == theirs


@pytest.mark.parametrize(("cfn", "tf"), [("Queue", "queue"), ("DeadLetterQueue", "dead_letter_queue")])
def test_terraforms_queues_are_cloudformations(wanted, cfn, tf):
    ours = {PROPERTIES[k]: v for k, v in properties(wanted, None, cfn).items() if k in PROPERTIES}
    body = resources(configuration(wanted))["aws_sqs_queue", tf]
    assert body == ours | {"lifecycle": [{"prevent_destroy": True}]}


def test_terraforms_redrive_is_cloudformations(wanted):
    made = resources(configuration(wanted))
    redrive = made["aws_sqs_queue_redrive_policy", "queue"]["redrive_policy"]
    count = properties(wanted, None, "Queue")["RedrivePolicy"]["maxReceiveCount"]
    assert f"maxReceiveCount = {count}" in redrive.replace('"', "")
    assert "aws_sqs_queue.dead_letter_queue.arn" in redrive
    allow = made["aws_sqs_queue_redrive_allow_policy", "dead_letter_queue"]["redrive_allow_policy"]
    assert "byQueue" in allow
    assert "aws_sqs_queue.queue.arn" in allow


def test_terraforms_alarms_are_cloudformations(wanted):
    terraform = resources(configuration(wanted))
    made = template(wanted)["Resources"]
    alarms = {name: r["Properties"] for name, r in made.items() if r["Type"] == "AWS::CloudWatch::Alarm"}
    assert {alarm["MetricName"] for alarm in alarms.values()} == {
        "ApproximateAgeOfOldestMessage",
        "ApproximateNumberOfMessagesVisible",
    }
    assert {name for kind, name in terraform if kind == "aws_cloudwatch_metric_alarm"} == alarms.keys()
    for name, alarm in alarms.items():
        body = terraform["aws_cloudwatch_metric_alarm", name]
        assert {tf: body[tf] for tf in ALARM_PROPERTIES.values()} == {
            tf: alarm[cfn] for cfn, tf in ALARM_PROPERTIES.items()
        }


def test_terraforms_service_is_cloudformations(wanted):
    terraform = resources(configuration(wanted, SERVICE))
    task = terraform["aws_ecs_task_definition", "worker"]
    ours = properties(wanted, SERVICE, "TaskDefinition")
    assert (str(task["cpu"]), str(task["memory"])) == (ours["Cpu"], ours["Memory"]) == ("1024", "2048")
    [container] = ours["ContainerDefinitions"]
    written = task["container_definitions"].replace('"', "")
    for word in ("fanfold", "worker", "shop.tasks:app", "FANFOLD_QUEUE_URL", "FANFOLD_DLQ_URL", "awslogs-group"):
        assert word in written
        assert word in json.dumps(container)
    assert f"stopTimeout = {container['StopTimeout']}" in written
    assert ("FANFOLD_LEDGER" in written) is ("FANFOLD_LEDGER" in json.dumps(container)) is bool(wanted.ledger_table)
    target = terraform["aws_appautoscaling_target", "worker"]
    ours = properties(wanted, SERVICE, "ScalableTarget")
    assert (target["min_capacity"], target["max_capacity"]) == (ours["MinCapacity"], ours["MaxCapacity"]) == (2, 30)
    assert target["scalable_dimension"] == ours["ScalableDimension"]


def test_terraforms_scaling_is_cloudformations(wanted):
    [tracking] = resources(configuration(wanted, SERVICE))["aws_appautoscaling_policy", "worker"][
        "target_tracking_scaling_policy_configuration"
    ]
    ours = properties(wanted, SERVICE, "ScalingPolicy")["TargetTrackingScalingPolicyConfiguration"]
    assert tracking["target_value"] == ours["TargetValue"] == 50
    [theirs] = tracking["customized_metric_specification"]
    assert [_metric(metric) for metric in theirs["metrics"]] == [
        (of["Id"], of.get("Expression"), of.get("MetricStat", {}).get("Metric", {}).get("MetricName"), of["ReturnData"])
        for of in ours["CustomizedMetricSpecification"]["Metrics"]
    ]


def _metric(of):
    stat = of.get("metric_stat")
    return of["id"], of.get("expression"), stat[0]["metric"][0]["metric_name"] if stat else None, of["return_data"]


@pytest.mark.parametrize("role", ROLES)
def test_the_roles_of_all_templates_have_the_same_rights(role):
    wanted = DESCRIPTIONS["plain"]
    [made] = properties(wanted, None, f"{role.title()}Role")["Policies"]
    queue, dead = ({"Fn::GetAtt": [name, "Arn"]} for name in ("Queue", "DeadLetterQueue"))
    assert made["PolicyDocument"] == policy(role, queue_arn=queue, dlq_arn=dead)
    arns = {"queue_arn": hcl.Raw("aws_sqs_queue.queue.arn"), "dlq_arn": hcl.Raw("aws_sqs_queue.dead_letter_queue.arn")}
    assert f"policy = {hcl.encoded(policy(role, **arns)).text}" in configuration(wanted)
    assert template_iam("--role", role) == policy(role, queue_arn=f"{ARN}tasks.fifo", dlq_arn=f"{ARN}tasks-dlq.fifo")


ARN = "arn:aws:sqs:eu-west-1:123456789012:"


def template_iam(*options, region="eu-west-1"):
    run = ["template", "iam", "tasks.fifo", "--account", "123456789012", "--region", region, *options]
    return json.loads(CliRunner().invoke(main, run).stdout)


def test_all_policies_come_together_and_in_other_partitions_have_their_names():
    made = template_iam(region="cn-north-1")
    assert list(made) == list(ROLES)
    assert made["worker"]["Statement"][0]["Resource"] == "arn:aws-cn:sqs:cn-north-1:123456789012:tasks.fifo"


@pytest.mark.parametrize(
    ("encryption", "resource", "condition"),
    [
        (KEY, f"arn:aws:kms:eu-west-1:123456789012:key/{KEY}", None),
        (f"arn:aws:kms:eu-west-1:1:key/{KEY}".replace(":1:", ":210987654321:"), None, None),
        (
            "alias/mine",
            "arn:aws:kms:eu-west-1:123456789012:key/*",
            {"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/mine"}},
        ),
    ],
)
def test_a_role_may_use_the_key_of_its_queues_and_no_other(encryption, resource, condition):
    key = template_iam("--role", "worker", "--encryption", encryption)["Statement"][-1]
    assert key["Action"] == ["kms:Decrypt", "kms:GenerateDataKey"]
    assert (key["Resource"], key.get("Condition")) == (resource or encryption, condition)


def test_hcl_quotes_what_isnt_a_name_and_evaluates_no_text():
    text = hcl.document([hcl.Block("locals", [], {"a": {"b:c": "${d} %{e}", "f": [], "g": hcl.Raw("var.h")}})])
    [parsed] = hcl2.loads(text)["locals"]
    assert '"b:c" = "$${d} %%{e}"' in text
    assert _bare(parsed["a"]) == {"b:c": "$${d} %%{e}", "f": [], "g": "${var.h}"}


def test_keda_scales_on_the_backlog_per_worker():
    made = scaling.keda(DESCRIPTIONS["plain"], SERVICE, region="eu-west-1", account="1" * 12)
    authentication, scaled = made["items"]
    [trigger] = scaled["spec"]["triggers"]
    assert trigger["metadata"] == {
        "queueURL": "https://sqs.eu-west-1.amazonaws.com/111111111111/tasks.fifo",
        "queueLength": "50",
        "awsRegion": "eu-west-1",
        "scaleOnInFlight": "true",
    }
    assert (scaled["kind"], scaled["spec"]["minReplicaCount"], scaled["spec"]["maxReplicaCount"]) == (
        "ScaledObject",
        2,
        30,
    )
    assert trigger["authenticationRef"]["name"] == authentication["metadata"]["name"]


@pytest.mark.parametrize(
    "given",
    [
        {"least": 3, "most": 2},
        {"backlog_per_worker": 0},
        {"app": "app"},
        {"app": "app:app --help"},
        {"stop_timeout": 300},
    ],
)
def test_a_service_that_cant_run_is_refused(given):
    with pytest.raises(ConfigurationError):
        Service(**{"app": "app:app"} | given)


@pytest.mark.parametrize("kind", ["cloudformation", "terraform", "iam", "keda"])
@pytest.mark.parametrize(("name", "said"), [("x" * 72 + ".fifo", "at most 80"), ("tasks", "write 'tasks.fifo'")])
def test_a_name_that_sqs_refuses_is_refused_before_anything_is_printed(kind, name, said):
    place = ["--account", "1" * 12, "--region", "eu-west-1"] if kind in ("iam", "keda") else []
    refused = CliRunner().invoke(main, ["template", kind, name, *place])
    assert (refused.exit_code, refused.stdout, said in refused.stderr) == (1, "", True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["cloudformation"],
        ["cloudformation", "--service", "app:app"],
        ["terraform"],
        ["terraform", "--service", "app:app"],
        ["keda", "--account", "1" * 12, "--region", "eu-west-1"],
    ],
    ids=" ".join,
)
def test_each_command_prints_its_template(arguments):
    printed = CliRunner().invoke(main, ["template", arguments[0], "tasks.fifo", *arguments[1:]])
    assert printed.exit_code == 0
    assert ("worker" in printed.stdout.lower()) is True
    assert hcl2.loads(printed.stdout) if arguments[0] == "terraform" else json.loads(printed.stdout)
