"""`fanfold doctor`: what is wrong with a set-up, why it matters, and what cures it. Judged here, asked in `probes`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from fanfold import limits
from fanfold.deploy.description import DAY

_LONG_ROUND_TRIP: Final = 0.1
_MOST_SKEW: Final = 60.0
_SHORTEST_RETENTION: Final = 4 * DAY


class Grade(StrEnum):
    """How bad a finding is: fine, worth a thought, or broken."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at: what it is, why it matters, and the command or line that cures it."""

    grade: Grade
    what: str
    why: str = ""
    cure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was learnt of a set-up. None or empty: it couldn't be asked.

    `skew` and `round_trip` are seconds. `key_kind` is `long-lived` for access keys of a user, else `role`.
    """

    queue_url: str
    queue: Mapping[str, str] | None = None
    dlq: Mapping[str, str] | None = None
    dlq_known: bool = False
    denied: Sequence[str] = ()
    skew: float | None = None
    round_trip: float | None = None
    key_kind: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """What the application says of itself: times in seconds, tasks' timeouts and attempts by name."""

    lease: float
    max_attempts: int
    timeouts: Mapping[str, float] = field(default_factory=dict)
    attempts: Mapping[str, int] = field(default_factory=dict)
    folds: bool = False
    has_ledger: bool = False


def judge(seen: Seen, application: Application) -> list[Finding]:
    """All findings, in the order of the looking."""
    found = [*_queue(seen), *_dlq(seen), *_redrive(seen, application)]
    return [*found, *_access(seen), *_line(seen), *judge_tasks(application)]


def worst(findings: Iterable[Finding]) -> Grade:
    """The worst grade of all."""
    order = list(Grade)
    return max((finding.grade for finding in findings), key=order.index, default=Grade.OK)


def _queue(seen: Seen) -> Iterable[Finding]:
    if seen.queue is None:
        return
    queue = seen.queue
    name = seen.queue_url.rsplit("/", 1)[-1]
    yield _ok("the queue is FIFO")
    if queue.get("FifoThroughputLimit") != "perMessageGroupId" or queue.get("DeduplicationScope") != "messageGroup":
        yield Finding(
            grade=Grade.WARNING,
            what="high throughput is off",
            why="the whole queue is held to 300 requests a second of each kind",
            cure=f"fanfold provision {name} --high-throughput --yes",
        )
    yield from _kept(queue, f"fanfold provision {name} --retention 14 --yes", "queue")
    yield from _encrypted(queue, f"fanfold provision {name} --encryption sse-sqs --yes", "queue")


def _dlq(seen: Seen) -> Iterable[Finding]:
    if not seen.dlq_known:
        yield Finding(
            grade=Grade.ERROR,
            what="no dead letter queue is known",
            why="what is hopeless is left to the queue: it comes back until it is kept no longer, and then is lost",
            cure=f"fanfold provision {seen.queue_url.rsplit('/', 1)[-1]} --yes, or SQS_DLQ_URL",
        )
    if seen.dlq is None:
        return
    if seen.dlq.get("FifoQueue") != "true":
        yield Finding(
            grade=Grade.ERROR,
            what="the dead letter queue isn't FIFO",
            why="SQS refuses it for a FIFO queue",
            cure="create one with a name ending in .fifo: fanfold provision",
        )
    yield from _kept(seen.dlq, "aws sqs set-queue-attributes … MessageRetentionPeriod=1209600", "dead letter queue")
    yield from _encrypted(seen.dlq, "fanfold provision … --encryption sse-sqs --yes", "dead letter queue")


