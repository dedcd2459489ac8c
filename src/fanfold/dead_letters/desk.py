"""`DeadLetters`: looks through a dead letter queue, and sends back or drops what was chosen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from fanfold.brokers.browsing import Browse
from fanfold.brokers.burial import letter_message, letter_of
from fanfold.brokers.protocol import Broker
from fanfold.dead_letters import redriven
from fanfold.dead_letters.redriven import Edit
from fanfold.dead_letters.selection import Selection
from fanfold.dead_letters.sending_back import SendingBack, death
from fanfold.dead_letters.standing import fan_out_of, standing
from fanfold.dead_letters.tally import Tally, Told, text_of
from fanfold.ledgers.protocol import Ledger
from fanfold.model import DeadLetter, Delivery
from fanfold.settler import Announce
from fanfold.telemetry import Telemetry, fields_of

EVERYTHING: Final = Selection()
_PIECE: Final = 100
"""Letters that are worked on before the next ones; more, where a fan-out has more."""

_Work = Callable[[Sequence[DeadLetter], Tally], Awaitable[list[DeadLetter]]]
"""Does what is wanted with a piece of the letters; answers those that are not needed any more."""


@dataclass(frozen=True, slots=True)
class Found:
    """Letters that were found, and how many in the queue could not be looked at."""

    letters: Sequence[DeadLetter]
    hidden: int


class DeadLetters:
    """A dead letter queue and what can be done with it.

    1. A look goes through the whole queue, and gives back at once what it had to receive for that.
    2. Work (a redrive, a drop) looks first and holds what is chosen, all of a fan-out together.
    3. Then it goes piece by piece: what is wanted is done, and then, last, the letters of it are deleted.
    4. What is left over is given back, also when the work is interrupted; a piece that has begun is ended first.

    So a letter is never gone before what it asks for is done, and a crash anywhere leaves a letter that the next time
    recognises. It never touches what wasn't chosen.
    """

    def __init__(
        self, broker: Broker, ledger: Ledger | None, *, announce: Announce | None, telemetry: Telemetry
    ) -> None:
        self._broker = broker
        self._ledger = ledger
        self._announce = announce
        self._telemetry = telemetry
        self._sending_back = SendingBack(broker, ledger, telemetry)

    async def find(self, selection: Selection = EVERYTHING) -> Found:
        """The chosen letters, with what the ledger knows. Nothing is taken away. Raises NoDeadLetterQueueError."""
        async with self.pages(selection) as (browse, pages):
            found = [letter async for page in pages for letter in page]
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
        nothing is run twice; what a ledger knows as succeeded never runs again.
        """

        def work(piece: Sequence[DeadLetter], to: Tally) -> Awaitable[list[DeadLetter]]:
            return self._sending_back.send_back(piece, to, edit)

        return await self._work(selection, work, tally or Tally(), told)

    async def move(self, found: Found) -> bool:
        """Have the queue itself move all letters back, if that does what sending them would; whether it does now.

        It takes one request, and goes on after the answer. With a ledger it would do harm: what comes back as it was
        is dead there. `found` is everything that a look has seen.
        """
        if self._ledger is not None or found.hidden or not all(redriven.movable(letter) for letter in found.letters):
            return False
        return await self._broker.move_dead_letters()

    async def drop(self, selection: Selection, *, tally: Tally | None = None, told: Told | None = None) -> Tally:
        """Delete the chosen letters. Their tasks are dead: the ledger is told of those of which it didn't know."""
        return await self._work(selection, self._drop, tally or Tally(), told)

    async def put(self, letters: Iterable[DeadLetter], *, tally: Tally | None = None) -> Tally:
        """Put exported letters back into the dead letter queue; those that are there already count as leftovers."""
        tally, given = tally or Tally(), list(letters)
        there = {letter.source_message_id for letter in (await self.find()).letters}
        missing = [letter for letter in given if letter.source_message_id not in there]
        tally.leftovers += len(given) - len(missing)
        for result in await self._broker.dead_letter_queue().send([letter_message(letter) for letter in missing]):
            if result.error is not None:
                tally.fail(text_of(result.error))
            else:
                tally.done += 1
        return tally

    async def _work(self, selection: Selection, work: _Work, tally: Tally, told: Told | None) -> Tally:
        async with self.pages(selection, hold=True) as (browse, pages):
            chosen = [letter async for page in pages for letter in page]
            tally.hidden = 0 if selection.limit is not None else await self._hidden(browse.seen)
            await browse.keep(letter.message_id for letter in chosen)
            for piece in _pieces(chosen):
                await _whole(self._settle(browse, piece, work, tally))
                if told is not None:
                    told(tally)
        return tally

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

    async def _chosen(self, browse: Browse, selection: Selection) -> AsyncIterator[list[DeadLetter]]:
        left = selection.limit
        async for deliveries in browse.pages():
            letters = [letter_of(delivery) for delivery in deliveries]
            records = await standing(self._ledger, letters)
            known = [redriven.told(letter, record) for letter, record in zip(letters, records, strict=True)]
            page = [letter for letter in known if selection.takes(letter)][:left]
            if page:
                yield page
            if left is not None and (left := left - len(page)) == 0:
                return

    async def _hidden(self, seen: int) -> int:
        counts = await self._broker.dead_letter_queue().status()
        return max(0, counts.messages_available + counts.messages_in_flight + counts.messages_delayed - seen)


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


async def _whole(step: Awaitable[None]) -> None:
    """Let a step that has begun end, also when this is cancelled: half of one is what a crash leaves."""
    running = asyncio.ensure_future(step)
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


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
