from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import contextmanager

import pytest
import trustme

from endpoint_http import connected, request, serving, until_refused
from endpoint_requests import FakeEngine, application
from fanfold.endpoint import address, connections, server
from fanfold.errors import ConfigurationError
from fanfold.service import Deadline

LARGE = {"Messages": [{"Body": "x" * 1024 * 1024}] * 10}


class Polls:
    """An engine's long polls: each begins, and ends when it is told to."""

    def __init__(self):
        self.begun = asyncio.Event()
        self.over = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def __call__(self):
        self.begun.set()
        try:
            await self.over.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return {}


@pytest.fixture
def polls():
    return Polls()


async def test_a_connection_serves_one_request_after_the_other():
    async with serving(application()) as served, connected(served.port) as client:
        for _ in range(3):
            client.ask("ListQueues")
            assert (await client.answer()).status == 200


async def test_a_stop_answers_the_waiting_polls_and_takes_no_more_connections(polls):
    async with serving(application(FakeEngine(ReceiveMessage=polls)), end_polls=polls.over.set) as served:
        async with connected(served.port) as client:
            client.ask("ReceiveMessage")
            await polls.begun.wait()
            stopped = asyncio.ensure_future(served.stop())
            answer = await client.answer()
            assert (answer.status, answer.json, answer.headers["connection"]) == (200, {}, "close")
            await stopped
        await until_refused(served.port)


async def test_a_stop_lets_a_request_that_is_under_way_finish(polls):
    async with serving(application(FakeEngine(SendMessage=polls))) as served, connected(served.port) as client:
        client.ask("SendMessage")
        await polls.begun.wait()
        stopped = asyncio.ensure_future(served.stop())
        await until_refused(served.port)
        assert not stopped.done()
        polls.over.set()
        assert (await client.answer()).status == 200
        await stopped


async def test_a_second_signal_ends_what_is_under_way(polls):
    async with serving(application(FakeEngine(SendMessage=polls))) as served, connected(served.port) as client:
        client.ask("SendMessage")
        await polls.begun.wait()
        deadline = Deadline(1_000)
        stopped = asyncio.ensure_future(served.stop(deadline))
        await until_refused(served.port)
        deadline.bring_forward()
        await stopped
        polls.over.set()


async def test_a_poll_whose_client_leaves_is_cancelled(polls):
    async with serving(application(FakeEngine(ReceiveMessage=polls))) as served, connected(served.port) as client:
        client.ask("ReceiveMessage")
        await polls.begun.wait()
        client.leave()
        await polls.cancelled.wait()


@pytest.mark.parametrize("leave", ["close", "half-close"])
async def test_a_poll_whose_client_says_goodbye_is_cancelled_too(polls, leave):
    async with serving(application(FakeEngine(ReceiveMessage=polls))) as served, connected(served.port) as client:
        client.ask("ReceiveMessage")
        await polls.begun.wait()
        client.writer.close() if leave == "close" else client.writer.write_eof()
        await polls.cancelled.wait()


@pytest.mark.parametrize(
    "garbage", [b"\x00\xff" * 50, b"GET\r\n\r\n", b"GET http://[ HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00"]
)
async def test_what_is_no_http_is_told_so_and_harms_nobody_else(garbage):
    async with serving(application()) as served, connected(served.port) as good, connected(served.port) as bad:
        bad.say(garbage + b"\r\n\r\n")
        assert (await bad.end()).startswith(b"HTTP/1.1 400")
        good.ask("ListQueues")
        assert (await good.answer()).status == 200


