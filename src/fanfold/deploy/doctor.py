"""`fanfold doctor`: what is wrong with a set-up, why it matters, and what cures it. Judged here, asked in `probes`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from fanfold import limits
from fanfold.deploy.description import DAY
from fanfold.deploy.findings import Application, Finding, Seen, error, fine, warning

_LONG_ROUND_TRIP: Final = 0.1
_MOST_SKEW: Final = 60.0
_REFUSED_SKEW: Final = 300.0
_SHORTEST_RETENTION: Final = 4 * DAY
_LONGEST_VISIBILITY: Final = 3_600
_SHORTEST_LEASE: Final = 10.0
_LONGEST_LEASE: Final = 900.0
_UNITS: Final = (("day", DAY), ("hour", 3_600), ("minute", 60), ("second", 1))


def judge(seen: Seen, application: Application) -> list[Finding]:
    """All findings about a set-up on SQS, in the order of the looking."""
    found: list[Finding] = []
    if seen.queue is not None:
        found += _queue(seen, seen.queue)
        found += _redrive(seen, seen.queue, application)
    found += _dead_letters(seen)
    found += _access(seen)
    found += _line(seen)
    return [*found, *judge_tasks(application)]


def judge_tasks(application: Application) -> Iterator[Finding]:
    """What can be wrong with the application, wherever its queue is."""
    yield _lease(application)
    yield from _timeouts(application)
    if application.folds and not application.has_ledger:
        yield error(
            "completions",
            "on_complete is declared and there is no ledger",
            why="only a ledger knows that all tasks are done; workers refuse to start",
            cure="FANFOLD_LEDGER=dynamodb://TABLE, postgresql://USER@HOST/DATABASE; on one machine sqlite:///ledger.db",
        )


def _queue(seen: Seen, queue: Mapping[str, str]) -> Iterator[Finding]:
    yield fine("fifo", f"{seen.name} is FIFO")
    yield _throughput(seen, queue)
    yield _visibility(seen, queue)
    yield _kept("retention", seen.name, queue, cure=seen.provision("--retention 14"))
    yield _encrypted("encryption", seen.name, queue, cure=seen.provision("--encryption sse-sqs"))


def _throughput(seen: Seen, queue: Mapping[str, str]) -> Finding:
    by_group = queue.get("DeduplicationScope") == "messageGroup"
    if by_group and queue.get("FifoThroughputLimit") == "perMessageGroupId":
        return fine("throughput", "high throughput is on: deduplication and limits are by message group")
    return warning(
        "throughput",
        f"high throughput is off: DeduplicationScope is {queue.get('DeduplicationScope', 'queue')}, "
        f"FifoThroughputLimit {queue.get('FifoThroughputLimit', 'perQueue')}",
        why="the whole queue is held to 300 requests a second of each kind",
        cure=seen.provision("--high-throughput"),
    )


def _visibility(seen: Seen, queue: Mapping[str, str]) -> Finding:
    seconds = int(queue.get("VisibilityTimeout", 30))
    if 0 < seconds <= _LONGEST_VISIBILITY:
        return fine("visibility", f"{seen.name} hides a received message for {seconds} s; workers set their own lease")
    return warning(
        "visibility",
        f"the visibility timeout of {seen.name} is {seconds:,} s",
        why="Fanfold's workers set their own, but whoever else receives (the console, a script) "
        + ("gets messages that others get, too" if not seconds else "holds a task for that long after a crash"),
        cure=seen.provision("--visibility 60"),
    )


def attempts_against(name: str, count: int | None, application: Application, cure: Callable[..., str]) -> Finding:
    """Whether a queue's maxReceiveCount (None: it has no redrive policy) leaves tasks their attempts.

    `cure` makes the command that provisions the queue, with options.
    """
    most = application.most_attempts
    if count is None:
        return warning(
            "redrive",
            f"{name} has no redrive policy",
            why="a task that kills its worker each time would come back for ever",
            cure=cure(),
        )
    if count <= most:
        return error(
            "redrive",
            f"maxReceiveCount {count} isn't above max_attempts {most}",
            why="SQS would set tasks aside, without a reason, before their attempts are spent",
            cure=cure(f"--max-attempts {most}", f"--max-receive-count {min(1_000, max(100, 10 * most))}"),
        )
    return fine("redrive", f"maxReceiveCount {count} is above max_attempts {most}")


def _redrive(seen: Seen, queue: Mapping[str, str], application: Application) -> Iterator[Finding]:
    policy: Mapping[str, Any] = json.loads(queue.get("RedrivePolicy") or "{}")
    target = str(policy.get("deadLetterTargetArn", ""))
    yield attempts_against(
        seen.name, int(policy.get("maxReceiveCount", 0)) if target else None, application, seen.provision
    )
    if target and seen.dlq_url is not None and target.rsplit(":", 1)[-1] != seen.dlq_name:
        yield warning(
            "redrive.target",
            f"SQS sets aside in {target.rsplit(':', 1)[-1]}, Fanfold in {seen.dlq_name}",
            why="dead letters are in two places, and `fanfold dlq` shows one",
            cure=seen.provision(),
        )


def _dead_letters(seen: Seen) -> Iterator[Finding]:
    if seen.dlq_url is None or seen.dlq_gone:
        policy: Mapping[str, Any] = json.loads((seen.queue or {}).get("RedrivePolicy") or "{}")
        named = seen.dlq_url or str(policy.get("deadLetterTargetArn", ""))
        yield error(
            "dlq",
            f"the dead letter queue {named} isn't there, or nobody here may ask for it"
            if named
            else "no dead letter queue is known",
            why="what is hopeless is left to the queue: it comes back until it is kept no longer, and then is lost",
            cure=f"{seen.provision()}; or SQS_DLQ_URL",
        )
    if seen.dlq is None:
        return
    if seen.dlq.get("FifoQueue") != "true":
        yield error(
            "dlq",
            f"the dead letter queue {seen.dlq_name} isn't FIFO",
            why="SQS refuses it for a FIFO queue, so crash loops would never end",
            cure=f"name another, which ends in .fifo: {seen.provision()}",
        )
        return
    yield fine("dlq", f"the dead letter queue {seen.dlq_name} is FIFO")
    yield _kept("dlq.retention", seen.dlq_name, seen.dlq, cure=seen.provision())
    yield _encrypted("dlq.encryption", seen.dlq_name, seen.dlq, cure=seen.provision())
    yield _allowed(seen, seen.dlq)


def _allowed(seen: Seen, dlq: Mapping[str, str]) -> Finding:
    allow: Mapping[str, Any] = json.loads(dlq.get("RedriveAllowPolicy") or "{}")
    permission, sources = allow.get("redrivePermission", "allowAll"), allow.get("sourceQueueArns", ())
    ours = (seen.queue or {}).get("QueueArn")
    if permission == "denyAll" or (permission == "byQueue" and ours is not None and ours not in sources):
        return error(
            "dlq.allow",
            f"{seen.dlq_name} doesn't let {seen.name} set messages aside in it (RedriveAllowPolicy)",
            why="SQS can't move what crashes its workers, so it comes back for ever",
            cure=seen.provision(),
        )
    return fine("dlq.allow", f"{seen.dlq_name} takes what {seen.name} sets aside")


def _access(seen: Seen) -> Iterator[Finding]:
    for denial in seen.denied:
        yield error(
            "permission",
            f"{denial.action} on {denial.queue} is denied",
            why=f"a {seen.role} can't do without it",
            cure=f"fanfold template iam {seen.name} --dlq-name {seen.dlq_name} --role {seen.role} "
            f"--region {seen.region or 'REGION'} --account {seen.account}" + _with_key(seen),
        )
    if not seen.denied:
        yield fine("permission", f"no permission that a {seen.role} needs is denied")
    if seen.key_kind == "long-lived":
        yield warning(
            "keys",
            "long-lived access keys are in use",
            why="they leak and don't expire; a role's credentials last for hours",
            cure="run with a role (ECS task role, IRSA, instance profile), or `aws sso login`",
        )
    elif seen.key_kind is not None:
        yield fine("keys", "the credentials are a role's, and expire")


def _with_key(seen: Seen) -> str:
    key = (seen.queue or {}).get("KmsMasterKeyId", "")
    return f" --encryption {key}" if key else ""


def _line(seen: Seen) -> Iterator[Finding]:
    if seen.skew is not None:
        yield _clock(seen.skew)
    if seen.round_trip is not None:
        yield _distance(seen.round_trip)


def _clock(skew: float) -> Finding:
    if abs(skew) <= _MOST_SKEW:
        return fine("clock", f"this machine's clock is within {_MOST_SKEW:.0f} s of the queue's")
    return (error if abs(skew) > _REFUSED_SKEW else warning)(
        "clock",
        f"this machine's clock is {abs(skew):,.0f} s {'ahead' if skew > 0 else 'behind'}",
        why="AWS refuses signatures that are five minutes off, and leases are reckoned by this clock",
        cure="turn on NTP: chrony, or systemctl enable --now systemd-timesyncd",
    )


def _distance(round_trip: float) -> Finding:
    what = f"a request takes {round_trip * 1_000:.0f} ms"
    if round_trip <= _LONG_ROUND_TRIP:
        return fine("round-trip", what)
    return warning(
        "round-trip",
        what,
        why="the queue is far away, and every task waits for several requests",
        cure="run workers in the queue's region, with a VPC endpoint (com.amazonaws.REGION.sqs)",
    )


def _lease(application: Application) -> Finding:
    lease = application.lease
    if _SHORTEST_LEASE <= lease <= _LONGEST_LEASE:
        return fine("lease", f"a crashed worker's tasks are back after {lease:g} s (the lease)")
    short = lease < _SHORTEST_LEASE
    return warning(
        "lease",
        f"the lease is {lease:g} s",
        why="a lost packet or a paused machine is enough for a task to run twice"
        if short
        else "a crashed worker's tasks are back only after that",
        cure="FANFOLD_LEASE=60",
    )


def _timeouts(application: Application) -> Iterator[Finding]:
    most = limits.MAX_VISIBILITY - application.lease
    long = {name: timeout for name, timeout in application.timeouts.items() if timeout > most}
    for name, timeout in long.items():
        yield warning(
            "timeout",
            f"task {name!r} may run for {timeout:,.0f} s",
            why="SQS holds a message for 12 hours at most, whatever is asked for: near that, it runs a second time",
            cure=f"@app.task({name!r}, timeout=…) below {most:,.0f} s, or cut it into smaller tasks",
        )
    if application.timeouts and not long:
        yield fine("timeout", f"all {len(application.timeouts)} tasks' timeouts are within SQS's 12 hours")


def _kept(check: str, name: str, queue: Mapping[str, str], *, cure: str) -> Finding:
    kept = int(queue.get("MessageRetentionPeriod", _SHORTEST_RETENTION))
    what = f"{name} keeps messages for {_duration(kept)}"
    if kept >= _SHORTEST_RETENTION:
        return fine(check, what)
    return warning(check, what, why="what isn't seen to by then is lost, over a long weekend for instance", cure=cure)


def _duration(seconds: int) -> str:
    """A time as people say it."""
    unit, size = next((unit, size) for unit, size in _UNITS if seconds >= size or size == 1)
    return f"{seconds / size:,.3g} {unit}{'' if seconds == size else 's'}"


def _encrypted(check: str, name: str, queue: Mapping[str, str], *, cure: str) -> Finding:
    if queue.get("SqsManagedSseEnabled") == "true" or queue.get("KmsMasterKeyId"):
        return fine(check, f"{name} is encrypted")
    return warning(check, f"{name} isn't encrypted", why="messages lie on AWS's disks as text", cure=cure)
