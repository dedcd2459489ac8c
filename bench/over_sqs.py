"""Fanfold beside its peers over SQS: `PYTHONPATH=. python bench/over_sqs.py`, or `make bench`.

Each peer in an environment of its own, at its best settings, which are printed; tasks that do nothing; one process that
enqueues and then one that drains. Rounds alternate between the peers. The first one warms up, and goes through a proxy
that counts the requests, which would cost the others their share of the machine.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from tempfile import TemporaryDirectory
from typing import Any, Final
from urllib.parse import urlsplit

import boto3

from conformance.environments import UnavailableError
from conformance.peers import PEERS as ENDPOINTS
from conformance.peers import REGION, Endpoint
from contest import SETTINGS, Peer, PeerFailedError, Round, ratio, standing, step
from page import Chart, Section, circumstances, figure, show, table
from proxy import proxied

PEERS: Final = (
    Peer(name="one message a request, boto3", environment="boto3", script="one_message", share=0.2),
    Peer(name="celery, threads", environment="celery", script="celery_worker", mode="threads", share=0.2),
    Peer(name="celery, prefork", environment="celery", script="celery_worker", mode="prefork", share=0.2),
    Peer(name="dramatiq-sqs", environment="dramatiq", script="dramatiq_worker", share=0.2, fifo=False),
    Peer(name="taskiq-aio-sqs", environment="taskiq", script="taskiq_worker", share=0.2),
    Peer(name="boto3 in tens, bare loop", environment="boto3", script="boto3_tens"),
    Peer(name="fanferro", environment="fanferro", script="fanferro_worker"),
    Peer(name="Fanfold", environment="fanfold", script="fanfold_worker", mode="none"),
    Peer(name="Fanfold, ledger in SQLite", environment="fanfold", script="fanfold_worker", mode="file"),
)
HAND, RIVAL, OURS, OURS_WITH_LEDGER = "one message a request, boto3", "fanferro", "Fanfold", "Fanfold, ledger in SQLite"
ON_EACH: Final = {"fauxqs": tuple(peer.name for peer in PEERS), "fanfold": (HAND, RIVAL, OURS, OURS_WITH_LEDGER)}
"""Which peers are measured on which endpoint, unless told."""
PER_TASK: Final = "SendMessage", "SendMessageBatch", "ReceiveMessage", "DeleteMessage", "DeleteMessageBatch"
_NUMBERS: Final = count(1)


@dataclass(slots=True)
class Entry:
    """What is known of a peer: its rounds, the requests that were counted in the first one, or why it has none."""

    peer: Peer
    rounds: list[Round] = field(default_factory=list)
    requests: Counter[str] = field(default_factory=Counter)
    counted: int = 0
    failure: str = ""

    @property
    def per_task(self) -> float:
        """Requests a task, from enqueue to delete; what is asked once, or by the clock, isn't in it."""
        return sum(self.requests[action] for action in PER_TASK) / self.counted


def one_round(endpoint: Endpoint, entry: Entry, tasks: int, *, counting: bool) -> None:
    """Enqueue and drain on a queue of its own; the first round counts."""
    port = urlsplit(endpoint.url).port or 80
    with proxied(port) as proxy, TemporaryDirectory() as folder:
        base = f"http://127.0.0.1:{proxy.port if counting else port}"
        url = new_queue(endpoint, base, fifo=entry.peer.fifo)
        environ = {"FANFOLD_BENCH_LEDGER": f"sqlite:///{folder}/ledger.db"}
        enqueued = step(entry.peer, "enqueue", url, tasks, environ)
        drained = step(entry.peer, "drain", url, tasks, environ)
        if counting:
            entry.requests, entry.counted = proxy.counts(), entry.peer.tasks(tasks)
        else:
            entry.rounds.append(Round(enqueue=enqueued, drain=drained))


