"""What the engine's tests share: a queue in memory at a time that the test moves, and a model of the group rules."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field

from fanfold.engine import counting, leases, queues, receiving, sending
from fanfold.engine.attributes import KEEPS_FOR_EVER
from fanfold.engine.policies import Redrive
from fanfold.engine.queues import NewQueue, Queue
from fanfold.engine.receiving import Receive, Received
from fanfold.engine.sending import NewMessage, Sent
from fanfold.model import DeadLetter, EntryError, QueueStatus

START = 1_700_000_000


class Fifo:
    """A queue and its dead letter queue in memory, with the engine's operations."""

    suffix = ".fifo"

    def __init__(self, *, max_receive_count: int = 100) -> None:
        self.now = START * 1000
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.connection.executescript("".join(queues.SCHEMA))
        self.name, self.dead_letter_name = f"tasks{self.suffix}", f"tasks-dlq{self.suffix}"
        redrive = Redrive(self.dead_letter_name, max_receive_count)
        self.create(NewQueue(name=self.dead_letter_name, attributes=KEEPS_FOR_EVER))
        self.create(NewQueue(name=self.name, attributes=KEEPS_FOR_EVER, redrive=redrive))
        self._numbers = itertools.count(1)

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
        return sending.send(self.connection, self.queue, entries, self.now)

    def receive(self, limit: int = 10, *, lease: float = 30, queue: Queue | None = None) -> list[Received]:
        request = Receive(limit=limit, lease=round(lease * 1000), now=self.now)
        return receiving.receive(self.connection, queue or self.queue, request, lambda: f"receipt{next(self._numbers)}")

    def delete(self, *received: Received) -> list[EntryError | None]:
        return self.delete_handles(*(str(message.handle) for message in received))

    def delete_handles(self, *handles: str, queue: Queue | None = None) -> list[EntryError | None]:
        return leases.delete(self.connection, queue or self.queue, handles, self.now)

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

    def letters(self, limit: int = 100) -> list[DeadLetter]:
        return [letter for letter, _ in counting.peek(self.connection, self.dead_letter_queue, limit)]

    def counts(self, queue: Queue | None = None) -> QueueStatus:
        return counting.status(self.connection, queue or self.queue, self.now)

    def next_visible(self) -> float | None:
        at = receiving.next_ready(self.connection, self.queue, self.now)
        return None if at is None else (at - self.now) / 1000


def bodies(messages) -> list[str]:
    return [message.body for message in messages]


@dataclass(eq=False)
class ModelMessage:
    """A message of the model."""

    body: str
    group: str
    deduplication_id: str
    number: int
    visible_at: int
    receive_count: int = 0
    received_at: int = 0
    handles: list[str] = field(default_factory=list)

    def held_by(self, handle: str, now: int) -> bool:
        return self.handles[-1:] == [handle] and self.visible_at > now


class Model:
    """The group rules as one would say them: lists in memory, in seconds, no index and no head."""

    def __init__(self, max_receive_count: int) -> None:
        self.now = START
        self.max_receive_count = max_receive_count
        self.groups: dict[str, list[ModelMessage]] = {}
        self.available_since: dict[str, int] = {}
        self.dead: list[str] = []
        self.moved: set[ModelMessage] = set()
        self._sent: dict[str, tuple[int, ModelMessage]] = {}
        self._numbers = itertools.count()

    def messages(self) -> Iterator[ModelMessage]:
        for group in self.groups.values():
            yield from group

    def send(self, body: str, group: str, deduplication_id: str) -> ModelMessage:
        """The message that the send stands for: a new one, or the first with its id."""
        sent_at, first = self._sent.get(deduplication_id, (None, None))
        if first is not None and sent_at is not None and self.now < sent_at + 300:
            return first
        message = ModelMessage(body, group, deduplication_id, next(self._numbers), self.now)
        self._sent[deduplication_id] = (self.now, message)
        queue = self.groups.setdefault(group, [])
        queue.append(message)
        if len(queue) == 1:
            self.available_since[group] = self.now
        return message

    def receive(self, limit: int, lease: int) -> list[ModelMessage]:
        taken: list[ModelMessage] = []
        spent: list[ModelMessage] = []
        for group in self._turns():
            for message in itertools.takewhile(lambda m: m.visible_at <= self.now, self.groups[group]):
                if len(taken) == limit:
                    break
                (spent if message.receive_count >= self.max_receive_count else taken).append(message)
        for message in taken:
            message.receive_count += 1
            message.received_at = self.now
            self.change(message, lease)
        for message in spent:
            self.dead.append(message.body)
            self.moved.add(message)
            self.remove(message)
        return taken

    def change(self, message: ModelMessage, seconds: int) -> None:
        message.visible_at = self.now + seconds
        if self.groups[message.group][0] is message:
            self.available_since[message.group] = message.visible_at

    def remove(self, message: ModelMessage) -> None:
        group = self.groups[message.group]
        was_head = group[0] is message
        group.remove(message)
        if not group:
            del self.groups[message.group], self.available_since[message.group]
        elif was_head:
            group[0].visible_at = max(group[0].visible_at, self.now)
            self.available_since[message.group] = group[0].visible_at

    def counts(self) -> tuple[int, int]:
        """Available and in flight."""
        invisible = sum(message.visible_at > self.now for message in self.messages())
        return sum(1 for _ in self.messages()) - invisible, invisible

    def _turns(self) -> list[str]:
        ready = [group for group, messages in self.groups.items() if messages[0].visible_at <= self.now]
        return sorted(ready, key=lambda group: (self.available_since[group], self.groups[group][0].number))
