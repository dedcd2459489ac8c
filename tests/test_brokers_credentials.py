"""Credentials: found and renewed by botocore's own providers, in a thread."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from botocore.credentials import Credentials as Lasting
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import BotoCoreError, ConnectTimeoutError

from fanfold.brokers.boto import make_session
from fanfold.brokers.credentials import Credentials
from fanfold.errors import CredentialsError

URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/tasks.fifo"
START = datetime(2026, 11, 24, tzinfo=UTC)
HOUR = 3600


class Time:
    """One time for us and for botocore."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def date(self) -> datetime:
        return START + timedelta(seconds=self.seconds)


class Renewed:
    """Credentials that last an hour, as botocore holds them. `renewals` counts, `fails` is raised, `may` holds back."""

    def __init__(self, time: Time) -> None:
        self.time = time
        self.renewals = 0
        self.fails: Exception | None = None
        self.begun, self.may = threading.Event(), threading.Event()
        self.may.set()
        first = self.made()
        self.chain = RefreshableCredentials(
            access_key=first["access_key"],
            secret_key=first["secret_key"],
            token=first["token"],
            expiry_time=datetime.fromisoformat(first["expiry_time"]),
            refresh_using=self.renew,
            method="test",
            time_fetcher=time.date,
        )

    def made(self):
        ends = (self.time.date() + timedelta(hours=1)).isoformat()
        return {"access_key": f"A{self.renewals}", "secret_key": "s", "token": "t", "expiry_time": ends}

    def renew(self):
        self.begun.set()
        self.may.wait()
        if self.fails is not None:
            raise self.fails
        self.renewals += 1
        return self.made()


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def renewed(time):
    return Renewed(time)


@pytest.fixture
def of(time):
    """Credentials of a chain, or of what makes one."""
    made = []

    def of(chain):
        made.append(Credentials(chain if callable(chain) else lambda: chain, now=time))
        return made[-1]

    yield of
    for each in made:
        each.close()


def looked(credentials):
    """A look that this makes begin has ended when this returns."""
    credentials.at_hand()
    looking = credentials._looking
    assert isinstance(looking, Future)
    looking.exception(timeout=60)


async def test_keys_are_at_hand_once_they_were_found(of):
    credentials = of(Lasting("A", "s", "t"))
    assert credentials.at_hand() is None
    keys = await credentials.get()
    assert (keys.access_key, keys.secret_key, keys.token) == ("A", "s", "t")
    assert credentials.at_hand() == keys


async def test_many_callers_wait_for_one_look_and_the_loop_goes_on_meanwhile(of):
    begun, may, runs = threading.Event(), threading.Event(), []

    def make_chain():
        runs.append(1)
        begun.set()
        may.wait()
        return Lasting("A", "s")

    credentials = of(make_chain)
    waiting = [asyncio.create_task(credentials.get()) for _ in range(5)]
    await asyncio.to_thread(begun.wait)
    assert [task.done() for task in waiting] == [False] * 5
    may.set()
    assert {keys.access_key for keys in await asyncio.gather(*waiting)} == {"A"}
    assert runs == [1]


async def test_a_caller_that_is_cancelled_does_not_end_the_look_of_the_others(of):
    may = threading.Event()

    def make_chain():
        may.wait()
        return Lasting("A", "s")

    credentials = of(make_chain)
    given_up, other = (asyncio.create_task(credentials.get()) for _ in range(2))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.wait([given_up])
    may.set()
    assert (await other).access_key == "A"


async def test_several_event_loops_share_what_was_found(of):
    credentials = of(Lasting("A", "s"))
    elsewhere = await asyncio.to_thread(lambda: asyncio.run(credentials.get()))
    assert credentials.at_hand() is elsewhere


# --- renewal


async def test_keys_that_last_are_looked_at_and_left_alone(of, time, renewed):
    credentials = of(renewed.chain)
    await credentials.get()
    for time.seconds in range(0, HOUR - 15 * 60, 30):
        looked(credentials)
        assert credentials.at_hand().access_key == "A0"
    assert renewed.renewals == 0


