"""What SQS does with a FIFO queue, rule by rule."""

from __future__ import annotations

import pytest

from engine_model import Fifo, bodies
from fanfold.model import QueueStatus

GARBAGE = [
    "garbage",
    "",
    "1.1",
    "1.1.",
    "1.1.1.1",
    "-1.1.x",
    "1.9223372036854775808.x",
    f"1.{'9' * 40}.x",
    "1.\N{ARABIC-INDIC DIGIT ONE}.x",
]
EMPTY = QueueStatus(messages_available=0, messages_in_flight=0, messages_delayed=0)


@pytest.fixture(params=[False, True], ids=["at once", "deferred"])
def defers(request):
    """Whether changes are carried out as they are decided, or before the next operation."""
    return request.param


@pytest.fixture
def fifo(defers):
    queue = Fifo(defers=defers)
    yield queue
    queue.close()


@pytest.fixture
def impatient(defers):
    """A queue that moves a message away when it was received twice."""
    queue = Fifo(max_receive_count=2, defers=defers)
    yield queue
    queue.close()


class TestOrder:
    def test_a_group_comes_in_the_order_in_which_it_was_sent(self, fifo):
        for body in ("a1", "a2", "a3"):
            fifo.send(body, "a")
        assert bodies(fifo.receive()) == ["a1", "a2", "a3"]

    def test_a_receive_takes_as_many_as_it_can_from_one_group_before_the_next(self, fifo):
        for body in ("a1", "b1", "a2", "b2", "a3"):
            fifo.send(body, body[0])
        assert bodies(fifo.receive(4)) == ["a1", "a2", "a3", "b1"]

    def test_a_group_is_locked_while_a_message_of_it_is_in_flight(self, fifo):
        fifo.send("a1", "a")
        fifo.send("a2", "a")
        fifo.receive(1)
        assert fifo.receive() == []

    def test_other_groups_flow_past_a_locked_one(self, fifo):
        fifo.send("a1", "a")
        fifo.receive()
        fifo.send("a2", "a")
        fifo.send("b1", "b")
        assert bodies(fifo.receive()) == ["b1"]

    def test_when_the_first_is_back_and_the_second_still_out_only_the_first_comes(self, fifo):
        for body in ("a1", "a2", "a3"):
            fifo.send(body, "a")
        first, _second = fifo.receive(2)
        fifo.change(first, 0)
        assert bodies(fifo.receive()) == ["a1"]

    def test_when_the_first_is_deleted_and_the_second_still_out_nothing_comes(self, fifo):
        for body in ("a1", "a2", "a3"):
            fifo.send(body, "a")
        first, _second = fifo.receive(2)
        fifo.delete(first)
        assert fifo.receive() == []

    def test_a_delete_of_all_that_is_out_unlocks_the_group(self, fifo):
        for body in ("a1", "a2", "a3"):
            fifo.send(body, "a")
        fifo.delete(*reversed(fifo.receive(2)))
        assert bodies(fifo.receive()) == ["a3"]

    def test_a_lease_that_runs_out_gives_the_message_back_in_its_place(self, fifo):
        fifo.send("a1", "a")
        fifo.send("a2", "a")
        fifo.receive(1, lease=30)
        fifo.advance(30)
        assert bodies(fifo.receive()) == ["a1", "a2"]

    def test_groups_take_turns_by_when_they_last_became_available(self, fifo):
        fifo.send("a1", "a")
        fifo.advance(1)
        fifo.send("b1", "b")
        first = fifo.receive(1)[0]
        fifo.advance(1)
        fifo.change(first, 0)
        assert bodies(fifo.receive()) == ["b1", "a1"]

    def test_a_delete_that_unblocks_a_group_puts_it_at_the_end_of_the_line(self, fifo):
        fifo.send("a1", "a")
        fifo.send("a2", "a")
        first = fifo.receive(1)
        fifo.advance(1)
        fifo.send("b1", "b")
        fifo.advance(1)
        fifo.delete(*first)
        assert bodies(fifo.receive()) == ["b1", "a2"]

    def test_a_receive_without_a_lease_touches_groups_and_leaves_them_receivable_behind_the_others(self, fifo):
        fifo.send("a1", "a")
        fifo.send("b1", "b")
        fifo.advance(1)
        fifo.receive(1, lease=0)
        assert [(m.body, m.receive_count) for m in fifo.receive()] == [("b1", 1), ("a1", 2)]


def test_what_is_taken_beside_one_that_moves_away_is_counted_once(impatient):
    for body in ("a1", "a2", "a3"):
        impatient.send(body, "a")
    impatient.receive(2, lease=0)
    assert len(impatient.receive(lease=1)) == 3
    impatient.advance(1)
    assert bodies(impatient.receive()) == ["a3"]  # freed as its group's new head, in the same receive
    assert impatient.miscounted() == []


