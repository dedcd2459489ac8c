"""Leases: a short visibility timeout, extended for as long as we hold the message."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from fanfold import limits
from fanfold.brokers.protocol import Broker
from fanfold.clock import Clock
from fanfold.model import Delivery, EntryError
from fanfold.telemetry import Telemetry


@dataclass(slots=True)
class Lease:
    """One held message. `expires_at` moves with each extension; `on_lost` tells whoever works on it."""

    delivery: Delivery
    expires_at: float
    on_lost: Callable[[], object]
    lost: bool = False


class Leases:
    """Everything that this worker holds, kept alive from a thread of its own.

    1. `hold` registers received messages, whether they run or wait.
    2. Every third of a lease, the thread extends those that are a third of the way to their end, in batches.
    3. A lease that can't be kept is reported once through `on_lost`.
    4. `let_go` ends the care for messages about to be settled, and waits for an extension that is under way, so that it
       can't overtake the settlement.

    The thread has its own event loop: a task that blocks the worker's loop costs itself nothing but time. It never
    extends beyond 12 hours after the receive (SQS), and never settles anything.
    """

    def __init__(self, broker: Broker, *, lease: float, clock: Clock, telemetry: Telemetry) -> None:
        self._broker = broker
        self._lease = lease
        self._clock = clock
        self._telemetry = telemetry
        self._held: dict[str, Lease] = {}
        self._guard = threading.Lock()
        self._round: tuple[frozenset[str], Future[None]] | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._beating: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the thread. Idempotent."""
        if self._thread is None:
            started = threading.Event()
            self._thread = threading.Thread(target=self._run, args=(started,), name="fanfold-heartbeat", daemon=True)
            self._thread.start()
            started.wait()

    async def stop(self) -> None:
        """End the thread; what is still held runs out by itself. Idempotent."""
        thread, self._thread = self._thread, None
        if thread is not None and self._loop is not None and self._beating is not None:
            self._loop.call_soon_threadsafe(self._beating.cancel)
            await asyncio.to_thread(thread.join)

    def hold(self, delivery: Delivery, on_lost: Callable[[], object]) -> Lease:
        """Keep a message that was just received. `on_lost` is called in the heartbeat's thread."""
        held = Lease(delivery, delivery.received_at + self._lease, on_lost)
        with self._guard:
            self._held[delivery.receipt_handle] = held
        return held

    async def let_go(self, deliveries: Iterable[Delivery]) -> None:
        """Stop extending these messages, and return when no extension of them is under way."""
        handles = [delivery.receipt_handle for delivery in deliveries]
        with self._guard:
            for handle in handles:
                self._held.pop(handle, None)
            under_way = self._round
        if under_way is not None and not under_way[0].isdisjoint(handles):
            await asyncio.wrap_future(under_way[1])

    def _run(self, started: threading.Event) -> None:
        async def main() -> None:
            self._loop = asyncio.get_running_loop()
            self._beating = asyncio.create_task(self._beat())
            started.set()
            await asyncio.wait([self._beating])

        asyncio.run(main())

    async def _beat(self) -> None:
        while True:
            await self._clock.sleep(self._lease / 3)
            try:
                await self._extend_due()
            except Exception as error:  # noqa: BLE001 - a heart that stops loses every lease; the next beat tries again
                self._telemetry.emit("heartbeat.failed", error=repr(error))

    async def _extend_due(self) -> None:
        done: Future[None] = Future()
        with self._guard:
            due = self._due(self._clock.now())
            self._round = (frozenset(lease.delivery.receipt_handle for lease in due), done)
        try:
            if due:
                await self._extend(due)
        finally:
            self._round = None
            done.set_result(None)

    def _due(self, now: float) -> list[Lease]:
        # A third of its time is gone: what came in since the last beat can wait for the next one.
        return [held for held in self._held.values() if held.expires_at - now <= self._lease * 2 / 3]

    async def _extend(self, due: Sequence[Lease]) -> None:
        now = self._clock.now()
        ends = [min(now + self._lease, held.delivery.received_at + limits.MAX_VISIBILITY) for held in due]
        errors = await self._broker.extend([held.delivery for held in due], [max(0.0, end - now) for end in ends])
        for held, end, error in zip(due, ends, errors, strict=True):
            if error is None:
                held.expires_at = end
            if self._is_lost(held, error):
                self._lose(held, error)
        self._telemetry.emit("lease.extended", messages=sum(error is None for error in errors))

    def _is_lost(self, held: Lease, error: EntryError | None) -> bool:
        expired = self._clock.now() >= held.expires_at
        if error is None:
            return expired  # the 12 hours are over
        # Without the permission to extend (an error that no retry mends), losing every task that outlives its lease
        # would mean that none of them ever ends; where the queue is out of reach, another worker may have it now.
        return error.lease_lost or (expired and error.retryable)

    def _lose(self, held: Lease, error: EntryError | None) -> None:
        with self._guard:
            if self._held.pop(held.delivery.receipt_handle, None) is None:
                return  # settled in the meantime: its handle ends with it
        held.lost = True
        self._telemetry.emit(
            "lease.lost",
            message_id=held.delivery.message_id,
            reason=error.text if error is not None else "12 hours after its receive",
        )
        held.on_lost()
