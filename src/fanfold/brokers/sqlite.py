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
from fanfold.engine.doorbell import Bell, Doorbell
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
        self._queue = self._dead_letter_queue = 0
        self._open = False
        self._polls_ended = 0

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
        now = self._now()
        try:
            results = iter(await self._change(lambda c: store.send(c, self._queue, accepted, now)))
        except StorageError as error:
            return [SendResult(error=own or _error_of_all(error)) for own in refused]
        return [next(results) if error is None else SendResult(error=error) for error in refused]

    async def receive(self, limit: int, *, wait: float, lease: float) -> list[Delivery]:
        """Receive, waiting as a long poll does."""
        ended = self._polls_ended  # before the first look: an end that comes during it must not be missed
        with self._doorbell.listen() as bell:
            deliveries = await self._receive_now(limit, lease)
            if deliveries or wait <= 0:
                return deliveries
            over = asyncio.ensure_future(self._clock.sleep(wait))
            try:
                while not deliveries and not over.done() and ended == self._polls_ended:
                    deliveries = await self._receive_when_ready(bell, over, limit, lease)
                if not deliveries and over.done():
                    deliveries = await self._receive_now(limit, lease)  # what became visible as the wait ended
            finally:
                over.cancel()
            return deliveries

    def end_polls(self) -> None:
        """Answer waiting receives now."""
        self._polls_ended += 1
        self._doorbell.ring()

    async def extend(self, deliveries: Sequence[Delivery], seconds: Sequence[float]) -> list[EntryError | None]:
        """Let leases end so many seconds from now."""
        now = self._now()
        changes = [(d.receipt_handle, _milliseconds(s)) for d, s in zip(deliveries, seconds, strict=True)]
        return await self._each(len(changes), lambda c: store.change_visibility(c, self._queue, changes, now))

    async def delete(self, deliveries: Sequence[Delivery]) -> list[EntryError | None]:
        """Delete messages."""
        now, handles = self._now(), [d.receipt_handle for d in deliveries]
        return await self._each(len(handles), lambda c: store.delete(c, self._queue, handles, now))

    async def dead_letter(self, burials: Sequence[Burial]) -> list[EntryError | None]:
        """Replace messages by copies with their reasons in the dead letter queue, each in one transaction."""
        now = self._now()
        copies = [(b.delivery.receipt_handle, burial_copy(b), self._new_id()) for b in burials]
        return await self._each(len(copies), lambda c: store.bury(c, self._queue, copies, now))

    def dead_letter_queue(self) -> SqliteBroker:
        """The dead letter queue, in the same file."""
        dead = copy.copy(self)
        dead._queue = self._dead_letter_queue  # noqa: SLF001 - our own copy
        return dead

    async def dead_letters(self, limit: int, *, hold: float = 0.0) -> list[DeadLetter]:
        """Look at the dead letter queue."""
        return [letter_of(delivery) for delivery in await browsed(self.dead_letter_queue(), limit, hold=hold)]

    async def peek(self, limit: int, *, after: Delivery | None = None) -> list[Delivery]:
        """Read messages in the order of their groups."""
        now = self._now()
        return await self._read(lambda c: store.read(c, self._queue, limit, after, now))

    async def status(self) -> QueueStatus:
        """Count the queue's messages, exactly."""
        now = self._now()
        return await self._read(lambda c: store.status(c, self._queue, now))

    async def ready_in(self) -> float | None:
        """Seconds until a message can next be received (0 or less: now); None for an empty queue."""
        ready_at = await self._read(lambda c: store.next_ready(c, self._queue))
        return None if ready_at is None else (ready_at - self._now()) / 1000

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

    async def _receive_now(self, limit: int, lease: float) -> list[Delivery]:
        request = store.Receive(
            queue=self._queue,
            limit=min(limit, limits.MAX_BATCH_ENTRIES),
            lease=_milliseconds(lease),
            now=self._now(),
        )
        return await self._write(lambda c: store.receive(c, request, self._new_receipt))

    async def _receive_when_ready(
        self, bell: Bell, over: asyncio.Future[None], limit: int, lease: float
    ) -> list[Delivery]:
        bell.clear()
        ready_in = await self.ready_in()
        if ready_in is not None and ready_in <= 0:
            return await self._receive_now(limit, lease)
        await self._wake(bell, over, ready_in)
        return []

    async def _wake(self, bell: Bell, over: asyncio.Future[None], ready_in: float | None) -> None:
        waits: list[asyncio.Future[None]] = [asyncio.ensure_future(bell.wait())]
        if ready_in is not None:
            waits.append(asyncio.ensure_future(self._clock.sleep(ready_in)))
        try:
            await asyncio.wait([over, *waits], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for future in waits:
                future.cancel()

    async def _each(self, count: int, operation: Operation[list[EntryError | None]]) -> list[EntryError | None]:
        """A change of several entries; where the file fails, that is the error of each."""
        try:
            return await self._change(operation)
        except StorageError as error:
            return [_error_of_all(error)] * count

    async def _change(self, operation: Operation[T]) -> T:
        """A write that may make something receivable."""
        result = await self._write(operation)
        self._doorbell.ring()
        return result

    async def _write(self, operation: Operation[T]) -> T:
        return await asyncio.wrap_future(self._database.write(operation))

    async def _read(self, operation: Operation[T]) -> T:
        return await asyncio.wrap_future(self._database.read(operation))

    def _now(self) -> int:
        return int(self._clock.now() * 1000)


def _milliseconds(seconds: float) -> int:
    return math.ceil(seconds * 1000)


def _error_of_all(error: StorageError) -> EntryError:
    return EntryError(code=type(error).__name__.removesuffix("Error"), text=str(error), retryable=error.transient)
