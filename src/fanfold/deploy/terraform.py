"""A Terraform configuration of the same queues, alarms and roles, and of the service, for the AWS provider.

Argument names: the AWS provider's documentation of `aws_sqs_queue`, `aws_sqs_queue_redrive_policy`,
`aws_sqs_queue_redrive_allow_policy`, `aws_cloudwatch_metric_alarm`, `aws_iam_role` (read 2026-11-24).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from fanfold.deploy import ledger_table, terraform_service
from fanfold.deploy.description import SSE_SQS, Description
from fanfold.deploy.hcl import Block, Raw, document, encoded
from fanfold.deploy.roles import ROLES, key_statement, policy, trust
from fanfold.deploy.scaling import Alarm, Service, alarms

QUEUE: Final = "aws_sqs_queue.queue"
DEAD_LETTER_QUEUE: Final = "aws_sqs_queue.dead_letter_queue"

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


def configuration(wanted: Description, service: Service | None = None) -> str:
    """The configuration, as text."""
    return document(blocks(wanted, service))


def blocks(wanted: Description, service: Service | None = None) -> list[Block]:
    """The configuration's blocks."""
    topic = {"type": Raw("string"), "default": "", "description": "ARN of an SNS topic, or empty"}
    made = [Block("variable", ["alarm_topic"], topic), *_key(wanted), *_queues(wanted)]
    made += [ledger_table.block(wanted.ledger_table)] if wanted.ledger_table else []
    made += [_alarm(wanted, alarm) for alarm in alarms(wanted)]
    for role in ROLES:
        made += _role(wanted, role)
    return made + (terraform_service.blocks(wanted, service) if service is not None else [])


def _queues(wanted: Description) -> list[Block]:
    redrive = {"deadLetterTargetArn": Raw(f"{DEAD_LETTER_QUEUE}.arn"), "maxReceiveCount": wanted.max_receive_count}
    allow = {"redrivePermission": "byQueue", "sourceQueueArns": [Raw(f"{QUEUE}.arn")]}
    return [
        _queue("dead_letter_queue", wanted.dlq_name, wanted.dlq_attributes),
        _queue("queue", wanted.name, wanted.queue_attributes),
        Block(
            "resource",
            ["aws_sqs_queue_redrive_policy", "queue"],
            {"queue_url": Raw(f"{QUEUE}.id"), "redrive_policy": encoded(redrive)},
        ),
        Block(
            "resource",
            ["aws_sqs_queue_redrive_allow_policy", "dead_letter_queue"],
            {"queue_url": Raw(f"{DEAD_LETTER_QUEUE}.id"), "redrive_allow_policy": encoded(allow)},
        ),
        Block("output", ["queue_url"], {"value": Raw(f"{QUEUE}.id")}),
        Block("output", ["dead_letter_queue_url"], {"value": Raw(f"{DEAD_LETTER_QUEUE}.id")}),
    ]


def _queue(label: str, name: str, attributes: Mapping[str, str]) -> Block:
    typed = {_ATTRIBUTES[key]: value if key in _TEXTS else json.loads(value) for key, value in attributes.items()}
    # Messages must not go with a changed name or a destroyed configuration.
    kept = Block("lifecycle", [], {"prevent_destroy": True})
    return Block("resource", ["aws_sqs_queue", label], {"name": name, **typed}, [kept])


def _alarm(wanted: Description, alarm: Alarm) -> Block:
    queue = QUEUE if alarm.queue == wanted.name else DEAD_LETTER_QUEUE
    body = {
        "alarm_name": f"{wanted.name.removesuffix('.fifo')}-{alarm.name}",
        "alarm_description": alarm.description,
        "namespace": "AWS/SQS",
        "metric_name": alarm.metric,
        "dimensions": {"QueueName": Raw(f"{queue}.name")},
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
    rights = policy(
        role, queue_arn=Raw(f"{QUEUE}.arn"), dlq_arn=Raw(f"{DEAD_LETTER_QUEUE}.arn"), extra=_extra(wanted, role)
    )
    return [
        Block(
            "resource",
            ["aws_iam_role", role],
            {"name_prefix": f"fanfold-{role}-", "assume_role_policy": encoded(trust())},
        ),
        Block(
            "resource",
            ["aws_iam_role_policy", role],
            {"name": f"fanfold-{role}", "role": Raw(f"aws_iam_role.{role}.id"), "policy": encoded(rights)},
        ),
    ]


def _key(wanted: Description) -> list[Block]:
    if wanted.encryption == SSE_SQS:
        return []
    return [Block("data", ["aws_kms_key", "queue"], {"key_id": wanted.encryption})]


def _extra(wanted: Description, role: str) -> list[dict[str, Any]]:
    key = [] if wanted.encryption == SSE_SQS else [key_statement(Raw("data.aws_kms_key.queue.arn"))]
    table, indexes = Raw("aws_dynamodb_table.ledger.arn"), Raw('"${aws_dynamodb_table.ledger.arn}/index/*"')
    return [*key, *([ledger_table.statement(role, table, indexes)] if wanted.ledger_table else [])]
