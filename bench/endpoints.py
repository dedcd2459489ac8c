"""`fanfold serve` beside other implementations of SQS, asked by the same boto3 client, in one run.

make endpoints                   # send and drain, every peer that can be had here
make endpoints ARGS=--growth     # cost of a call as the backlog grows: fanfold serve only
make endpoints ARGS=--memory     # resident memory of the server, likewise

`fanfold serve` flushes every accepted message to the disk before it answers, so that it survives a power loss; "NORMAL"
survives a kill of the process only. The others here keep theirs in memory.
Ratios within one run mean something; absolute figures depend on the machine and the hour. A round that takes too long
is cut off, and its rate is that of what was done by then.
"""

from __future__ import annotations

import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final

import boto3
import botocore
import click
import psutil
from botocore.config import Config

from backlog import Shape, backlogged
from conformance.environments import UnavailableError
from conformance.peers import PEERS, REGION, Endpoint, Start, fanfold

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

BATCH: Final = 10
BACKLOGS: Final = (1_000, 10_000, 100_000, 1_000_000)
CALLS: Final = 200
LONGEST: Final = 30.0
"""Seconds after which sending or draining is cut off."""
PAGE: Final = Path(__file__).parents[1] / "docs" / "sqs.md"
STARTS: Final[dict[str, Start]] = {"fanfold-normal": partial(fanfold, synchronous="NORMAL"), **PEERS}
_NUMBERS: Final = count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Messages a second."""

    send: float
    drain: float


def client_of(endpoint: Endpoint) -> SQSClient:
    """The same client for every endpoint, that never tries twice."""
    return boto3.client(
        "sqs",
        endpoint_url=endpoint.url,
        region_name=REGION,
        aws_access_key_id="bench",
        aws_secret_access_key="bench",  # noqa: S106 - loopback takes any
        config=Config(retries={"total_max_attempts": 1}),
    )


def entries(numbers: Iterator[int], shape: Shape) -> list[SendMessageBatchRequestEntryTypeDef]:
    """A batch of ten, each in a group of its own or all in one."""
    return [
        {
            "Id": str(place),
            "MessageBody": '{"entity_id": "doc-123", "task_name": "yearBuilt", "task_config": {}, "metadata": {}}',
            "MessageGroupId": f"g{number}" if shape is Shape.DISTINCT else "g",
            "MessageDeduplicationId": f"d{number}-{os.getpid()}",
        }
        for place, number in zip(range(BATCH), numbers, strict=False)
    ]


def send(client: SQSClient, url: str, batch: Sequence[SendMessageBatchRequestEntryTypeDef]) -> int:
    """Send ten, and look at each answer; answers how many."""
    answer = client.send_message_batch(QueueUrl=url, Entries=batch)
    if len(answer["Successful"]) != BATCH:
        raise RuntimeError(f"{url}: of {BATCH} messages {len(answer['Successful'])} were accepted: {answer}")
    return BATCH


def receive_and_delete(client: SQSClient, url: str) -> int:
    """Receive up to ten and delete them; answers how many."""
    messages = client.receive_message(QueueUrl=url, MaxNumberOfMessages=BATCH).get("Messages", [])
    if messages:
        handles = [{"Id": str(n), "ReceiptHandle": message["ReceiptHandle"]} for n, message in enumerate(messages)]
        deleted = client.delete_message_batch(QueueUrl=url, Entries=handles)  # type: ignore[arg-type]
        if len(deleted["Successful"]) != len(messages):
            raise RuntimeError(f"{url}: of {len(messages)} messages not all were deleted: {deleted}")
    return len(messages)


def send_and_drain(client: SQSClient, messages: int) -> Rates:
    """One round on a queue of its own."""
    name = f"bench-{next(_NUMBERS)}.fifo"
    url = client.create_queue(QueueName=name, Attributes={"FifoQueue": "true", "VisibilityTimeout": "600"})["QueueUrl"]
    numbers = count()
    batches = [entries(numbers, Shape.DISTINCT) for _ in range(messages // BATCH)]
    sent, sending = _within_limit(send(client, url, batch) for batch in batches)
    drained, draining = _within_limit(receive_and_delete(client, url) for _ in range(sent // BATCH))
    client.delete_queue(QueueUrl=url)
    return Rates(send=sent / sending, drain=drained / draining)


def _within_limit(calls: Iterator[int]) -> tuple[int, float]:
    """Make calls until there are no more or the time is up: messages, and seconds."""
    started, done, spent = time.perf_counter(), 0, 0.0
    for messages in calls:
        done += messages
        spent = time.perf_counter() - started
        if spent > LONGEST:
            break
    return done, spent


def compare(names: Sequence[str], messages: int, rounds: int) -> list[str]:
    """Alternating rounds over every peer that can be had; answers a table of medians in Markdown."""
    with ExitStack() as stack:
        endpoints = [endpoint for name in names if (endpoint := started(stack, name)) is not None]
        clients = {endpoint: client_of(endpoint) for endpoint in endpoints}
        measured: dict[Endpoint, list[Rates]] = {endpoint: [] for endpoint in endpoints}
        for number in range(rounds + 1):
            for endpoint in endpoints:
                rates = send_and_drain(clients[endpoint], messages)
                print(f"round {number}: {endpoint.name} {rates.send:,.0f}/s sent, {rates.drain:,.0f}/s drained")
                if number:  # the first one warms up
                    measured[endpoint].append(rates)
    return _compared(measured)


def started(stack: ExitStack, name: str) -> Endpoint | None:
    """The server of that name, started; None where it can't be had here."""
    try:
        return stack.enter_context(STARTS[name]())
    except UnavailableError as reason:
        print(f"{name}: left out, {reason}")
        return None