async def test_keys_are_renewed_ahead_of_their_end_and_requests_go_on_with_the_old_ones_meanwhile(of, time, renewed):
    credentials = of(renewed.chain)
    time.seconds = HOUR - 15 * 60 - 1
    await credentials.get()
    renewed.may.clear()
    time.seconds += 31
    assert credentials.at_hand().access_key == "A0"
    await asyncio.to_thread(renewed.begun.wait)
    assert credentials.at_hand().access_key == "A0"
    renewed.may.set()
    looked(credentials)
    assert credentials.at_hand().access_key == "A1"


async def test_keys_that_end_at_once_are_renewed_before_they_are_used(of, time, renewed):
    credentials = of(renewed.chain)
    await credentials.get()
    time.seconds = HOUR
    assert credentials.at_hand() is None
    assert (await credentials.get()).access_key == "A1"


async def test_after_a_long_pause_the_keys_are_looked_at_before_they_are_used(of, time):
    credentials = of(Lasting("A", "s"))
    await credentials.get()
    time.seconds = HOUR
    assert credentials.at_hand() is None
    await credentials.get()
    assert credentials.at_hand() is not None


async def test_where_renewing_fails_the_old_keys_serve_as_long_as_they_last(of, time, renewed):
    credentials = of(renewed.chain)
    await credentials.get()
    renewed.fails = ConnectTimeoutError(endpoint_url="http://169.254.169.254")
    time.seconds = HOUR - 5 * 60  # botocore insists from ten minutes before the end
    assert (await credentials.get()).access_key == "A0"
    time.seconds = HOUR - 80
    assert (await credentials.get()).access_key == "A0"
    assert credentials.at_hand() is None  # so near their end, they are looked at before each use
    time.seconds = HOUR - 20
    with pytest.raises(ConnectTimeoutError):
        await credentials.get()
    renewed.fails = None
    assert (await credentials.get()).access_key == "A1"


async def test_keys_that_were_refused_are_looked_for_anew(of):
    numbers = iter(range(9))
    credentials = of(lambda: Lasting(f"A{next(numbers)}", "s"))
    first = await credentials.get()
    credentials.forget(first)
    assert credentials.at_hand() is None
    second = await credentials.get()
    assert (first.access_key, second.access_key) == ("A0", "A1")
    credentials.forget(first)  # a late refusal of what was replaced already
    assert credentials.at_hand() == second


# --- failures


async def test_a_chain_that_finds_nothing_is_an_error_and_is_run_again(of):
    chains = iter([None, Lasting("A", "s")])
    credentials = of(lambda: next(chains))
    with pytest.raises(CredentialsError, match="found none"):
        await credentials.get()
    assert (await credentials.get()).access_key == "A"


async def test_a_chain_that_fails_is_its_callers_error(of):
    def make_chain():
        raise BotoCoreError

    with pytest.raises(BotoCoreError):
        await of(make_chain).get()


@pytest.mark.parametrize(
    ("keys", "what"),
    [(("A\n", "s", None), "access key"), (("A", "s", "t\r\nx: y"), "session token"), (("A ", "s", None), "access key")],
)
async def test_keys_that_no_header_can_carry_are_refused_by_name(of, keys, what):
    with pytest.raises(CredentialsError, match=what):
        await of(Lasting(*keys)).get()


# --- botocore's providers


@pytest.fixture
def environment(no_aws):
    """Nothing of this machine's own settings."""
    return no_aws


@pytest.fixture
def chain(of):
    return of(lambda: make_session(URL, region=None).get_credentials())


