"""`app.dead_letters`: for callers with and without an event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fanfold.dead_letters.desk import EVERYTHING, DeadLetters, Found, Tally
from fanfold.dead_letters.redriven import Edit
from fanfold.dead_letters.selection import Selection
from fanfold.portal import Portal


class AppDeadLetters:
    """What an application can do with its dead letters. `opened_async` has page by page access, and more."""

    def __init__(self, opened: Callable[[], Awaitable[DeadLetters]], portal: Portal) -> None:
        self._opened = opened
        self._portal = portal

    async def opened_async(self) -> DeadLetters:
        """The dead letters of the opened application."""
        return await self._opened()

    async def find_async(self, selection: Selection = EVERYTHING) -> Found:
        """The chosen letters with all that is known of them; nothing is taken away.

        Raises:
            NoDeadLetterQueueError: the queue has none, or nobody here may learn which.
        """
        return await (await self._opened()).find(selection)

    def find(self, selection: Selection = EVERYTHING) -> Found:
        """`find_async` for callers without an event loop."""
        return self._portal.call(self.find_async(selection))

    async def redrive_async(self, selection: Selection, *, edit: Edit | None = None) -> Tally:
        """Send the chosen letters back to their queue, each changed by `edit`. Can be repeated after any interruption.

        Raises:
            NoDeadLetterQueueError: as above.
            InvalidInputError: the edit can't be made; letters of earlier pages are sent back already.
        """
        return await (await self._opened()).redrive(selection, edit=edit)

    def redrive(self, selection: Selection, *, edit: Edit | None = None) -> Tally:
        """`redrive_async` for callers without an event loop."""
        return self._portal.call(self.redrive_async(selection, edit=edit))

    async def drop_async(self, selection: Selection) -> Tally:
        """Delete the chosen letters; their tasks stay dead. Raises NoDeadLetterQueueError."""
        return await (await self._opened()).drop(selection)

    def drop(self, selection: Selection) -> Tally:
        """`drop_async` for callers without an event loop."""
        return self._portal.call(self.drop_async(selection))
