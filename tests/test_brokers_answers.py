"""What an HTTP answer means, and whether the request is made again."""

from __future__ import annotations

import json
import random

import pytest
from botocore.exceptions import ClientError
from botocore.parsers import JSONParser
from hypothesis import given
from hypothesis import strategies as st

from fanfold.brokers.answers import Again, Fault, meaning, nothing
from fanfold.brokers.boto import broker_error
from fanfold.brokers.connections import LostError, Reply
from fanfold.brokers.retries import ATTEMPTS, Retries
from fanfold.errors import BrokerError, BrokerUnavailableError, CredentialsError, PermissionMissingError

URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/tasks.fifo"
NOW = 1_795_521_600.0  # Tue, 24 Nov 2026 12:00:00 GMT
NOON, LATER = b"Tue, 24 Nov 2026 12:00:00 GMT", b"Tue, 24 Nov 2026 12:20:00 GMT"


def reply(code="", text="as it is", *, status=400, body=None, **headers):
    told = json.dumps({"__type": f"com.amazonaws.sqs#{code}", "message": text}).encode() if code else b""
    names = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    return Reply(status, names, told if body is None else body)


def means(answer, at=NOW):
    return meaning(answer, action="SendMessageBatch", queue_url=URL, at=at)


# --- successes


def test_an_object_is_the_answer():
    assert means(Reply(200, {}, b'{"Messages": [{"Body": "\xc3\xa9"}]}')) == {"Messages": [{"Body": "é"}]}


def test_nothing_is_the_answer_of_actions_that_answer_with_nothing():
    assert means(Reply(200, {}, b"")) == {}


@pytest.mark.parametrize("body", [b"{", b"[]", b'"text"', b"<html>", b'{"a": "\xff"}', b'{"a":' + b"[" * 99_999])
def test_what_can_not_be_read_may_be_read_the_next_time(body):
    fault = means(Reply(200, {}, body))
    assert isinstance(fault.error, BrokerUnavailableError)
    assert (fault.again, fault.cause is not None) == (Again.PASSING, True)


# --- refusals


@pytest.mark.parametrize(
    ("answer", "kind", "again"),
    [
        (reply("RequestThrottled"), BrokerUnavailableError, Again.THROTTLED),
        (reply("ThrottlingException"), BrokerUnavailableError, Again.THROTTLED),
        (reply("KmsThrottled"), BrokerUnavailableError, Again.THROTTLED),
        (reply(status=429), BrokerUnavailableError, Again.THROTTLED),
        (reply("SlowDown", status=503), BrokerUnavailableError, Again.THROTTLED),
        (reply("InternalError", status=500), BrokerUnavailableError, Again.PASSING),
        (reply(status=503), BrokerUnavailableError, Again.PASSING),
        (reply(status=502, body=b"<html>Bad Gateway</html>"), BrokerUnavailableError, Again.PASSING),
        (reply("RequestTimeout"), BrokerError, Again.PASSING),
        (reply(status=501), BrokerUnavailableError, None),
        (reply("ExpiredTokenException"), CredentialsError, Again.REFUSED_KEYS),
        (reply("InvalidClientTokenId", status=403), CredentialsError, Again.REFUSED_KEYS),
        (reply("AccessDeniedException"), PermissionMissingError, None),
        (reply("InvalidMessageContents"), BrokerError, None),
        (reply(status=404), BrokerError, None),
    ],
)
def test_a_refusal_has_its_error_and_says_whether_to_try_again(answer, kind, again):
    fault = means(answer)
    assert (type(fault.error), fault.again) == (kind, again)


def test_the_older_protocols_name_of_an_error_goes_first():
    fault = means(reply("QueueDoesNotExist", x_amzn_query_error=b"AWS.SimpleQueueService.NonExistentQueue;Sender"))
    assert "doesn't exist" in str(fault.error)
    assert "BatchRequestTooLong" in str(means(reply("X", x_amzn_query_error=b"BatchRequestTooLong;Sender")).error)


def test_a_page_that_is_not_of_sqs_is_quoted_but_not_in_full():
    said = str(means(reply(status=403, body=b"<html>Blocked by policy" + b"x" * 9_000)).error)
    assert "403: <html>Blocked by policy" in said
    assert len(said) < 1_000


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_refused_with_where_they_lead(status):
    fault = means(reply(status=status, location=b"https://elsewhere.example.org/"))
    assert (type(fault.error), fault.again) == (BrokerError, None)
    assert "https://elsewhere.example.org/" in str(fault.error)


CODES = st.sampled_from(
    ["QueueDoesNotExist", "AccessDenied", "KMS.AccessDeniedException", "ExpiredToken", "RequestThrottled", "OverLimit",
     "InternalError", "ReceiptHandleIsInvalid", "InvalidParameterValue"]
)  # fmt: skip


