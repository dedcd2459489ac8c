"""What every broker promises: on the embedded engine, on moto's SQS, and on `fanfold serve`.

Moto's SQS is wrong about expired handles and deduplication after delete: it isn't asked about those.
"""

from __future__ import annotations

import asyncio

import pytest

from fanfold.brokers.protocol import Burial
from fanfold.brokers.sqlite import SqliteBroker
from fanfold.brokers.sqs import SqsBroker
from fanfold.errors import BrokerError
from fanfold.model import Failure, Message, QueueStatus

FAILURE = Failure(type="LookupError", message="no such page", traceback="Traceback …")


def message(number: int, group: str | None = None, body: str | None = None) -> Message:
    return Message(
        body=body or f'{{"entity_id": "doc-1", "task_name": "t{number}"}}',
        group_id=group or f"doc-1-t{number}",
        deduplication_id=f"doc-1-t{number}",
        attributes={"entity_id": "doc-1", "task_name": f"t{number}"},
    )


def make_broker(kind, request, tmp_path):
    if kind == "sqlite":
        return SqliteBroker(f"sqlite:///{tmp_path}/tasks.db")
    server, transport = kind.split(" on ")
    url, _ = request.getfixturevalue(f"{server}_queue")
    return SqsBroker(url, client=request.getfixturevalue(f"{server}_client") if transport == "boto3" else None)


async def opened(made):
    await made.open()
    yield made
    await made.close()


STRICT = ["sqlite", "served on boto3", "served on the lean transport"]


@pytest.fixture(params=[*STRICT, "sqs on boto3", "sqs on the lean transport"])
async def broker(request, tmp_path):
    async for made in opened(make_broker(request.param, request, tmp_path)):
        yield made


@pytest.fixture(params=STRICT)
async def strict(request, tmp_path):
    async for made in opened(make_broker(request.param, request, tmp_path)):
        yield made


@pytest.fixture
async def embedded(tmp_path):
    async for made in opened(make_broker("sqlite", None, tmp_path)):
        yield made


async def received(broker, count):
    found = []
    while len(found) < count and (batch := await broker.receive(10, wait=0, lease=60)):
        found += batch
    return found


async def test_a_message_comes_as_it_was_sent(broker):
    [result] = await broker.send([message(1)])
    [delivery] = await broker.receive(10, wait=0, lease=60)
    assert delivery.message_id == result.message_id
    assert delivery.body == message(1).body
    assert (delivery.group_id, delivery.deduplication_id) == ("doc-1-t1", "doc-1-t1")
    assert delivery.attributes == {"entity_id": "doc-1", "task_name": "t1"}
    assert delivery.receive_count == 1


async def test_any_number_of_messages_is_sent_and_each_has_its_answer(broker):
    results = await broker.send([message(n) for n in range(23)])
    assert len({result.message_id for result in results}) == 23
    assert len(await received(broker, 23)) == 23


async def test_an_empty_queue_answers_with_nothing(broker):
    assert await broker.receive(10, wait=0, lease=60) == []


async def test_empty_batches_ask_for_nothing(broker):
    assert await broker.send([]) == []
    assert await broker.delete([]) == []
    assert await broker.extend([], []) == []
    assert await broker.dead_letter([]) == []


async def test_messages_of_one_group_come_in_order(broker):
    await broker.send([message(n, group="g") for n in range(5)])
    deliveries = await broker.receive(10, wait=0, lease=60)
    assert [d.body for d in deliveries] == [message(n).body for n in range(5)]


async def test_a_group_waits_while_a_message_of_it_is_held_and_others_flow(broker):
    await broker.send([message(1, group="g"), message(2, group="g"), message(3, group="other")])
    [first] = await broker.receive(1, wait=0, lease=60)
    [other] = await broker.receive(10, wait=0, lease=60)
    assert (first.group_id, other.group_id) == ("g", "other")
    await broker.delete([first])
    [second] = await broker.receive(10, wait=0, lease=60)
    assert second.body == message(2).body


async def test_a_released_message_is_back_at_once(broker):
    await broker.send([message(1)])
    [first] = await broker.receive(10, wait=0, lease=60)
    assert await broker.extend([first], [0]) == [None]
    [second] = await broker.receive(10, wait=0, lease=60)
    assert second.receive_count == 2
    assert second.receipt_handle != first.receipt_handle


async def test_a_deleted_message_is_gone(broker):
    await broker.send([message(n) for n in range(12)])
    deliveries = await received(broker, 12)
    assert await broker.delete(deliveries) == [None] * 12
    assert await broker.status() == QueueStatus(messages_available=0, messages_in_flight=0, messages_delayed=0)


async def test_the_counts_tell_held_from_available(broker):
    await broker.send([message(n) for n in range(3)])
    await broker.receive(1, wait=0, lease=60)
    counts = await broker.status()
    assert (counts.messages_available, counts.messages_in_flight) == (2, 1)


async def test_a_dead_letter_carries_its_reason_and_looking_takes_nothing_away(broker):
    await broker.send([message(1)])
    [delivery] = await broker.receive(10, wait=0, lease=60)
    assert await broker.dead_letter([Burial(delivery=delivery, failure=FAILURE, attempts=3)]) == [None]
    assert (await broker.status()).messages_in_flight == 0
    for _ in range(2):
        [letter] = await broker.dead_letters(10)
        assert (letter.reason, letter.error_type) == ("LookupError: no such page", "LookupError")
        assert letter.task.task_name == "t1"


