"""The broker on Amazon SQS FIFO."""

from __future__ import annotations

import asyncio
import json
import math
import random
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from fanfold import limits
from fanfold.brokers.batches import Answer, batches, error_of_all, reconcile
from fanfold.brokers.boto import BotoTransport, make_client
from fanfold.brokers.burial import burial_copy, letter_of_delivery
from fanfold.brokers.protocol import Burial
from fanfold.clock import Clock, SystemClock
from fanfold.errors import BrokerError, ConfigurationError, NotFifoError, PermissionMissingError, QueueNotFoundError
from fanfold.model import DeadLetter, Delivery, EntryError, Message, QueueStatus, SendResult
from fanfold.telemetry import Telemetry

_AT_ONCE: Final = 8
"""Requests under way at once for one call: a fan-out of 42 is five requests, and takes little longer than one."""
_TRIES: Final = 4
_FIRST_WAIT: Final = 0.1
_LOOK: Final = 30
_COUNTS: Final = {
    "messages_available": "ApproximateNumberOfMessages",
    "messages_in_flight": "ApproximateNumberOfMessagesNotVisible",
    "messages_delayed": "ApproximateNumberOfMessagesDelayed",
}


class Transport(Protocol):
    """How requests are made: `BotoTransport`, or anything else that speaks the SQS API."""

    async def call(self, action: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Make one request. Raises BrokerError."""

    def close(self) -> None:
        """Let go of connections and threads."""


class SqsBroker:
    """A `Broker` on SQS. Every request goes through one function, `call(action, payload) -> answer`.

    1. Entries go in requests of ten, several at once; every entry's answer is found by its id.
    2. What failed for a passing reason is sent again with the same deduplication id, so that nothing is doubled.
    3. A permission that is missing is reported once and costs what it must, no more.
    """

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
            region: None: the one that the URL names, else boto3's.
            client: a boto3 SQS client to use; None: one of our own.
            transport: takes the client's place.
            telemetry: told of missing permissions.
            clock: for waits between tries.
            rng: for their jitter.

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
        self._warned: set[str] = set()
        self._checked = False

    async def call(self, action: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Make one request of the SQS API. Raises BrokerError."""
        if self._transport is None:
            client = self._client or await asyncio.to_thread(make_client, self.url, region=self._region)
            self._transport = BotoTransport(client)
        return await self._transport.call(action, payload)

    async def open(self) -> None:
        """Check that the queue is there and FIFO, and find its dead letter queue. Idempotent."""
        if self._checked:
            return
        try:
            answer = await self.call("GetQueueAttributes", {"QueueUrl": self.url, "AttributeNames": ["All"]})
        except PermissionMissingError as error:
            self._warn(error)
            answer = {}
        attributes = answer.get("Attributes") or {}
        if attributes and attributes.get("FifoQueue") != "true":
            raise NotFifoError(
                f"queue {self.url} isn't FIFO; create one with FifoQueue=true and a name ending in .fifo"
            )
        if self.dlq_url is None:
            self.dlq_url = await self._find_dlq(attributes.get("RedrivePolicy"))
        self._checked = True

    async def close(self) -> None:
        """Let go of threads. Idempotent; a later use takes them up again."""
        self._checked = False
        transport, self._transport = self._transport, self._given_transport
        if transport is not None:
            transport.close()

    async def send(self, messages: Sequence[Message]) -> list[SendResult]:
        """Send in requests of ten."""
        entries = [_send_entry(message) for message in messages]
        sizes = [message.size for message in messages]
        answers = await self._in_batches("SendMessageBatch", self.url, entries, sizes)
        return [
            SendResult(error=answer) if isinstance(answer, EntryError) else SendResult(message_id=answer["MessageId"])
            for answer in answers
        ]

    async def receive(self, limit: int, *, wait: float, lease: float) -> list[Delivery]:
        """Receive up to ten messages."""
        return await self._receive(self.url, limit, wait=wait, lease=lease)

    def end_polls(self) -> None:
        """Nothing: a receive that was given up could have taken messages that nobody would hear of."""

    async def extend(self, deliveries: Sequence[Delivery], seconds: Sequence[float]) -> list[EntryError | None]:
        """Change visibility timeouts in requests of ten, in whole seconds, rounded up."""
        entries = [
            {"ReceiptHandle": delivery.receipt_handle, "VisibilityTimeout": self._visibility(delivery, wanted)}
            for delivery, wanted in zip(deliveries, seconds, strict=True)
        ]
        return _errors(await self._in_batches("ChangeMessageVisibilityBatch", self.url, entries))

    async def delete(self, deliveries: Sequence[Delivery]) -> list[EntryError | None]:
        """Delete in requests of ten."""
        entries = [{"ReceiptHandle": delivery.receipt_handle} for delivery in deliveries]
        return _errors(await self._in_batches("DeleteMessageBatch", self.url, entries))

    async def dead_letter(self, burials: Sequence[Burial]) -> list[EntryError | None]:
        """Send copies to the dead letter queue, then delete the originals of those that it accepted."""
        if not burials:
            return []
        errors = await self._copy(burials)
        copied = [b.delivery for b, error in zip(burials, errors, strict=True) if error is None]
        deleted = iter(await self.delete(copied))
        return [error if error is not None else next(deleted) for error in errors]

    async def dead_letters(self, limit: int, *, hold: float = 0.0) -> list[DeadLetter]:
        """Receive from the dead letter queue until it is empty or `limit` is reached, then give back."""
        if self.dlq_url is None:
            return []
        found: list[Delivery] = []
        while len(found) < limit:
            batch = await self._receive(self.dlq_url, limit - len(found), wait=0, lease=hold or _LOOK)
            if not batch:
                break
            found += batch
        if not hold:
            entries = [{"ReceiptHandle": delivery.receipt_handle, "VisibilityTimeout": 0} for delivery in found]
            await self._in_batches("ChangeMessageVisibilityBatch", self.dlq_url, entries)
        return [letter_of_delivery(delivery) for delivery in found]

    async def status(self) -> QueueStatus:
        """Count, approximately."""
        payload = {"QueueUrl": self.url, "AttributeNames": list(_COUNTS.values())}
        attributes = (await self.call("GetQueueAttributes", payload)).get("Attributes") or {}
        return QueueStatus(**{name: int(attributes.get(attribute, 0)) for name, attribute in _COUNTS.items()})

    async def _find_dlq(self, policy: str | None) -> str | None:
        if policy is None:
            return None
        name = str(json.loads(policy).get("deadLetterTargetArn", "")).rsplit(":", 1)[-1]
        try:
            return str((await self.call("GetQueueUrl", {"QueueName": name}))["QueueUrl"])
        except (PermissionMissingError, QueueNotFoundError) as error:
            self._warn(error)
            return None

    async def _receive(self, url: str, limit: int, *, wait: float, lease: float) -> list[Delivery]:
        payload = {
            "QueueUrl": url,
            "MaxNumberOfMessages": min(limit, limits.MAX_BATCH_ENTRIES),
            "WaitTimeSeconds": min(math.ceil(wait), limits.MAX_WAIT),
            "VisibilityTimeout": max(1, math.ceil(lease)),
            "MessageAttributeNames": ["All"],
            "MessageSystemAttributeNames": ["All"],
            # The transport's own retry of a lost answer gets the same messages back, and no lease time is lost.
            "ReceiveRequestAttemptId": uuid.uuid4().hex,
        }
        answer = await self.call("ReceiveMessage", payload)
        now = self._clock.now()
        return [_delivery(message, now) for message in answer.get("Messages") or ()]

    async def _copy(self, burials: Sequence[Burial]) -> list[EntryError | None]:
        if self.dlq_url is None:
            none = EntryError(code="NoDeadLetterQueue", text=f"{self.url} has none; it is left to the redrive policy")
            self._warn_once("dead_letter.unavailable", reason=none.text)
            return [none] * len(burials)
        copies = [burial_copy(burial) for burial in burials]
        sizes = [copy.size for copy in copies]
        answers = await self._in_batches(
            "SendMessageBatch", self.dlq_url, [_send_entry(copy) for copy in copies], sizes
        )
        errors = _errors(answers)
        for error in errors:
            if error is not None:
                self._warn_once("dead_letter.unavailable", reason=error.text)
        return errors

    async def _in_batches(
        self, action: str, url: str, entries: Sequence[Mapping[str, Any]], sizes: Sequence[int] | None = None
    ) -> list[Answer]:
        """One answer for each of `entries`, after tries enough for what fails in passing.

        Entries of one group that are sent again arrive behind those that were accepted before; which is why a fan-out
        whose tasks must run in order says so through its group and is small, or tolerates this after an error.
        """
        answers = await self._try_once(action, url, entries, sizes or [0] * len(entries))
        wait = _FIRST_WAIT
        for _ in range(_TRIES - 1):
            again = [i for i, answer in enumerate(answers) if isinstance(answer, EntryError) and answer.retryable]
            if not again:
                break
            await self._clock.sleep(wait / 2 + self._rng.random() * wait / 2)
            wait *= 4
            retried = await self._try_once(
                action, url, [entries[i] for i in again], [sizes[i] if sizes else 0 for i in again]
            )
            for index, answer in zip(again, retried, strict=True):
                answers[index] = answer
        return answers

    async def _try_once(
        self, action: str, url: str, entries: Sequence[Mapping[str, Any]], sizes: Sequence[int]
    ) -> list[Answer]:
        room = asyncio.Semaphore(_AT_ONCE)

        async def request(indices: Sequence[int]) -> list[Answer]:
            batch = [{"Id": str(i), **entries[i]} for i in indices]
            async with room:
                return await self._request(action, url, batch)

        answers = await asyncio.gather(*(request(indices) for indices in batches(sizes)))
        return [answer for batch in answers for answer in batch]

    async def _request(self, action: str, url: str, batch: Sequence[Mapping[str, Any]]) -> list[Answer]:
        try:
            answer = await self.call(action, {"QueueUrl": url, "Entries": batch})
        except BrokerError as error:
            if isinstance(error, PermissionMissingError):
                self._warn(error)
            return [error_of_all(error)] * len(batch)
        return reconcile(answer, [entry["Id"] for entry in batch])

    def _visibility(self, delivery: Delivery, seconds: float) -> int:
        left = limits.MAX_VISIBILITY - (self._clock.now() - delivery.received_at)
        return max(0, min(math.ceil(seconds), int(left)))

    def _warn(self, error: BrokerError) -> None:
        action = error.action if isinstance(error, PermissionMissingError) else type(error).__name__
        self._warn_once("permission.missing", action=action, reason=str(error))

    def _warn_once(self, event: str, **fields: str) -> None:
        key = event + fields.get("action", "")
        if key not in self._warned:
            self._warned.add(key)
            self._telemetry.emit(event, queue=self.url, **fields)


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    name = parts.path.rsplit("/", 1)[-1]
    if parts.scheme not in ("http", "https") or not parts.hostname or not name:
        raise ConfigurationError(f"queue URL {url!r}: write https://sqs.REGION.amazonaws.com/ACCOUNT/NAME.fifo")
    if not name.endswith(".fifo"):
        raise NotFifoError(f"queue URL {url!r}: {name!r} is not a FIFO queue; the name of one ends in .fifo")


def _send_entry(message: Message) -> dict[str, Any]:
    return {
        "MessageBody": message.body,
        "MessageGroupId": message.group_id,
        "MessageDeduplicationId": message.deduplication_id,
        "MessageAttributes": {
            name: {"DataType": "String", "StringValue": value} for name, value in message.attributes.items()
        },
    }


def _delivery(message: Mapping[str, Any], now: float) -> Delivery:
    system = message.get("Attributes") or {}
    attributes = message.get("MessageAttributes") or {}
    return Delivery(
        message_id=message["MessageId"],
        receipt_handle=message["ReceiptHandle"],
        body=message["Body"],
        group_id=system.get("MessageGroupId", ""),
        deduplication_id=system.get("MessageDeduplicationId", ""),
        receive_count=int(system.get("ApproximateReceiveCount", 1)),
        sent_at=int(system.get("SentTimestamp", 0)) / 1000,
        received_at=now,
        attributes={name: value["StringValue"] for name, value in attributes.items() if "StringValue" in value},
    )


def _errors(answers: Sequence[Answer]) -> list[EntryError | None]:
    return [answer if isinstance(answer, EntryError) else None for answer in answers]
