"""The engine against models of the rules, over random lives of queues of both types."""

from __future__ import annotations

import itertools

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from engine_model import Fifo, Loose, Model, ModelMessage

GROUPS = st.sampled_from("ab")
LEASES = st.sampled_from([0, 1, 30, 100])


class Lives(RuleBasedStateMachine):
    """Every rule does the same to both, and compares what they answer."""

    handles = Bundle("handles")

    @initialize(max_receive_count=st.integers(1, 4), delay=st.sampled_from([0, 0, 5]), defers=st.booleans())
    def begin(self, max_receive_count, delay, defers):
        self.fifo = Fifo(max_receive_count=max_receive_count, delay=delay, defers=defers)
        self.model = Model(max_receive_count, delay)
        self.ids = {}
        self.behind: dict[str, ModelMessage] = {}
        self.sends = 0

    def teardown(self):
        if hasattr(self, "fifo"):
            self.fifo.close()

    @rule(groups=st.lists(GROUPS, min_size=1, max_size=5))
    def send(self, groups):
        names = [f"{group}{self.sends + i}" for i, group in enumerate(groups)]
        self.sends += len(groups)
        sent = self.fifo.send_all([self.fifo.entry(name, name[0], name) for name in names])
        for name, answer in zip(names, sent, strict=True):
            assert not answer.duplicate
            self.ids[self.model.send(name, name[0], name)] = answer

    @rule(group=GROUPS, deduplication_id=st.sampled_from("xy"))
    def send_what_may_be_a_duplicate(self, group, deduplication_id):
        answer = self.fifo.send(f"{group}{self.sends}", group, deduplication_id)
        remembered = bool(answer.duplicate)
        message = self.model.send(f"{group}{self.sends}", group, deduplication_id, remembered=remembered)
        self.sends += 1
        assert answer.duplicate == (message in self.ids)
        first = self.ids.setdefault(message, answer)
        assert answer.message_id == first.message_id

    @rule(target=handles, limit=st.integers(1, 10), lease=LEASES)
    def receive(self, limit, lease):
        received = self.fifo.receive(limit, lease=lease)
        expected = self.model.receive(limit, lease)
        assert [(m.body, m.receive_count) for m in received] == [(m.body, m.receive_count) for m in expected]
        for got, message in zip(received, expected, strict=True):
            assert got.message_id == self.ids[message].message_id
            message.handles.append(str(got.handle))
            self.behind[str(got.handle)] = message
        return multiple(*received)

    @rule(received=handles)
    def delete(self, received):
        message = self.behind[str(received.handle)]
        there = message in set(self.model.messages())
        held = there and message.held_by(str(received.handle), self.model.now)
        error = self.fifo.delete(received)[0]
        assert (error is None) == (held or not (there or message in self.model.moved))
        assert error is None or error.lease_lost
        if held:
            self.model.remove(message)

    @rule(received=handles, seconds=LEASES)
    def change_visibility(self, received, seconds):
        message = self.behind[str(received.handle)]
        held = message in set(self.model.messages()) and message.held_by(str(received.handle), self.model.now)
        error = self.fifo.change(received, seconds)
        assert (error is None) == held
        if held:
            self.model.change(message, seconds)

    @rule(received=consumes(handles))
    def bury(self, received):
        message = self.behind[str(received.handle)]
        held = message in set(self.model.messages()) and message.held_by(str(received.handle), self.model.now)
        error = self.fifo.bury(received)[0]
        assert (error is None) == held
        if held:
            self.model.dead.append(message.body)
            self.model.remove(message)

    @rule(seconds=st.sampled_from([0, 1, 4, 29, 299, 300, -1, -10, -3600]))
    def time_passes_or_the_clock_steps_back(self, seconds):
        self.model.pass_time(seconds)
        self.fifo.advance(seconds)

    @invariant()
    def they_count_the_same(self):
        if hasattr(self, "fifo"):
            counts = self.fifo.counts()
            told = (counts.messages_available, counts.messages_in_flight, counts.messages_delayed)
            assert told == self.model.counts()
            assert sorted(letter.body for letter in self.fifo.letters()) == sorted(self.model.dead)

    @invariant()
    def the_books_are_right(self):
        assert not hasattr(self, "fifo") or self.fifo.miscounted() == []

    @invariant()
    def they_know_when_the_next_one_can_be_received(self):
        if hasattr(self, "fifo"):
            ready = self.fifo.next_visible()
            assert (ready if ready is None else max(0, ready)) == self.model.next_available()
            assert self.fifo.now == self.model.now * 1000


class LooseLives(RuleBasedStateMachine):
    """A standard queue: every message alone, the oldest first, and every handle counts while there is the message."""

    handles = Bundle("handles")

    @initialize(max_receive_count=st.integers(1, 4), delay=st.sampled_from([0, 5]), defers=st.booleans())
    def begin(self, max_receive_count, delay, defers):
        self.queue = Loose(max_receive_count=max_receive_count, delay=delay, defers=defers)
        self.most, self.delay = max_receive_count, delay
        self.messages: list[ModelMessage] = []
        self.dead: list[str] = []
        self.behind: dict[str, ModelMessage] = {}
        self.now = self.queue.now // 1000
        self.numbers = itertools.count()

    def teardown(self):
        if hasattr(self, "queue"):
            self.queue.close()

    @rule(count=st.integers(1, 5))
    def send(self, count):
        for _ in range(count):
            number = next(self.numbers)
            self.queue.send(str(number))
            state = "delayed" if self.delay else "free"
            self.messages.append(ModelMessage(str(number), "", number, self.now + self.delay, state))

    @rule(target=handles, limit=st.integers(1, 10), lease=LEASES)
    def receive(self, limit, lease):
        expected = []
        for message in list(self.messages):
            if len(expected) < limit and message.available(self.now):
                if message.receive_count >= self.most:
                    self.messages.remove(message)
                    self.dead.append(message.body)
                else:
                    expected.append(message)
        received = self.queue.receive(limit, lease=lease)
        assert [m.body for m in received] == [m.body for m in expected]
        for got, message in zip(received, expected, strict=True):
            message.receive_count += 1
            self.change_model(message, lease)
            self.behind[str(got.handle)] = message
        return multiple(*received)

    @rule(received=handles)
    def delete(self, received):
        assert self.queue.delete(received) == [None]
        message = self.behind[str(received.handle)]
        if message in self.messages:
            self.messages.remove(message)

    @rule(received=handles, seconds=LEASES)
    def change_visibility(self, received, seconds):
        message = self.behind[str(received.handle)]
        assert (self.queue.change(received, seconds) is None) == (message in self.messages)
        self.change_model(message, seconds)

    @rule(seconds=st.sampled_from([0, 1, 4, 29, 100]))
    def time_passes(self, seconds):
        self.now += seconds
        self.queue.advance(seconds)

    @invariant()
    def they_count_the_same(self):
        if hasattr(self, "queue"):
            counts = self.queue.counts()
            states = [None if m.available(self.now) else m.state for m in self.messages]
            assert counts.messages_available == states.count(None)
            assert counts.messages_in_flight == states.count("leased")
            assert counts.messages_delayed == states.count("delayed")
            assert sorted(letter.body for letter in self.queue.letters()) == sorted(self.dead)

    @invariant()
    def the_books_are_right(self):
        assert not hasattr(self, "queue") or self.queue.miscounted() == []

    def change_model(self, message, seconds):
        message.until = self.now + seconds
        message.state = "leased" if seconds else "free"


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
TestLooseLives = LooseLives.TestCase
TestLooseLives.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
