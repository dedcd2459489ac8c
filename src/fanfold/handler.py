"""`TaskQueueHandler`: the face of a plain boto3 handler, over the same parts as everything else."""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, Self

from fanfold import codec
from fanfold.brokers.sqs import SqsBroker
from fanfold.clock import SystemClock
from fanfold.errors import ConfigurationError, MalformedMessageError, NoDeadLetterQueueError
from fanfold.leases import Leases
from fanfold.model import DeadLetter, Delivery, Failure, Json, Task
from fanfold.outcome import Completed, Outcome, Reject, Retry, decide, failure_of
from fanfold.portal import Portal
from fanfold.producer import Producer
from fanfold.registry import Registry
from fanfold.retry import Backoff
from fanfold.settler import Settlement, Settler
from fanfold.telemetry import LogSubscriber, Telemetry

Callback = Callable[..., Awaitable[Json]]

VISIBILITY_TIMEOUT: Final = 900.0
LONG_POLL: Final = 5.0
DLQ_PEEK: Final = 30.0


class TaskQueueHandler:
    """One queue for code that calls rather than declares: enqueue, process one message, look.

    The message format is the same as everywhere, so producers and consumers of both kinds share a queue. There is no
    ledger here: attempts are the queue's receive counts.
    """

    def __init__(self, sqs_client: Any, queue_url: str, dlq_url: str | None = None, *, max_attempts: int = 5) -> None:
        """Wrap a queue. Nothing is requested yet.

        Args:
            sqs_client: any boto3 SQS client.
            queue_url: the URL of a FIFO queue.
            dlq_url: its dead letter queue; None: the one that its redrive policy names.
            max_attempts: receives after which a failing task is set aside with its reason.

        Raises:
            ValueError: no client or no queue URL, or the queue isn't FIFO by its name.
        """
        if sqs_client is None:
            raise ConfigurationError('sqs_client is missing: pass boto3.client("sqs")')
        if not queue_url:
            raise ConfigurationError("queue_url is missing: pass the URL of the FIFO queue (SQS_TASK_QUEUE_URL)")
        self.sqs_client = sqs_client
        self.queue_url = queue_url
        self.dlq_url = dlq_url
        self._max_attempts = max_attempts
        self._clock = SystemClock()
        self._rng = random.Random(secrets.randbits(128))  # noqa: S311 - jitter and ids, not secrets
        self._telemetry = Telemetry(LogSubscriber())
        self._portal = Portal()
        self._broker = SqsBroker(
            queue_url,
            dlq_url=dlq_url,
            client=sqs_client,
            telemetry=self._telemetry,
            clock=self._clock,
            rng=self._rng,
        )
        self._producer = Producer(
            self._broker, None, registry=Registry(), telemetry=self._telemetry, clock=self._clock, rng=self._rng
        )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """A handler for what `SQS_TASK_QUEUE_URL`, `SQS_DLQ_URL` and `AWS_DEFAULT_REGION` say.

        Raises:
            ValueError: SQS_TASK_QUEUE_URL isn't set.
        """
        from fanfold.brokers.boto import make_client  # noqa: PLC0415 - boto3 is imported only where it is used

        queue_url = environ.get("SQS_TASK_QUEUE_URL")
        if not queue_url:
            raise ConfigurationError("SQS_TASK_QUEUE_URL isn't set; set it to the URL of the FIFO queue")
        client = make_client(queue_url, region=environ.get("AWS_DEFAULT_REGION"))
        return cls(client, queue_url, environ.get("SQS_DLQ_URL") or None)

    def enqueue_tasks(
        self,
        entity_id: str,
        tasks: Iterable[Mapping[str, Json]],
        metadata: Mapping[str, Json] | None = None,
        *,
        event_id: str | None = None,
    ) -> int:
        """Send one message for each of `tasks` (dicts with `name`, optional `config`); answers how many were accepted.

        With an `event_id`, the same event enqueued again within five minutes is dropped by the queue.

        Raises:
            InvalidInputError: something about the arguments; nothing was sent.
            FanOutIncompleteError: the queue didn't accept some.
        """
        return self._portal.call(self._enqueue(entity_id, tasks, metadata, event_id))

    async def process_one(self, callback: Callback, **kwargs: Any) -> dict[str, Any] | None:
        """Receive one message, run `callback` on it, and settle it; None for an empty queue (after 5 s).

        `callback` is called with `entity_id`, `task_name`, `task_config`, `metadata` and `kwargs`, all by keyword. The
        message is held for 900 s, and that is extended for as long as the callback runs. A failure is retried with
        backoff; after `max_attempts`, or on `Reject`, it goes to the dead letter queue with its reason.

        Returns:
            `{"entity_id", "task_name", "result", "status": "completed"}`, or with `"error"` and `"failed"`.
        """
        await self._broker.open()
        received = await self._broker.receive(1, wait=LONG_POLL, lease=VISIBILITY_TIMEOUT)
        if not received:
            return None
        leases = Leases(self._broker, lease=VISIBILITY_TIMEOUT, clock=self._clock, telemetry=self._telemetry)
        leases.start()
        try:
            leases.hold(received[0], lambda: None)
            return await self._process(received[0], leases, callback, kwargs)
        finally:
            await leases.stop()

    def get_queue_status(self) -> dict[str, int]:
        """The queue's `messages_available`, `messages_in_flight` and `messages_delayed`."""
        counts = self._portal.call(self._status())
        return {
            "messages_available": counts.messages_available,
            "messages_in_flight": counts.messages_in_flight,
            "messages_delayed": counts.messages_delayed,
        }

    def get_dlq_messages(self, max_messages: int = 10) -> list[dict[str, Any]]:
        """Look at dead letters; they stay in the queue, held for 30 s so that their receipt handles can be used.

        Each has `entity_id`, `task_name`, `retry_count`, `timestamp`, `receipt_handle`, `body`, `reason` and
        `receive_count`. The first four are None for a body that isn't a task. Empty, with a warning, where no dead
        letter queue is known.
        """
        return [_letter(letter) for letter in self._portal.call(self._dead_letters(max_messages))]

    def close(self) -> None:
        """Let go of threads. Idempotent; a later call of any method takes them up again."""
        self._portal.call(self._broker.close())
        self._portal.close()

    async def _enqueue(self, entity_id: str, tasks: Any, metadata: Any, event_id: str | None) -> int:
        await self._broker.open()
        return (await self._producer.enqueue(entity_id, tasks, metadata=metadata, event_id=event_id)).sent

    async def _status(self) -> Any:
        await self._broker.open()
        return await self._broker.status()

    async def _dead_letters(self, limit: int) -> list[DeadLetter]:
        await self._broker.open()
        try:
            # The same look through the queue as `app.dead_letters`, but what was seen stays held for a while.
            return await self._broker.dead_letters(limit, hold=DLQ_PEEK)
        except NoDeadLetterQueueError as error:
            self._telemetry.emit("dead_letter.unavailable", queue=self.queue_url, action="peek", reason=str(error))
            return []

    async def _process(
        self, delivery: Delivery, leases: Leases, callback: Callback, kwargs: Mapping[str, Any]
    ) -> dict[str, Any]:
        task, outcome = await self._run(delivery, callback, kwargs)
        settler = Settler(self._broker, None, leases, announce=None, telemetry=self._telemetry, clock=self._clock)
        settlement = Settlement(
            delivery=delivery, task=task, attempt=delivery.receive_count, outcome=outcome, tracked=False
        )
        await settler.settle(settlement, wait=False)
        said = {"entity_id": task.entity_id if task else None, "task_name": task.task_name if task else None}
        if isinstance(outcome, Completed):
            return said | {"result": outcome.result, "status": "completed"}
        return said | {"error": outcome.failure.message or str(outcome.failure), "status": "failed"}

    async def _run(
        self, delivery: Delivery, callback: Callback, kwargs: Mapping[str, Any]
    ) -> tuple[Task | None, Outcome]:
        try:
            task = codec.decode(delivery.body)
        except MalformedMessageError as error:
            return None, Reject(Failure(type="MalformedMessage", message=str(error)))
        outcome = await _outcome(task, callback, kwargs)
        return task, decide(outcome, delivery.receive_count, self._max_attempts, Backoff(), self._rng)


async def _outcome(task: Task, callback: Callback, kwargs: Mapping[str, Any]) -> Outcome:
    try:
        result = await callback(
            entity_id=task.entity_id,
            task_name=task.task_name,
            task_config=task.task_config,
            metadata=task.metadata,
            **kwargs,
        )
    except (Retry, Reject) as outcome:
        return outcome
    except Exception as error:  # noqa: BLE001 - whatever the callback raises is its task's failure
        return Retry(failure_of(error, __file__))
    return Completed(result, "")  # nobody keeps it: without a ledger a result need not be JSON


def _letter(letter: DeadLetter) -> dict[str, Any]:
    task = letter.task
    return {
        "entity_id": task.entity_id if task else None,
        "task_name": task.task_name if task else None,
        "retry_count": task.retry_count if task else None,
        "timestamp": task.timestamp if task else None,
        "receipt_handle": letter.receipt_handle,
        "body": letter.body,
        "reason": letter.reason,
        "receive_count": letter.receive_count,
    }
