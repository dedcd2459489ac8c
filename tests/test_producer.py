from __future__ import annotations

import asyncio
import dataclasses
import json
import random

import pytest

from doubles import AWAY, Heard
from fanfold import ids
from fanfold.errors import (
    BrokerUnavailableError,
    FanOutIncompleteError,
    FanOutSealedError,
    InvalidInputError,
    LedgerUnavailableError,
    NoLedgerError,
    UnknownTaskError,
)
from fanfold.ledgers.protocol import Opened, Unsent
from fanfold.model import (
    FOLD_NAME,
    EntryError,
    FanOut,
    FanOutOptions,
    Progress,
    SendResult,
    Task,
    TaskRecord,
    TaskSpec,
    TaskState,
)
from fanfold.producer import Producer
from fanfold.registry import Registry
from fanfold.testing import START

NAMES = ["a", "b", "c"]
A_PIECE = 1_000
TOO_LARGE = EntryError(code="InvalidParameterValue", text="One or more parameters are invalid.")


class Site:
    """A producer between a queue and a ledger that do what the test says; `steps` is what they were asked, in order."""

    def __init__(self, clock, *, ledger=True, **options):
        self.steps, self.sends, self.plans = [], [], []
        self.refused = {}
        self.duplicates = ()
        self.opened = Opened(generation=0, states={})
        self.records = []
        self.failing = {}
        self.heard = Heard()
        self.registry = Registry()
        self.producer = Producer(
            self,
            self if ledger else None,
            registry=self.registry,
            telemetry=self.heard.telemetry,
            clock=clock,
            rng=random.Random(7),
            **options,
        )

    async def open(self, plan):
        self._step("open")
        self.plans.append(plan)
        return self.opened

    async def tasks(self, fan_out_id):  # noqa: ARG002 - a ledger has many
        return self.records

    async def send(self, messages):
        self._step("send")
        self.sends.append(list(messages))
        return [self._answer(json.loads(message.body)["task_name"]) for message in messages]

    async def sent(self, fan_out_id, generation):
        self._step("sent")
        self.noted = fan_out_id, generation

    def _step(self, name):
        self.steps.append(name)
        if name in self.failing:
            raise self.failing[name]

    def _answer(self, name):
        error = self.refused.get(name)
        return SendResult(error=error) if error else SendResult(message_id=name, duplicate=name in self.duplicates)

    @property
    def messages(self):
        return [message for messages in self.sends for message in messages]

    @property
    def bodies(self):
        return [json.loads(message.body) for message in self.messages]

    @property
    def names(self):
        return [body["task_name"] for body in self.bodies]


@pytest.fixture
async def site(clock):
    return Site(clock)


def fan_out(**fields):
    fields = {"fan_out_id": "f" * 32, "entity_id": "doc-1", "metadata": {"k": 1}, "total_tasks": 3} | fields
    return FanOut(event_id=None, created_at=START, completed_at=None, progress=Progress(), **fields)


# The way of an event.


async def test_the_set_is_sealed_before_the_first_message_leaves_and_noted_as_sent_after_the_last(site):
    done = await site.producer.enqueue("doc-1", NAMES, event_id="1")
    assert site.steps == ["open", "send", "sent"]
    assert [spec.name for spec in site.plans[0].tasks] == NAMES
    assert site.names == NAMES
    assert site.noted == (done.fan_out_id, 0)
    assert (done.total_tasks, done.sent, done.settled, done.duplicates) == (3, 3, 0, 0)


async def test_every_message_says_the_entity_its_config_the_metadata_and_the_number_of_tasks(site):
    await site.producer.enqueue("doc-1", ["a", {"name": "b", "config": {"page": 2}}], metadata={"tenant": "acme"})
    for body, config in zip(site.bodies, [{}, {"page": 2}], strict=True):
        assert (body["entity_id"], body["metadata"], body["total_tasks"]) == ("doc-1", {"tenant": "acme"}, 2)
        assert body["task_config"] == config
        assert body["timestamp"] == "2027-01-15T08:00:00+00:00"


