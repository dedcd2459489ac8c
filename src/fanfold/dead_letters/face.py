"""`app.dead_letters`: for callers with and without an event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from fanfold.dead_letters import lines
from fanfold.dead_letters.desk import EVERYTHING, DeadLetters, Found
from fanfold.dead_letters.redriven import Edit
from fanfold.dead_letters.selection import Selection, check_grouping, count_by
from fanfold.dead_letters.tally import Tally
from fanfold.portal import Portal


class AppDeadLetters:
    """What was set aside: to look at, to send back, to drop.

    Each method has a twin, named `…_async`, for callers with an event loop. All raise NoDeadLetterQueueError where the
    queue has no dead letter queue, or nobody here may learn which. Looking takes nothing away; whatever changes
    something can be repeated after any interruption. `opened_async` has page by page access.
    """

    def __init__(self, opened: Callable[[], Awaitable[DeadLetters]], portal: Portal) -> None:
        """For `Fanfold.dead_letters`, which knows both."""
        self._opened = opened
        self._portal = portal

    async def opened_async(self) -> DeadLetters:
        """The dead letters of the opened application."""
        return await self._opened()

    async def find_async(self, selection: Selection = EVERYTHING) -> Found:
        """The chosen letters with all that is known of them, and how many could not be looked at."""
        return await (await self._opened()).find(selection)

    def find(self, selection: Selection = EVERYTHING) -> Found:
        """`find_async` for callers without an event loop."""
        return self._portal.call(self.find_async(selection))

    async def group_async(self, by: str = "error", selection: Selection = EVERYTHING) -> dict[str, int]:
        """How many of the chosen letters there are by `error` type, `task`, `entity` or `metadata.KEY`, most first.

        Raises:
            InvalidInputError: `by` is none of these.
        """
        check_grouping(by)
        return dict(count_by((await self.find_async(selection)).letters, by))

    def group(self, by: str = "error", selection: Selection = EVERYTHING) -> dict[str, int]:
        """`group_async` for callers without an event loop."""
        return self._portal.call(self.group_async(by, selection))

    async def redrive_async(self, selection: Selection, *, edit: Edit | None = None) -> Tally:
        """Send the chosen letters back to their queue, each changed by `edit`, with all attempts anew.

        Raises:
            InvalidInputError: the edit can't be made on one of them; nothing was sent back.
        """
        return await (await self._opened()).redrive(selection, edit=edit)

    def redrive(self, selection: Selection, *, edit: Edit | None = None) -> Tally:
        """`redrive_async` for callers without an event loop."""
        return self._portal.call(self.redrive_async(selection, edit=edit))

    async def drop_async(self, selection: Selection) -> Tally:
        """Delete the chosen letters for good; their tasks stay dead."""
        return await (await self._opened()).drop(selection)

    def drop(self, selection: Selection) -> Tally:
        """`drop_async` for callers without an event loop."""
        return self._portal.call(self.drop_async(selection))

    async def purge_async(self) -> Tally:
        """Drop all letters that are there now; those that come meanwhile stay."""
        return await self.drop_async(EVERYTHING)

    def purge(self) -> Tally:
        """`purge_async` for callers without an event loop."""
        return self._portal.call(self.purge_async())

    async def export_async(self, selection: Selection = EVERYTHING) -> list[str]:
        """The chosen letters as lines of JSON, without their ends. They stay in the queue."""
        return [lines.write(letter) for letter in (await self.find_async(selection)).letters]

    def export(self, selection: Selection = EVERYTHING) -> list[str]:
        """`export_async` for callers without an event loop."""
        return self._portal.call(self.export_async(selection))

    async def put_async(self, exported: Iterable[str]) -> Tally:
        """Put exported lines back as dead letters; those that are there already count as leftovers.

        Raises:
            InvalidInputError: a line is no dead letter; nothing was put.
        """
        letters = lines.read_all(exported)
        return await (await self._opened()).put(letters)

    def put(self, exported: Iterable[str]) -> Tally:
        """`put_async` for callers without an event loop."""
        return self._portal.call(self.put_async(exported))
