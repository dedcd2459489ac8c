"""Setting a ledger up: its table on DynamoDB, its tables in PostgreSQL or SQLite."""

from __future__ import annotations

import asyncio
from typing import Final

from fanfold import wiring
from fanfold.clock import SystemClock
from fanfold.deploy.provision import Change
from fanfold.errors import NoLedgerError
from fanfold.ledgers.protocol import Ledger
from fanfold.urls import is_sqlite, parse_sqlite

_DYNAMODB: Final = "dynamodb://"


async def look(url: str) -> list[Change]:
    """What is missing of a ledger. Nothing is changed; whether tables are up to date is for `apply` to see.

    Raises:
        ConfigurationError: the URL can't be read.
        LedgerError: DynamoDB can't be asked, or the table is another application's.
    """
    if url == wiring.NO_LEDGER:
        return []
    if url.startswith(_DYNAMODB):
        from fanfold.deploy import ledger_table  # noqa: PLC0415 - boto3 only where it is used

        return await asyncio.to_thread(ledger_table.look, url)
    _ledger(url)  # which refuses what can't be read
    missing = is_sqlite(url) and not parse_sqlite(url).path.exists()
    return [Change(target=str(parse_sqlite(url).path))] if missing else []


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
