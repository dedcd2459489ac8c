"""Setting a ledger up: its tables in PostgreSQL or SQLite."""

from __future__ import annotations

from fanfold import wiring
from fanfold.clock import SystemClock
from fanfold.deploy.provision import Change
from fanfold.errors import NoLedgerError
from fanfold.ledgers.protocol import Ledger
from fanfold.urls import is_sqlite, parse_sqlite


async def look(url: str) -> list[Change]:
    """What is missing of a ledger. Nothing is changed; whether tables are up to date is for `apply` to see.

    Raises:
        ConfigurationError: the URL can't be read.
    """
    if url == wiring.NO_LEDGER:
        return []
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
