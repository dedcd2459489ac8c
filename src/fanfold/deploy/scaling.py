"""What watches the queue and scales its workers, told once for all kinds of template."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fanfold.deploy.description import Description, suffix_of
from fanfold.errors import ConfigurationError

_APP: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
_LONGEST_STOP: Final = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """A CloudWatch alarm on a queue's metric: above `threshold` in so many periods of so many seconds."""

    name: str
    description: str
    queue: str
    metric: str
    threshold: int
    period: int = 300
    periods: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Containers that run workers: how many, how large (CPU units, MiB), and how much each may have waiting for it.

    `stop_timeout` are the seconds that a container has to stop in: more than a worker's grace (30 s), so that it stops
    in order before it is killed.
    """

    app: str
    least: int = 1
    most: int = 20
    backlog_per_worker: int = 100
    cpu: int = 512
    memory: int = 1024
    stop_timeout: int = 45

    def __post_init__(self) -> None:
        if not 0 <= self.least <= self.most:
            raise ConfigurationError(f"workers from {self.least} to {self.most}: the least can't be above the most")
        if self.stop_timeout > _LONGEST_STOP:
            raise ConfigurationError(f"stop_timeout={self.stop_timeout}: Fargate waits {_LONGEST_STOP} seconds at most")
        if self.backlog_per_worker < 1:
            raise ConfigurationError(f"backlog_per_worker={self.backlog_per_worker}: at least 1 message")
        if not _APP.fullmatch(self.app):
            raise ConfigurationError(f"application {self.app!r}: write MODULE:NAME, as for `fanfold worker`")

    @property
    def command(self) -> list[str]:
        """What a container runs."""
        return ["fanfold", "worker", self.app]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A CloudWatch metric that the scaling asks for."""

    id: str
    namespace: str
    name: str
    stat: str
    dimensions: Mapping[str, Any]


BACKLOG: Final = "visible / IF(FILL(workers, 0) > 0, FILL(workers, 0), 1)"
"""Messages that wait for each worker. Where none runs, ECS reports no count."""


def metrics(wanted: Description, service: Mapping[str, Any]) -> list[Metric]:
    """What `BACKLOG` is reckoned from; `service` are the dimensions by which ECS knows the workers' service."""
    return [
        Metric(
            id="visible",
            namespace="AWS/SQS",
            name="ApproximateNumberOfMessagesVisible",
            stat="Sum",
            dimensions={"QueueName": wanted.name},
        ),
        Metric(
            id="workers",
            namespace="ECS/ContainerInsights",
            name="RunningTaskCount",
            stat="Average",
            dimensions=service,
        ),
    ]


def alarms(wanted: Description, *, oldest: int = 3_600, depth: int = 10_000) -> list[Alarm]:
    """The three alarms: a message waits for longer than `oldest` seconds, more than `depth` wait, something is dead."""
    return [
        Alarm(
            name="OldestMessageAlarm",
            description=f"A task of {wanted.name} has waited for more than {oldest} s: too few workers, or none",
            queue=wanted.name,
            metric="ApproximateAgeOfOldestMessage",
            threshold=oldest,
        ),
        Alarm(
            name="DepthAlarm",
            description=f"More than {depth} tasks of {wanted.name} wait",
            queue=wanted.name,
            metric="ApproximateNumberOfMessagesVisible",
            threshold=depth,
            periods=3,
        ),
        Alarm(
            name="DeadLetterAlarm",
            description="Tasks were set aside; `fanfold dlq group` says why",
            queue=wanted.dlq_name,
            metric="ApproximateNumberOfMessagesVisible",
            threshold=0,
        ),
    ]


def keda(wanted: Description, service: Service, *, region: str, account: str) -> dict[str, Any]:
    """KEDA's resources for a Deployment called `fanfold-worker`: a ScaledObject, and how it may look at the queue.

    The aws-sqs-queue scaler of KEDA 2.13 and later. The TriggerAuthentication uses the identity of KEDA's own pods
    (IRSA), which needs sqs:GetQueueAttributes on the queue.
    """
    name = {"name": "fanfold-worker"}
    url = f"https://sqs.{region}.{suffix_of(region)}/{account}/{wanted.name}"
    trigger = {
        "type": "aws-sqs-queue",
        "metadata": {
            "queueURL": url,
            "queueLength": str(service.backlog_per_worker),
            "awsRegion": region,
            # Running tasks count as well, so that no worker is taken away from under them.
            "scaleOnInFlight": "true",
        },
        "authenticationRef": name,
    }
    scaled = {
        "scaleTargetRef": name,
        "minReplicaCount": service.least,
        "maxReplicaCount": service.most,
        "triggers": [trigger],
    }
    items = [
        _of_keda("TriggerAuthentication", {"podIdentity": {"provider": "aws"}}),
        _of_keda("ScaledObject", scaled),
    ]
    return {"apiVersion": "v1", "kind": "List", "items": items}


def _of_keda(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "keda.sh/v1alpha1", "kind": kind, "metadata": {"name": "fanfold-worker"}, "spec": spec}