def _compared(measured: dict[Endpoint, list[Rates]]) -> list[str]:
    medians = {
        endpoint: Rates(
            send=statistics.median(rates.send for rates in all_rates),
            drain=statistics.median(rates.drain for rates in all_rates),
        )
        for endpoint, all_rates in measured.items()
    }
    first = next(iter(medians.values()))
    table = ["| | sent/s | drained/s | sent, ratio | drained, ratio |", "|---|---|---|---|---|"]
    for endpoint, rates in medians.items():
        ratios = f"{rates.send / first.send:.2f} | {rates.drain / first.drain:.2f}"
        table.append(f"| {endpoint.name} {endpoint.version} | {rates.send:,.0f} | {rates.drain:,.0f} | {ratios} |")
    return table


def growth(largest: int) -> list[str]:
    """Milliseconds of a call, by the backlog behind it; answers a table in Markdown."""
    table = [
        "| waiting | groups | send 10, ms | ratio | receive and delete 10, ms | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for shape in Shape:
        costs = _costs_by_backlog([size for size in BACKLOGS if size <= largest], shape)
        base = next(iter(costs.values()))
        for backlog, cost in costs.items():
            parts = (f"{part:.2f} | {part / of:.2f}" for part, of in zip(cost, base, strict=True))
            table.append(f"| {backlog:,} | {shape.value} | {' | '.join(parts)} |")
    return table


def _costs_by_backlog(backlogs: Sequence[int], shape: Shape) -> dict[int, tuple[float, float]]:
    """All of them at once and by turns: what else the machine does then costs each the same."""
    with ExitStack() as stack:
        served = {backlog: stack.enter_context(backlogged(backlog, shape)) for backlog in backlogs}
        clients = {backlog: client_of(endpoint) for backlog, (endpoint, _) in served.items()}
        sent: dict[int, list[float]] = {backlog: [] for backlog in backlogs}
        taken: dict[int, list[float]] = {backlog: [] for backlog in backlogs}
        numbers = count(10_000_000)
        for _ in range(CALLS):
            for backlog, (_, url) in served.items():
                batch = entries(numbers, shape)
                sent[backlog].append(timed(partial(send, clients[backlog], url, batch)))
                taken[backlog].append(timed(partial(receive_and_delete, clients[backlog], url)))
    return {size: (statistics.median(sent[size]) * 1000, statistics.median(taken[size]) * 1000) for size in backlogs}


def timed(call: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def memory(largest: int) -> list[str]:
    """Resident memory of the server after calls, by the backlog behind them; answers a table in Markdown."""
    table = ["| waiting | groups | resident, MB |", "|---|---|---|"]
    for shape in Shape:
        for backlog in (size for size in BACKLOGS if size <= largest):
            with backlogged(backlog, shape) as (endpoint, url):
                _some_calls(client_of(endpoint), url, shape)
                resident = psutil.Process(endpoint.pid).memory_info().rss / 1e6
            row = f"| {backlog:,} | {shape.value} | {resident:.0f} |"
            print(row, flush=True)
            table.append(row)
    return table


def _some_calls(client: SQSClient, url: str, shape: Shape) -> None:
    numbers = count(10_000_000)
    for _ in range(CALLS):
        send(client, url, entries(numbers, shape))
        receive_and_delete(client, url)


def circumstances() -> str:
    """The day, the machine, and the versions."""
    cores = psutil.cpu_count()
    versions = f"Python {platform.python_version()}, boto3 {boto3.__version__}, botocore {botocore.__version__}"
    return f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {cores} cores, {versions}."


def write(section: str, lines: Sequence[str]) -> None:
    """Put a table between its marks in `docs/sqs.md`.

    Raises:
        RuntimeError: the page has no such marks.
    """
    begin, end = f"<!-- {section}: begin -->", f"<!-- {section}: end -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    text = "\n".join([begin, circumstances(), "", *lines, end])
    page, found = pattern.subn(lambda _: text, PAGE.read_text(encoding="utf-8"))
    if not found:
        raise RuntimeError(f"{PAGE} has no {begin} … {end}; put them where the table belongs")
    PAGE.write_text(page, encoding="utf-8")


@click.command()
@click.option(
    "--peers",
    default="fanfold,fanfold-normal,moto,localstack,ministack,fauxqs",
    show_default=True,
    help="Which ones, in this order.",
)
@click.option("--messages", default=5_000, show_default=True, help="Messages in a round.")
@click.option("--rounds", default=5, show_default=True, help="Rounds, after one that warms up.")
@click.option("--growth", "mode", flag_value="growth", help="The cost of a call as the backlog grows.")
@click.option("--memory", "mode", flag_value="memory", help="The server's memory as the backlog grows.")
@click.option("--largest", default=BACKLOGS[-1], show_default=True, help="The largest backlog of those.")
@click.option("--write", "to_page", is_flag=True, help="Write the table into docs/sqs.md too.")
def main(*, peers: str, messages: int, rounds: int, mode: str | None, largest: int, to_page: bool) -> None:
    """Measure and print."""
    if mode == "growth":
        section, table = "growth", growth(largest)
    elif mode == "memory":
        section, table = "memory", memory(largest)
    else:
        section, table = "endpoints", compare(peers.split(","), messages, rounds)
    print(circumstances(), *table, sep="\n")
    if to_page:
        write(section, table)


if __name__ == "__main__":
    main()
