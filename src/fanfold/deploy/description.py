"""What is to be set up, as one value from which provisioning, templates and policies are made.

Source of the ranges: the Amazon SQS API reference, SetQueueAttributes, and the developer guide's queue quotas (read
2026-11-24).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from fanfold import limits
from fanfold.brokers.boto import region_of
from fanfold.errors import ConfigurationError, NotFifoError

DAY: Final = 86_400
SSE_SQS: Final = "sse-sqs"
"""Encryption with keys that SQS keeps, at no charge; anything else is the id, alias or ARN of a KMS key."""

_PARTITIONS: Final = ("cn", "us-gov")
_FIFO: Final = ".fifo"
_DLQ: Final = "-dlq"
_LONGEST_NAME: Final = 80
_MOST_SOURCES: Final = 10
_ID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|mrk-[0-9a-f]{32}"
_PLACE: Final = r"arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:"
_KMS_KEY: Final = re.compile(rf"(?:(?:{_PLACE}key/)?(?:{_ID})|(?:{_PLACE})?alias/[A-Za-z0-9/_-]+)")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]+\.fifo")
_TABLE: Final = re.compile(r"[A-Za-z0-9_.-]{3,255}")
_REGION: Final = re.compile(r"[a-z]{2,4}(-[a-z]+)+-\d")
_ACCOUNT: Final = re.compile(r"\d{12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """A FIFO queue with its dead letter queue.

    `name` ends in `.fifo`; the dead letter queue is called `…-dlq.fifo` unless `dlq_name` says otherwise. Times are
    seconds. `visibility` is what a consumer other than Fanfold's gets; Fanfold's own leases are its workers'.
    `max_receive_count` is the backstop for crash loops, so it is well above the tasks' `max_attempts`.
    `ledger_table`: a table on DynamoDB in templates; empty: none.
    """

    name: str
    dlq_name: str = ""
    max_receive_count: int = limits.DEFAULT_MAX_RECEIVES
    visibility: int = 60
    retention: int = 14 * DAY
    high_throughput: bool = True
    encryption: str = SSE_SQS
    max_attempts: int = 5
    ledger_table: str = ""

    def __post_init__(self) -> None:
        check_name(self.name)
        dead = self.dlq_name or self.name.removesuffix(_FIFO) + _DLQ + _FIFO
        check_name(dead)
        if dead == self.name:
            raise ConfigurationError(f"queue {self.name!r} can't be its own dead letter queue; name another")
        object.__setattr__(self, "dlq_name", dead)
        check_encryption(self.encryption)
        if self.ledger_table and not _TABLE.fullmatch(self.ledger_table):
            raise ConfigurationError(f"table {self.ledger_table!r}: 3 to 255 letters, digits, '_', '-' and '.'")
        _within("max_receive_count", self.max_receive_count, 1, 1_000)
        _within("visibility", self.visibility, 0, 43_200)
        _within("retention", self.retention, 60, 14 * DAY)
        if self.max_attempts < 1:
            raise ConfigurationError(f"max_attempts={self.max_attempts}: at least 1, as the tasks have it")
        if self.max_receive_count <= self.max_attempts:
            raise ConfigurationError(
                f"max_receive_count={self.max_receive_count} isn't above max_attempts={self.max_attempts}: SQS would "
                "set tasks aside, without a reason, before their attempts are spent; a shutdown spends receives too"
            )

    @property
    def dlq_attributes(self) -> dict[str, str]:
        """Attributes of the dead letter queue, but for who may use it: letters stay as long as SQS allows."""
        return self._common | {"MessageRetentionPeriod": str(14 * DAY), "VisibilityTimeout": "30"}

    @property
    def queue_attributes(self) -> dict[str, str]:
        """Attributes of the queue, but for its redrive policy."""
        return self._common | {
            "MessageRetentionPeriod": str(self.retention),
            "VisibilityTimeout": str(self.visibility),
            "ReceiveMessageWaitTimeSeconds": "20",
        }

    def redrive_policy(self, dlq_arn: str) -> str:
        """The queue's RedrivePolicy."""
        return json.dumps({"deadLetterTargetArn": dlq_arn, "maxReceiveCount": self.max_receive_count})

    @property
    def _common(self) -> dict[str, str]:
        scope = ("messageGroup", "perMessageGroupId") if self.high_throughput else ("queue", "perQueue")
        attributes = {"FifoQueue": "true", "DeduplicationScope": scope[0], "FifoThroughputLimit": scope[1]}
        return attributes | encryption_attributes(self.encryption)


def encryption_attributes(encryption: str) -> dict[str, str]:
    """The attributes that turn encryption on."""
    return {"SqsManagedSseEnabled": "true"} if encryption == SSE_SQS else {"KmsMasterKeyId": encryption}


