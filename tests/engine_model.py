"""What the engine's tests share: a queue in memory at a time that the test moves, and a model of the group rules."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from fanfold.engine import counting, deferred, leases, queues, receiving, sending
from fanfold.engine.attributes import KEEPS_FOR_EVER
from fanfold.engine.policies import Redrive
from fanfold.engine.queues import NewQueue, Queue
from fanfold.engine.receiving import Receive, Received
from fanfold.engine.sending import NewMessage, Sent
from fanfold.model import EntryError, QueueStatus

T = TypeVar("T")

START = 1_700_000_000


class Fifo:
    """A queue and its dead letter queue in memory, with the engine's operations.

    With `defers`, what a change does is deferred, and carried out before the next operation.
    """

    suffix = ".fifo"

    def __init__(self, *, max_receive_count: int = 100, delay: int = 0, defers: bool = False) -> None:
        self.now = START * 1000
        self.defers = defers
        self._connection = sqlite3.connect(":memory:", isolation_level=None)
        self._connection.executescript("".join(queues.SCHEMA))
        self.name, self.dead_letter_name = f"tasks{self.suffix}", f"tasks-dlq{self.suffix}"
        redrive = Redrive(self.dead_letter_name, max_receive_count)
        self.create(NewQueue(name=self.dead_letter_name, attributes=KEEPS_FOR_EVER))
        attributes = {**KEEPS_FOR_EVER, "DelaySeconds": str(delay)}
        self.create(NewQueue(name=self.name, attributes=attributes, redrive=redrive))
        self._numbers = itertools.count(1)

    @property
    def connection(self) -> sqlite3.Connection:
        deferred.carry_out(self._connection)
        return self._connection

    def make(self, decide: Callable[[sqlite3.Connection, deferred.Write], T]) -> T:
        """Make a change, as the engine does where that is alone in its commit, or not."""
        if not self.defers:
            return decide(self.connection, deferred.at_once(self.connection))
        later = deferred.Later()
        result = decide(self.connection, later)
        later.defer(self._connection)
        return result

    def create(self, new: NewQueue) -> None:
        queues.create(self.connection, new, self.now)

    @property
    def queue(self) -> Queue:
        return queues.load(self.connection, self.name)

    @property
    def dead_letter_queue(self) -> Queue:
        return queues.load(self.connection, self.dead_letter_name)

    def close(self) -> None:
        self.connection.close()

    def advance(self, seconds: float) -> None:
        """Move the clock, forward or back."""
        self.now += round(seconds * 1000)

    def entry(self, body: str, group: str, deduplication_id: str | None = None, **more) -> NewMessage:
        number = next(self._numbers)
        return NewMessage(
            body=body,
            group_id=group,
            deduplication_id=deduplication_id or f"deduplication-{number}",
            message_id=f"message-{number}",
            **more,
        )

    def send(self, body: str, group: str = "", deduplication_id: str | None = None, **more) -> Sent:
        return self.send_all([self.entry(body, group, deduplication_id, **more)])[0]

    def send_all(self, entries: list[NewMessage]) -> list[Sent]:
        return self.make(lambda c, write: sending.send(c, self.queue, entries, self.now, write))

    def receive(self, limit: int = 10, *, lease: float = 30, queue: Queue | None = None) -> list[Received]:
        request = Receive(limit=limit, lease=round(lease * 1000), now=self.now)
        return self.make(lambda c, write: receiving.receive(c, queue or self.queue, request, self._new_receipt, write))

    def _new_receipt(self) -> str:
        return f"receipt{next(self._numbers)}"

    def delete(self, *received: Received) -> list[EntryError | None]:
        return self.delete_handles(*(str(message.handle) for message in received))

    def delete_handles(self, *handles: str, queue: Queue | None = None) -> list[EntryError | None]:
        return self.make(lambda c, write: leases.delete(c, queue or self.queue, handles, self.now, write))

    def change(self, received: Received, seconds: float) -> EntryError | None:
        """Move a lease's end."""
        changes = [(str(received.handle), round(seconds * 1000))]
        return leases.change_visibility(self.connection, self.queue, changes, self.now)[0]

    def bury(self, *received: Received) -> list[EntryError | None]:
        burials = [
            (
                str(m.handle),
                NewMessage(body=m.body, group_id=m.group_id, deduplication_id="d", message_id="buried"),
            )
            for m in received
        ]
        return leases.bury(self.connection, self.queue, self.dead_letter_queue, burials, self.now)

    def letters(self, limit: int = 100) -> list[Received]:
        return counting.read(self.connection, self.dead_letter_queue, limit, self.now)

    def counts(self, queue: Queue | None = None) -> QueueStatus:
        return counting.status(self.connection, queue or self.queue, self.now)

    def miscounted(self) -> list[tuple[int, ...]]:
        """The stocks whose books differ from what is there: their ids, and what is written and what is, of both."""
        rows = self.connection.execute(
            "SELECT s.id, message_count, held_count, count(m.seq), count(m.seq) FILTER (WHERE m.state = 1) "
            "FROM stocks AS s LEFT JOIN messages AS m ON m.stock = s.id WHERE NOT s.abandoned GROUP BY s.id"
        )
        return [row for row in rows if row[1:3] != row[3:]]

    def next_visible(self) -> float | None:
        at = receiving.next_ready(self.connection, self.queue, self.now)
        return None if at is None else (at - self.now) / 1000


