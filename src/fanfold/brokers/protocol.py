"""What a queue must do for Fanfold. `tests/contract/test_broker.py` holds every implementation to it.

Methods on sequences take any number of entries, send them in requests of the size that the queue allows, and answer
one entry each, in the order given. A whole request that fails is the error of each of its entries, so that one lost
request never hides what happened to the others; only `receive`, `status` and `open` raise for the queue as a whole.
Every method may be awaited from any event loop and from several at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fanfold.model import DeadLetter, Delivery, EntryError, Failure, Message, QueueStatus, SendResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Burial:
    """A delivery to set aside, why, and by which worker. `body` is that of the copy; None: the delivery's own."""

    delivery: Delivery
    failure: Failure
    attempts: int
    body: str | None = None
    worker: str = ""


class Queue(Protocol):
    """A FIFO queue."""

    url: str

    async def send(self, messages: Sequence[Message]) -> list[SendResult]:
        """Send; transient failures are tried again with the same deduplication ids before they are reported."""

    async def receive(self, limit: int, *, wait: float, lease: float) -> list[Delivery]:
        """Receive up to `limit` messages (at most a broker's `batch`), waiting up to `wait` seconds (≤ 20) for one.

        Each is invisible to others for `lease` seconds. Messages of one group come in order.
        A cancelled call loses nothing but time: what it had received comes back when its lease ends.
        """

    async def extend(self, deliveries: Sequence[Delivery], seconds: Sequence[float]) -> list[EntryError | None]:
        """Let each lease end so many seconds from now; 0 gives the message back at once."""

    async def delete(self, deliveries: Sequence[Delivery]) -> list[EntryError | None]:
        """Remove messages for good."""

    async def status(self) -> QueueStatus:
        """Count the queue's messages (approximate on Amazon SQS, exact on the embedded engine)."""

    async def peek(self, limit: int, *, after: Delivery | None = None) -> list[Delivery] | None:
        """Read up to `limit` messages without receiving them, from the one after `after` on, in an order of its own.

        None where the queue can't be read without receiving (Amazon SQS). Nothing can be done with what was only read:
        it has no receipt.
        """


class Broker(Queue, Protocol):
    """A FIFO queue with its dead letter queue."""

    batch: int
    """Messages that are received, or settled, at once at most: what one request takes."""
    linger: float
    """Seconds that settlements may wait for company: what a request costs decides."""
    retention: float
    """Seconds for which the queue keeps a message, received or not; known after `open`."""

    async def open(self) -> None:
        """Connect, and make sure that the queue exists and is FIFO. Idempotent.

        Raises:
            QueueNotFoundError, NotFifoError, CredentialsError, PermissionMissingError, BrokerUnavailableError,
            StorageError: as their names say.
        """

    async def close(self) -> None:
        """Let go of threads, connections and files. Idempotent; calls in flight are allowed to end."""

    def end_polls(self) -> None:
        """Answer waiting receives now, where the queue can do so without losing messages (Amazon SQS can't)."""

    async def dead_letter(self, burials: Sequence[Burial]) -> list[EntryError | None]:
        """Copy each message to the dead letter queue with its reason, then delete it; never delete without the copy."""

    def dead_letter_queue(self) -> Queue:
        """The dead letter queue, as the queue that it is. The broker is open.

        Raises:
            NoDeadLetterQueueError: the queue has none, or nobody here may learn which.
        """

    async def dead_letters(self, limit: int, *, hold: float = 0.0) -> list[DeadLetter]:
        """Look at up to `limit` messages of the dead letter queue. Nothing is taken away.

        With `hold` they stay invisible to others for so many seconds, and their receipt handles are good for as long;
        otherwise they are given back at once. Raises NoDeadLetterQueueError where the queue has none.
        """

    async def move_dead_letters(self) -> bool:
        """Have the queue itself move all dead letters back as they are, in one request (Amazon SQS's move task).

        It goes on after the answer. False where the queue has no such task, or nobody here may start one.
        """

    async def dead_letter_count(self) -> int:
        """How many messages the dead letter queue holds. Raises NoDeadLetterQueueError where the queue has none."""
