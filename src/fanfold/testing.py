"""For tests of applications: a clock that is moved by hand, a throw-away queue and ledger, and `drain`.

    def test_a_document_is_described():
        with testing.embedded(app) as clock:
            app.enqueue("doc-1", ["title", "words"])
            [fan_out] = testing.drain(app)
        assert fan_out.results == {"title": "Fanfold", "words": 42}

Nothing waits: retries' delays pass on the moved clock.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from fanfold.app import Fanfold
from fanfold.brokers.sqlite import SqliteBroker
from fanfold.errors import ConfigurationError, FanfoldError
from fanfold.model import FanOut
from fanfold.worker import Worker

START: Final = 1_800_000_000.0
"""Where a `FakeClock` begins, in seconds since the epoch."""

_LOOK: Final = 0.002
_MAX_ROUNDS: Final = 10_000
_QUIET: Final = 3
"""Looks in a row that must find the worker idle: what was just received has not reached it yet."""


class FakeClock:
    """A clock that stands still until it is moved. Its sleepers may be in any thread's event loop."""

    def __init__(self, now: float = START) -> None:
        self._now = now
        self._guard = threading.Lock()
        self._sleepers: dict[asyncio.Event, tuple[float, asyncio.AbstractEventLoop]] = {}

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Return when the clock was moved on by so many seconds; at once where there are none to wait for."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.Event()
        with self._guard:
            self._sleepers[woken] = (self._now + seconds, asyncio.get_running_loop())
        try:
            await woken.wait()
        finally:
            with self._guard:
                self._sleepers.pop(woken, None)

    def advance(self, seconds: float) -> None:
        """Move the clock, and wake those whose time has come."""
        with self._guard:
            self._now += seconds
            due = [(woken, loop) for woken, (at, loop) in self._sleepers.items() if at <= self._now]
            for woken, _ in due:
                del self._sleepers[woken]
        for woken, loop in due:
            loop.call_soon_threadsafe(woken.set)

    @property
    def sleepers(self) -> int:
        """How many wait for the clock."""
        return len(self._sleepers)


@contextmanager
def embedded(app: Fanfold) -> Iterator[FakeClock]:
    """Give `app` a queue and a ledger that are gone afterwards, and a clock to move; its own settings come back."""
    clock = FakeClock()
    with tempfile.TemporaryDirectory(prefix="fanfold-") as folder:
        url = f"sqlite:///{folder}/test.db?synchronous=NORMAL"
        with app.replaced(queue_url=url, dlq_url=None, ledger=None, clock=clock):
            yield clock


def drain(app: Fanfold) -> list[FanOut]:
    """`drain_async` for tests without an event loop."""
    return asyncio.run(_drain_and_close(app))


async def drain_async(app: Fanfold) -> list[FanOut]:
    """Work until the queue is empty, moving a `FakeClock` over the delays; answers all fan-outs, oldest first.

    Raises:
        FanfoldError: the queue doesn't get empty: a task asks to be retried for ever.
    """
    worker = await app.worker()
    await worker.start()
    try:
        await _until_empty(app, worker)
    finally:
        await worker.stop()
    fan_outs = [
        await app.fan_out(summary.fan_out_id).get_async() for summary in await app.fan_outs_async(limit=1_000_000)
    ]
    return [fan_out for fan_out in reversed(fan_outs) if fan_out is not None]


async def _drain_and_close(app: Fanfold) -> list[FanOut]:
    try:
        return await drain_async(app)
    finally:
        await app.close_async()


async def _until_empty(app: Fanfold, worker: Worker) -> None:
    broker = await app.broker()
    if not isinstance(broker, SqliteBroker):
        raise ConfigurationError(f"drain works on the embedded queue, not on {broker.url}; use `testing.embedded(app)`")
    quiet = stuck = 0
    for _ in range(_MAX_ROUNDS):
        await asyncio.sleep(_LOOK)
        ready_in = await broker.ready_in()
        ready = ready_in is not None and ready_in <= 0
        quiet = quiet + 1 if worker.idle and not ready else 0
        stuck = stuck + 1 if worker.idle and ready else 0
        if stuck >= _QUIET:
            broker.end_polls()  # one fell asleep as the clock moved, and counts from the moved clock: a new one looks
            stuck = 0
        if quiet < _QUIET:
            continue
        if ready_in is None:
            return
        if isinstance(app.clock, FakeClock):
            app.clock.advance(ready_in)  # all that is left is delayed: the next one's time comes
            quiet = 0
    raise FanfoldError(f"after {_MAX_ROUNDS} looks the queue isn't empty; does a task ask for retries for ever?")
