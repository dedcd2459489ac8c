"""The consumer: one thread that talks to Kafka, and keeps the books of what it has taken on."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from confluent_kafka import KafkaError as Code

from fanfold.errors import KafkaError
from fanfold.sources.assignment import Assignment, Place, Ticket
from fanfold.sources.messages import cant_start, offsets_of, partitions_of, places_of, record_of, shown
from fanfold.sources.pipeline import Arrival
from fanfold.sources.standing import Standing, look
from fanfold.telemetry import Telemetry

_POLL: Final = 0.1
"""Seconds of one poll: how long a stop, or a commit, waits behind it."""
_BATCH: Final = 500
"""Records of one poll at most."""
_NO_ROOM: Final = 0.1
"""Seconds without room after which partitions are paused. Pausing throws away what librdkafka has fetched ahead, so it
is for when something is stuck; the everyday wait for room is a wait."""
_COMMIT_EVERY: Final = 0.5
"""Seconds between two commits: what a crash brings again beyond what was in flight."""
_ABANDONED: Final = 5.0
"""Seconds in which what was abandoned is over."""
_LAST_COMMIT: Final = 5.0
"""Seconds in which the last commit must be answered; without it, the next member gets more again."""
_LOOK_EVERY: Final = 1.0
"""Seconds between two looks at the lag."""
_CONNECT: Final = 10.0
"""Seconds in which a broker must answer at the start."""


class Workshop(Protocol):
    """The loop's side, called from the consumer's thread."""

    def accept(self, arrivals: Sequence[Arrival]) -> None:
        """Take records on; each ticket comes back by `ConsumerThread.over`."""

    def abandon(self, places: Collection[Place]) -> None:
        """Give up what is under way of these partitions."""

    def ended(self, error: BaseException | None) -> None:
        """The thread has ended."""


class ConsumerThread:
    """Reads records and commits offsets.

    1. Polls always, so that the group never takes it for dead: also while nothing more is taken on, and while it stops.
    2. Takes on no more than there is room for; where there is none for longer, it pauses what is stuck.
    3. Commits, one commit at a time, the positions below which everything is done.
    4. Partitions revoked: waits for what is in flight of them, commits, lets go. Lost: lets go, and commits nothing.
    5. `drain` stops reading; `finish` commits what is done, leaves the group and ends.

    The books are this thread's own; the loop's side sends tickets back through a queue.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        topics: Sequence[str],
        workshop: Workshop,
        *,
        max_records: int,
        max_bytes: int,
        patience: float,
        telemetry: Telemetry,
    ) -> None:
        """Nothing is connected before `start`.

        Args:
            config: librdkafka's.
            topics: what to read.
            workshop: where records go.
            max_records: bound on records in flight.
            max_bytes: bound on their bytes.
            patience: seconds that a revoked partition's records get to be finished.
            telemetry: told of what happens; its subscribers run in this thread too.
        """
        self._config = dict(config)
        self._topics = list(topics)
        self._workshop = workshop
        self._patience = patience
        self._telemetry = telemetry
        self._books = Assignment(max_records=max_records, max_bytes=max_bytes)
        self._over: queue.SimpleQueue[tuple[Ticket, bool]] = queue.SimpleQueue()
        self._draining = threading.Event()
        self._finishing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fanfold-kafka", daemon=True)
        self._consumer: Consumer
        self._committing: dict[Place, int] | None = None
        self._committing_up_to = self._committed = 0
        self._commit_at = 0.0
        self._look_at = 0.0
        self._fatal: KafkaError | None = None
        self.standing = Standing()
        """How far it is. From any thread."""

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Connect, and begin to read. Blocks until a broker has answered.

        Raises:
            KafkaError: the configuration is refused, or no broker answers.
        """
        callbacks = {"error_cb": self._said, "on_commit": self._answered}
        try:
            self._consumer = Consumer(self._config | callbacks, logger=logging.getLogger("fanfold.kafka"))
            self._consumer.poll(0)  # older libraries ask for an OAuth token nowhere else, and nobody answers without it
            self._consumer.list_topics(timeout=_CONNECT)
        except KafkaException as error:
            raise cant_start(error.args[0], self._config, _CONNECT) from error
        self._consumer.subscribe(self._topics, on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)
        self._thread.start()

    def over(self, ticket: Ticket, done: bool) -> None:  # noqa: FBT001 - a callback's shape
        """A record is over. From any thread."""
        self._over.put((ticket, done))

    def drain(self) -> None:
        """Read no more. From any thread."""
        self._draining.set()

    def finish(self) -> None:
        """Commit what is done, leave the group, end. From any thread."""
        self._draining.set()
        self._finishing.set()

    def _run(self) -> None:
        ended_by: BaseException | None = None
        try:
            while not self._finishing.is_set():
                self._turn()
            self._leave()
        except BaseException as error:  # noqa: BLE001 - whatever ends the thread ends the source, which says it
            ended_by = error
        self._workshop.ended(ended_by)

    def _turn(self) -> None:
        self._settle()
        self._commit_when_due()
        if self._draining.is_set():
            self._consumer.pause(partitions_of(self._books.pause_all()))
        else:
            self._make_room()
        if arrivals := self._read():
            self._workshop.accept(arrivals)
        self._note()
        if self._fatal is not None:
            raise self._fatal

    # Records.

    def _settle(self, wait: float = 0.0) -> None:
        """Enter what is over; where nothing is, wait so many seconds for it."""
        with contextlib.suppress(queue.Empty):
            if wait > 0:
                ticket, done = self._over.get(timeout=wait)
                self._books.settle(ticket, done=done)
            while True:
                ticket, done = self._over.get_nowait()
                self._books.settle(ticket, done=done)

    def _make_room(self) -> None:
        self._consumer.resume(partitions_of(self._books.resume()))
        until = time.monotonic() + _NO_ROOM
        while self._books.room <= 0:
            if (left := until - time.monotonic()) <= 0:
                self._consumer.pause(partitions_of(self._books.pause()))
                return
            self._settle(left)

    def _read(self) -> list[Arrival]:
        arrivals: list[Arrival] = []
        message = self._consumer.poll(_POLL)
        while message is not None:
            if (arrival := self._entered(message)) is not None:
                arrivals.append(arrival)
            # One by one: a record's size is known when it is there, and a whole batch may go far beyond the bound.
            full = len(arrivals) >= _BATCH or self._books.room <= 0
            message = None if full else self._consumer.poll(0)
        return arrivals

    def _entered(self, message: Message) -> Arrival | None:
        if (error := message.error()) is not None:
            self._said(error)
            return None
        record = record_of(message)
        place = record.topic, record.partition
        ticket = self._books.receive(place, record.offset, record.size, time.monotonic())
        return Arrival(record, ticket) if ticket is not None else None

    # Offsets.

    def _commit_when_due(self) -> None:
        now = time.monotonic()
        if self._committing is None and now >= self._commit_at:
            self._commit_at = now + _COMMIT_EVERY
            self._commit()

    def _commit(self) -> None:
        if not (positions := self._books.commits()):
            return
        self._committing, self._committing_up_to = positions, self._books.passed
        try:
            self._consumer.commit(offsets=offsets_of(positions), asynchronous=True)
        except KafkaException as error:
            self._answered(error.args[0], [])

    def _answered(self, error: Code | None, offsets: Sequence[TopicPartition]) -> None:
        """The group's answer to the commit under way. What failed stands in the books, and is in the next one."""
        positions, self._committing = self._committing or {}, None
        refused = {(o.topic, o.partition): o.error for o in offsets if o.error is not None}
        if (reason := error or next(iter(refused.values()), None)) is not None:
            self._telemetry.emit("kafka.commit_failed", reason=reason.str())
        if error is None and (known := {p: at for p, at in positions.items() if p not in refused}):
            self._books.committed(known)
            self._committed = max(self._committed, self._committing_up_to)

    def _commit_now(self, places: Collection[Place]) -> None:
        if positions := self._books.commits(places):
            try:
                self._consumer.commit(offsets=offsets_of(positions), asynchronous=False)
            except KafkaException as error:
                self._telemetry.emit("kafka.commit_failed", reason=error.args[0].str())

    # The group.

    def _assigned(self, _: Consumer, partitions: Sequence[TopicPartition]) -> None:
        self._books.assign(places := places_of(partitions))
        self._telemetry.emit("kafka.assigned", partitions=shown(places))

    def _revoked(self, _: Consumer, partitions: Sequence[TopicPartition]) -> None:
        places = places_of(partitions)
        self._telemetry.emit("kafka.revoking", partitions=shown(places), in_flight=self._books.unsettled(places))
        self._wait_for(places, self._patience)
        if self._books.unsettled(places):
            self._workshop.abandon(places)
            self._wait_for(places, _ABANDONED)
        if not self._finishing.is_set():  # then it was done, and a broker that is away must not hold up the end
            self._commit_now(places)
        self._books.let_go(places)
        self._telemetry.emit("kafka.revoked", partitions=shown(places))

    def _lost(self, _: Consumer, partitions: Sequence[TopicPartition]) -> None:
        places = places_of(partitions)
        self._workshop.abandon(places)
        self._books.let_go(places)
        self._telemetry.emit("kafka.lost", partitions=shown(places))

    def _wait_for(self, places: Collection[Place], seconds: float) -> None:
        until = time.monotonic() + seconds
        while self._books.unsettled(places) and (left := until - time.monotonic()) > 0 and not self._finishing.is_set():
            self._settle(min(left, _POLL))

    def _leave(self) -> None:
        self._settle()
        until = time.monotonic() + _LAST_COMMIT
        while (self._committing is not None or self._books.commits()) and time.monotonic() < until:
            if self._committing is None:
                self._commit()
            self._consumer.poll(_POLL)  # brings the answer, and no record: all is paused
        self._look()
        self._consumer.close()

    # What it says.

    def _said(self, error: Code) -> None:
        self._telemetry.emit("kafka.error", code=error.name(), reason=error.str())
        if error.fatal():
            self._fatal = KafkaError(f"Kafka ended the consumer for good: {error.str()} ({error.name()})")

    def _note(self) -> None:
        now = time.monotonic()
        self.standing = replace(self.standing, polled_at=now)
        if now >= self._look_at:
            self._look_at = now + _LOOK_EVERY
            self._look()

    def _look(self) -> None:
        ends = {place: self._end(place) for place in self._books.places}
        self.standing = look(self._books, ends, committed=self._committed, now=time.monotonic())

    def _end(self, place: Place) -> int:
        """The offset that comes next in a partition's log, as of the last fetch; asks nobody."""
        return self._consumer.get_watermark_offsets(TopicPartition(*place), cached=True)[1]