class TestHandles:
    def test_every_receive_gives_a_new_handle_and_counts(self, fifo):
        fifo.send("a1", "a")
        first = fifo.receive(lease=1)[0]
        fifo.advance(1)
        second = fifo.receive()[0]
        assert first.handle != second.handle
        assert (first.receive_count, second.receive_count) == (1, 2)

    def test_an_expired_handle_does_not_delete(self, fifo):
        fifo.send("a1", "a")
        received = fifo.receive(lease=30)[0]
        fifo.advance(30)
        error = fifo.delete(received)[0]
        assert (error.code, error.lease_lost) == ("InvalidParameterValue", True)
        assert error.text == (
            f"Value {received.handle} for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired."
        )
        assert fifo.counts().messages_available == 1

    def test_an_expired_handle_does_not_change_the_visibility(self, fifo):
        fifo.send("a1", "a")
        received = fifo.receive(lease=30)[0]
        fifo.advance(30)
        assert "has expired" in fifo.change(received, 60).text

    def test_only_the_newest_handle_counts(self, fifo):
        fifo.send("a1", "a")
        old = fifo.receive(lease=1)[0]
        fifo.advance(1)
        new = fifo.receive(lease=30)[0]
        assert fifo.delete(old)[0].lease_lost
        assert fifo.delete(new) == [None]

    def test_after_an_extension_the_same_handle_still_deletes(self, fifo):
        fifo.send("a1", "a")
        received = fifo.receive(lease=30)[0]
        fifo.advance(20)
        assert fifo.change(received, 30) is None
        fifo.advance(20)
        assert fifo.delete(received) == [None]

    def test_a_message_given_back_is_no_longer_held(self, fifo):
        fifo.send("a1", "a")
        received = fifo.receive()[0]
        assert fifo.change(received, 0) is None
        assert fifo.delete(received)[0].lease_lost

    def test_a_second_delete_succeeds(self, fifo):
        fifo.send("a1", "a")
        received = fifo.receive()[0]
        assert fifo.delete(received, received) == [None, None]
        assert fifo.delete(received) == [None]
        assert fifo.counts() == EMPTY

    def test_the_visibility_of_a_deleted_message_can_not_be_changed(self, fifo):
        fifo.send("a1", "a")
        received = fifo.receive()[0]
        fifo.delete(received)
        error = fifo.change(received, 60)
        assert (error.code, error.lease_lost) == ("InvalidParameterValue", True)
        assert error.text.endswith("Reason: Message does not exist or is not available for visibility timeout change.")

    def test_one_batch_may_delete_a_message_twice(self, fifo):
        fifo.send("a", "g")
        fifo.send("b", "g")
        [first] = fifo.receive(1)
        assert fifo.delete(first, first) == [None, None]
        assert bodies(fifo.receive()) == ["b"]

    @pytest.mark.parametrize("newest_first", [True, False])
    def test_of_two_handles_in_one_batch_only_the_newest_deletes(self, fifo, newest_first):
        fifo.send("a", "g")
        [old] = fifo.receive(lease=1)
        fifo.advance(2)
        [new] = fifo.receive()
        errors = fifo.delete(new, old) if newest_first else fifo.delete(old, new)
        assert [error is None for error in errors] == ([True, True] if newest_first else [False, True])
        assert fifo.counts() == EMPTY

    def test_one_bad_handle_leaves_the_others_of_its_batch_alone(self, fifo):
        fifo.send("a1", "a")
        received = fifo.receive()[0]
        errors = fifo.delete_handles("garbage", str(received.handle))
        assert [error is None for error in errors] == [False, True]
        assert fifo.counts() == EMPTY

    @pytest.mark.parametrize("handle", GARBAGE)
    def test_garbage_is_no_handle(self, fifo, handle):
        [error] = fifo.delete_handles(handle)
        assert (error.code, error.text) == (
            "ReceiptHandleIsInvalid",
            f'The input receipt handle "{handle}" is not a valid receipt handle.',
        )

    def test_another_queues_handle_is_not_valid_here(self, fifo):
        fifo.send("a1", "a")
        received = fifo.receive()[0]
        [error] = fifo.delete_handles(str(received.handle), queue=fifo.dead_letter_queue)
        assert (error.code, error.text) == (
            "ReceiptHandleIsInvalid",
            f'The receipt handle "{received.handle}" is not valid for this queue.',
        )
        assert fifo.delete(received) == [None]

    def test_a_handle_from_before_the_move_to_the_dead_letter_queue_does_not_delete(self, impatient):
        impatient.send("a1", "a")
        received = [impatient.receive(lease=0)[0] for _ in range(2)][-1]
        impatient.receive()
        for _ in range(2):
            assert "has expired" in impatient.delete(received)[0].text
            impatient.delete_handles(
                *(str(m.handle) for m in impatient.receive(queue=impatient.dead_letter_queue)),
                queue=impatient.dead_letter_queue,
            )
        assert impatient.letters() == []

    def test_a_lease_beyond_twelve_hours_from_the_receive_is_refused(self, fifo):
        fifo.send("a1", "a")
        [held] = fifo.receive(lease=43_200)
        fifo.advance(43_000)
        error = fifo.change(held, 201)
        assert (error.code, error.lease_lost) == ("InvalidParameterValue", False)
        assert error.text == (
            "Value 201 for parameter VisibilityTimeout is invalid. "
            "Reason: Total VisibilityTimeout for the message is beyond the limit [43200 seconds]"
        )
        assert fifo.change(held, 200.5) is None  # SQS counts in seconds; what is left of one is cut off
        fifo.advance(200)
        assert bodies(fifo.receive()) == ["a1"]

    def test_a_negative_lease_is_refused(self, fifo):
        fifo.send("a1", "a")
        [held] = fifo.receive(lease=30)
        error = fifo.change(held, -1)
        assert (error.code, error.lease_lost) == ("InvalidParameterValue", False)
        assert error.text == (
            "Value -1 for parameter VisibilityTimeout is invalid. Reason: Must be between 0 and 43200."
        )
        assert fifo.receive() == []


