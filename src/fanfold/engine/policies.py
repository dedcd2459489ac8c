"""The JSON documents among the queue attributes: Policy, RedrivePolicy, RedriveAllowPolicy. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fanfold import limits
from fanfold.engine import errors
from fanfold.engine.errors import SqsError

_MOST_RECEIVES: Final = 1000
_MOST_SOURCES: Final = 10
_MOST_STATEMENTS: Final = 20
_MOST_ACTIONS: Final = 7
_POLICY_KEYS: Final = {"Version", "Id", "Statement"}
_VERSION: Final = "2008-10-17"
_VERSIONS: Final = (_VERSION, "2012-10-17")
_UNSUPPORTED_ALLOW: Final = (
    "Amazon SQS can't create the redrive allow policy, as it\N{RIGHT SINGLE QUOTATION MARK}s in an unsupported format."
)
_ACCOUNT: Final = re.compile(r"\d{12}", re.ASCII)
_LABEL: Final = re.compile(r"[A-Za-z0-9_-]{1,80}")
_SHAREABLE: Final = frozenset(
    [
        "*",
        "ChangeMessageVisibility",
        "DeleteMessage",
        "GetQueueAttributes",
        "GetQueueUrl",
        "ListDeadLetterSourceQueues",
        "PurgeQueue",
        "ReceiveMessage",
        "SendMessage",
    ]
)
_OWNERS_ONLY: Final = frozenset(
    [
        "AddPermission",
        "CancelMessageMoveTask",
        "CreateQueue",
        "DeleteQueue",
        "ListMessageMoveTasks",
        "ListQueues",
        "ListQueueTags",
        "RemovePermission",
        "SetQueueAttributes",
        "StartMessageMoveTask",
        "TagQueue",
        "UntagQueue",
    ]
)


@dataclass(frozen=True, slots=True)
class Redrive:
    """Where messages go that were received too often: a queue's name, and after how many receives."""

    target: str
    most: int


def queue_of_arn(arn: str) -> str | None:
    """The queue's name in an ARN of SQS, or None. Region and account don't matter: there is one of each."""
    parts = arn.split(":")
    shape = len(parts) == 6 and parts[0] == "arn" and parts[2] == "sqs"  # noqa: PLR2004 - arn:aws:sqs:region:account:name
    return parts[5] if shape and parts[5] else None


def read_redrive(text: str) -> Redrive:
    """A RedrivePolicy.

    Raises:
        SqsError: it is none, or lacks something.
    """
    given = _map(text)
    if given is None:
        raise errors.invalid_attribute("RedrivePolicy", "Redrive policy is not a valid JSON map.")
    for name in ("maxReceiveCount", "deadLetterTargetArn"):
        if given.get(name) is None:
            raise redrive_error(text, f"Redrive policy does not contain mandatory attribute: {name}.")
    if len(given) > 2:  # noqa: PLR2004 - the two above
        supported = "[maxReceiveCount, deadLetterTargetArn]"
        raise redrive_error(text, f"Only following attributes are supported: {supported}.")
    most = _count(given["maxReceiveCount"])
    if most is None:
        said = f"Invalid value for maxReceiveCount: {given['maxReceiveCount']}"
        raise redrive_error(text, f"{said}, valid values are from 1 to {_MOST_RECEIVES} both inclusive.")
    target = queue_of_arn(str(given["deadLetterTargetArn"]))
    if target is None:
        raise redrive_error(text, "Only SQS queues are valid resources for deadLetterTargetArn.")
    return Redrive(target, most)


def redrive_error(text: str, reason: str) -> SqsError:
    """Why a RedrivePolicy is refused."""
    return errors.invalid_value(text, "RedrivePolicy", reason)


def show_redrive(target_arn: str, most: int) -> str:
    """A RedrivePolicy as GetQueueAttributes tells it."""
    return json.dumps({"deadLetterTargetArn": target_arn, "maxReceiveCount": most}, separators=(",", ":"))


def read_redrive_allow(text: str) -> str:
    """A RedriveAllowPolicy, as it is.

    Raises:
        SqsError: it is none, or contradicts itself.
    """
    given = _map(text)
    permission, sources = (given or {}).get("redrivePermission"), (given or {}).get("sourceQueueArns")
    known = given is not None and set(given) <= {"redrivePermission", "sourceQueueArns"}
    listed = sources is None or (isinstance(sources, list) and all(isinstance(arn, str) for arn in sources))
    if not known or not listed or permission not in ("allowAll", "denyAll", "byQueue"):
        raise errors.invalid_attribute("RedriveAllowPolicy", _UNSUPPORTED_ALLOW)
    reason = _contradiction(permission, sources or [])
    if reason:
        cause = f"Amazon SQS can't create the redrive allow policy. {reason}"
        raise errors.invalid_value(text, "RedriveAllowPolicy", cause)
    return text


def allows(redrive_allow: str | None, source: str) -> bool:
    """Whether a dead letter queue with this RedriveAllowPolicy takes messages of the queue `source`."""
    given = _map(redrive_allow or "{}") or {}
    if given.get("redrivePermission") == "byQueue":
        return source in {queue_of_arn(arn) for arn in given["sourceQueueArns"]}
    return given.get("redrivePermission") != "denyAll"