async def test_headers_that_do_not_end_are_refused():
    async with serving(application()) as served, connected(served.port) as client:
        client.say(b"POST / HTTP/1.1\r\nX-Long: ")
        for _ in range(connections.MAX_HEAD // 1024 + 2):
            client.say(b"x" * 1024)
        assert (await client.end()).startswith(b"HTTP/1.1 431") or client.writer.is_closing()


async def test_many_requests_are_no_long_header():
    async with serving(application()) as served, connected(served.port) as client:
        for _ in range(3):
            client.ask("SendMessage", {"MessageBody": "x" * connections.MAX_HEAD})
            assert (await client.answer()).status == 200


async def test_a_large_body_is_not_asked_for():
    async with serving(application()) as served, connected(served.port) as client:
        client.say(
            b"POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: AmazonSQS.SendMessage\r\n"
            b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n"
        )
        assert (await client.answer()).status == 413
        assert await client.end() == b""


async def test_more_connections_than_there_may_be_are_sent_away(monkeypatch):
    monkeypatch.setattr(server, "_connections", lambda: 1)
    async with serving(application()) as served, connected(served.port) as first:
        first.ask("ListQueues")
        assert (await first.answer()).status == 200
        async with connected(served.port) as second:
            assert (await second.end()).startswith(b"HTTP/1.1 503")
        first.ask("ListQueues")
        assert (await first.answer()).status == 200


@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b"POST / HT",
        request("SendMessage")[:-1],
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    ],
    ids=["nothing", "half a line", "half a body", "half a chunk"],
)
async def test_a_request_that_does_not_come_is_not_waited_for_for_ever(monkeypatch, beginning):
    monkeypatch.setattr(connections, "READ_SECONDS", 0)
    async with serving(application()) as served, connected(served.port) as client:
        client.say(beginning)
        assert (await client.end())[:12] in (b"", b"HTTP/1.1 408")


async def test_line_ends_between_requests_do_not_keep_a_connection(monkeypatch):
    async with serving(application()) as served, connected(served.port) as client:
        client.ask("ListQueues")
        assert (await client.answer()).status == 200
        monkeypatch.setattr(connections, "READ_SECONDS", 0)
        client.say(b"\r\n\r\n")
        assert (await client.end()).startswith(b"HTTP/1.1 408")


async def test_a_poll_may_wait_for_longer_than_a_request_may_take_to_come(monkeypatch, polls):
    ticks = asyncio.Semaphore(0)
    monkeypatch.setattr(connections, "READ_SECONDS", 0)
    look = connections.Connection.close_if_late
    monkeypatch.setattr(connections.Connection, "close_if_late", lambda self, now: (look(self, now), ticks.release()))
    async with serving(application(FakeEngine(ReceiveMessage=polls))) as served, connected(served.port) as client:
        client.ask("ReceiveMessage")
        await polls.begun.wait()
        for _ in range(2):
            await ticks.acquire()
        polls.over.set()
        assert (await client.answer()).status == 200


async def test_a_client_that_does_not_take_its_answer_is_let_go(monkeypatch):
    monkeypatch.setattr(connections, "WRITE_SECONDS", 0)
    async with serving(application(FakeEngine(ReceiveMessage=LARGE))) as served:
        with slow(served.port) as kept:
            kept.sendall(request("ReceiveMessage"))
            lost = asyncio.Event()
            monkeypatch.setattr(connections.Connection, "connection_lost", told(lost))
            await lost.wait()


async def test_what_slow_clients_leave_untaken_is_bounded_and_keeps_nobody_else_from_small_requests():
    app = application(FakeEngine(ReceiveMessage=LARGE))
    async with serving(app) as served, connected(served.port) as other:
        whole = app.room._free
        with slow(served.port) as kept:
            kept.sendall(request("ReceiveMessage"))
            while app.room._free == whole:  # noqa: ASYNC110 - it rings no bell
                await asyncio.sleep(0)
            assert whole - app.room._free > 5_000_000
            app.room.owe(app.room._free)
            other.ask("ReceiveMessage")
            assert (await other.answer()).status == 503
            other.ask("SendMessage")
            assert (await other.answer()).status == 200
        while not app.room._free:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)
        other.ask("ReceiveMessage")
        assert (await other.answer()).status == 200


