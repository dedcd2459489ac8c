"""Worker processes on one file: `PYTHONPATH=. .venv-3.11/bin/python bench/one_file.py`, or `make bench`.

How many tasks a second they drain together, and how long another process waits for its turn to write meanwhile: one
that sends a message to another queue of the same file, again and again.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

import ledgers
from fanfold.brokers.sqlite import SqliteBroker
from fanfold.model import Message
from over_sqs import Target, against
from page import Chart, Section, circumstances, figure, show, table

PROCESSES: Final = (1, 2, 4, 8)
ROUNDS: Final = 3
PAUSE: Final = 0.005
"""Seconds between two sends of the one that waits."""
_WORST: Final = 0.250


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """One round: tasks a second, the workers' CPU in µs a task, and the longest wait in seconds."""

    rate: float
    cpu: float
    wait: float


def one_round(processes: int, ledger: str | None, name: str) -> Drained:
    """Fill a file, and let so many processes drain it."""
    with tempfile.TemporaryDirectory() as folder:
        urls = f"sqlite:///{folder}/queue", ledger
        asyncio.run(ledgers.fill(*urls, name))
        with ledgers.working(*urls, processes) as meeting:
            meeting.ready.wait()
            started = time.perf_counter()
            wait = asyncio.run(_longest_wait(f"{urls[0]}?queue=other.fifo", meeting))
            rate = ledgers.TASKS / (time.perf_counter() - started)
    return Drained(rate=rate, cpu=1e6 * meeting.cpu.value / ledgers.TASKS, wait=wait)


async def _longest_wait(url: str, meeting: ledgers.Meeting) -> float:
    broker, longest, number = SqliteBroker(url), 0.0, 0
    await broker.open()
    try:
        while not meeting.done.is_set():
            number += 1
            message = Message(body="{}", group_id=f"g{number}", deduplication_id=f"d{number}", attributes={})
            called = time.perf_counter()
            await broker.send([message])
            longest = max(longest, time.perf_counter() - called)
            await asyncio.sleep(PAUSE)
    finally:
        await broker.close()
    return longest


def targets(rates: dict[int, float], worst: float) -> list[Target]:
    """What we want of it."""
    most = max(rates)
    return [
        (f"{most} processes on one file, x one", rates[most] / rates[1], "≥", 0.9),
        ("longest wait for the file, s", worst, "≤", _WORST),
    ]


def measure(processes: Sequence[int] = PROCESSES, rounds: int = ROUNDS) -> Section:
    """Rounds that visit each number of processes."""
    found: dict[int, list[Drained]] = {number: [] for number in processes}
    for turn in range(rounds):
        for number in processes:
            found[number].append(one_round(number, "none", f"round-{turn}-{number}"))
            print(f"round {turn}: {number} processes, {found[number][-1]}", flush=True)
    rates = {number: median(one.rate for one in of) for number, of in found.items()}
    waits = {number: max(one.wait for one in of) for number, of in found.items()}
    rows = []
    for number, of in found.items():
        times = f"{rates[number] / rates[processes[0]]:.2f}"
        cpu = figure(median(one.cpu for one in of))
        rows.append([str(number), figure(rates[number]), times, cpu, f"{1e3 * waits[number]:.0f} ms"])
    heads = ["worker processes", "tasks/s", "x one", "CPU µs a task", "longest wait for the file"]
    said = f"{circumstances()}. Medians of {rounds} rounds, {ledgers.TASKS:,} tasks, synchronous=FULL, no ledger."
    lines = [said, "", *table(heads, rows), "", *against(targets(rates, max(waits.values())))]
    title = "Worker processes on one file"
    series = {"tasks/s": list(rates.values())}
    chart = Chart(name="processes", title=title, across="processes", up="tasks/s", x=list(processes), series=series)
    return Section(name="processes", lines=lines, charts=[chart])


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write it into docs/performance.md too")
    options = parser.parse_args()
    show(measure(), to_page=options.write)


if __name__ == "__main__":
    main()
