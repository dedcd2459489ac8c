"""The ECS service of workers in Terraform: what `cloudformation_service` makes, with the provider's names."""

from __future__ import annotations

from typing import Any

from fanfold.deploy.description import Description
from fanfold.deploy.hcl import Block, Raw, encoded
from fanfold.deploy.scaling import BACKLOG, Metric, Service, metrics

_VARIABLES = {
    "cluster": (Raw("string"), "Name of the ECS cluster, with Container Insights turned on"),
    "image": (Raw("string"), "The workers' container image"),
    "subnets": (Raw("list(string)"), "Subnets of the workers"),
    "security_groups": (Raw("list(string)"), "Security groups of the workers"),
    "execution_role": (Raw("string"), "ARN of the role that pulls the image and writes logs"),
}


def blocks(wanted: Description, service: Service) -> list[Block]:
    """The service's blocks."""
    name = f"{wanted.name.removesuffix('.fifo')}-worker"
    return [
        *(Block("variable", [v], {"type": kind, "description": text}) for v, (kind, text) in _VARIABLES.items()),
        Block("data", ["aws_region", "current"], {}),
        Block("resource", ["aws_cloudwatch_log_group", "worker"], {"name_prefix": f"{name}-", "retention_in_days": 30}),
        _task_definition(name, wanted, service),
        _service(name, service),
        _target(service),
        _policy(wanted, service),
    ]


def _task_definition(name: str, wanted: Description, service: Service) -> Block:
    body = {
        "family": name,
        "requires_compatibilities": ["FARGATE"],
        "network_mode": "awsvpc",
        "cpu": service.cpu,
        "memory": service.memory,
        "task_role_arn": Raw("aws_iam_role.worker.arn"),
        "execution_role_arn": Raw("var.execution_role"),
        "container_definitions": encoded([_container(wanted, service)]),
    }
    return Block("resource", ["aws_ecs_task_definition", "worker"], body)


def _container(wanted: Description, service: Service) -> dict[str, Any]:
    address = Raw('"dynamodb://${aws_dynamodb_table.ledger.name}?region=${data.aws_region.current.name}"')
    ledger = {"name": "FANFOLD_LEDGER", "value": address}
    return {
        "name": "worker",
        "image": Raw("var.image"),
        "command": service.command,
        "stopTimeout": service.stop_timeout,
        "environment": [
            {"name": "FANFOLD_QUEUE_URL", "value": Raw("aws_sqs_queue.queue.id")},
            {"name": "FANFOLD_DLQ_URL", "value": Raw("aws_sqs_queue.dead_letter_queue.id")},
            *([ledger] if wanted.ledger_table else []),
        ],
        "logConfiguration": {
            "logDriver": "awslogs",
            "options": {
                "awslogs-group": Raw("aws_cloudwatch_log_group.worker.name"),
                "awslogs-region": Raw("data.aws_region.current.name"),
                "awslogs-stream-prefix": "worker",
            },
        },
    }


def _service(name: str, service: Service) -> Block:
    body = {
        "name": name,
        "cluster": Raw("var.cluster"),
        "task_definition": Raw("aws_ecs_task_definition.worker.arn"),
        "launch_type": "FARGATE",
        "desired_count": service.least,
    }
    network = {"subnets": Raw("var.subnets"), "security_groups": Raw("var.security_groups")}
    # How many there are is the scaling policy's business after the first start.
    ignored = Block("lifecycle", [], {"ignore_changes": [Raw("desired_count")]})
    return Block(
        "resource", ["aws_ecs_service", "worker"], body, [Block("network_configuration", [], network), ignored]
    )


def _target(service: Service) -> Block:
    body = {
        "service_namespace": "ecs",
        "scalable_dimension": "ecs:service:DesiredCount",
        "resource_id": Raw('"service/${var.cluster}/${aws_ecs_service.worker.name}"'),
        "min_capacity": service.least,
        "max_capacity": service.most,
    }
    return Block("resource", ["aws_appautoscaling_target", "worker"], body)


def _policy(wanted: Description, service: Service) -> Block:
    target = "aws_appautoscaling_target.worker"
    body = {
        "name": "fanfold-backlog-per-worker",
        "policy_type": "TargetTrackingScaling",
        **{key: Raw(f"{target}.{key}") for key in ("service_namespace", "scalable_dimension", "resource_id")},
    }
    dimensions = {"ClusterName": Raw("var.cluster"), "ServiceName": Raw("aws_ecs_service.worker.name")}
    asked = [_metric(metric) for metric in metrics(wanted, dimensions)]
    asked.append(Block("metrics", [], {"id": "backlog", "expression": BACKLOG, "return_data": True}))
    tracking = Block(
        "target_tracking_scaling_policy_configuration",
        [],
        {"target_value": service.backlog_per_worker},
        [Block("customized_metric_specification", [], {}, asked)],
    )
    return Block("resource", ["aws_appautoscaling_policy", "worker"], body, [tracking])


def _metric(metric: Metric) -> Block:
    dimensions = [Block("dimensions", [], {"name": name, "value": value}) for name, value in metric.dimensions.items()]
    of = Block("metric", [], {"namespace": metric.namespace, "metric_name": metric.name}, dimensions)
    stat = Block("metric_stat", [], {"stat": metric.stat}, [of])
    return Block("metrics", [], {"id": metric.id, "return_data": False}, [stat])
