"""`fanfold serve` beside other implementations of SQS, call by call: `PYTHONPATH=. python bench/endpoint_turns.py`.

The same calls of the same boto3 client as in `endpoints.py`, but each at every server before the next one at any. What
else a shared machine does costs each of them the same then, so that the ratios are steady to a few hundredths where
those of rounds differ by a quarter. Each server is idle during the others' turns, and a cold one is slower.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

import click

import endpoints
from backlog import Shape
from conformance.peers import Endpoint

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


class Turns:
    """A queue at one server, and what its calls took: seconds."""

    def __init__(self, client: SQSClient) -> None:
        self._client = client
        self._url = client.create_queue(
            QueueName="turns.fifo", Attributes={"FifoQueue": "true", "VisibilityTimeout": "600"}
        )["QueueUrl"]
        self._numbers = count()
        self.sent: list[float] = []
        self.drained: list[float] = []

    def send(self) -> None:
        """Send ten."""
        batch = endpoints.entries(self._numbers, Shape.DISTINCT)
        self.sent.append(endpoints.timed(partial(endpoints.send, self._client, self._url, batch)))

    def drain(self) -> None:
        """Receive ten and delete them."""
        self.drained.append(endpoints.timed(partial(endpoints.receive_and_delete, self._client, self._url)))

    def forget(self) -> None:
        """Begin to count."""
        self.sent.clear()
        self.drained.clear()


def measured(found: Sequence[Endpoint], messages: int, rounds: int) -> list[Turns]:
    """Rounds of sending so many messages by turns and draining them by turns, after one that warms up."""
    turns = [Turns(endpoints.client_of(endpoint)) for endpoint in found]
    for number in range(rounds + 1):
        for step in (Turns.send, Turns.drain):
            for _ in range(messages // endpoints.BATCH):
                for turn in turns:
                    step(turn)
        if not number:
            for turn in turns:
                turn.forget()
    return turns


def table(found: Sequence[Endpoint], turns: Sequence[Turns]) -> list[str]:
    """Medians and means in milliseconds, and their ratios to the first one's, in Markdown."""
    lines = [
        "| | send 10: median, ms | mean | ratios | receive and delete 10: median, ms | mean | ratios |",
        "|---|---|---|---|---|---|---|",
    ]
    for endpoint, turn in zip(found, turns, strict=True):
        cells = (cell(took, first) for took, first in ((turn.sent, turns[0].sent), (turn.drained, turns[0].drained)))
        lines.append(f"| {endpoint.name} {endpoint.version} | {' | '.join(cells)} |")
    return lines


def cell(took: Sequence[float], first: Sequence[float]) -> str:
    """One server's side of a table."""
    median, mean = statistics.median(took), statistics.mean(took)
    ratios = f"{median / statistics.median(first):.2f}, {mean / statistics.mean(first):.2f}"
    return f"{median * 1000:.2f} | {mean * 1000:.2f} | {ratios}"


@click.command()
@click.option("--peers", default="fauxqs,fanfold,fanfold-normal", show_default=True, help="Which ones, in this order.")
@click.option("--messages", default=5_000, show_default=True, help="Messages in a round.")
@click.option("--rounds", default=3, show_default=True, help="Rounds, after one that warms up.")
def main(*, peers: str, messages: int, rounds: int) -> None:
    """Measure and print."""
    with ExitStack() as stack:
        found = [endpoint for name in peers.split(",") if (endpoint := endpoints.started(stack, name)) is not None]
        print(endpoints.circumstances(), *table(found, measured(found, messages, rounds)), sep="\n")


if __name__ == "__main__":
    main()
