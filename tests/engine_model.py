"""What the engine's tests share: a queue in memory at a time that the test moves, and a model of the group rules."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field

from fanfold.engine import store
from fanfold.model import DeadLetter, Delivery, EntryError, Message, QueueStatus, SendResult

START = 1_700_000_000


class Fifo:
    """A queue and its dead letter queue in memory, with the engine's operations."""

    def __init__(self, *, max_receive_count: int = 100) -> None:
        self.now = START * 1000
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.connection.executescript("".join(store.SCHEMA))
        create, now = store.create_queue, self.now
        self.dead_letter_queue = create(
            self.connection, "tasks-dlq.fifo", now, dead_letter_queue=None, max_receive_count=None
        )
        self.queue = create(
            self.connection,
            "tasks.fifo",
            now,
            dead_letter_queue=self.dead_letter_queue,
            max_receive_count=max_receive_count,
        )
        self._numbers = itertools.count(1)

    def close(self) -> None:
        self.connection.close()

    def advance(self, seconds: float) -> None:
        """Move the clock, forward or back."""
        self.now += round(seconds * 1000)

    def entry(self, body: str, group: str, deduplication_id: str | None = None) -> tuple[Message, str]:
        number = next(self._numbers)
        deduplication_id = deduplication_id or f"deduplication-{number}"
        return Message(body=body, group_id=group, deduplication_id=deduplication_id), f"message-{number}"

    def send(self, body: str, group: str, deduplication_id: str | None = None) -> SendResult:
        return self.send_all([self.entry(body, group, deduplication_id)])[0]

    def send_all(self, entries: list[tuple[Message, str]]) -> list[SendResult]:
        return store.send(self.connection, self.queue, entries, self.now)

    def receive(self, limit: int = 10, *, lease: float = 30, queue: int | None = None) -> list[Delivery]:
        request = store.Receive(queue=queue or self.queue, limit=limit, lease=round(lease * 1000), now=self.now)
        return store.receive(self.connection, request, lambda: f"receipt{next(self._numbers)}")

    def delete(self, *received: Delivery) -> list[EntryError | None]:
        return self.delete_handles(*(message.receipt_handle for message in received))

    def delete_handles(self, *handles: str, queue: int | None = None) -> list[EntryError | None]:
        return store.delete(self.connection, queue or self.queue, handles, self.now)

    def change(self, received: Delivery, seconds: float) -> EntryError | None:
        """Move a lease's end."""
        changes = [(received.receipt_handle, round(seconds * 1000))]
        return store.change_visibility(self.connection, self.queue, changes, self.now)[0]

    def bury(self, *received: Delivery) -> list[EntryError | None]:
        burials = [
            (m.receipt_handle, Message(body=m.body, group_id=m.group_id, deduplication_id="d"), "buried")
            for m in received
        ]
        return store.bury(self.connection, self.queue, burials, self.now)

    def letters(self, limit: int = 100) -> list[DeadLetter]:
        return [letter for letter, _ in store.peek(self.connection, self.dead_letter_queue, limit)]

    def counts(self, queue: int | None = None) -> QueueStatus:
        return store.status(self.connection, queue or self.queue, self.now)

    def next_visible(self) -> float | None:
        at = store.next_ready(self.connection, self.queue, self.now)
        return None if at is None else (at - self.now) / 1000


def bodies(messages: list[Delivery]) -> list[str]:
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
