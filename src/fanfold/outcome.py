"""What a run says should happen next: `Completed`, `Retry` or `Reject`.

The executor decides one of these and touches nothing; the worker applies it. A task raises (or returns) `Retry` and
`Reject` itself, which is why they are exceptions.
"""

from __future__ import annotations

from dataclasses import dataclass

from fanfold.model import Failure, Json


@dataclass(frozen=True, slots=True)
class Completed:
    """The task did its work. `result` is a JSON value, `encoded` the same as JSON text."""

    result: Json
    encoded: str


class _Signal(Exception):  # noqa: N818 - users raise these as words, `raise Retry(...)`
    def __init__(self, error: str | Failure = "") -> None:
        self.failure = error if isinstance(error, Failure) else Failure(type=type(self).__name__, message=error)
        super().__init__(self.failure.message)


class Retry(_Signal):
    """Run the task again after `delay` seconds (None: the task's backoff), until its attempts are spent."""

    def __init__(self, error: str | Failure = "", *, delay: float | None = None) -> None:
        if delay is not None and delay < 0:
            raise ValueError(f"Retry(delay={delay}): a delay is at least 0 seconds")
        super().__init__(error)
        self.delay = delay


class Reject(_Signal):
    """Give the task up now, with the reason: it can't succeed however often it runs."""


Outcome = Completed | Retry | Reject
