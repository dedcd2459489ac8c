"""One SQLite file, shared by the embedded queue and the ledger, by threads, and by processes."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Generic

from fanfold.connection_thread import ConnectionThread, Job, Operation, T
from fanfold.errors import (
    ConfigurationError,
    StorageBusyError,
    StorageCorruptError,
    StorageError,
    StorageFullError,
    StorageReadOnlyError,
)
from fanfold.turns import Turns
from fanfold.watch import Watch

_BUSY_SECONDS: Final = 30.0
_NOT_FLUSHED: Final = "NORMAL"
"""SQLite's word for commits that are written and not flushed: the next flush takes them along."""
_WAL_RETRY: Final = 0.005
_WAL_PAGES: Final = 4000
"""Pages of the write-ahead log (16 MiB) that are written back together: a page that many commits changed is written
once. SQLite's own 1000 would write a busy queue's pages four times as often."""
_WRITTEN_BACK: Final = 150
"""Commits after which the keeper writes the log back. A commit that finds it full does so itself, waiting for the disk;
where the keeper was before, there is little left to do. Most commits change ten to fifteen pages."""
_FILE_FAILED: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_CANTOPEN,
    }
)

PromptJob = tuple[Operation[Any], "asyncio.Future[Any]"]
"""An operation, and the future of an event loop that waits for it."""


class Unflushed(Generic[T]):
    """An operation whose commit needn't be on the disk when it is answered: another one's flush takes it along.

    It survives the kill of every process. At a power loss it may be as if it had never been, with all that came after
    it; nothing before it is lost.
    """

    __slots__ = ("_operation",)

    def __init__(self, operation: Operation[T]) -> None:
        self._operation = operation

    def __call__(self, connection: sqlite3.Connection) -> T:
        """Run it."""
        return self._operation(connection)


_CREATE_VERSIONS: Final = (
    "CREATE TABLE IF NOT EXISTS fanfold_schema (part TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID"
)


