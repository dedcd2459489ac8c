"""A worker as a process: signals in, exit code out."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, NoReturn

from fanfold.app import Fanfold
from fanfold.loops import new_event_loop
from fanfold.service import Deadline
from fanfold.worker import LAST_MOMENTS

_STOPPING: Final = (signal.SIGTERM, signal.SIGINT)
_SPARE_THREADS: Final = 8
_LAST_MOMENT: Final = 0.2
"""Seconds in which a thread without work ends, and an asyncio task that was cancelled."""


def run_worker(app: Fanfold) -> None:
    """Run a worker until SIGTERM or SIGINT (Ctrl-C), then stop it in order; a second signal stops it at once.

    Raises:
        ConfigurationError, BrokerError, LedgerError: the worker couldn't start.
    """
    with signals_as_before(), asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve(app))
        if runner.run(tasks_go_on()) or threads_go_on():
            exit_at_once(0)


async def _serve(app: Fanfold) -> None:
    # One thread for each task that hands its blocking calls to `asyncio.to_thread`, and some for ourselves.
    threads = ThreadPoolExecutor(app.settings.concurrency + _SPARE_THREADS, thread_name_prefix="fanfold-loop")
    asyncio.get_running_loop().set_default_executor(threads)
    try:
        await _work(app)
    finally:
        await close_in_time(app)
        threads.shutdown(wait=False, cancel_futures=True)


async def _work(app: Fanfold) -> None:
    worker = await app.worker()
    signals = Signals()
    await worker.start()
    await signals.first.wait()
    deadline = Deadline(app.settings.grace)
    signals.on_second(deadline.bring_forward)
    await worker.stop(deadline)


async def close_in_time(app: Fanfold) -> None:
    """Let go of queue and ledger, or leave it to the process's end where that takes too long."""

    async def close() -> None:
        await app.close_async()
        await asyncio.to_thread(app.close)

    # A request that nobody answers holds up the closing of its connection, and must not hold up the end.
    closing = asyncio.ensure_future(close())
    await asyncio.wait([closing], timeout=LAST_MOMENTS)
    if closing.done():
        closing.result()


async def tasks_go_on() -> bool:
    """Whether an async function swallows its cancellation, or something that it has left behind does."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    return bool(left) and bool((await asyncio.wait(left, timeout=_LAST_MOMENT))[1])


def exit_at_once(code: int) -> NoReturn:
    """End the process although something goes on: nobody can end it, and loop and interpreter would wait for ever."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def threads_go_on() -> bool:
    """Whether the work of a task, or what it gave to another thread, still runs after the worker's end."""
    until = time.monotonic() + _LAST_MOMENT
    threads = [t for t in threading.enumerate() if t.name.startswith("fanfold-") and not t.daemon]
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return any(thread.is_alive() for thread in threads)


@contextmanager
def signals_as_before() -> Iterator[None]:
    """Let signals mean afterwards what they mean now: uvloop doesn't see to that."""
    before = {number: signal.getsignal(number) for number in _STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # one that wasn't set from Python can't be set from it
                signal.signal(number, handler)


class Signals:
    """The first signal asks for an orderly stop, the second for one at once."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self._second = False
        self._hurry: Callable[[], None] = lambda: None
        loop = asyncio.get_running_loop()
        for number in _STOPPING:
            loop.add_signal_handler(number, self._received)

    def on_second(self, hurry: Callable[[], None]) -> None:
        """Let the second signal call `hurry`; at once, where it came together with the first."""
        self._hurry = hurry
        if self._second:
            hurry()

    def _received(self) -> None:
        if self.first.is_set():
            self._second = True
            self._hurry()
        self.first.set()
