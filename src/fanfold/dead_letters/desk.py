"""`DeadLetters`: looks through a dead letter queue, and sends back or drops what was chosen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from fanfold.brokers.browsing import Browse
from fanfold.brokers.burial import letter_message, letter_of
from fanfold.brokers.protocol import Broker, Queue
from fanfold.dead_letters import redriven
from fanfold.dead_letters.redriven import Edit, Verdict
from fanfold.dead_letters.selection import Selection
from fanfold.ledgers.protocol import Finish, Ledger, Reopen
from fanfold.model import DeadLetter, Delivery, EntryError, TaskRecord
from fanfold.settler import Announce
from fanfold.telemetry import Telemetry

EVERYTHING: Final = Selection()


@dataclass(slots=True)
class Tally:
    """What became of the chosen letters so far; it stays readable where the work was interrupted.

    `done`: sent back, dropped or put. `leftovers`: only removed, since their tasks were sent back or done before.
    `hidden`: letters that somebody else holds just now, or that stand behind others of their group.
    """

    done: int = 0
    leftovers: int = 0
    failed: int = 0
    hidden: int = 0
    errors: list[str] = field(default_factory=list)

    @property
    def chosen(self) -> int:
        """All that was met."""
        return self.done + self.leftovers + self.failed

    def fail(self, error: EntryError) -> None:
        """Count one that stays where it is."""
        self.failed += 1
        text = f"{error.code}: {error.text}"
        if text not in self.errors:
            self.errors.append(text)


Told = Callable[[Tally], None]
"""Hears of progress, after each page."""


@dataclass(frozen=True, slots=True)
class Found:
    """Letters that were found, and how many in the queue could not be looked at."""

    letters: Sequence[DeadLetter]
    hidden: int


class DeadLetters:
    """A dead letter queue and what can be done with it.

    A redrive, page by page:

    1. Where the ledger says that a task succeeded or was sent back before, its letter is only removed.
    2. The others are sent to their queue in the next generation, and their acceptance is waited for.
    3. The ledger lets the tasks begin anew. A worker that is quicker does so itself, with its claim.
    4. The letters are deleted.

    So a letter is never gone before its message is there, and a crash between any two steps leaves a letter that the
    next redrive recognises. What is looked at or left over is given back at once. It never touches what wasn't chosen.
    """

    def __init__(
        self, broker: Broker, ledger: Ledger | None, *, announce: Announce | None, telemetry: Telemetry
    ) -> None:
        self._broker = broker
        self._ledger = ledger
        self._announce = announce
        self._telemetry = telemetry

    async def find(self, selection: Selection = EVERYTHING) -> Found:
        """The chosen letters, with what the ledger knows. Nothing is taken away. Raises NoDeadLetterQueueError."""
        found: list[DeadLetter] = []
        async with self.pages(selection) as (browse, pages):
            async for page in pages:
                found += page
        hidden = 0 if selection.limit is not None else await self._hidden(browse.seen)
        return Found(found, hidden)

    @asynccontextmanager
    async def pages(
        self, selection: Selection = EVERYTHING, *, hold: bool = False
    ) -> AsyncIterator[tuple[Browse, AsyncIterator[list[DeadLetter]]]]:
        """The chosen letters page by page; with `hold` they can be worked on. All are given back at the end."""
        async with Browse(self._broker.dead_letter_queue(), direct=not hold) as browse:
            yield browse, self._chosen(browse, selection)

    async def redrive(
        self, selection: Selection, *, edit: Edit | None = None, tally: Tally | None = None, told: Told | None = None
    ) -> Tally:
        """Send the chosen letters back, all of them changed by `edit`.

        Repeated after an interruption it goes on where it was: within the queue's five minutes, or with a ledger,
        nothing is sent twice; what a ledger knows as succeeded never runs again.
        """
        return await self._work(selection, lambda page, to: self._redrive(page, to, edit), tally or Tally(), told)

    async def drop(self, selection: Selection, *, tally: Tally | None = None, told: Told | None = None) -> Tally:
        """Delete the chosen letters. Their tasks are dead: the ledger is told of those of which it didn't know."""
        return await self._work(selection, self._drop, tally or Tally(), told)

    async def put(self, letters: Iterable[DeadLetter], *, tally: Tally | None = None) -> Tally:
        """Put exported letters back into the dead letter queue; those that are there already count as leftovers."""
        tally = tally or Tally()
        there = {letter.source_message_id for letter in (await self.find()).letters}
        missing = [letter for letter in letters if letter.source_message_id not in there or _count(tally)]
        results = await self._broker.dead_letter_queue().send([letter_message(letter) for letter in missing])
        for result in results:
            if result.error is not None:
                tally.fail(result.error)
            else:
                tally.done += 1
        return tally

    async def _work(
        self,
        selection: Selection,
        work: Callable[[Sequence[DeadLetter], Tally], Awaitable[list[DeadLetter]]],
        tally: Tally,
        told: Told | None,
    ) -> Tally:
        queue = self._broker.dead_letter_queue()
        async with self.pages(selection, hold=True) as (browse, pages):
            async for page in pages:
                await _whole(self._settle(queue, browse, page, work, tally))
                if told is not None:
                    told(tally)
        tally.hidden = 0 if selection.limit is not None else await self._hidden(browse.seen - tally.done)
        return tally

    async def _settle(
        self,
        queue: Queue,
        browse: Browse,
        page: Sequence[DeadLetter],
        work: Callable[[Sequence[DeadLetter], Tally], Awaitable[list[DeadLetter]]],
        tally: Tally,
    ) -> None:
        over = await work(page, tally)
        # Whatever becomes of its delete, a letter that is over must not be held for longer than its lease.
        errors = await queue.delete([_delivery(letter) for letter in over])
        browse.forget(letter.message_id for letter, error in zip(over, errors, strict=True) if error is None)
        for error in errors:
            if error is not None:
                tally.errors.append(f"not deleted, repeat the command: {error.code}: {error.text}")

    async def _redrive(self, page: Sequence[DeadLetter], tally: Tally, edit: Edit | None) -> list[DeadLetter]:
        records = await self._records(page)
        verdicts = [redriven.verdict(letter, record) for letter, record in zip(page, records, strict=True)]
        leftovers = [letter for letter, v in zip(page, verdicts, strict=True) if v is Verdict.LEFTOVER]
        wanted = [letter for letter, v in zip(page, verdicts, strict=True) if v is Verdict.SEND]
        results = await self._broker.send([redriven.message(letter, edit) for letter in wanted])
        sent = [letter for letter, result in zip(wanted, results, strict=True) if result.error is None]
        for result in results:
            if result.error is not None:
                tally.fail(result.error)
        await self._reopen(sent, edit)
        tally.done += len(sent)
        tally.leftovers += len(leftovers)
        for letter in sent:
            self._telemetry.emit("dead_letter.redriven", message_id=letter.message_id, **_names(letter))
        return sent + leftovers

    async def _reopen(self, sent: Sequence[DeadLetter], edit: Edit | None) -> None:
        begun = [redriven.next_generation(letter.task, edit) for letter in sent if letter.task is not None]
        reopens = [
            Reopen(
                fan_out_id=task.fan_out_id,
                task_name=task.task_name,
                generation=task.generation,
                task_config=task.task_config if edit is not None else None,
            )
            for task in begun
            if task.fan_out_id is not None
        ]
        if self._ledger is not None and reopens:
            await self._ledger.reopen(reopens)

    async def _drop(self, page: Sequence[DeadLetter], tally: Tally) -> list[DeadLetter]:
        tracked = [letter for letter in page if letter.task is not None and letter.task.fan_out_id is not None]
        if self._ledger is not None and tracked:
            records = await self._ledger.finish([_death(letter) for letter in tracked])
            for letter, record in zip(tracked, records, strict=True):
                if record.fold_due and self._announce is not None and letter.task is not None:
                    await self._announce(letter.task, record.fold_generation)
        tally.done += len(page)
        for letter in page:
            self._telemetry.emit("dead_letter.dropped", message_id=letter.message_id, **_names(letter))
        return list(page)

    async def _chosen(self, browse: Browse, selection: Selection) -> AsyncIterator[list[DeadLetter]]:
        left = selection.limit
        async for deliveries in browse.pages():
            letters = [letter_of(delivery) for delivery in deliveries]
            records = await self._records(letters)
            known = [redriven.told(letter, record) for letter, record in zip(letters, records, strict=True)]
            page = [letter for letter in known if selection.takes(letter)][:left]
            if page:
                yield page
            if left is not None and (left := left - len(page)) == 0:
                return

    async def _records(self, letters: Sequence[DeadLetter]) -> list[TaskRecord | None]:
        keys = [_key(letter) for letter in letters]
        wanted = [key for key in keys if key is not None]
        if self._ledger is None or not wanted:
            return [None] * len(letters)
        records = iter(await self._ledger.records(wanted))
        return [next(records) if key is not None else None for key in keys]

    async def _hidden(self, seen: int) -> int:
        counts = await self._broker.dead_letter_queue().status()
        return max(0, counts.messages_available + counts.messages_in_flight + counts.messages_delayed - seen)