async def test_an_unreadable_dead_letter_blinds_nobody(broker):
    await broker.send([message(1, body="not json"), message(2)])
    deliveries = await received(broker, 2)
    await broker.dead_letter([Burial(delivery=d, failure=FAILURE, attempts=1) for d in deliveries])
    letters = await broker.dead_letters(10)
    assert sorted(letter.task.task_name if letter.task else "-" for letter in letters) == ["-", "t2"]


async def test_held_dead_letters_are_invisible_to_others(broker):
    await broker.send([message(1)])
    [delivery] = await broker.receive(10, wait=0, lease=60)
    await broker.dead_letter([Burial(delivery=delivery, failure=FAILURE, attempts=1)])
    [held] = await broker.dead_letters(10, hold=30)
    assert held.receipt_handle
    assert await broker.dead_letters(10, hold=30) == []


async def test_dead_letters_of_one_group_hide_none_of_each_other(broker):
    await broker.send([message(n, group="g") for n in range(23)])
    for _ in range(3):
        burials = [Burial(delivery=d, failure=FAILURE, attempts=1) for d in await broker.receive(10, wait=0, lease=60)]
        assert await broker.dead_letter(burials) == [None] * len(burials)
    letters = await broker.dead_letters(100)
    assert sorted(letter.task.task_name for letter in letters) == sorted(f"t{n}" for n in range(23))
    assert {letter.group_id for letter in letters} == {"g"}
    assert len(await broker.dead_letters(7)) == 7


async def test_the_dead_letter_queue_is_a_queue_of_its_own(broker):
    dead = broker.dead_letter_queue()
    await dead.send([message(1)])
    assert (await broker.status()).messages_available == 0
    assert (await dead.status()).messages_available == 1
    [delivery] = await dead.receive(10, wait=0, lease=60)
    assert await dead.delete([delivery]) == [None]
    assert await broker.dead_letters(10) == []


async def test_a_queue_is_read_without_receiving_page_by_page_or_not_at_all(broker):
    await broker.send([message(n, group=f"g{n % 3}") for n in range(7)])
    page, seen = await broker.peek(3), []
    while page:
        seen += page
        page = await broker.peek(3, after=page[-1])
    if page is not None:  # Amazon SQS shows nothing that isn't received
        assert sorted(delivery.body for delivery in seen) == sorted(message(n).body for n in range(7))
        assert {delivery.receive_count for delivery in seen} == {0}
    assert len(await received(broker, 7)) == 7


async def test_a_refused_message_is_its_own_entrys_error(strict):
    bad = Message(body="x", group_id="with space", deduplication_id="d")
    good, refused = await strict.send([message(1), bad])
    assert good.error is None
    assert "MessageGroupId" in refused.error.text


async def test_a_duplicate_is_accepted_with_the_first_ones_id_and_not_delivered(strict):
    [first] = await strict.send([message(1)])
    [delivery] = await strict.receive(10, wait=0, lease=60)
    await strict.delete([delivery])
    [second] = await strict.send([message(1)])
    assert second.message_id == first.message_id
    assert await strict.receive(10, wait=0, lease=60) == []


async def test_the_embedded_queue_says_that_a_message_was_a_duplicate(embedded):
    assert [r.duplicate for r in await embedded.send([message(1), message(1)])] == [False, True]


async def test_a_stale_handle_has_lost_its_lease(strict):
    await strict.send([message(1)])
    [stale] = await strict.receive(10, wait=0, lease=60)
    await strict.extend([stale], [0])
    [_] = await strict.receive(10, wait=0, lease=60)
    for [error] in (
        await strict.delete([stale]),
        await strict.extend([stale], [60]),
        await strict.dead_letter([Burial(delivery=stale, failure=FAILURE, attempts=1)]),
    ):
        assert error.lease_lost


async def test_the_embedded_queue_buries_nothing_by_a_stale_handle(embedded):
    await embedded.send([message(1)])
    [stale] = await embedded.receive(10, wait=0, lease=60)
    await embedded.extend([stale], [0])
    await embedded.dead_letter([Burial(delivery=stale, failure=FAILURE, attempts=1)])
    assert await embedded.dead_letters(10) == []


async def test_closing_twice_is_closing_once(broker):
    await broker.close()
    await broker.close()
    await broker.open()


async def test_a_broker_serves_several_event_loops(broker):
    await asyncio.to_thread(lambda: asyncio.run(broker.send([message(1)])))
    [delivery] = await broker.receive(10, wait=0, lease=60)
    assert await asyncio.to_thread(lambda: asyncio.run(broker.delete([delivery]))) == [None]


@pytest.mark.parametrize("lean", [False, True])
async def test_a_queue_that_is_not_there_says_so(sqs_client, sqs_endpoint, lean):
    broker = SqsBroker(f"{sqs_endpoint}/123456789012/nowhere.fifo", client=None if lean else sqs_client)
    with pytest.raises(BrokerError, match=r"nowhere\.fifo doesn't exist"):
        await broker.open()
    await broker.close()
