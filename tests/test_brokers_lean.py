"""The lean transport, whole, against a server that answers by script."""

from __future__ import annotations

import asyncio
import gc
import random
import socket
import ssl
import threading
import time

import pytest
import trustme
import uvloop

from fanfold import Fanfold
from fanfold.brokers.lean import LeanTransport
from fanfold.brokers.pool import COMMANDS, Pool
from fanfold.brokers.sqs import SqsBroker
from fanfold.errors import (
    BrokerError,
    BrokerUnavailableError,
    ConfigurationError,
    CredentialsError,
    PermissionMissingError,
    QueueNotFoundError,
)
from fanfold.model import Message
from fanfold.service import Deadline
from scripted import error, hang_up, reply, say, scripted, silence

UNAVAILABLE = reply(b"", status="503 Service Unavailable")
WHOLE = reply({"Messages": [{"MessageId": "i", "ReceiptHandle": "h", "Body": "{}"}]})


class StillClock:
    """A clock at which waiting takes no time."""

    def __init__(self) -> None:
        self.seconds = 1_795_521_600.0  # Tue, 24 Nov 2026 12:00:00 GMT
        self.slept: list[float] = []

    def now(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture(autouse=True)
def environment(no_aws):
    """Nothing of this machine's own settings, and keys."""
    no_aws.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    no_aws.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    no_aws.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    return no_aws


@pytest.fixture
def clock():
    return StillClock()


@pytest.fixture
async def transport_to(clock):
    """A transport to a server, closed with the test."""
    made = []

    def transport_to(server):
        url = server if isinstance(server, str) else server.url
        made.append(LeanTransport(url, clock=clock, rng=random.Random(1)))
        return made[-1]

    yield transport_to
    for transport in made:
        transport.close()
    await asyncio.sleep(0)  # let what was closed be gone


def ask(transport, action="SendMessageBatch", **payload):
    return transport.call(action, payload)


# --- one request


async def test_a_call_is_a_signed_json_request_and_its_answer(transport_to):
    async with scripted(reply({"Successful": []})) as server:
        assert await ask(transport_to(server), QueueUrl="u", Entries=[{"Id": "é"}]) == {"Successful": []}
    [asked] = server.asked
    assert asked.line == "POST / HTTP/1.1"
    assert (asked.action, asked.payload) == ("SendMessageBatch", {"QueueUrl": "u", "Entries": [{"Id": "é"}]})
    assert asked.headers["host"] == f"127.0.0.1:{server.port}"
    assert asked.headers["content-type"] == "application/x-amz-json-1.0"
    assert asked.headers["x-amz-date"] == "20261124T120000Z"
    assert asked.headers["authorization"].startswith(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261124/eu-west-1/sqs/aws4_request, SignedHeaders="
    )


async def test_a_temporary_keys_token_goes_with_it(transport_to, environment):
    environment.setenv("AWS_SESSION_TOKEN", "t0ken")
    async with scripted() as server:
        await ask(transport_to(server))
    assert server.asked[0].headers["x-amz-security-token"] == "t0ken"


async def test_binary_values_are_sent_as_the_protocol_wants_them(transport_to):
    async with scripted() as server:
        await ask(transport_to(server), BinaryValue=b"\0x")
    assert server.asked[0].payload == {"BinaryValue": "AHg="}


async def test_calls_share_a_connection_one_after_the_other_and_have_their_own_side_by_side(transport_to):
    async with scripted() as server:
        transport = transport_to(server)
        for _ in range(3):
            await ask(transport)
        assert server.connections == 1
        await asyncio.gather(*(ask(transport) for _ in range(3 * COMMANDS)))
    assert 1 < server.connections <= COMMANDS


async def test_ten_messages_of_a_mebibyte_are_received(transport_to):
    message = {"MessageId": "i", "ReceiptHandle": "h", "Body": "é" * 2**19}
    async with scripted(reply({"Messages": [message] * 10})) as server:
        answer = await ask(transport_to(server), "ReceiveMessage")
    assert answer == {"Messages": [message] * 10}


async def test_a_mebibyte_is_sent(transport_to):
    async with scripted() as server:
        await ask(transport_to(server), Entries=[{"MessageBody": "x" * 2**20}])
    assert len(server.asked[0].payload["Entries"][0]["MessageBody"]) == 2**20


@pytest.mark.parametrize(
    ("action", "payload", "limits"),
    [
        ("SendMessageBatch", {}, {"patience": 10, "poll": False}),
        ("ReceiveMessage", {"WaitTimeSeconds": 0}, {"patience": 10, "poll": False}),
        ("ReceiveMessage", {"WaitTimeSeconds": 20}, {"patience": 30, "poll": True}),
    ],
)
async def test_a_command_has_ten_seconds_and_a_poll_those_that_it_waits_beside(
    transport_to, environment, action, payload, limits
):
    seen = []

    async def exchange(_self, _request, **given):
        seen.append(given)
        raise TimeoutError("never")

    environment.setattr(Pool, "exchange", exchange)
    with pytest.raises(BrokerUnavailableError, match="never"):
        await ask(transport_to("http://127.0.0.1:9/1/t.fifo"), action, **payload)
    assert seen == [limits] * 3


# --- faults


@pytest.mark.parametrize(
    "fault",
    [
        UNAVAILABLE,
        reply({"__type": "ServiceUnavailable", "message": "later"}, status="503 Service Unavailable"),
        reply(b"<html>Bad Gateway</html>", status="502 Bad Gateway"),
        error("InternalError", status="500 Internal Server Error"),
        error("RequestThrottled"),
        reply(b'{"Messages": [{"Body": "cut'),
        hang_up(),
        hang_up(reset=True),
        hang_up(WHOLE[:-5]),
        hang_up(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{"),
        say(b"garbage\r\n\r\n"),
    ],
)
async def test_what_may_pass_is_tried_again_with_the_same_words(transport_to, clock, fault):
    async with scripted(fault, fault, WHOLE) as server:
        answer = await ask(transport_to(server), "ReceiveMessage", ReceiveRequestAttemptId="a")
    assert [message["MessageId"] for message in answer["Messages"]] == ["i"]
    assert [request.payload for request in server.asked] == [{"ReceiveRequestAttemptId": "a"}] * 3
    assert len(clock.slept) == 2


async def test_what_does_not_pass_is_given_up_after_three_requests(transport_to):
    async with scripted(*[UNAVAILABLE] * 9) as server:
        with pytest.raises(BrokerUnavailableError, match="503"):
            await ask(transport_to(server))
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (error("QueueDoesNotExist"), QueueNotFoundError),
        (error("AccessDenied", status="403 Forbidden"), PermissionMissingError),
        (error("InvalidMessageContents"), BrokerError),
        (reply(b"<html>Blocked</html>", status="403 Forbidden"), BrokerError),
        (reply(b"", status="307 Temporary Redirect", headers="location: https://elsewhere/\r\n"), BrokerError),
    ],
)
async def test_what_will_be_refused_again_is_not_tried_again(transport_to, answer, kind):
    async with scripted(answer) as server:
        with pytest.raises(BrokerError) as raised:
            await ask(transport_to(server), QueueUrl="the-queue")
    assert type(raised.value) is kind
    assert "the-queue" in str(raised.value)
    assert len(server.asked) == 1


async def test_a_connection_that_the_server_closed_between_requests_costs_no_retry(transport_to, clock):
    async with scripted() as server:
        transport = transport_to(server)
        await ask(transport)
        await server.hang_up_idle()
        await ask(transport)
    assert (server.connections, clock.slept) == (2, [])


async def test_where_nobody_listens_the_queue_can_not_be_reached(transport_to):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        transport = transport_to(f"http://127.0.0.1:{unused.getsockname()[1]}/1/tasks.fifo")
        with pytest.raises(BrokerUnavailableError, match="can't be reached"):
            await ask(transport)


async def test_an_answer_that_does_not_come_is_given_up(transport_to, environment):
    environment.setattr("fanfold.brokers.lean._ANSWER", 0.01)
    async with scripted(silence(), silence(), silence()) as server:
        with pytest.raises(BrokerUnavailableError, match="didn't come in time"):
            await ask(transport_to(server))
    assert server.connections == 3


async def test_a_call_that_is_cancelled_leaves_no_answer_to_the_next_one(transport_to):
    begun = asyncio.Event()
    async with scripted(silence(begun), reply({"for": "the next"})) as server:
        transport = transport_to(server)
        first = asyncio.create_task(ask(transport))
        await begun.wait()
        first.cancel()
        await asyncio.wait([first])
        assert await ask(transport) == {"for": "the next"}
    assert [request.connection for request in server.asked] == [1, 2]


# --- clocks and keys


async def test_a_clock_that_is_wrong_is_corrected_by_the_servers(transport_to, clock):
    late = "date: Tue, 24 Nov 2026 12:20:00 GMT\r\n"
    expired = error("InvalidSignatureException", "Signature expired", status="403 Forbidden", headers=late)

    together = asyncio.Barrier(2)

    async def refuse_both_at_once(_, writer):
        await together.wait()
        writer.write(expired)

    async with scripted(refuse_both_at_once, refuse_both_at_once) as server:
        transport = transport_to(server)
        await asyncio.gather(ask(transport), ask(transport))
        clock.seconds += 60
        await ask(transport)
    dates = [request.headers["x-amz-date"] for request in server.asked]
    assert dates == ["20261124T120000Z"] * 2 + ["20261124T122000Z"] * 2 + ["20261124T122100Z"]


async def test_keys_that_were_refused_are_looked_for_again(transport_to, environment, tmp_path):
    environment.delenv("AWS_ACCESS_KEY_ID")
    environment.delenv("AWS_SECRET_ACCESS_KEY")
    file = tmp_path / "credentials"

    async def refuse_and_rotate(_, writer):
        file.write_text("[default]\naws_access_key_id = SECOND\naws_secret_access_key = s\n")
        writer.write(error("ExpiredTokenException"))

    file.write_text("[default]\naws_access_key_id = FIRST\naws_secret_access_key = s\n")
    async with scripted(refuse_and_rotate) as server:
        await ask(transport_to(server))
    first, second = (request.headers["authorization"] for request in server.asked)
    assert ("=FIRST/" in first, "=SECOND/" in second) == (True, True)


async def test_keys_that_stay_refused_are_an_error(transport_to):
    async with scripted(*[error("InvalidClientTokenId", "no such key", status="403 Forbidden")] * 9) as server:
        with pytest.raises(CredentialsError, match="no such key"):
            await ask(transport_to(server))
    assert len(server.asked) == 2


async def test_without_keys_there_is_no_request(transport_to, environment):
    environment.delenv("AWS_ACCESS_KEY_ID")
    environment.delenv("AWS_SECRET_ACCESS_KEY")
    async with scripted() as server:
        with pytest.raises(CredentialsError, match=r"no AWS credentials.*AWS_PROFILE"):
            await ask(transport_to(server))
    assert server.asked == []


@pytest.fixture
def web_identity(environment, tmp_path):
    """Keys come from STS, at a server of the test's."""
    environment.delenv("AWS_ACCESS_KEY_ID")
    environment.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "token").write_text("an identity")
    environment.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/worker")
    environment.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    environment.setenv("AWS_MAX_ATTEMPTS", "1")
    return lambda server: environment.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{server.port}")


