"""The broker on Amazon SQS FIFO."""

from __future__ import annotations

import asyncio
import json
import math
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from fanfold import ids, limits
from fanfold.brokers import received
from fanfold.brokers.batches import Answer, Batches, Entry
from fanfold.brokers.boto import BotoTransport
from fanfold.brokers.browsing import browsed
from fanfold.brokers.burial import burial_copy, letter_of, refusal
from fanfold.brokers.protocol import Burial
from fanfold.clock import Clock, SystemClock
from fanfold.errors import (
    ConfigurationError,
    NoDeadLetterQueueError,
    NotFifoError,
    PermissionMissingError,
    QueueNotFoundError,
)
from fanfold.model import DeadLetter, Delivery, EntryError, Message, QueueStatus, SendResult
from fanfold.telemetry import Telemetry

_UNWRITABLE: Final = (QueueNotFoundError.__name__, PermissionMissingError.__name__)
"""Errors about the dead letter queue itself, not about an entry or a moment."""
_DLQ_ARN: Final = re.compile(r"arn:[^:]+:sqs:[^:]*:(?P<account>[^:]+):(?P<name>[^:]+)")
_RETENTION: Final = 345_600.0
"""SQS's default, where the queue can't be looked at."""
_SYSTEM_ATTRIBUTES: Final = (
    "ApproximateReceiveCount", "MessageDeduplicationId", "MessageGroupId", "SentTimestamp"
)  # fmt: skip
"""Those that a delivery has: the others would only make answers longer."""
_COUNTS: Final = {
    "messages_available": "ApproximateNumberOfMessages",
    "messages_in_flight": "ApproximateNumberOfMessagesNotVisible",
    "messages_delayed": "ApproximateNumberOfMessagesDelayed",
}


