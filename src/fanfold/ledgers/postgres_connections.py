"""Connections to PostgreSQL, and the threads that wait for its answers."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, TypeVar

import psycopg
from psycopg import sql as composing
from psycopg.rows import DictRow, dict_row

from fanfold import sql
from fanfold.errors import ConfigurationError, LedgerError
from fanfold.ledgers import postgres_errors
from fanfold.ledgers.postgres_address import PostgresAddress

Connection = psycopg.Connection[DictRow]

R = TypeVar("R")

STATEMENTS: Final = sql.load("fanfold.ledgers", "postgres.sql")


class Connections:
    """As many connections as threads, made when they are needed and used in turn, the last one first.

    A statement is one round trip, in a transaction of its own. It is never made twice here: whoever waits for the
    ledger has a patience of its own, and must be told at once, and why. (A pool library would wait itself, and keep the
    reason.) A connection that the server has closed meanwhile is replaced, which can be seen without asking. Nothing is
    prepared, so that a pooler between us and the server may hand each statement to another of its connections.
    """

    def __init__(self, address: PostgresAddress) -> None:
        self._address = address
        self._statements = composed(address.schema)
        self._idle: list[Connection] = []
        self._threads: ThreadPoolExecutor | None = None
        self._pid = os.getpid()

    def open(self) -> bool:
        """Start the threads, and answer whether they weren't there before."""
        self._refuse_after_fork()
        if self._threads is not None:
            return False
        self._threads = ThreadPoolExecutor(self._address.connections, thread_name_prefix="fanfold-ledger")
        return True

    def close(self) -> None:
        """End the threads after what they have taken on, and the connections. Idempotent."""
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown()
        while self._idle:
            self._idle.pop().close()

    def submit(self, name: str, values: Mapping[str, Any]) -> Future[list[DictRow]]:
        """Run a statement in a thread; the future gets its rows, or a LedgerError."""
        return self.start(lambda: self.run(name, values))

    def start(self, work: Callable[[], R]) -> Future[R]:
        """Do something in a thread, which may `run`. Raises LedgerError where the threads have ended."""
        self._refuse_after_fork()
        if self._threads is not None:
            with suppress(RuntimeError):  # they end in this moment
                return self._threads.submit(work)
        raise LedgerError(f"ledger {self._address.shown}: it is closed; open the app before using it")

    def run(self, name: str, values: Mapping[str, Any]) -> list[DictRow]:
        """Run a statement here; answers its rows. Raises what `postgres_errors.told` says."""
        connection = self._take()
        try:
            cursor = connection.execute(self._statements[name], values)
            rows = cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            raise postgres_errors.told(error, self._address.shown) from error
        finally:
            self._put_back(connection)
        return rows

    def connect(self) -> Connection:
        """A new connection. Raises what `postgres_errors.refused` says."""
        try:
            return psycopg.connect(
                self._address.conninfo, autocommit=True, prepare_threshold=None, row_factory=dict_row
            )
        except psycopg.Error as error:
            raise postgres_errors.refused(error, self._address.shown) from error

    def _take(self) -> Connection:
        while self._idle:
            with suppress(IndexError):  # another thread took the last one
                connection = self._idle.pop()
                if not _ended(connection):
                    return connection
                connection.close()
        return self.connect()

    def _put_back(self, connection: Connection) -> None:
        # After an error of any kind that isn't the statement's own, what comes next could be an answer to it.
        if connection.closed or connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            connection.close()
        else:
            self._idle.append(connection)

    def _refuse_after_fork(self) -> None:
        if os.getpid() != self._pid:
            raise ConfigurationError(
                f"ledger {self._address.shown} was made before a fork, and connections don't survive one. Create the "
                "Fanfold app, or first use it, after the fork (gunicorn: without preload_app)."
            )


def composed(schema: str) -> Mapping[str, bytes]:
    """The statements for the tables in a schema."""
    where = composing.Identifier(schema)
    return {name: composing.SQL(text).format(schema=where).as_bytes() for name, text in STATEMENTS.items()}


def _ended(connection: Connection) -> bool:
    """Whether the server has ended an idle connection: it says so, or closes it, and else it says nothing."""
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
