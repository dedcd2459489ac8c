"""The broker on the embedded engine: one SQLite file, many processes, no server."""

from __future__ import annotations

import asyncio
import copy
import math
import secrets
import sqlite3
import uuid
from collections.abc import Callable, Sequence
from typing import Final

from fanfold import limits
from fanfold.brokers.browsing import browsed
from fanfold.brokers.burial import burial_copy, letter_of, refusal
from fanfold.brokers.protocol import Burial
from fanfold.clock import Clock, SystemClock
from fanfold.connection_thread import Operation, T
from fanfold.database import Database
from fanfold.engine import store
from fanfold.engine.doorbell import Doorbell
from fanfold.engine.polling import LongPolls, Look, Source
from fanfold.errors import StorageError
from fanfold.model import DeadLetter, Delivery, EntryError, Message, QueueStatus, SendResult
from fanfold.urls import parse_sqlite

DEFAULT_MAX_RECEIVE_COUNT: Final = 100
"""Receives after which the engine itself sets a message aside. A backstop for crash loops, far above `max_attempts`: a
shutdown or a failed lane gives messages back unrun, and that spends receives too."""


class SqliteBroker:
    """A `Broker` on the embedded engine. The queue and its dead letter queue are created where missing.

    A receive that finds nothing costs nothing while it waits: it wakes on a change in this process, within 25 ms of a
    change by another one, when the next lease ends, and on `end_polls`.
    """

    linger = 0.0
    retention = 345_600.0

    def __init__(
        self,
        url: str,
        *,
        database: Database | None = None,
        clock: Clock | None = None,
        max_receive_count: int = DEFAULT_MAX_RECEIVE_COUNT,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
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
        self._queue = self._dead_letter_queue = 0
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
        accepted = [(m, self._new_id()) for m, error in zip(messages, refused, strict=True) if error is None]
        try:
            sending = self._change(lambda c: store.send(c, self._queue, accepted, self._now()), len(accepted))
            results = iter(await sending)
        except StorageError as error:
            return [SendResult(error=own or _error_of_all(error)) for own in refused]
        return [next(results) if error is None else SendResult(error=error) for error in refused]

    async def receive(self, limit: int, *, wait: float, lease: float) -> list[Delivery]:
        """Receive, waiting as a long poll does."""
        source = Source(queue=self._queue, receive=lambda: self._look(limit, lease), ready_at=self._ready_at)
        return await self._polls.receive(source, wait)

    def end_polls(self) -> None:
        """Answer waiting receives now."""
        self._polls.end()

    async def extend(self, deliveries: Sequence[Delivery], seconds: Sequence[float]) -> list[EntryError | None]:
        """Let leases end so many seconds from now."""
        changes = [(d.receipt_handle, _milliseconds(s)) for d, s in zip(deliveries, seconds, strict=True)]
        return await self._each(len(changes), lambda c: store.change_visibility(c, self._queue, changes, self._now()))

    async def delete(self, deliveries: Sequence[Delivery]) -> list[EntryError | None]:
        """Delete messages."""
        handles = [d.receipt_handle for d in deliveries]
        return await self._each(len(handles), lambda c: store.delete(c, self._queue, handles, self._now()))

    async def dead_letter(self, burials: Sequence[Burial]) -> list[EntryError | None]:
        """Replace messages by copies with their reasons in the dead letter queue, each in one transaction."""
        copies = [(b.delivery.receipt_handle, burial_copy(b), self._new_id()) for b in burials]
        return await self._each(len(copies), lambda c: store.bury(c, self._queue, copies, self._now()))

    async def dead_letters(self, limit: int, *, hold: float = 0.0) -> list[DeadLetter]:
        """Look at the dead letter queue."""
        return [letter_of(delivery) for delivery in await browsed(self.dead_letter_queue(), limit, hold=hold)]

    def dead_letter_queue(self) -> SqliteBroker:
        """The dead letter queue, in the same file."""
        dead = copy.copy(self)
        dead._queue = self._dead_letter_queue  # noqa: SLF001 - our own copy
        return dead

    async def peek(self, limit: int, *, after: Delivery | None = None) -> list[Delivery]:
        """Read messages, the oldest first."""
        request = store.Receive(queue=self._queue, limit=limit, lease=0, now=self._now())
        return await self._read(lambda c: store.read(c, request, after))

    async def dead_letter_count(self) -> int:
        """Count the dead letter queue's messages, exactly."""
        now = self._now()
        counts = await self._read(lambda c: store.status(c, self._dead_letter_queue, now))
        return counts.messages_available + counts.messages_in_flight

    async def status(self) -> QueueStatus:
        """Count the queue's messages, exactly."""
        return await self._read(lambda c: store.status(c, self._queue, self._now()))

    async def ready_in(self) -> float | None:
        """Seconds until a message can next be received (0 or less: now); None for an empty queue."""
        ready_at = await self._ready_at()
        return None if ready_at is None else ready_at - self._clock.now()

    def _prepare(self) -> None:
        with self._database.opening():
            self._create_queues()

    def _create_queues(self) -> None:
        self._database.migrate("engine", store.SCHEMA)
        now = self._now()
        names = self._address.dead_letter_queue, self._address.queue

        def create(connection: sqlite3.Connection) -> tuple[int, int]:
            dead = store.create_queue(connection, names[0], now, dead_letter_queue=None, max_receive_count=None)
            most = self._max_receive_count
            return dead, store.create_queue(connection, names[1], now, dead_letter_queue=dead, max_receive_count=most)

        self._dead_letter_queue, self._queue = self._database.write(create).result()

    async def _look(self, limit: int, lease: float) -> Look[Delivery]:
        most, milliseconds = min(limit, limits.MAX_BATCH_ENTRIES), _milliseconds(lease)

        def look(connection: sqlite3.Connection) -> Look[Delivery]:
            found = self._receive(self._queue, most, milliseconds, connection)
            return Look(found=found, ready_at=None if found else self._next_ready(connection))

        return await self._write(look)

    def _receive(self, queue: int, limit: int, lease: int, connection: sqlite3.Connection) -> list[Delivery]:
        request = store.Receive(queue=queue, limit=limit, lease=lease, now=self._now())
        return store.receive(connection, request, self._new_receipt)

    async def _ready_at(self) -> float | None:
        return await self._read(self._next_ready)

    def _next_ready(self, connection: sqlite3.Connection) -> float | None:
        ready_at = store.next_ready(connection, self._queue, self._now())
        return None if ready_at is None else ready_at / 1000

    async def _each(self, count: int, operation: Operation[list[EntryError | None]]) -> list[EntryError | None]:
        """A change of several entries; where the file fails, that is the error of each."""
        try:
            return await self._change(operation, count)
        except StorageError as error:
            return [_error_of_all(error)] * count

    async def _change(self, operation: Operation[T], most: int) -> T:
        """A write that may make so many messages receivable, or more where it unlocks a group."""
        result = await self._write(operation)
        self._doorbell.ring(self._queue, most)
        return result

    async def _write(self, operation: Operation[T]) -> T:
        return await asyncio.wrap_future(self._database.write(operation))

    async def _read(self, operation: Operation[T]) -> T:
        return await asyncio.wrap_future(self._database.read(operation))

    def _now(self) -> int:
        """Milliseconds. To be read inside an operation: a lease must not run while its receive waits for the file."""
        return int(self._clock.now() * 1000)


def _milliseconds(seconds: float) -> int:
    return math.ceil(seconds * 1000)


def _error_of_all(error: StorageError) -> EntryError:
    return EntryError(code=type(error).__name__.removesuffix("Error"), text=str(error), retryable=error.transient)
