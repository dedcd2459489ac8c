"""Creates or updates queue and dead letter queue; shows the difference first, and never deletes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from fanfold.deploy.description import Description, allow_policy, check_dlq_arn
from fanfold.errors import ConfigurationError, NotFifoError, QueueNotFoundError

_POLICIES: Final = ("RedrivePolicy", "RedriveAllowPolicy")
_FIXED: Final = "FifoQueue"
"""What a queue is created with and can't be changed later."""
_KMS: Final = "KmsMasterKeyId"
_SSE: Final = "SqsManagedSseEnabled"


class Call(Protocol):
    """A way to make requests of the SQS API: a broker's transport."""

    async def call(self, action: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Make one request. Raises BrokerError."""


@dataclass(frozen=True, slots=True)
class Existing:
    """A queue as it is."""

    url: str
    attributes: Mapping[str, str]

    @property
    def arn(self) -> str:
        """Its ARN."""
        return self.attributes["QueueArn"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference: a queue to create (`attribute` is None), or an attribute to set."""

    queue: str
    attribute: str | None = None
    before: str | None = None
    after: str = ""

    def __str__(self) -> str:
        if self.attribute is None:
            return f"create {self.queue}"
        return f"set {self.attribute} of {self.queue}: {self.before or 'nothing'} -> {self.after}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What has to change, given what is there."""

    description: Description
    queue: Existing | None
    dlq: Existing | None
    changes: tuple[Change, ...]


async def look(transport: Call, wanted: Description) -> Plan:
    """Find out what has to change. Nothing is changed.

    Raises:
        NotFifoError: a queue of that name is there and isn't FIFO.
        ConfigurationError: the queue has another dead letter queue, in another region or account.
        BrokerError: SQS can't be asked.
    """
    queue, dlq = await _find(transport, wanted.name), await _find(transport, wanted.dlq_name)
    return Plan(wanted, queue, dlq, tuple(changes(wanted, queue, dlq)))


def changes(wanted: Description, queue: Existing | None, dlq: Existing | None) -> list[Change]:
    """The differences, in the order in which they are made: the dead letter queue comes first."""
    found = _differences(wanted.dlq_name, dlq, wanted.dlq_attributes)
    found += _differences(wanted.name, queue, wanted.queue_attributes)
    # Where a queue is still to be created, its ARN can be told from its neighbour's, or isn't known yet.
    dlq_arn = dlq.arn if dlq else _beside(queue, wanted.dlq_name)
    queue_arn = queue.arn if queue else _beside(dlq, wanted.name)
    if queue is not None and dlq is not None:
        check_dlq_arn(queue.arn, dlq.arn)
    policies = (
        (wanted.name, queue, "RedrivePolicy", wanted.redrive_policy(dlq_arn)),
        (wanted.dlq_name, dlq, "RedriveAllowPolicy", allow_policy(queue_arn)),
    )
    for name, existing, attribute, after in policies:
        before = existing.attributes.get(attribute) if existing else None
        if _policy(before) != _policy(after):
            found.append(Change(queue=name, attribute=attribute, before=before, after=after))
    return found


async def apply(transport: Call, plan: Plan) -> Plan:
    """Make the changes; answers what is left to change: nothing, unless somebody else changed it meanwhile."""
    wanted = plan.description
    dlq = plan.dlq or await _create(transport, wanted.dlq_name, wanted.dlq_attributes)
    queue = plan.queue or await _create(transport, wanted.name, wanted.queue_attributes)
    check_dlq_arn(queue.arn, dlq.arn)
    for existing, name in ((dlq, wanted.dlq_name), (queue, wanted.name)):
        setting = {c.attribute: c.after for c in changes(wanted, queue, dlq) if c.queue == name and c.attribute}
        if setting:
            await transport.call("SetQueueAttributes", {"QueueUrl": existing.url, "Attributes": _settable(setting)})
    return await look(transport, wanted)


async def _find(transport: Call, name: str) -> Existing | None:
    try:
        url = str((await transport.call("GetQueueUrl", {"QueueName": name}))["QueueUrl"])
    except QueueNotFoundError:
        return None
    answer = await transport.call("GetQueueAttributes", {"QueueUrl": url, "AttributeNames": ["All"]})
    return Existing(url, answer.get("Attributes") or {})


async def _create(transport: Call, name: str, attributes: Mapping[str, str]) -> Existing:
    await transport.call("CreateQueue", {"QueueName": name, "Attributes": dict(attributes)})
    created = await _find(transport, name)
    if created is None:
        raise ConfigurationError(f"queue {name!r} was created and isn't there; was it deleted meanwhile? Run it again")
    return created


def _differences(name: str, existing: Existing | None, wanted: Mapping[str, str]) -> list[Change]:
    if existing is None:
        return [Change(queue=name)]
    if existing.attributes.get(_FIXED) != "true":
        raise NotFifoError(f"queue {name!r} is there and isn't FIFO, which can't be changed; choose another name")
    return [
        Change(queue=name, attribute=attribute, before=existing.attributes.get(attribute), after=value)
        for attribute, value in wanted.items()
        if attribute != _FIXED and existing.attributes.get(attribute) != value
    ]


def _settable(setting: Mapping[str, str]) -> dict[str, str]:
    """SQS lets a queue have one kind of encryption: the other is turned off in the same request."""
    other = {_KMS: ""} if setting.get(_SSE) == "true" else {}
    return {**other, **setting}


def _beside(neighbour: Existing | None, name: str) -> str:
    """The ARN of a queue in the same region and account."""
    return f"{neighbour.arn.rpartition(':')[0]}:{name}" if neighbour else f"(the ARN of {name})"


def _policy(text: str | None) -> Any:
    """A policy as a value: SQS gives it back in other order, and numbers as text."""
    policy = json.loads(text) if text else {}
    return {name: str(value) if isinstance(value, int) else value for name, value in policy.items()}
