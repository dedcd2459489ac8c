"""A queue that does what a test tells it to, and an ear for what the parts say."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from fanfold import codec
from fanfold.ledgers.protocol import Claimed, Recorded
from fanfold.model import Delivery, EntryError, Task, TaskState
from fanfold.telemetry import Telemetry
from fanfold.testing import START

LOST = EntryError(code="InvalidParameterValue", text="The receipt handle has expired.", lease_lost=True)
AWAY = EntryError(code="ServiceUnavailable", text="The service is unavailable.", retryable=True)
DENIED = EntryError(code="PermissionMissingError", text="sqs:ChangeMessageVisibility is denied")

_numbers = itertools.count(1)


def delivery(task_name="title", *, group="", body=None, received_at=START, receive_count=1, **fields):
    """A received message, with a receipt handle that no other has."""
    number = next(_numbers)
    fields = {"entity_id": "doc-1", "fan_out_id": "f" * 32} | fields
    return Delivery(
        message_id=f"m{number}",
        receipt_handle=f"r{number}",
        body=codec.encode_body(Task(task_name=task_name, **fields)) if body is None else body,
        group_id=group or f"g{number}",
        deduplication_id=f"d{number}",
        receive_count=receive_count,
        sent_at=received_at,
        received_at=received_at,
    )


class ScriptedQueue:
    """A broker whose answers a test prepares. `calls` are what it was asked: the method's name, then what it was given.

    An answer is a list, an exception to raise, or an async function of either; without one, all goes well. It may
    be asked from several event loops.
    """

    url = "scripted:///tasks.fifo"

    def __init__(self, *, linger=0.0):
        self.batch = 10
        self.linger = linger
        self.calls = []
        self.answers = {"extend": [], "delete": [], "dead_letter": [], "receive": []}
        self.polls_ended = 0
        self._watched = []

    def of(self, method):
        """What calls of a method were given."""
        return [given for called, *given in self.calls if called == method]

    async def called(self, method, times=1):
        """Return when a method was called so often."""
        reached, loop = asyncio.Event(), asyncio.get_running_loop()
        self._watched.append(lambda: loop.call_soon_threadsafe(reached.set) if len(self.of(method)) >= times else None)
        self._look()
        await reached.wait()

    def end_polls(self):
        self.polls_ended += 1

    async def receive(self, limit, *, wait, lease):
        return await self._answer("receive", [], limit, wait, lease)

    async def extend(self, deliveries, seconds):
        return await self._answer("extend", [None] * len(deliveries), list(deliveries), list(seconds))

    async def delete(self, deliveries):
        return await self._answer("delete", [None] * len(deliveries), list(deliveries))

    async def dead_letter(self, burials):
        return await self._answer("dead_letter", [None] * len(burials), list(burials))

    async def _answer(self, method, usual, *given):
        if not given[0]:
            return []  # nothing was asked
        self.calls.append((method, *given))
        self._look()
        answer = self.answers[method].pop(0) if self.answers[method] else usual
        if callable(answer):
            answer = await answer()
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, list) else usual

    def _look(self):
        for look in self._watched:
            look()


class ScriptedLedger:
    """A ledger whose answers a test prepares: lists, or exceptions to raise; without one, all is new and applied.

    `finished` and `claimed` are what it was asked, a list for each time.
    """

    url = "scripted:///ledger"

    def __init__(self):
        self.finished, self.claimed = [], []
        self.answers = {"finish": [], "claim": []}

    async def finish(self, finishes):
        self.finished.append(list(finishes))
        return self._answer("finish") or [Recorded(applied=True)] * len(finishes)

    async def claim(self, claims):
        self.claimed.append(list(claims))
        return self._answer("claim") or [Claimed(state=TaskState.RUNNING, attempt=1)] * len(claims)

    def _answer(self, method):
        answer = self.answers[method].pop(0) if self.answers[method] else None
        if isinstance(answer, Exception):
            raise answer
        return answer


class Heard:
    """What the parts say, in order; to be waited for in the event loop in which it is made."""

    def __init__(self):
        self.events = []
        self.telemetry = Telemetry(self._note)
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[Callable[[], bool], asyncio.Event]] = []

    def names(self):
        return [event.name for event in self.events]

    def of(self, name):
        """The fields of the events of that name."""
        return [event.fields for event in self.events if event.name == name]

    async def until(self, name, times=1):
        """Return when it has been said so often."""
        reached = asyncio.Event()
        self._waiting.append((lambda: len(self.of(name)) >= times, reached))
        self._look()
        await reached.wait()

    def _note(self, event):
        self.events.append(event)
        self._loop.call_soon_threadsafe(self._look)

    def _look(self):
        for holds, reached in self._waiting:
            if holds():
                reached.set()


async def until(condition):
    """Let everything else run until `condition` holds: for what has no event of its own."""
    while not condition():  # noqa: ASYNC110 - as it says
        await asyncio.sleep(0)
