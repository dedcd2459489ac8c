"""What distance to the queue does: `PYTHONPATH=. .venv-3.11/bin/python bench/distance.py`, or `make bench`.

A proxy makes the way to the endpoint as long as one wishes. For each round trip: throughput; how long one fan-out of
42 takes to be accepted, on connections that are there; from `enqueue` to the start; and, with a ledger, from the last
task's end to the completion's start.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final
from urllib.parse import urlsplit

from application import NAMES, nothing
from conformance.peers import Endpoint
from contest import SETTINGS, step
from fanfold import Event, Fanfold
from growth import drain, enqueue
from over_sqs import PEERS, RIVAL, Target, against, new_queue, running
from page import Chart, Section, circumstances, figure, show, table
from proxy import proxied

ROUND_TRIPS: Final = (0.0, 0.001, 0.020, 0.100)
TASKS: Final = 1_050
TIMES: Final = 5
"""How often each wait is measured."""
FAR: Final = 0.020
"""The round trip at which a fan-out's acceptance has a target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """At one round trip: tasks a second, and seconds."""

    enqueue: float
    drain: float
    rival_enqueue: float
    rival_drain: float
    accepted: float
    start: float
    fold: float


class Marks:
    """Tells when a task has started or ended."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[tuple[str, str, float]] = asyncio.Queue()

    def __call__(self, event: Event) -> None:
        """Note an event's time."""
        if event.name in {"task.started", "task.completed"}:
            self.events.put_nowait((event.name, str(event.fields.get("task_name")), time.perf_counter()))

    async def next(self, name: str, task: str) -> float:
        """The time of the next event of that name, of a task whose name begins so."""
        while True:
            found, of, at = await self.events.get()
            if found == name and of.startswith(task):
                return at


async def throughput(url: str) -> tuple[float, float]:
    """Tasks a second, enqueued and drained."""
    async with application(url, "none") as app:
        await app.status_async()
        return await enqueue(app, TASKS // len(NAMES), "far"), await drain(app, TASKS)


async def waits(url: str, ledger: str) -> tuple[float, float, float]:
    """Seconds: a fan-out's acceptance, from `enqueue` to a start, and from the last end to the completion's start."""
    accepted, starts, folds = [], [], []
    async with application(url, "none") as app:
        for number in range(TIMES + 1):
            called = time.perf_counter()
            await app.enqueue_async(f"accepted-{number}", NAMES)
            accepted.append(time.perf_counter() - called)
    async with application(url, ledger) as app:
        app.on_complete(nothing)
        app.subscribe(marks := Marks())
        worker = await app.worker()
        await worker.start()
        for _ in range((TIMES + 1) * len(NAMES)):
            await marks.next("task.completed", "t")
        for number in range(TIMES):
            called = time.perf_counter()
            await app.enqueue_async(f"start-{number}", NAMES[:1])
            starts.append(await marks.next("task.started", "t0") - called)
            ended = await marks.next("task.completed", "t0")
            folds.append(await marks.next("task.started", "fanfold.fold") - ended)
            await marks.next("task.completed", "fanfold.fold")
        await worker.stop()
    return median(accepted[1:]), median(starts), median(folds)


def application(url: str, ledger: str) -> Fanfold:
    """Tasks that do nothing, and a hundred slots."""
    app = Fanfold(url, ledger=ledger, concurrency=100, grace=1.0)  # a stop ends the idle poll
    for name in NAMES:
        app.task(name)(nothing)
    return app


def at(endpoint: Endpoint, round_trip: float) -> Found:
    """Everything at one round trip."""
    port = urlsplit(endpoint.url).port or 80
    rival = next(peer for peer in PEERS if peer.name == RIVAL)
    with proxied(port, round_trip) as proxy, tempfile.TemporaryDirectory() as folder:
        base = f"http://127.0.0.1:{proxy.port}"
        enqueued, drained = asyncio.run(throughput(new_queue(endpoint, base)))
        url = new_queue(endpoint, base)
        theirs = [step(rival, name, url, TASKS).rate for name in ("enqueue", "drain")]
        accepted, start, fold = asyncio.run(waits(new_queue(endpoint, base), f"sqlite:///{folder}/ledger.db"))
    return Found(
        enqueue=enqueued,
        drain=drained,
        rival_enqueue=theirs[0],
        rival_drain=theirs[1],
        accepted=accepted,
        start=start,
        fold=fold,
    )


def rows(found: dict[float, Found]) -> list[list[str]]:
    """A row for each round trip; an acceptance also in round trips, beyond what it takes without any distance."""
    near = found[0.0].accepted if 0.0 in found else 0.0
    made = []
    for trip, one in found.items():
        trips = f" ({(one.accepted - near) / trip:.1f} round trips)" if trip else ""
        rates = [f"{figure(one.enqueue)} ({one.enqueue / one.rival_enqueue:.2f} x)"]
        rates.append(f"{figure(one.drain)} ({one.drain / one.rival_drain:.2f} x)")
        times = [f"{one.accepted * 1e3:.1f} ms{trips}", f"{one.start * 1e3:.1f} ms", f"{one.fold * 1e3:.1f} ms"]
        made.append([f"{trip * 1e3:g} ms", *rates, *times])
    return made


def targets(found: dict[float, Found]) -> list[Target]:
    """What we want of it."""
    if not {0.0, FAR} <= found.keys():
        return []
    trips = (found[FAR].accepted - found[0.0].accepted) / FAR
    return [(f"a fan-out of {len(NAMES)} at {FAR * 1e3:g} ms, round trips", trips, "≤", 2.0)]


def measure(round_trips: Sequence[float] = ROUND_TRIPS) -> tuple[Section, dict[float, Found]]:
    """Each round trip in turn, on fauxqs."""
    os.environ.update({name: value for name, value in SETTINGS.items() if name != "PYTHONPATH"})
    found: dict[float, Found] = {}
    with running("fauxqs") as endpoint:
        for trip in round_trips if endpoint else ():
            found[trip] = at(endpoint, trip) if endpoint else found[trip]
            print(f"round trip {trip * 1e3:g} ms: {found[trip]}", flush=True)
    heads = ["round trip", f"enqueue/s (x {RIVAL})", f"drain/s (x {RIVAL})"]
    heads += [f"a fan-out of {len(NAMES)} accepted", "enqueue to start", "last end to completion's start"]
    said = f"{circumstances()}. {TASKS:,} tasks, waits are medians of {TIMES}, fauxqs behind a proxy that delays."
    lines = [said, "", *table(heads, rows(found)), "", *against(targets(found))]
    x = [trip * 1e3 for trip in found]
    series = {"Fanfold": [one.drain for one in found.values()], RIVAL: [one.rival_drain for one in found.values()]}
    title = "Drain over SQS, by distance"
    chart = Chart(name="distance", title=title, across="round trip, ms", up="tasks/s", x=x, series=series)
    return Section(name="distance", lines=lines, charts=[chart] if found else []), found


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write it into docs/performance.md too")
    options = parser.parse_args()
    show(measure()[0], to_page=options.write)


if __name__ == "__main__":
    main()
