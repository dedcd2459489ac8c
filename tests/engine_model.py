"""What the engine's tests share: a clock that they move, a queue in memory, and a model of the group rules."""

from __future__ import annotations

import asyncio
import itertools
import random
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field

from fanfold import sql
from fanfold.engine import dead_letters, fifo, groups, queues
from fanfold.engine.values import SECOND, Burial, Change, Counts, Entry, Letter, Queue, Received, Sent
from fanfold.model import EntryError

START = 1_700_000_000


class FakeClock:
    """A clock that stands still until `advance`. `now` from any thread; sleepers of one event loop."""

    def __init__(self) -> None:
        self._now = float(START)
        self._sleepers: dict[asyncio.Future[None], float] = {}
        self._new_sleeper = asyncio.Event()

    def now(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        alarm = asyncio.get_running_loop().create_future()
        self._sleepers[alarm] = self._now + seconds
        self._new_sleeper.set()
        try:
            await alarm
        finally:
            del self._sleepers[alarm]

    def advance(self, seconds: float) -> None:
        self._now += seconds
        for alarm, until in self._sleepers.items():
            if until <= self._now and not alarm.done():
                alarm.set_result(None)

    async def until_asleep(self, count: int = 1) -> None:
        """Return when so many are asleep."""
        while len(self._sleepers) < count:
            self._new_sleeper.clear()
            await self._new_sleeper.wait()


class Fifo:
    """A queue and its dead letter queue in memory, with the engine's operations at a time that the test moves."""

    def __init__(self, *, max_receive_count: int = 100, scope: str = "queue") -> None:
        self.now = START * SECOND
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.connection.executescript("".join(sql.load("fanfold.engine", "schema.sql").values()))
        queues.create(self.connection, "tasks.fifo", deduplication_scope=scope)
        self.queue, self.dead_letter_queue = queues.create_with_dead_letters(
            self.connection, "tasks.fifo", "tasks-dlq.fifo", max_receive_count
        )
        self._bits = random.Random(1).getrandbits  # noqa: S311 - reproducible ids
        self._numbers = itertools.count(1)

    def close(self) -> None:
        self.connection.close()

    def advance(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)

    def entry(self, body: str, group: str, deduplication_id: str | None = None, delay: float = 0) -> Entry:
        number = next(self._numbers)
        return Entry(
            message_id=f"message-{number}",
            body=body,
            group_id=group,
            deduplication_id=deduplication_id or f"deduplication-{number}",
            delay=round(delay * SECOND),
        )

    def send(self, body: str, group: str, deduplication_id: str | None = None, *, delay: float = 0) -> Sent:
        return self.send_all([self.entry(body, group, deduplication_id, delay)])[0]

    def send_all(self, entries: list[Entry]) -> list[Sent]:
        return fifo.send(self.connection, self.queue, entries, self.now)

    def receive(self, limit: int = 10, *, lease: float = 30, queue: Queue | None = None) -> list[Received]:
        return fifo.receive(
            self.connection, queue or self.queue, limit, self.now, lease=round(lease * SECOND), bits=self._bits
        )

    def delete(self, *received: Received) -> list[EntryError | None]:
        return self.delete_handles(*(message.receipt_handle for message in received))

    def delete_handles(self, *handles: str) -> list[EntryError | None]:
        return fifo.delete(self.connection, self.queue, handles, self.now)

    def change(self, received: Received, seconds: float) -> EntryError | None:
        change = Change(received.receipt_handle, round(seconds * SECOND))
        return fifo.change_visibility(self.connection, self.queue, [change], self.now)[0]

    def bury(self, *received: Received, reason: str = "hopeless") -> list[EntryError | None]:
        burials = [Burial(m.receipt_handle, m.body, {"fanfold_reason": ("String", reason)}) for m in received]
        return dead_letters.bury(self.connection, self.queue, burials, self.now)

    def letters(self, limit: int = 100) -> list[Letter]:
        return dead_letters.letters(self.connection, self.dead_letter_queue, limit)

    def counts(self, queue: Queue | None = None) -> Counts:
        return queues.counts(self.connection, (queue or self.queue).id, self.now)

    def next_visible(self) -> float | None:
        at = groups.next_visible(self.connection, self.queue)
        return None if at is None else (at - self.now) / SECOND


def bodies(messages: list[Received]) -> list[str]:
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
