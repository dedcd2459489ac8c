"""What a run says should happen next: `Completed`, `Retry` or `Reject`.

The executor decides one of these and touches nothing; the worker applies it. A task raises (or returns) `Retry` and
`Reject` itself, which is why they are exceptions.
"""

from __future__ import annotations

import random
import traceback
from types import TracebackType
from typing import Final

import msgspec

from fanfold import limits
from fanfold.model import Failure, Json
from fanfold.retry import Backoff

_TRACEBACK_CHARACTERS: Final = 8_000


class Completed(msgspec.Struct, frozen=True):
    """The task did its work. `result` is a JSON value, `encoded` the same as JSON text."""

    result: Json
    encoded: str


class _Signal(Exception):  # noqa: N818 - users raise these as words, `raise Retry(...)`
    def __init__(self, error: str | Failure = "") -> None:
        self.failure = error if isinstance(error, Failure) else Failure(type=type(self).__name__, message=str(error))
        super().__init__(self.failure.message)


class Retry(_Signal):
    """Run the task again after `delay` seconds (None: the task's backoff), until its attempts are spent."""

    def __init__(self, error: str | Failure = "", *, delay: float | None = None) -> None:
        if delay is not None and not delay >= 0:  # NaN too
            raise ValueError(f"Retry(delay={delay}): a delay is at least 0 seconds")
        super().__init__(error)
        self.delay = delay


class Reject(_Signal):
    """Give the task up now, with the reason: it can't succeed however often it runs."""


Outcome = Completed | Retry | Reject


def decide(outcome: Outcome, attempt: int, max_attempts: int, backoff: Backoff, rng: random.Random) -> Outcome:
    """The outcome as it is applied: spent attempts end in a rejection, and a retry always has a delay in seconds."""
    if not isinstance(outcome, Retry):
        return outcome
    if attempt >= max_attempts:
        return Reject(outcome.failure)
    delay = outcome.delay if outcome.delay is not None else backoff.delay(attempt, rng)
    return Retry(outcome.failure, delay=min(delay, limits.MAX_VISIBILITY))


def failure_of(error: BaseException, runner: str) -> Failure:
    """An exception as a value, with its traceback from the first frame on that isn't in the file `runner`.

    The runner's own frames say nothing to the task's author. What remains is cut to its last 8,000 characters.
    """
    text = "".join(traceback.format_exception(type(error), error, _own_frames(error, runner)))
    return Failure(type=type(error).__name__, message=_text_of(error), traceback=text[-_TRACEBACK_CHARACTERS:])


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as failed:  # noqa: BLE001 - a user's exception class can do anything
        return f"its text can't be had: {type(failed).__name__}"


def _own_frames(error: BaseException, runner: str) -> TracebackType | None:
    frames = error.__traceback__
    while frames is not None and frames.tb_next is not None and frames.tb_frame.f_code.co_filename == runner:
        frames = frames.tb_next
    return frames
