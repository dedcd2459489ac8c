"""The application that the benchmarks run, on the queue that FANFOLD_QUEUE_URL names."""

from __future__ import annotations

from typing import Final

from fanfold import Fanfold

NAMES: Final = [f"t{number}" for number in range(42)]
"""The tasks that do nothing: one fan-out."""


async def nothing() -> None:
    """Do nothing."""


async def announce() -> None:
    """Tell whoever reads this process's output that the task has started."""
    print("started", flush=True)


def application(queue_url: str | None = None, ledger: str | None = None) -> Fanfold:
    """An application on a queue and a ledger; None: the environment's, and the queue's file."""
    made = Fanfold(queue_url, ledger=ledger, concurrency=100)
    for name in NAMES:
        made.task(name)(nothing)
    made.task("announce")(announce)
    return made


app: Final = application()
