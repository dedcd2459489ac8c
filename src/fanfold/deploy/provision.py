"""Creates or updates queue and dead letter queue; shows the difference first, and never deletes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from fanfold.deploy.description import Description, allow_policy, check_dlq_arn
from fanfold.errors import ConfigurationError, NotFifoError, QueueNotFoundError

_FIXED: Final = "FifoQueue"
"""What a queue is created with and can't be changed later."""
_KMS: Final = "KmsMasterKeyId"
_SSE: Final = "SqsManagedSseEnabled"


class Call(Protocol):
    """A way to make requests of the SQS API: a broker, its transport, or the embedded engine."""

    async def call(self, action: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Make one request. Raises BrokerError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Existing:
    """A queue as it is. `sources`: the queues whose redrive policies lead to it, by ARN."""

    url: str
    attributes: Mapping[str, str]
    sources: Sequence[str] = ()

    @property
    def arn(self) -> str:
        """Its ARN."""
        return self.attributes["QueueArn"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference: something to create (`attribute` is None), or an attribute of it to set.

    `target` is a queue's name, or what else is to be set up.
    """

    target: str
    attribute: str | None = None
    before: str | None = None
    after: str = ""

    def __str__(self) -> str:
        if self.attribute is None:
            return f"create {self.target}"
        return f"set {self.attribute} of {self.target}: {self.before or 'nothing'} -> {self.after}"


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
        BrokerError: SQS can't be asked.
    """
    queue, dlq = await _find(transport, wanted.name), await _find(transport, wanted.dlq_name)
    return plan(wanted, queue, dlq)


def plan(wanted: Description, queue: Existing | None = None, dlq: Existing | None = None) -> Plan:
    """The differences, in the order in which they are made: the dead letter queue comes first.

    Raises:
        NotFifoError: a queue of that name is there and isn't FIFO.
        ConfigurationError: the two are in different regions or accounts.
    """
    if queue is not None and dlq is not None:
        check_dlq_arn(queue.arn, dlq.arn)
    found = [
        *_differences(wanted.dlq_name, dlq, wanted.dlq_attributes),
        *_differences(wanted.name, queue, wanted.queue_attributes),
        *_redrive(wanted, queue, dlq),
        *_allowed(wanted, queue, dlq),
    ]
    return Plan(wanted, queue, dlq, tuple(found))


async def apply(transport: Call, plan: Plan) -> Plan:
    """Make the changes; answers what is left to change: nothing, unless somebody else changed it meanwhile.

    Interrupted anywhere, it is completed by running it again.
    """
    wanted = plan.description
    if plan.dlq is None:
        await _create(transport, wanted.dlq_name, wanted.dlq_attributes)
    if plan.queue is None:
        await _create(transport, wanted.name, wanted.queue_attributes)
    made = await look(transport, wanted)
    for name, existing in ((wanted.dlq_name, made.dlq), (wanted.name, made.queue)):
        if existing is None:
            raise ConfigurationError(f"queue {name!r} was created and isn't there; was it deleted? Run it again")
        setting = {c.attribute: c.after for c in made.changes if c.target == name and c.attribute is not None}
        if setting:
            await transport.call("SetQueueAttributes", {"QueueUrl": existing.url, "Attributes": _settable(setting)})
    return await look(transport, wanted)


async def _find(transport: Call, name: str) -> Existing | None:
    try:
        url = str((await transport.call("GetQueueUrl", {"QueueName": name}))["QueueUrl"])
        answer = await transport.call("GetQueueAttributes", {"QueueUrl": url, "AttributeNames": ["All"]})
    except QueueNotFoundError:
        return None
    attributes = answer.get("Attributes") or {}
    return Existing(url=url, attributes=attributes, sources=await _sources(transport, url, attributes["QueueArn"]))


async def _sources(transport: Call, url: str, arn: str) -> list[str]:
    answer = await transport.call("ListDeadLetterSourceQueues", {"QueueUrl": url})
    return [_beside(arn, str(source).rsplit("/", 1)[-1]) for source in answer.get("queueUrls") or ()]


async def _create(transport: Call, name: str, attributes: Mapping[str, str]) -> None:
    await transport.call("CreateQueue", {"QueueName": name, "Attributes": dict(attributes)})


def _differences(name: str, existing: Existing | None, wanted: Mapping[str, str]) -> list[Change]:
    if existing is None:
        return [Change(target=name)]
    if existing.attributes.get(_FIXED) != "true":
        raise NotFifoError(f"queue {name!r} is there and isn't FIFO, which can't be changed; choose another name")
    return [
        Change(target=name, attribute=attribute, before=existing.attributes.get(attribute), after=value)
        for attribute, value in wanted.items()
        if attribute != _FIXED and existing.attributes.get(attribute) != value
    ]


def _redrive(wanted: Description, queue: Existing | None, dlq: Existing | None) -> list[Change]:
    after = wanted.redrive_policy(_arn(dlq, wanted.dlq_name, queue))
    return _policy_change(wanted.name, queue, "RedrivePolicy", after)


def _allowed(wanted: Description, queue: Existing | None, dlq: Existing | None) -> list[Change]:
    """Who else sets messages aside there goes on doing so: nobody is locked out by setting up one queue."""
    let_in = _policy(dlq.attributes.get("RedriveAllowPolicy") if dlq else None).get("sourceQueueArns", ())
    sources = {*let_in, *(dlq.sources if dlq else ()), _arn(queue, wanted.name, dlq)}
    return _policy_change(wanted.dlq_name, dlq, "RedriveAllowPolicy", allow_policy(sources))


def _policy_change(name: str, existing: Existing | None, attribute: str, after: str) -> list[Change]:
    before = existing.attributes.get(attribute) if existing else None
    if _policy(before) == _policy(after):
        return []
    return [Change(target=name, attribute=attribute, before=before, after=after)]


def _settable(setting: Mapping[str, str]) -> dict[str, str]:
    """SQS lets a queue have one kind of encryption: the other is turned off in the same request."""
    other = {_KMS: ""} if setting.get(_SSE) == "true" else {}
    return {**other, **setting}


def _arn(existing: Existing | None, name: str, neighbour: Existing | None) -> str:
    """A queue's ARN; where it isn't there yet, as its neighbour's says it will be."""
    if existing is not None:
        return existing.arn
    return _beside(neighbour.arn, name) if neighbour is not None else f"(the ARN of {name})"


def _beside(arn: str, name: str) -> str:
    """The ARN of a queue in the same region and account."""
    return f"{arn.rpartition(':')[0]}:{name}"


def _policy(text: str | None) -> dict[str, Any]:
    """A policy as a value: SQS gives it back in other order, and numbers as text."""
    policy = json.loads(text) if text else {}
    return {name: _comparable(value) for name, value in policy.items()}


def _comparable(value: Any) -> Any:
    return sorted(value) if isinstance(value, list) else str(value)