@given(
    code=CODES,
    older=st.none() | st.sampled_from(["AWS.SimpleQueueService.NonExistentQueue;Sender", "AccessDenied;Sender", ";x"]),
    text=st.text(max_size=20) | st.just("not authorized to perform: kms:Decrypt on resource y"),
    status=st.sampled_from([400, 403, 404, 429, 500, 503]),
    key=st.sampled_from(["message", "Message"]),
)
def test_an_error_reads_the_same_whichever_transport_brings_it(code, older, text, status, key):
    headers = {} if older is None else {"x-amzn-query-error": older}
    body = json.dumps({"__type": f"com.amazonaws.sqs#{code}", key: text}).encode()
    parsed = JSONParser().parse({"status_code": status, "headers": headers, "body": body}, None)
    parsed["ResponseMetadata"]["HTTPStatusCode"] = status
    botos = broker_error(ClientError(parsed, "x"), "SendMessageBatch", URL)
    ours = means(Reply(status, {k.encode(): v.encode() for k, v in headers.items()}, body)).error
    assert (type(ours), str(ours)) == (type(botos), str(botos))


# --- clocks


@pytest.mark.parametrize("code", ["InvalidSignatureException", "SignatureDoesNotMatch", "RequestExpired"])
def test_a_signature_refused_for_our_clock_says_what_time_it_is(code):
    fault = means(reply(code, status=403, date=LATER))
    assert (fault.again, fault.time) == (Again.SKEWED, NOW + 1200)


@pytest.mark.parametrize("date", [NOON, b"", b"yesterday", b"\xff"])
def test_a_signature_that_was_refused_at_the_right_time_is_no_matter_of_clocks(date):
    fault = means(reply("SignatureDoesNotMatch", status=403, date=date))
    assert (fault.again, fault.time) == (Again.REFUSED_KEYS, None)


def test_other_refusals_are_no_matter_of_clocks():
    assert means(reply("AccessDenied", status=403, date=LATER)).time is None


# --- whether, and when, a request is made again


class Dice(random.Random):
    """Throws the highest number."""

    def random(self):
        return 1.0


@pytest.fixture
def retries():
    return Retries(Dice())


def fault(again, after=None):
    return Fault(error=BrokerError("x"), again=again, after=after)


LOST = nothing(LostError("gone", untouched=True), action="SendMessageBatch", queue_url=URL)
THROTTLED = fault(Again.THROTTLED)


def test_no_answer_is_tried_again():
    assert (type(LOST.error), LOST.again) == (BrokerUnavailableError, Again.PASSING)
    assert "can't be reached: gone" in str(LOST.error)


def test_pauses_double_and_end_with_the_third_request(retries):
    assert [retries.pause(LOST, attempt) for attempt in (1, 2, ATTEMPTS)] == [0.05, 0.1, None]
    assert [retries.pause(THROTTLED, attempt) for attempt in (1, 2, ATTEMPTS)] == [1.0, 2.0, None]


def test_pauses_have_full_jitter():
    drawn = [Retries(random.Random(seed)).pause(THROTTLED, 1) for seed in range(200)]
    assert (min(drawn) < 0.1, 0.9 < max(drawn) <= 1.0) == (True, True)


@pytest.mark.parametrize(("asked", "pause"), [(0.01, 0.05), (3.0, 3.0), (60.0, 5.05)])
def test_a_server_may_ask_for_a_longer_pause_within_bounds(retries, asked, pause):
    assert retries.pause(fault(Again.PASSING, after=asked), 1) == pause


@pytest.mark.parametrize(("said", "after"), [(b"1500", 1.5), (b"soon", None), (b"-1", None)])
def test_a_server_asks_in_milliseconds(said, after):
    assert means(reply("RequestThrottled", x_amz_retry_after=said)).after == after


def test_what_will_be_refused_again_is_not_tried_again(retries):
    assert retries.pause(fault(None), 1) is None


@pytest.mark.parametrize("again", [Again.SKEWED, Again.REFUSED_KEYS])
def test_what_we_can_mend_is_tried_again_at_once_and_once(retries, again):
    assert [retries.pause(fault(again), attempt) for attempt in (1, 2)] == [0.0, None]


def test_when_everything_fails_retries_end_and_successes_bring_them_back(retries):
    made = 0
    while retries.pause(LOST, 1) is not None:
        made += 1
    assert made == 500 // 14
    assert retries.pause(THROTTLED, 1) is not None  # cheaper, and something is left
    for _ in range(14):
        retries.succeeded(None)
    assert retries.pause(LOST, 1) is not None


def test_a_retry_that_succeeds_gives_back_what_it_took(retries):
    for _ in range(1_000):
        assert retries.pause(LOST, 1) is not None
        retries.succeeded(LOST)


def test_the_budget_does_not_grow_beyond_its_size(retries):
    for _ in range(1_000):
        retries.succeeded(None)
    retries.succeeded(LOST)
    made = 0
    while retries.pause(LOST, 1) is not None:
        made += 1
    assert made == 500 // 14
