"""Dead letters on the embedded queue with its ledger, and on moto's SQS without one."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from fanfold import Fanfold, Reject, codec, ids
from fanfold.brokers.browsing import Browse
from fanfold.brokers.protocol import Burial
from fanfold.dead_letters import desk, lines
from fanfold.dead_letters.desk import DeadLetters
from fanfold.dead_letters.redriven import with_values
from fanfold.dead_letters.selection import Selection, count_by
from fanfold.dead_letters.tally import Tally
from fanfold.errors import InvalidInputError
from fanfold.model import FOLD_NAME, DeadLetter, EntryError, Failure, Message, SendResult, Task, TaskState
from fanfold.telemetry import Telemetry
from fanfold.testing import START, FakeClock, drain_async

ALL = Selection()


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
async def app(tmp_path, clock):
    """An application whose tasks fail until `app.mended` says otherwise."""
    async with Fanfold(f"sqlite:///{tmp_path}/tasks.db", clock=clock, max_attempts=2) as made:
        made.mended, made.fails, made.folds, made.configs = False, False, [], []

        @made.task("roof")
        async def roof(task_config):
            made.configs.append(task_config)
            if not made.mended:
                raise LookupError("no roof")
            return "gable"

        @made.task("words")
        async def words(entity_id):
            if not made.mended:
                raise Reject(f"nothing is written in {entity_id}")
            return 42

        @made.on_complete
        async def fold(fan_out):
            if made.fails:
                raise Reject("nobody wants to know")
            made.folds.append((fan_out.entity_id, fan_out.generation, fan_out.results, sorted(fan_out.failures)))

        yield made


async def dead(app, *entities, tasks=("roof", "words")):
    """Enqueue the tasks for each entity and let them die."""
    for entity in entities:
        await app.enqueue_async(entity, list(tasks), metadata={"tenant": entity[:1]}, event_id="1")
    await drain_async(app)


async def found(app, **selection):
    return (await app.dead_letters.find_async(Selection(**selection))).letters


async def redrive(app, selection=ALL, **options):
    return await app.dead_letters.redrive_async(selection, **options)


# --- looking


async def test_a_letter_tells_all_that_is_known_of_it(app):
    await dead(app, "doc-1", tasks=["roof"])
    [letter] = await found(app)
    assert (letter.task.entity_id, letter.task.task_name, letter.task.metadata) == ("doc-1", "roof", {"tenant": "d"})
    assert (letter.reason, letter.error_type, letter.attempts) == ("LookupError: no roof", "LookupError", 2)
    assert 'raise LookupError("no roof")' in letter.traceback
    assert letter.enqueued_at == START
    assert letter.set_aside_at >= START
    assert letter.worker.count(":") == 2
    assert (letter.group_id, letter.state) == ("doc-1-roof", TaskState.DEAD)


async def test_of_what_the_queue_moved_itself_the_ledger_tells_what_it_knows(app):
    await app.enqueue_async("doc-1", ["roof"], event_id="1")
    parts = await app._open()
    for _ in range(100):
        [delivery] = await parts.broker.receive(10, wait=0, lease=0)
    assert await parts.broker.receive(10, wait=0, lease=0) == []
    [letter] = await found(app)
    assert (letter.message_id, letter.error_type, letter.state) == (
        delivery.message_id,
        "MovedByQueue",
        TaskState.PENDING,
    )
    assert "after 100 receives" in letter.reason


async def test_letters_are_chosen_by_any_of_their_traits_and_all_must_hold(app, clock):
    await dead(app, "doc-1", "pic-1")
    clock.advance(3600)
    await dead(app, "doc-2")
    assert len(await found(app)) == 6
    assert len(await found(app, tasks=["roof"])) == 3
    assert len(await found(app, errors=["Lookup*"])) == 3
    assert len(await found(app, entity="doc-*")) == 4
    assert len(await found(app, entity="doc-*", tasks=["words"], since=START + 3600)) == 1
    assert len(await found(app, metadata={"tenant": "p"})) == 2
    assert len(await found(app, limit=4)) == 4
    [one] = await found(app, limit=1)
    assert await found(app, ids={one.message_id}) == [one]
    assert await found(app, id_prefixes=[one.message_id[:12]]) == [one]
    assert await found(app, tasks=["nobody"]) == []


async def test_letters_are_counted_by_trait(app):
    await dead(app, "doc-1", "pic-1", "pic-2", tasks=["words"])
    letters = await found(app)
    assert count_by(letters, "error") == [("Reject", 3)]
    assert count_by(letters, "metadata.tenant") == [("p", 2), ("d", 1)]
    assert sorted(count_by(letters, "entity")) == [("doc-1", 1), ("pic-1", 1), ("pic-2", 1)]
    assert count_by(letters, "tenant") == count_by(letters, "metadata.tenant")
    with pytest.raises(InvalidInputError, match=r"metadata\.KEY"):
        count_by(letters, "colour")


async def test_a_look_changes_nothing_and_sees_every_page(app):
    broker = await app.broker()
    await broker.dead_letter_queue().send(
        [Message(body=f"{n}", group_id="one", deduplication_id=f"d{n}") for n in range(1_203)]
    )
    for _ in range(2):
        looked = await app.dead_letters.find_async()
        assert (len({letter.body for letter in looked.letters}), looked.hidden) == (1_203, 0)


async def test_what_somebody_else_holds_or_a_group_hides_is_counted(app):
    queue = (await app.broker()).dead_letter_queue()
    await queue.send([Message(body="x", group_id="one", deduplication_id=f"d{n}") for n in range(12)])
    assert len(await queue.receive(10, wait=0, lease=60)) == 10
    assert await app.dead_letters.drop_async(ALL) == Tally(hidden=12)


async def test_nothing_is_put_back_while_letters_are_hidden_that_it_might_double(app, monkeypatch):
    await dead(app, "doc-1")
    exported = await app.dead_letters.export_async()
    await app.dead_letters.drop_async(ALL)

    monkeypatch.setattr(Browse, "hidden", property(lambda _: 2))
    with pytest.raises(InvalidInputError, match=r"2 dead letter.* can't be seen just now"):
        await app.dead_letters.put_async(exported)
    assert await found(app) == []


# --- sending back


async def test_what_is_sent_back_runs_again_with_all_its_attempts_and_is_folded_anew(app):
    await dead(app, "doc-1")
    app.mended = True
    assert await redrive(app) == Tally(done=2)
    assert await found(app) == []
    [fan_out] = await drain_async(app)
    assert fan_out.results == {"roof": "gable", "words": 42}
    assert [task.attempts for task in fan_out.tasks] == [1, 1]
    assert app.folds == [
        ("doc-1", 0, {}, ["roof", "words"]),
        ("doc-1", 1, {"roof": "gable", "words": 42}, []),
    ]


async def test_only_the_chosen_are_sent_back(app):
    await dead(app, "doc-1", "doc-2")
    app.mended = True
    assert await redrive(app, Selection(tasks=["roof"], entity="doc-2")) == Tally(done=1)
    assert len(await found(app)) == 3
    fan_outs = await drain_async(app)
    assert [fan_out.results for fan_out in fan_outs] == [{}, {"roof": "gable"}]
    assert list(fan_outs[1].failures) == ["words"]


async def test_a_letter_that_dies_again_can_be_sent_back_again_at_once(app):
    await dead(app, "doc-1", tasks=["roof"])
    for generation in (1, 2):
        assert await redrive(app) == Tally(done=1)
        await drain_async(app)
        [letter] = await found(app)
        assert letter.task.generation == generation
    assert [generation for _, generation, _, _ in app.folds] == [0, 1, 2]


async def test_an_edit_changes_what_the_task_sees(app):
    await dead(app, "doc-1", tasks=["roof"])
    app.mended = True
    await redrive(app, edit=with_values(["task_config.model.size=3", "task_config.name=big"]))
    [fan_out] = await drain_async(app)
    assert app.configs[-1] == {"model": {"size": 3}, "name": "big"}
    assert fan_out.results == {"roof": "gable"}


@pytest.mark.parametrize("text", ["task_config", "task_config=1", "entity_id.x=1", "task_config.=1", "x"])
def test_an_edit_that_names_nothing_to_edit_is_refused(text):
    with pytest.raises(InvalidInputError, match=r"task_config\.KEY=VALUE"):
        with_values([text])


async def test_an_unreadable_letter_goes_back_as_it_came_and_cant_be_edited(app):
    broker = await app.broker()
    await broker.dead_letter_queue().send([Message(body="no task", group_id="g", deduplication_id="d")])
    with pytest.raises(InvalidInputError, match="not a task"):
        await redrive(app, edit=with_values(["task_config.x=1"]))
    assert await redrive(app) == Tally(done=1)
    [delivery] = await broker.receive(10, wait=0, lease=60)
    assert (delivery.body, delivery.group_id) == ("no task", "g")


async def test_an_edit_that_cant_be_made_on_one_letter_sends_none_back(app, monkeypatch):
    monkeypatch.setattr(desk, "_PIECE", 1)
    await dead(app, *(f"doc-{n}" for n in range(5)))
    queue = (await app.broker()).dead_letter_queue()
    await queue.send([Message(body="no task", group_id="g", deduplication_id="d")])
    with pytest.raises(InvalidInputError, match="not a task"):
        await redrive(app, edit=with_values(["task_config.x=1"]))
    assert len(await found(app)) == 11
    assert (await (await app.broker()).status()).messages_available == 0
    assert len(await queue.receive(10, wait=0, lease=1)) == 10  # nobody holds them


class Late(Browse):
    """A look that shows some letters only to a long poll, as SQS may do it."""

    @classmethod
    def after(cls, count, *, before_late=None):
        """What shows `count` letters at once and the rest late; `before_late` is awaited in between."""
        return partial(cls, count, before_late)

    def __init__(self, count, before_late, queue, **options):
        super().__init__(queue, **options)
        self.count, self.before_late = count, before_late

    async def at_once(self):
        self._patience, self._limit = 0.0, self.count
        async for page in self._received():
            yield page
        self._limit = None

    async def late(self):
        if self.before_late is not None:
            await self.before_late()
        async for page in super().late():
            yield page


async def test_letters_that_only_a_long_poll_shows_are_chosen_too(app, monkeypatch):
    monkeypatch.setattr(desk, "Browse", Late.after(3))
    await dead(app, *(f"doc-{n}" for n in range(5)), tasks=["words"])
    assert await app.dead_letters.drop_async(Selection(limit=4)) == Tally(done=4)
    assert await app.dead_letters.drop_async(ALL) == Tally(done=1)


async def test_a_letter_that_was_sent_back_and_died_again_meanwhile_is_left_for_the_next_time(app, monkeypatch):
    await dead(app, *(f"doc-{n}" for n in range(4)), tasks=["words"])
    letters, sent_back = await found(app), asyncio.Event()
    queue = (await app.broker()).dead_letter_queue()
    emit = app.telemetry.emit

    def heard(event, **fields):
        emit(event, **fields)
        if event == "dead_letter.redriven":
            sent_back.set()

    async def dies_again():
        await sent_back.wait()
        await queue.send(
            [Message(body=one.body, group_id=one.group_id, deduplication_id="again") for one in letters[:1]]
        )

    monkeypatch.setattr(app.telemetry, "emit", heard)
    monkeypatch.setattr(desk, "Browse", Late.after(3, before_late=dies_again))
    assert await redrive(app) == Tally(done=4)
    [again] = await found(app)
    assert again.task == letters[0].task


async def test_a_letter_whose_task_succeeded_is_only_removed(app):
    await dead(app, "doc-1", tasks=["roof"])
    [letter] = await found(app)
    app.mended = True
    await redrive(app)
    await drain_async(app)
    await app.dead_letters.opened_async()
    await (
        (await app.broker())
        .dead_letter_queue()
        .send([Message(body=letter.body, group_id="again", deduplication_id="again")])
    )
    assert await redrive(app) == Tally(leftovers=1)
    assert await found(app) == []
    assert len(app.configs) == 3


async def test_a_message_that_is_refused_stays_a_letter_and_is_told(app, monkeypatch):
    await dead(app, "doc-1")
    broker, refused = await app.broker(), EntryError(code="QueueDoesNotExist", text="gone")

    async def refuse(messages):
        return [SendResult(error=refused) for _ in messages]

    monkeypatch.setattr(broker, "send", refuse)
    assert await redrive(app) == Tally(failed=2, errors=["QueueDoesNotExist: gone"])
    assert len(await found(app)) == 2
    assert len(await broker.dead_letter_queue().receive(10, wait=0, lease=1)) == 2  # nobody holds them


async def test_an_interrupted_redrive_ends_the_pieces_it_is_at_and_holds_nothing(app, monkeypatch):
    monkeypatch.setattr(desk, "_PIECE", 10)
    await dead(app, *(f"doc-{n}" for n in range(40)), tasks=["words"])
    broker, sending, going_on = await app.broker(), asyncio.Event(), asyncio.Event()
    send = broker.send

    async def slowly(messages):
        sending.set()
        await going_on.wait()
        return await send(messages)

    monkeypatch.setattr(broker, "send", slowly)
    tally = Tally()
    work = asyncio.create_task((await app.dead_letters.opened_async()).redrive(ALL, tally=tally))
    await sending.wait()
    work.cancel()
    await asyncio.sleep(0)
    going_on.set()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert (tally.done, len(await found(app))) == (30, 10)
    assert await redrive(app) == Tally(done=10)
    assert (await broker.status()).messages_available == 40


async def test_a_completion_that_died_is_sent_back_alone(app):
    app.fails = True
    await dead(app, "doc-1", tasks=["roof"])
    assert await redrive(app, Selection(tasks=[FOLD_NAME])) == Tally(done=1)
    app.fails = False
    [fan_out] = await drain_async(app)
    assert app.folds == [("doc-1", 1, {}, ["roof"])]
    assert (fan_out.fold_state, fan_out.tasks[0].state) == (TaskState.SUCCEEDED, TaskState.DEAD)
    [letter] = await found(app)
    assert letter.task.task_name == "roof"


async def test_a_completion_that_died_waits_for_the_tasks_that_are_sent_back_with_it(app):
    app.fails = True
    await dead(app, "doc-1", tasks=["roof"])
    app.fails, app.mended = False, True
    assert await redrive(app) == Tally(done=1, leftovers=1)
    await drain_async(app)
    assert app.folds == [("doc-1", 1, {"roof": "gable"}, [])]
    assert await found(app) == []


# --- dropping


async def test_a_dropped_letter_is_gone_and_its_task_stays_dead(app):
    await dead(app, "doc-1")
    assert await app.dead_letters.drop_async(Selection(tasks=["roof"])) == Tally(done=1)
    [letter] = await found(app)
    assert letter.task.task_name == "words"
    [fan_out] = await drain_async(app)
    assert sorted(fan_out.failures) == ["roof", "words"]
    assert len(app.folds) == 1


async def test_a_fan_out_whose_last_letter_is_dropped_before_the_ledger_knew_is_folded(app):
    await app.enqueue_async("doc-1", ["roof"], event_id="1")
    broker = await app.broker()
    for _ in range(101):
        await broker.receive(10, wait=0, lease=0)
    assert await app.dead_letters.drop_async(ALL) == Tally(done=1)
    [fan_out] = await drain_async(app)
    assert fan_out.failures["roof"].type == "MovedByQueue"
    assert app.folds == [("doc-1", 0, {}, ["roof"])]


# --- lines


async def test_exported_letters_can_be_put_back_once(app):
    await dead(app, "doc-1")
    before = sorted(await found(app), key=lambda letter: letter.body)
    exported = [lines.read(lines.write(letter), 1) for letter in before]
    assert [letter.body for letter in exported] == [letter.body for letter in before]
    opened = await app.dead_letters.opened_async()
    assert await opened.put(exported) == Tally(leftovers=2)
    await opened.drop(ALL)
    assert await opened.put(exported) == Tally(done=2)
    after = sorted(await found(app), key=lambda letter: letter.body)
    for told in ("reason", "error_type", "traceback", "attempts", "worker", "group_id", "source_message_id"):
        assert [getattr(letter, told) for letter in after] == [getattr(letter, told) for letter in before]
    app.mended = True
    assert await redrive(app) == Tally(done=2)
    [fan_out] = await drain_async(app)
    assert len(fan_out.results) == 2


async def test_letters_that_were_dropped_within_the_queues_five_minutes_are_put_back_again(app):
    await dead(app, "doc-1")
    opened = await app.dead_letters.opened_async()
    exported = (await opened.find()).letters
    for _ in range(3):
        assert await opened.drop(ALL) == Tally(done=2)
        assert await opened.put([*exported, exported[0]]) == Tally(done=2)  # one that is in the file twice is put once
        assert len(await found(app)) == 2


async def test_the_ledger_is_asked_only_of_letters_that_can_be_meant(app, monkeypatch):
    await dead(app, *(f"doc-{n}" for n in range(5)))
    ledger = (await app.dead_letters.opened_async())._ledger
    asked, get = [], ledger.get

    async def noted(fan_out_id):
        asked.append(fan_out_id)
        return await get(fan_out_id)

    monkeypatch.setattr(ledger, "get", noted)
    [letter] = await found(app, entity="doc-3", tasks=["words"])
    assert (letter.state, asked) == ("dead", [letter.task.fan_out_id])


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"message_id": 1, "body": ""}'])
def test_a_line_that_is_no_letter_is_named(text):
    with pytest.raises(InvalidInputError, match="line 7"):
        lines.read(text, 7)


def test_a_selection_of_none_is_refused():
    with pytest.raises(InvalidInputError, match="at least 1"):
        Selection(limit=0)


def test_an_unreadable_letter_has_no_traits_but_its_error():
    letter = DeadLetter(message_id="m", receipt_handle="", body="x", receive_count=1, error_type="MalformedMessage")
    assert Selection(errors=["Malformed*"]).takes(letter)
    assert not Selection(entity="*").takes(letter)
    assert not Selection(tasks=["*"]).takes(letter)
    assert not Selection(metadata={"tenant": "x"}).takes(letter)
    assert not Selection(since=0).takes(letter)


# --- Amazon SQS, without a ledger


async def set_aside(app, *messages):
    """Put messages into a queue, and bury them as a worker does."""
    broker = await app.broker()
    await broker.send(messages)
    while batch := await broker.receive(10, wait=0, lease=60):
        failure = Failure(type="LookupError", message="no roof")
        await broker.dead_letter([Burial(delivery=d, failure=failure, attempts=2) for d in batch])
    return broker, await app.dead_letters.opened_async()


async def test_all_of_them_are_moved_by_the_queue_itself(served_client, served_queue):
    async with Fanfold(served_queue[0], sqs_client=served_client) as app:
        tasks = [Task(entity_id=f"doc-{n}", task_name="roof", fan_out_id=f"f{n}") for n in range(12)]
        broker, opened = await set_aside(app, *(codec.encode(task) for task in tasks))
        assert await opened.move(await opened.find())
        back = []
        while len(back) < len(tasks):
            back += await broker.receive(10, wait=20, lease=60)
        assert sorted(codec.decode(d.body).entity_id for d in back) == sorted(task.entity_id for task in tasks)
        assert (await opened.find()).letters == []


async def test_the_queue_moves_nothing_itself_where_an_order_would_be_lost(served_client, served_queue):
    async with Fanfold(served_queue[0], sqs_client=served_client) as app:
        task = Task(entity_id="doc-1", task_name="roof", fan_out_id="f1")
        _, opened = await set_aside(app, codec.encode(task, group_by=ids.group_per_entity))
        assert not await opened.move(await opened.find())
        assert len((await opened.find()).letters) == 1


async def test_with_a_ledger_the_queue_moves_nothing_itself(app):
    await dead(app, "doc-1")
    opened = await app.dead_letters.opened_async()
    assert not await opened.move(await opened.find())


async def test_on_sqs_the_chosen_go_back_with_their_group_and_the_others_stay(sqs_client, sqs_queue):
    async with Fanfold(sqs_queue[0], sqs_client=sqs_client) as app:
        broker = await app.broker()
        tasks = [Task(entity_id=f"doc-{n}", task_name="roof", fan_out_id=f"f{n}") for n in range(23)]
        opened = DeadLetters(broker, None, announce=None, telemetry=Telemetry())
        await app.enqueue_async("pic-1", ["words"])
        for task in tasks:
            await app.enqueue_async(task.entity_id, [task.task_name], event_id="1")
        while batch := await broker.receive(10, wait=0, lease=60):
            failure = Failure(type="LookupError", message="no roof")
            await broker.dead_letter([Burial(delivery=d, failure=failure, attempts=2, worker="w1") for d in batch])
        looked = await opened.find(Selection(entity="doc-*"))
        assert (len(looked.letters), looked.hidden) == (23, 0)
        assert {letter.worker for letter in looked.letters} == {"w1"}
        assert await opened.redrive(Selection(entity="doc-*")) == Tally(done=23)
        [left] = (await opened.find()).letters
        assert left.task.entity_id == "pic-1"
        back = []
        while batch := await broker.receive(10, wait=0, lease=60):
            back += batch
        assert sorted(d.group_id for d in back) == sorted(f"doc-{n}-roof" for n in range(23))
        assert {d.deduplication_id[-2:] for d in back} == {"-1"}
        assert {tuple(d.attributes) for d in back} == {("entity_id", "task_name")}
