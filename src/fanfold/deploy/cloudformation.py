"""A CloudFormation template: queues, alarms, roles, and, if wanted, an ECS service that scales on its backlog.

Metric names: SQS developer guide, "Available CloudWatch metrics for Amazon SQS" (read 2026-11-24).
"""

from __future__ import annotations

import json
from typing import Any, Final

from fanfold.deploy import cloudformation_service, ledger_table
from fanfold.deploy.description import Description
from fanfold.deploy.roles import ROLES, kms_statements, policy, trust
from fanfold.deploy.scaling import Alarm, Service, alarms

Resources = dict[str, dict[str, Any]]

_TYPED: Final = {
    "FifoQueue": bool,
    "SqsManagedSseEnabled": bool,
    "MessageRetentionPeriod": int,
    "VisibilityTimeout": int,
    "ReceiveMessageWaitTimeSeconds": int,
}


def template(wanted: Description, service: Service | None = None) -> dict[str, Any]:
    """The template, ready to be written as JSON, which CloudFormation takes as it takes YAML."""
    parts: dict[str, Any] = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"The queue {wanted.name}, its dead letter queue, alarms and roles, for Fanfold",
        "Parameters": {"AlarmTopic": {"Type": "String", "Default": "", "Description": "ARN of an SNS topic, or empty"}},
        "Conditions": {"HasAlarmTopic": {"Fn::Not": [{"Fn::Equals": [{"Ref": "AlarmTopic"}, ""]}]}},
        "Resources": _queues(wanted) | _ledger(wanted) | _alarms(wanted) | _roles(wanted),
        "Outputs": {
            "QueueUrl": {"Value": {"Ref": "Queue"}, "Description": "FANFOLD_QUEUE_URL"},
            "DeadLetterQueueUrl": {"Value": {"Ref": "DeadLetterQueue"}, "Description": "FANFOLD_DLQ_URL"},
        },
    }
    if service is not None:
        parts["Parameters"] |= cloudformation_service.PARAMETERS
        parts["Resources"] |= cloudformation_service.resources(wanted, service)
    return parts


def _queues(wanted: Description) -> Resources:
    # The two name each other, so one of the names is put together here.
    queue_arn = {"Fn::Sub": f"arn:${{AWS::Partition}}:sqs:${{AWS::Region}}:${{AWS::AccountId}}:{wanted.name}"}
    allow = {"redrivePermission": "byQueue", "sourceQueueArns": [queue_arn]}
    redrive = {"deadLetterTargetArn": _arn("DeadLetterQueue"), "maxReceiveCount": wanted.max_receive_count}
    return {
        "DeadLetterQueue": _queue(wanted.dlq_name, wanted.dlq_attributes, RedriveAllowPolicy=allow),
        "Queue": _queue(wanted.name, wanted.queue_attributes, RedrivePolicy=redrive),
    }


def _queue(name: str, attributes: dict[str, str], **policies: Any) -> dict[str, Any]:
    typed = {key: _typed(key, value) for key, value in attributes.items()}
    return {
        "Type": "AWS::SQS::Queue",
        # A stack that is deleted or replaced leaves its messages alone.
        "DeletionPolicy": "Retain",
        "UpdateReplacePolicy": "Retain",
        "Properties": {"QueueName": name, **typed, **policies},
    }


def _typed(key: str, value: str) -> Any:
    return json.loads(value) if key in _TYPED else value


def _ledger(wanted: Description) -> Resources:
    return {"LedgerTable": ledger_table.resource(wanted.ledger_table)} if wanted.ledger_table else {}


def _alarms(wanted: Description) -> Resources:
    return {alarm.name: _alarm(alarm) for alarm in alarms(wanted)}


def _alarm(alarm: Alarm) -> dict[str, Any]:
    return {
        "Type": "AWS::CloudWatch::Alarm",
        "Properties": {
            "AlarmDescription": alarm.description,
            "Namespace": "AWS/SQS",
            "MetricName": alarm.metric,
            "Dimensions": [{"Name": "QueueName", "Value": alarm.queue}],
            "Statistic": "Maximum",
            "Period": alarm.period,
            "EvaluationPeriods": alarm.periods,
            "Threshold": alarm.threshold,
            "ComparisonOperator": "GreaterThanThreshold",
            "TreatMissingData": "notBreaching",
            "AlarmActions": {"Fn::If": ["HasAlarmTopic", [{"Ref": "AlarmTopic"}], {"Ref": "AWS::NoValue"}]},
        },
    }


def _roles(wanted: Description) -> Resources:
    return {f"{role.title()}Role": _role(wanted, role) for role in ROLES}


def _role(wanted: Description, role: str) -> dict[str, Any]:
    document = policy(role, queue_arn=_arn("Queue"), dlq_arn=_arn("DeadLetterQueue"), extra=_extra(wanted, role))
    return {
        "Type": "AWS::IAM::Role",
        "Properties": {
            "AssumeRolePolicyDocument": trust(),
            "Policies": [{"PolicyName": f"fanfold-{role}", "PolicyDocument": document}],
        },
    }


def _extra(wanted: Description, role: str) -> list[dict[str, Any]]:
    indexes = {"Fn::Sub": "${LedgerTable.Arn}/index/*"}
    ledger = [ledger_table.statement(role, _arn("LedgerTable"), indexes)] if wanted.ledger_table else []
    return [*kms_statements(wanted.encryption, _key_arn), *ledger]


def _key_arn(resource: str) -> dict[str, str]:
    return {"Fn::Sub": f"arn:${{AWS::Partition}}:kms:${{AWS::Region}}:${{AWS::AccountId}}:{resource}"}


def _arn(resource: str) -> dict[str, Any]:
    return {"Fn::GetAtt": [resource, "Arn"]}