class TestAClockThatSteps:
    def test_a_step_back_hides_nothing_that_was_never_received(self, fifo):
        fifo.send("a1", "a")
        fifo.advance(-3600)
        assert fifo.next_visible() == 0
        assert fifo.counts().messages_available == 1
        assert bodies(fifo.receive()) == ["a1"]

    def test_a_step_back_hides_nothing_that_was_given_back(self, fifo):
        for body in ("a1", "b1"):
            fifo.send(body, body[0])
        fifo.change(fifo.receive(1)[0], 0)
        fifo.receive(1, lease=0)
        fifo.advance(-3600)
        assert bodies(fifo.receive()) == ["a1", "b1"]

    def test_a_step_back_hides_nothing_that_a_delete_has_unlocked(self, fifo):
        for body in ("a1", "a2"):
            fifo.send(body, "a")
        fifo.delete(*fifo.receive(1))
        fifo.advance(-3600)
        assert bodies(fifo.receive()) == ["a2"]

    def test_a_lease_that_had_run_out_before_an_unlock_stays_so(self, fifo):
        for body in ("a1", "a2"):
            fifo.send(body, "a")
        first, second = fifo.receive(2, lease=10)
        fifo.change(first, 60)
        fifo.advance(10)
        fifo.delete(first)
        fifo.advance(-3600)
        assert "has expired" in fifo.change(second, 60).text
        assert bodies(fifo.receive()) == ["a2"]

    def test_what_was_there_before_a_step_back_is_served_before_what_comes_after(self, fifo):
        fifo.send("a1", "a")
        fifo.advance(-3600)
        fifo.send("b1", "b")
        fifo.send("a2", "a")
        assert [bodies(fifo.receive(1)), bodies(fifo.receive())] == [["a1"], ["b1"]]

    def test_a_steps_length_of_later_messages_starves_nobody(self, fifo):
        fifo.advance(3600)
        fifo.send("early", "early")
        fifo.advance(-3600)
        for number in range(20):
            fifo.send(f"late{number}", f"late{number}")
        assert bodies(fifo.receive(1)) == ["early"]

    def test_a_group_keeps_its_order_over_steps(self, fifo):
        for number, step in enumerate((3600, -7200, 3600, 1)):
            fifo.send(f"a{number}", "a")
            fifo.advance(step)
        assert bodies(fifo.receive()) == ["a0", "a1", "a2", "a3"]

    def test_a_lease_ends_when_the_wall_clock_says_so(self, fifo):
        fifo.send("a1", "a")
        held = fifo.receive(lease=30)[0]
        fifo.advance(-3600)
        fifo.advance(3629)
        assert fifo.receive() == []
        assert fifo.change(held, 30) is None
        fifo.advance(3600)
        assert bodies(fifo.receive()) == ["a1"]

    def test_a_lease_without_time_locks_nothing_after_a_step_back(self, fifo):
        fifo.send("a1", "a")
        given = fifo.receive(lease=0)[0]
        fifo.advance(-3600)
        assert "has expired" in fifo.delete(given)[0].text


