"""Signatures. Their oracle is botocore's signer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlsplit

import pytest
from botocore import auth
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fanfold.endpoint.exchange import Request
from fanfold.endpoint.signing import check_claim, claim_of, is_signed_by
from fanfold.engine.errors import SqsError

ID, SECRET = "AKEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
HOST = "127.0.0.1:9324"
REGION = "us-east-1"

header_values = st.text(st.characters(min_codepoint=33, max_codepoint=126) | st.just(" "), max_size=30)
header_names = st.from_regex(r"x-[a-z0-9-]{1,20}", fullmatch=True)
paths = st.lists(st.text(max_size=8), max_size=4).map(lambda parts: "/" + "/".join(quote(p, safe="") for p in parts))
queries = st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), max_size=4)


@pytest.fixture(autouse=True, scope="module")
def _signed_now():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(auth, "get_current_datetime", lambda: NOW.replace(tzinfo=None))
        yield


def signed(
    *,
    method="POST",
    path="/",
    query="",
    headers=None,
    body=b"",
    signer=SigV4Auth,
    service="sqs",
    region=REGION,
    **options,
):
    """A request as botocore signs it and as the endpoint reads it."""
    url = f"http://{HOST}{path}" + (f"?{query}" if query else "")
    request = AWSRequest(method, url, headers={"host": HOST, **(headers or {})}, data=body)
    signer(Credentials(ID, SECRET), service, region, **options).add_auth(request)
    parts = urlsplit(request.url)
    read = {name.lower(): value for name, value in request.headers.items()}
    return Request(method=method, path=parts.path, query=parts.query, headers=read, body=body)


def is_good(request, secret=SECRET):
    return is_signed_by(claim_of(request), request, secret)


def changed(request, **fields):
    given = {name: getattr(request, name) for name in ("method", "path", "query", "headers", "body", "scheme")}
    return Request(**{**given, **fields})


def refused(request, *, region=REGION, now=NOW):
    with pytest.raises(SqsError) as caught:
        check_claim(claim_of(request), region, now)
    return caught.value


@given(
    method=st.sampled_from(["POST", "GET"]),
    path=paths,
    query=queries,
    headers=st.dictionaries(header_names, header_values, max_size=4),
    body=st.binary(max_size=200),
)
def test_whatever_botocore_signs_is_good(method, path, query, headers, body):
    encoded = "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in query if name)
    assert is_good(signed(method=method, path=path, query=encoded, headers=headers, body=body))


@given(query=queries, expires=st.integers(1, 604_800))
def test_whatever_botocore_presigns_is_good(query, expires):
    encoded = "&".join(
        f"{quote(f'p{n}{name}', safe='-_.~')}={quote(v, safe='-_.~')}" for n, (name, v) in enumerate(query)
    )
    request = signed(method="GET", path="/000000000000/q", query=encoded, signer=SigV4QueryAuth, expires=expires)
    assert claim_of(request).expires == expires
    assert is_good(request)


@given(body=st.binary(max_size=50), other=st.binary(max_size=50))
def test_a_signature_is_good_for_its_body_only(body, other):
    assert is_good(changed(signed(body=body), body=other)) is (body == other)


@pytest.mark.parametrize(
    "change",
    [
        {"method": "GET"},
        {"path": "/000000000000/other"},
        {"query": "Action=PurgeQueue"},
    ],
    ids=str,
)
def test_a_signature_is_good_for_its_request_only(change):
    request = signed(path="/000000000000/q", query="Action=ListQueues")
    assert is_good(request)
    assert not is_good(changed(request, **change))


@pytest.mark.parametrize("name", ["host", "x-amz-target", "x-amz-date"])
def test_a_signed_header_cant_be_exchanged(name):
    request = signed(headers={"x-amz-target": "AmazonSQS.SendMessage"})
    assert is_good(request)
    assert not is_good(changed(request, headers={**request.headers, name: "20261124T093001Z"}))


def test_an_action_that_was_put_beside_the_signed_headers_is_refused():
    request = signed()
    assert not is_good(changed(request, headers={**request.headers, "x-amz-target": "AmazonSQS.PurgeQueue"}))


def test_what_was_read_of_a_signature_isnt_taken_for_another_dates():
    request = signed()
    assert is_good(request)
    later = {**request.headers, "x-amz-date": "20261124T093001Z"}
    assert not is_good(replace(request, headers=later))
    assert claim_of(replace(request, headers=later)).stamp == "20261124T093001Z"
    assert is_good(request)


def test_another_secret_gives_another_signature():
    assert not is_good(signed(), secret="0" * 40)


def test_a_promise_of_an_unsigned_body_is_no_excuse():
    unsigned = signed(headers={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}, body=b"anything")
    assert not is_good(unsigned)


def test_headers_that_came_in_several_pieces_of_space_are_one_value():
    request = signed(headers={"x-spaced": "  a   b "})
    assert is_good(request)


@pytest.mark.parametrize("signature", ["", "0" * 64, "é", "\udcff"])
def test_what_is_no_signature_is_not_good(signature):
    request = signed()
    claimed = request.headers["Authorization".lower()].rpartition("=")[0] + f"={signature or 'x'}"
    assert not is_good(changed(request, headers={**request.headers, "authorization": claimed}))


def test_a_request_without_a_signature_is_told_so():
    error = refused(Request(method="POST", path="/", query="", headers={}, body=b""))
    assert (error.shape, error.status) == ("MissingAuthenticationTokenException", 403)


@pytest.mark.parametrize(
    "authorization",
    [
        "Basic dXNlcjpwYXNz",
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 Credential=a, Signature=b",
        "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=c",
        "AWS4-HMAC-SHA256 Credential=a/20261124/us-east-1/sqs/aws3_request, SignedHeaders=host, Signature=c",
    ],
)
def test_an_incomplete_signature_is_told_what_it_lacks(authorization):
    headers = {"authorization": authorization, "x-amz-date": "20261124T093000Z"}
    error = refused(Request(method="POST", path="/", query="", headers=headers, body=b""))
    assert (error.shape, error.status) == ("IncompleteSignatureException", 400)


@pytest.mark.parametrize("stamp", ["", "now", "20261324T093000Z", "2026-11-24T09:30:00Z"])
def test_a_signature_without_a_date_is_incomplete(stamp):
    request = signed()
    error = refused(changed(request, headers={**request.headers, "x-amz-date": stamp}))
    assert error.shape == "IncompleteSignatureException"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"region": "eu-west-1"}, "not 'eu-west-1'"),
        ({"service": "sns"}, "correct service: 'sqs'"),
    ],
)
def test_a_signature_for_elsewhere_is_refused(options, text):
    error = refused(signed(**options))
    assert (error.shape, error.status) == ("InvalidSignatureException", 403)
    assert text in error.message


@pytest.mark.parametrize("minutes", [-15, 0, 15])
def test_a_clock_may_differ_by_a_quarter_of_an_hour(minutes):
    check_claim(claim_of(signed()), REGION, NOW + timedelta(minutes=minutes))


def test_a_signature_of_longer_ago_has_expired():
    error = refused(signed(), now=NOW + timedelta(minutes=15, seconds=1))
    assert error.message == (
        "Signature expired: 20261124T093000Z is now earlier than 20261124T093001Z (20261124T094501Z - 15 min.)"
    )


def test_a_signature_from_the_future_is_not_yet_current():
    assert refused(signed(), now=NOW - timedelta(minutes=15, seconds=1)).message.startswith("Signature not yet current")


def test_the_days_date_must_be_the_stamps():
    request = signed()
    tomorrow = changed(request, headers={**request.headers, "x-amz-date": "20261125T000000Z"})
    assert "Date in Credential scope does not match" in refused(tomorrow).message


def test_the_host_must_be_signed():
    request = signed()
    without = request.headers["authorization"].replace("SignedHeaders=host;", "SignedHeaders=")
    error = refused(changed(request, headers={**request.headers, "authorization": without}))
    assert "'Host'" in error.message


def test_a_presigned_url_is_good_for_as_long_as_it_says():
    request = signed(method="GET", signer=SigV4QueryAuth, expires=3_600)
    check_claim(claim_of(request), REGION, NOW + timedelta(hours=1))
    assert refused(request, now=NOW + timedelta(hours=1, seconds=1)).shape == "RequestExpired"


def test_a_presigned_url_is_not_good_for_longer_than_a_week():
    request = signed(method="GET", signer=SigV4QueryAuth, expires=999_999)
    assert refused(request, now=NOW + timedelta(days=7, seconds=1)).shape == "RequestExpired"