class Database:
    """A SQLite file behind three threads.

    1. The writer takes every operation that waits, runs them in one transaction, commits once and answers them all:
       concurrent callers share the cost of the disk's flush (group commit).
    2. The reader answers queries from a snapshot beside it.
    3. The keeper writes the write-ahead log back into the file, so that next to no commit has to wait for that.
    4. Processes take turns for the write lock in the order in which they ask.

    It never answers a write before its commit, and never keeps half of an operation: where one of a group fails, the
    transaction is rolled back and the group runs again one by one. So operations must do nothing but SQL.
    """

    def __init__(self, path: Path, *, synchronous: str = "FULL") -> None:
        self.path = path
        self._synchronous = synchronous
        self._users = 0
        self._guard = threading.Lock()
        self._pid = os.getpid()
        self._patient: bool | None = True
        self._flushes: bool | None = True
        """What the writer's connection was told; None where that is not known."""
        self._turns = Turns(path.with_name(path.name + "-turn"))
        self._writer = ConnectionThread("fanfold-writer", self._connect, self._write_group)
        self._reader = ConnectionThread("fanfold-reader", self._connect, self._read_group)
        self._keeper = ConnectionThread("fanfold-keeper", self._connect, _write_back)
        self._commits = 0

    def open(self) -> None:
        """Open the file (created where missing) and start the threads. Each call needs its `close`.

        Raises:
            StorageError: the file can't be opened, written, or isn't a SQLite database; a subclass says which.
        """
        with self._guard:
            if not self._users:
                self._start()
            self._users += 1

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Open, and prepare what lives in the file in a `with` block: where that fails, the file is closed again."""
        self.open()
        try:
            yield
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let the last user's call end the threads, after what they have taken on."""
        with self._guard:
            self._users -= 1
            if not self._users:
                self._stop()

    def write(self, operation: Operation[T]) -> Future[T]:
        """Run `operation` in a write transaction. The future holds its result once that is committed."""
        return self._submit(self._writer, operation)

    def write_at_once(self, jobs: Sequence[PromptJob]) -> bool:
        """Run operations as one commit in the caller's own thread, if that takes no waiting for anybody.

        True: it is committed, and the futures hold the results. False: nothing was done (another thread or process
        writes, the file is closed, or an operation failed); `write` does it, or says why not.
        """
        return self._at_once(lambda connection: self._write_unless_busy(connection, jobs))

    def expect(self, *, flushes: bool) -> None:
        """Make ready for a next commit that will, or won't, be flushed, where that takes no waiting.

        To change that takes as long as three statements, so whoever can foresee it lets nobody wait for it.
        """
        self._at_once(lambda connection: self._let_flush(connection, flushes=flushes))

    def read(self, operation: Operation[T]) -> Future[T]:
        """Run `operation` on a snapshot of what is committed."""
        return self._submit(self._reader, operation)

    def migrate(self, part: str, scripts: Sequence[str]) -> None:
        """Bring one part's tables up to date: run those of its scripts that the file hasn't seen.

        Two processes may do this at once. Raises StorageCorruptError where the file is newer than the code.
        """
        self.write(lambda connection: _migrate(connection, part, scripts, self.path)).result()

    def watch(self) -> Watch:
        """A cheap way to notice other processes' commits; for the thread that asks."""
        return Watch(self._connect(), self.path)

    def _at_once(self, use: Callable[[sqlite3.Connection], bool]) -> bool:
        try:
            return os.getpid() == self._pid and self._writer.at_once(use)
        except BaseException:
            # A signal's handler raised (Ctrl-C), between any two steps. The writer's thread, where that can't happen,
            # lets go of what was left: a transaction, the turn.
            self._writer.submit(_nothing, Future())
            raise

    def _submit(self, thread: ConnectionThread, operation: Operation[T]) -> Future[T]:
        if os.getpid() != self._pid:
            raise ConfigurationError(
                f"{self.path} was opened before a fork; SQLite files don't survive one. Create the Fanfold app, or "
                "first use it, after the fork (gunicorn: without preload_app)."
            )
        future: Future[T] = Future()
        thread.submit(operation, future)
        return future

    def _start(self) -> None:
        self._patient = self._flushes = True
        try:
            self._prepare()
            self._writer.start()
            self._reader.start()
            self._keeper.start()
        except BaseException:
            self._stop()
            raise

    def _stop(self) -> None:
        self._writer.stop()
        self._reader.stop()
        self._keeper.stop()
        self._turns.close()

    def _prepare(self) -> None:
        if not self.path.parent.is_dir():
            raise StorageError(f"{self.path}: the folder {self.path.parent} doesn't exist; create it first")
        try:
            connection = self._connect()
        except sqlite3.Error as error:
            raise storage_error(error, self.path) from error
        try:
            self._turns.open()
            with self._turns:
                _use_wal(connection, self.path)
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(_CREATE_VERSIONS)
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise storage_error(error, self.path) from error
        finally:
            connection.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        try:
            connection.execute(f"PRAGMA synchronous={self._synchronous}")
            connection.execute(f"PRAGMA wal_autocheckpoint={_WAL_PAGES}")
            connection.execute("PRAGMA temp_store=MEMORY")
        except BaseException:
            connection.close()
            raise
        return connection

    def _write_group(self, connection: sqlite3.Connection, jobs: Sequence[Job]) -> None:
        try:
            self._make_ready(connection, patient=True, flushes=_must_flush(jobs))
            with self._turns:
                results = _transact(connection, "BEGIN IMMEDIATE", [operation for operation, _ in jobs])
        except Exception as error:  # noqa: BLE001 - whatever an operation raises belongs to its caller
            self._write_failed(connection, jobs, error)
            return
        self._count_commit()
        for (_, future), result in zip(jobs, results, strict=True):
            future.set_result(result)

    def _write_unless_busy(self, connection: sqlite3.Connection, jobs: Sequence[PromptJob]) -> bool:
        if not self._turns.take_at_once():
            return False
        try:
            self._make_ready(connection, patient=False, flushes=_must_flush(jobs))
            results = _transact(connection, "BEGIN IMMEDIATE", [operation for operation, _ in jobs])
        except Exception:  # noqa: BLE001 - it was rolled back; the writer's thread finds out whose fault it was
            return False
        finally:
            self._turns.pass_on()
        self._count_commit()
        for (_, future), result in zip(jobs, results, strict=True):
            future.set_result(result)
        return True

    def _count_commit(self) -> None:
        self._commits += 1
        if self._commits % _WRITTEN_BACK == 0:
            self._keeper.submit(_nothing, Future())

    def _make_ready(self, connection: sqlite3.Connection, *, patient: bool, flushes: bool) -> None:
        """Whether the next transaction waits for other programs' locks, and for the disk."""
        if connection.in_transaction:  # somebody was interrupted
            connection.execute("ROLLBACK")
        if patient != self._patient:  # to say so costs
            self._patient = None
            connection.execute(f"PRAGMA busy_timeout={_BUSY_SECONDS * 1000 if patient else 0:.0f}")
            self._patient = patient
        self._let_flush(connection, flushes=flushes)

    def _let_flush(self, connection: sqlite3.Connection, *, flushes: bool) -> bool:
        """Whether the next commit waits for the disk. Outside a transaction; said only where it changes."""
        if flushes != self._flushes and self._synchronous != _NOT_FLUSHED:
            self._flushes = None
            connection.execute(f"PRAGMA synchronous={self._synchronous if flushes else _NOT_FLUSHED}")
            self._flushes = flushes
        return True

    def _write_failed(self, connection: sqlite3.Connection, jobs: Sequence[Job], error: Exception) -> None:
        if len(jobs) == 1 or _concerns_all(error):
            for _, future in jobs:
                future.set_exception(self._named(error))
            return
        for job in jobs:
            self._write_group(connection, [job])

    def _read_group(self, connection: sqlite3.Connection, jobs: Sequence[Job]) -> None:
        for operation, future in jobs:
            try:
                future.set_result(_transact(connection, "BEGIN", [operation])[0])
            except Exception as error:  # noqa: BLE001 - as above
                future.set_exception(self._named(error))

    def _named(self, error: Exception) -> Exception:
        return storage_error(error, self.path) if isinstance(error, sqlite3.Error) else error


