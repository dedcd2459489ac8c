"""How close to the ideal slow tasks come: `PYTHONPATH=. .venv-3.11/bin/python bench/slow_tasks.py`, or `make bench`.

One worker on the embedded queue, no ledger. The ideal is that all slots are always busy: n tasks of t seconds take
n ÷ concurrency x t. Its share is measured from the worker's start to the last task's end, so it has the start in it.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from application import NAMES
from fanfold import Fanfold
from growth import enqueue
from over_sqs import Target, against
from page import Chart, Section, circumstances, show, table

CONCURRENCY: Final = (1, 10, 100, 500, 1_000)
SECONDS: Final = (0.01, 1.0)
WAVES: Final = {0.01: 100, 1.0: 5}
"""How many tasks each slot gets; of short ones at most `MOST` in all."""
MOST: Final = 2_520
Case = tuple[float, str]
"""Seconds a task, and `async` or `threads`."""


class Counted:
    """Counts tasks as they end, from any thread, and tells when the last one has."""

    def __init__(self, tasks: int) -> None:
        self._left = tasks
        self._loop = asyncio.get_running_loop()
        self.last = 0.0
        self.over = asyncio.Event()

    def one(self) -> None:
        """A task has ended; on the event loop."""
        self._left -= 1
        if not self._left:
            self.last = time.perf_counter()
            self.over.set()

    def one_in_a_thread(self) -> None:
        """The same from a thread."""
        self._loop.call_soon_threadsafe(self.one)


async def share(case: Case, concurrency: int) -> float:
    """The share of the ideal."""
    seconds, kind = case
    tasks = min(WAVES[seconds] * concurrency, max(MOST, 2 * concurrency) if seconds < 1 else 5 * concurrency)
    events = -(-tasks // len(NAMES))
    with tempfile.TemporaryDirectory() as folder:
        async with Fanfold(f"sqlite:///{folder}/queue", ledger="none", concurrency=concurrency) as app:
            counted = Counted(tasks)
            _declare(app, seconds, kind, counted)
            await enqueue(app, events, "slow")
            worker = await app.worker()
            started = time.perf_counter()
            await worker.start()
            await counted.over.wait()
            took = counted.last - started
            await worker.stop()
    return tasks * seconds / concurrency / took


def _declare(app: Fanfold, seconds: float, kind: str, counted: Counted) -> None:
    async def on_loop() -> None:
        await asyncio.sleep(seconds)
        counted.one()

    def in_thread() -> None:
        time.sleep(seconds)
        counted.one_in_a_thread()

    handler: Any = on_loop if kind == "async" else in_thread
    for name in NAMES:
        app.task(name)(handler)


def targets(shares: Mapping[Case, Sequence[float]], concurrency: Sequence[int]) -> list[Target]:
    """What we want of it."""
    case: Case = (1.0, "async")
    if case not in shares or 500 not in concurrency:  # noqa: PLR2004 - the target's own
        return []
    return [("1 s, async, concurrency 500: share of the ideal", shares[case][concurrency.index(500)], "≥", 0.95)]


def measure(concurrency: Sequence[int] = CONCURRENCY, seconds: Sequence[float] = SECONDS) -> Section:
    """Each case at each concurrency."""
    shares: dict[Case, list[float]] = {}
    for case in [(each, kind) for each in seconds for kind in ("async", "threads")]:
        shares[case] = []
        for slots in concurrency:
            shares[case].append(asyncio.run(share(case, slots)))
            print(f"{case[0]:g} s, {case[1]}, concurrency {slots}: {shares[case][-1]:.1%}", flush=True)
    heads = ["a task takes", *(f"concurrency {slots:,}" for slots in concurrency)]
    rows = [[f"{each:g} s, {kind}", *(f"{one:.1%}" for one in of)] for (each, kind), of in shares.items()]
    lines = [f"{circumstances()}.", "", *table(heads, rows), "", *against(targets(shares, concurrency))]
    series = {f"{each:g} s, {kind}": [100 * one for one in of] for (each, kind), of in shares.items()}
    title = "Share of the ideal that slow tasks reach"
    chart = Chart(name="slow-tasks", title=title, across="concurrency", up="%", x=concurrency, series=series, log="x")
    return Section(name="slow tasks", lines=lines, charts=[chart])


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write it into docs/performance.md too")
    options = parser.parse_args()
    show(measure(), to_page=options.write)


if __name__ == "__main__":
    main()
