"""A door for synchronous callers: a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from fanfold.loops import new_event_loop

T = TypeVar("T")


class Portal:
    """Runs coroutines for callers that have no event loop. The thread starts with the first call."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run `coroutine` in the portal's loop, and wait for its result.

        Raises:
            RuntimeError: the caller runs in that loop itself, which can't wait for itself.
        """
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("called from inside the portal's own loop; await the method whose name ends in _async")
        with self._guard:
            if self._loop is None:
                self._loop = new_event_loop()
                self._thread = threading.Thread(target=_run, args=(self._loop,), name="fanfold-portal", daemon=True)
                self._thread.start()
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def close(self) -> None:
        """End the thread. Idempotent; a later call starts another."""
        with self._guard:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    # The runner ends what was left behind: its tasks are cancelled, its threads joined.
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.get_loop().run_forever()
