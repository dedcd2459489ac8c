"""HTTP as clients speak it, and as those do who want two servers to read two different things."""

from __future__ import annotations

import asyncio
import json
from email.utils import parsedate_to_datetime

import pytest

from endpoint_http import connected, request, serving
from endpoint_requests import FakeEngine, application
from fanfold.endpoint import connections
from fanfold.endpoint.access import Key, Role, Signed
from fanfold.endpoint.reading import Room
from fanfold.testing import FakeClock

TARGET = b"X-Amz-Target: AmazonSQS.SendMessage\r\n"
HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\n" + TARGET
BODY = json.dumps({"MessageBody": "x" * 50}).encode()


def chunked(*parts, end=b"0\r\n\r\n"):
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + end


class Held:
    """An engine's action that waits until it is let go."""

    def __init__(self):
        self.begun = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self):
        self.begun.set()
        await self.go.wait()
        return {"MessageId": "held"}


async def test_requests_sent_in_one_go_are_answered_in_their_order():
    held = Held()
    engine = FakeEngine(SendMessage=held, ListQueues={"QueueUrls": ["listed"]})
    async with serving(application(engine)) as served, connected(served.port) as client:
        client.say(request("SendMessage") + request("ListQueues") + request("ListQueues"))
        await held.begun.wait()
        assert [action for action, _ in engine.calls] == ["SendMessage"]
        held.go.set()
        answers = [(await client.answer()).json for _ in range(3)]
    assert answers == [{"MessageId": "held"}, {"QueueUrls": ["listed"]}, {"QueueUrls": ["listed"]}]


async def test_what_comes_behind_a_request_that_is_worked_on_is_read_afterwards():
    held, engine = Held(), FakeEngine()
    engine.results["ReceiveMessage"] = held
    large = request("SendMessage", {"MessageBody": "x" * 1_000_000})
    async with serving(application(engine)) as served, connected(served.port) as client:
        client.say(request("ReceiveMessage") + large)
        await held.begun.wait()
        held.go.set()
        assert [(await client.answer()).status for _ in range(2)] == [200, 200]
    assert [action for action, _ in engine.calls] == ["ReceiveMessage", "SendMessage"]


async def test_of_many_requests_in_one_go_few_wait_in_memory_and_all_are_answered():
    held, begun = Held(), []
    app = application(FakeEngine(SendMessage=held))
    begin = app.begin
    app.begin = lambda head: begun.append(head) or begin(head)
    many, small = 5_000, b"GET /?Action=ListQueues HTTP/1.1\r\nHost: a\r\n\r\n"
    async with serving(app) as served, connected(served.port) as client:
        client.say(request("SendMessage") + small * many)
        await held.begun.wait()
        await asyncio.sleep(0)
        assert len(begun) < 200
        held.go.set()
        assert [(await client.answer()).status for _ in range(many + 1)] == [200] * (many + 1)


async def test_a_body_is_asked_for_where_the_client_waits_for_that():
    engine = FakeEngine()
    async with serving(application(engine)) as served, connected(served.port) as client:
        client.say(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY))
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.say(BODY)
        assert (await client.answer()).status == 200
    assert engine.calls == [("SendMessage", json.loads(BODY))]


async def test_a_body_may_come_in_chunks_and_what_follows_it_is_no_header():
    engine = FakeEngine()
    async with serving(application(engine)) as served, connected(served.port) as client:
        trailer = b"0\r\nX-Amz-Target: AmazonSQS.DeleteQueue\r\n\r\n"
        client.say(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(BODY[:7], BODY[7:], end=trailer))
        assert (await client.answer()).status == 200
    assert engine.calls == [("SendMessage", json.loads(BODY))]


async def test_a_header_is_the_same_however_it_is_spelled_and_one_that_comes_again_adds_to_the_first():
    app, heads = application(), []
    begin = app.begin
    app.begin = lambda head: heads.append(head) or begin(head)
    async with serving(app) as served, connected(served.port) as client:
        for name, again in [("X-Some", "x-some"), ("x-SOME", "X-Some"), ("X-Some", "X-Some")]:
            client.say(request("ListQueues", headers=f"{name}: Value\r\n{again}: \xe9\r\n"))
            await client.answer()
    assert [head.headers["x-some"] for head in heads] == ["Value,\xc3\xa9"] * 3


@pytest.mark.parametrize("end", [b"1\r\nx\r\n" * 30_000, b"0\r\n" + b"A: b\r\n" * 30_000], ids=["chunks", "trailers"])
async def test_what_frames_a_body_is_bounded(end):
    async with serving(application()) as served, connected(served.port) as client:
        client.say(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + end)
        assert (await client.end()).startswith(b"HTTP/1.1 431") or client.writer.is_closing()


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
        b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"Content-Length: +2\r\n\r\n{}",
        b"Content-Length: 2, 2\r\n\r\n{}",
        b"Content-Length : 2\r\n\r\n{}",
        b"Transfer-Encoding: gzip\r\n\r\n{}",
        b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n",
        b" folded\r\nContent-Length: 2\r\n\r\n{}",
        b"X-Null: a\0b\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
