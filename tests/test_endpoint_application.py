from __future__ import annotations

import asyncio
import json
import logging

import pytest

from endpoint_requests import FakeEngine, application, ask, ask_json, head
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


async def test_what_one_request_says_of_host_and_trace_is_not_said_of_the_next():
    engine = FakeEngine()
    app = application(engine)
    for host, trace in [
        ("a", {"x-amzn-trace-id": "Root=1"}),
        ("a", {}),
        ("b", {}),
        ("a", {"x-amzn-trace-id": "Root=2"}),
    ]:
        await ask_json(app, "ListQueues", {}, host=host, **trace)
    assert [(context.base_url, context.trace_header) for context in engine.contexts] == [
        ("http://a", "Root=1"), ("http://a", None), ("http://b", None), ("http://a", "Root=2"),
    ]  # fmt: skip


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
def test_a_body_that_says_it_is_too_large_is_refused_unread(length):
    headers = {"x-amz-target": "AmazonSQS.SendMessage", "content-length": length}
    refused = application().begin(head(headers=headers)).refused
    assert (refused.status, refused.last) == (413, True)


def test_a_body_that_turns_out_too_large_is_refused_where_it_does():
    exchange = application().begin(head(headers={"x-amz-target": "AmazonSQS.SendMessage"}))
    fed = 0
    while exchange.refused is None:
        exchange.feed(LARGE)
        fed += len(LARGE)
    assert (exchange.refused.status, fed - len(LARGE) <= MAX_BODY < fed) == (413, True)


@pytest.mark.parametrize("host", ["", "a b", "evil/", "x:y"])
def test_a_host_that_is_none_is_refused(host):
    refused = application().begin(head(headers={"host": host})).refused
    assert (refused.status, b"MalformedInput" in refused.body) == (400, True)


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
    app.room = Room(len(LARGE))
    slow = app.begin(head(headers={"x-amz-target": "AmazonSQS.SendMessage"}))
    slow.feed(LARGE)
    second = await ask_json(app, "SendMessage", LARGE)
    small = await ask_json(app, "ListQueues", {})
    assert (second.status, second.json["__type"]) == (503, "com.amazon.coral.service#ServiceUnavailable")
    assert small.status == 200
    slow.leave()
    app.room.take(len(LARGE))


async def test_room_is_given_back_after_each_request():
    app = application()
    for _ in range(3):
        await ask_json(app, "SendMessage", LARGE)
        await ask(app, *[LARGE] * 10)
    app.room.take(ALL_BODIES)


async def test_a_poll_whose_client_goes_away_is_cancelled_and_nothing_is_answered():
    polling, cancelled = asyncio.Event(), asyncio.Event()

    async def poll():
        polling.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    app = application(FakeEngine(ReceiveMessage=poll))
    exchange = app.begin(head(headers={"x-amz-target": "AmazonSQS.ReceiveMessage"}))
    answer = asyncio.ensure_future(exchange.answer())
    await polling.wait()
    exchange.leave()
    assert await answer is None
    assert cancelled.is_set()


async def test_what_is_no_poll_is_done_though_its_client_goes_away():
    sending, go_on = asyncio.Event(), asyncio.Event()

    async def send():
        sending.set()
        await go_on.wait()
        return SENT

    app = application(FakeEngine(SendMessage=send))
    exchange = app.begin(head(headers={"x-amz-target": "AmazonSQS.SendMessage"}))
    answer = asyncio.ensure_future(exchange.answer())
    await sending.wait()
    exchange.leave()
    go_on.set()
    assert (await answer).status == 200


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


async def test_what_is_reported_of_a_client_is_no_longer_than_a_line():
    seen = []
    app = application(FakeEngine(), report=seen.append)
    await ask_json(app, "SendMessage", {"QueueUrl": "q" * 100_000, "MessageBody": "x"}, path="/" + "p" * 100_000)
    assert len(repr(seen)) < 500


async def test_nothing_of_a_request_is_logged_at_any_level(caplog):
    caplog.set_level(logging.DEBUG)
    await ask_json(application(), "SendMessage", {"MessageBody": "confidential"}, authorization="confidential")
    assert "confidential" not in caplog.text
