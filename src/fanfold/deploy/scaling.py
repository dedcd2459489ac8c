"""What watches the queue and scales its workers, told once for all kinds of template."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fanfold.deploy.description import Description
from fanfold.errors import ConfigurationError


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
    """Containers that run workers: how many, how large, and how much each may have waiting for it."""

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
        if self.backlog_per_worker < 1:
            raise ConfigurationError(f"backlog_per_worker={self.backlog_per_worker}: at least 1 message")
        if ":" not in self.app:
            raise ConfigurationError(f"application {self.app!r}: write MODULE:NAME, as for `fanfold worker`")


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


def scaled_object(wanted: Description, service: Service, *, region: str, account: str) -> dict[str, Any]:
    """A KEDA ScaledObject (aws-sqs-queue scaler, KEDA 2.12 and later) for a Deployment called `fanfold-worker`."""
    host = f"https://sqs.{region}.amazonaws.com"
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": "fanfold-worker"},
        "spec": {
            "scaleTargetRef": {"name": "fanfold-worker"},
            "minReplicaCount": service.least,
            "maxReplicaCount": service.most,
            "triggers": [
                {
                    "type": "aws-sqs-queue",
                    "metadata": {
                        "queueURL": f"{host}/{account}/{wanted.name}",
                        "queueLength": str(service.backlog_per_worker),
                        "awsRegion": region,
                        "scaleOnInFlight": "true",
                    },
                    "authenticationRef": {"name": "fanfold-worker"},
                }
            ],
        },
    }
