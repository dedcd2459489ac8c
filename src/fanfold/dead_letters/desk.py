"""`DeadLetters`: looks through a dead letter queue, and sends back or drops what was chosen."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import msgspec

from fanfold import ids
from fanfold.brokers.browsing import HOLD, Browse
from fanfold.brokers.burial import letter_message, letter_of
from fanfold.brokers.protocol import Broker
from fanfold.dead_letters import redriven
from fanfold.dead_letters.redriven import Edit
from fanfold.dead_letters.selection import Selection
from fanfold.dead_letters.sending_back import SendingBack, death
from fanfold.dead_letters.standing import fan_out_of, standing
from fanfold.dead_letters.tally import Tally, Told, text_of
from fanfold.errors import InvalidInputError, PermissionMissingError
from fanfold.ledgers.protocol import Ledger
from fanfold.model import DeadLetter, Delivery
from fanfold.settler import Announce
from fanfold.telemetry import Telemetry, fields_of

EVERYTHING: Final = Selection()
_PIECE: Final = 100
"""Letters that are worked on together; more, where a fan-out has more."""
_PUT: Final = 500
"""Letters that are put back before progress is told."""
_AT_ONCE: Final = 3
"""Pieces under way at once: while one waits for the ledger, others are sent or deleted."""

T = TypeVar("T")

_Work = Callable[[Sequence[DeadLetter], Tally], Awaitable[list[DeadLetter]]]
"""Does what is wanted with a piece of the letters; answers those that are not needed any more."""
Check = Callable[[Sequence[DeadLetter]], None]
"""Sees the letters that were chosen before anything is done with them; what it raises ends the work."""


def _fine(_: Sequence[DeadLetter]) -> None:
    """No check."""


@dataclass(frozen=True, slots=True)
class Found:
    """Letters that were found, and how many in the queue could not be looked at."""

    letters: Sequence[DeadLetter]
    hidden: int


class DeadLetters:
    """A dead letter queue and what can be done with it.

    1. A look goes through the whole queue, and gives back at once what it had to receive for that.
    2. Work (a redrive, a drop) looks first and holds what is chosen, all of a fan-out together.
    3. Then it goes piece by piece, some at once: what is wanted is done, and then, last, the letters of it are deleted.
    4. Meanwhile a long poll has the last word on whether there is more, and what isn't chosen is given back.
    5. What is left over is given back, also when the work is interrupted; pieces that have begun are ended first.

    So a letter is never gone before what it asks for is done, and a crash anywhere leaves a letter that the next time
    recognises. It never touches what wasn't chosen.
    """

    def __init__(
        self,
        broker: Broker,
        ledger: Ledger | None,
        *,
        announce: Announce | None,
        telemetry: Telemetry,
        new_id: Callable[[], str] = ids.random_uuid,
    ) -> None:
        self._broker = broker
        self._ledger = ledger
        self._announce = announce
        self._telemetry = telemetry
        self._new_id = new_id
        self._sending_back = SendingBack(broker, ledger, telemetry)

    async def find(self, selection: Selection = EVERYTHING) -> Found:
        """The chosen letters, with what the ledger knows. Nothing is taken away. Raises NoDeadLetterQueueError."""
        async with self.pages(selection) as (browse, pages):
            found = [letter async for page in pages for letter in page]
        return Found(found, browse.hidden)

    @asynccontextmanager
    async def pages(
        self, selection: Selection = EVERYTHING
    ) -> AsyncIterator[tuple[Browse, AsyncIterator[list[DeadLetter]]]]:
        """The chosen letters page by page. All are given back at the end."""
        async with Browse(self._broker.dead_letter_queue()) as browse:
            yield browse, self._chosen(browse.pages(), selection)

    @property
    def moves(self) -> bool:
        """Whether the queue itself might move letters back as they should be: not where a ledger knows them as dead."""
        return self._ledger is None

    async def redrive(
        self,
        selection: Selection,
        *,
        edit: Edit | None = None,
        check: Check = _fine,
        tally: Tally | None = None,
        told: Told | None = None,
    ) -> Tally:
        """Send the chosen letters back, all of them changed by `edit`.

        Repeated after an interruption it goes on where it was: within the queue's five minutes, or with a ledger,
        nothing is run twice; what a ledger knows as succeeded never runs again.

        Raises:
            QueueNotFoundError: their queue is gone. Nothing was changed.
            InvalidInputError: the edit can't be made on one of them. Nothing was sent back, but what came before a
                letter that SQS showed late.
        """
        await self._require_queue()

        def work(piece: Sequence[DeadLetter], to: Tally) -> Awaitable[list[DeadLetter]]:
            return self._sending_back.send_back(piece, to, edit)

        def checked(letters: Sequence[DeadLetter]) -> None:
            check(letters)
            for letter in letters if edit is not None else ():
                redriven.message(letter, edit)

        return await self._work(selection, work, tally or Tally(), told, checked)

    async def move(self, found: Found) -> bool:
        """Have the queue itself move all letters back, if that does what sending them would; whether it does now.

        It takes one request, and goes on after the answer. With a ledger it would do harm: what comes back as it was
        is dead there. `found` is everything that a look has seen.
        """
        if not self.moves or found.hidden or not all(redriven.movable(letter) for letter in found.letters):
            return False
        return await self._broker.move_dead_letters()

    async def drop(
        self, selection: Selection, *, check: Check = _fine, tally: Tally | None = None, told: Told | None = None
    ) -> Tally:
        """Delete the chosen letters. Their tasks are dead: the ledger is told of those of which it didn't know."""
        return await self._work(selection, self._drop, tally or Tally(), told, check)

    async def put(
        self, letters: Iterable[DeadLetter], *, tally: Tally | None = None, told: Told | None = None
    ) -> Tally:
        """Put exported letters back into the dead letter queue; those that are there already count as leftovers.

        Interrupted anywhere, it can be repeated: the look recognises what was put. The deduplication ids are this
        call's own: with the letters' old ones, SQS would take and forget what was exported and dropped within five
        minutes.

        Raises:
            InvalidInputError: some letters can't be looked at just now, so nobody can say which are there already.
        """
        tally, given = tally or Tally(), {letter.source_message_id: letter for letter in letters}
        looked = await self.find()
        if looked.hidden:
            raise InvalidInputError(
                f"{looked.hidden:,} dead letter(s) can't be seen just now, and putting them again would double them: "
                f"somebody holds them ({HOLD:.0f} s at most after a look that was killed), or others of their group "
                "stand before them; nothing was put, repeat it later"
            )
        there = {letter.source_message_id for letter in looked.letters}
        missing = [letter_message(letter) for source, letter in given.items() if source not in there]
        tally.leftovers += len(given) - len(missing)
        own = f"import-{self._new_id()}"
        messages = [
            msgspec.structs.replace(message, deduplication_id=f"{own}-{n}") for n, message in enumerate(missing)
        ]
        tally.found = len(given)
        for first in range(0, len(messages), _PUT):
            for result in await self._broker.dead_letter_queue().send(messages[first : first + _PUT]):
                if result.error is not None:
                    tally.fail(text_of(result.error))
                else:
                    tally.done += 1
            if told is not None:
                told(tally)
        return tally

    async def _require_queue(self) -> None:
        """Make sure that there is a queue to send to, before the ledger lets tasks begin anew that nobody would get."""
        with contextlib.suppress(PermissionMissingError):  # who may not ask may still send
            await self._broker.status()

    async def _work(self, selection: Selection, work: _Work, tally: Tally, told: Told | None, check: Check) -> Tally:
        async with Browse(self._broker.dead_letter_queue(), direct=False) as browse:

            async def settle(piece: Sequence[DeadLetter]) -> None:
                await self._settle(browse, piece, work, tally)
                if told is not None:
                    told(tally)

            chosen = [letter async for page in self._chosen(browse.at_once(), selection) for letter in page]
            check(chosen)
            tally.found = len(chosen)
            if told is not None:
                told(tally)
            rest = asyncio.ensure_future(self._rest(browse, selection, chosen))
            try:
                await _each(_pieces(chosen), settle)
                late = await rest
            finally:
                rest.cancel()
                await asyncio.wait([rest])
            tally.hidden = browse.hidden
            check(late)
            tally.found += len(late)
            await _each(_pieces(late), settle)
        return tally

    async def _rest(self, browse: Browse, selection: Selection, chosen: Sequence[DeadLetter]) -> list[DeadLetter]:
        """What is chosen of the letters that come late; all others are given back."""
        late: list[DeadLetter] = []
        begun = {_identity(letter) for letter in chosen}
        left = None if selection.limit is None else selection.limit - len(chosen)
        if left != 0:
            pages = self._chosen(browse.late(), replace(selection, limit=left))
            # What was sent back just now may have died again: that one stays.
            late = [letter async for page in pages for letter in page if _identity(letter) not in begun]
        await browse.keep(letter.message_id for letter in [*chosen, *late])
        return late

    async def _settle(self, browse: Browse, piece: Sequence[DeadLetter], work: _Work, tally: Tally) -> None:
        over = await work(piece, tally)
        errors = await self._broker.dead_letter_queue().delete([_delivery(letter) for letter in over])
        browse.forget(letter.message_id for letter, error in zip(over, errors, strict=True) if error is None)
        for error in errors:
            if error is not None:
                tally.complain(f"a letter wasn't deleted, repeat the command: {text_of(error)}")

    async def _drop(self, piece: Sequence[DeadLetter], tally: Tally) -> list[DeadLetter]:
        records = await standing(self._ledger, piece)
        unknown = [
            letter
            for letter, record in zip(piece, records, strict=True)
            if record is not None and not record.state.terminal
        ]
        await self._bury(unknown)
        tally.done += len(piece)
        for letter in piece:
            names = fields_of(letter.task) if letter.task is not None else {}
            self._telemetry.emit("dead_letter.dropped", message_id=letter.message_id, **names)
        return list(piece)

    async def _bury(self, letters: Sequence[DeadLetter]) -> None:
        """Tell the ledger of deaths, and send the folds that they make due."""
        if self._ledger is None or not letters:
            return
        for letter, record in zip(letters, await self._ledger.finish([death(one) for one in letters]), strict=True):
            if record.fold_due and self._announce is not None and letter.task is not None:
                await self._announce(letter.task, record.generation)

    async def _chosen(
        self, pages: AsyncIterator[Sequence[Delivery]], selection: Selection
    ) -> AsyncIterator[list[DeadLetter]]:
        left = selection.limit
        async for deliveries in pages:
            letters = [letter_of(delivery) for delivery in deliveries]
            # What a letter says itself, the ledger adds nothing to that is chosen by.
            likely = [letter for letter in letters if not letter.reason or selection.takes(letter)]
            records = await standing(self._ledger, likely)
            known = [redriven.told(letter, record) for letter, record in zip(likely, records, strict=True)]
            page = [letter for letter in known if selection.takes(letter)][:left]
            if page:
                yield page
            if left is not None and (left := left - len(page)) == 0:
                return