async def test_a_client_that_takes_its_answer_slowly_gets_all_of_it(monkeypatch):
    monkeypatch.setattr(connections, "WRITE_SECONDS", 0)
    monkeypatch.setattr(connections, "_LEAST_TAKEN", 1)
    monkeypatch.setattr(server, "_LOOK_SECONDS", 1e9)
    loop, looks, taken = asyncio.get_running_loop(), 0, 0
    async with serving(application(FakeEngine(ReceiveMessage=LARGE))) as served:
        with slow(served.port) as kept:
            kept.settimeout(0)
            kept.sendall(request("ReceiveMessage"))
            while taken < 10_000_000:
                part = await loop.sock_recv(kept, 1_000_000)
                assert part
                taken += len(part)
                for connection in served._connections.open:
                    if connection._transport.get_write_buffer_size() < connection._owed:
                        connection.close_if_late(loop.time())
                        looks += 1
    assert looks


@contextmanager
def slow(port):
    """A client that reads nothing by itself."""
    with socket.socket() as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        kept.connect(("127.0.0.1", port))
        yield kept


def told(event):
    """`connection_lost` that also sets `event`."""
    before = connections.Connection.connection_lost

    def connection_lost(self, error):
        before(self, error)
        event.set()

    return connection_lost


async def test_a_large_answer_reaches_a_client_that_takes_it():
    app = application(FakeEngine(ReceiveMessage=LARGE))
    async with serving(app) as served, connected(served.port, limit=2**25) as client:
        client.ask("ReceiveMessage")
        assert (await client.answer()).json == LARGE


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def certified(authority, tmp_path):
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    for blob in issued.cert_chain_pems:
        blob.write_to_path(tmp_path / "cert.pem", append=True)
    return {"certificate": str(tmp_path / "cert.pem"), "private_key": str(tmp_path / "key.pem")}


async def test_https_is_served_with_a_certificate(authority, certified):
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    engine = FakeEngine()
    async with serving(application(engine), **certified) as served:
        async with connected(served.port, ssl=trusting) as client:
            client.ask("ListQueues")
            assert (await client.answer()).status == 200
        async with connected(served.port) as plain:
            plain.ask("ListQueues")
            assert await plain.end() == b""
    assert [context.base_url for context in engine.contexts] == ["https://127.0.0.1"]


def test_files_that_are_no_certificate_are_named(tmp_path):
    (tmp_path / "cert.pem").write_text("nothing")
    with pytest.raises(ConfigurationError, match=r"--certificate .*cert\.pem"):
        server.HttpServer(None, [], end_polls=None, certificate=str(tmp_path / "cert.pem"), private_key=str(tmp_path))


async def test_a_port_that_is_taken_is_said():
    taken = address.bind(address.parse("127.0.0.1:0"))
    port = taken.getsockname()[1]
    with pytest.raises(ConfigurationError, match=rf"127\.0\.0\.1:{port}: Address already in use"):
        address.bind(address.Address("127.0.0.1", port))
    taken.close()


@pytest.mark.parametrize(
    ("text", "host", "port", "loopback"),
    [
        ("127.0.0.1:9324", "127.0.0.1", 9324, True),
        ("localhost:0", "localhost", 0, True),
        ("[::1]:9324", "::1", 9324, True),
        ("127.9.9.9:1", "127.9.9.9", 1, True),
        ("0.0.0.0:9324", "0.0.0.0", 9324, False),  # noqa: S104 - not bound to
        ("[::]:9324", "::", 9324, False),
        ("queue.internal:80", "queue.internal", 80, False),
        ("10.0.0.7:65535", "10.0.0.7", 65535, False),
    ],
)
def test_an_address_is_a_host_and_a_port(text, host, port, loopback):
    found = address.parse(text)
    assert (found.host, found.port, found.is_loopback, str(found)) == (host, port, loopback, text)


@pytest.mark.parametrize("text", ["", "9324", ":9324", "localhost", "localhost:", "a:b:1", "::1:93", "h:99999", "h:-1"])
def test_another_address_is_refused(text):
    with pytest.raises(ConfigurationError, match="write HOST:PORT"):
        address.parse(text)
