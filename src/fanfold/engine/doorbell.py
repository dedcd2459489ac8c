"""Waking whoever waits for messages: at once on a change in this process, within a tick on another's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from fanfold.database import Database, Watch

_TICK: Final = 0.02
"""Seconds between two looks at what other processes have committed."""


class Doorbell:
    """Wakes waiters of any event loop.

    1. A waiter listens before it looks, so that no change falls between its look and its wait.
    2. `ring` wakes all of them; each looks for itself.
    3. While anybody waits, one thread looks for other processes' commits every tick, and rings.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._guard = threading.Lock()
        self._listeners: set[Bell] = set()
        self._occupied = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def listen(self) -> Iterator[Bell]:
        """A bell that every ring rings, until the block is left."""
        bell = Bell(asyncio.get_running_loop())
        with self._guard:
            self._listeners.add(bell)
            self._occupied.set()
            if self._thread is None:
                watch = self._database.watch()
                self._thread = threading.Thread(target=self._tick, args=(watch,), name="fanfold-doorbell", daemon=True)
                self._thread.start()
        try:
            yield bell
        finally:
            with self._guard:
                self._listeners.discard(bell)
                if not self._listeners:
                    self._occupied.clear()

    def ring(self) -> None:
        """Wake everyone who listens."""
        with self._guard:
            listeners = list(self._listeners)
        for bell in listeners:
            bell.ring()

    def close(self) -> None:
        """End the thread; a later listener starts another. Idempotent."""
        self._closed.set()
        self._occupied.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._closed.clear()
        self._occupied.clear()

    def _tick(self, watch: Watch) -> None:
        try:
            while not self._closed.wait(_TICK):
                if watch.changed():
                    self.ring()
                self._occupied.wait()
        finally:
            watch.close()


class Bell:
    """One waiter's signal."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake the waiter, from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._rung.set)
        except RuntimeError:
            return  # its loop has ended, and the waiter with it

    def clear(self) -> None:
        """Forget earlier rings; to be called before a look."""
        self._rung.clear()

    async def wait(self) -> None:
        """Return at the next ring since `clear`."""
        await self._rung.wait()
