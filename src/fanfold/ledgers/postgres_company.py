"""Company for calls that come while the ledger answers others: what gathered meanwhile is one round trip."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final, Generic, TypeVar

from fanfold.errors import FanfoldError

T = TypeVar("T")
R = TypeVar("R")

_MOST: Final = 500
"""Entries of one round trip: some milliseconds, for which others wait who want the same fan-outs."""


class Company(Generic[T, R]):
    """Hands calls of one kind to `ask`, one round trip at a time, from any thread.

    1. A call that finds none under way goes at once, in a thread that `start` has.
    2. Those that come meanwhile go together in the next one, in their order; each gets its own entries' answers.
    3. If a common round trip fails for good, each call goes alone: one bad value fails its own call only.

    It tries nothing again: a failure that may pass is its callers' to wait for.
    """

    def __init__(
        self, ask: Callable[[Sequence[T]], Sequence[R]], start: Callable[[Callable[[], None]], object]
    ) -> None:
        self._ask = ask
        self._start = start
        self._guard = threading.Lock()
        self._waiting: deque[tuple[Sequence[T], Future[list[R]]]] = deque()
        self._under_way = False

    def add(self, entries: Sequence[T]) -> Future[list[R]]:
        """Hand entries over; the future gets an answer for each, in their order, or a FanfoldError.

        Raises what `start` raises: then nothing is under way, and nothing waits.
        """
        answers: Future[list[R]] = Future()
        with self._guard:
            if not self._under_way:
                self._start(self._go_on)
            self._under_way = True
            self._waiting.append((entries, answers))
        return answers

    def _go_on(self) -> None:
        while calls := self._take():
            if live := [call for call in calls if call[1].set_running_or_notify_cancel()]:
                self._answer(live)

    def _take(self) -> list[tuple[Sequence[T], Future[list[R]]]]:
        with self._guard:
            taken: list[tuple[Sequence[T], Future[list[R]]]] = []
            room = _MOST
            while self._waiting and (not taken or len(self._waiting[0][0]) <= room):
                taken.append(self._waiting.popleft())
                room -= len(taken[-1][0])
            self._under_way = bool(taken)
            return taken

    def _answer(self, calls: Sequence[tuple[Sequence[T], Future[list[R]]]]) -> None:
        try:
            answers = iter(self._ask([entry for entries, _ in calls for entry in entries]))
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs to those who wait
            if len(calls) > 1 and isinstance(error, FanfoldError) and not error.transient:
                for call in calls:
                    self._answer([call])
                return
            for _, future in calls:
                future.set_exception(error)
        else:
            for entries, future in calls:
                future.set_result([next(answers) for _ in entries])
