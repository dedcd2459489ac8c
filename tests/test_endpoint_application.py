from __future__ import annotations

import asyncio
import json
import logging

import pytest

from endpoint_asgi import Client, FakeEngine, application, ask, ask_json, scope
from fanfold.endpoint.reading import ALL_BODIES, MAX_BODY, Room
from fanfold.engine.errors import SqsError
from fanfold.errors import StorageCorruptError, StorageFullError

QUEUE = "/000000000000/orders.fifo"
SENT = {"MessageId": "m-1", "MD5OfMessageBody": "0" * 32}
LARGE = b"x" * (1024 * 1024)


async def test_a_json_request_is_answered_in_json():
    engine = FakeEngine(SendMessage=SENT)
    answer = await ask_json(application(engine), "SendMessage", {"QueueUrl": "orders", "MessageBody": "b"})
    assert engine.calls == [("SendMessage", {"QueueUrl": "orders", "MessageBody": "b"})]
    assert (answer.status, answer.json) == (200, SENT)
    assert answer.headers["content-type"] == "application/x-amz-json-1.0"
    assert answer.headers["content-length"] == str(len(answer.body))


async def test_a_form_is_answered_in_xml():
    app = application(FakeEngine(SendMessage=SENT))
    answer = await ask(app, b"Action=SendMessage&QueueUrl=orders&MessageBody=b")
    assert answer.headers["content-type"] == "text/xml"
    assert "<MessageId>m-1</MessageId>" in answer.text


async def test_a_form_that_accepts_json_is_answered_in_json():
    accept = {"accept": "application/json"}
    answer = await ask(application(FakeEngine()), b"Action=ListQueues", headers=accept)
    assert answer.headers["content-type"] == "application/json"
    assert "ListQueuesResponse" in answer.json


async def test_every_answer_has_a_request_id_of_its_own():
    app = application()
    ids = {(await ask_json(app, "ListQueues", {})).headers["x-amzn-requestid"] for _ in range(3)}
    assert len(ids) == 3


async def test_the_request_id_in_the_xml_is_the_headers():
    answer = await ask(application(), b"Action=ListQueues")
    assert f"<RequestId>{answer.headers['x-amzn-requestid']}</RequestId>" in answer.text


@pytest.mark.parametrize("payload", [{}, {"QueueUrl": "other"}])
async def test_a_queues_own_url_is_the_queue_unless_another_is_named(payload):
    engine = FakeEngine()
    await ask_json(application(engine), "ReceiveMessage", payload, path=QUEUE)
    await ask(application(engine), method="GET", path=QUEUE, query="Action=ReceiveMessage")
    urls = [request["QueueUrl"] for _, request in engine.calls]
    assert urls == [payload.get("QueueUrl", f"http://127.0.0.1:9324{QUEUE}"), f"http://127.0.0.1:9324{QUEUE}"]


async def test_an_action_that_is_about_no_queue_gets_none():
    engine = FakeEngine()
    await ask_json(application(engine), "ListQueues", {}, path=QUEUE)
    assert engine.calls == [("ListQueues", {})]


async def test_the_engine_hears_what_the_client_calls_this_server_and_its_trace():
    engine = FakeEngine()
    headers = {"host": "queue.internal:80", "x-amzn-trace-id": "Root=1-5759e988-bd862e3fe1be46a994272793"}
    await ask_json(application(engine), "ListQueues", {}, **headers)
    [context] = engine.contexts
    assert context.base_url == "http://queue.internal:80"
    assert context.trace_header == headers["x-amzn-trace-id"]


async def test_a_client_without_a_host_is_answered_with_the_servers_address():
    engine = FakeEngine()
    client, asked = Client(b"{}"), scope(headers={"x-amz-target": "AmazonSQS.ListQueues"})
    asked["headers"] = [pair for pair in asked["headers"] if pair[0] != b"host"]
    await application(engine)(asked, client.receive, client.send)
    assert engine.contexts[0].base_url == "http://127.0.0.1:9324"


async def test_the_engines_refusal_is_the_protocols_error():
    refusal = SqsError("QueueDoesNotExist", "not there", query_message="not there for this wsdl version.")
    app = application(FakeEngine(DeleteQueue=refusal))
    as_json = await ask_json(app, "DeleteQueue", {"QueueUrl": "q"})
    as_xml = await ask(app, b"Action=DeleteQueue&QueueUrl=q")
    assert (as_json.status, as_json.json["message"]) == (400, "not there")
    assert as_json.headers["x-amzn-query-error"] == "AWS.SimpleQueueService.NonExistentQueue;Sender"
    assert "not there for this wsdl version." in as_xml.text


async def test_a_fault_of_ours_is_logged_under_the_requests_id_and_not_told(caplog):
    app = application(FakeEngine(ListQueues=ZeroDivisionError("the secret cause")))
    answer = await ask_json(app, "ListQueues", {})
    assert (answer.status, answer.json["__type"]) == (500, "com.amazon.coral.service#InternalFailure")
    assert b"secret" not in answer.body
    [record] = caplog.records
    assert answer.headers["x-amzn-requestid"] in record.getMessage()
    assert "the secret cause" in caplog.text


