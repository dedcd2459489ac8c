"""Single connections and pools of them, against a server that answers by script."""

from __future__ import annotations

import asyncio
import gc

import pytest

from fanfold.brokers.connections import Connection, GarbledError, LostError
from fanfold.brokers.pool import Pool
from scripted import after, hang_up, reply, say, scripted, silence

REQUEST = b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\n{}"
PATIENCE = 60.0


async def connected(server):
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: Connection(loop), "127.0.0.1", server.port)
    return connection


async def asked(*script, patience=PATIENCE):
    """The answer to one request to a server with that script."""
    async with scripted(*script) as server:
        connection = await connected(server)
        try:
            return await connection.exchange(REQUEST, patience=patience), connection.usable
        finally:
            connection.close()


# --- answers


async def test_an_answer_has_a_status_headers_and_a_body():
    answer, usable = await asked(reply({"a": 1}, status="400 Bad Request", headers="X-Amzn-Query-Error: E;Sender\r\n"))
    assert (answer.status, answer.body, usable) == (400, b'{"a": 1}', True)
    assert answer.headers[b"x-amzn-query-error"] == b"E;Sender"


async def test_an_answer_may_come_byte_by_byte():
    whole = reply({"a": "x" * 50})
    answer, usable = await asked(say(*(whole[i : i + 1] for i in range(len(whole)))))
    assert (answer.body, usable) == (whole.partition(b"\r\n\r\n")[2], True)


async def test_a_chunked_answer_is_put_together():
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    answer, usable = await asked(say(head, b"3\r\n{}", b" \r\n5;x=y\r\n     \r\n", b"0\r\ntrailer: t\r\n\r\n"))
    assert (answer.body, usable) == (b"{}      ", True)


@pytest.mark.parametrize("announced", ["100 Continue", "103 Early Hints"])
async def test_an_announcement_of_the_answer_is_not_the_answer(announced):
    answer, usable = await asked(say(f"HTTP/1.1 {announced}\r\nlink: x\r\n\r\n".encode(), reply({"a": 1})))
    assert (answer.status, answer.body, usable) == (200, b'{"a": 1}', True)
    assert b"link" not in answer.headers


async def test_ten_messages_of_a_mebibyte_are_an_answer():
    body = b"x" * 10 * 2**20
    answer, usable = await asked(reply(body))
    assert (answer.body == body, usable) == (True, True)


async def test_an_answer_without_a_length_ends_with_the_connection():
    answer, usable = await asked(hang_up(b"HTTP/1.1 200 OK\r\n\r\n", b'{"a": 1}'))
    assert (answer.body, usable) == (b'{"a": 1}', False)


async def test_an_offer_of_another_protocol_is_not_taken():
    offer = "upgrade: h2c\r\nconnection: upgrade\r\n"
    answer, _ = await asked(reply({"a": 1}, headers=offer))
    assert (answer.status, answer.body) == (200, b'{"a": 1}')


async def test_an_empty_answer_is_one():
    answer, usable = await asked(reply(b""))
    assert (answer.body, usable) == (b"", True)


async def test_a_connection_that_the_server_does_not_keep_is_not_used_again():
    for head in (b"HTTP/1.1 200 OK\r\nconnection: close\r\n", b"HTTP/1.0 200 OK\r\n"):
        answer, usable = await asked(say(head + b"content-length: 2\r\n\r\n{}"))
        assert (answer.body, usable) == (b"{}", False)


# --- no answers


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
async def test_an_answer_that_is_cut_short_is_lost(said):
    with pytest.raises(LostError) as raised:
        await asked(hang_up(said))
    assert not raised.value.untouched


@pytest.mark.parametrize("reset", [False, True])
async def test_a_connection_that_ends_without_a_byte_is_lost_untouched(reset):
    with pytest.raises(LostError) as raised:
        await asked(hang_up(reset=reset))
    assert raised.value.untouched


@pytest.mark.parametrize(
    "said",
    [
        b"220 smtp.example.org ESMTP\r\n",
        b"\x15\x03\x01\x00\x02\x02",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnope\r\n",
    ],
)
async def test_garbage_is_no_answer(said):
    with pytest.raises(GarbledError):
        await asked(say(said))


async def test_an_answer_without_end_is_refused(monkeypatch):
    monkeypatch.setattr("fanfold.brokers.connections._LARGEST", 1000)
    with pytest.raises(GarbledError, match="1,000 bytes"):
        await asked(say(b"HTTP/1.1 200 OK\r\nx: ", *[b"y" * 100] * 20))


async def test_patience_ends_where_nothing_comes():
    with pytest.raises(TimeoutError):
        await asked(silence(), patience=0.01)


