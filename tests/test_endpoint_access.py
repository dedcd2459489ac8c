from __future__ import annotations

from datetime import UTC, datetime

import pytest
from botocore import auth
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from fanfold.endpoint.access import Key, Role, Signed, Unsigned
from fanfold.endpoint.exchange import Request
from fanfold.endpoint.model import sqs_model
from fanfold.engine.errors import SqsError
from fanfold.testing import FakeClock

KEYS = [Key(role.value.upper(), f"secret-of-{role}-000000", role) for role in Role]


def head(**headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request(method="POST", path="/", query="", headers={"host": "127.0.0.1:9324", **named}, body=b"")


def refused(call, *arguments):
    with pytest.raises(SqsError) as caught:
        call(*arguments)
    return caught.value


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def guard(clock):
    return Signed(KEYS, region="us-east-1", clock=clock)


@pytest.fixture
def signed(clock, monkeypatch):
    monkeypatch.setattr(auth, "get_current_datetime", lambda: datetime.fromtimestamp(clock.now(), UTC))

    def sign(key):
        request = AWSRequest("POST", "http://127.0.0.1:9324/", headers={"host": "127.0.0.1:9324"}, data=b"")
        SigV4Auth(Credentials(key.id, key.secret), "sqs", "us-east-1").add_auth(request)
        return head(**{name.lower(): value for name, value in request.headers.items()})

    return sign


@pytest.mark.parametrize(
    ("role", "actions"),
    [
        (Role.PRODUCER, {"SendMessage", "SendMessageBatch", "GetQueueUrl", "GetQueueAttributes"}),
        (
            Role.WORKER,
            {
                "SendMessage",
                "SendMessageBatch",
                "GetQueueUrl",
                "GetQueueAttributes",
                "ReceiveMessage",
                "DeleteMessage",
                "DeleteMessageBatch",
                "ChangeMessageVisibility",
                "ChangeMessageVisibilityBatch",
            },
        ),
        (Role.OPERATOR, set(sqs_model().actions)),
    ],
)
def test_a_role_may_do_what_iam_would_grant_it(role, actions):
    assert {action for action in sqs_model().actions if role.may(action)} == actions


def test_a_key_signs_for_itself(guard, signed):
    for key in KEYS:
        request = signed(key)
        assert guard.admit(request) == key.id
        guard.verify(request)


def test_another_keys_secret_is_not_good(guard, signed):
    request = signed(Key("WORKER", KEYS[0].secret, Role.WORKER))
    guard.admit(request)
    error = refused(guard.verify, request)
    assert (error.shape, error.status) == ("InvalidSignatureException", 403)
    assert KEYS[0].secret not in error.message


def test_an_unknown_key_is_refused_before_its_body_is_read(guard, signed):
    error = refused(guard.admit, signed(Key("NOBODY", "0" * 20, Role.OPERATOR)))
    assert (error.shape, error.status) == ("UnrecognizedClientException", 403)


def test_an_old_signature_is_refused_before_its_body_is_read(guard, signed, clock):
    request = signed(KEYS[0])
    clock.advance(901)
    assert refused(guard.admit, request).shape == "InvalidSignatureException"


def test_what_a_role_may_not_do_is_denied_in_awss_words(guard):
    guard.allow("PRODUCER", "SendMessageBatch", "orders.fifo")
    error = refused(guard.allow, "PRODUCER", "DeleteMessageBatch", "orders.fifo")
    assert (error.shape, error.status) == ("AccessDeniedException", 403)
    assert error.message == (
        "User: arn:aws:iam::000000000000:user/PRODUCER is not authorized to perform: sqs:deletemessage on resource: "
        "arn:aws:sqs:us-east-1:000000000000:orders.fifo because no identity-based policy allows the sqs:deletemessage "
        "action"
    )


def test_a_keys_secret_is_not_in_its_text():
    assert all(key.secret not in repr(key) for key in KEYS)


@pytest.mark.parametrize("host", ["127.0.0.1:9324", "[::1]:9324", "localhost", "sqs", "host.docker.internal:9324"])
def test_without_keys_programs_on_this_machine_are_served(host):
    assert Unsigned().admit(head(host=host)) == ""


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-origin"},
        {"user_agent": "Mozilla/5.0 (X11; Linux x86_64)"},  # an image's address, at a name that browsers don't trust
    ],
    ids=str,
)
def test_without_keys_web_pages_are_not_served(headers):
    assert refused(Unsigned().admit, head(**headers)).status == 403


def test_without_keys_what_a_person_types_into_a_browser_is_served():
    assert Unsigned().admit(head(user_agent="Mozilla/5.0", sec_fetch_site="none")) == ""


@pytest.mark.parametrize("host", ["evil.example:9324", "evil.example", "localhost.evil.example", ""])
def test_without_keys_a_name_that_a_stranger_may_own_is_refused(host):
    assert refused(Unsigned().admit, head(host=host)).shape == "AccessDeniedException"


def test_without_keys_a_host_is_refused_and_named_however_often_it_asks():
    refusals = [refused(Unsigned().admit, head(host="evil.example:9324")) for _ in range(3)]
    assert all("'evil.example' is not this machine's" in error.message for error in refusals)


def test_what_a_guard_without_keys_thinks_of_a_host_is_nothing_to_one_with_keys(guard, clock, monkeypatch):
    monkeypatch.setattr(auth, "get_current_datetime", lambda: datetime.fromtimestamp(clock.now(), UTC))
    request = AWSRequest("POST", "http://evil.example/", headers={"host": "evil.example"}, data=b"")
    SigV4Auth(Credentials(KEYS[0].id, KEYS[0].secret), "sqs", "us-east-1").add_auth(request)
    signed = head(**{name.lower(): value for name, value in request.headers.items()})
    assert refused(Unsigned().admit, signed).status == 403
    assert guard.admit(signed) == KEYS[0].id
    guard.verify(signed)
    assert refused(Unsigned().admit, signed).status == 403
    assert refused(guard.admit, head(host="localhost")).shape == "MissingAuthenticationTokenException"


def test_a_user_who_opens_a_page_by_hand_is_no_web_page():
    assert Unsigned().admit(head(sec_fetch_site="none")) == ""
