"""A Terraform configuration of the same queues, alarms and roles, in HCL."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fanfold.deploy.description import SSE_SQS, Description
from fanfold.deploy.roles import ROLES, policy
from fanfold.deploy.scaling import Alarm, alarms

_ATTRIBUTES: Final = {
    "FifoQueue": "fifo_queue",
    "DeduplicationScope": "deduplication_scope",
    "FifoThroughputLimit": "fifo_throughput_limit",
    "SqsManagedSseEnabled": "sqs_managed_sse_enabled",
    "KmsMasterKeyId": "kms_master_key_id",
    "MessageRetentionPeriod": "message_retention_seconds",
    "VisibilityTimeout": "visibility_timeout_seconds",
    "ReceiveMessageWaitTimeSeconds": "receive_wait_time_seconds",
}
_TEXTS: Final = ("DeduplicationScope", "FifoThroughputLimit", "KmsMasterKeyId")


@dataclass(frozen=True, slots=True)
class Raw:
    """An expression of HCL, written as it is."""

    text: str


@dataclass(frozen=True, slots=True)
class Block:
    """A block of HCL: its kind, its labels, and what stands in it."""

    kind: str
    labels: Sequence[str]
    body: Mapping[str, Any]


def configuration(wanted: Description) -> str:
    """The configuration, as text."""
    return "\n".join(written(block) for block in blocks(wanted))


def blocks(wanted: Description) -> list[Block]:
    """The configuration's blocks."""
    topic = {"type": Raw("string"), "default": "", "description": "ARN of an SNS topic, or empty"}
    made = [Block("variable", ["alarm_topic"], topic), *_key(wanted), *_queues(wanted)]
    made += [_alarm(wanted, alarm) for alarm in alarms(wanted)]
    for role in ROLES:
        made += _role(wanted, role)
    return made


def written(block: Block) -> str:
    """A block as text."""
    head = " ".join([block.kind, *(json.dumps(label) for label in block.labels)])
    lines = [f"  {name} = {_value(value)}" for name, value in block.body.items()]
    return "\n".join([f"{head} {{", *lines, "}", ""])


def _value(value: Any) -> str:
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {_value(inner)}" for name, inner in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(inner) for inner in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def _queues(wanted: Description) -> list[Block]:
    redrive = {
        "deadLetterTargetArn": Raw("aws_sqs_queue.dead_letter_queue.arn"),
        "maxReceiveCount": wanted.max_receive_count,
    }
    allow = {"redrivePermission": "byQueue", "sourceQueueArns": [Raw("aws_sqs_queue.queue.arn")]}
    queue = _queue(wanted.name, wanted.queue_attributes) | {"redrive_policy": _encoded(redrive)}
    return [
        Block("resource", ["aws_sqs_queue", "dead_letter_queue"], _queue(wanted.dlq_name, wanted.dlq_attributes)),
        Block("resource", ["aws_sqs_queue", "queue"], queue),
        Block(
            "resource",
            ["aws_sqs_queue_redrive_allow_policy", "dead_letter_queue"],
            {"queue_url": Raw("aws_sqs_queue.dead_letter_queue.id"), "redrive_allow_policy": _encoded(allow)},
        ),
        Block("output", ["queue_url"], {"value": Raw("aws_sqs_queue.queue.id")}),
        Block("output", ["dead_letter_queue_url"], {"value": Raw("aws_sqs_queue.dead_letter_queue.id")}),
    ]


def _queue(name: str, attributes: Mapping[str, str]) -> dict[str, Any]:
    typed = {_ATTRIBUTES[key]: value if key in _TEXTS else json.loads(value) for key, value in attributes.items()}
    return {"name": name, **typed}


def _alarm(wanted: Description, alarm: Alarm) -> Block:
    queue = "queue" if alarm.queue == wanted.name else "dead_letter_queue"
    body = {
        "alarm_name": f"{wanted.name.removesuffix('.fifo')}-{alarm.name}",
        "alarm_description": alarm.description,
        "namespace": "AWS/SQS",
        "metric_name": alarm.metric,
        "dimensions": {"QueueName": Raw(f"aws_sqs_queue.{queue}.name")},
        "statistic": "Maximum",
        "period": alarm.period,
        "evaluation_periods": alarm.periods,
        "threshold": alarm.threshold,
        "comparison_operator": "GreaterThanThreshold",
        "treat_missing_data": "notBreaching",
        "alarm_actions": Raw('var.alarm_topic == "" ? [] : [var.alarm_topic]'),
    }
    return Block("resource", ["aws_cloudwatch_metric_alarm", alarm.name], body)


def _role(wanted: Description, role: str) -> list[Block]:
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
    key = None if wanted.encryption == SSE_SQS else _key_arn(wanted.encryption)
    rights = policy(
        role,
        queue_arn=Raw("aws_sqs_queue.queue.arn"),
        dlq_arn=Raw("aws_sqs_queue.dead_letter_queue.arn"),
        kms_key_arn=key,
    )
    prefix = f"{wanted.name.removesuffix('.fifo')}-{role}"
    return [
        Block("resource", ["aws_iam_role", role], {"name": prefix, "assume_role_policy": _encoded(trust)}),
        Block(
            "resource",
            ["aws_iam_role_policy", role],
            {"name": f"fanfold-{role}", "role": Raw(f"aws_iam_role.{role}.id"), "policy": _encoded(rights)},
        ),
    ]


def _key(wanted: Description) -> list[Block]:
    if wanted.encryption == SSE_SQS or wanted.encryption.startswith("arn:"):
        return []
    return [Block("data", ["aws_kms_key", "queue"], {"key_id": wanted.encryption})]


def _key_arn(key: str) -> Any:
    return key if key.startswith("arn:") else Raw("data.aws_kms_key.queue.arn")


def _encoded(value: Mapping[str, Any]) -> Raw:
    return Raw(f"jsonencode({_value(value)})")
