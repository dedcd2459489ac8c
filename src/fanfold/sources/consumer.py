"""The consumer: one thread that talks to Kafka, and keeps the books of what it has taken on."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaException, Message, TopicPartition
from confluent_kafka import KafkaError as Code

from fanfold.errors import KafkaError, KafkaUnavailableError
from fanfold.sources.assignment import Assignment, Place, Ticket
from fanfold.sources.pipeline import Arrival
from fanfold.sources.record import Record
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far a source is, as of its last look: for telemetry."""

    polled_at: float
    """Of `time.monotonic`."""
    in_flight: int
    bytes: int
    oldest: float
    """Seconds that the longest in flight has been so."""
    paused: int
    committed: int
    """Records below committed offsets, since the start."""
    lag: Mapping[Place, int]
    """By partition: records that aren't committed, in flight or not read yet."""


class ConsumerThread:
    """Reads records and commits offsets.

    1. Polls always, so that the group never takes it for dead: also when nothing more is taken on, and while it stops.
    2. Takes on no more than there is room for; where there is none for longer, it pauses what is stuck.
    3. Commits, one commit at a time, the positions below which everything is done.
    4. Partitions revoked: waits for what is in flight of them, commits, lets go. Lost: lets go, and commits nothing.
    5. `drain` stops reading, `finish` commits what is done, leaves the group and ends.

    All books are this thread's own; the loop's side sends back tickets through a queue.
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
        self._commit_at = 0.0
        self._committed = 0
        self._standing = Standing(
            polled_at=time.monotonic(), in_flight=0, bytes=0, oldest=0, paused=0, committed=0, lag={}
        )

    @property
    def standing(self) -> Standing:
        """How far it is. From any thread."""
        return self._standing

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Connect, and begin to read. Blocks until a broker has answered.

        Raises:
            KafkaError: the configuration is refused, or no broker answers.
        """
        try:
            self._consumer = Consumer(
                self._config | {"error_cb": self._said, "on_commit": self._answered},
                logger=logging.getLogger("fanfold.kafka"),
            )
            self._consumer.list_topics(timeout=_CONNECT)
        except KafkaException as error:
            raise _named(error.args[0], self._config) from error
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
        error: BaseException | None = None
        try:
            while not self._finishing.is_set():
                self._turn()
            self._leave()
        except BaseException as raised:  # noqa: BLE001 - whatever ends the thread is the source's end, and said there
            error = raised
        self._workshop.ended(error)

    def _turn(self) -> None:
        self._settle()
        self._commit_when_due()
        if self._draining.is_set():
            self._pause(self._books.places)
        else:
            self._make_room()
        self._take(self._read())
        self._note()

    # What is over.

    def _settle(self, wait: float = 0.0) -> None:
        """Enter what is over; where nothing is, wait so many seconds for it."""
        with contextlib.suppress(queue.Empty):
            if wait > 0:
                self._books_settle(*self._over.get(timeout=wait))
            while True:
                self._books_settle(*self._over.get_nowait())

    def _books_settle(self, ticket: Ticket, done: bool) -> None:  # noqa: FBT001 - as it stands in the queue
        self._books.settle(ticket, done=done)

    # Reading.

    def _make_room(self) -> None:
        self._resume(self._books.resume())
        if self._books.room <= 0:
            until = time.monotonic() + _NO_ROOM
            while self._books.room <= 0 and (left := until - time.monotonic()) > 0:
                self._settle(left)
            if self._books.room <= 0:
                self._pause(self._books.pause())

    def _read(self) -> list[Message]:
        first = self._consumer.poll(_POLL)
        if first is None:
            return []
        more = min(_BATCH, self._books.room) - 1
        return [first, *(self._consumer.consume(more, timeout=0) if more > 0 else ())]

    def _take(self, messages: Sequence[Message]) -> None:
        arrivals, now = [], time.monotonic()
        for message in messages:
            if (error := message.error()) is not None:
                self._said(error)
                continue
            record = _record(message)
            ticket = self._books.receive((record.topic, record.partition), record.offset, record.size, now)
            if ticket is not None:
                arrivals.append(Arrival(record, ticket))
        if arrivals:
            self._workshop.accept(arrivals)

    def _pause(self, places: Collection[Place]) -> None:
        if places:
            self._consumer.pause([TopicPartition(*place) for place in places])

    def _resume(self, places: Collection[Place]) -> None:
        if places:
            self._consumer.resume([TopicPartition(*place) for place in places])

    # Committing.

    def _commit_when_due(self) -> None:
        now = time.monotonic()
        if self._committing is not None or now < self._commit_at:
            return
        self._commit_at = now + _COMMIT_EVERY
        if positions := self._books.commits():
            self._committing = positions
            self._consumer.commit(offsets=_offsets(positions), asynchronous=True)

    def _answered(self, error: Code | None, offsets: Sequence[TopicPartition]) -> None:
        """The group's answer to the commit under way; what failed stands in the books, and is in the next one."""
        under_way, self._committing = self._committing or {}, None
        refused = {(o.topic, o.partition): o.error for o in offsets if o.error is not None}
        if error is not None or refused:
            self._telemetry.emit("kafka.commit_failed", reason=str(error or next(iter(refused.values()))))
        if error is None:
            self._commited({place: at for place, at in under_way.items() if place not in refused})