def as_it_is(path: Path, operation: Operation[T]) -> T:
    """Run `operation` on a file that is neither made nor changed: its tables may be of any version.

    Raises:
        StorageError: it can't be read, or isn't a SQLite database.
    """
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return operation(connection)
    except sqlite3.Error as error:
        raise storage_error(error, path) from error


def storage_error(error: sqlite3.Error, path: Path) -> StorageError:
    """The error of our tree for one of SQLite's, with the cure in its text."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StorageBusyError(
            f"{path} was locked by another program for over {_BUSY_SECONDS:.0f} s; close what holds it (a database "
            "browser, a backup, an open transaction)"
        )
    if code == sqlite3.SQLITE_FULL:
        return StorageFullError(f"the disk that holds {path} is full; nothing was half-written. Free space and retry")
    if code == sqlite3.SQLITE_READONLY:
        return StorageReadOnlyError(f"{path} can't be written; make the file and its folder writable for this user")
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return StorageCorruptError(
            f"{path} is not a sound SQLite database ({error}); restore it or choose another file"
        )
    if code == sqlite3.SQLITE_CANTOPEN:
        return StorageReadOnlyError(f"{path} can't be opened ({error}); check that it is a file and its permissions")
    return StorageError(f"{path}: {error}")


def _must_flush(jobs: Sequence[tuple[Operation[Any], object]]) -> bool:
    return not all(isinstance(operation, Unflushed) for operation, _ in jobs)


def _concerns_all(error: Exception) -> bool:
    """Whether the file failed (locked, full, damaged) and not one operation: the others would fare no better."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    return isinstance(error, sqlite3.DatabaseError) and code in _FILE_FAILED


def _transact(connection: sqlite3.Connection, begin: str, operations: Sequence[Operation[Any]]) -> list[Any]:
    try:
        connection.execute(begin)
        results = [operation(connection) for operation in operations]
        connection.execute("COMMIT")
    except BaseException:
        # A full disk may have rolled the transaction back already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return results


def _nothing(_connection: sqlite3.Connection) -> None:
    """Ask the keeper to do what it does."""


def _write_back(connection: sqlite3.Connection, jobs: Sequence[Job]) -> None:
    """Write the log back as far as that holds nobody up; where it fails, the commit that finds it full does it."""
    with suppress(sqlite3.Error):
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    for _, future in jobs:
        future.set_result(None)


def _use_wal(connection: sqlite3.Connection, path: Path) -> None:
    mode = _set_wal(connection)
    if mode != "wal":
        raise StorageError(
            f"{path}: this file system can't do SQLite's write-ahead log (journal mode stays {mode!r}); "
            "put the file on a local disk"
        )


def _set_wal(connection: sqlite3.Connection) -> str:
    """Ask for the write-ahead log; answers the mode in force.

    SQLite doesn't wait for this lock as it does for others: a second opener of a new file is refused at once. Processes
    take turns, but two apps of one process hold the turn together.
    """
    until = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            mode: str = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(_WAL_RETRY)
        else:
            return mode


def _migrate(connection: sqlite3.Connection, part: str, scripts: Sequence[str], path: Path) -> None:
    row = connection.execute("SELECT version FROM fanfold_schema WHERE part = ?", (part,)).fetchone()
    version = row[0] if row else 0
    if version > len(scripts):
        raise StorageCorruptError(
            f"{path}: its {part} tables have version {version}, this Fanfold knows {len(scripts)}; upgrade Fanfold"
        )
    for script in scripts[version:]:
        for statement in _statements(script):
            connection.execute(statement)
    connection.execute(
        "INSERT INTO fanfold_schema VALUES (?, ?) ON CONFLICT (part) DO UPDATE SET version = excluded.version",
        (part, len(scripts)),
    )


def _statements(script: str) -> list[str]:
    # `executescript` would commit the running transaction, so the script is cut where SQLite says a statement ends.
    statements, current = [], ""
    for line in script.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            statements.append(current)
            current = ""
    return [*statements, current] if current.strip() else statements