@contextmanager
def answering(answer):
    """An HTTP server on loopback that answers each GET with the same JSON; yields its URL and the paths asked for."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


async def test_keys_come_from_the_environment(environment, chain):
    environment.setenv("AWS_ACCESS_KEY_ID", "A")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "s")
    environment.setenv("AWS_SESSION_TOKEN", "t")
    keys = await chain.get()
    assert (keys.access_key, keys.secret_key, keys.token) == ("A", "s", "t")


async def test_keys_come_from_a_file_and_a_changed_file_is_read_after_a_refusal(environment, chain, tmp_path):
    environment.setenv("AWS_PROFILE", "work")
    file = tmp_path / "credentials"
    file.write_text("[work]\naws_access_key_id = A\naws_secret_access_key = s\n")
    first = await chain.get()
    file.write_text("[work]\naws_access_key_id = B\naws_secret_access_key = s\n")
    assert (await chain.get()).access_key == "A"
    chain.forget(first)
    assert (await chain.get()).access_key == "B"


async def test_keys_come_from_a_process(environment, chain, tmp_path):
    said = {"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "s", "Expiration": "2999-01-01T00:00:00Z"}
    (tmp_path / "said.json").write_text(json.dumps(said))
    program = f"{sys.executable} -c \"print(open('{tmp_path}/said.json').read())\""
    (tmp_path / "config").write_text(f"[profile work]\ncredential_process = {program}\n")
    environment.setenv("AWS_PROFILE", "work")
    assert (await chain.get()).access_key == "A"


async def test_keys_come_from_the_container(environment, chain):
    answer = {"AccessKeyId": "A", "SecretAccessKey": "s", "Token": "t", "Expiration": "2999-01-01T00:00:00Z"}
    with answering(answer) as (url, asked):
        environment.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}/role")
        keys = await chain.get()
    assert (keys.access_key, keys.token, asked) == ("A", "t", ["/role"])


async def test_keys_come_from_a_role(environment, chain, tmp_path, sqs_endpoint):
    (tmp_path / "config").write_text(
        "[profile role]\nrole_arn = arn:aws:iam::123456789012:role/worker\nsource_profile = source\n"
    )
    (tmp_path / "credentials").write_text("[source]\naws_access_key_id = A\naws_secret_access_key = s\n")
    environment.setenv("AWS_PROFILE", "role")
    environment.setenv("AWS_ENDPOINT_URL_STS", sqs_endpoint)
    keys = await chain.get()
    assert keys.access_key.startswith("ASIA")
    assert keys.token


async def test_keys_come_from_a_web_identity(environment, chain, tmp_path, sqs_endpoint):
    (tmp_path / "token").write_text("an identity")
    environment.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/worker")
    environment.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    environment.setenv("AWS_ENDPOINT_URL_STS", sqs_endpoint)
    keys = await chain.get()
    assert keys.access_key.startswith("ASIA")
    assert keys.token


async def test_keys_come_from_single_sign_on(environment, chain, tmp_path):
    start = "https://example.awsapps.com/start"
    (tmp_path / "config").write_text(
        f"[profile sso]\nsso_start_url = {start}\nsso_region = eu-west-1\nsso_account_id = 123456789012\n"
        "sso_role_name = worker\nregion = eu-west-1\n"
    )
    environment.setattr("botocore.credentials.SSOProvider._SSO_TOKEN_CACHE_DIR", str(tmp_path))
    token = {"startUrl": start, "region": "eu-west-1", "accessToken": "t", "expiresAt": "2999-01-01T00:00:00Z"}
    name = sha1(start.encode(), usedforsecurity=False).hexdigest()
    (tmp_path / f"{name}.json").write_text(json.dumps(token))
    role = {"accessKeyId": "A", "secretAccessKey": "s", "sessionToken": "t", "expiration": 32_503_680_000_000}
    with answering({"roleCredentials": role}) as (url, asked):
        environment.setenv("AWS_PROFILE", "sso")
        environment.setenv("AWS_ENDPOINT_URL_SSO", url)
        keys = await chain.get()
    assert (keys.access_key, keys.token) == ("A", "t")
    assert asked == ["/federation/credentials?role_name=worker&account_id=123456789012"]


async def test_without_any_source_there_are_no_keys(environment, chain):  # noqa: ARG001 - sets the environment
    with pytest.raises(CredentialsError, match="found none"):
        await chain.get()