class Loose(Fifo):
    """A standard queue with its dead letter queue."""

    suffix = ""


def bodies(messages) -> list[str]:
    return [message.body for message in messages]


@dataclass(eq=False)
class ModelMessage:
    """A message of the model: leased or delayed until `until`, or free since then."""

    body: str
    group: str
    number: int
    until: int
    state: str = "free"
    receive_count: int = 0
    handles: list[str] = field(default_factory=list)

    def available(self, now: int) -> bool:
        return self.state == "free" or self.until <= now

    def held_by(self, handle: str, now: int) -> bool:
        return self.handles[-1:] == [handle] and self.state == "leased" and self.until > now


class Model:
    """The group rules as one would say them: lists in memory, in seconds, no index and no head."""

    def __init__(self, max_receive_count: int, delay: int) -> None:
        self.now = START
        self.max_receive_count = max_receive_count
        self.delay = delay
        self.groups: dict[str, list[ModelMessage]] = {}
        self.dead: list[str] = []
        self.moved: set[ModelMessage] = set()
        self._sent: dict[str, tuple[int, ModelMessage]] = {}
        self._closed: set[str] = set()
        self._numbers = itertools.count()

    def messages(self) -> Iterator[ModelMessage]:
        for group in self.groups.values():
            yield from group

    def pass_time(self, seconds: int) -> None:
        self.now += seconds
        self._closed |= {key for key, (sent_at, _) in self._sent.items() if self.now >= sent_at + 300}

    def send(self, body: str, group: str, deduplication_id: str, *, remembered: bool = True) -> ModelMessage:
        """The message that the send stands for: a new one, or the first with its id.

        A window that was over may be forgotten or not when the clock has stepped back into it: `remembered` says it.
        """
        sent_at, first = self._sent.get(deduplication_id, (None, None))
        open_still = sent_at is not None and self.now < sent_at + 300
        if first is not None and open_still and (deduplication_id not in self._closed or remembered):
            return first
        self._closed.discard(deduplication_id)
        state = "delayed" if self.delay else "free"
        message = ModelMessage(body, group, next(self._numbers), self.now + self.delay, state)
        self._sent[deduplication_id] = (self.now, message)
        self.groups.setdefault(group, []).append(message)
        return message

    def receive(self, limit: int, lease: int) -> list[ModelMessage]:
        taken: list[ModelMessage] = []
        spent: list[ModelMessage] = []
        for group in self._turns():
            for message in itertools.takewhile(lambda m: m.available(self.now), self.groups[group]):
                if len(taken) == limit:
                    break
                (spent if message.receive_count >= self.max_receive_count else taken).append(message)
        for message in taken:
            message.receive_count += 1
            self.change(message, lease)
        for message in spent:
            self.dead.append(message.body)
            self.moved.add(message)
            self.remove(message)
        return taken

    def change(self, message: ModelMessage, seconds: int) -> None:
        message.until = self.now + seconds
        message.state = "leased" if seconds else "free"

    def remove(self, message: ModelMessage) -> None:
        group = self.groups[message.group]
        was_head = group[0] is message
        group.remove(message)
        if not group:
            del self.groups[message.group]
        elif was_head and group[0].available(self.now):
            group[0].state, group[0].until = "free", self.now

    def counts(self) -> tuple[int, int, int]:
        """Available, in flight, delayed."""
        states = [None if message.available(self.now) else message.state for message in self.messages()]
        return states.count(None), states.count("leased"), states.count("delayed")

    def next_available(self) -> int | None:
        """Seconds until a message can be received."""
        heads = [messages[0] for messages in self.groups.values()]
        return min((0 if m.available(self.now) else m.until - self.now for m in heads), default=None)

    def _turns(self) -> list[str]:
        heads = [messages[0] for messages in self.groups.values() if messages[0].available(self.now)]
        return [head.group for head in sorted(heads, key=self._turn)]

    def _turn(self, head: ModelMessage) -> tuple[bool, int, int]:
        """What is free since a time to come was so before the clock stepped back."""
        return head.until <= self.now, head.until, head.number
