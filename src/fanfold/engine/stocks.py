"""A stock's counts, so that asking how many messages there are costs the same at any backlog.

Whoever adds, takes away, leases or frees messages counts them here, in the same transaction. Leases that have run out
count until somebody frees or renews them.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from fanfold import sql
from fanfold.engine.deferred import Write

AVAILABLE: Final = 0
LEASED: Final = 1
DELAYED: Final = 2

_SQL: Final = sql.load("fanfold.engine", "messages.sql")


def count(write: Write, stock: int, *, messages: int = 0, leased: int = 0) -> None:
    """So many messages, and leased messages, came (or went, below 0)."""
    if messages or leased:
        write("count", [(messages, leased, stock)])


def counts(connection: sqlite3.Connection, stock: int) -> tuple[int, int]:
    """How many messages there are, and how many of them are leased or were when last looked at."""
    messages, leased = connection.execute(_SQL["counts"], (stock,)).fetchone()
    return messages, leased
