"""A `fanfold serve` with so many messages waiting, filled in process: through HTTP it would take most of the time."""

from __future__ import annotations

import asyncio
import enum
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from conformance.peers import Endpoint, fanfold
from fanfold.brokers.sqlite import SqliteBroker
from fanfold.model import Message

_CHUNK: Final = 1_000
_QUEUE: Final = "tasks.fifo"


class Shape(enum.Enum):
    """How the waiting messages are grouped."""

    DISTINCT = "one message each"
    ONE = "all in one"


@contextmanager
def backlogged(backlog: int, shape: Shape) -> Iterator[tuple[Endpoint, str]]:
    """The endpoint and its queue's URL, with `backlog` messages waiting."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "backlog.db")
        asyncio.run(_fill(file, backlog, shape))
        with fanfold("--create", _QUEUE, file=file) as endpoint:
            yield endpoint, f"{endpoint.url}/000000000000/{_QUEUE}"


async def _fill(file: Path, backlog: int, shape: Shape) -> None:
    broker = SqliteBroker(f"sqlite:///{file}?queue={_QUEUE}&synchronous=normal")
    await broker.open()
    try:
        for first in range(0, backlog, _CHUNK):
            await broker.send([_message(n, shape) for n in range(first, min(first + _CHUNK, backlog))])
    finally:
        await broker.close()


def _message(number: int, shape: Shape) -> Message:
    return Message(
        body='{"entity_id": "doc-123", "task_name": "yearBuilt", "task_config": {}, "metadata": {}}',
        group_id=f"b{number}" if shape is Shape.DISTINCT else "g",
        deduplication_id=f"b{number}",
        attributes={},
    )
