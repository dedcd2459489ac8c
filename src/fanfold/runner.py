"""A worker as a process: signals in, exit code out."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable

from fanfold.app import Fanfold
from fanfold.service import Deadline
from fanfold.worker import Worker


def run_worker(app: Fanfold) -> None:
    """Run a worker until SIGTERM or SIGINT (Ctrl-C), then stop it in order; a second signal stops it at once.

    Raises:
        ConfigurationError, BrokerError, LedgerError: the worker couldn't start.
    """
    worker = asyncio.run(_serve(app))
    if worker.overdue:
        # A thread that outlived its task can't be ended, and the interpreter would wait for it for ever.
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


async def _serve(app: Fanfold) -> Worker:
    async with app:
        worker = await app.worker()
        signals = _Signals()
        await worker.start()
        await signals.first.wait()
        deadline = Deadline(app.settings.grace)
        signals.on_second = deadline.bring_forward
        await worker.stop(deadline)
        return worker


class _Signals:
    """The first signal asks for an orderly stop, the second for one at once."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.on_second: Callable[[], None] = lambda: None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._received)

    def _received(self) -> None:
        if self.first.is_set():
            self.on_second()
        self.first.set()
