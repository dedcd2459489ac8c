"""Leases: a short visibility timeout, extended for as long as we hold the message."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Final

import msgspec

from fanfold import limits
from fanfold.brokers.protocol import Broker
from fanfold.clock import Clock
from fanfold.model import Delivery, EntryError
from fanfold.telemetry import Telemetry

_LOOK: Final = 1 / 6
"""The part of a lease between two looks of the heartbeat for what is due."""
_PATIENCE: Final = 1 / 8
"""The part of a lease for which an answer is waited for: shorter than the time between two looks."""
_LATE: Final = EntryError(code="Late", text="the queue didn't answer the extension in time", retryable=True)


class Lease(msgspec.Struct, eq=False):
    """One held message. `expires_at` moves with each extension; `on_lost` tells whoever works on it.

    `extending` is done when the extension under way has its answer, or none is waited for any more; `failing` says why
    the last one failed, empty where it didn't.
    """

    delivery: Delivery
    expires_at: float
    on_lost: Callable[[], object]
    lost: bool = False
    extending: Future[None] | None = None
    failing: str = ""


class Leases:
    """Everything that this worker holds, kept alive from a thread of its own.

    1. `hold` registers received messages, whether they run or wait.
    2. Each lease is extended when a third of it is gone, ten in a request, several requests at once. None waits for
       another's: a request that isn't answered within an eighth of the lease is given up, and made again.
    3. A lease that can't be kept is reported once through `on_lost`: when the queue says so, or at its end.
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
        self._requests: set[asyncio.Task[None]] = set()
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
        [held] = self.hold_all([delivery], on_lost)
        return held

    def hold_all(self, deliveries: Iterable[Delivery], on_lost: Callable[[], object]) -> list[Lease]:
        """Keep messages that were just received. `on_lost` is called for each of them, in the heartbeat's thread."""
        held = [Lease(delivery, delivery.received_at + self._lease, on_lost) for delivery in deliveries]
        with self._guard:
            for lease in held:
                self._held[lease.delivery.receipt_handle] = lease
        return held

    async def let_go(self, deliveries: Iterable[Delivery]) -> None:
        """Stop extending these messages, and return when no extension of them is under way."""
        with self._guard:
            held = [self._held.pop(delivery.receipt_handle, None) for delivery in deliveries]
            under_way = {lease.extending for lease in held if lease is not None and lease.extending is not None}
        for extending in under_way:
            await asyncio.shield(asyncio.wrap_future(extending))  # others wait for it too: cancelling it isn't ours

    def _run(self, started: threading.Event) -> None:
        async def main() -> None:
            self._loop = asyncio.get_running_loop()
            self._beating = asyncio.create_task(self._beat(), name="fanfold-beat")
            started.set()
            await asyncio.wait([self._beating])

        asyncio.run(main())

    async def _beat(self) -> None:
        while True:
            await self._clock.sleep(self._pause(self._clock.now()))
            self._lose_ended(self._clock.now())
            for batch in self._due(self._clock.now()):
                request = asyncio.create_task(self._keep(batch), name="fanfold-extend")
                self._requests.add(request)  # a reference: the loop itself keeps none
                request.add_done_callback(partial(self._ended, batch))

    def _pause(self, now: float) -> float:
        """Seconds to the next look: not beyond the end of a lease that can't be extended, to tell it in time."""
        with self._guard:
            ends = [held.expires_at - now for held in self._held.values() if held.failing and held.expires_at > now]
        return min([self._lease * _LOOK, *ends])

    def _lose_ended(self, now: float) -> None:
        # One whose extension never failed may only seem to have ended, to a clock that was set: the queue will tell.
        with self._guard:
            ended = [h for h in self._held.values() if h.failing and h.extending is None and h.expires_at <= now]
        for held in ended:
            self._lose(held, held.failing)

    def _due(self, now: float) -> list[Sequence[Lease]]:
        """What is to be extended now, in batches, and marked so."""
        with self._guard:
            idle = [held for held in self._held.values() if held.extending is None]
            due = [held for held in idle if held.expires_at - now <= self._lease * 2 / 3]
            due.sort(key=lambda held: held.expires_at)  # those of one age share a request, and its deadline
            size = limits.MAX_BATCH_ENTRIES
            batches: list[Sequence[Lease]] = [due[start : start + size] for start in range(0, len(due), size)]
            for batch in batches:
                extending: Future[None] = Future()
                for held in batch:
                    held.extending = extending
        return batches

    def _ended(self, batch: Sequence[Lease], request: asyncio.Task[None]) -> None:
        self._requests.discard(request)
        with self._guard:
            extending = batch[0].extending
            for held in batch:
                held.extending = None
        if extending is not None:
            extending.set_result(None)

    async def _keep(self, batch: Sequence[Lease]) -> None:
        try:
            await self._extend(batch)
        except Exception as error:  # noqa: BLE001 - a heart that stops loses every lease; the next look tries again
            for held in batch:
                held.failing = repr(error)
            self._telemetry.emit("heartbeat.failed", messages=len(batch), reason=repr(error))

    async def _extend(self, batch: Sequence[Lease]) -> None:
        now = self._clock.now()
        ends = [min(now + self._lease, held.delivery.received_at + limits.MAX_VISIBILITY) for held in batch]
        errors = await self._answers(batch, [max(0.0, end - now) for end in ends], self._patience(batch, now))
        for held, end, error in zip(batch, ends, errors, strict=True):
            self._answered(held, end, error)
        self._report(errors)

    def _patience(self, batch: Sequence[Lease], now: float) -> float:
        """Seconds for which an answer is waited for: not beyond the first lease's end."""
        left = batch[0].expires_at - now
        return min(self._lease * _PATIENCE, left) if left > 0 else self._lease * _PATIENCE

    async def _answers(
        self, batch: Sequence[Lease], seconds: Sequence[float], patience: float
    ) -> Sequence[EntryError | None]:
        request = asyncio.ensure_future(self._broker.extend([held.delivery for held in batch], seconds))
        late = asyncio.ensure_future(self._clock.sleep(patience))
        await asyncio.wait((request, late), return_when=asyncio.FIRST_COMPLETED)
        late.cancel()
        if request.done():
            return request.result()
        request.cancel()
        return [_LATE] * len(batch)

    def _answered(self, held: Lease, end: float, error: EntryError | None) -> None:
        if error is not None and error.lease_lost:
            self._lose(held, error.text)
        elif error is not None and error.retryable:
            held.failing = error.text
            if self._clock.now() >= held.expires_at:  # another worker may have it now
                self._lose(held, error.text)
        else:
            # Refused for good (the permission to extend is missing): losing every task that outlives its lease would
            # mean that none of them ever ends, so it goes on as if.
            held.failing = ""
            held.expires_at = end
            if self._clock.now() >= end:
                self._lose(held, "12 hours after its receive")

    def _report(self, errors: Sequence[EntryError | None]) -> None:
        if extended := sum(error is None for error in errors):
            self._telemetry.emit("lease.extended", messages=extended)
        if passing := [error for error in errors if error is not None and error.retryable]:
            reason = f"{passing[0].code}: {passing[0].text}"
            self._telemetry.emit("heartbeat.failed", messages=len(passing), reason=reason)

    def _lose(self, held: Lease, reason: str) -> None:
        with self._guard:
            if self._held.pop(held.delivery.receipt_handle, None) is None:
                return  # settled in the meantime: its handle ends with it
        held.lost = True
        try:
            held.on_lost()
        except Exception as error:  # noqa: BLE001 - the others must be told, and the heart must go on
            self._telemetry.emit("heartbeat.failed", messages=1, reason=repr(error))
        self._telemetry.emit("lease.lost", message_id=held.delivery.message_id, reason=reason)
