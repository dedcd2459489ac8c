"""The broker on the embedded engine: one SQLite file, many processes, no server."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import math
import secrets
import sqlite3
from collections.abc import Callable, Sequence

from fanfold import ids, limits
from fanfold.brokers.browsing import browsed
from fanfold.brokers.burial import burial_copy, letter_of, refusal
from fanfold.brokers.protocol import Burial
from fanfold.clock import Clock, SystemClock
from fanfold.connection_thread import Operation, T
from fanfold.database import Database, Unflushed
from fanfold.engine import attributes, counting, deferred, leases, queues, receiving, sending
from fanfold.engine.deferred import settled
from fanfold.engine.doorbell import Doorbell
from fanfold.engine.messages import encode_strings, strings
from fanfold.engine.policies import Redrive
from fanfold.engine.polling import LongPolls, Look, Source, attended
from fanfold.engine.queues import NewQueue, Queue
from fanfold.engine.receiving import Receive, Received
from fanfold.engine.sending import NewMessage
from fanfold.errors import BrokerError, QueueNotFoundError
from fanfold.model import DeadLetter, Delivery, EntryError, Message, QueueStatus, SendResult
from fanfold.urls import parse_sqlite


class SqliteBroker:
    """A `Broker` on the embedded engine. The queue and its dead letter queue are created where missing.

    A receive that finds nothing costs next to nothing while it waits. It wakes on a change in this process, within
    25 ms of a change by another one (55 where there was none for seconds), when the next lease ends, on `end_polls`.
    """

    batch = 100
    linger = 0.0
    retention = float(limits.MAX_RETENTION)

    def __init__(
        self,
        url: str,
        *,
        database: Database | None = None,
        clock: Clock | None = None,
        max_receive_count: int = limits.DEFAULT_MAX_RECEIVES,
        new_id: Callable[[], str] = ids.random_uuid,
        new_receipt: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        """Nothing is opened before `open`.

        Args:
            url: `sqlite:///tasks.db?queue=tasks.fifo`; see `urls.parse_sqlite` for what it may raise.
            database: the file, when a ledger shares it.
            clock: where times come from.
            max_receive_count: receives after which the next one moves a message to the dead letter queue.
            new_id: where MessageIds come from.
            new_receipt: where the unguessable part of receipt handles comes from.
        """
        self.url = url
        self._address = parse_sqlite(url)
        self._database = database or Database(self._address.path, synchronous=self._address.synchronous)
        self._clock = clock or SystemClock()
        self._max_receive_count = max_receive_count
        self._new_id = new_id
        self._new_receipt = new_receipt
        self._doorbell = Doorbell(self._database)
        self._polls = LongPolls(self._doorbell, self._clock)
        self._open = False

    async def open(self) -> None:
        """Open the file and create the queues. Idempotent."""
        if not self._open:
            await asyncio.to_thread(self._prepare)
            self._open = True

    async def close(self) -> None:
        """Let go of the file. Idempotent."""
        if self._open:
            self._open = False
            self.end_polls()
            await asyncio.to_thread(self._doorbell.close)
            await asyncio.to_thread(self._database.close)

    async def send(self, messages: Sequence[Message]) -> list[SendResult]:
        """Add messages; what SQS would refuse is its own entry's error."""
        refused = [refusal(message) for message in messages]
        accepted = [self._new_message(m) for m, error in zip(messages, refused, strict=True) if error is None]
        try:
            results = iter(await self._change(lambda c: self._send(accepted, c), len(accepted)))
        except BrokerError as error:
            return [SendResult(error=own or _error_of_all(error)) for own in refused]
        return [next(results) if error is None else SendResult(error=error) for error in refused]

    async def receive(self, limit: int, *, wait: float, lease: float) -> list[Delivery]:
        """Receive, waiting as a long poll does."""
        source = Source(queue=self._address.queue, receive=lambda: self._look(limit, lease), ready_at=self._ready_at)
        return await self._polls.receive(source, wait)

    def end_polls(self) -> None:
        """Answer waiting receives now."""
        self._polls.end()

    async def extend(self, deliveries: Sequence[Delivery], seconds: Sequence[float]) -> list[EntryError | None]:
        """Let leases end so many seconds from now."""
        changes = [(d.receipt_handle, _milliseconds(s)) for d, s in zip(deliveries, seconds, strict=True)]
        return await self._each(
            len(changes), lambda c: leases.change_visibility(c, self._queue(c), changes, self._now())
        )

    async def delete(self, deliveries: Sequence[Delivery]) -> list[EntryError | None]:
        """Delete messages."""
        handles = [d.receipt_handle for d in deliveries]
        return await self._each(len(handles), lambda c: leases.delete(c, self._queue(c), handles, self._now()))

    async def dead_letter(self, burials: Sequence[Burial]) -> list[EntryError | None]:
        """Replace messages by copies with their reasons in the dead letter queue, each in one transaction."""
        copies = [(b.delivery.receipt_handle, self._new_message(burial_copy(b))) for b in burials]
        return await self._each(
            len(copies), lambda c: leases.bury(c, self._queue(c), self._dead_letter_queue(c), copies, self._now())
        )

    async def dead_letters(self, limit: int, *, hold: float = 0.0) -> list[DeadLetter]:
        """Look at the dead letter queue."""
        return [letter_of(delivery) for delivery in await browsed(self.dead_letter_queue(), limit, hold=hold)]

    def dead_letter_queue(self) -> SqliteBroker:
        """The dead letter queue, in the same file."""
        dead = copy.copy(self)
        address = dataclasses.replace(self._address, queue=self._address.dead_letter_queue)
        dead._address = address  # noqa: SLF001 - our own copy
        return dead

    async def peek(self, limit: int, *, after: Delivery | None = None) -> list[Delivery]:
        """Read messages, the oldest first."""
        place = None if after is None else _place(after)
        found = await self._read(lambda c: counting.read(c, self._queue(c), limit, self._now(), after=place))
        return [_delivery(received) for received in found]

    async def move_dead_letters(self) -> bool:
        """Nothing: sending them back costs no requests here."""
        return False

    async def dead_letter_count(self) -> int:
        """Count the dead letter queue's messages, exactly."""
        return await self._read(lambda c: counting.total(c, self._dead_letter_queue(c)))

    async def status(self) -> QueueStatus:
        """Count the queue's messages, exactly."""
        return await self._read(lambda c: counting.status(c, self._queue(c), self._now()))

    async def ready_in(self) -> float | None:
        """Seconds until a message can next be received (0 or less: now); None for an empty queue."""
        ready_at = await self._ready_at()
        return None if ready_at is None else ready_at - self._clock.now()

    def _prepare(self) -> None:
        with self._database.opening():
            self._create_queues()

    def _create_queues(self) -> None:
        self._database.migrate("engine", queues.SCHEMA)
        self._database.write(settled(self._create_missing)).result()

    def _create_missing(self, connection: sqlite3.Connection) -> None:
        """Create what isn't there. A redrive policy that somebody chose stays as it is."""
        dead, now = self._address.dead_letter_queue, self._now()
        if queues.find(connection, dead) is None:
            queues.create(connection, NewQueue(name=dead, attributes=attributes.KEEPS_FOR_EVER), now)
        redrive = Redrive(dead, self._max_receive_count)
        queue = queues.find(connection, self._address.queue)
        if queue is None:
            new = NewQueue(name=self._address.queue, attributes=attributes.KEEPS_FOR_EVER, redrive=redrive)
            queues.create(connection, new, now)
        elif queue.redrive is None:
            queues.change(connection, queue, attributes.decode(queue.attributes), redrive, now)

    def _queue(self, connection: sqlite3.Connection) -> Queue:
        return self._existing(connection, self._address.queue)

    def _dead_letter_queue(self, connection: sqlite3.Connection) -> Queue:
        return self._existing(connection, self._address.dead_letter_queue)

    def _existing(self, connection: sqlite3.Connection, name: str) -> Queue:
        queue = queues.find(connection, name)
        if queue is None:
            raise QueueNotFoundError(f"{self.url}: the queue {name} was deleted; open the app again to create it")
        return queue

    def _new_message(self, message: Message) -> NewMessage:
        return NewMessage(
            body=message.body,
            message_id=self._new_id(),
            group_id=message.group_id,
            deduplication_id=message.deduplication_id,
            attributes=encode_strings(message.attributes),
        )

    def _send(self, accepted: Sequence[NewMessage], connection: sqlite3.Connection) -> list[SendResult]:
        sent = sending.send(connection, self._queue(connection), accepted, self._now())
        return [SendResult(message_id=one.message_id, duplicate=one.duplicate) for one in sent]

    async def _look(self, limit: int, lease: float) -> Look[Delivery]:
        most, milliseconds = min(limit, self.batch), _milliseconds(lease)

        def look(connection: sqlite3.Connection) -> Look[Delivery]:
            queue = self._queue(connection)
            found = self._receive_in_tens(connection, queue, most, milliseconds)
            return Look(found=found, ready_at=None if found else self._next_ready(connection, queue))

        return await attended(
            self._database.write(Unflushed(settled(look))), lambda found: self._take_back(found.found)
        )

    def _take_back(self, deliveries: Sequence[Delivery]) -> None:
        """Undo the receive of messages that nobody saw, without waiting for it; from any thread."""
        handles = [delivery.receipt_handle for delivery in deliveries]
        if handles:
            undone = self._database.write(settled(lambda c: leases.take_back(c, self._queue(c), handles, self._now())))
            undone.add_done_callback(lambda _: self._doorbell.ring(self._address.queue, len(handles)))

    def _receive_in_tens(self, connection: sqlite3.Connection, queue: Queue, limit: int, lease: int) -> list[Delivery]:
        """As many receives as it takes, in one transaction: no group gives more than one receive's, as on SQS."""
        found: list[Delivery] = []
        while len(found) < limit:
            wanted = min(limits.MAX_BATCH_ENTRIES, limit - len(found))
            more = self._receive(connection, queue, wanted, lease)
            found += more
            if len(more) < wanted:
                break
        return found

    def _receive(self, connection: sqlite3.Connection, queue: Queue, limit: int, lease: int) -> list[Delivery]:
        request = Receive(limit=limit, lease=lease, now=self._now())
        return [_delivery(received) for received in receiving.receive(connection, queue, request, self._new_receipt)]

    async def _ready_at(self) -> float | None:
        return await self._read(lambda c: self._next_ready(c, self._queue(c)))

    def _next_ready(self, connection: sqlite3.Connection, queue: Queue) -> float | None:
        ready_at = receiving.next_ready(connection, queue, self._now())
        return None if ready_at is None else ready_at / 1000

    async def _each(self, count: int, operation: Operation[list[EntryError | None]]) -> list[EntryError | None]:
        """A change of several entries; where the file fails, that is the error of each."""
        try:
            return await self._change(operation, count)
        except BrokerError as error:
            return [_error_of_all(error)] * count

    async def _change(self, operation: Operation[T], most: int) -> T:
        """A write that may make so many messages receivable, or more where it unlocks a group."""
        result = await self._write(operation)
        self._doorbell.ring(self._address.queue, most)
        return result

    async def _write(self, operation: Operation[T]) -> T:
        return await asyncio.wrap_future(self._database.write(settled(operation)))

    async def _read(self, operation: Operation[T]) -> T:
        return await deferred.read(self._database, operation)

    def _now(self) -> int:
        """Milliseconds. To be read inside an operation: a lease must not run while its receive waits for the file."""
        return int(self._clock.now() * 1000)


def _milliseconds(seconds: float) -> int:
    return math.ceil(seconds * 1000)


def _place(delivery: Delivery) -> tuple[int, int]:
    """Where a message stands in its queue, by age: its time of sending, and its sequence number from the handle."""
    return round(delivery.sent_at * 1000), int(delivery.receipt_handle.split(".")[1])


def _delivery(received: Received) -> Delivery:
    return Delivery(
        message_id=received.message_id,
        receipt_handle=str(received.handle),
        body=received.body,
        group_id=received.group_id,
        deduplication_id=received.deduplication_id,
        receive_count=received.receive_count,
        sent_at=received.sent_at / 1000,
        received_at=received.received_at / 1000,
        attributes=strings(received.attributes),
    )


def _error_of_all(error: BrokerError) -> EntryError:
    return EntryError(code=type(error).__name__.removesuffix("Error"), text=str(error), retryable=error.transient)
