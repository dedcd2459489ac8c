"""`Fanfold`: declares tasks, enqueues events, and wires the parts together."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import socket
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from fanfold import ids, settings, wiring
from fanfold.brokers.protocol import Broker
from fanfold.clock import Clock, SystemClock
from fanfold.dead_letters.desk import DeadLetters
from fanfold.dead_letters.face import AppDeadLetters
from fanfold.declarations import Declarations
from fanfold.errors import BrokerUnavailableError, ConfigurationError, NoLedgerError
from fanfold.executor import Executor
from fanfold.fan_outs import FanOutHandle
from fanfold.ledgers.protocol import Ledger
from fanfold.model import Enqueued, FanOut, FanOutOptions, Json, QueueStatus
from fanfold.portal import Portal
from fanfold.producer import Producer, Tasks
from fanfold.telemetry import LogSubscriber, Subscriber, Telemetry
from fanfold.worker import Worker, WorkerOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    broker: Broker
    ledger: Ledger | None
    producer: Producer


class Fanfold(Declarations):
    """An application: its tasks, and where its queue and ledger are.

    1. Declares tasks and the completion's handler while it is imported; nothing is opened then.
    2. Opens queue and ledger at the first use, once, for all threads and event loops.
    3. Enqueues events, makes workers, and answers questions, each for callers with and without an event loop.
    4. `close`, or leaving a `with` block, lets go of everything.
    """

    def __init__(
        self,
        queue_url: str | None = None,
        *,
        dlq_url: str | None = None,
        ledger: str | None = None,
        region: str | None = None,
        concurrency: int | None = None,
        lease: float | None = None,
        max_attempts: int | None = None,
        grace: float | None = None,
        entity: str = "entity_id",
        task: str = "task_name",
        group_by: ids.GroupBy = ids.group_per_task,
        sqs_client: Any = None,
        kafka: Mapping[str, Any] | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """Describe an application. What isn't given comes from the environment, then from the defaults (`settings`).

        Args:
            queue_url: `sqlite:///tasks.db`, or the URL of an SQS FIFO queue.
            dlq_url: the dead letter queue; None: the one that the queue's redrive policy names.
            ledger: `sqlite:///…`, or `none`; None: with the embedded queue the same file, with SQS no ledger.
            region: the queue's AWS region; None: the one that its URL names.
            concurrency: tasks that a worker runs at once (10).
            lease: seconds for which a received message is held, and extended (60).
            max_attempts: executions of a task before it is set aside (5), where its declaration says nothing else.
            grace: seconds in which a worker stops (30).
            entity: the team's own word for `entity_id` in task parameters, log and command line.
            task: the same for `task_name`.
            group_by: the group strategy: `ids.group_per_task`, `ids.group_per_entity`, or a function of both names.
            sqs_client: a boto3 SQS client to make requests with, instead of our own transport.
            kafka: librdkafka's configuration for source and sink, as `{"bootstrap.servers": …}` (see `docs/kafka.md`).
            clock: where the parts get their time from.
            rng: where jitter and new ids come from.
        """
        self._given: dict[str, Any] = {
            "queue_url": queue_url,
            "dlq_url": dlq_url,
            "ledger": ledger,
            "region": region,
            "concurrency": concurrency,
            "lease": lease,
            "max_attempts": max_attempts,
            "grace": grace,
        }
        super().__init__(entity=entity, task=task, kafka=kafka)
        self.telemetry = Telemetry(LogSubscriber(self.words))
        self._group_by = group_by
        self._sqs_client = sqs_client
        self.clock = clock or SystemClock()
        self._rng = rng or random.Random(secrets.randbits(128))  # noqa: S311 - jitter and ids, not secrets
        self._parts: _Parts | None = None
        self._guard = threading.Lock()
        self._opening: Future[_Parts] | None = None
        self._portal = Portal()

    @property
    def settings(self) -> settings.Settings:
        """The settings in force."""
        return settings.resolve(self._given)

    def configure(self, **overrides: Any) -> None:
        """Override settings given in code (the command line does); only before the first use.

        Raises:
            ConfigurationError: queue and ledger are open already.
        """
        if self._parts is not None:
            raise ConfigurationError("configure() came after the first use; settings are fixed once the queue is open")
        self._given |= {name: value for name, value in overrides.items() if value is not None}

    @contextmanager
    def replaced(self, *, clock: Clock, **given: Any) -> Iterator[None]:
        """Run on other settings and another clock for the length of a `with` block: for tests (see `testing`)."""
        self.close()
        before = self._given, self.clock
        self._given, self.clock = self._given | given, clock
        try:
            yield
        finally:
            self.close()
            self._given, self.clock = before

    def subscribe(self, subscriber: Subscriber) -> None:
        """Hand every event to `subscriber` (see `telemetry`)."""
        self.telemetry.subscribe(subscriber)

    async def enqueue_async(
        self,
        entity_id: str,
        tasks: Tasks,
        *,
        metadata: Mapping[str, Json] | None = None,
        event_id: str | None = None,
        options: FanOutOptions | None = None,
        parent: FanOut | None = None,
    ) -> Enqueued:
        """Fan one event out: seal its set of task names in the ledger, then send a message for each.

        The same `event_id` for the same entity makes the same fan-out: enqueued again, it sends only what isn't
        terminal, and the queue drops what it knows. Without one, each call is a new fan-out.

        Args:
            entity_id: what the work is about, 1-256 characters.
            tasks: names, `{"name": …, "config": {…}}` dicts, or `TaskSpec`s; names are distinct.
            metadata: JSON that all tasks share.
            event_id: an id of the event that survives its redelivery (Kafka: topic, partition, offset).
            options: when it ends (`FanOutOptions`); those of the first time stand.
            parent: the fan-out whose completion this follows (the next stage). Without an `event_id` that completion is
                the event: retried, it makes no second fan-out.

        Raises:
            InvalidInputError: something about the arguments; nothing was recorded or sent.
            NoLedgerError: `options` or `parent` without a ledger.
            FanOutSealedError: the event was enqueued before with other names.
            FanOutIncompleteError: the queue didn't accept some; enqueue the event again.
            BrokerError, LedgerError: the queue or the ledger as a whole.
        """
        parts = await self._open()
        return await parts.producer.enqueue(
            entity_id, tasks, metadata=metadata, event_id=event_id, options=options, parent=parent
        )

    def enqueue(
        self,
        entity_id: str,
        tasks: Tasks,
        *,
        metadata: Mapping[str, Json] | None = None,
        event_id: str | None = None,
        options: FanOutOptions | None = None,
        parent: FanOut | None = None,
    ) -> Enqueued:
        """`enqueue_async` for callers without an event loop."""
        return self._portal.call(
            self.enqueue_async(entity_id, tasks, metadata=metadata, event_id=event_id, options=options, parent=parent)
        )

    async def status_async(self) -> QueueStatus:
        """The queue's counts."""
        return await (await self.broker()).status()

    def status(self) -> QueueStatus:
        """`status_async` for callers without an event loop."""
        return self._portal.call(self.status_async())

    def fan_out(self, fan_out_id: str) -> FanOutHandle:
        """One fan-out, to `get`, `wait` for, `cancel` or `rerun`; each method has an `…_async` twin."""
        return FanOutHandle(
            fan_out_id,
            connect=self._ledger_and_producer,
            announces=lambda: self.registry.folds,
            portal=self._portal,
            clock=self.clock,
        )

    async def fan_outs_async(
        self, *, limit: int = 50, open_only: bool = False, entity_id: str | None = None, parent: str | None = None
    ) -> list[FanOut]:
        """The newest fan-outs first, without their tasks. Raises NoLedgerError without a ledger.

        Args:
            limit: how many at most.
            open_only: only those that haven't ended, the ones in which something happened last first.
            entity_id: only those of one entity.
            parent: only those that the completion of this fan-out (an id) enqueued.
        """
        ledger, _ = await self._ledger_and_producer()
        return list(await ledger.list(limit=limit, open_only=open_only, entity_id=entity_id, parent=parent))

    def fan_outs(
        self, *, limit: int = 50, open_only: bool = False, entity_id: str | None = None, parent: str | None = None
    ) -> list[FanOut]:
        """`fan_outs_async` for callers without an event loop."""
        return self._portal.call(
            self.fan_outs_async(limit=limit, open_only=open_only, entity_id=entity_id, parent=parent)
        )

    @property
    def dead_letters(self) -> AppDeadLetters:
        """What was set aside: to look at, to send back, to drop."""
        return AppDeadLetters(self._dead_letters, self._portal)

    async def _dead_letters(self) -> DeadLetters:
        parts = await self._open()
        # Where no completion is declared, the workers' reconcilers send the folds that a drop makes due.
        announce = parts.producer.announce if self.registry.folds else None
        return DeadLetters(parts.broker, parts.ledger, announce=announce, telemetry=self.telemetry)

    async def broker(self) -> Broker:
        """The queue, opened."""
        return (await self._open()).broker

    async def worker(self) -> Worker:
        """A worker for this application, not started. Queue and ledger are opened.

        Raises:
            ConfigurationError: no task is declared, or `on_complete` is and there is no ledger.
            MissingExtraError: completions are to be published, and Kafka's library isn't there.
        """
        if not len(self.registry):
            raise ConfigurationError("this application declares no task; decorate a function with @app.task(...)")
        parts = await self._open()
        if self.registry.folds and parts.ledger is None:
            raise NoLedgerError(
                "on_complete needs a ledger, which alone knows that all tasks are done; give ledger=…, --ledger or "
                "FANFOLD_LEDGER"
            )
        if self.completions is not None:
            self.completions.prepare()
        now = self.settings
        executor = Executor(
            self.registry,
            max_attempts=now.max_attempts,
            concurrency=now.concurrency,
            clock=self.clock,
            rng=self._rng,
            load_fan_out=parts.ledger.get if parts.ledger is not None else None,
        )
        return Worker(
            parts.broker,
            parts.ledger,
            executor,
            name=f"{socket.gethostname()}:{os.getpid()}:{self._rng.getrandbits(24):06x}",
            options=WorkerOptions(concurrency=now.concurrency, lease=now.lease, grace=now.grace),
            announce=parts.producer.announce if self.registry.folds else None,
            resend=parts.producer.resend,
            telemetry=self.telemetry,
            clock=self.clock,
            rng=self._rng,
        )

    async def close_async(self) -> None:
        """Let go of queue and ledger. Idempotent; a later use opens them again."""
        parts, self._parts, self._opening = self._parts, None, None
        if parts is not None:
            await parts.broker.close()
            if parts.ledger is not None:
                await parts.ledger.close()

    def close(self) -> None:
        """`close_async` for callers without an event loop."""
        if self._parts is not None:
            self._portal.call(self.close_async())
        self._portal.close()

    def __enter__(self) -> Self:
        """Use the application in a `with` block, which closes it."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Close the application."""
        self.close()

    async def __aenter__(self) -> Self:
        """Use the application in an `async with` block, which closes it."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Close the application."""
        await self.close_async()
        await asyncio.to_thread(self._portal.close)

    async def _ledger_and_producer(self) -> tuple[Ledger, Producer]:
        parts = await self._open()
        if parts.ledger is None:
            raise NoLedgerError("this application has no ledger, so nobody knows its fan-outs; give ledger=…")
        return parts.ledger, parts.producer

    async def _open(self) -> _Parts:
        if self._parts is not None:
            return self._parts
        # Callers may be in several loops, and many at once: nobody waits in a thread, since opening needs threads too.
        with self._guard:
            first = self._opening is None
            opening = self._opening = self._opening or Future()
        if not first:
            return await asyncio.shield(asyncio.wrap_future(opening))
        try:
            self._parts = await self._connect()
        except BaseException as error:
            self._opening = None
            given_up = BrokerUnavailableError("opening was cancelled by another caller; try again")
            opening.set_exception(error if isinstance(error, Exception) else given_up)
            raise
        opening.set_result(self._parts)
        return self._parts

    async def _connect(self) -> _Parts:
        broker, ledger = wiring.connect(
            self.settings, sqs_client=self._sqs_client, clock=self.clock, rng=self._rng, telemetry=self.telemetry
        )
        await broker.open()
        try:
            if ledger is not None:
                await ledger.start()
        except BaseException:
            await broker.close()
            raise
        producer = Producer(
            broker,
            ledger,
            registry=self.registry,
            telemetry=self.telemetry,
            clock=self.clock,
            rng=self._rng,
            group_by=self._group_by,
        )
        return _Parts(broker=broker, ledger=ledger, producer=producer)