@pytest.mark.parametrize(
    ("error", "status"), [(StorageFullError("the disk is full"), 503), (StorageCorruptError("damaged"), 500)]
)
async def test_a_file_that_fails_for_a_while_is_a_503_which_sdks_try_again(error, status, caplog):
    answer = await ask_json(application(FakeEngine(ListQueues=error)), "ListQueues", {})
    assert answer.status == status
    assert str(error) in caplog.text
    assert str(error) not in answer.text


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH", "HEAD"])
async def test_other_methods_are_refused(method):
    answer = await ask(application(), method=method)
    assert (answer.status, "<Code>UnsupportedMethod</Code>" in answer.text) == (405, True)


async def test_health_is_asked_by_get():
    assert (await ask(application(), method="GET", path="/health")).body == b"{}"


@pytest.mark.parametrize("length", [str(MAX_BODY + 1), "9" * 30, "-1", "many"])
async def test_a_body_that_says_it_is_too_large_is_refused_unread(length):
    client = Client(b"{}")
    headers = {"x-amz-target": "AmazonSQS.SendMessage", "content-length": length}
    await application()(scope(headers=headers), client.receive, client.send)
    assert (client.answer.status, client.answer.headers["connection"]) == (413, "close")
    assert await client.receive() == {"type": "http.request", "body": b"{}", "more_body": False}


async def test_a_body_that_turns_out_too_large_is_refused_where_it_does():
    client = Client(*[LARGE] * 10)
    headers = {"x-amz-target": "AmazonSQS.SendMessage"}
    await application()(scope(headers=headers), client.receive, client.send)
    assert client.answer.status == 413
    assert (await client.receive())["more_body"]


async def test_a_message_of_a_mebibyte_passes_in_either_encoding():
    engine = FakeEngine()
    body = "é" * (512 * 1024)
    await ask_json(application(engine), "SendMessage", {"MessageBody": body})
    await ask(application(engine), b"Action=SendMessage&MessageBody=" + b"%C3%A9" * (512 * 1024))
    assert [request["MessageBody"] == body for _, request in engine.calls] == [True, True]


async def test_a_body_may_come_in_pieces():
    engine = FakeEngine()
    whole = json.dumps({"QueueUrl": "q"}).encode()
    pieces = [whole[n : n + 1] for n in range(len(whole))]
    await ask(application(engine), *pieces, headers={"x-amz-target": "AmazonSQS.PurgeQueue"})
    assert engine.calls == [("PurgeQueue", {"QueueUrl": "q"})]


async def test_more_large_bodies_than_there_is_room_for_are_sent_away_and_small_ones_are_not():
    app = application()
    app._room = Room(len(LARGE))
    slow, half_there = Client(LARGE), asyncio.Event()
    asked = scope(headers={"x-amz-target": "AmazonSQS.SendMessage"})
    first = asyncio.ensure_future(app(asked, _without_end(slow, half_there), slow.send))
    await half_there.wait()
    second = await ask_json(app, "SendMessage", LARGE)
    small = await ask_json(app, "ListQueues", {})
    assert (second.status, second.json["__type"]) == (503, "com.amazon.coral.service#ServiceUnavailable")
    assert small.status == 200
    slow.leave()
    await first
    assert app._room._free == len(LARGE)


def _without_end(client, half_there=None):
    """The receiving end of a client that sends half of its body and then nothing."""

    async def receive():
        if client._parts:
            return {"type": "http.request", "body": client._parts.pop(0), "more_body": True}
        if half_there is not None:
            half_there.set()
        await client._gone.wait()
        return {"type": "http.disconnect"}

    return receive


async def test_room_is_given_back_after_each_request():
    app = application()
    for _ in range(3):
        await ask_json(app, "SendMessage", LARGE)
        await ask(app, *[LARGE] * 10)
    assert app._room._free == ALL_BODIES


async def test_a_poll_whose_client_goes_away_is_cancelled_and_nothing_is_sent():
    polling, cancelled = asyncio.Event(), asyncio.Event()

    async def poll():
        polling.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    client = Client(b"{}")
    served = asyncio.ensure_future(
        application(FakeEngine(ReceiveMessage=poll))(
            scope(headers={"x-amz-target": "AmazonSQS.ReceiveMessage"}), client.receive, client.send
        )
    )
    await polling.wait()
    client.leave()
    await served
    await cancelled.wait()
    assert client.messages == []


async def test_a_client_that_goes_away_while_it_sends_is_forgotten():
    client = Client(b"half")
    client.leave()
    asked = scope(headers={"x-amz-target": "AmazonSQS.SendMessage"})
    engine = FakeEngine()
    await application(engine)(asked, _without_end(client), client.send)
    assert (client.messages, engine.calls) == ([], [])


async def test_what_was_served_is_reported_without_its_contents():
    seen = []
    app = application(FakeEngine(), report=seen.append)
    await ask_json(app, "SendMessage", {"QueueUrl": f"http://x{QUEUE}", "MessageBody": "confidential"})
    await ask(app, b"Action=Nope", headers={"authorization": "confidential"})
    good, bad = seen
    assert (good.action, good.queue, good.status, good.error) == ("SendMessage", "orders.fifo", 200, "")
    assert (bad.status, bad.error) == (400, "UnknownOperationException")
    assert good.seconds >= 0
    assert "confidential" not in repr(seen)


async def test_what_is_no_http_request_is_left_alone():
    client = Client()
    await application()({"type": "lifespan"}, client.receive, client.send)
    assert client.messages == []


async def test_nothing_of_a_request_is_logged_at_any_level(caplog):
    caplog.set_level(logging.DEBUG)
    await ask_json(application(), "SendMessage", {"MessageBody": "confidential"}, authorization="confidential")
    assert "confidential" not in caplog.text
