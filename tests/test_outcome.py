from __future__ import annotations

import math
import pickle
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanfold import limits
from fanfold.model import Failure
from fanfold.outcome import Completed, Reject, Retry, decide, failure_of
from fanfold.retry import Backoff

attempts = st.integers(1, 100)
delays = st.none() | st.floats(0, 1e9)


def decided(outcome, attempt=1, max_attempts=5, backoff=None):
    return decide(outcome, attempt, max_attempts, backoff or Backoff(), random.Random(1))


def raised(function):
    try:
        function()
    except Exception as error:  # noqa: BLE001 - whatever it raises is what is looked at
        return error
    raise AssertionError("it didn't raise")


@given(attempts, attempts, delays)
def test_a_retry_is_rejected_exactly_when_its_attempts_are_spent(attempt, max_attempts, delay):
    outcome = decided(Retry("slow", delay=delay), attempt, max_attempts)
    assert isinstance(outcome, Reject) is (attempt >= max_attempts)
    assert outcome.failure == Failure(type="Retry", message="slow")


@given(delays, st.integers(1, 4))
def test_a_retry_always_gets_a_delay_that_sqs_can_hold(delay, attempt):
    assert 0 <= decided(Retry("slow", delay=delay), attempt).delay <= limits.MAX_VISIBILITY


def test_a_retrys_own_delay_wins_over_the_backoff():
    assert decided(Retry(delay=77)).delay == 77
    assert decided(Retry(delay=0)).delay == 0


def test_a_retry_without_a_delay_waits_as_the_backoff_says():
    assert 50 <= decided(Retry(), backoff=Backoff(base=100)).delay <= 100


@pytest.mark.parametrize("outcome", [Completed(1, "1"), Reject("no roof")], ids=["completed", "rejected"])
def test_what_is_over_stays_as_it_is(outcome):
    assert decided(outcome, attempt=9) is outcome


@pytest.mark.parametrize("delay", [-1, math.nan], ids=str)
def test_a_delay_that_isnt_one_is_refused(delay):
    with pytest.raises(ValueError, match=rf"Retry\(delay={delay}\): a delay is at least 0 seconds"):
        Retry(delay=delay)


def test_a_signals_text_becomes_its_failure():
    assert Reject("no roof").failure == Failure(type="Reject", message="no roof")
    assert str(Retry("rate limited")) == "rate limited"


def test_a_signal_made_from_an_exception_has_its_text():
    assert Retry(ValueError("slow")).failure == Failure(type="Retry", message="slow")


def test_a_signal_can_carry_a_failure():
    failure = Failure(type="HTTPError", message="503")
    assert Retry(failure).failure is failure
    assert str(Reject(failure)) == "503"


@pytest.mark.parametrize("signal", [Retry("slow", delay=7.5), Retry(), Reject("no roof"), Reject(Failure(type="E",
                         message="m", traceback="t"))], ids=repr)  # fmt: skip
def test_a_signal_crosses_into_another_process_whole(signal):
    copy = pickle.loads(pickle.dumps(signal))  # noqa: S301 - our own bytes
    assert type(copy) is type(signal)
    assert copy.failure == signal.failure
    assert getattr(copy, "delay", None) == getattr(signal, "delay", None)


def test_a_failure_has_the_type_and_the_text_of_its_exception():
    failure = failure_of(raised(lambda: int("x")), runner="")
    assert (failure.type, failure.message) == ("ValueError", "invalid literal for int() with base 10: 'x'")


def test_a_failures_traceback_leaves_the_runners_own_frames_out():
    failure = failure_of(raised(lambda: Backoff(base=-1)), runner=__file__)
    assert "retry.py" in failure.traceback
    assert "test_outcome.py" not in failure.traceback
    assert failure.traceback.startswith("Traceback (most recent call last):")


def test_a_traceback_that_is_all_the_runners_keeps_its_last_frame():
    error = raised(lambda: 1 / 0)
    assert failure_of(error, runner=__file__).traceback.count("File ") == 1


def test_a_long_traceback_keeps_its_end():
    failure = failure_of(ValueError("x" * 9_000 + "the end"), runner="")
    assert len(failure.traceback) == 8_000
    assert failure.traceback.endswith("the end\n")


def test_an_exception_that_was_never_raised_is_a_failure_too():
    assert failure_of(KeyError("page"), runner="").traceback == "KeyError: 'page'\n"


def test_a_failure_keeps_what_caused_it():
    def caused():
        try:
            int("x")
        except ValueError as error:
            raise LookupError("no such page") from error

    text = failure_of(raised(caused), runner="").traceback
    assert text.index("ValueError") < text.index("LookupError")


def test_an_exception_whose_text_fails_is_a_failure_all_the_same():
    class BrokenError(Exception):
        def __str__(self):
            raise RuntimeError

    assert failure_of(BrokenError(), runner="").message == "its text can't be had: RuntimeError"


def test_a_failure_that_names_an_undecodable_file_can_be_stored():
    failure = failure_of(FileNotFoundError("caf\udce9.txt"), runner="")
    assert failure.message == "caf\\udce9.txt"
    assert failure.traceback.encode()
