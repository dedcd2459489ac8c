"""Several servers on one file are one queue."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import pytest
from serving import entries, sequence_number

GROUPS = [f"g{n}" for n in range(6)]
A_GROUP = 20


@pytest.fixture
async def both(served):
    return [await served.restarted() for _ in range(2)]


async def test_a_poll_at_one_server_wakes_on_a_send_to_the_other(both):
    here, there = both
    here.ask("ReceiveMessage", WaitTimeSeconds=20)
    await there.send("a")
    answer = await here.answer()
    assert [received["Body"] for received in answer.json["Messages"]] == ["a"]


async def test_a_message_is_received_at_one_of_them_only_and_deleted_at_either(both):
    here, there = both
    await here.send("a")
    [received] = await here.receive()
    assert await there.receive() == []
    await there.delete(received)
    assert await here.drain() == await there.drain() == []


async def test_a_duplicate_is_one_at_the_other_server_too(both):
    here, there = both
    assert (await here.send("a"))["MessageId"] == (await there.send("a"))["MessageId"]
    assert await here.drain() == ["a"]
    assert await there.drain() == []


async def test_a_poll_wakes_on_the_delete_at_the_other_server_that_unblocks_its_group(both):
    here, there = both
    await here.call("SendMessageBatch", Entries=entries(["a", "b"]))
    [first] = await there.receive(1)
    here.ask("ReceiveMessage", WaitTimeSeconds=20)
    await there.delete(first)
    answer = await here.answer()
    assert [received["Body"] for received in answer.json["Messages"]] == ["b"]


async def test_producers_and_consumers_at_two_servers_keep_every_groups_order(served, rng):
    servers = [await served.serve() for _ in range(2)]
    history = History()
    producers = [produce(await served.client(servers[n % 2]), group, history) for n, group in enumerate(GROUPS)]
    consumers = [consume(await served.client(servers[n % 2]), history, rng) for n in range(6)]
    await asyncio.gather(*producers, *consumers)
    history.check()


async def produce(client, group, history):
    """Send a group's messages in order, three a request."""
    for start in range(0, A_GROUP, 3):
        names = [f"{group}/{n}" for n in range(start, min(start + 3, A_GROUP))]
        answer = await client.call("SendMessageBatch", Entries=entries(names, group=group))
        history.sent[group] += sorted((int(e["SequenceNumber"]), names[int(e["Id"])]) for e in answer["Successful"])


async def consume(client, history, rng):
    """Receive some messages; now and then give them back, else delete them, one by one."""
    while not history.all_done:
        batch = await client.receive(rng.randint(1, 5), wait=1)
        history.receives(batch)
        if rng.random() < 0.2:
            await give_back(client, batch, history)
            continue
        for received in batch:
            history.deletes(received)
            await client.delete(received)


async def give_back(client, batch, history):
    """The last one first: where the head of a group goes back, the next receive may have it."""
    for received in reversed(batch):
        history.gives_back(received)
        handle = received["ReceiptHandle"]
        await client.call("ChangeMessageVisibility", ReceiptHandle=handle, VisibilityTimeout=0)


class History:
    """What happened, in an order that is true: a hold ends before its last delete is asked for."""

    def __init__(self):
        self.sent = defaultdict(list)
        self.done = defaultdict(list)
        self.held = defaultdict(list)
        self.faults = []

    @property
    def all_done(self):
        return sum(map(len, self.done.values())) == len(GROUPS) * A_GROUP

    def receives(self, batch):
        for group in {group_of(received) for received in batch}:
            if self.held[group]:
                self.faults.append(f"{group} was handed out while {self.held[group]} of it were held")
        for received in batch:
            self.held[group_of(received)].append(received["Body"])

    def deletes(self, received):
        self.held[group_of(received)].remove(received["Body"])
        self.done[group_of(received)].append((sequence_number(received), received["Body"]))

    def gives_back(self, received):
        self.held[group_of(received)].remove(received["Body"])

    def check(self):
        assert self.faults == []
        for group in GROUPS:
            assert self.done[group] == self.sent[group]
            assert [name for _, name in self.done[group]] == [f"{group}/{n}" for n in range(A_GROUP)]


def group_of(received):
    return received["Attributes"]["MessageGroupId"]