async def test_a_request_that_two_servers_could_read_in_two_ways_is_refused(framing):
    engine = FakeEngine()
    async with serving(application(engine)) as served, connected(served.port) as client:
        client.say(HEAD + framing)
        assert (await client.end()).startswith((b"HTTP/1.1 400", b"HTTP/1.1 413", b"HTTP/1.1 501"))
    assert engine.calls == []


UPGRADE = HEAD + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"


async def test_who_asks_for_another_protocol_is_answered_in_this_one():
    async with serving(application()) as served, connected(served.port) as client:
        client.say(UPGRADE + b"Content-Length: 0\r\n\r\n" + request("ListQueues"))
        assert [(await client.answer()).status for _ in range(2)] == [200, 200]


@pytest.mark.parametrize("framing", [b"Content-Length: 2\r\n\r\n{}", b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"])
async def test_who_asks_for_another_protocol_and_sends_a_body_is_refused(framing):
    engine = FakeEngine()
    async with serving(application(engine)) as served, connected(served.port) as client:
        client.say(UPGRADE + framing + request("ListQueues"))
        assert (await client.end()).startswith(b"HTTP/1.1 501")
    assert engine.calls == []


@pytest.mark.parametrize(
    ("line", "header", "kept"),
    [("1.1", "", True), ("1.1", "Connection: close\r\n", False), ("1.0", "", False),
     ("1.0", "Connection: keep-alive\r\n", False)],
)  # fmt: skip
async def test_a_connection_is_kept_where_the_client_wants_that(line, header, kept):
    async with serving(application()) as served, connected(served.port) as client:
        client.say(f"GET /?Action=ListQueues HTTP/{line}\r\nHost: localhost\r\n{header}\r\n".encode())
        answer = await client.answer()
        assert (answer.status, answer.headers.get("connection")) == (200, None if kept else "close")
        if not kept:
            assert await client.end() == b""


@pytest.mark.parametrize(
    ("line", "headers", "status"),
    [
        ("GET /health HTTP/1.1", "", 400),
        ("GET /health HTTP/1.0", "", 200),
        ("GET /health HTTP/2.0", "Host: localhost\r\n", 505),
        ("GET /health HTTP/1.1", "Host: localhost\r\n" + "".join(f"x{n}:\r\n" for n in range(127)), 200),
        ("GET /health HTTP/1.1", "Host: localhost\r\n" + "".join(f"x{n}:\r\n" for n in range(128)), 431),
    ],
    ids=["no host", "no host in 1.0", "another version", "many headers", "too many headers"],
)
async def test_a_head_that_is_not_proper_is_refused(line, headers, status):
    async with serving(application()) as served, connected(served.port) as client:
        client.say(f"{line}\r\n{headers}\r\n".encode())
        assert (await client.answer()).status == status


async def test_a_request_behind_another_is_not_done_without_the_headers_it_had_too_many_of():
    held = Held()
    engine = FakeEngine(ReceiveMessage=held)
    async with serving(application(engine)) as served, connected(served.port) as client:
        many = b"".join(b"x%d:\r\n" % n for n in range(200))
        client.say(request("ReceiveMessage") + HEAD + many + b"\r\n" + request("ListQueues"))
        await held.begun.wait()
        held.go.set()
        assert [(await client.answer()).status for _ in range(2)] == [200, 431]
        assert await client.end() == b""
    assert [action for action, _ in engine.calls] == ["ReceiveMessage"]


async def until(condition):
    while not condition():  # noqa: ASYNC110 - what is waited for rings no bell
        await asyncio.sleep(0)


async def test_large_heads_have_a_room_together():
    app = application()
    async with serving(app) as served, connected(served.port) as first, connected(served.port) as second:
        large = b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 50_000
        app.room = Room(connections.MAX_HEAD)
        first.say(large)
        await until(lambda: not app.room._free)
        second.say(large)
        assert (await second.answer()).status == 503
        first.say(b"\r\n\r\n")
        assert (await first.answer()).status == 200
        assert app.room._free == connections.MAX_HEAD


async def test_a_body_of_which_only_the_head_is_wanted_is_read_so_that_the_answer_arrives(monkeypatch):
    """A connection that is closed over unread bytes is reset, and what was written before with it."""
    monkeypatch.setattr(connections, "_LINGER_SECONDS", 1e9)
    async with serving(application()) as served, connected(served.port) as client:
        size = 20_000_000
        client.say(HEAD + b"Content-Length: %d\r\n\r\n" % size)
        for _ in range(20):
            client.say(b"x" * (size // 20))
            await client.writer.drain()
        assert (await client.answer()).status == 413
        assert await client.end() == b""


async def test_who_sends_without_end_behind_a_refusal_is_cut_off(monkeypatch):
    monkeypatch.setattr(connections, "_LINGER_BYTES", 100_000)
    async with serving(application()) as served, connected(served.port) as client:
        client.say(HEAD + b"Content-Length: 999999999\r\n\r\n")
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            await client.flood()


async def test_who_does_not_go_after_a_refusal_is_let_go(monkeypatch):
    monkeypatch.setattr(connections, "_LINGER_SECONDS", 0)
    monkeypatch.setattr("fanfold.endpoint.server._LOOK_SECONDS", 0.001)
    app = application()
    async with serving(app) as served, connected(served.port) as client:
        client.say(b"nonsense\r\n\r\n")
        assert (await client.end()).startswith(b"HTTP/1.1 400")
        await until(lambda: not served._connections.open)


async def test_who_says_no_more_still_gets_what_it_asked_for():
    held = Held()
    async with serving(application(FakeEngine(SendMessage=held))) as served, connected(served.port) as client:
        client.say(request("SendMessage"))
        await held.begun.wait()
        client.writer.write_eof()
        held.go.set()
        assert (await client.answer()).status == 200
        assert await client.end() == b""


@pytest.mark.parametrize("before", [b"", request("ListQueues")])
async def test_who_says_no_more_polls_no_longer(before):
    polling = Held()
    async with serving(application(FakeEngine(ReceiveMessage=polling))) as served, connected(served.port) as client:
        client.say(before + request("ReceiveMessage"))
        await polling.begun.wait()
        client.writer.write_eof()
        assert (await client.end()).count(b"HTTP/1.1 200") == bool(before)


async def test_a_body_is_asked_for_when_those_before_it_are_answered():
    held = Held()
    engine = FakeEngine(ListQueues=held)
    async with serving(application(engine)) as served, connected(served.port) as client:
        client.say(request("ListQueues") + HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY))
        await held.begun.wait()
        held.go.set()
        assert (await client.answer()).status == 200
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.say(BODY)
        assert (await client.answer()).status == 200


async def test_a_client_of_http_1_0_is_not_asked_for_a_body():
    async with serving(application()) as served, connected(served.port) as client:
        client.say(HEAD.replace(b"1.1", b"1.0") + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}")
        assert (await client.answer()).status == 200


async def test_an_answer_says_when_it_was_given_since_sdks_set_their_clocks_by_it():
    async with serving(application()) as served, connected(served.port) as client:
        client.ask("ListQueues")
        assert parsedate_to_datetime((await client.answer()).headers["date"]).tzinfo is not None


async def test_head_gets_no_body():
    async with serving(application()) as served, connected(served.port) as client:
        client.say(b"HEAD /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.ask("ListQueues")
        assert (await client.reader.readuntil(b"\r\n\r\n")).endswith(b"content-length: 2\r\n\r\n")
        assert (await client.answer()).status == 200


async def test_head_gets_no_body_though_another_request_has_come_meanwhile():
    async with serving(application()) as served, connected(served.port) as client:
        client.say(b"HEAD /health HTTP/1.1\r\nHost: localhost\r\n\r\n" + request("ListQueues"))
        assert (await client.reader.readuntil(b"\r\n\r\n")).endswith(b"content-length: 2\r\n\r\n")
        assert (await client.answer()).status == 200


async def test_what_came_before_garbage_is_answered():
    async with serving(application()) as served, connected(served.port) as client:
        client.say(request("ListQueues") + b"\0\0\0\r\n\r\n")
        assert [(await client.answer()).status for _ in range(2)] == [200, 400]
        assert await client.end() == b""


async def test_a_client_without_a_host_is_answered_with_the_servers_address():
    engine = FakeEngine()
    async with serving(application(engine)) as served, connected(served.port) as client:
        client.say(b"GET /?Action=ListQueues HTTP/1.0\r\n\r\n")
        assert (await client.answer()).status == 200
        assert engine.contexts[0].base_url == f"http://127.0.0.1:{served.port}"


async def test_a_target_may_be_a_whole_url():
    engine = FakeEngine()
    async with serving(application(engine)) as served, connected(served.port) as client:
        client.say(b"GET http://localhost:1/0/q?Action=PurgeQueue#x HTTP/1.1\r\nHost: localhost:1\r\n\r\n")
        assert (await client.answer()).status == 200
    assert engine.calls == [("PurgeQueue", {"QueueUrl": "http://localhost:1/0/q"})]


async def test_a_refused_body_is_read_over_and_the_connection_goes_on():
    guard = Signed([Key("AK", "0" * 40, Role.OPERATOR)], region="us-east-1", clock=FakeClock())
    async with serving(application(guard=guard)) as served, connected(served.port) as client:
        for _ in range(2):
            client.say(HEAD + b"Content-Length: 100000\r\n\r\n" + b"x" * 50_000)
            assert (await client.answer()).status == 403
            client.say(b"x" * 50_000)


async def test_a_refused_client_that_waits_to_send_its_body_is_let_go():
    guard = Signed([Key("AK", "0" * 40, Role.OPERATOR)], region="us-east-1", clock=FakeClock())
    async with serving(application(guard=guard)) as served, connected(served.port) as client:
        client.say(HEAD + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (403, "close")
        assert await client.end() == b""


async def test_an_idle_connection_is_closed(monkeypatch):
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0)
    async with serving(application()) as served, connected(served.port) as client:
        client.ask("ListQueues")
        assert (await client.answer()).status == 200
        assert await client.end() == b""
