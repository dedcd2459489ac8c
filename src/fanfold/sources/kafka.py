"""The source: a Kafka topic in, fan-outs out."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import Collection, Sequence
from typing import Final

from fanfold.app import Fanfold
from fanfold.service import Deadline, Service
from fanfold.sources import settings as settings_
from fanfold.sources.assignment import Place, Ticket
from fanfold.sources.client import consumer_config, producer_config
from fanfold.sources.consumer import ConsumerThread
from fanfold.sources.pipeline import Arrival, Pipeline
from fanfold.sources.poison import DeadLetterTopic, SetAside, stop_at
from fanfold.sources.publisher import Publisher
from fanfold.sources.settings import KafkaSettings
from fanfold.sources.tally import Tally, Trouble

PROGRESS_EVERY: Final = 10.0
"""Seconds between two `kafka.progress` events."""

_RESERVE: Final = 5.0
"""Seconds of a stop that are kept for the last commit and for leaving the group; at most a quarter of the time."""
_LAST_MOMENT: Final = 1.0
"""Seconds in which what was cancelled ends."""
_MAX_POLL_INTERVAL_MS: Final = 300_000


class KafkaSource(Service):
    """Consumes topics, plans what their records mean, and enqueues it. `docs/kafka.md` says what is promised.

    1. `start` opens queue and ledger, connects, and joins the group.
    2. The consumer's thread hands records over; the pipeline plans and enqueues them on this loop, and says when each
       is over. Offsets are committed only over records that are in the ledger, set aside, or mean nothing.
    3. `stop` reads no more, lets what is in flight finish until the deadline, commits what is done, leaves the group.
    4. What nobody can handle (a poison event without a dead letter topic, a consumer that ends) stops it by itself:
       `wait` raises it.

    It never commits past an event that is neither enqueued nor set aside.
    """

    def __init__(self, app: Fanfold, settings: KafkaSettings) -> None:
        """Nothing is opened before `start`.

        Raises:
            ConfigurationError: the application declares no event, or not the ones that the settings name.
        """
        super().__init__()
        self._app = app
        self._settings = settings
        self._events = settings_.topics(app.events, settings.topics)
        self._telemetry = app.telemetry
        self.tally = Tally()
        self._loop: asyncio.AbstractEventLoop
        self._ended: asyncio.Future[None]
        self._deadline: Deadline | None = None
        self._failing: asyncio.Task[None] | None = None
        self._reporter: asyncio.Task[None] | None = None
        self._pipeline = self._new_pipeline()
        self._consumer = ConsumerThread(
            consumer_config(settings.client),
            list(self._events),
            self,
            max_records=settings.max_in_flight,
            max_bytes=settings.max_bytes,
            patience=self._patience(),
            telemetry=app.telemetry,
        )

    @property
    def alive(self) -> bool:
        """Whether the consumer's thread runs: also beyond a stop, where Kafka doesn't let it go."""
        return self._consumer.alive

    def hurry(self) -> None:
        """Let a stop that is under way end at once."""
        if self._deadline is not None:
            self._deadline.bring_forward()

    # Called from the consumer's thread.

    def accept(self, arrivals: Sequence[Arrival]) -> None:
        """Take records on."""
        self._loop.call_soon_threadsafe(self._accept, arrivals)

    def abandon(self, places: Collection[Place]) -> None:
        """Give up what is under way of these partitions."""
        self._loop.call_soon_threadsafe(self._pipeline.abandon, places)

    def ended(self, error: BaseException | None) -> None:
        """The consumer's thread has ended."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._end, error)

    # On the loop.

    async def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        await self._app.broker()
        await asyncio.to_thread(self._consumer.start)
        self._reporter = asyncio.create_task(self._report_forever())
        self._telemetry.emit("kafka.started", topics=",".join(self._events), group=self._settings.group)

    async def _stop(self, deadline: Deadline) -> None:
        self._deadline = deadline
        if self._reporter is None:
            return  # it never came up
        self._telemetry.emit("kafka.stopping", in_flight=len(self._pipeline.carrying))
        self._consumer.drain()
        await deadline.earlier(min(_RESERVE, deadline.remaining / 4)).wait(self._pipeline.carrying)
        await self._give_up()
        self._consumer.finish()
        if not await deadline.wait([self._ended]):
            self._telemetry.emit("kafka.left_behind", reason="Kafka didn't let the consumer go in time")
        await self._give_up()
        self._pipeline.close()
        self._reporter.cancel()
        self._report()

    async def _give_up(self) -> None:
        """Let nothing go on: what isn't finished comes again. A planner that can't be cancelled is left alone."""
        self._pipeline.abandon()
        if self._pipeline.carrying:
            await asyncio.wait(self._pipeline.carrying, timeout=_LAST_MOMENT)

    def _accept(self, arrivals: Sequence[Arrival]) -> None:
        self.tally.read += len(arrivals)
        self._pipeline.accept(arrivals)

    def _end(self, error: BaseException | None) -> None:
        self._ended.set_result(None)
        if error is not None:
            self._fail(error)

    def _over(self, ticket: Ticket, done: bool) -> None:  # noqa: FBT001 - a callback's shape
        self._consumer.over(ticket, done)

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
            self._telemetry.emit("kafka.failed", reason=str(error) or repr(error))
            self._failing = asyncio.create_task(self.stop(Deadline(self._app.settings.grace)))

    async def _report_forever(self) -> None:
        while True:
            await self._app.clock.sleep(PROGRESS_EVERY)
            self._report()

    def _report(self) -> None:
        standing = self._consumer.standing
        lag = {f"{topic}:{partition}": behind for (topic, partition), behind in sorted(standing.lag.items())}
        self._telemetry.emit(
            "kafka.progress",
            read=self.tally.read,
            enqueued=self.tally.enqueued,
            nothing=self.tally.nothing,
            poison=self.tally.poison,
            waiting=self.tally.waiting,
            committed=standing.committed,
            in_flight=standing.in_flight,
            bytes=standing.bytes,
            oldest=standing.oldest,
            paused=standing.paused,
            since_poll=time.monotonic() - standing.polled_at,
            lag=sum(lag.values()),
            lag_by_partition=lag,
        )

    def _new_pipeline(self) -> Pipeline:
        rng = random.Random(secrets.randbits(128))  # noqa: S311 - jitter, not a secret
        return Pipeline(
            self._events,
            enqueue=self._app.enqueue_async,
            set_aside=self._policy(),
            over=self._over,
            failed=self._fail,
            order=self._settings.order,
            tally=self.tally,
            trouble=Trouble(self._telemetry, self._app.clock, self.tally),
            clock=self._app.clock,
            rng=rng,
        )

    def _policy(self) -> SetAside:
        topic = self._settings.dead_letter_topic
        if topic is None:
            return stop_at
        publisher = Publisher(producer_config(self._settings.client))
        return DeadLetterTopic(publisher, topic, group=self._settings.group, telemetry=self._telemetry)

    def _patience(self) -> float:
        """Seconds for what is in flight of a revoked partition: the grace, and well below what the group waits."""
        longest = int(self._settings.client.get("max.poll.interval.ms", _MAX_POLL_INTERVAL_MS)) / 1000
        return min(self._app.settings.grace, longest / 2)
