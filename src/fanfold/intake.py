"""Intake: from the queue into free slots."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Final

from fanfold import limits
from fanfold.brokers.protocol import Broker
from fanfold.clock import Clock
from fanfold.model import Delivery
from fanfold.service import Deadline, Service
from fanfold.slots import Slots
from fanfold.telemetry import Telemetry

_POLLS: Final = 3
"""Receives under way beside a queue that is near; more than one only while it has more than one receive takes."""
_MOST_POLLS: Final = 10
_ONE_MORE_EACH: Final = 0.01
"""Seconds of a full answer's way for which one receive more is under way: a queue that is far would bound the drain,
and more beside one that is near are requests that find nothing when it runs dry."""
_SMOOTHED: Final = 16
_SHORTEST_POLL: Final = 1.0
_FIRST_BACKOFF: Final = 0.5
_MAX_BACKOFF: Final = 30.0


class Intake(Service):
    """Polls the queue for as many messages as there are free slots, and hands them on.

    1. Takes free slots, and receives at most that many messages: a receive starts leases and spends receive counts.
    2. A full answer lets others start beside the next receive, the more the farther the queue is; an idle queue has
       one long poll.
    3. An error is reported and the next poll waits: capped, jittered, for ever. One network error never ends it.
    4. `stop` starts no new poll and lets those in flight finish: what they bring must be given back, not lost. That's
       why a poll is no longer than the time to stop in.
    """

    def __init__(
        self,
        broker: Broker,
        slots: Slots,
        deliver: Callable[[Sequence[Delivery]], None],
        *,
        lease: float,
        longest_poll: float,
        clock: Clock,
        rng: random.Random,
        telemetry: Telemetry,
    ) -> None:
        super().__init__()
        self._broker = broker
        self._slots = slots
        self._deliver = deliver
        self._lease = lease
        self._wait = max(_SHORTEST_POLL, min(longest_poll, limits.MAX_WAIT))
        self._clock = clock
        self._rng = rng
        self._telemetry = telemetry
        self._failures = 0
        self._plenty = False
        self._way = 0.0
        """Seconds that a full answer takes: the least of late, since a busy worker hears of answers late."""
        self._polls: set[asyncio.Task[None]] = set()
        self._loop: asyncio.Task[None] | None = None
        self.last_receive_at: float | None = None
        """When a receive last succeeded, in seconds since the epoch: the worker's sign of life."""

    async def _start(self) -> None:
        self._loop = asyncio.create_task(self._poll_forever())

    async def _stop(self, deadline: Deadline) -> None:
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait([self._loop])
        self._broker.end_polls()
        if not await deadline.wait(self._polls):
            for poll in self._polls:
                poll.cancel()
            await asyncio.wait(self._polls)

    async def _poll_forever(self) -> None:
        while True:
            while len(self._polls) >= self._most_polls():
                await asyncio.wait(self._polls, return_when=asyncio.FIRST_COMPLETED)
            if self._failures:
                await self._back_off()
            count = await self._slots.take(self._broker.batch, linger=self._broker.linger)
            poll = asyncio.create_task(self._poll(count))
            self._polls.add(poll)
            poll.add_done_callback(self._polls.discard)

    def _most_polls(self) -> int:
        if self._failures or not self._plenty:
            return 1
        return min(_MOST_POLLS, _POLLS + int(self._way / _ONE_MORE_EACH))

    async def _poll(self, count: int) -> None:
        received: Sequence[Delivery] = ()
        asked_at, plenty = self._clock.now(), self._plenty
        try:
            received = await self._broker.receive(count, wait=self._wait, lease=self._lease)
            self._failures = 0
            self.last_receive_at = self._clock.now()
            if plenty and len(received) == count:  # any other may have waited for messages
                self._measure(self.last_receive_at - asked_at)
        except Exception as error:  # noqa: BLE001 - a consumer that falls silent is worse than any error
            self._failures += 1
            self._telemetry.emit("poll.failed", failures=self._failures, reason=str(error) or repr(error))
        finally:
            self._plenty = len(received) == count
            self._slots.give_back(count - len(received))
        if received:
            self._deliver(received)

    def _measure(self, seconds: float) -> None:
        longer = max(0.0, seconds) - self._way
        self._way += longer if longer < 0 else longer / _SMOOTHED

    async def _back_off(self) -> None:
        full = min(_MAX_BACKOFF, _FIRST_BACKOFF * 2 ** min(self._failures - 1, 16))
        await self._clock.sleep(full / 2 + self._rng.random() * full / 2)
