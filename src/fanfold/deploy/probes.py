"""Asking a set-up what `doctor` wants to know. Nothing is changed: what is probed with is refused by its own fault."""

from __future__ import annotations

import email.utils
import ssl
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.error import URLError
from urllib.request import Request, urlopen

from fanfold.brokers.boto import endpoint_of, make_session, region_of
from fanfold.brokers.route import Route, find_route
from fanfold.deploy.findings import Denial, Seen
from fanfold.deploy.provision import Call
from fanfold.deploy.roles import GRANTS
from fanfold.errors import BrokerError, PermissionMissingError, QueueNotFoundError

_NO_HANDLE: Final = "fanfold-doctor"
_LOOKS: Final = 3
_PATIENCE: Final = 5.0
_PROBES: Final[Mapping[str, Mapping[str, Any]]] = {
    # A handle that is none, a message that no queue takes and no group has, and a receive of nothing.
    "DeleteMessage": {"ReceiptHandle": _NO_HANDLE},
    "ChangeMessageVisibility": {"ReceiptHandle": _NO_HANDLE, "VisibilityTimeout": 0},
    "SendMessage": {"MessageBody": "\x00"},
    "ReceiveMessage": {"MaxNumberOfMessages": 0},
}
"""What SQS refuses after it has looked at the rights: by then it has said whether they are there."""


async def look(
    transport: Call,
    queue_url: str,
    dlq_url: str | None,
    *,
    region: str | None = None,
    role: str = "worker",
    timer: Callable[[], float] = time.perf_counter,
) -> Seen:
    """Ask SQS about the queues, and about the rights that a role needs.

    Raises:
        BrokerError: the queue can't be asked at all. What is denied is a finding.
    """
    grants = GRANTS[role]
    denied = await _denied(transport, queue_url, grants.queue)
    queue = await _attributes(transport, queue_url, denied)
    trips = [await _round_trip(transport, queue_url, timer) for _ in range(_LOOKS)] if queue is not None else []
    dlq, gone = None, False
    if dlq_url is not None:
        try:
            denied += await _denied(transport, dlq_url, grants.dlq)
            dlq = await _attributes(transport, dlq_url, denied if "GetQueueAttributes" in grants.dlq else [])
        except QueueNotFoundError:
            gone = True
    return Seen(
        queue_url=queue_url,
        region=region or "",
        endpoint=endpoint_used(queue_url),
        role=role,
        queue=queue,
        dlq_url=dlq_url,
        dlq=dlq,
        dlq_gone=gone,
        denied=denied,
        round_trip=statistics.median(trips) if trips else None,
    )


def key_kind(queue_url: str, region: str | None) -> str | None:
    """Whether the access key that botocore finds is a user's long-lived one or of a role's session; None: none."""
    found = make_session(queue_url, region=region).get_credentials()
    return kind_of(found.access_key) if found is not None else None


def kind_of(access_key: str | None) -> str | None:
    """The kind of an access key, told from its id: AKIA… is a user's, ASIA… a session's; others aren't AWS's."""
    kinds = {"AKIA": "long-lived", "ASIA": "role"}
    return kinds.get(access_key[:4]) if access_key else None


def endpoint_used(queue_url: str) -> str:
    """What speaks SQS instead of AWS at a queue's URL; empty on AWS."""
    return "" if region_of(queue_url) is not None else endpoint_of(queue_url) or ""


def region_used(queue_url: str, region: str | None) -> str | None:
    """The region in which the queue is looked for."""
    found = make_session(queue_url, region=region).get_config_variable("region")
    return str(found) if found else None


def clock_skew(queue_url: str, region: str | None, *, now: Callable[[], float] = time.time) -> float | None:
    """Seconds by which this machine's clock is ahead of the queue's; None where nobody answers.

    The date of an answer to a request without a signature, which no clock can spoil.
    """
    route = find_route(queue_url, region=region)
    started = now()
    date = _date(route)
    # Dates are whole seconds, and the answer was on its way for about half of the time.
    return (started + now()) / 2 - date - 0.5 if date is not None else None


def _date(route: Route) -> float | None:
    address = f"{'https' if route.tls else 'http'}://{route.authority}{route.path}"
    context = ssl.create_default_context(cafile=route.authorities) if route.tls else None
    try:
        with urlopen(Request(address, method="HEAD"), timeout=_PATIENCE, context=context) as answer:  # noqa: S310 - http
            headers = answer.headers
    except URLError as error:
        headers = getattr(error, "headers", None) or {}  # a refusal has a date, too
    except OSError:
        return None
    date = headers.get("Date")
    return email.utils.parsedate_to_datetime(date).timestamp() if date else None


async def _denied(transport: Call, queue_url: str, actions: Sequence[str]) -> list[Denial]:
    found: list[Denial] = []
    for action in actions:
        if action in _PROBES:
            found += await _probe(transport, action, {"QueueUrl": queue_url, **_PROBES[action]}, queue_url)
        elif action == "GetQueueUrl":
            found += await _probe(transport, action, {"QueueName": _name(queue_url)}, queue_url)
    return found


async def _attributes(transport: Call, url: str, denied: list[Denial]) -> dict[str, str] | None:
    try:
        answer = await transport.call("GetQueueAttributes", {"QueueUrl": url, "AttributeNames": ["All"]})
    except PermissionMissingError as error:
        denied.append(Denial(action=error.action, queue=_name(url)))
        return None
    return dict(answer.get("Attributes") or {})


async def _probe(transport: Call, action: str, payload: Mapping[str, Any], url: str) -> list[Denial]:
    try:
        await transport.call(action, payload)
    except PermissionMissingError as error:
        return [Denial(action=error.action, queue=_name(url))]
    except QueueNotFoundError:
        raise
    except BrokerError as error:
        if error.transient:
            raise
    return []  # refused for its own fault: so it was allowed


async def _round_trip(transport: Call, queue_url: str, timer: Callable[[], float]) -> float:
    started = timer()
    await transport.call("GetQueueAttributes", {"QueueUrl": queue_url, "AttributeNames": ["QueueArn"]})
    return timer() - started


def _name(queue_url: str) -> str:
    return queue_url.rsplit("/", 1)[-1]
