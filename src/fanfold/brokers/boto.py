"""Requests to SQS through boto3: one function, in threads; and its exceptions as errors of our tree."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from fanfold.brokers import faults
from fanfold.brokers.threads import Threads
from fanfold.errors import BrokerError, ConfigurationError, CredentialsError

_POLLS: Final = 8
_COMMANDS: Final = 16
_POLL_TIMEOUT: Final = 40
"""Seconds for a receive's answer; longer than the longest long poll (20)."""
_COMMAND_TIMEOUT: Final = 10
"""Seconds for any other answer: a lease must not run out while its extension waits for a connection that is dead."""

_NO_CREDENTIALS: Final = ("NoCredentials", "PartialCredentials", "TokenRetrieval", "CredentialRetrieval", "SSOToken")
_REGION: Final = r"([a-z]{2,4}(?:-[a-z]+)+-\d+)"
_PUBLIC_HOST: Final = re.compile(rf"(?:sqs\.{_REGION}|{_REGION}\.queue)\.amazonaws\.com(?:\.cn)?")
_OTHER_HOST: Final = re.compile(rf"(?:.+\.)?sqs(?:-fips)?\.{_REGION}\..+")
"""VPC, FIPS and dual-stack endpoints: the region can be read, but requests must go to that very host."""


class BotoTransport:
    """`call(action, payload) -> answer` on a boto3 client.

    Receives wait in threads of their own, so that a long poll never holds up a delete, nor the other way round.
    """

    def __init__(self, client: Any) -> None:
        """The client stays its owner's: `close` doesn't close it."""
        self._client = client
        self._polls = Threads("poll", _POLLS)
        self._commands = Threads("sqs", _COMMANDS)

    async def call(self, action: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Make one request; `action` and `payload` are those of the SQS API.

        Raises:
            BrokerError: a subclass says why; `transient` whether another try may help.
        """
        method = getattr(self._client, re.sub(r"(?<!^)(?=[A-Z])", "_", action).lower())
        threads = self._polls if payload.get("WaitTimeSeconds") else self._commands
        try:
            answer: dict[str, Any] = await asyncio.wrap_future(threads.submit(lambda: method(**payload)))
        except Exception as error:
            raise broker_error(error, action, str(payload.get("QueueUrl", ""))) from error
        return answer

    def close(self) -> None:
        """Return when the requests under way have ended; polls are left to themselves. Idempotent."""
        self._polls.close(wait=False)
        self._commands.close(wait=True)


class OwnClient:
    """A boto3 SQS client with two times: receives may take as long as a long poll does, all else is short.

    A client of boto3 has one read timeout for everything, so this is two of them behind the face of one.
    """

    def __init__(self, receives: Any, commands: Any) -> None:
        self._receives = receives
        self._commands = commands

    def __getattr__(self, name: str) -> Any:
        """What boto3's client has by that name."""
        return getattr(self._receives if name == "receive_message" else self._commands, name)

    def close(self) -> None:
        """Close both."""
        self._receives.close()
        self._commands.close()


def make_session(queue_url: str, *, region: str | None) -> Any:
    """A botocore session; its region is the given one, else the one that the URL names, else the surroundings'."""
    import botocore.session  # noqa: PLC0415 - only who uses SQS pays for the import

    session = botocore.session.Session()
    named = region or region_of(queue_url)
    if named is not None:
        session.set_config_variable("region", named)
    return session


def make_client(queue_url: str, *, region: str | None) -> OwnClient:
    """A boto3 SQS client for a queue: its region and, where the host isn't AWS, its endpoint come from the URL.

    Raises:
        ConfigurationError: boto3 can't make a client, for want of a region for instance.
        CredentialsError: the credentials that it finds are incomplete.
    """
    import boto3.session  # noqa: PLC0415 - only who uses SQS pays for the import

    with refusals_named(queue_url):
        session = boto3.session.Session(botocore_session=make_session(queue_url, region=region))
        endpoint = endpoint_of(queue_url)
        # What stands in for SQS has no regions, but signatures name one.
        name = session.region_name or ("us-east-1" if endpoint else None)
        return OwnClient(
            *(
                session.client("sqs", region_name=name, endpoint_url=endpoint, config=_config(timeout, connections))
                for timeout, connections in ((_POLL_TIMEOUT, _POLLS), (_COMMAND_TIMEOUT, _COMMANDS))
            )
        )


def _config(read_timeout: int, connections: int) -> Any:
    from botocore.config import Config  # noqa: PLC0415 - only who uses SQS pays for the import

    return Config(
        retries={"mode": "standard", "max_attempts": 3},
        connect_timeout=5,
        read_timeout=read_timeout,
        max_pool_connections=connections,
        tcp_keepalive=True,
    )


@contextmanager
def refusals_named(queue_url: str) -> Iterator[None]:
    """What botocore refuses while it makes a client for a queue, as errors of ours: those of `make_client`."""
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415 - only who uses SQS pays for the import

    try:
        yield
    except (BotoCoreError, ValueError) as error:
        kind = CredentialsError if type(error).__name__.startswith(_NO_CREDENTIALS) else ConfigurationError
        raise kind(
            f"no SQS client for {queue_url}: {error}. Check AWS_DEFAULT_REGION, AWS_PROFILE, the host"
        ) from error


def region_of(queue_url: str) -> str | None:
    """The region that an AWS queue URL names, or None."""
    host = urlsplit(queue_url).hostname or ""
    found = _PUBLIC_HOST.fullmatch(host) or _OTHER_HOST.fullmatch(host)
    return next(filter(None, found.groups())) if found else None


def endpoint_of(queue_url: str) -> str | None:
    """The endpoint of a queue URL; None for Amazon's public hosts, which boto3 finds itself."""
    parts = urlsplit(queue_url)
    return None if _PUBLIC_HOST.fullmatch(parts.hostname or "") else f"{parts.scheme}://{parts.netloc}"


def broker_error(error: Exception, action: str, queue_url: str) -> BrokerError:
    """The error of our tree for one of boto3's, with the cure in its text."""
    answer = getattr(error, "response", None)
    if not isinstance(answer, dict):
        return _without_answer(error, action, queue_url)
    told = answer.get("Error", {})
    return faults.refused(
        str(told.get("Code", "")),
        str(told.get("Message", error)),
        status=answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0),
        action=action,
        queue_url=queue_url,
    )


def _without_answer(error: Exception, action: str, queue_url: str) -> BrokerError:
    kind = type(error).__name__
    if kind.startswith(_NO_CREDENTIALS):
        return faults.without_credentials(error, queue_url=queue_url)
    if isinstance(error, OSError) or "Timeout" in kind or "Connection" in kind or kind == "HTTPClientError":
        return faults.unanswered(error, action=action, queue_url=queue_url)
    return BrokerError(f"{action} on {queue_url}: {kind}: {error}")
