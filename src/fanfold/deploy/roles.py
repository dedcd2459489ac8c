"""Three roles with no more rights than they use: producer, worker, operator.

`tests/test_deploy_roles.py` records what each role's code asks of SQS, and holds the policies to exactly that. A batch
request needs the permission of the single action; there is none of its own (SQS developer guide, "Amazon SQS API
permissions").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

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


def policy(role: str, *, queue_arn: Any, dlq_arn: Any, kms_key_arn: Any = None) -> dict[str, Any]:
    """A role's IAM policy on exact ARNs (or what a template puts in their place)."""
    grants = GRANTS[role]
    statements = [
        _statement("Queue", [f"sqs:{action}" for action in grants.queue], queue_arn),
        _statement("DeadLetterQueue", [f"sqs:{action}" for action in grants.dlq], dlq_arn),
    ]
    if kms_key_arn is not None:
        statements.append(_statement("Key", list(_KMS), kms_key_arn))
    return {"Version": "2012-10-17", "Statement": statements}


def _statement(sid: str, actions: Sequence[str], resource: Any) -> dict[str, Any]:
    return {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": resource}
