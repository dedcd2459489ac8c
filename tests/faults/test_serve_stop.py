"""`fanfold serve` is asked to stop: nobody is left without an answer, and nothing is lost."""

from __future__ import annotations

import asyncio
import signal

import pytest
from serving import entries, until_gone

from endpoint_http import until_refused


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
async def test_waiting_polls_are_answered_empty_and_the_exit_code_is_0(served, number):
    server = await served.serve()
    polling = [await served.client(server) for _ in range(20)]
    for client in polling:
        client.ask("ReceiveMessage", WaitTimeSeconds=20)
    await until_polls(served, server, 20)
    server.process.send_signal(number)
    answers = await asyncio.gather(*(client.answer() for client in polling))
    assert [(answer.status, answer.json) for answer in answers] == [(200, {})] * 20
    assert await asyncio.to_thread(server.finish) == ""
    assert server.process.returncode == 0


async def test_what_was_accepted_before_a_stop_is_there_after_it(served):
    server = await served.serve()
    accepted = []

    async def send_on():
        client = await served.client(server)
        for n in range(10_000):
            names = [f"{n}-{i}" for i in range(10)]
            answer = await client.call("SendMessageBatch", Entries=entries(names))
            accepted.extend(names[int(entry["Id"])] for entry in answer["Successful"])

    sending = asyncio.create_task(until_gone(send_on()))
    client = await served.client(server)
    while not await client.receive(1, wait=20):
        pass
    server.process.terminate()
    await sending
    await asyncio.to_thread(server.finish)
    assert server.process.returncode == 0

    client = await served.restarted()
    counts = (await client.call("GetQueueAttributes", AttributeNames=["All"]))["Attributes"]
    there = int(counts["ApproximateNumberOfMessages"]) + int(counts["ApproximateNumberOfMessagesNotVisible"])
    assert there >= len(accepted) > 0
    assert there - len(accepted) in (0, 10)  # the last request may have been done and not answered


async def test_a_second_signal_stops_at_once(served):
    server = await served.serve("--grace", "1000")
    client = await served.client(server)
    await client.call("GetQueueAttributes")
    client._connection.say(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nAction")  # and no more
    server.process.terminate()
    await until_refused(server.port)
    assert server.process.poll() is None
    server.process.terminate()
    await asyncio.to_thread(server.finish)
    assert server.process.returncode == 0


async def test_a_poll_whose_client_is_gone_takes_no_message_away(served):
    server = await served.serve()
    for _ in range(20):
        gone = await served.client(server)
        gone.ask("ReceiveMessage", WaitTimeSeconds=20)
        await until_polls(served, server, 1)
        gone.leave()
    client = await served.client(server)
    await client.send("a")
    [received] = await client.receive(wait=20)
    assert received["Attributes"]["ApproximateReceiveCount"] == "1"


async def until_polls(served, server, count):
    """Return when so many polls wait."""
    asking = await served.client(server)
    while (await asking.health())["polls"] != count:
        pass
    asking.leave()
