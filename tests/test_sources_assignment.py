from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fanfold.sources.assignment import Assignment

A, B = ("a", 0), ("a", 1)


@pytest.fixture
def books():
    made = Assignment(max_records=4, max_bytes=100)
    made.assign([A, B])
    made.resume()
    return made


def receive(books, place, *offsets, size=1):
    return [books.receive(place, offset, size, 0.0) for offset in offsets]


def settle(books, *tickets):
    for ticket in tickets:
        assert books.settle(ticket, done=True)


def test_a_new_partition_is_resumed_once_since_it_may_still_be_paused_from_before():
    books = Assignment(max_records=4, max_bytes=100)
    books.assign([A])
    assert (books.resume(), books.resume()) == ([A], [])


def test_records_that_come_with_their_partition_take_room_at_once():
    books = Assignment(max_records=4, max_bytes=100)
    books.assign([A])
    receive(books, A, 0, 1, 2, 3)
    assert (books.room, books.resume(), books.room) == (0, [A], 0)
    assert books.pause() == [A]


def test_a_new_partition_can_be_paused_before_it_was_resumed():
    books = Assignment(max_records=4, max_bytes=100)
    books.assign([A])
    assert (books.pause_all(), books.pause_all()) == ([A], [])


def test_a_record_of_a_partition_that_isnt_held_gets_no_ticket(books):
    assert books.receive(("b", 0), 1, 1, 0.0) is None


def test_positions_are_of_each_partition_its_own(books):
    settle(books, *receive(books, A, 0, 1), *receive(books, B, 7))
    assert books.commits() == {A: 2, B: 8}
    assert books.commits([B]) == {B: 8}
    books.committed({A: 2})
    assert books.commits() == {B: 8}


def test_what_was_let_go_counts_for_nothing_and_frees_its_bytes(books):
    [ticket] = receive(books, A, 0, size=60)
    books.let_go([A])
    assert (books.bytes, books.settle(ticket, done=True), books.commits()) == (0, False, {})


def test_a_ticket_of_an_earlier_assignment_settles_nothing_of_the_next_one(books):
    [old] = receive(books, A, 5)
    books.assign([A])
    [new] = receive(books, A, 5)
    assert not books.settle(old, done=True)
    assert books.commits() == {}
    settle(books, new)
    assert books.commits() == {A: 6}


def test_what_is_over_and_not_done_keeps_its_place_uncommitted(books):
    first, second = receive(books, A, 0, 1)
    books.settle(first, done=False)
    settle(books, second)
    assert (books.unsettled(), books.commits()) == (0, {})


def test_a_rewound_log_is_received_again_and_its_old_tickets_count_for_nothing(books):
    old = receive(books, A, 0, 1, size=10)
    new = receive(books, A, 0, size=10)
    assert (books.bytes, books.unsettled()) == (10, 1)
    assert not any(books.settle(ticket, done=True) for ticket in old)
    settle(books, *new)
    assert books.commits() == {A: 1}


def test_room_is_for_as_many_records_as_are_allowed(books):
    receive(books, A, 0, 1, 2)
    assert books.room == 1


def test_a_done_record_behind_an_open_one_takes_room_since_a_restart_would_bring_it_again(books):
    _, second = receive(books, A, 0, 1)
    settle(books, second)
    assert (books.room, books.unsettled()) == (2, 1)


def test_there_is_no_room_beyond_the_bytes_that_are_allowed(books):
    receive(books, A, 0, size=100)
    assert books.room == 0


def test_the_partition_that_is_stuck_is_paused_and_the_others_have_room(books):
    receive(books, A, 0, 1, 2)
    receive(books, B, 0)
    assert books.room == 0
    assert books.pause() == [A]
    assert books.room == 3


def test_a_paused_partition_goes_on_when_half_of_its_share_is_free(books):
    tickets = receive(books, A, 0, 1, 2, 3)
    books.pause()
    settle(books, *tickets[:2])
    assert books.resume() == []
    settle(books, tickets[2])
    assert (books.resume(), books.paused) == ([A], [])


def test_for_want_of_bytes_all_are_paused_until_there_are_some(books):
    [ticket] = receive(books, A, 0, size=200)
    assert sorted(books.pause()) == [A, B]
    assert books.resume() == []
    settle(books, ticket)
    assert sorted(books.resume()) == [A, B]


def test_the_oldest_record_in_flight_is_known(books):
    books.receive(A, 5, 1, 20.0)
    ticket = books.receive(B, 9, 1, 10.0)
    assert books.oldest() is ticket


def test_with_nothing_in_flight_there_is_no_oldest(books):
    settle(books, *receive(books, A, 0))
    assert books.oldest() is None


class Books(RuleBasedStateMachine):
    """Records come and end in any order, partitions come and go, and the books agree with a plain list of facts."""

    def __init__(self):
        super().__init__()
        self.books = Assignment(max_records=5, max_bytes=50)
        self.next = {}
        self.open = []
        self.stale = []
        self.done = {}

    @rule(place=st.sampled_from([A, B]), start=st.integers(0, 3))
    def assign(self, place, start):
        self._forget(place)
        self.books.assign([place])
        self.next[place], self.done[place] = start, {}

    @precondition(lambda self: self.next)
    @rule(data=st.data())
    def let_go(self, data):
        place = data.draw(st.sampled_from(sorted(self.next)))
        self._forget(place)
        self.books.let_go([place])
        del self.next[place], self.done[place]

    @precondition(lambda self: self.next)
    @rule(data=st.data(), hole=st.integers(0, 2), size=st.integers(0, 20))
    def receive(self, data, hole, size):
        place = data.draw(st.sampled_from(sorted(self.next)))
        offset = self.next[place] + hole
        ticket = self.books.receive(place, offset, size, 0.0)
        self.next[place] = offset + 1
        self.done[place][offset] = False
        self.open.append(ticket)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), done=st.booleans())
    def settle(self, data, done):
        ticket = data.draw(st.sampled_from(self.open))
        self.open.remove(ticket)
        assert self.books.settle(ticket, done=done)
        self.done[ticket.place][ticket.offset] = done

    @precondition(lambda self: self.stale)
    @rule(data=st.data())
    def settle_what_was_let_go(self, data):
        assert not self.books.settle(data.draw(st.sampled_from(self.stale)), done=True)

    @rule()
    def commit(self):
        self.books.committed(self.books.commits())
        assert self.books.commits() == {}

    @rule()
    def pause_and_resume(self):
        if self.books.room <= 0:
            self.books.pause()
        self.books.resume()

    @invariant()
    def bytes_are_those_of_open_records(self):
        assert self.books.bytes == sum(ticket.size for ticket in self.open)
        assert self.books.unsettled() == len(self.open)

    @invariant()
    def no_position_passes_a_record_that_isnt_done(self):
        for place, position in self.books.commits().items():
            assert all(done for offset, done in self.done[place].items() if offset < position)

    def _forget(self, place):
        self.stale += [ticket for ticket in self.open if ticket.place == place]
        self.open = [ticket for ticket in self.open if ticket.place != place]


TestBooks = Books.TestCase
