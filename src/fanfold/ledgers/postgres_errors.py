"""What PostgreSQL's errors mean to a caller: try again, or change something, and what."""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg import errors

from fanfold.errors import FanfoldError, InvalidInputError, LedgerError, LedgerUnavailableError

# By class of SQLSTATE: connection, rollback for others' sake, resources, operator's intervention, system. A server that
# has become read-only is the former primary of a failover.
_PASSING: Final = ("08", "40", "53", "57", "58")
_PASSING_STATES: Final = (errors.LockNotAvailable.sqlstate, errors.ReadOnlySqlTransaction.sqlstate)
# A refused connection carries no SQLSTATE (libpq hands on its text only), so these are read; in another language of the
# server they count as passing, and its own words are shown.
_REFUSALS: Final = {
    "does not exist": "create it, or write another one into the ledger's URL",
    "password authentication failed": "write another user or password into the ledger's URL",
    "no password supplied": "write one into the ledger's URL, or into PGPASSWORD or ~/.pgpass",
    "pg_hba.conf": "let the server accept it, or connect otherwise (sslmode=require?)",
    "permission denied for database": "GRANT CONNECT ON that DATABASE to the ledger's role",
    "server does not support SSL": "leave sslmode out of the ledger's URL, or let the server speak TLS",
}
_GRANTS: Final = {
    "database": "GRANT CREATE ON that DATABASE to it, or create the schema for it",
    "schema": "GRANT USAGE ON that SCHEMA to it, and CREATE to whoever first starts a new version of Fanfold",
    "table": "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN that SCHEMA to it",
    "view": "GRANT SELECT ON ALL TABLES IN that SCHEMA to it",
    "function": "GRANT EXECUTE ON ALL FUNCTIONS IN that SCHEMA to it",
    "sequence": "GRANT USAGE ON ALL SEQUENCES IN that SCHEMA to it",
}


def told(error: psycopg.Error, address: str) -> FanfoldError:
    """The error that a caller gets, with the server's words. `address` has no password in it."""
    words = f"ledger {address}: {' '.join(str(error).split()) or type(error).__name__}"
    if isinstance(error, errors.InsufficientPrivilege):
        return LedgerError(f"{words}. The ledger's role needs it: {_grant(str(error))}")
    if isinstance(error, errors.UndefinedTable | errors.UndefinedFunction | errors.InvalidSchemaName):
        return LedgerError(f"{words}. The tables were dropped, or never made: start a worker, it makes them")
    if isinstance(error, psycopg.DataError):
        return InvalidInputError(f"{words}. PostgreSQL can't hold such a value")
    if _passing(error):
        return LedgerUnavailableError(f"{words}. It is tried again while it is away")
    return LedgerError(words)


def refused(error: psycopg.Error, address: str) -> FanfoldError:
    """The same, of a connection that couldn't be made."""
    cure = next((cure for said, cure in _REFUSALS.items() if said in str(error)), None)
    if cure is None:
        return told(error, address)
    return LedgerError(f"ledger {address}: {' '.join(str(error).split())}. To cure it: {cure}")


def _passing(error: psycopg.Error) -> bool:
    if error.sqlstate is None:  # the connection's end
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return error.sqlstate.startswith(_PASSING) or error.sqlstate in _PASSING_STATES


def _grant(text: str) -> str:
    kind = text.removeprefix("permission denied for ").split(" ", 1)[0]
    return _GRANTS.get(kind, "let it own the schema")
