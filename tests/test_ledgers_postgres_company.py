from __future__ import annotations

from concurrent.futures import CancelledError

import pytest

from fanfold.errors import InvalidInputError, LedgerUnavailableError
from fanfold.ledgers.postgres_company import Company


class Thread:
    """Stands for the threads: runs what was submitted when it is told to."""

    def __init__(self):
        self.submitted = []

    def start(self, function):
        self.submitted.append(function)

    def run(self):
        while self.submitted:
            self.submitted.pop(0)()


@pytest.fixture
def thread():
    return Thread()


@pytest.fixture
def asked():
    return []


@pytest.fixture
def company(thread, asked):
    """Answers ten times each entry; 13 can't be answered, and 99 not now."""

    def ask(entries):
        asked.append(list(entries))
        if 13 in entries:
            raise InvalidInputError("13")
        if 99 in entries:
            raise LedgerUnavailableError("99")
        return [entry * 10 for entry in entries]

    return Company(ask, thread.start)


def test_calls_that_come_before_the_first_is_under_way_go_together_and_get_their_own_answers(company, thread, asked):
    calls = [company.add(entries) for entries in ([1, 2], [3], [4, 5, 6])]
    thread.run()
    assert [call.result(0) for call in calls] == [[10, 20], [30], [40, 50, 60]]
    assert asked == [[1, 2, 3, 4, 5, 6]]


def test_calls_that_come_while_one_is_under_way_go_together_in_the_next(thread):
    asked, later = [], []

    def ask(entries):
        if not asked:
            later.extend(company.add([number]) for number in (2, 3))
        asked.append(list(entries))
        return entries

    company = Company(ask, thread.start)
    company.add([1])
    thread.run()
    assert (asked, [call.result(0) for call in later]) == ([[1], [2, 3]], [[2], [3]])


def test_one_round_trip_has_five_hundred_entries_at_most_unless_one_call_has_more(company, thread, asked):
    for _ in range(6):
        company.add(list(range(100, 300)))
    company.add(list(range(100, 1_100)))
    thread.run()
    assert [len(entries) for entries in asked] == [400, 400, 400, 1_000]


def test_a_value_that_cant_be_written_fails_its_own_call_only(company, thread, asked):
    calls = [company.add([number]) for number in (1, 13, 2)]
    thread.run()
    assert [calls[0].result(0), calls[2].result(0)] == [[10], [20]]
    with pytest.raises(InvalidInputError):
        calls[1].result(0)
    assert asked == [[1, 13, 2], [1], [13], [2]]


def test_what_may_pass_is_tried_again_by_nobody_here(company, thread, asked):
    calls = [company.add([number]) for number in (1, 99)]
    thread.run()
    for call in calls:
        with pytest.raises(LedgerUnavailableError):
            call.result(0)
    assert asked == [[1, 99]]


def test_after_a_failure_the_next_call_goes(company, thread):
    company.add([99])
    thread.run()
    call = company.add([1])
    thread.run()
    assert call.result(0) == [10]


def test_a_call_that_was_given_up_isnt_made(company, thread, asked):
    calls = [company.add([number]) for number in (1, 2)]
    calls[0].cancel()
    thread.run()
    assert (asked, calls[1].result(0)) == ([[2]], [20])
    with pytest.raises(CancelledError):
        calls[0].result(0)


def test_a_call_that_finds_no_thread_fails_and_the_next_one_that_finds_one_goes(thread):
    doors = iter([LookupError("closed"), None])

    def start(function):
        if error := next(doors):
            raise error
        thread.start(function)

    company = Company(lambda entries: entries, start)
    with pytest.raises(LookupError):
        company.add([1])
    call = company.add([2])
    thread.run()
    assert call.result(0) == [2]
