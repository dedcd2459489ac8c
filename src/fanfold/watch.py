"""Noticing what other processes commit to an SQLite file: asking, and where the system can tell (Linux), being told."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Any

try:
    from inotify_simple import INotify, flags  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # another system than Linux
    INotify = None

_FIRST = 1
"""The number that the system gives to the first thing that is watched."""


class Watch:
    """Tells whether another process has committed since the last look (`PRAGMA data_version`: no disk access).

    `changed` asks; `stirred` waits until somebody writes to the write-ahead log, which is before the commit that it is
    for can be seen. For the thread that made it, but `end` may come from any.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        """Watch the file at `path`, which `connection` has open."""
        self._connection = connection
        self._seen = self._version()
        self._inotify = _watching(path)
        self.can_wait = self._inotify is not None
        """Whether `stirred` works here."""

    def changed(self) -> bool:
        """Whether there was a commit by anybody else since the last call."""
        before, self._seen = self._seen, self._version()
        return before != self._seen

    def stirred(self, seconds: float) -> bool:
        """Whether anybody has written since the last call; waits for it, so many seconds at most, or until `end`."""
        return bool(self._inotify.read(timeout=round(1000 * seconds)))

    def end(self) -> None:
        """Let `stirred` return at once, where it waits now or when it is called next. Idempotent."""
        if self._inotify is not None:
            with contextlib.suppress(OSError, ValueError):  # ended before, or closed
                self._inotify.rm_watch(_FIRST)

    def close(self) -> None:
        """Close the connection, and what watches the file."""
        self._connection.close()
        if self._inotify is not None:
            self._inotify.close()

    def _version(self) -> int:
        version: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
        return version


def _watching(path: Path) -> Any:
    """What tells of writes to the file's log; None where nothing can, or may (each user has so many of them)."""
    if INotify is None:
        return None
    try:
        inotify = INotify()
    except OSError:
        return None
    try:
        inotify.add_watch(f"{os.path.realpath(path)}-wal", flags.MODIFY)
    except OSError:
        inotify.close()
        return None
    return inotify
