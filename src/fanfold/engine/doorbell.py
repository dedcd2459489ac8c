"""Waking whoever waits for messages: at once on a change in this process, within a tick on another's."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from fanfold.database import Database, Watch

_TICK: Final = 0.02
"""Seconds between two looks at what other processes have committed."""
_PATIENCE: Final = 250
"""Looks in vain (some five seconds) after which there are fewer: an idle worker does little else."""
_SLACK: Final = 2.5
"""How much longer the tick is then."""


Seen = tuple[int, int]
"""What a look has seen: the rings of its bell, and of all of its queue, up to when it began."""


class Bell:
    """One waiter's signal. Rings are counted, so that one that comes during a look isn't forgotten."""

    def __init__(self, queue: str, line: _Line) -> None:
        self.queue = queue
        self.line = line
        self.rings = 0
        self.answered = 0
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()

    @property
    def owed(self) -> bool:
        """Whether a ring waits for a look that begins after it."""
        return self.rings != self.answered

    @property
    def seen(self) -> Seen:
        """What a look that begins now will have seen."""
        return self.rings, self.line.rings

    def ring(self) -> bool:
        """Wake the waiter, from any thread. False where its loop has ended, and the waiter with it."""
        self.rings += 1
        try:
            self._loop.call_soon_threadsafe(self._rung.set)
        except RuntimeError:
            return False
        return True

    def nudge(self, _: object = None) -> None:
        """Let the waiter see whether what it waits for beside rings has come; in its own loop."""
        self._rung.set()

    async def wait(self, until: Callable[[], bool]) -> None:
        """Return when a ring is owed a look, or when `until` holds; that is asked at each nudge."""
        while not self.owed and not until():
            self._rung.clear()
            await self._rung.wait()


class _Line:
    """The waiters of one queue, which of them minds the time at which its next lease ends, and what is known of it.

    `quiet` holds while no ring has come since a look that found nothing: there is nothing until `ready_at`.
    """

    def __init__(self) -> None:
        self.idle: dict[Bell, None] = {}
        self.rung: dict[Bell, None] = {}
        self.alarm: tuple[float, Bell] | None = None
        self.rings = 0
        self.quiet = False
        self.ready_at: float | None = None

    def ring(self, most: int) -> None:
        """Something may have come: wake so many waiters."""
        self.rings += 1
        self.quiet = False
        self.wake(most)

    def wake(self, most: int) -> None:
        """Wake so many idle waiters; where there are fewer, those who have been rung look once more."""
        rung = len(self.rung)
        while most > 0 and self.idle:
            bell = next(iter(self.idle))
            del self.idle[bell]
            if bell.ring():
                self.rung[bell] = None
                most -= 1
        for bell in list(self.rung)[: min(rung, most)]:
            bell.ring()

    def ring_all(self) -> None:
        """Wake everyone."""
        self.ring(len(self.idle) + len(self.rung))

    def leave(self, bell: Bell) -> None:
        """A waiter goes; its ring, or the time that it minded, is somebody else's now."""
        self.idle.pop(bell, None)
        self.rung.pop(bell, None)
        minded = self.alarm is not None and self.alarm[1] is bell
        if minded:
            self.alarm = None
        if bell.owed:
            self.ring(1)
        elif minded:
            self.wake(1)

    def learn(self, bell: Bell, seen: Seen, ready_at: float | None) -> bool:
        """A look found nothing. Answers whether its waiter is to mind the time `ready_at`."""
        bell.answered = seen[0]
        if not bell.owed and bell in self.rung:
            del self.rung[bell]
            self.idle[bell] = None
        if seen[1] == self.rings:
            self.quiet, self.ready_at = True, ready_at
        if self.alarm is not None and self.alarm[1] is bell:
            self.alarm = None
        if ready_at is None or (self.alarm is not None and self.alarm[0] <= ready_at):
            return False
        self.alarm = ready_at, bell
        return True


class Doorbell:
    """Wakes waiters of any event loop, queue by queue, and no more of them than there is work.

    1. A waiter listens before it looks, so that no change falls between its look and its wait.
    2. A ring wakes one waiter for each message that may have come. It owes the ring a look; if it finds something, or
       goes away (cancelled, out of time) before it has looked, the ring passes to the next one. So a ring ends with a
       look that found nothing, and is never lost.
    3. One waiter a queue minds the time at which the next lease ends.
    4. While anybody waits, one thread looks for other processes' commits every tick, or less often where there were
       none for a while, and rings once a queue. Where that look fails it is tried again, and rings when it works again:
       nobody knows what it missed.
    5. Where others wait and nothing has rung since the last of them looked, a newcomer need not look.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._guard = threading.Lock()
        self._lines: dict[str, _Line] = {}
        self._blind = True
        self._in_vain = 0
        self._occupied = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def listen(self, queue: str) -> Iterator[Bell]:
        """A bell that rings of this queue may ring, until the block is left."""
        with self._guard:
            line = self._lines.setdefault(queue, _Line())
            bell = Bell(queue, line)
            line.idle[bell] = None
            if not self._occupied.is_set():
                self._occupied.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._tick, name="fanfold-doorbell", daemon=True)
                self._thread.start()
        try:
            yield bell
        finally:
            with self._guard:
                line.leave(bell)
                self._tidy(queue, line)

    def ring(self, queue: str, most: int = 1) -> None:
        """Something may have become receivable: so many messages at most."""
        with self._guard:
            if queue in self._lines:
                self._lines[queue].ring(most)

    def ring_all(self, queue: str | None = None) -> None:
        """Wake everyone who listens, or everyone at one queue: what they wait for may never come."""
        with self._guard:
            for name, line in self._lines.items():
                if queue in (None, name):
                    line.ring_all()

    def found_nothing(self, bell: Bell, seen: Seen, ready_at: float | None) -> bool:
        """End the rings that a look had seen: it found nothing, and nothing can be found until `ready_at`.

        Answers whether this waiter is to mind that time; nobody else does, or only a later one.
        """
        with self._guard:
            return bell.line.learn(bell, seen, ready_at)

    def quiet(self, bell: Bell, now: float) -> bool:
        """Whether a look would find nothing now, as somebody else's has."""
        with self._guard:
            line = bell.line
            return line.quiet and not self._blind and (line.ready_at is None or now < line.ready_at)

    def close(self) -> None:
        """End the thread; a later listener starts another. Idempotent."""
        self._closed.set()
        self._occupied.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._closed.clear()
        self._occupied.clear()

    def _tidy(self, queue: str, line: _Line) -> None:
        if not line.idle and not line.rung and self._lines.get(queue) is line:
            del self._lines[queue]
        if not self._lines:
            self._occupied.clear()

    def _tick(self) -> None:
        watch: Watch | None = None
        try:
            while not self._closed.wait(_TICK if self._in_vain < _PATIENCE else _TICK * _SLACK):
                watch = self._look(watch)
                self._occupied.wait()
        finally:
            self._blind = True
            if watch is not None:
                watch.close()

    def _look(self, watch: Watch | None) -> Watch | None:
        try:
            if watch is None:
                watch = self._database.watch()
            elif not watch.changed():
                self._in_vain += 1
                return watch
        except sqlite3.Error:
            self._blind = True
            if watch is not None:
                watch.close()
            return None
        self._in_vain = 0
        with self._guard:
            self._blind = False
            for line in self._lines.values():
                line.ring(1)
        return watch
