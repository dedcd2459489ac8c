"""Setting a ledger up: its table on DynamoDB, its tables in PostgreSQL or SQLite."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable
from typing import Final

from fanfold import wiring
from fanfold.clock import SystemClock
from fanfold.deploy import file, ledger_schema
from fanfold.deploy.findings import Finding, error, warning
from fanfold.deploy.provision import Change
from fanfold.errors import NoLedgerError
from fanfold.ledgers.protocol import Ledger
from fanfold.urls import parse_sqlite

_DYNAMODB: Final = "dynamodb://"
_UNMADE: Final = "the first worker needs the right to make that, or nothing is recorded"
_POSTGRES: Final = ("postgresql://", "postgres://")


async def look(url: str) -> list[Change]:
    """What is missing of a ledger: its file, its tables, or their newest version. Nothing is changed.

    Raises:
        ConfigurationError: the URL can't be read.
        LedgerError: it can't be asked, or what is there is another application's or a newer Fanfold's.
        StorageError: the file can't be read, or is a newer Fanfold's.
    """
    if url == wiring.NO_LEDGER:
        return []
    if url.startswith(_DYNAMODB):
        from fanfold.deploy import ledger_table  # noqa: PLC0415 - boto3 only where it is used

        return await asyncio.to_thread(ledger_table.look, url)
    if url.startswith(_POSTGRES):
        return await asyncio.to_thread(ledger_schema.look, url)
    _ledger(url)  # which refuses what can't be read
    contents = file.look(parse_sqlite(url).path)
    return contents.outdated([file.LEDGER]) if contents is not None else [Change(target=str(parse_sqlite(url).path))]


async def examine(url: str, role: str, *, queue: str, provision: Callable[[str], str]) -> list[Finding]:
    """What a ledger lacks: its tables, and the rights to them that a role needs. Nothing is changed.

    Args:
        url: where the ledger is.
        role: `producer`, `worker` or `operator`.
        queue: the queue's name, for the commands that cure.
        provision: makes the command that provisions it, with an option.

    Raises:
        FanfoldError: it can't be asked.
    """
    if url.startswith(_DYNAMODB):
        from fanfold.deploy import ledger_rights  # noqa: PLC0415 - boto3 only where it is used

        denials = await asyncio.to_thread(ledger_rights.lacking, url, role)
        table = url.removeprefix(_DYNAMODB).partition("?")[0]
        cure = f"fanfold template iam {queue} --ledger-table {table} --role {role} --region REGION --account ACCOUNT"
        if denials:
            return [_lacks(f"{denial.action} on {denial.queue} is denied", role, cure) for denial in denials]
    missing = await look(url)
    if missing:
        cure = provision(f"--ledger {shlex.quote(url)}")
        return [warning("ledger", f"the ledger isn't set up: {change}", why=_UNMADE, cure=cure) for change in missing]
    if not url.startswith(_POSTGRES):
        return []
    rights = await asyncio.to_thread(ledger_schema.lacking, url)
    return [_lacks(f"the ledger's role lacks {right}", role, f"GRANT {right} TO it") for right in rights]


def _lacks(what: str, role: str, cure: str) -> Finding:
    return error("permission.ledger", what, why=f"a {role} can't record anything without it", cure=cure)


async def apply(url: str) -> None:
    """Make a ledger, or bring its tables up to date; where they are, nothing is written.

    Raises:
        LedgerError: it can't be; the text says why.
    """
    if url == wiring.NO_LEDGER:
        return
    if url.startswith(_DYNAMODB):
        from fanfold.deploy import ledger_table  # noqa: PLC0415 - boto3 only where it is used

        await asyncio.to_thread(ledger_table.apply, url)
    ledger = _ledger(url)
    try:
        await ledger.start()
    finally:
        await ledger.close()


def _ledger(url: str) -> Ledger:
    ledger = wiring.ledger_at(url, SystemClock())
    if ledger is None:
        raise NoLedgerError(f"ledger {url!r}: there is nothing to set up")
    return ledger
