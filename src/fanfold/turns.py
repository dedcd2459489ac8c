"""Processes take turns: a lock file that is asked for before SQLite's own write lock.

SQLite's busy handler polls with growing sleeps, so one busy writer can starve another for seconds. Waiters on a file
lock are woken by the kernel when the holder lets go, and a killed holder lets go by dying. It is a POSIX record lock
and not `flock`, since a forked child doesn't inherit it: a child can't keep what its killed parent held.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

from fanfold.errors import StorageReadOnlyError

try:
    import fcntl
except ImportError:  # Windows: SQLite's own lock decides alone
    fcntl = None  # type: ignore[assignment]


class Turns:
    """A context manager that holds the turn. For one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1

    def open(self) -> None:
        """Open the lock file, created where missing."""
        if fcntl is not None and self._file < 0:
            try:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            except OSError as error:
                raise StorageReadOnlyError(
                    f"{self._path} can't be written ({error.strerror}); make its folder writable for this user"
                ) from error

    def close(self) -> None:
        """Close the lock file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def take_at_once(self) -> bool:
        """Take the turn if no other process has it; answers whether it is ours now."""
        if self._file >= 0:
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
        return True

    def pass_on(self) -> None:
        """Let the next process have the turn."""
        if self._file >= 0:
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    def __enter__(self) -> None:
        """Wait for the turn."""
        if self._file >= 0:
            fcntl.lockf(self._file, fcntl.LOCK_EX)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Pass the turn on."""
        self.pass_on()
