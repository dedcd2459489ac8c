"""What `fanfold doctor` looks at and what it says: values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


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
        return (self.dlq_url or self.name.replace(".fifo", "-dlq.fifo")).rsplit("/", 1)[-1]

    def provision(self, *options: str) -> str:
        """The command that cures something about the queues."""
        words = ["fanfold provision", self.name, "--dlq-name", self.dlq_name, *options]
        place = ["--region", self.region] if self.region else []
        # In the region, the command would set up a queue on AWS, where this one isn't.
        return " ".join([*words, *(["--endpoint-url", self.endpoint] if self.endpoint else place), "--yes"])


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