def read_policy(text: str) -> str | None:
    """A Policy as it is, or None where it is none. Its rules are stored and never applied."""
    given = _map(text)
    if given is None or not set(given) <= _POLICY_KEYS or not given.get("Statement"):
        return None
    if given.get("Version", _VERSION) not in _VERSIONS:
        return None
    statements = _statements(given)
    if len(statements) > _MOST_STATEMENTS:
        said = f"{len(statements)} statements were found in the submitted policy"
        raise errors.over_limit(f"{said}, max allowed is {_MOST_STATEMENTS}")
    return text if all(_is_statement(statement) for statement in statements) else None


def _is_statement(statement: Any) -> bool:
    """Whether it has what a resource's policy must have (IAM's grammar). Raises SqsError where it has too much."""
    if not isinstance(statement, dict) or statement.get("Effect") not in ("Allow", "Deny"):
        return False
    actions = statement.get("Action", statement.get("NotAction"))
    if isinstance(actions, list) and len(actions) > _MOST_ACTIONS:
        said = f"{len(actions)} actions were found in a statement from the submitted policy"
        raise errors.over_limit(f"{said}, max allowed is {_MOST_ACTIONS}")
    return bool(actions) and bool(statement.get("Principal", statement.get("NotPrincipal")))


def with_permission(policy: str | None, arn: str, label: str, accounts: Sequence[str], actions: Sequence[str]) -> str:
    """A policy with one statement more: AddPermission.

    Raises:
        SqsError: the label is taken, or an account or an action can't be meant.
    """
    _check_permission(label, accounts, actions)
    given = _map(policy or "") or {"Version": _VERSION, "Id": f"{arn}/SQSDefaultPolicy", "Statement": []}
    added = {
        "Sid": label,
        "Effect": "Allow",
        "Principal": {"AWS": _one_or_all([f"arn:aws:iam::{account}:root" for account in accounts])},
        "Action": _one_or_all([f"SQS:{action}" for action in actions]),
        "Resource": arn,
    }
    statements = _statements(given)
    if added in statements:
        return policy or ""
    if any(isinstance(known, dict) and known.get("Sid") == label for known in statements):
        raise errors.invalid_value(label, "Label", "Already exists.")
    if len(statements) >= _MOST_STATEMENTS:
        found = len(statements) + 1
        raise errors.over_limit(f"{found} Statements were found, maximum allowed is {_MOST_STATEMENTS}.")
    return json.dumps({**given, "Statement": [*statements, added]}, separators=(",", ":"))


def without_permission(policy: str | None, label: str) -> str:
    """A policy without the statement of that label; "" where none is left.

    Raises:
        SqsError: there is no such label.
    """
    if policy is None:
        raise errors.invalid_value(label, "Label", "can't find label.")
    given = _map(policy) or {}
    statements = _statements(given)
    left = [known for known in statements if not (isinstance(known, dict) and known.get("Sid") == label)]
    if len(left) == len(statements):
        raise errors.invalid_value(label, "Label", "can't find label on existing policy.")
    return json.dumps({**given, "Statement": left}, separators=(",", ":")) if left else ""


def _check_permission(label: str, accounts: Sequence[str], actions: Sequence[str]) -> None:
    if not _LABEL.fullmatch(label):
        reason = "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"
        raise errors.invalid_value(label, "Label", reason)
    for action in actions:
        if action in _OWNERS_ONLY:
            reason = "Only the queue owner is allowed to invoke this action."
            raise errors.invalid_value(f"SQS:{action}", "ActionName", reason)
        if action not in _SHAREABLE:
            reason = "Please refer to the appropriate WSDL for a list of valid actions."
            raise errors.invalid_value(f"SQS:{action}", "ActionName", reason)
    if len(actions) > _MOST_ACTIONS:
        raise errors.over_limit(f"{len(actions)} Actions were found, maximum allowed is {_MOST_ACTIONS}.")
    if not accounts or not all(_ACCOUNT.fullmatch(account) for account in accounts):
        raise errors.invalid_value(f"[{', '.join(accounts)}]", "PrincipalId", "Unable to verify.")


def _contradiction(permission: str, sources: Sequence[str]) -> str | None:
    if permission != "byQueue":
        needs = "To specify one or more source queue ARNs, you must set redrivePermission to byQueue."
        return needs if sources else None
    if not sources:
        return "When you specify the byQueue permission type, you must also specify one or more sourceQueueArns values."
    if len(sources) > _MOST_SOURCES:
        return f"The maximum number of source queue ARNs you can specify is {_MOST_SOURCES}."
    return None


def _count(value: object) -> int | None:
    text = str(value)
    inside = re.fullmatch(r"\d{1,4}", text, re.ASCII) is not None and 1 <= int(text) <= _MOST_RECEIVES
    return int(text) if inside and not isinstance(value, bool) else None


def _map(text: str) -> dict[str, Any] | None:
    if limits.unrepresentable(text) is not None:
        return None
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return given if isinstance(given, dict) else None


def _statements(policy: Mapping[str, Any]) -> list[Any]:
    found = policy.get("Statement", [])
    return found if isinstance(found, list) else [found]


def _one_or_all(values: Sequence[str]) -> str | list[str]:
    return values[0] if len(values) == 1 else list(values)
