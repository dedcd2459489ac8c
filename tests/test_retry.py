from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanfold import limits
from fanfold.errors import DeclarationError
from fanfold.retry import Backoff

backoffs = st.builds(
    Backoff,
    base=st.floats(0, 1e6),
    factor=st.floats(1, 100),
    cap=st.floats(0, limits.MAX_VISIBILITY),
)
attempts = st.integers(1, 10_000)
seeds = st.integers(0, 1000)


class Drawn(random.Random):
    """Draws what it was told to."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def random(self):
        return self.value


def least(backoff, attempt):
    return backoff.delay(attempt, Drawn(0.0))


@given(backoffs, attempts, seeds)
def test_a_wait_lies_between_half_of_the_power_and_the_whole_of_it(backoff, attempt, seed):
    whole = 2 * least(backoff, attempt)
    assert whole / 2 <= backoff.delay(attempt, random.Random(seed)) <= whole
    assert whole <= backoff.cap


@given(backoffs, attempts)
def test_a_later_attempt_never_waits_for_less(backoff, attempt):
    assert least(backoff, attempt) <= least(backoff, attempt + 1)


@given(backoffs, attempts, seeds)
def test_the_same_draw_gives_the_same_wait(backoff, attempt, seed):
    assert backoff.delay(attempt, random.Random(seed)) == backoff.delay(attempt, random.Random(seed))


@given(backoffs, st.integers(10_000, 10**12), seeds)
def test_a_wait_is_finite_however_often_a_task_failed(backoff, attempt, seed):
    assert math.isfinite(backoff.delay(attempt, random.Random(seed)))


def test_the_wait_doubles_by_default_up_to_a_quarter_of_an_hour():
    assert [2 * least(Backoff(), attempt) for attempt in (1, 2, 3, 4, 8, 9, 100)] == [5, 10, 20, 40, 640, 900, 900]


def test_the_jitter_is_half_of_the_wait():
    assert Backoff().delay(1, Drawn(0.0)) == 2.5
    assert Backoff().delay(1, Drawn(0.5)) == 3.75


def test_a_base_of_0_retries_at_once():
    assert Backoff(base=0).delay(5, random.Random(1)) == 0


@pytest.mark.parametrize(
    "options",
    [{"base": -1}, {"factor": 0.5}, {"cap": -1}, {"cap": 43_201}, {"base": math.nan}, {"factor": math.nan},
     {"cap": math.inf}],
    ids=str,
)  # fmt: skip
def test_a_backoff_that_cant_work_is_refused_when_it_is_made(options):
    with pytest.raises(DeclarationError, match=r"43,200 \(12 h\), factor is at least 1"):
        Backoff(**options)
