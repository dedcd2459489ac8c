from __future__ import annotations

import asyncio

import pytest

from endpoint_requests import FakeEngine
from fanfold.endpoint.polls import Client, ClientGoneError, Polls
from fanfold.endpoint.reading import ALL_BODIES, Room
from fanfold.engine.errors import SqsError
from fanfold.engine.service import CallContext

REQUEST = {"QueueUrl": "http://localhost/0/orders.fifo"}
MESSAGES = {"Messages": [{"ReceiptHandle": "h1"}, {"ReceiptHandle": "h2"}]}
CONTEXT = CallContext("http://localhost")


class Waiting:
    """A receive that waits until it is told what to answer."""

    def __init__(self):
        self.begun = asyncio.Event()
        self.answer = asyncio.get_running_loop().create_future()

    async def __call__(self):
        self.begun.set()
        return await self.answer


@pytest.fixture
async def waiting():
    return Waiting()


@pytest.fixture
def client():
    return Client()


@pytest.fixture
def engine(waiting):
    return FakeEngine(ReceiveMessage=waiting)


@pytest.fixture
def room():
    return Room()


@pytest.fixture
def polls(engine, room):
    return Polls(engine, room)


async def begun(polls, waiting, client):
    """A receive that waits."""
    poll = asyncio.ensure_future(polls.receive(REQUEST, CONTEXT, client))
    await waiting.begun.wait()
    return poll


async def test_a_receive_answers_what_the_engine_does(polls, waiting, client, engine):
    poll = await begun(polls, waiting, client)
    waiting.answer.set_result(MESSAGES)
    assert await poll == MESSAGES
    assert engine.calls == [("ReceiveMessage", REQUEST)]


async def test_where_there_is_no_room_for_an_answer_nothing_is_received(polls, waiting, client, engine, room):
    poll = await begun(polls, waiting, client)
    room.owe(ALL_BODIES)
    waiting.answer.set_result(MESSAGES)
    with pytest.raises(SqsError, match="try again") as raised:
        await poll
    assert (raised.value.shape, engine.given_back) == ("ServiceUnavailable", [(REQUEST["QueueUrl"], ["h1", "h2"])])
    with pytest.raises(SqsError, match="try again"):
        await polls.receive(REQUEST, CONTEXT, client)
    assert len(engine.calls) == 1


async def test_a_refusal_is_the_clients(polls, waiting, client):
    poll = await begun(polls, waiting, client)
    waiting.answer.set_exception(SqsError("OverLimit", "too many"))
    with pytest.raises(SqsError, match="too many"):
        await poll


async def test_a_client_that_goes_away_ends_its_receive(polls, waiting, client):
    poll = await begun(polls, waiting, client)
    client.leave()
    with pytest.raises(ClientGoneError):
        await poll
    assert waiting.answer.cancelled()


async def test_a_client_that_was_gone_before_its_receive_began_takes_nothing(polls, client, engine):
    client.leave()
    with pytest.raises(ClientGoneError):
        await polls.receive(REQUEST, CONTEXT, client)
    assert engine.calls == []


async def test_a_client_that_goes_away_after_its_receive_ends_nothing(polls, waiting, client):
    poll = await begun(polls, waiting, client)
    waiting.answer.set_result(MESSAGES)
    await poll
    client.leave()
    assert client.poll is None


async def test_a_server_that_ends_its_requests_ends_their_receives(polls, waiting, client):
    poll = await begun(polls, waiting, client)
    poll.cancel()
    with pytest.raises(asyncio.CancelledError):
        await poll
    assert waiting.answer.cancelled()


async def test_waiting_receives_are_counted(polls, waiting, client):
    assert polls.waiting == 0
    poll = await begun(polls, waiting, client)
    assert polls.waiting == 1
    waiting.answer.set_result({})
    await poll
    assert polls.waiting == 0
