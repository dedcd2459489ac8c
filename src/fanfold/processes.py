"""Processes for functions that must be endable: what runs in one can be killed, alone and at any point.

Each child has a pipe of its own and shares nothing with the others. A pool with common queues and locks is broken for
all tasks by one that dies at the wrong moment, or answers with what can't be unpickled.
"""

from __future__ import annotations

import asyncio
import atexit
import multiprocessing
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from fanfold import child, codec
from fanfold.model import Failure
from fanfold.outcome import Completed, Outcome, Retry

# Not forked: a child of this many-threaded process would inherit locks that nobody releases, and SQLite's files.
_SPAWN: Final = multiprocessing.get_context("spawn")

_LOADING: Final = 300.0
"""Seconds for a new child to import the application. They don't count against the task's timeout."""
_REAPING: Final = 5.0
"""Seconds from the end of a child's pipe to its exit code."""


class Processes:
    """Children that run one call at a time each, up to `size` of them, kept for later calls.

    1. `run` takes an idle child or starts one, hands it the call, and waits for its outcome.
    2. A call that takes too long, or is given up (its asyncio task is cancelled), ends with its child: killed, together
       with what it has started.
    3. A child that dies is its own call's failure, and nobody else's; the next call gets another.
    4. `close` kills them all. A child whose parent was killed ends by itself (see `child`).

    For one event loop, whose thread starts the children: on Linux they end with it.
    """

    def __init__(self, size: int) -> None:
        self._room = asyncio.Semaphore(size)
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="fanfold-process")
        self._idle: list[_Child] = []
        self._busy: set[_Child] = set()
        atexit.register(self.close)  # before multiprocessing's own, which waits for children

    async def run(self, name: str, call: bytes, *, seconds: float) -> Outcome:
        """Make a call, pickled, as the task `name`, for at most so many seconds.

        Raises:
            TimeoutError: it took longer, and was killed.
        """
        async with self._room:
            worker = self._take()
            asked = asyncio.get_running_loop().run_in_executor(self._threads, worker.ask, name, call, seconds)
            try:
                outcome = await asyncio.shield(asked)
            except BaseException:
                worker.kill()
                raise
            finally:
                self._busy.discard(worker)
        if worker.alive:
            self._idle.append(worker)
        return outcome

    def close(self) -> None:
        """Kill all children. Idempotent."""
        atexit.unregister(self.close)
        ending = [*self._idle, *self._busy]
        self._idle.clear()
        self._busy.clear()
        for worker in ending:
            worker.kill()
        for worker in ending:
            worker.reap()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _take(self) -> _Child:
        alive = [worker for worker in self._idle if worker.alive]  # an idle one can be killed too, for its memory
        worker = alive.pop() if alive else _Child()
        self._idle = alive
        self._busy.add(worker)
        return worker


class _Child:
    """One child process, as its parent sees it. `ask` blocks, and is for a thread."""

    def __init__(self) -> None:
        self._pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=child.serve, args=(theirs,), name="fanfold-child")
        self._process.start()
        theirs.close()  # so that the pipe ends with the child
        self._dead = False

    @property
    def alive(self) -> bool:
        return not self._dead and self._process.is_alive()

    def ask(self, name: str, call: bytes, seconds: float) -> Outcome:
        """Have a call made. The child's death is an outcome; a late one raises TimeoutError, and has to be killed."""
        try:
            self._pipe.send((name, call))
            answer = self._answer(_LOADING, "its process didn't import the application")
            if answer is child.BEGUN:
                answer = self._answer(seconds, "no result")
        except TimeoutError:
            raise
        except (EOFError, OSError):
            self._dead = True
            return Retry(self._death())
        # The result itself stays in the child: its text can cross where an object can't.
        return Completed(codec.from_json(answer.encoded), answer.encoded) if isinstance(answer, Completed) else answer

    def kill(self) -> None:
        """End it and what it has started, whatever they do. Idempotent."""
        self._dead = True
        if self._process.exitcode is None:  # not reaped yet, so that its number is still its own
            child.kill_group(self._process.pid)
            self._process.kill()

    def reap(self) -> None:
        """Return when it has ended."""
        self._process.join(_REAPING)

    def _answer(self, seconds: float, what: str) -> Any:
        if not self._pipe.poll(seconds):
            raise TimeoutError(f"{what} within {seconds:g} s")
        return self._pipe.recv()

    def _death(self) -> Failure:
        self.reap()
        code = self._process.exitcode
        how = f"exit code {code}"
        if code is not None and code < 0:
            how = f"signal {-code}, {signal.strsignal(-code)}: out of memory, or killed by somebody?"
        return Failure(type="ProcessDied", message=f"its process died in the middle of it ({how})")
