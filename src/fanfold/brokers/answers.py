"""What an HTTP answer of SQS means: what was asked for, or a fault. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any, Final

import msgspec

from fanfold.brokers import faults, received
from fanfold.brokers.connections import Reply
from fanfold.errors import BrokerError, BrokerUnavailableError, CredentialsError

_REDIRECTS: Final = 300
_ERRORS: Final = 400
_TOO_MANY: Final = 429
_PASSING_STATUSES: Final = (500, 502, 503, 504)
_PASSING_CODES: Final = ("RequestTimeout", "RequestTimeoutException", "PriorRequestNotComplete")
_THROTTLED_CODES: Final = (
    "BandwidthLimitExceeded",
    "LimitExceededException",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "SlowDown",
    "TooManyRequestsException",
    "TransactionInProgressException",
)
_SKEW_CODES: Final = (
    "AuthFailure",
    "InvalidSignatureException",
    "RequestExpired",
    "RequestInTheFuture",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
)
_SKEW: Final = 240.0
"""Seconds between our clock and the server's that make a signature suspect; AWS refuses it at 300 (SQS at 900)."""
_SHOWN: Final = 500
"""Characters of a text that isn't SQS's own: a proxy's error page can be long."""

_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding raises, for strings that aren't UTF-8 and for bottomless nesting, too."""

_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


class Again(Enum):
    """Why a request may succeed when it is made again."""

    PASSING = "the connection was lost, or the server failed"
    THROTTLED = "too many requests"
    SKEWED = "our clock is wrong, and the answer says what time it is"
    REFUSED_KEYS = "the keys were refused, and there may be others by now"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A request that didn't succeed.

    `again` is None where the same request would fail again. `after`: the seconds until then that the server asks for.
    `time`: the server's, in seconds since the epoch, where our clock is what is wrong.
    """

    error: BrokerError
    cause: Exception | None = None
    again: Again | None = None
    after: float | None = None
    time: float | None = None


def meaning(reply: Reply, *, action: str, queue_url: str, at: float) -> dict[str, Any] | Fault:
    """What an answer means to a request that was signed for the time `at` (seconds since the epoch)."""
    if reply.status < _REDIRECTS:
        return _content(reply.body, action, queue_url)
    if reply.status < _ERRORS:
        where = reply.headers.get(b"location", b"").decode("latin-1") or "nowhere"
        told = f"the server redirects to {where} ({reply.status}), which SQS never does; correct the queue's URL"
        return Fault(error=BrokerError(f"{action} on {queue_url}: {told}"))
    code, text = _told(reply)
    error = faults.refused(code, text, status=reply.status, action=action, queue_url=queue_url)
    time = _better_time(reply, code, at)
    again = _again(code, reply.status, error) if time is None else Again.SKEWED
    return Fault(error=error, again=again, after=_after(reply), time=time)


def nothing(error: OSError, *, action: str, queue_url: str) -> Fault:
    """The fault of a request to which there was no answer, or not a whole one."""
    unanswered = faults.unanswered(error, action=action, queue_url=queue_url)
    return Fault(error=unanswered, cause=error, again=Again.PASSING)


def _content(body: bytes, action: str, queue_url: str) -> dict[str, Any] | Fault:
    if not body:
        return {}  # actions that answer with nothing may say so with nothing
    try:
        return received.decode(body) if action == "ReceiveMessage" else _decode(body)
    except _UNREADABLE as error:
        # What was cut short looks like this, too; whether SQS did what it was asked to can't be told.
        garbled = BrokerUnavailableError(f"{action} on {queue_url}: the answer can't be read: {error}")
        return Fault(error=garbled, cause=error, again=Again.PASSING)


def _told(reply: Reply) -> tuple[str, str]:
    try:
        said = _decode(reply.body)
    except _UNREADABLE:
        said = {"message": reply.body.decode("utf-8", "replace")[:_SHOWN]}
    code = str(said.get("__type") or reply.status).partition(":")[0].rpartition("#")[2]
    # The older protocol's name of the error, which SQS sends beside the newer one.
    older, _, _ = reply.headers.get(b"x-amzn-query-error", b"").decode("latin-1").partition(";")
    return older or code, str(said.get("message") or said.get("Message") or "")


def _again(code: str, status: int, error: BrokerError) -> Again | None:
    if "Throttl" in code or code in _THROTTLED_CODES or status == _TOO_MANY:
        return Again.THROTTLED
    if status in _PASSING_STATUSES or code in _PASSING_CODES:
        return Again.PASSING
    return Again.REFUSED_KEYS if isinstance(error, CredentialsError) else None


def _better_time(reply: Reply, code: str, at: float) -> float | None:
    if code not in _SKEW_CODES:
        return None
    try:
        there = parsedate_to_datetime(reply.headers.get(b"date", b"").decode("latin-1")).timestamp()
    except ValueError:
        return None
    return there if abs(there - at) > _SKEW else None


def _after(reply: Reply) -> float | None:
    said = reply.headers.get(b"x-amz-retry-after", b"")
    return int(said) / 1000 if said.isdigit() else None