def _pieces(letters: Sequence[DeadLetter]) -> Iterator[list[DeadLetter]]:
    """In pieces, each fan-out's letters together: opening it again twice would make two generations."""
    fan_outs: dict[str, list[DeadLetter]] = {}
    for letter in letters:
        fan_outs.setdefault(fan_out_of(letter) or letter.message_id, []).append(letter)
    piece: list[DeadLetter] = []
    for of_one in fan_outs.values():
        piece += of_one
        if len(piece) >= _PIECE:
            yield piece
            piece = []
    if piece:
        yield piece


def _identity(letter: DeadLetter) -> tuple[str, ...]:
    """What a letter is about, in whatever generation."""
    task = letter.task
    return (task.entity_id, task.task_name, task.fan_out_id or "") if task is not None else (letter.message_id,)


async def _each(pieces: Iterable[T], settle: Callable[[T], Awaitable[None]]) -> None:
    """Settle all pieces, some at once. Cancelled, or where one fails, no more begin, and those that have begun end."""
    left = deque(pieces)

    async def settling() -> None:
        while left:
            await settle(left.popleft())

    workers = [asyncio.ensure_future(settling()) for _ in range(min(_AT_ONCE, len(left)))]
    try:
        await asyncio.gather(*map(asyncio.shield, workers))
    finally:
        left.clear()
        if workers:
            await asyncio.wait(workers)


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