def allow_policy(queue_arns: Collection[str]) -> str:
    """The dead letter queue's RedriveAllowPolicy: these queues may set messages aside in it.

    SQS takes at most ten by name; with more, all are let in.
    """
    if len(queue_arns) > _MOST_SOURCES:
        return json.dumps({"redrivePermission": "allowAll"})
    return json.dumps({"redrivePermission": "byQueue", "sourceQueueArns": sorted(queue_arns)})


def check_encryption(encryption: str) -> None:
    """Whether this names encryption by SQS, or a KMS key. Raises ConfigurationError."""
    if encryption != SSE_SQS and not _KMS_KEY.fullmatch(encryption):
        raise ConfigurationError(
            f"encryption {encryption!r}: write {SSE_SQS}, or a KMS key: its id, its ARN, or alias/NAME"
        )


def check_key_place(encryption: str, region: str) -> None:
    """Whether a KMS key that is named by its ARN is where the queue is. Raises ConfigurationError.

    SQS takes another account's key, and none of another region.
    """
    where = encryption.split(":")
    if encryption.startswith("arn:") and where[3] != region:
        raise ConfigurationError(
            f"encryption {encryption!r}: that key is in {where[3]}, and the queue in {region}; SQS wants one of its "
            "own region"
        )


def check_name(name: str) -> None:
    """Whether SQS takes `name` for a FIFO queue.

    Raises:
        NotFifoError: it doesn't end in `.fifo`.
        ConfigurationError: it is too long, or has other characters.
    """
    if not {":", "/"}.isdisjoint(name):
        raise ConfigurationError(
            f"queue {name!r}: write its name alone; queue and dead letter queue are in one region and account"
        )
    if not name.endswith(_FIFO):
        raise NotFifoError(f"queue {name!r}: the name of a FIFO queue ends in .fifo; write {name + _FIFO!r}")
    if len(name) > _LONGEST_NAME:
        raise ConfigurationError(
            f"queue {name!r} has {len(name)} characters; SQS takes at most {_LONGEST_NAME} with .fifo, and the dead "
            "letter queue's name has four more (-dlq)"
        )
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"queue {name!r}: a name has letters, digits, _ and - before .fifo")


def check_place(account: str, region: str) -> None:
    """Whether these can be an account and a region. Raises ConfigurationError."""
    if not _ACCOUNT.fullmatch(account):
        raise ConfigurationError(f"account {account!r}: 12 digits, as `aws sts get-caller-identity` shows them")
    check_region(region)


def check_region(region: str) -> None:
    """Whether this can be a region. Raises ConfigurationError."""
    if not _REGION.fullmatch(region):
        raise ConfigurationError(f"region {region!r}: write it as eu-west-1")


def partition_of(region: str) -> str:
    """What ARNs in a region begin with: aws, aws-cn, aws-us-gov."""
    return next((f"aws-{part}" for part in _PARTITIONS if region.startswith(f"{part}-")), "aws")


def suffix_of(region: str) -> str:
    """What host names in a region end in."""
    return "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"


def check_dlq_arn(queue_arn: str, dlq_arn: str) -> None:
    """Whether a dead letter queue can serve a queue. Raises ConfigurationError.

    SQS wants both in one region and one account, and of one kind.
    """
    ours, theirs = _parts(queue_arn), _parts(dlq_arn)
    for what in ("region", "account"):
        if ours[what] != theirs[what]:
            raise ConfigurationError(
                f"dead letter queue {dlq_arn} is in another {what} than {queue_arn}; SQS wants both in one"
            )
    if not theirs["name"].endswith(_FIFO):
        raise NotFifoError(f"dead letter queue {dlq_arn} isn't FIFO; that of a FIFO queue must be")


def check_dlq_url(queue_url: str, dlq_url: str) -> None:
    """The same for URLs: what they say of region and account, and the dead letter queue's name.

    Raises:
        ConfigurationError, NotFifoError: as `check_dlq_arn`.
    """
    for what, ours, theirs in zip(("region", "account"), _place(queue_url), _place(dlq_url), strict=True):
        if ours != theirs:
            raise ConfigurationError(
                f"dead letter queue {dlq_url} is in another {what} than {queue_url}; SQS wants both in one region and "
                "account"
            )
    if not dlq_url.endswith(_FIFO):
        raise NotFifoError(f"dead letter queue {dlq_url} isn't FIFO; that of a FIFO queue must be")


def _place(url: str) -> tuple[str, str]:
    # Elsewhere than on AWS, one place may have several names: 127.0.0.1, localhost, a container's.
    return region_of(url) or "", urlsplit(url).path.rpartition("/")[0]


def _parts(arn: str) -> Mapping[str, str]:
    fields = arn.split(":")
    if len(fields) != 6 or fields[0] != "arn" or fields[2] != "sqs":  # noqa: PLR2004 - as ARNs are built
        raise ConfigurationError(f"{arn!r} is not the ARN of a queue: arn:aws:sqs:REGION:ACCOUNT:NAME.fifo")
    return {"region": fields[3], "account": fields[4], "name": fields[5]}


def _within(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ConfigurationError(f"{name}={value}: SQS takes {low:,} to {high:,}")