def new_queue(endpoint: Endpoint, base: str, *, fifo: bool = True) -> str:
    """A new queue's URL. Its host is ours, since fauxqs answers with one that only AWS's clients find."""
    name = f"bench-{next(_NUMBERS)}{'.fifo' if fifo else ''}"
    attributes: dict[Any, str] = {"VisibilityTimeout": "600"} | ({"FifoQueue": "true"} if fifo else {})
    client = boto3.client(
        "sqs",
        endpoint_url=endpoint.url,
        region_name=REGION,
        aws_access_key_id="bench",
        aws_secret_access_key=SETTINGS["AWS_SECRET_ACCESS_KEY"],
    )
    made = client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    return f"{base}{urlsplit(made).path}"


def contest(endpoint: Endpoint, peers: Sequence[Peer], tasks: int, rounds: int) -> list[Entry]:
    """A counting round, then alternating rounds; a peer that can't is left out with its reason."""
    entries = [Entry(peer) for peer in peers]
    for number in range(rounds + 1):
        for entry in entries:
            if entry.failure:
                continue
            try:
                one_round(endpoint, entry, tasks, counting=number == 0)
            except (PeerFailedError, UnavailableError) as reason:
                entry.failure = str(reason)
                print(f"left out: {reason}", flush=True)
            else:
                print(f"{endpoint.name}, round {number}: {entry.peer.name}{_told(entry)}", flush=True)
    return entries


def _told(entry: Entry) -> str:
    if not entry.rounds:
        return f", {entry.per_task:.3f} requests a task: {dict(entry.requests)}"
    last = entry.rounds[-1]
    return f", {last.enqueue.rate:,.0f}/s enqueued, {last.drain.rate:,.0f}/s drained, {last.drain.cpu:.0f} µs a task"


def ranking(entries: Sequence[Entry]) -> list[str]:
    """The table of medians; ratios are medians of the rounds' ratios."""
    hand = _named(entries, HAND)
    heads = [
        *("", "enqueue/s", "drain/s", "drain, x by hand", "requests a task"),
        *("CPU µs a task, enqueue", "CPU µs a task, worker", "MiB"),
    ]
    rows = []
    for entry in sorted((one for one in entries if one.rounds), key=lambda one: standing(one.rounds).drain):
        mine = standing(entry.rounds)
        times = figure(ratio(_drains(entry), _drains(hand))) if hand else ""
        name = f"**{entry.peer.name}**" if entry.peer.script == "fanfold_worker" else entry.peer.name
        figures = figure(mine.enqueue), figure(mine.drain), times, f"{entry.per_task:.3f}"
        rows.append([name, *figures, figure(mine.enqueue_cpu), figure(mine.drain_cpu), f"{mine.memory:.0f}"])
    return table(heads, rows)


def _named(entries: Sequence[Entry], name: str) -> Entry | None:
    return next((one for one in entries if one.peer.name == name and one.rounds), None)


def _drains(entry: Entry) -> list[float]:
    return [one.drain.rate for one in entry.rounds]


Target = tuple[str, float, str, float]
"""What it is, what was measured, `≥` or `≤`, and what was wanted."""


def targets(entries: Sequence[Entry]) -> list[Target]:
    """What we want of it, as far as both sides were measured."""
    ours = _named(entries, OURS)
    if ours is None:
        return []
    found: list[Target] = [("requests a task", ours.per_task, "≤", 0.32)]
    wanted = [(RIVAL, 1.4), (HAND, 25.0), ("taskiq-aio-sqs", 15.0), ("celery, threads", 30.0)]
    for name, least in wanted:
        other = _named(entries, name)
        if other is not None:
            found.append((f"drain, x {name}", ratio(_drains(ours), _drains(other)), "≥", least))
    rival = _named(entries, RIVAL)
    if rival is not None:
        enqueue = ratio([one.enqueue.rate for one in ours.rounds], [one.enqueue.rate for one in rival.rounds])
        cpu = ratio([one.drain.cpu for one in ours.rounds], [one.drain.cpu for one in rival.rounds])
        found += [(f"enqueue, x {RIVAL}", enqueue, "≥", 1.4), (f"worker's CPU a task, x {RIVAL}", cpu, "≤", 0.6)]
    return found