async def test_tasks_are_names_dicts_specs_or_one_name_alone(site):
    await site.producer.enqueue("doc-1", [TaskSpec("a"), {"name": "b"}, "c"])
    await site.producer.enqueue("doc-1", "alone")
    assert site.names == ["a", "b", "c", "alone"]


async def test_the_same_event_has_the_same_ids_and_another_has_others(site):
    first = await site.producer.enqueue("doc-1", ["a"], event_id="1")
    again = await site.producer.enqueue("doc-1", ["a"], event_id="1")
    other = await site.producer.enqueue("doc-1", ["a"], event_id="2")
    elsewhere = await site.producer.enqueue("doc-2", ["a"], event_id="1")
    unnamed = [await site.producer.enqueue("doc-1", ["a"]) for _ in range(2)]
    assert first.fan_out_id == again.fan_out_id
    assert len({done.fan_out_id for done in (first, other, elsewhere, *unnamed)}) == 5
    one, two, *others = [message.deduplication_id for message in site.messages]
    assert one == two
    assert len({one, *others}) == 5


async def test_what_the_queue_knew_already_is_counted(site):
    site.duplicates = {"a", "c"}
    assert (await site.producer.enqueue("doc-1", NAMES, event_id="1")).duplicates == 2


async def test_what_is_over_is_not_sent_again(site):
    site.opened = Opened(generation=0, states={"a": TaskState.SUCCEEDED, "b": TaskState.FAILED, "c": TaskState.DEAD})
    done = await site.producer.enqueue("doc-1", NAMES, event_id="1")
    assert site.names == ["b"]
    assert (done.sent, done.settled, done.total_tasks) == (1, 2, 3)


async def test_of_an_event_that_is_all_over_nothing_is_sent(site):
    site.opened = Opened(generation=0, states=dict.fromkeys(NAMES, TaskState.SUCCEEDED))
    done = await site.producer.enqueue("doc-1", NAMES, event_id="1")
    assert site.sends == []
    assert (done.sent, done.settled) == (0, 3)


async def test_in_a_later_generation_each_message_is_of_its_tasks_generation_and_configuration(site):
    """The queue has it by the id of that, and an edit that was made for it isn't undone."""
    await site.producer.enqueue("doc-1", NAMES, event_id="1")
    site.opened = Opened(generation=2, states={})
    site.records = [
        waiting("a"),
        waiting("b", generation=1),
        dataclasses.replace(waiting("c", {"edited": True}, generation=2), state=TaskState.FAILED),
        dataclasses.replace(waiting("d", generation=2), state=TaskState.DEAD),
    ]
    again = await site.producer.enqueue("doc-1", NAMES, event_id="1")
    assert again.sent == 3
    first, second = site.sends
    assert [body["generation"] for body in site.bodies] == [0, 0, 0, 0, 1, 2]
    assert second[0].deduplication_id == first[0].deduplication_id
    assert len({message.deduplication_id for message in site.messages}) == 5
    assert site.bodies[-1]["task_config"] == {"edited": True}
    assert site.noted[1] == 2


async def test_what_was_enqueued_is_told(site):
    done = await site.producer.enqueue("doc-1", NAMES, event_id="1")
    [told] = site.heard.of("fan_out.enqueued")
    assert (told["fan_out_id"], told["entity_id"], told["tasks"], told["sent"]) == (done.fan_out_id, "doc-1", 3, 3)


async def test_many_at_once_dont_mix_their_messages(site):
    entities = [f"doc-{number}" for number in range(50)]
    done = await asyncio.gather(*(site.producer.enqueue(entity, NAMES, event_id="1") for entity in entities))
    assert sorted((body["entity_id"], body["task_name"]) for body in site.bodies) == sorted(
        (entity, name) for entity in entities for name in NAMES
    )
    by_entity = {report.entity_id: report.fan_out_id for report in done}
    assert all(by_entity[body["entity_id"]] == body["fan_out_id"] for body in site.bodies)