class TestDeduplication:
    def test_a_duplicate_gets_the_first_ones_ids_and_is_not_delivered(self, fifo):
        first = fifo.send("a1", "a", "same")
        second = fifo.send("other", "b", "same")
        assert (first.duplicate, second.duplicate) == (False, True)
        assert first.message_id == second.message_id
        assert bodies(fifo.receive()) == ["a1"]

    def test_two_of_a_kind_in_one_batch_are_one(self, fifo):
        sent = fifo.send_all([fifo.entry("a1", "a", "same"), fifo.entry("a2", "a", "same"), fifo.entry("a3", "a")])
        assert [answer.duplicate for answer in sent] == [False, True, False]
        assert bodies(fifo.receive()) == ["a1", "a3"]

    def test_it_holds_after_receive_and_delete(self, fifo):
        fifo.send("a1", "a", "same")
        fifo.delete(*fifo.receive())
        assert fifo.send("a1", "a", "same").duplicate
        assert fifo.receive() == []

    def test_it_ends_five_minutes_after_the_first_send(self, fifo):
        fifo.send("a1", "a", "same")
        fifo.advance(200)
        assert fifo.send("a1", "a", "same").duplicate
        fifo.advance(99.999)
        assert fifo.send("a1", "a", "same").duplicate
        fifo.advance(0.001)
        assert not fifo.send("a1", "a", "same").duplicate

    def test_an_id_that_is_sent_anew_counts_from_then(self, fifo):
        fifo.send("a1", "a", "same")
        fifo.advance(300)
        second = fifo.send("a2", "a", "same")
        fifo.advance(299)
        assert fifo.send("a3", "a", "same").message_id == second.message_id


class TestDeadLetters:
    def test_a_message_is_moved_on_the_receive_after_the_last_one_allowed(self, impatient):
        impatient.send("a1", "a")
        for _ in range(2):
            assert bodies(impatient.receive(lease=1)) == ["a1"]
            impatient.advance(1)
        assert impatient.letters() == []
        assert impatient.receive() == []
        assert [letter.body for letter in impatient.letters()] == ["a1"]
        assert impatient.counts() == EMPTY

    def test_its_group_continues_with_the_next_message_in_the_same_receive(self, impatient):
        impatient.send("a1", "a")
        for _ in range(2):
            impatient.receive(lease=0)
        impatient.send("a2", "a")
        assert bodies(impatient.receive()) == ["a2"]

    def test_a_message_spent_behind_the_head_is_moved_too(self, impatient):
        impatient.send("a1", "a")
        impatient.send("a2", "a")
        for _ in range(2):
            first, _second = impatient.receive(lease=1)
            impatient.advance(1)
        impatient.receive(1)
        assert [letter.body for letter in impatient.letters()] == ["a1", "a2"]
        assert first.receive_count == 2

    def test_a_handle_from_before_the_move_has_expired(self, impatient):
        impatient.send("a1", "a")
        received = [impatient.receive(lease=0)[0] for _ in range(2)][-1]
        impatient.receive()
        assert impatient.change(received, 10).lease_lost

    def test_a_burial_unlocks_the_group(self, fifo):
        fifo.send("a1", "a")
        fifo.send("a2", "a")
        fifo.bury(*fifo.receive(1))
        assert bodies(fifo.receive()) == ["a2"]

    def test_a_burial_needs_the_lease(self, fifo):
        fifo.send("a1", "a")
        received = fifo.receive(lease=30)[0]
        fifo.advance(30)
        assert fifo.bury(received)[0].lease_lost
        assert fifo.letters() == []

    def test_a_burial_of_a_deleted_message_is_refused(self, fifo):
        fifo.send("a1", "a")
        received = fifo.receive()[0]
        fifo.delete(received)
        assert fifo.bury(received)[0].lease_lost
        assert fifo.letters() == []


class TestCounts:
    def test_messages_behind_a_held_head_count_as_available(self, fifo):
        for body in ("a1", "a2", "b1"):
            fifo.send(body, body[0])
        fifo.receive(1)
        counts = fifo.counts()
        assert (counts.messages_available, counts.messages_in_flight) == (2, 1)

    def test_a_redriven_message_keeps_its_id_and_its_receive_count_goes_on(self, impatient):
        sent = impatient.send("a1", "a")
        for _ in range(3):
            impatient.receive(lease=0)
        [letter] = impatient.receive(queue=impatient.dead_letter_queue)
        assert (letter.message_id, letter.deduplication_id) == (sent.message_id, sent.message_id)
        assert letter.receive_count == 3

    def test_letters_are_shown_oldest_first_however_few_are_asked_for(self, fifo):
        for body in ("c1", "a1", "b1"):
            fifo.send(body, body[0])
            fifo.advance(1)
        for message in fifo.receive():
            fifo.bury(message)
            fifo.advance(1)
        fifo.receive(1, lease=0, queue=fifo.dead_letter_queue)
        assert [letter.body for letter in fifo.letters(2)] == ["c1", "a1"]
