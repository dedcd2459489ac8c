"""The work that nobody waits for: message move tasks, what purges and deletes left behind, what has grown too old."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Callable
from typing import Final

from fanfold.clock import Clock
from fanfold.database import Database
from fanfold.engine import deferred, moves, upkeep
from fanfold.engine.deferred import settled
from fanfold.engine.doorbell import Doorbell

_LOOK: Final = 5.0
"""Seconds between two looks at what another process, or one that has died, may have left to do."""
_SLICE: Final = 1000
"""Messages of an abandoned stock that are deleted in one go."""
_OLD: Final = 200
"""Messages that are too old and are deleted in one go; each may make another one its group's head."""

_log: Final = logging.getLogger(__name__)


class Mover:
    """A task of the loop that started it.

    1. It looks at the file every few seconds, and at once when it is woken.
    2. While there is work it takes it in slices, each an operation of its own, so that everybody else's come between.
    3. Several movers, of several processes, may share a file: each slice begins with what the last one left.

    An error of a round is logged and tried again at the next look.
    """

    def __init__(self, database: Database, clock: Clock, doorbell: Doorbell, new_id: Callable[[], str]) -> None:
        self._database = database
        self._clock = clock
        self._doorbell = doorbell
        self._new_id = new_id
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()

    def start(self) -> None:
        """Begin, in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End after the slice under way. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def wake(self) -> None:
        """There is something to do. From any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._woken.set)

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            try:
                due = await self._round()
            except Exception:  # noqa: BLE001 - tasks and upkeep of other queues must go on
                _log.exception("the engine's upkeep failed; it is tried again in %s s", _LOOK)
                due = None
            await self._pause(due)

    async def _round(self) -> float | None:
        """One slice of all there is to do; answers when the next one is due, in seconds since the epoch."""
        if not await asyncio.wrap_future(self._database.read(self._has_work)):
            return None
        arrived, due = await asyncio.wrap_future(self._database.write(settled(self._slice)))
        for name, count in arrived.items():
            self._doorbell.ring(name, count)
        return None if due is None else due / 1000

    def _slice(self, connection: sqlite3.Connection) -> tuple[dict[str, int], int | None]:
        now = self._now()
        arrived: dict[str, int] = {}
        more = upkeep.clear(connection, _SLICE) | upkeep.expire_unasked(connection, now, _OLD)
        dues = [now] if more else []
        for task in moves.running(connection):
            step = moves.step(connection, task, self._new_id, now)
            arrived |= {name: arrived.get(name, 0) + count for name, count in step.arrived.items()}
            dues += [] if step.due is None else [step.due]
        return arrived, min(dues, default=None)

    def _has_work(self, connection: sqlite3.Connection) -> bool:
        if deferred.is_any(connection) or upkeep.has_abandoned(connection) or moves.running(connection):
            return True
        return upkeep.overdue(connection, self._now()) is not None

    def _now(self) -> int:
        return int(self._clock.now() * 1000)

    async def _pause(self, due: float | None) -> None:
        """Wait for a call to work, or until something is due, or for the time of a look."""
        waits = [asyncio.ensure_future(self._woken.wait()), asyncio.ensure_future(self._sleep_until(due))]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _sleep_until(self, due: float | None) -> None:
        # The clock is read where the sleep begins: between the two it may step.
        await self._clock.sleep(_LOOK if due is None else min(_LOOK, due - self._clock.now()))