# What the queue doesn't take.


async def test_what_the_queue_refused_is_named_with_its_reason_and_not_noted_as_sent(site):
    site.refused = {"b": AWAY, "c": TOO_LARGE}
    with pytest.raises(FanOutIncompleteError, match=r"ServiceUnavailable.*: b, c\. Enqueue the same event") as raised:
        await site.producer.enqueue("doc-1", NAMES, event_id="1")
    assert raised.value.unsent == ("b", "c")
    assert raised.value.fan_out_id == site.plans[0].fan_out_id
    assert site.steps == ["open", "send"]
    assert site.heard.names() == []


async def test_the_event_again_sends_what_was_refused_under_the_same_deduplication_ids(site):
    site.refused = {"b": AWAY}
    with pytest.raises(FanOutIncompleteError):
        await site.producer.enqueue("doc-1", NAMES, event_id="1")
    site.refused = {}
    await site.producer.enqueue("doc-1", NAMES, event_id="1")
    first, again = site.sends
    assert [message.deduplication_id for message in first] == [message.deduplication_id for message in again]
    assert [message.group_id for message in first] == [message.group_id for message in again]


async def test_a_queue_that_is_away_is_its_own_error_and_the_sealed_set_is_still_unsent(site):
    site.failing = {"send": BrokerUnavailableError("away")}
    with pytest.raises(BrokerUnavailableError):
        await site.producer.enqueue("doc-1", NAMES, event_id="1")
    assert site.steps == ["open", "send"]


# What the ledger doesn't take.


@pytest.mark.parametrize(
    "error", [LedgerUnavailableError("away"), FanOutSealedError("other names")], ids=["away", "sealed"]
)
async def test_what_the_ledger_hasnt_sealed_is_not_sent(site, error):
    site.failing = {"open": error}
    with pytest.raises(type(error)):
        await site.producer.enqueue("doc-1", NAMES, event_id="1")
    assert site.steps == ["open"]
    assert site.sends == []


async def test_a_ledger_that_cant_note_the_sending_makes_no_failure_of_a_success(site):
    site.failing = {"sent": LedgerUnavailableError("away for a moment")}
    done = await site.producer.enqueue("doc-1", NAMES, event_id="1")
    assert done.sent == 3
    [told] = site.heard.of("sent.unrecorded")
    assert told == {"fan_out_id": done.fan_out_id, "reason": "away for a moment"}


async def test_without_a_ledger_everything_is_sent_every_time(clock):
    site = Site(clock, ledger=False)
    for _ in range(2):
        assert (await site.producer.enqueue("doc-1", NAMES, event_id="1")).sent == 3
    assert site.steps == ["send", "send"]


@pytest.mark.parametrize("more", [{"options": FanOutOptions()}, {"parent": fan_out()}], ids=["options", "parent"])
async def test_options_and_parents_need_a_ledger(clock, more):
    site = Site(clock, ledger=False)
    with pytest.raises(NoLedgerError, match="options and parent need a ledger"):
        await site.producer.enqueue("doc-1", NAMES, **more)
    assert site.steps == []


# What callers get wrong is said before anything is recorded or sent.


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("", ["a"]), "entity_id ''"),
        ((7, ["a"]), "entity_id 7"),
        (("doc-1", []), "no tasks for 'doc-1'"),
        (("doc-1", ["a", "b", "a"]), "task 'a' stands twice"),
        (("doc-1", [""]), "task name ''"),
        (("doc-1", [7]), "task 7: write a name"),
        (("doc-1", [{"config": {}}]), "task name ''"),
        (("doc-1", [{"name": "a", "delay": 3}]), "'delay'"),
        (("doc-1", [{"name": "a", "config": [1]}]), r"config of task 'a' is \[1\]"),
        (("doc-1", [FOLD_NAME]), "reserved"),
        (("doc-1", [{"name": "a", "config": {"x": object()}}]), "can't be written as JSON"),
        (("doc-1", ["a", {"name": "b", "config": {"x": "y" * 2**20}}]), "1,048,576"),
    ],
    ids=lambda value: "" if isinstance(value, tuple) else value,
)
async def test_a_callers_mistake_is_found_before_the_ledger_is_asked(site, arguments, said):
    with pytest.raises(InvalidInputError, match=said):
        await site.producer.enqueue(*arguments)
    assert site.steps == []