async def test_patience_ends_where_bytes_only_trickle():
    async def trickle(_, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x")
            await asyncio.sleep(0)

    with pytest.raises(TimeoutError):
        await asked(trickle, patience=0.01)


async def test_bytes_on_their_way_buy_patience(monkeypatch):
    monkeypatch.setattr("fanfold.brokers.connections._SLOWEST", 1)
    may_end = asyncio.Event()

    async def in_two_parts(_, writer):
        whole = reply(b"x" * 1000)
        writer.write(whole[:-1])
        await may_end.wait()
        writer.write(whole[-1:])

    async with scripted(in_two_parts) as server:
        connection = await connected(server)
        exchange = asyncio.create_task(connection.exchange(REQUEST, patience=0.0))
        loop = asyncio.get_running_loop()
        connection._until = loop.time()  # what the request's own bytes had bought is over
        while not connection._received:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
        connection._out_of_patience()
        assert not exchange.done()
        may_end.set()
        assert len((await exchange).body) == 1000
        connection.close()


async def test_an_exchange_on_a_closed_connection_is_lost_untouched():
    async with scripted() as server:
        connection = await connected(server)
        connection.close()
        for _ in range(2):
            with pytest.raises(LostError) as raised:
                await connection.exchange(REQUEST, patience=PATIENCE)
            assert raised.value.untouched


# --- what makes a connection unusable


async def test_a_second_answer_to_one_request_is_nobodys():
    answer, usable = await asked(say(reply({"n": 1}) + reply({"n": 2})))
    assert (answer.body, usable) == (b'{"n": 1}', False)


async def test_bytes_that_nobody_asked_for_end_a_connection():
    async with scripted() as server:
        connection = await connected(server)
        await connection.exchange(REQUEST, patience=PATIENCE)
        server.writers[0].write(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")
        while connection.usable:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)


async def test_a_caller_that_is_cancelled_takes_its_connection_along():
    begun = asyncio.Event()
    async with scripted(silence(begun)) as server:
        connection = await connected(server)
        exchange = asyncio.create_task(connection.exchange(REQUEST, patience=PATIENCE))
        await begun.wait()
        exchange.cancel()
        await asyncio.wait([exchange])
        assert (exchange.cancelled(), connection.usable) == (True, False)


# --- pools


@pytest.fixture
def pool_of():
    """A pool of connections to a server."""

    def made(server, **bounds):
        return Pool(lambda: connected(server), **bounds)

    return made


def ask(pool, *, poll=False):
    return pool.exchange(REQUEST, patience=PATIENCE, poll=poll)


async def test_a_connection_is_used_again(pool_of):
    async with scripted() as server:
        pool = pool_of(server)
        for _ in range(3):
            await ask(pool)
        pool.close()
    assert [request.connection for request in server.asked] == [1, 1, 1]


async def test_requests_side_by_side_have_a_connection_each(pool_of):
    together = asyncio.Barrier(3)

    async def answer_when_all_have_arrived(_, writer):
        await together.wait()
        writer.write(reply())

    async with scripted(*[answer_when_all_have_arrived] * 3) as server:
        pool = pool_of(server)
        await asyncio.gather(*(ask(pool) for _ in range(3)))
        await ask(pool)
        pool.close()
    assert server.connections == 3


async def test_there_are_no_more_connections_than_there_is_room(pool_of):
    async with scripted() as server:
        pool = pool_of(server, commands=2)
        await asyncio.gather(*(ask(pool) for _ in range(20)))
        pool.close()
    assert (server.connections, len(server.asked)) == (2, 20)


async def test_polls_leave_room_for_commands(pool_of):
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def poll(_, writer):
        begun.set()
        await may_end.wait()
        writer.write(reply())

    async with scripted(poll) as server:
        pool = pool_of(server, polls=1, commands=1)
        first, second = (asyncio.create_task(ask(pool, poll=True)) for _ in range(2))
        await begun.wait()
        await ask(pool)
        assert [first.done(), second.done()] == [False, False]
        may_end.set()
        await asyncio.gather(first, second)
        pool.close()


async def test_a_connection_that_the_server_closed_meanwhile_is_replaced(pool_of):
    async with scripted() as server:
        pool = pool_of(server)
        await ask(pool)
        await server.hang_up_idle()
        assert (await ask(pool)).status == 200
        pool.close()
    assert [request.connection for request in server.asked] == [1, 2]


async def test_a_request_that_met_its_connections_end_is_made_again_on_a_new_one(pool_of):
    """The server closes just when the request comes: nobody can tell whether it was read."""
    async with scripted(reply(), hang_up()) as server:
        pool = pool_of(server)
        await ask(pool)
        assert (await ask(pool)).status == 200
        pool.close()
    assert [request.connection for request in server.asked] == [1, 1, 2]


async def test_a_new_connection_that_is_lost_is_the_callers_business(pool_of):
    async with scripted(hang_up()) as server:
        with pytest.raises(LostError):
            await ask(pool_of(server))
    assert len(server.asked) == 1


async def test_an_answer_that_is_cut_short_is_the_callers_business(pool_of):
    async with scripted(reply(), hang_up(b"HTTP/1.1 200")) as server:
        pool = pool_of(server)
        await ask(pool)
        with pytest.raises(LostError):
            await ask(pool)
    assert len(server.asked) == 2


async def test_a_connection_that_was_idle_for_long_is_not_trusted(pool_of, monkeypatch):
    async with scripted() as server:
        pool = pool_of(server)
        await ask(pool)
        monkeypatch.setattr("fanfold.brokers.pool._KEPT_FOR", -1.0)
        await ask(pool)
        pool.close()
    assert server.connections == 2


async def test_a_closed_pool_closes_what_is_idle_now_and_the_rest_with_its_answer(pool_of):
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def late(request, writer):
        begun.set()
        await after(may_end, reply())(request, writer)

    async with scripted(reply(), late) as server:
        pool = pool_of(server)
        await ask(pool)
        under_way = asyncio.create_task(ask(pool))
        await begun.wait()
        pool.close()
        may_end.set()
        assert (await under_way).status == 200
        assert pool._kept == []
        await ask(pool)
        pool.close()
    assert [request.connection for request in server.asked] == [1, 1, 2]


async def test_connections_end_with_their_loop(pool_of):
    async with scripted() as server:

        async def main():
            pool = pool_of(server)
            await ask(pool)
            return pool

        pool = await asyncio.to_thread(lambda: asyncio.run(main()))
        assert pool._kept == []
    gc.collect()  # a transport that is still open would warn now, and warnings are errors
