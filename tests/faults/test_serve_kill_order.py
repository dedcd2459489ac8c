"""A server is killed under load: every group stays in its order, and nothing comes again whose delete was answered."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from serving import entries, sequence_number, until_gone

GROUPS = [f"g{n}" for n in range(8)]
A_GROUP = 15
LEASE = 3
"""Seconds after which comes back what died with the server's clients."""


class History:
    """What clients saw, in an order that is true: a delete is noted before it is asked for, a receive when it came."""

    def __init__(self):
        self.sent = defaultdict(list)
        self.asked = defaultdict(set)
        self.done = set()
        self.in_doubt = set()
        self.faults = []
        self.a_third = asyncio.Event()

    @property
    def over(self):
        return len(self.done | self.in_doubt) == len(GROUPS) * A_GROUP

    def receives(self, batch):
        """Whatever comes, those before it in its group were deleted, or come with it."""
        coming = defaultdict(list)
        for received in batch:
            group = received["Attributes"]["MessageGroupId"]
            coming[group].append(sequence_number(received))
            if received["Body"] in self.done:
                self.faults.append(f"{received['Body']} came though its delete was answered")
        for group, numbers in coming.items():
            before = {number for number, _ in self.sent[group] if number < numbers[-1]} - set(numbers)
            if numbers != sorted(numbers) or before - self.asked[group]:
                self.faults.append(f"{group}: {numbers} came before {sorted(before - self.asked[group])}")

    def asks(self, received):
        self.asked[received["Attributes"]["MessageGroupId"]].add(sequence_number(received))

    def answered(self, received):
        self.done.add(received["Body"])
        if len(self.done) >= len(GROUPS) * A_GROUP // 3:
            self.a_third.set()


async def produce(client, group, history):
    """Send a group's messages in order, some a request."""
    for start in range(0, A_GROUP, 4):
        names = [f"{group}/{n}" for n in range(start, min(start + 4, A_GROUP))]
        answer = await client.call("SendMessageBatch", Entries=entries(names, group=group))
        history.sent[group] += [(int(e["SequenceNumber"]), names[int(e["Id"])]) for e in answer["Successful"]]


async def consume(client, history):
    """Receive some, delete them one by one. A refused delete came after its lease: the message comes again."""
    while not history.over:
        batch = await client.receive(3, wait=1, lease=LEASE)
        history.receives(batch)
        for received in batch:
            history.asks(received)
            client.ask("DeleteMessage", ReceiptHandle=received["ReceiptHandle"])
            try:
                answer = await client.answer()
            except ConnectionError:
                history.in_doubt.add(received["Body"])
                raise
            if answer.status == 200:
                history.answered(received)


async def test_a_kill_under_load_keeps_every_groups_order_and_repeats_nothing_that_was_done(served):
    doomed, other = await served.serve(), await served.serve()
    history = History()
    unlucky = [asyncio.create_task(until_gone(consume(await served.client(doomed), history))) for _ in range(4)]
    others = [asyncio.create_task(consume(await served.client(other), history)) for _ in range(3)]
    producers = [produce(await served.client(other), group, history) for group in GROUPS]
    sending = asyncio.gather(*producers)
    await history.a_third.wait()
    await asyncio.to_thread(doomed.kill)
    await asyncio.gather(sending, *unlucky, *others)

    assert history.faults == []
    for group in GROUPS:
        assert [name for _, name in sorted(history.sent[group])] == [f"{group}/{n}" for n in range(A_GROUP)]
    client = await served.client(other)
    left = {received["Body"] for received in await client.receive()}
    assert left <= history.in_doubt
