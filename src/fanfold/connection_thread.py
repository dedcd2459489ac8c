"""A thread that owns a connection to the SQLite file."""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from fanfold.errors import StorageError

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]
Job = tuple[Operation[Any], "Future[Any]"]

GROUP: Final = 256
"""Operations handled together at most: bounds how long others wait for the write lock."""


class ConnectionThread:
    """A thread with a connection, fed by a queue, that handles all that waits at once."""

    def __init__(
        self,
        name: str,
        connect: Callable[[], sqlite3.Connection],
        handle: Callable[[sqlite3.Connection, Sequence[Job]], None],
    ) -> None:
        self._name = name
        self._connect = connect
        self._handle = handle
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._guard = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._busy = threading.RLock()
        self._wants = False

    def start(self) -> None:
        """Connect, and start. Raises what connecting raises."""
        self._connection = self._connect()
        self._thread = threading.Thread(target=self._run, args=(self._connection,), name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after what was submitted. Idempotent."""
        with self._guard:
            thread, self._thread = self._thread, None
            if thread is None:
                return
            self._jobs.put(None)
        thread.join()

    def submit(self, operation: Operation[Any], future: Future[Any]) -> None:
        """Hand an operation over; `future` gets its result, or a StorageError where the thread has ended."""
        # Under the guard nothing gets behind the end mark, where nobody would ever answer it.
        with self._guard:
            if self._thread is not None:
                self._jobs.put((operation, future))
                return
        future.set_exception(StorageError(f"{self._name}: the file was closed; open the app again before using it"))

    def at_once(self, use: Callable[[sqlite3.Connection], bool]) -> bool:
        """Let the caller's own thread use the connection, unless this one does or has to; False where nothing was done.

        `use` answers whether it did what it was to do.
        """
        if self._wants or not self._jobs.empty():
            return False
        # A signal's handler (Ctrl-C) may raise as soon as `acquire` has returned: whether the lock is held is asked of
        # the lock, and its release is one call.
        try:
            return self._busy.acquire(blocking=False) and self._connection is not None and use(self._connection)
        finally:
            try:  # noqa: SIM105 - `suppress` is a function, at whose start a handler may raise
                self._busy.release()
            except RuntimeError:  # it isn't held
                pass

    def _run(self, connection: sqlite3.Connection) -> None:
        try:
            while jobs := self._take():
                if live := [job for job in jobs if job[1].set_running_or_notify_cancel()]:
                    self._wants = True  # a lock goes to whoever comes first, and others come more often
                    with self._busy:
                        self._wants = False
                        self._handle(connection, live)
        finally:
            with self._busy:
                self._connection = None
                connection.close()

    def _take(self) -> list[Job]:
        first = self._jobs.get()
        if first is None:
            return []
        jobs = [first]
        while len(jobs) < GROUP and not self._jobs.empty():
            job = self._jobs.get()
            if job is None:
                self._jobs.put(None)  # for the next round, behind what is taken now
                break
            jobs.append(job)
        return jobs
