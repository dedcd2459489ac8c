from __future__ import annotations

import threading

import pytest

from fanfold.brokers.threads import Threads


@pytest.fixture
def threads():
    made = Threads("test", 2)
    yield made
    made.close(wait=True)


def test_calls_answer_through_their_futures(threads):
    assert [future.result() for future in [threads.submit(lambda n=n: n * n) for n in range(5)]] == [0, 1, 4, 9, 16]


def test_an_error_is_its_callers(threads):
    with pytest.raises(ZeroDivisionError):
        threads.submit(lambda: 1 / 0).result()


def test_as_many_calls_run_at_once_as_there_may_be_threads(threads):
    both = threading.Barrier(2)
    for future in [threads.submit(both.wait), threads.submit(both.wait)]:
        future.result()


def test_closing_lets_what_was_submitted_end(threads):
    futures = [threads.submit(lambda n=n: n) for n in range(20)]
    threads.close(wait=True)
    assert [future.result(timeout=0) for future in futures] == list(range(20))


def test_closing_without_waiting_leaves_a_call_to_itself(threads):
    begun, may_end = threading.Event(), threading.Event()

    def call():
        begun.set()
        return may_end.wait()

    future = threads.submit(call)
    begun.wait()
    threads.close(wait=False)
    assert not future.done()
    may_end.set()
    assert future.result()


def test_closed_threads_can_be_used_again(threads):
    threads.close(wait=True)
    threads.close(wait=True)
    assert threads.submit(lambda: "again").result() == "again"


def test_a_call_that_was_cancelled_before_its_turn_is_not_made(threads):
    may_end, made = threading.Event(), []
    busy = [threads.submit(may_end.wait) for _ in range(2)]
    waiting = threads.submit(lambda: made.append(1))
    assert waiting.cancel()
    may_end.set()
    for future in busy:
        future.result()
    threads.close(wait=True)
    assert made == []
