"""What `fanfold doctor` looks at and what it says: values."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from fanfold import limits
from fanfold.deploy.description import DAY

_DEFAULTS: Final = {
    "--retention": 14,
    "--visibility": 60,
    "--max-receive-count": limits.DEFAULT_MAX_RECEIVES,
    "--max-attempts": 5,
}
"""Those of `fanfold provision`."""


class Grade(StrEnum):
    """How bad a finding is: fine, worth a thought, or broken."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at: what it is, why it matters, and the command or line that cures it.

    `check` names what was looked at, for scripts. What is fine has neither `why` nor `cure`.
    """

    check: str
    grade: Grade
    what: str
    why: str = ""
    cure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """A permission that is missing: the action as IAM names it, and the queue's name."""

    action: str
    queue: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was learnt of queues on SQS. None: it couldn't be asked, or isn't known.

    `skew` and `round_trip` are seconds; a clock that is ahead has a skew above 0. `key_kind` is `long-lived` for the
    access key of a user, else `role`. `role` is the one whose rights were looked at. `endpoint` is what speaks SQS
    instead of AWS; empty: AWS.
    """

    queue_url: str
    region: str = ""
    endpoint: str = ""
    role: str = "worker"
    queue: Mapping[str, str] | None = None
    dlq_url: str | None = None
    dlq: Mapping[str, str] | None = None
    dlq_gone: bool = False
    denied: Sequence[Denial] = ()
    skew: float | None = None
    round_trip: float | None = None
    key_kind: str | None = None

    @property
    def name(self) -> str:
        """The queue's name."""
        return self.queue_url.rsplit("/", 1)[-1]

    @property
    def dlq_name(self) -> str:
        """The dead letter queue's name, or what provisioning would call it."""
        return (self.dlq_url or f"{self.name.removesuffix('.fifo')}-dlq.fifo").rsplit("/", 1)[-1]

    @property
    def account(self) -> str:
        """The account that the queue's URL names, or a word for it."""
        account = self.queue_url.rpartition("/")[0].rpartition("/")[2]
        return account if account.isdecimal() else "ACCOUNT"

    def provision(self, *options: str) -> str:
        """The command that cures something about the queues, and keeps what else they were set up with."""
        words = ["fanfold provision", self.name, "--dlq-name", self.dlq_name, *options]
        words += [kept for kept in self._settings() if not any(_of_one(kept, option) for option in options)]
        place = ["--region", self.region] if self.region else []
        # In the region, the command would set up a queue on AWS, where this one isn't.
        return " ".join([*words, *(["--endpoint-url", self.endpoint] if self.endpoint else place), "--yes"])

    def _settings(self) -> Iterator[str]:
        """The options that say what there is, where it is neither the default nor a fault."""
        queue = self.queue or {}
        receives = int(json.loads(queue.get("RedrivePolicy") or "{}").get("maxReceiveCount", 0))
        there = {
            "--encryption": queue.get("KmsMasterKeyId", ""),
            "--retention": f"{int(queue.get('MessageRetentionPeriod', 0)) / DAY:.6g}",
            "--visibility": queue.get("VisibilityTimeout", ""),
            "--max-receive-count": str(receives) if receives > _DEFAULTS["--max-attempts"] else "",
        }
        for option, value in there.items():
            if value not in ("", "0", str(_DEFAULTS.get(option, ""))):
                yield f"{option} {value}"
        if queue and queue.get("FifoThroughputLimit") != "perMessageGroupId":
            yield "--no-high-throughput"


def _of_one(kept: str, option: str) -> bool:
    """Whether two options are about the same."""
    names = (text.partition(" ")[0].replace("--no-", "--") for text in (kept, option))
    return len(set(names)) == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """What the application says of itself: times in seconds; tasks' timeouts and attempts by name."""

    lease: float
    max_attempts: int
    timeouts: Mapping[str, float] = field(default_factory=dict)
    attempts: Mapping[str, int] = field(default_factory=dict)
    folds: bool = False
    has_ledger: bool = False

    @property
    def most_attempts(self) -> int:
        """The most runs that any task may have."""
        return max([self.max_attempts, *self.attempts.values()])


def worst(findings: Iterable[Finding]) -> Grade:
    """The worst grade of all."""
    order = list(Grade)
    return max((finding.grade for finding in findings), key=order.index, default=Grade.OK)


def fine(check: str, what: str) -> Finding:
    """Something that is as it should be."""
    return Finding(check=check, grade=Grade.OK, what=what)


def warning(check: str, what: str, *, why: str, cure: str) -> Finding:
    """Something that is worth a thought."""
    return Finding(check=check, grade=Grade.WARNING, what=what, why=why, cure=cure)


def error(check: str, what: str, *, why: str, cure: str) -> Finding:
    """Something that is broken, or will lose or stop work."""
    return Finding(check=check, grade=Grade.ERROR, what=what, why=why, cure=cure)