class Transport(Protocol):
    """How requests are made: `LeanTransport`, `BotoTransport`, or anything else that speaks the SQS API."""

    async def call(self, action: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Make one request. Raises BrokerError."""

    def close(self) -> None:
        """Let go of connections and threads."""


class _Shared:
    """Another broker's way of making requests, which stays its own."""

    def __init__(self, broker: SqsBroker) -> None:
        self._broker = broker

    async def call(self, action: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Make one request."""
        return await self._broker.call(action, payload)

    def close(self) -> None:
        """Nothing: it isn't ours."""


class SqsBroker:
    """A `Broker` on SQS. Every request goes through one function, `call(action, payload) -> answer`.

    1. Entries go in requests of ten, several at once; every entry's answer is found by its id.
    2. What failed for a passing reason is sent again with the same deduplication id, so that nothing is doubled.
    3. A permission that is missing is reported once and costs what it must, no more.
    """

    batch = limits.MAX_BATCH_ENTRIES
    linger = 0.02

    def __init__(
        self,
        url: str,
        *,
        dlq_url: str | None = None,
        region: str | None = None,
        client: Any = None,
        transport: Transport | None = None,
        telemetry: Telemetry | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """Nothing is requested before `open`.

        Args:
            url: the queue's URL.
            dlq_url: the dead letter queue's; None: the one that the redrive policy names.
            region: None: the one that the URL names, else the one that botocore finds.
            client: a boto3 SQS client to make requests with, in threads; None: the lean transport makes them.
            transport: takes the place of both.
            telemetry: told of missing permissions.
            clock: for waits between tries and the time in signatures.
            rng: for the waits' jitter.

        Raises:
            ConfigurationError: not a queue's URL.
            NotFifoError: the queue's name doesn't end in `.fifo`.
        """
        _check_url(url)
        if dlq_url is not None:
            _check_url(dlq_url)
        self.url = url
        self.dlq_url = dlq_url
        self._region = region
        self._client = client
        self._given_transport = transport
        self._transport: Transport | None = transport
        self._telemetry = telemetry or Telemetry()
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()  # noqa: S311 - jitter
        self._batches = Batches(self.call, clock=self._clock, rng=self._rng)
        self._warned: set[tuple[str, str]] = set()
        self._checked = False
        self.retention = _RETENTION

    async def call(self, action: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Make one request of the SQS API. Raises BrokerError."""
        transport = self._transport = self._transport or self._new_transport()
        try:
            return await transport.call(action, payload)
        except PermissionMissingError as error:
            self._warn_once("permission.missing", error.action, str(error))
            raise

    async def open(self) -> None:
        """Check that the queue is there and FIFO, and find its dead letter queue. Idempotent."""
        if self._checked:
            return
        try:
            answer = await self.call("GetQueueAttributes", {"QueueUrl": self.url, "AttributeNames": ["All"]})
        except PermissionMissingError:
            answer = {}  # the queue can be worked on without having been looked at
        attributes = answer.get("Attributes") or {}
        if attributes and attributes.get("FifoQueue") != "true":
            raise NotFifoError(
                f"queue {self.url} isn't FIFO; create one with FifoQueue=true and a name ending in .fifo"
            )
        self.retention = float(attributes.get("MessageRetentionPeriod", _RETENTION))
        if self.dlq_url is None:
            self.dlq_url = await self._find_dlq(attributes.get("RedrivePolicy"))
        self._checked = True

    async def close(self) -> None:
        """Let go of threads and connections. Idempotent; a later use takes them up again."""
        self._checked = False
        transport, self._transport = self._transport, self._given_transport
        if transport is not None:
            await asyncio.to_thread(transport.close)

    async def send(self, messages: Sequence[Message]) -> list[SendResult]:
        """Send in requests of ten."""
        return await self._send(self.url, messages)

    async def receive(self, limit: int, *, wait: float, lease: float) -> list[Delivery]:
        """Receive up to ten messages."""
        payload = {
            "QueueUrl": self.url,
            "MaxNumberOfMessages": min(limit, limits.MAX_BATCH_ENTRIES),
            "WaitTimeSeconds": min(math.ceil(wait), limits.MAX_WAIT),
            "VisibilityTimeout": max(1, math.ceil(lease)),
            "MessageAttributeNames": ["All"],
            "MessageSystemAttributeNames": _SYSTEM_ATTRIBUTES,
            # The transport's own retry of a lost answer gets the same messages back, and no lease time is lost.
            "ReceiveRequestAttemptId": ids.random_uuid(),
        }
        answer = await self.call("ReceiveMessage", payload)
        now = self._clock.now()
        return [received.delivery(message, now) for message in answer.get("Messages") or ()]

    def end_polls(self) -> None:
        """Nothing: a receive that was given up could have taken messages that nobody would hear of."""

    async def extend(self, deliveries: Sequence[Delivery], seconds: Sequence[float]) -> list[EntryError | None]:
        """Change visibility timeouts in requests of ten, in whole seconds, rounded up."""
        entries = [
            _lease_entry(delivery, self._visibility(delivery, wanted))
            for delivery, wanted in zip(deliveries, seconds, strict=True)
        ]
        return _errors(await self._batches.run("ChangeMessageVisibilityBatch", self.url, entries))

    async def delete(self, deliveries: Sequence[Delivery]) -> list[EntryError | None]:
        """Delete in requests of ten."""
        entries = [Entry(fields={"ReceiptHandle": delivery.receipt_handle}) for delivery in deliveries]
        return _errors(await self._batches.run("DeleteMessageBatch", self.url, entries))

    async def dead_letter(self, burials: Sequence[Burial]) -> list[EntryError | None]:
        """Send copies to the dead letter queue, then delete the originals of those that it accepted."""
        if not burials:
            return []
        errors = await self._copy(burials)
        copied = [b.delivery for b, error in zip(burials, errors, strict=True) if error is None]
        deleted = iter(await self.delete(copied))
        return [error if error is not None else next(deleted) for error in errors]

    async def dead_letters(self, limit: int, *, hold: float = 0.0) -> list[DeadLetter]:
        """Receive from the dead letter queue until it is empty or `limit` is reached, then give back.

        Raises:
            NoDeadLetterQueueError: none is known.
        """
        return [letter_of(delivery) for delivery in await browsed(self.dead_letter_queue(), limit, hold=hold)]

    def dead_letter_queue(self) -> SqsBroker:
        """The dead letter queue, over the same transport. Raises NoDeadLetterQueueError."""
        if self.dlq_url is None:
            raise self._no_dead_letter_queue()
        return SqsBroker(
            self.dlq_url, transport=_Shared(self), telemetry=self._telemetry, clock=self._clock, rng=self._rng
        )

    async def peek(self, limit: int, *, after: Delivery | None = None) -> None:
        """Nothing: SQS shows messages only to whoever receives them."""

    async def move_dead_letters(self) -> bool:
        """Start a message move task, to this queue: copies that were sent know no queue that they came from."""
        try:
            source, destination = [await self._arn(url) for url in (self.dead_letter_queue().url, self.url)]
            await self.call("StartMessageMoveTask", {"SourceArn": source, "DestinationArn": destination})
        except PermissionMissingError:
            return False
        return True

    async def dead_letter_count(self) -> int:
        """Count the dead letter queue's messages, approximately. Raises NoDeadLetterQueueError."""
        if self.dlq_url is None:
            raise self._no_dead_letter_queue()
        counts = await self._counts(self.dlq_url)
        return counts.messages_available + counts.messages_in_flight

    async def status(self) -> QueueStatus:
        """Count, approximately."""
        return await self._counts(self.url)

    async def _counts(self, url: str) -> QueueStatus:
        payload = {"QueueUrl": url, "AttributeNames": list(_COUNTS.values())}
        attributes = (await self.call("GetQueueAttributes", payload)).get("Attributes") or {}
        return QueueStatus(**{name: int(attributes.get(attribute, 0)) for name, attribute in _COUNTS.items()})

    def _new_transport(self) -> Transport:
        if self._client is not None:
            return BotoTransport(self._client)
        from fanfold.brokers.lean import LeanTransport  # noqa: PLC0415 - its parser is for those who use it

        return LeanTransport(self.url, region=self._region, clock=self._clock, rng=self._rng)

    async def _find_dlq(self, policy: str | None) -> str | None:
        target = _DLQ_ARN.fullmatch(str(json.loads(policy or "{}").get("deadLetterTargetArn", "")))
        if target is None:
            return None
        # The account too: by name alone, SQS looks in the account of whoever asks.
        payload = {"QueueName": target["name"], "QueueOwnerAWSAccountId": target["account"]}
        try:
            return str((await self.call("GetQueueUrl", payload))["QueueUrl"])
        except (PermissionMissingError, QueueNotFoundError):
            return None  # whoever wants to bury something is told then

    async def _send(self, url: str, messages: Sequence[Message]) -> list[SendResult]:
        # SQS refuses a whole request for some faults of one entry, which the others must not pay for.
        refused = [refusal(message) for message in messages]
        entries = [_send_entry(m) for m, error in zip(messages, refused, strict=True) if error is None]
        answers = iter(await self._batches.run("SendMessageBatch", url, entries))
        return [_sent(next(answers)) if error is None else SendResult(error=error) for error in refused]

    async def _arn(self, url: str) -> str:
        answer = await self.call("GetQueueAttributes", {"QueueUrl": url, "AttributeNames": ["QueueArn"]})
        return str(answer["Attributes"]["QueueArn"])

    async def _copy(self, burials: Sequence[Burial]) -> list[EntryError | None]:
        if self.dlq_url is None:
            none = EntryError(code="NoDeadLetterQueue", text=str(self._no_dead_letter_queue()))
            self._warn_once("dead_letter.unavailable", "dead_letter", none.text)
            return [none] * len(burials)
        errors = [result.error for result in await self._send(self.dlq_url, [burial_copy(b) for b in burials])]
        for error in errors:
            if error is not None and error.code in _UNWRITABLE:
                self._warn_once("dead_letter.unavailable", "dead_letter", error.text)
        return errors

    def _no_dead_letter_queue(self) -> NoDeadLetterQueueError:
        return NoDeadLetterQueueError(
            f"no dead letter queue is known for {self.url}: set the queue's redrive policy, or name it with dlq_url= "
            "(SQS_DLQ_URL). Until then what is hopeless is left to the queue"
        )

    def _visibility(self, delivery: Delivery, seconds: float) -> int:
        left = limits.MAX_VISIBILITY - (self._clock.now() - delivery.received_at)
        return max(0, min(math.ceil(seconds), int(left)))

    def _warn_once(self, event: str, action: str, reason: str) -> None:
        if (event, action) not in self._warned:
            self._warned.add((event, action))
            self._telemetry.emit(event, queue=self.url, action=action, reason=reason)


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    name = parts.path.rsplit("/", 1)[-1]
    if parts.scheme not in ("http", "https") or not parts.hostname or not name:
        raise ConfigurationError(f"queue URL {url!r}: write https://sqs.REGION.amazonaws.com/ACCOUNT/NAME.fifo")
    if not name.endswith(".fifo"):
        raise NotFifoError(f"queue URL {url!r}: {name!r} is not a FIFO queue; the name of one ends in .fifo")


def _send_entry(message: Message) -> Entry:
    fields = {
        "MessageBody": message.body,
        "MessageGroupId": message.group_id,
        "MessageDeduplicationId": message.deduplication_id,
        "MessageAttributes": {
            name: {"DataType": "String", "StringValue": value} for name, value in message.attributes.items()
        },
    }
    return Entry(fields=fields, size=message.size, group=message.group_id)


def _lease_entry(delivery: Delivery, seconds: int) -> Entry:
    return Entry(fields={"ReceiptHandle": delivery.receipt_handle, "VisibilityTimeout": seconds})


def _sent(answer: Answer) -> SendResult:
    return SendResult(error=answer) if isinstance(answer, EntryError) else SendResult(message_id=answer["MessageId"])


def _errors(answers: Sequence[Answer]) -> list[EntryError | None]:
    return [answer if isinstance(answer, EntryError) else None for answer in answers]
