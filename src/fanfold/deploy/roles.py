"""Three roles with no more rights than they use: producer, worker, operator.

`tests/test_deploy_roles.py` records what each role's code asks of SQS, and holds the policies to exactly that. A batch
request needs the permission of the single action; there is none of its own (SQS developer guide, "Amazon SQS API
permissions").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fanfold.deploy.description import SSE_SQS

ROLES: Final = ("producer", "worker", "operator")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """What a role may do with the queue and with its dead letter queue: actions of SQS without their prefix."""

    queue: Sequence[str]
    dlq: Sequence[str]


GRANTS: Final[Mapping[str, Grants]] = {
    "producer": Grants(queue=("GetQueueAttributes", "SendMessage"), dlq=("GetQueueUrl",)),
    "worker": Grants(
        queue=("ChangeMessageVisibility", "DeleteMessage", "GetQueueAttributes", "ReceiveMessage", "SendMessage"),
        # Counting, receiving, giving back: the reconciler looks for what the queue set aside itself.
        dlq=("ChangeMessageVisibility", "GetQueueAttributes", "GetQueueUrl", "ReceiveMessage", "SendMessage"),
    ),
    "operator": Grants(
        queue=("GetQueueAttributes", "SendMessage"),
        dlq=(
            "ChangeMessageVisibility",
            "DeleteMessage",
            "GetQueueAttributes",
            "GetQueueUrl",
            "ReceiveMessage",
            "SendMessage",
        ),
    ),
}
"""The producer asks for `GetQueueUrl` where no dead letter queue is named; refused, it works all the same."""

_KMS: Final = ("kms:Decrypt", "kms:GenerateDataKey")


def policy(role: str, *, queue_arn: Any, dlq_arn: Any, extra: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """A role's IAM policy on exact ARNs (or what a template puts in their place), and `extra` statements."""
    grants = GRANTS[role]
    statements = [
        _statement("Queue", [f"sqs:{action}" for action in grants.queue], queue_arn),
        _statement("DeadLetterQueue", [f"sqs:{action}" for action in grants.dlq], dlq_arn),
    ]
    return {"Version": "2012-10-17", "Statement": [*statements, *extra]}


def trust() -> dict[str, Any]:
    """Who may take on a role: tasks on ECS."""
    tasks = {"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}
    return {"Version": "2012-10-17", "Statement": [tasks]}


def kms_statements(encryption: str, arn_of: Callable[[str], Any]) -> list[dict[str, Any]]:
    """What a queue's encryption asks of a role: nothing with SQS's own keys, two actions with a key of KMS.

    Policies on keys name them by id. An alias only says which one it is now, so it stands as a condition.

    Args:
        encryption: as `Description.encryption`.
        arn_of: makes `key/…` an ARN of the place.
    """
    if encryption == SSE_SQS:
        return []
    alias = encryption.rsplit(":", 1)[-1]
    if alias.startswith("alias/"):
        condition = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": alias}}
        return [key_statement(arn_of("key/*")) | {"Condition": condition}]
    return [key_statement(encryption if encryption.startswith("arn:") else arn_of(f"key/{encryption}"))]


def key_statement(key_arn: Any) -> dict[str, Any]:
    """What a role may do with the queues' KMS key."""
    return _statement("Key", list(_KMS), key_arn)


def _statement(sid: str, actions: Sequence[str], resource: Any) -> dict[str, Any]:
    return {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": resource}
