"""The demo's worker processes: started, watched and ended by the run, and ended with it, however it ends.

python -m fanfold.demo.workers      one of them; it stops in order when its standard input ends
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from fanfold.errors import FanfoldError

_GRACE: Final = 30.0
"""Seconds until a worker that doesn't stop is killed: longer than its own grace and its last long poll."""
_STANDARD_INPUT: Final = 0


class Workers:
    """So many worker processes, each with a log in `folder`. They start when there is work (`standing_by`).

    A worker's standard input is a pipe of which we hold the other end and which carries nothing: it ends when we close
    it, and when we are killed. Its session is its own, so that Ctrl-C reaches us alone, who then stop it in order.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self._folder = folder
        self._count = count
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start them. Idempotent. They see this process's environment."""
        for number in range(len(self._processes), self._count):
            command = [sys.executable, "-m", __name__]
            with self._log(number).open("ab") as log:
                process = subprocess.Popen(  # noqa: S603 - our own command
                    command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
                )
            self._processes.append(process)

    def require_alive(self) -> None:
        """Raise FanfoldError where one has ended by itself."""
        for number, process in enumerate(self._processes):
            if process.poll() is not None:
                raise FanfoldError(
                    f"worker {number + 1} ended with exit code {process.returncode}: {self._last_words(number)}. Its "
                    f"log is {self._log(number)}. What is done is kept: run the demo again to go on."
                )

    def stop(self) -> None:
        """Stop all of them in order; at once, when Ctrl-C comes meanwhile."""
        try:
            for process in self._processes:
                _close_input(process)
            for process in self._processes:
                process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._kill()
        except BaseException:
            self._kill()
            raise

    def _kill(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def _log(self, number: int) -> Path:
        return self._folder / f"worker-{number + 1}.log"

    def _last_words(self, number: int) -> str:
        lines = self._log(number).read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


@contextmanager
def standing_by(folder: Path, count: int) -> Iterator[Workers]:
    """So many workers, not started yet, and stopped on the way out, whatever the way."""
    workers = Workers(folder, count)
    try:
        yield workers
    finally:
        workers.stop()


def _close_input(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()


def _work() -> None:
    from fanfold.cli import logs  # noqa: PLC0415 - the run needs none of these
    from fanfold.demo.app import app  # noqa: PLC0415 - as above
    from fanfold.runner import run_worker  # noqa: PLC0415 - as above

    logs.set_up("info", "text")
    threading.Thread(target=_stop_with_input, name="demo-input", daemon=True).start()
    run_worker(app)


def _stop_with_input() -> None:
    while os.read(_STANDARD_INPUT, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    _work()
