"""Asking a set-up what `doctor` wants to know. Nothing is changed: what is probed with is refused by its own fault."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.request import Request, urlopen

from fanfold.brokers.boto import endpoint_of, make_session
from fanfold.deploy.doctor import Seen
from fanfold.deploy.provision import Call
from fanfold.errors import BrokerError, PermissionMissingError, QueueNotFoundError

_NO_HANDLE: Final = "fanfold-doctor"
_PROBES: Final[Mapping[str, Mapping[str, Any]]] = {
    # A handle that is none, and a message that no queue takes: denied before they are looked at, or refused after.
    "DeleteMessage": {"ReceiptHandle": _NO_HANDLE},
    "ChangeMessageVisibility": {"ReceiptHandle": _NO_HANDLE, "VisibilityTimeout": 0},
    "SendMessage": {"MessageBody": "\x00"},
}


async def look(transport: Call, queue_url: str, dlq_url: str | None, *, key_kind: str | None) -> Seen:
    """Ask SQS. What is denied is a finding; raises BrokerError where the queue can't be asked at all."""
    denied: list[str] = []
    started = time.perf_counter()
    queue = await _attributes(transport, queue_url, denied)
    round_trip = time.perf_counter() - started
    for action, payload in _PROBES.items():
        denied += await _probe(transport, action, {"QueueUrl": queue_url, **payload})
    dlq = await _attributes(transport, dlq_url, denied) if dlq_url is not None else None
    if dlq_url is not None:
        denied += await _probe(transport, "SendMessage", {"QueueUrl": dlq_url, **_PROBES["SendMessage"]})
    return Seen(
        queue_url=queue_url,
        queue=queue,
        dlq=dlq,
        dlq_known=dlq_url is not None,
        denied=sorted(set(denied)),
        skew=_skew(queue_url),
        round_trip=round_trip,
        key_kind=key_kind,
    )


def key_kind(queue_url: str, region: str | None) -> str | None:
    """Whether the access key that botocore finds is a user's long-lived one (AKIA…) or of a role's session (ASIA…)."""
    found = make_session(queue_url, region=region).get_credentials()
    return kind_of(found.access_key) if found is not None else None


def kind_of(access_key: str | None) -> str | None:
    """The kind of an access key, told from its id."""
    if not access_key:
        return None
    return "long-lived" if access_key.startswith("AKIA") else "role"


async def _attributes(transport: Call, url: str, denied: list[str]) -> dict[str, str] | None:
    try:
        answer = await transport.call("GetQueueAttributes", {"QueueUrl": url, "AttributeNames": ["All"]})
    except PermissionMissingError as error:
        denied.append(error.action)
        return None
    return dict(answer.get("Attributes") or {})


async def _probe(transport: Call, action: str, payload: Mapping[str, Any]) -> list[str]:
    try:
        await transport.call(action, payload)
    except PermissionMissingError as error:
        return [error.action]
    except QueueNotFoundError:
        raise
    except BrokerError:
        return []  # refused for its own fault: so it was allowed
    return []


def _skew(queue_url: str) -> float | None:
    """Seconds by which this machine's clock is ahead of the endpoint's, from the date in an answer."""
    address = endpoint_of(queue_url) or queue_url.rsplit("/", 2)[0]
    try:
        with urlopen(Request(address, method="HEAD"), timeout=5) as answer:  # noqa: S310 - an http(s) URL, checked
            date = answer.headers.get("Date")
    except OSError as error:
        date = getattr(error, "headers", {}).get("Date") if hasattr(error, "headers") else None
    return time.time() - email.utils.parsedate_to_datetime(date).timestamp() if date else None
