"""Signatures, each compared with the one that botocore makes of the same request."""

from __future__ import annotations

import time

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from fanfold.brokers.signing import Keys, Signer

HOST = "sqs.eu-west-1.amazonaws.com"
NOON = 1_795_521_600.0
SECRETS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1)
HOSTS = st.sampled_from([HOST, "localhost:4566", "[::1]:9324", "vpce-1.sqs.eu-west-1.vpce.amazonaws.com"])
PATHS = st.sampled_from(["/", "/prefix", "/a/b c/", "/käse/~x", "/%41"])
DAY = 86_400


def keys_of(access_key, secret_key, token=None):
    return Keys(access_key=access_key, secret_key=secret_key, token=token)


KEYS = keys_of("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")


def parts_of(head: bytes) -> tuple[str, dict[str, str]]:
    """The request line and the headers by name."""
    line, *headers = head.removesuffix(b"\r\n\r\n").decode().split("\r\n")
    return line, dict(header.split(":", 1) for header in headers)


def botos_authorization(headers, body, *, url, keys, region):
    """What botocore puts into `Authorization` for a request with those of the headers that it signs."""
    unsigned = ("authorization", "content-length", "accept-encoding", "user-agent", "proxy-authorization")
    signed = {name: value for name, value in headers.items() if name not in unsigned}
    signer = SigV4Auth(ReadOnlyCredentials(keys.access_key, keys.secret_key, keys.token), "sqs", region)
    request = AWSRequest(method="POST", url=url, data=body, headers=signed)
    request.context["timestamp"] = headers["x-amz-date"]
    to_sign = signer.string_to_sign(request, signer.canonical_request(request))
    signer._inject_signature_to_request(request, signer.signature(to_sign, request))
    return request.headers["Authorization"]


@given(
    host=HOSTS,
    path=PATHS,
    region=st.sampled_from(["eu-west-1", "us-gov-east-1", "cn-north-1"]),
    keys=st.builds(keys_of, SECRETS, SECRETS, st.none() | SECRETS),
    action=st.sampled_from(["SendMessageBatch", "ReceiveMessage"]),
    body=st.binary(max_size=200),
    moments=st.lists(st.floats(min_value=0, max_value=4e9), min_size=1, max_size=4),
)
def test_each_signature_is_the_one_that_botocore_makes(*, host, path, region, keys, action, body, moments):
    signer = Signer(target=path, host=host, path=path, region=region)
    for at in moments:
        _, headers = parts_of(signer.head(action, body, keys=keys, at=at))
        url = f"https://{host}{path}"
        assert headers["authorization"] == botos_authorization(headers, body, url=url, keys=keys, region=region)
        assert headers["x-amz-date"] == time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(int(at)))


def signed(signer, *, keys=KEYS, at=NOON):
    return signer.head("SendMessageBatch", b"{}", keys=keys, at=at)


@pytest.mark.parametrize(
    ("keys", "at"),
    [
        (KEYS, NOON + 1),
        (KEYS, NOON + DAY),
        (KEYS, NOON - DAY),
        (keys_of("AKIDEXAMPLE", "another"), NOON),
        (keys_of("another", KEYS.secret_key), NOON),
        (keys_of("AKIDEXAMPLE", KEYS.secret_key, "t"), NOON),
    ],
)
def test_nothing_that_was_kept_outlives_what_it_was_made_for(keys, at):
    used, unused = (Signer(target="/", host=HOST, path="/", region="eu-west-1") for _ in range(2))
    first = signed(used)
    assert signed(used, keys=keys, at=at) == signed(unused, keys=keys, at=at) != first
    assert signed(used) == first


def test_a_head_says_what_the_protocol_wants():
    line, headers = parts_of(
        Signer(target="/", host=HOST, path="/", region="eu-west-1").head("ReceiveMessage", b"12345", keys=KEYS, at=NOON)
    )
    assert line == "POST / HTTP/1.1"
    assert headers["content-type"] == "application/x-amz-json-1.0"
    assert headers["x-amz-target"] == "AmazonSQS.ReceiveMessage"
    assert headers["x-amzn-query-mode"] == "true"
    assert (headers["host"], headers["content-length"]) == (HOST, "5")
    assert "x-amz-security-token" not in headers


def test_a_plain_proxy_is_told_the_whole_url_and_the_signature_stays_the_endpoints():
    direct = parts_of(signed(Signer(target="/", host=HOST, path="/", region="eu-west-1")))
    whole, told = f"http://{HOST}/", "proxy-authorization:Basic x\r\n"
    proxied = parts_of(signed(Signer(target=whole, host=HOST, path="/", region="eu-west-1", unsigned=told)))
    assert proxied[0] == f"POST http://{HOST}/ HTTP/1.1"
    assert proxied[1] == direct[1] | {"proxy-authorization": "Basic x"}


def test_secrets_show_in_no_text():
    assert "wJalr" not in f"{KEYS!r} {KEYS}"
    assert "t0ken" not in repr(keys_of("a", "b", "t0ken"))