async def _whole(step: Awaitable[None]) -> None:
    """Let a step that has begun end, also when this is cancelled: half of one is what a crash leaves."""
    running = asyncio.ensure_future(step)
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


def _count(tally: Tally) -> bool:
    tally.leftovers += 1
    return False


def _key(letter: DeadLetter) -> tuple[str, str] | None:
    task = letter.task
    return (task.fan_out_id, task.task_name) if task is not None and task.fan_out_id is not None else None


def _death(letter: DeadLetter) -> Finish:
    if letter.task is None or letter.task.fan_out_id is None:
        raise ValueError("only a task of a fan-out dies in the ledger")
    return Finish(
        fan_out_id=letter.task.fan_out_id,
        task_name=letter.task.task_name,
        attempt=None,
        failure=redriven.dropped(letter),
        dead=True,
        generation=letter.task.generation,
    )


def _names(letter: DeadLetter) -> dict[str, str]:
    return {"entity_id": letter.task.entity_id, "task_name": letter.task.task_name} if letter.task else {}


def _delivery(letter: DeadLetter) -> Delivery:
    """As much of a delivery as a delete needs."""
    return Delivery(
        message_id=letter.message_id,
        receipt_handle=letter.receipt_handle,
        body="",
        group_id="",
        deduplication_id="",
        receive_count=letter.receive_count,
        sent_at=0.0,
        received_at=0.0,
    )