def sts_says(code, status):
    return reply(f"<ErrorResponse><Error><Code>{code}</Code></Error></ErrorResponse>".encode(), status=status)


@pytest.mark.parametrize(
    ("says", "kind"),
    [
        (sts_says("AccessDenied", "403 Forbidden"), CredentialsError),
        (sts_says("ServiceUnavailable", "503 Service Unavailable"), BrokerUnavailableError),
    ],
)
async def test_what_hands_keys_out_may_refuse_them_too(transport_to, web_identity, says, kind):
    async with scripted(*[says] * 9) as sts:
        web_identity(sts)
        with pytest.raises(BrokerError) as raised:
            await ask(transport_to("http://127.0.0.1:9/1/t.fifo"))
    assert type(raised.value) is kind


async def test_a_way_that_was_not_found_is_looked_for_again(transport_to, environment):
    async with scripted() as server:
        transport = transport_to(server)
        environment.setenv("AWS_PROFILE", "nowhere")
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="nowhere"):
                await ask(transport)
        environment.delenv("AWS_PROFILE")
        assert await ask(transport) == {}


# --- ways


async def test_the_environments_proxy_is_used(transport_to, environment):
    async with scripted() as proxy:
        environment.setenv("HTTP_PROXY", f"http://me:pw@127.0.0.1:{proxy.port}")
        await ask(transport_to("http://queue.example.org:4566/1/tasks.fifo"))
    [asked] = proxy.asked
    assert asked.line == "POST http://queue.example.org:4566/ HTTP/1.1"
    assert asked.headers["host"] == "queue.example.org:4566"
    assert asked.headers["proxy-authorization"] == "Basic bWU6cHc="


