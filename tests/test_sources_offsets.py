from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanfold.sources.offsets import Offsets


@pytest.fixture
def offsets():
    return Offsets()


def received(offsets, *numbers):
    for number in numbers:
        offsets.received(number)


def test_nothing_is_committed_before_anything_is_done(offsets):
    received(offsets, 5, 6)
    assert (offsets.position, offsets.to_commit, offsets.window) == (None, None, 2)


def test_the_position_is_the_offset_after_the_last_of_an_unbroken_run(offsets):
    received(offsets, 5, 6, 7)
    assert offsets.done(5) == 1
    assert (offsets.position, offsets.window) == (6, 2)


def test_what_is_done_out_of_order_waits_for_the_one_below_it(offsets):
    received(offsets, 5, 6, 7)
    assert (offsets.done(7), offsets.done(6)) == (0, 0)
    assert (offsets.position, offsets.window) == (None, 3)
    assert offsets.done(5) == 3
    assert (offsets.position, offsets.window) == (8, 0)


def test_holes_in_the_log_are_no_gap(offsets):
    received(offsets, 5, 9)
    offsets.done(5)
    assert offsets.position == 6
    offsets.done(9)
    assert offsets.position == 10


def test_what_the_group_knows_needs_no_commit(offsets):
    received(offsets, 5)
    offsets.done(5)
    assert offsets.to_commit == 6
    offsets.committed(6)
    assert offsets.to_commit is None


def test_done_twice_or_never_received_changes_nothing(offsets):
    received(offsets, 5, 7)
    offsets.done(5)
    assert (offsets.done(5), offsets.done(6), offsets.done(99)) == (0, 0, 0)
    assert (offsets.position, offsets.window) == (6, 1)


@pytest.mark.parametrize("offset", [5, 4])
def test_offsets_grow(offsets, offset):
    received(offsets, 5)
    assert not offsets.follows(offset)
    with pytest.raises(ValueError, match="was received after 5"):
        offsets.received(offset)


def test_after_a_rewind_what_comes_again_must_be_done_again(offsets):
    received(offsets, 5, 6, 7)
    for offset in (5, 6, 7):
        offsets.done(offset)
    offsets.rewind(6)
    assert offsets.position == 6
    received(offsets, 6)
    assert (offsets.position, offsets.window) == (6, 1)


def test_a_rewind_doesnt_let_the_position_pass_what_was_open_below_it(offsets):
    received(offsets, 5, 6, 7)
    offsets.rewind(7)
    received(offsets, 7)
    offsets.done(7)
    assert offsets.position is None
    offsets.done(5)
    offsets.done(6)
    assert offsets.position == 8


def test_a_log_that_begins_anew_is_followed_from_its_beginning(offsets):
    received(offsets, 500, 501)
    offsets.done(500)
    offsets.rewind(0)
    received(offsets, 0)
    assert offsets.position == 0
    offsets.done(0)
    assert (offsets.position, offsets.window) == (1, 0)


@st.composite
def histories(draw):
    """Offsets with holes, and the order in which some of them are done, mixed with their arrival."""
    steps = draw(st.lists(st.integers(1, 4), min_size=1, max_size=40))
    numbers = [sum(steps[: index + 1]) for index in range(len(steps))]
    done = draw(st.lists(st.sampled_from(numbers), unique=True))
    return numbers, done, draw(st.lists(st.booleans(), min_size=len(numbers) + len(done)))


@given(histories())
def test_whatever_the_order_the_position_never_passes_a_record_that_isnt_done(history):
    numbers, to_do, turns = history
    offsets, came, finished = Offsets(), [], set()
    arriving = iter(numbers)
    for arrives in turns:
        if arrives:
            if (number := next(arriving, None)) is not None:
                offsets.received(number)
                came.append(number)
        elif to_do and to_do[0] in came:
            offsets.done(number := to_do.pop(0))
            finished.add(number)
        still_open = [number for number in came if number not in finished]
        run = came[: came.index(still_open[0])] if still_open else came
        assert offsets.position == (run[-1] + 1 if run else None)
        assert offsets.window == len(came) - len(run)


@given(st.lists(st.integers(0, 30), unique=True, min_size=1).map(sorted), st.randoms())
def test_when_all_is_done_all_is_committed_in_any_order(numbers, rng):
    offsets = Offsets()
    received(offsets, *numbers)
    shuffled = rng.sample(numbers, len(numbers))
    assert sum(offsets.done(number) for number in shuffled) == len(numbers)
    assert (offsets.position, offsets.window) == (numbers[-1] + 1, 0)
