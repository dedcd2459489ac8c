"""The engine against a model of the group rules, over random lives of a queue."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from engine_model import START, Fifo, Model, ModelMessage

GROUPS = st.sampled_from("ab")
LEASES = st.sampled_from([0, 1, 30, 100])


class Lives(RuleBasedStateMachine):
    """Every rule does the same to both, and compares what they answer."""

    handles = Bundle("handles")

    @initialize(max_receive_count=st.integers(1, 4))
    def begin(self, max_receive_count):
        self.fifo = Fifo(max_receive_count=max_receive_count)
        self.model = Model(max_receive_count)
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
        message = self.model.send(f"{group}{self.sends}", group, deduplication_id)
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
            message.handles.append(got.receipt_handle)
            self.behind[got.receipt_handle] = message
        return multiple(*received)

    @rule(received=handles)
    def delete(self, received):
        message = self.behind[received.receipt_handle]
        there = message in set(self.model.messages())
        held = there and message.held_by(received.receipt_handle, self.model.now)
        error = self.fifo.delete(received)[0]
        assert (error is None) == (held or not (there or message in self.model.moved))
        assert error is None or error.lease_lost
        if held:
            self.model.remove(message)

    @rule(received=handles, seconds=LEASES)
    def change_visibility(self, received, seconds):
        message = self.behind[received.receipt_handle]
        held = message in set(self.model.messages()) and message.held_by(received.receipt_handle, self.model.now)
        error = self.fifo.change(received, seconds)
        assert (error is None) == held
        if held:
            self.model.change(message, seconds)

    @rule(received=consumes(handles))
    def bury(self, received):
        message = self.behind[received.receipt_handle]
        held = message in set(self.model.messages()) and message.held_by(received.receipt_handle, self.model.now)
        error = self.fifo.bury(received)[0]
        assert (error is None) == held
        if held:
            self.model.dead.append(message.body)
            self.model.remove(message)

    @rule(seconds=st.sampled_from([0, 1, 4, 29, 299, 300]))
    def time_passes(self, seconds):
        self.model.now += seconds
        self.fifo.advance(seconds)

    @invariant()
    def they_count_the_same(self):
        if hasattr(self, "fifo"):
            counts = self.fifo.counts()
            assert (counts.messages_available, counts.messages_in_flight) == self.model.counts()
            assert sorted(letter.body for letter in self.fifo.letters()) == sorted(self.model.dead)

    @invariant()
    def they_know_when_the_next_one_can_be_received(self):
        if hasattr(self, "fifo"):
            heads = [messages[0].visible_at for messages in self.model.groups.values()]
            expected = max(0, min(heads) - self.model.now) if heads else None
            ready = self.fifo.next_visible()
            assert (ready if ready is None else max(0, ready)) == expected
            assert self.fifo.now == (START + self.model.now - START) * 1000


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
