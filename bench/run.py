"""Measure the embedded engine: `make bench`. Ratios within one run mean something; figures depend on the hour."""

from __future__ import annotations

import argparse
import asyncio
import platform
import sqlite3
from datetime import UTC, datetime
from typing import Final

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import growth
import waiting

BACKLOGS: Final = (1_000, 50_000, 200_000, 1_000_000)
LARGEST: Final = 200_000
"""What `--largest` is unless told: filling a million takes minutes."""
ROUNDS: Final = 5


async def main(largest: int, fan_out: int) -> None:
    """Measure and print."""
    console = Console(soft_wrap=True)
    console.print(
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"{platform.machine()}; synchronous=FULL, ledger on, one worker, tasks that do nothing, fan-outs of 42; "
        f"the backlog: fan-outs of {fan_out}"
    )
    with Progress(console=Console(stderr=True), transient=True) as progress:
        rates = await growth.measure([size for size in BACKLOGS if size <= largest], fan_out, ROUNDS, progress)
    console.print(_growth_table(rates))
    console.print(f"start in the same process: {await waiting.in_process()}")
    starts, idle = await waiting.across_processes()
    console.print(f"start in another process:  {starts}")
    console.print(f"worker process:            {idle}")


def _growth_table(rates: growth.RatesByBacklog) -> Table:
    table = Table("waiting", "enqueue, tasks/s", "ratio", "drain, tasks/s", "ratio", title=f"median of {ROUNDS} rounds")
    first = next(iter(rates.values()))
    for backlog, (sent, drained) in rates.items():
        cells = f"{backlog:,}", f"{sent:,.0f}", f"{sent / first[0]:.2f}", f"{drained:,.0f}", f"{drained / first[1]:.2f}"
        table.add_row(*cells)
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--largest", type=int, default=LARGEST, help="the largest backlog; a million takes minutes")
    parser.add_argument("--fan-out", type=int, default=42, help="tasks in each of the backlog's fan-outs, 1 to 42")
    options = parser.parse_args()
    asyncio.run(main(options.largest, options.fan_out))