@pytest.fixture
def tls(environment, tmp_path):
    """A server's side of TLS, under an authority that the environment names."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    environment.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


async def test_the_environments_authorities_are_trusted(transport_to, tls):
    async with scripted(tls=tls) as server:
        assert await ask(transport_to(f"https://localhost:{server.port}/1/tasks.fifo")) == {}


async def test_authorities_that_can_not_be_read_are_named(transport_to, environment):
    environment.setenv("AWS_CA_BUNDLE", "/nowhere/ca.pem")
    with pytest.raises(ConfigurationError, match=r"/nowhere/ca\.pem"):
        await ask(transport_to("https://localhost:1/1/tasks.fifo"))


# --- event loops


def run_in_a_thread(main, loop_factory=None):
    """Run `main` in a loop of its own in a thread of its own, and close both."""

    def run():
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(main())

    return asyncio.to_thread(run)


async def test_each_loop_has_its_connections_and_takes_them_along(transport_to):
    async with scripted() as server:
        transport = transport_to(server)

        async def main():
            await ask(transport)
            await ask(transport)

        await ask(transport)
        for _ in range(3):
            await run_in_a_thread(main)
        await ask(transport)
        assert len(transport._pools) <= 2
    assert [request.connection for request in server.asked] == [1, 2, 2, 3, 3, 4, 4, 1]
    gc.collect()  # a transport that is still open would warn now, and warnings are errors


async def test_loops_may_call_at_the_same_time(transport_to):
    together = threading.Barrier(3)
    async with scripted() as server:
        transport = transport_to(server)

        async def main():
            together.wait()
            for _ in range(50):
                assert await ask(transport) == {}

        await asyncio.gather(*(run_in_a_thread(main) for _ in range(3)))
    assert len(server.asked) == 150


async def test_a_closed_transport_closes_its_connections_in_their_loops_and_may_be_used_again(transport_to):
    async with scripted() as server:
        transport = transport_to(server)
        asked, may_end = threading.Event(), threading.Event()

        async def main():
            await ask(transport)
            asked.set()
            while not may_end.is_set():  # noqa: ASYNC110 - the loop must go on meanwhile
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            return [len(pool._kept) for loop, pool in transport._pools.items() if loop is asyncio.get_running_loop()]

        await ask(transport)
        other = asyncio.create_task(run_in_a_thread(main))
        await asyncio.to_thread(asked.wait)
        transport.close()
        transport.close()
        may_end.set()
        assert await other == [0]
        await ask(transport)
    assert server.connections == 3


async def test_it_runs_on_uvloop_too(transport_to, tls):
    async with scripted(UNAVAILABLE, hang_up()) as server, scripted(tls=tls) as secure:
        plain = transport_to(server)
        encrypted = transport_to(f"https://localhost:{secure.port}/1/tasks.fifo")

        async def main():
            for transport in (plain, encrypted):
                for _ in range(3):
                    assert await ask(transport) == {}

        await run_in_a_thread(main, uvloop.new_event_loop)
    assert (len(server.asked), len(secure.asked), secure.connections) == (5, 3, 1)


async def test_finding_keys_and_way_holds_up_no_loop(transport_to, environment):
    begun, may = threading.Event(), threading.Event()

    def slow(*_, **__):
        begun.set()
        may.wait()
        raise ConfigurationError("found nothing")

    environment.setattr("fanfold.brokers.lean.find_route", slow)
    call = asyncio.create_task(ask(transport_to("http://127.0.0.1:9/1/t.fifo")))
    await asyncio.to_thread(begun.wait)
    assert not call.done()
    may.set()
    with pytest.raises(ConfigurationError, match="found nothing"):
        await call


# --- under the broker


@pytest.fixture
async def broker_to(clock, transport_to):
    def broker_to(server):
        return SqsBroker(server.url, transport=transport_to(server), clock=clock, rng=random.Random(1))

    return broker_to


def accepted(request):
    return {"Successful": [{"Id": entry["Id"], "MessageId": "m"} for entry in request.payload["Entries"]]}


async def test_a_send_whose_answer_is_lost_is_made_again_with_the_same_deduplication_id(broker_to):
    async def accept(request, writer):
        writer.write(reply(accepted(request)))

    async with scripted(hang_up(b"HTTP/1.1 200 OK\r\n"), accept) as server:
        [result] = await broker_to(server).send([Message(body="{}", group_id="g", deduplication_id="d")])
    assert result.message_id == "m"
    ids = [request.payload["Entries"][0]["MessageDeduplicationId"] for request in server.asked]
    assert ids == ["d", "d"]


async def test_a_receive_whose_answer_is_lost_asks_for_the_same_messages_again(broker_to):
    async with scripted(hang_up(WHOLE[:-1]), WHOLE, WHOLE) as server:
        broker = broker_to(server)
        assert len(await broker.receive(10, wait=20, lease=60)) == 1
        await broker.receive(10, wait=20, lease=60)
    lost, again, other = (request.payload["ReceiveRequestAttemptId"] for request in server.asked)
    assert (lost == again, again == other) == (True, False)


def test_an_application_on_sqs_needs_no_client(environment, sqs_queue):  # noqa: ARG001 - sets the environment
    with Fanfold(sqs_queue[0], concurrency=10) as app:
        done = []

        @app.task("a")
        @app.task("b")
        async def note(entity_id, task_name):
            done.append((entity_id, task_name))

        app.enqueue("doc-1", ["a", "b"])

        async def work():
            worker = await app.worker()
            both = asyncio.Event()
            app.subscribe(lambda event: both.set() if event.name == "task.completed" and len(done) == 2 else None)
            await worker.start()
            await both.wait()
            await worker.stop(Deadline(2))  # the poll in flight would be waited for

        asyncio.run(work())
        counts = app.status()
    assert sorted(done) == [("doc-1", "a"), ("doc-1", "b")]
    assert (counts.messages_available, counts.messages_in_flight) == (0, 0)


async def test_the_system_clock_signs_where_none_is_given():
    async with scripted() as server:
        transport = LeanTransport(server.url)
        before = time.gmtime()
        await ask(transport)
        stamp = server.asked[0].headers["x-amz-date"]
        assert time.strftime("%Y%m%dT%H%M%SZ", before) <= stamp <= time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        transport.close()
        await asyncio.sleep(0)
