"""`fanfold serve` is killed at any moment. What a client was told is accepted is still there, and still as it was."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from serving import entries, message, sequence_number, until_gone

SENDERS = 4


@pytest.mark.parametrize("answers", [1, 7, 40])
async def test_what_was_accepted_is_there_after_a_kill_once(served, answers):
    server = await served.serve()
    accepted, asked = set(), set()
    enough = asyncio.Event()

    async def sender(number):
        client = await served.client(server)
        for batch in itertools.count():
            names = [f"{number}-{batch}-{n}" for n in range(10)]
            asked.update(names)
            answer = await client.call("SendMessageBatch", Entries=entries(names, group=f"g{number}"))
            accepted.update(names[int(entry["Id"])] for entry in answer["Successful"])
            if len(accepted) >= 10 * answers:
                enough.set()

    senders = [asyncio.create_task(until_gone(sender(number))) for number in range(SENDERS)]
    await enough.wait()
    await asyncio.to_thread(server.kill)
    await asyncio.gather(*senders)

    client = await served.restarted()
    there = await client.drain()
    assert len(there) == len(set(there))
    assert accepted <= set(there) <= asked


async def test_a_send_that_was_not_answered_can_be_sent_again_and_is_there_once(served):
    server = await served.serve()
    client = await served.client(server)
    names = [str(n) for n in range(200)]
    for name in names:
        client.ask("SendMessage", **message(name))
    await client.answer()
    await asyncio.to_thread(server.kill)

    client = await served.restarted()
    for name in names:
        await client.send(name)
    assert sorted(await client.drain(), key=int) == names


async def test_deduplication_goes_on_after_a_kill(served):
    server = await served.serve()
    client = await served.client(server)
    first = await client.send("a")
    await client.drain()
    await asyncio.to_thread(server.kill)

    client = await served.restarted()
    again = await client.send("a")
    assert (again["MessageId"], again["SequenceNumber"]) == (first["MessageId"], first["SequenceNumber"])
    assert await client.drain() == []


async def test_leases_and_handles_go_on_after_a_kill(served):
    server = await served.serve()
    client = await served.client(server)
    for name in ("a", "b"):
        await client.send(name, group=name)
    held, given_back = sorted(await client.receive(), key=lambda received: received["Body"])
    await asyncio.to_thread(server.kill)

    client = await served.restarted()
    assert await client.receive() == []
    await client.delete(held)
    await client.call("ChangeMessageVisibility", ReceiptHandle=given_back["ReceiptHandle"], VisibilityTimeout=0)
    [back] = await client.receive()
    assert (back["Body"], back["Attributes"]["ApproximateReceiveCount"]) == ("b", "2")
    assert "has expired" in await client.refused("DeleteMessage", ReceiptHandle=given_back["ReceiptHandle"])


async def send_three(client, _held):
    await client.call("SendMessageBatch", Entries=entries(["1", "2", "3"]))


async def receive_two(client, held):
    held += await client.receive(2)


async def delete_one(client, held):
    await client.delete(held[0])


@pytest.mark.parametrize(
    ("steps", "counts"),
    [([send_three], (3, 0)), ([send_three, receive_two], (1, 2)), ([send_three, receive_two, delete_one], (1, 1))],
)
async def test_what_was_answered_in_the_very_moment_of_the_kill_holds(served, steps, counts):
    """What is deferred until the answer is out has had no time then."""
    held = []
    for step in steps:
        server = await served.serve()
        await step(await served.client(server), held)
        server.process.kill()  # at once: through a thread it would come too late
        await asyncio.to_thread(server.finish)

    client = await served.restarted()
    told = (await client.call("GetQueueAttributes", AttributeNames=["All"]))["Attributes"]
    assert tuple(int(told[f"ApproximateNumberOfMessages{kind}"]) for kind in ("", "NotVisible")) == counts
    await send_three(client, held)  # duplicates
    assert await client.drain() == ([] if held else ["1", "2", "3"])


async def test_a_group_stays_locked_over_a_kill(served):
    server = await served.serve()
    client = await served.client(server)
    for name in ("a", "b"):
        await client.send(name)
    [first] = await client.receive(1)
    await asyncio.to_thread(server.kill)

    client = await served.restarted()
    assert await client.receive() == []
    await client.delete(first)
    assert await client.drain() == ["b"]


async def test_sequence_numbers_grow_over_kills(served):
    numbers = []
    for round_ in range(3):
        server = await served.serve()
        client = await served.client(server)
        numbers += [int((await client.send(f"{round_}-{n}"))["SequenceNumber"]) for n in range(3)]
        await asyncio.to_thread(server.kill)
    assert numbers == sorted(set(numbers))
    received = await (await served.restarted()).receive()
    assert [sequence_number(one) for one in received] == numbers


@pytest.mark.parametrize("answers", [1, 5])
async def test_a_delete_that_was_answered_holds_and_one_that_was_not_can_be_repeated(served, answers):
    server = await served.serve()
    client = await served.client(server)
    await client.call("SendMessageBatch", Entries=entries(map(str, range(10))))
    held = await client.receive()
    for received in held:
        client.ask("DeleteMessage", ReceiptHandle=received["ReceiptHandle"])
    for _ in range(answers):
        assert (await client.answer()).status == 200
    await asyncio.to_thread(server.kill)

    client = await served.restarted()
    for received in held[answers:]:
        await client.delete(received)
    counts = await client.call("GetQueueAttributes", AttributeNames=["All"])
    assert counts["Attributes"]["ApproximateNumberOfMessages"] == "0"
    assert counts["Attributes"]["ApproximateNumberOfMessagesNotVisible"] == "0"


async def test_a_poll_that_died_with_its_server_has_taken_nothing(served):
    server = await served.serve()
    polling = await served.client(server)
    polling.ask("ReceiveMessage", WaitTimeSeconds=20)
    await asyncio.to_thread(server.kill)
    with pytest.raises(ConnectionError):
        await polling.answer()

    client = await served.restarted()
    await client.send("a")
    assert await client.drain() == ["a"]


async def test_another_servers_kill_is_not_noticed(served):
    one, other = await served.serve(), await served.serve()
    through_one, through_other = await served.client(one), await served.client(other)
    for name in ("a", "b"):
        await through_one.send(name, group=name)
    await through_other.send("c", group="c")
    await asyncio.to_thread(one.kill)
    assert sorted(await through_other.drain()) == ["a", "b", "c"]
