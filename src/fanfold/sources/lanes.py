"""Order, where it is asked for: what shares a lane is handled one after the other, in the order in which it came."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable


class Turn:
    """One place in a lane. For one event loop."""

    def __init__(self, before: Turn | None) -> None:
        self._before = before
        self._over = asyncio.Event()
        self._kept = True

    async def wait(self) -> bool:
        """Return when the one before is over; answers whether the lane is whole: False once a turn was broken off."""
        if self._before is not None:
            await self._before._over.wait()  # noqa: SLF001 - of the same class
            self._kept, self._before = self._before._kept, None  # noqa: SLF001 - as above
        return self._kept

    def end(self, *, kept: bool) -> None:
        """Let the next one begin, or, where this one was broken off, not begin."""
        self._kept = self._kept and kept
        self._over.set()


class Lanes:
    """Turns by lane; an idle lane takes no memory."""

    def __init__(self) -> None:
        self._last: dict[Hashable, Turn] = {}

    def join(self, lane: Hashable) -> Turn:
        """The next turn of a lane."""
        turn = self._last[lane] = Turn(self._last.get(lane))
        return turn

    def leave(self, lane: Hashable, turn: Turn, *, kept: bool) -> None:
        """End a turn, `kept` or broken off: then whoever waits behind it is broken off too, or order would be lost."""
        turn.end(kept=kept)
        if self._last.get(lane) is turn:
            del self._last[lane]