def _redrive(seen: Seen, application: Application) -> Iterable[Finding]:
    policy: Mapping[str, Any] = json.loads((seen.queue or {}).get("RedrivePolicy") or "{}")
    if seen.queue is None:
        return
    most = max([application.max_attempts, *application.attempts.values()])
    count = int(policy.get("maxReceiveCount", 0))
    if not count:
        yield Finding(
            grade=Grade.WARNING,
            what="the queue has no redrive policy",
            why="a task that kills its worker each time would come back for ever",
            cure=f"fanfold provision {seen.queue_url.rsplit('/', 1)[-1]} --yes",
        )
    elif count <= most:
        yield Finding(
            grade=Grade.ERROR,
            what=f"maxReceiveCount {count} isn't above max_attempts {most}",
            why="SQS sets tasks aside, without a reason, before their attempts are spent",
            cure=f"fanfold provision … --max-receive-count {max(100, 10 * most)} --yes",
        )


def _access(seen: Seen) -> Iterable[Finding]:
    for action in seen.denied:
        yield Finding(
            grade=Grade.ERROR,
            what=f"{action} is denied",
            why="the worker can't do without it",
            cure="fanfold template iam … --role worker",
        )
    if seen.key_kind == "long-lived":
        yield Finding(
            grade=Grade.WARNING,
            what="long-lived access keys are in use",
            why="they leak and don't expire; a role's credentials last for hours",
            cure="run with a role (ECS task role, IRSA, instance profile) or `aws sso login`",
        )


def _line(seen: Seen) -> Iterable[Finding]:
    if seen.skew is not None and abs(seen.skew) > _MOST_SKEW:
        yield Finding(
            grade=Grade.ERROR if abs(seen.skew) > limits.DEDUPLICATION_WINDOW else Grade.WARNING,
            what=f"this machine's clock is {seen.skew:+.0f} s off",
            why="AWS refuses signatures that are five minutes off, and leases are reckoned by this clock",
            cure="turn on NTP (chrony, systemd-timesyncd)",
        )
    if seen.round_trip is not None:
        grade = Grade.WARNING if seen.round_trip > _LONG_ROUND_TRIP else Grade.OK
        yield Finding(
            grade=grade,
            what=f"a request takes {seen.round_trip * 1000:.0f} ms",
            why="the queue is far away; every task waits for several requests" if grade is Grade.WARNING else "",
            cure="run workers in the queue's region, with a VPC endpoint" if grade is Grade.WARNING else "",
        )


def judge_tasks(application: Application) -> Iterable[Finding]:
    """What can be wrong with the tasks, wherever the queue is."""
    for name, timeout in application.timeouts.items():
        if timeout > limits.MAX_VISIBILITY - application.lease:
            yield Finding(
                grade=Grade.WARNING,
                what=f"task {name!r} may run for {timeout:,.0f} s",
                why="SQS holds a message for 12 hours at most, whatever is asked for: near that, it may run twice",
                cure=f"@app.task({name!r}, timeout=…), or cut it into smaller tasks",
            )
    if application.folds and not application.has_ledger:
        yield Finding(
            grade=Grade.ERROR,
            what="on_complete is declared and there is no ledger",
            why="only a ledger knows that all tasks are done; workers refuse to start",
            cure="FANFOLD_LEDGER=sqlite:///…",
        )


def _kept(queue: Mapping[str, str], cure: str, what: str) -> Iterable[Finding]:
    kept = int(queue.get("MessageRetentionPeriod", 0))
    if 0 < kept < _SHORTEST_RETENTION:
        yield Finding(
            grade=Grade.WARNING,
            what=f"the {what} keeps messages for {kept / DAY:.1f} days",
            why="what isn't worked on by then is lost, over a long weekend for instance",
            cure=cure,
        )


def _encrypted(queue: Mapping[str, str], cure: str, what: str) -> Iterable[Finding]:
    if queue.get("SqsManagedSseEnabled") != "true" and not queue.get("KmsMasterKeyId"):
        yield Finding(
            grade=Grade.WARNING,
            what=f"the {what} isn't encrypted",
            why="messages lie on AWS's disks as text",
            cure=cure,
        )


def _ok(what: str) -> Finding:
    return Finding(grade=Grade.OK, what=what)