async def test_metadata_that_is_no_dict_is_named(site):
    with pytest.raises(InvalidInputError, match=r"metadata \['acme'\]"):
        await site.producer.enqueue("doc-1", NAMES, metadata=["acme"])


async def test_an_event_id_that_is_no_text_is_named(site):
    with pytest.raises(InvalidInputError, match="event_id 7"):
        await site.producer.enqueue("doc-1", NAMES, event_id=7)


async def test_only_who_declares_tasks_is_told_of_unknown_ones(site):
    assert (await site.producer.enqueue("doc-1", ["anything"])).sent == 1
    site.registry.add(lambda: None, name="known")
    with pytest.raises(UnknownTaskError, match="anything"):
        await site.producer.enqueue("doc-1", ["known", "anything"])
    assert site.names == ["anything"]


# Groups, options, parents.


async def test_the_group_is_the_tasks_own_or_the_applications_or_the_fan_outs(clock):
    own = Site(clock)
    of_app = Site(clock, group_by=lambda entity_id, _: f"app-{entity_id}")
    await own.producer.enqueue("doc-1", ["a", "b"])
    await of_app.producer.enqueue("doc-1", ["a", "b"])
    await of_app.producer.enqueue("doc-1", ["a", "b"], options=FanOutOptions(order_by="task"))
    await own.producer.enqueue("doc-1", ["a", "b"], options=FanOutOptions(order_by="entity"))
    await own.producer.enqueue("doc-1", ["a", "b"], options=FanOutOptions(order_by=lambda _, task: f"mine-{task}"))
    per_task = [ids.group_per_task("doc-1", name) for name in ("a", "b")]
    per_entity = [ids.group_per_entity("doc-1", name) for name in ("a", "b")]
    groups = [[message.group_id for message in messages] for messages in own.sends]
    assert groups == [per_task, per_entity, ["mine-a", "mine-b"]]
    assert [[message.group_id for message in messages] for messages in of_app.sends] == [["app-doc-1"] * 2, per_task]


async def test_options_are_recorded_with_the_plan(site):
    options = FanOutOptions(
        min_succeeded="50%", tolerated_failures=1, rest="run", deadline=60, order_by="entity", keep=9
    )
    await site.producer.enqueue("doc-1", ["a", "b", "c"], options=options)
    [plan] = site.plans
    assert (plan.min_succeeded, plan.tolerated_failures, plan.cancel_rest) == (2, 1, False)
    assert (plan.deadline, plan.order_by, plan.keep) == (60, "entity", 9)


async def test_a_function_that_names_groups_is_not_remembered_for_whoever_sends_again(site):
    await site.producer.enqueue("doc-1", NAMES, options=FanOutOptions(order_by=lambda entity, _: entity))
    assert site.plans[0].order_by is None


async def test_a_completion_that_is_its_next_stages_event_makes_one_however_often_it_runs(site):
    parent = fan_out(fan_out_id="p" * 32, generation=0)
    first = await site.producer.enqueue("doc-1", NAMES, parent=parent)
    again = await site.producer.enqueue("doc-1", NAMES, parent=parent)
    rerun = await site.producer.enqueue("doc-1", NAMES, parent=fan_out(fan_out_id="p" * 32, generation=1))
    assert first.fan_out_id == again.fan_out_id != rerun.fan_out_id
    assert {plan.parent for plan in site.plans} == {"p" * 32}


async def test_an_event_of_its_own_wins_over_the_parent(site):
    alone = await site.producer.enqueue("doc-1", NAMES, event_id="1")
    child = await site.producer.enqueue("doc-1", NAMES, event_id="1", parent=fan_out())
    assert alone.fan_out_id == child.fan_out_id