def against(found: Sequence[Target]) -> list[str]:
    """Targets as a table: measured, wanted, and whether it is reached."""
    rows = [
        [what, f"{value:.3g}", f"{how} {wanted:g}", "yes" if (value >= wanted) == (how == "≥") else "no"]
        for what, value, how, wanted in found
    ]
    return table(["", "measured", "wanted", "reached"], rows)


def settings(entries: Sequence[Entry]) -> list[str]:
    """Each peer's settings and versions, and what was left out and why."""
    lines = []
    for entry in entries:
        if entry.failure:
            lines.append(f"- {entry.peer.name}: left out, {entry.failure.splitlines()[-1]}")
        elif entry.rounds:
            last = entry.rounds[-1]
            versions = ", ".join(f"{package} {version}" for package, version in last.drain.versions.items())
            said = f"{last.enqueue.settings}; {last.drain.settings}; {last.drain.tasks:,} tasks a round"
            lines.append(f"- {entry.peer.name}: {said} ({versions})")
    return lines


@contextmanager
def running(name: str) -> Iterator[Endpoint | None]:
    """An endpoint; None where it can't be had here."""
    try:
        with ENDPOINTS[name]() as endpoint:
            yield endpoint
    except UnavailableError as reason:
        print(f"{name}: left out, {reason}", flush=True)
        yield None


def measure(
    chosen: Mapping[str, Sequence[str]], tasks: int, rounds: int, only: Sequence[str] = ()
) -> tuple[Section, Mapping[str, list[Entry]]]:
    """All endpoints, one after the other."""
    lines = [f"{circumstances()}. Medians of {rounds} rounds, {tasks:,} tasks a round.", ""]
    found: dict[str, list[Entry]] = {}
    charts = []
    for name, names in chosen.items():
        with running(name) as endpoint:
            if endpoint is None:
                continue
            peers = [
                peer for peer in PEERS if (any(word in peer.name for word in only) if only else peer.name in names)
            ]
            found[name] = contest(endpoint, peers, tasks, rounds)
            title = f"{endpoint.name} {endpoint.version}"
        lines += [f"On {title}:", "", *ranking(found[name]), "", *against(targets(found[name])), ""]
        charts.append(_chart(name, title, found[name]))
    first = next(iter(found.values()), [])
    return Section(name="over SQS", lines=[*lines, *settings(first)], charts=charts), found


def _chart(name: str, title: str, entries: Sequence[Entry]) -> Chart:
    there = [entry for entry in entries if entry.rounds]
    medians = [standing(entry.rounds) for entry in there]
    series = {"enqueue": [one.enqueue for one in medians], "drain": [one.drain for one in medians]}
    names = [entry.peer.name for entry in there]
    return Chart(
        name=f"over-sqs-{name}", title=f"Tasks a second over {title}", across="", up="tasks/s", x=names, series=series
    )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=5_040, help="tasks of a round; slow peers get a fifth of them")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, after one that warms up and counts requests")
    parser.add_argument(
        "--endpoints", default=",".join(ON_EACH), help="of fauxqs, fanfold, ministack, moto, localstack"
    )
    parser.add_argument("--only", default="", help="peers whose name contains one of these words")
    parser.add_argument("--write", action="store_true", help="write it into docs/performance.md too")
    options = parser.parse_args()
    chosen = {name: ON_EACH.get(name, ON_EACH["fauxqs"]) for name in options.endpoints.split(",")}
    only = [word for word in options.only.split(",") if word]
    section, _ = measure(chosen, options.tasks, options.rounds, only)
    show(section, to_page=options.write)


if __name__ == "__main__":
    main()
