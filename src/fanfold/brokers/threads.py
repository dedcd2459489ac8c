"""Threads for calls that block."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
_Job = tuple[Callable[[], Any], "Future[Any]"]


class Threads:
    """Runs calls in up to `size` threads, each started when there is a call that no idle one can take.

    The threads are daemons, which an executor's are not: a long poll that nobody waits for any more must not hold up
    the end of the process for its 20 seconds.
    """

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = size
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._guard = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._idle = 0

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Run `call` as soon as a thread is free. A future that is cancelled before that is skipped."""
        future: Future[T] = Future()
        with self._guard:
            self._make_room()
            self._jobs.put((call, future))
        return future

    def close(self, *, wait: bool) -> None:
        """Let the threads end after what was submitted; with `wait`, return when they have. Idempotent."""
        with self._guard:
            ending, self._threads, self._idle = self._threads, [], 0
            # What is submitted later goes to another queue and new threads, not behind these.
            jobs, self._jobs = self._jobs, SimpleQueue()
        for _ in ending:
            jobs.put(None)
        for thread in ending if wait else ():
            thread.join()

    def _make_room(self) -> None:
        if self._idle:
            self._idle -= 1
        elif len(self._threads) < self._size:
            name = f"fanfold-{self._name}-{len(self._threads)}"
            thread = threading.Thread(target=self._work, args=(self._jobs,), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self, jobs: SimpleQueue[_Job | None]) -> None:
        while (job := jobs.get()) is not None:
            _run(*job)
            # A job's references (messages of a megabyte, say) must not stay while the thread is idle.
            del job
            with self._guard:
                if jobs is self._jobs:
                    self._idle += 1


def _run(call: Callable[[], Any], future: Future[Any]) -> None:
    if future.set_running_or_notify_cancel():
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - whatever it was, it belongs to the caller
            future.set_exception(error)