# Large plans.


LARGE = [f"page-{number}" for number in range(2 * A_PIECE + 500)]


async def test_a_large_plan_goes_out_piece_by_piece_in_order_after_it_is_sealed_whole(site):
    done = await site.producer.enqueue("doc-1", LARGE, event_id="1")
    assert site.steps == ["open", "send", "send", "send", "sent"]
    assert [len(messages) for messages in site.sends] == [A_PIECE, A_PIECE, 500]
    assert site.names == LARGE
    assert done.sent == len(LARGE)


async def test_where_a_piece_is_refused_it_names_that_and_all_that_wasnt_tried(site):
    site.refused = {LARGE[A_PIECE + 3]: AWAY}
    with pytest.raises(FanOutIncompleteError) as raised:
        await site.producer.enqueue("doc-1", LARGE, event_id="1")
    assert site.steps == ["open", "send", "send"]
    assert raised.value.unsent == (LARGE[A_PIECE + 3], *LARGE[2 * A_PIECE :])


async def test_a_mistake_in_the_last_piece_is_found_before_the_first_is_sent(site):
    with pytest.raises(InvalidInputError, match="can't be written as JSON"):
        await site.producer.enqueue("doc-1", [*LARGE, {"name": "last", "config": {"x": object()}}])
    assert site.steps == []


# Sending again, and folds.


def waiting(name, config=None, generation=0):
    return TaskRecord(task_name=name, task_config=config or {}, state=TaskState.PENDING, generation=generation)


async def test_what_waits_is_sent_again_with_the_ids_that_it_had(site):
    options = FanOutOptions(order_by="entity")
    done = await site.producer.enqueue("doc-1", NAMES, metadata={"k": 1}, event_id="1", options=options)
    unsent = Unsent(
        fan_out=fan_out(fan_out_id=done.fan_out_id), order_by="entity", tasks=[waiting("b"), waiting("c", {"page": 3})]
    )
    assert await site.producer.resend(unsent) == 2
    first, again = site.sends
    assert [(m.deduplication_id, m.group_id) for m in again] == [(m.deduplication_id, m.group_id) for m in first[1:]]
    assert site.bodies[-1]["task_config"] == {"page": 3}
    assert (site.bodies[-1]["metadata"], site.bodies[-1]["total_tasks"]) == ({"k": 1}, 3)
    assert site.steps[-2:] == ["send", "sent"]


async def test_what_is_refused_when_it_is_sent_again_is_named(site):
    site.refused = {"b": AWAY}
    with pytest.raises(FanOutIncompleteError, match="b") as raised:
        await site.producer.resend(Unsent(fan_out=fan_out(), order_by=None, tasks=[waiting("a"), waiting("b")]))
    assert raised.value.unsent == ("b",)
    assert site.steps == ["send"]


async def test_a_fold_is_sent_twice_under_one_id_and_in_a_group_of_its_own(clock):
    site = Site(clock, group_by=ids.group_per_entity)
    task = Task(entity_id="doc-1", task_name="c", metadata={"k": 1}, total_tasks=3, fan_out_id="f" * 32)
    for generation in (0, 0, 1):
        await site.producer.announce(task, generation)
    first, again, rerun = site.messages
    assert first.deduplication_id == again.deduplication_id != rerun.deduplication_id
    assert first.group_id != ids.group_per_entity("doc-1", "c")
    assert site.names == [FOLD_NAME] * 3
    assert [(body["metadata"], body["total_tasks"], body["generation"]) for body in site.bodies] == [
        ({"k": 1}, 3, 0),
        ({"k": 1}, 3, 0),
        ({"k": 1}, 3, 1),
    ]


async def test_a_fold_that_the_queue_refuses_is_named(site):
    site.refused = {FOLD_NAME: AWAY}
    with pytest.raises(FanOutIncompleteError, match=r"ServiceUnavailable.*fanfold\.fold"):
        await site.producer.announce(Task(entity_id="doc-1", task_name="c", fan_out_id="f" * 32), 0)
