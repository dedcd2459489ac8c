"""The ECS service of workers in CloudFormation, which scales on its backlog.

Scaling on backlog per task by metric math: Application Auto Scaling user guide, "target tracking scaling policy using
metric math" (read 2026-11-24).
"""

from __future__ import annotations

from typing import Any, Final

from fanfold.deploy.description import Description
from fanfold.deploy.scaling import BACKLOG, Metric, Service, metrics

PARAMETERS: Final = {
    "Cluster": {"Type": "String", "Description": "Name of the ECS cluster, with Container Insights turned on"},
    "Image": {"Type": "String", "Description": "The workers' container image"},
    "Subnets": {"Type": "List<AWS::EC2::Subnet::Id>"},
    "SecurityGroups": {"Type": "List<AWS::EC2::SecurityGroup::Id>"},
    "ExecutionRole": {"Type": "String", "Description": "ARN of the role that pulls the image and writes logs"},
}


def resources(wanted: Description, service: Service) -> dict[str, dict[str, Any]]:
    """The service's resources."""
    name = f"{wanted.name.removesuffix('.fifo')}-worker"
    return {
        "LogGroup": {
            "Type": "AWS::Logs::LogGroup",
            "DeletionPolicy": "Retain",
            "UpdateReplacePolicy": "Retain",
            "Properties": {"RetentionInDays": 30},
        },
        "TaskDefinition": _task_definition(name, wanted, service),
        "Service": _service(service),
        "ScalableTarget": _target(service),
        "ScalingPolicy": _policy(wanted, service),
    }


def _task_definition(name: str, wanted: Description, service: Service) -> dict[str, Any]:
    return {
        "Type": "AWS::ECS::TaskDefinition",
        "Properties": {
            "Family": name,
            "RequiresCompatibilities": ["FARGATE"],
            "NetworkMode": "awsvpc",
            "Cpu": str(service.cpu),
            "Memory": str(service.memory),
            "TaskRoleArn": {"Fn::GetAtt": ["WorkerRole", "Arn"]},
            "ExecutionRoleArn": {"Ref": "ExecutionRole"},
            "ContainerDefinitions": [_container(wanted, service)],
        },
    }


def _container(wanted: Description, service: Service) -> dict[str, Any]:
    ledger = {"Name": "FANFOLD_LEDGER", "Value": {"Fn::Sub": "dynamodb://${LedgerTable}?region=${AWS::Region}"}}
    return {
        "Name": "worker",
        "Image": {"Ref": "Image"},
        "Command": service.command,
        "StopTimeout": service.stop_timeout,
        "Environment": [
            {"Name": "FANFOLD_QUEUE_URL", "Value": {"Ref": "Queue"}},
            {"Name": "FANFOLD_DLQ_URL", "Value": {"Ref": "DeadLetterQueue"}},
            *([ledger] if wanted.ledger_table else []),
        ],
        "LogConfiguration": {
            "LogDriver": "awslogs",
            "Options": {
                "awslogs-group": {"Ref": "LogGroup"},
                "awslogs-region": {"Ref": "AWS::Region"},
                "awslogs-stream-prefix": "worker",
            },
        },
    }


def _service(service: Service) -> dict[str, Any]:
    network = {"Subnets": {"Ref": "Subnets"}, "SecurityGroups": {"Ref": "SecurityGroups"}}
    return {
        "Type": "AWS::ECS::Service",
        "Properties": {
            "Cluster": {"Ref": "Cluster"},
            "TaskDefinition": {"Ref": "TaskDefinition"},
            "LaunchType": "FARGATE",
            "DesiredCount": service.least,
            "NetworkConfiguration": {"AwsvpcConfiguration": network},
        },
    }


def _target(service: Service) -> dict[str, Any]:
    return {
        "Type": "AWS::ApplicationAutoScaling::ScalableTarget",
        "Properties": {
            "ServiceNamespace": "ecs",
            "ScalableDimension": "ecs:service:DesiredCount",
            "ResourceId": {"Fn::Sub": "service/${Cluster}/${Service.Name}"},
            "MinCapacity": service.least,
            "MaxCapacity": service.most,
        },
    }


def _policy(wanted: Description, service: Service) -> dict[str, Any]:
    dimensions = {"ClusterName": {"Ref": "Cluster"}, "ServiceName": {"Fn::GetAtt": ["Service", "Name"]}}
    asked = [_metric(metric) for metric in metrics(wanted, dimensions)]
    asked.append({"Id": "backlog", "Expression": BACKLOG, "ReturnData": True})
    return {
        "Type": "AWS::ApplicationAutoScaling::ScalingPolicy",
        "Properties": {
            "PolicyName": "fanfold-backlog-per-worker",
            "PolicyType": "TargetTrackingScaling",
            "ScalingTargetId": {"Ref": "ScalableTarget"},
            "TargetTrackingScalingPolicyConfiguration": {
                "TargetValue": service.backlog_per_worker,
                "CustomizedMetricSpecification": {"Metrics": asked},
            },
        },
    }


def _metric(metric: Metric) -> dict[str, Any]:
    dimensions = [{"Name": name, "Value": value} for name, value in metric.dimensions.items()]
    of = {"Namespace": metric.namespace, "MetricName": metric.name, "Dimensions": dimensions}
    return {"Id": metric.id, "MetricStat": {"Metric": of, "Stat": metric.stat}, "ReturnData": False}
