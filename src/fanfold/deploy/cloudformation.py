"""A CloudFormation template: queues, alarms, roles, and, if wanted, an ECS service that scales on its backlog.

Metric names: SQS developer guide, "Available CloudWatch metrics for Amazon SQS". Scaling on backlog per task by metric
math: Application Auto Scaling user guide, "target tracking scaling policy using metric math" (both read 2026-11-24).
"""

from __future__ import annotations

import json
from typing import Any, Final

from fanfold.deploy.description import SSE_SQS, Description
from fanfold.deploy.roles import ROLES, policy
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
        "Resources": _queues(wanted) | _alarms(wanted) | _roles(wanted),
        "Outputs": {
            "QueueUrl": {"Value": {"Ref": "Queue"}, "Description": "FANFOLD_QUEUE_URL"},
            "DeadLetterQueueUrl": {"Value": {"Ref": "DeadLetterQueue"}, "Description": "FANFOLD_DLQ_URL"},
        },
    }
    if service is not None:
        parts["Parameters"] |= _PARAMETERS
        parts["Resources"] |= _service(wanted, service)
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
    key = None if wanted.encryption == SSE_SQS else _key_arn(wanted.encryption)
    made: Resources = {}
    for role in ROLES:
        document = policy(role, queue_arn=_arn("Queue"), dlq_arn=_arn("DeadLetterQueue"), kms_key_arn=key)
        made[f"{role.title()}Role"] = {
            "Type": "AWS::IAM::Role",
            "Properties": {
                "AssumeRolePolicyDocument": {
                    "Version": "2012-10-17",
                    "Statement": [
                        {
                            "Effect": "Allow",
                            "Principal": {"Service": "ecs-tasks.amazonaws.com"},
                            "Action": "sts:AssumeRole",
                        }
                    ],
                },
                "Policies": [{"PolicyName": f"fanfold-{role}", "PolicyDocument": document}],
            },
        }
    return made


def _key_arn(key: str) -> Any:
    if key.startswith("arn:"):
        return key
    return {"Fn::Sub": f"arn:${{AWS::Partition}}:kms:${{AWS::Region}}:${{AWS::AccountId}}:key/{key}"}


_PARAMETERS: Final = {
    "Cluster": {"Type": "String", "Description": "Name of the ECS cluster, with Container Insights turned on"},
    "Image": {"Type": "String", "Description": "The workers' container image"},
    "Subnets": {"Type": "List<AWS::EC2::Subnet::Id>"},
    "SecurityGroups": {"Type": "List<AWS::EC2::SecurityGroup::Id>"},
    "ExecutionRole": {"Type": "String", "Description": "ARN of the role that pulls the image and writes logs"},
}


def _service(wanted: Description, service: Service) -> Resources:
    return {
        "TaskDefinition": _task_definition(service),
        "Service": {
            "Type": "AWS::ECS::Service",
            "Properties": {
                "Cluster": {"Ref": "Cluster"},
                "TaskDefinition": {"Ref": "TaskDefinition"},
                "LaunchType": "FARGATE",
                "DesiredCount": service.least,
                "NetworkConfiguration": {
                    "AwsvpcConfiguration": {
                        "Subnets": {"Ref": "Subnets"},
                        "SecurityGroups": {"Ref": "SecurityGroups"},
                    }
                },
            },
        },
        "ScalableTarget": {
            "Type": "AWS::ApplicationAutoScaling::ScalableTarget",
            "Properties": {
                "ServiceNamespace": "ecs",
                "ScalableDimension": "ecs:service:DesiredCount",
                "ResourceId": {"Fn::Sub": "service/${Cluster}/${Service.Name}"},
                "MinCapacity": service.least,
                "MaxCapacity": service.most,
            },
        },
        "ScalingPolicy": _scaling(wanted, service),
    }


def _task_definition(service: Service) -> dict[str, Any]:
    return {
        "Type": "AWS::ECS::TaskDefinition",
        "Properties": {
            "RequiresCompatibilities": ["FARGATE"],
            "NetworkMode": "awsvpc",
            "Cpu": str(service.cpu),
            "Memory": str(service.memory),
            "TaskRoleArn": _arn("WorkerRole"),
            "ExecutionRoleArn": {"Ref": "ExecutionRole"},
            "ContainerDefinitions": [
                {
                    "Name": "worker",
                    "Image": {"Ref": "Image"},
                    "Command": ["fanfold", "worker", service.app],
                    # Longer than the grace period, so that a worker stops in order before it is killed.
                    "StopTimeout": service.stop_timeout,
                    "Environment": [
                        {"Name": "FANFOLD_QUEUE_URL", "Value": {"Ref": "Queue"}},
                        {"Name": "FANFOLD_DLQ_URL", "Value": {"Ref": "DeadLetterQueue"}},
                    ],
                }
            ],
        },
    }


def _scaling(wanted: Description, service: Service) -> dict[str, Any]:
    queue = [{"Name": "QueueName", "Value": wanted.name}]
    workers = [
        {"Name": "ClusterName", "Value": {"Ref": "Cluster"}},
        {"Name": "ServiceName", "Value": {"Fn::GetAtt": ["Service", "Name"]}},
    ]
    metrics = [
        _metric("visible", "AWS/SQS", "ApproximateNumberOfMessagesVisible", "Sum", queue),
        _metric("workers", "ECS/ContainerInsights", "RunningTaskCount", "Average", workers),
        {"Id": "backlog", "Expression": "visible / MAX([workers, 1])", "ReturnData": True},
    ]
    return {
        "Type": "AWS::ApplicationAutoScaling::ScalingPolicy",
        "Properties": {
            "PolicyName": "fanfold-backlog-per-worker",
            "PolicyType": "TargetTrackingScaling",
            "ScalingTargetId": {"Ref": "ScalableTarget"},
            "TargetTrackingScalingPolicyConfiguration": {
                "TargetValue": service.backlog_per_worker,
                "CustomizedMetricSpecification": {"Metrics": metrics},
            },
        },
    }


def _metric(name: str, namespace: str, metric: str, stat: str, dimensions: list[dict[str, Any]]) -> dict[str, Any]:
    of = {"Namespace": namespace, "MetricName": metric, "Dimensions": dimensions}
    return {"Id": name, "MetricStat": {"Metric": of, "Stat": stat}, "ReturnData": False}


def _arn(resource: str) -> dict[str, Any]:
    return {"Fn::GetAtt": [resource, "Arn"]}
