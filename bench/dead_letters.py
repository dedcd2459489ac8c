"""What looking through dead letters and sending chosen ones back costs: on the embedded queue, or on --queue-url."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from typing import Final

from fanfold import Fanfold, codec
from fanfold.dead_letters.selection import Selection
from fanfold.model import Message, Task

_CHUNK: Final = 500


async def fill(app: Fanfold, letters: int) -> None:
    """Open a fan-out for every ten letters, and put the letters into the dead letter queue."""
    dead = (await app.broker()).dead_letter_queue()
    for first in range(0, letters, _CHUNK):
        messages = [_letter(number) for number in range(first, min(first + _CHUNK, letters))]
        await dead.send(messages)


def _letter(number: int) -> Message:
    task = Task(
        entity_id=f"doc-{number // 10}",
        task_name=f"t{number % 10}",
        metadata={"tenant": f"tenant-{number % 7}"},
        fan_out_id=f"{number // 10:032x}",
    )
    sent = codec.encode(task)
    return Message(body=sent.body, group_id=f"m{number}", deduplication_id=f"m{number}", attributes=sent.attributes)


async def measure(queue_url: str, letters: int) -> None:
    """Print seconds and rates."""
    async with Fanfold(queue_url) as app:
        await fill(app, letters)
        started = time.perf_counter()
        found = await app.dead_letters.find_async()
        listed = time.perf_counter() - started
        print(f"listed {len(found.letters):,} in {listed:.2f} s ({len(found.letters) / listed:,.0f}/s)")
        started = time.perf_counter()
        tally = await app.dead_letters.redrive_async(Selection(metadata={"tenant": "tenant-3"}))
        took = time.perf_counter() - started
        print(
            f"one tenant of seven sent back: {tally.done:,} of {letters:,} in {took:.2f} s ({tally.done / took:,.0f}/s)"
        )
        started = time.perf_counter()
        tally = await app.dead_letters.redrive_async(Selection())
        took = time.perf_counter() - started
        print(f"the rest sent back: {tally.done:,} in {took:.2f} s ({tally.done / took:,.0f}/s)")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--letters", type=int, default=10_000)
    parser.add_argument("--queue-url", help="an SQS FIFO queue with an empty dead letter queue; default: a new file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(options.queue_url or f"sqlite:///{folder}/tasks.db", options.letters))


if __name__ == "__main__":
    main()
