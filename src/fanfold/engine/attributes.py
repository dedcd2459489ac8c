"""Queue attributes: which there are, what they may be, and what they are when nobody says. Pure."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from fanfold import limits
from fanfold.engine import errors, policies
from fanfold.engine.errors import SqsError

_DIGITS: Final = re.compile(r"\d{1,9}", re.ASCII)
_FOR_EVER: Final = "0"
"""A MessageRetentionPeriod that no request can ask for: queues of Fanfold's own lose nothing by growing old."""
KEEPS_FOR_EVER: Final = {"MessageRetentionPeriod": _FOR_EVER}

_decode: Final = msgspec.json.Decoder(dict[str, str]).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a queue's attributes mean to its operations. Times are milliseconds; `retention` None keeps for ever."""

    visibility: int
    delay: int
    retention: int | None
    wait: int
    maximum_size: int
    content_based: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """An attribute that can be set: how its value is read (None: it can't), and its default."""

    read: Callable[[str], str | None]
    default: str | None = None
    fifo: bool = False
    removable: bool = False


def _integer(least: int, most: int) -> Callable[[str], str | None]:
    def read(text: str) -> str | None:
        if not _DIGITS.fullmatch(text) or not least <= int(text) <= most:
            return None
        return str(int(text))

    return read


def _boolean(text: str) -> str | None:
    return text.lower() if text.lower() in ("true", "false") else None


def _one_of(*values: str) -> Callable[[str], str | None]:
    return lambda text: text if text in values else None


def _text(text: str) -> str | None:
    return text if limits.unrepresentable(text) is None else None


_RULES: Final = {
    "VisibilityTimeout": _Rule(read=_integer(0, limits.MAX_VISIBILITY), default="30"),
    "DelaySeconds": _Rule(read=_integer(0, limits.MAX_DELAY), default="0"),
    "MaximumMessageSize": _Rule(
        read=_integer(limits.MIN_MESSAGE_SIZE, limits.MAX_REQUEST_BYTES), default=str(limits.MAX_REQUEST_BYTES)
    ),
    "MessageRetentionPeriod": _Rule(
        read=_integer(limits.MIN_RETENTION, limits.MAX_RETENTION), default=str(limits.DEFAULT_RETENTION)
    ),
    "ReceiveMessageWaitTimeSeconds": _Rule(read=_integer(0, limits.MAX_WAIT), default="0"),
    "Policy": _Rule(read=policies.read_policy, removable=True),
    "RedrivePolicy": _Rule(read=_text, removable=True),  # where it leads is for the queue's operations to see
    "RedriveAllowPolicy": _Rule(read=policies.read_redrive_allow, removable=True),
    "KmsMasterKeyId": _Rule(read=_text, removable=True),
    "KmsDataKeyReusePeriodSeconds": _Rule(read=_integer(60, 86_400), default="300"),
    "SqsManagedSseEnabled": _Rule(read=_boolean, default="true"),
    "FifoQueue": _Rule(read=_boolean, fifo=True),
    "ContentBasedDeduplication": _Rule(read=_boolean, default="false", fifo=True),
    "DeduplicationScope": _Rule(read=_one_of("queue", "messageGroup"), default="queue", fifo=True),
    "FifoThroughputLimit": _Rule(read=_one_of("perQueue", "perMessageGroupId"), default="perQueue", fifo=True),
}
_ONLY_WITH_FIFO: Final = ("DeduplicationScope", "FifoThroughputLimit")
COMPUTED: Final = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesDelayed",
    "ApproximateNumberOfMessagesNotVisible",
    "CreatedTimestamp",
    "LastModifiedTimestamp",
    "QueueArn",
)
NAMES: Final = frozenset((*_RULES, *COMPUTED))


def read(given: Mapping[str, str], *, fifo: bool) -> dict[str, str]:
    """The given attributes in their canonical form; "" stands for one to remove.

    Raises:
        SqsError: one is unknown to this kind of queue, or breaks its rule.
    """
    return {name: _read_one(name, text, fifo=fifo) for name, text in given.items()}


def merged(present: Mapping[str, str], changes: Mapping[str, str]) -> dict[str, str]:
    """What is set after a change.

    Raises:
        SqsError: two attributes contradict each other.
    """
    if changes.get("SqsManagedSseEnabled") == "true" and changes.get("KmsMasterKeyId"):
        choose = "You can either enable KMS SSE or SQS SSE."
        text = f"You can use one type of server-side encryption (SSE) at one time. {choose}"
        raise SqsError("InvalidAttributeName", text)
    together = {**present, **changes}
    if changes.get("SqsManagedSseEnabled") == "true":
        together["KmsMasterKeyId"] = ""
    elif changes.get("KmsMasterKeyId"):
        together["SqsManagedSseEnabled"] = "false"
    _check_throughput(together)
    return {name: value for name, value in together.items() if value}


def shown(stored: Mapping[str, str], *, fifo: bool) -> dict[str, str]:
    """All attributes that are set or have a default, as GetQueueAttributes tells them."""
    known = {
        name: rule.default for name, rule in _RULES.items() if rule.default is not None and (fifo or not rule.fifo)
    }
    told = known | dict(stored)
    if told["MessageRetentionPeriod"] == _FOR_EVER:
        told["MessageRetentionPeriod"] = str(limits.MAX_RETENTION)
    if "KmsMasterKeyId" not in told:
        del told["KmsDataKeyReusePeriodSeconds"]
    return told | ({"FifoQueue": "true"} if fifo else {})


def decode(text: str) -> dict[str, str]:
    """Attributes as they are stored."""
    return _decode(text)


def encode(attributes: Mapping[str, str]) -> str:
    """Attributes as they are stored. FifoQueue is not: the name says it."""
    return msgspec.json.encode({k: v for k, v in attributes.items() if k != "FifoQueue"}).decode()


@functools.lru_cache(maxsize=1024)
def settings(text: str) -> Settings:
    """What stored attributes mean."""
    values = {name: rule.default for name, rule in _RULES.items()} | _decode(text)
    retention = int(values["MessageRetentionPeriod"] or 0)
    return Settings(
        visibility=int(values["VisibilityTimeout"] or 0) * 1000,
        delay=int(values["DelaySeconds"] or 0) * 1000,
        retention=retention * 1000 if retention else None,
        wait=int(values["ReceiveMessageWaitTimeSeconds"] or 0) * 1000,
        maximum_size=int(values["MaximumMessageSize"] or 0),
        content_based=values["ContentBasedDeduplication"] == "true",
    )


def _read_one(name: str, text: str, *, fifo: bool) -> str:
    rule = _RULES.get(name)
    if rule is None:
        raise errors.unknown_attribute(name)
    if rule.fifo and not fifo:
        if name in _ONLY_WITH_FIFO:
            text = f"You can specify the {name} only when FifoQueue is set to true."
            raise SqsError("InvalidAttributeName", text)
        raise errors.unknown_attribute(name)
    if not text and rule.removable:
        return ""
    value = rule.read(text)
    if value is None:
        raise errors.invalid_attribute(name)
    return value


def _check_throughput(attributes: Mapping[str, str]) -> None:
    if attributes.get("FifoThroughputLimit") == "perMessageGroupId" and (
        attributes.get("DeduplicationScope") != "messageGroup"
    ):
        text = "The perMessageGroupId value is allowed only when the value for DeduplicationScope is messageGroup"
        raise SqsError("InvalidAttributeValue", text)
