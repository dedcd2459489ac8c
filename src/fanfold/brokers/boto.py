"""Requests to SQS through boto3: one function, in threads; and its exceptions as errors of our tree."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from urllib.parse import urlsplit

from fanfold.errors import (
    BrokerError,
    BrokerUnavailableError,
    CredentialsError,
    PermissionMissingError,
    QueueNotFoundError,
)

_POLLS: Final = 8
_COMMANDS: Final = 16
_READ_TIMEOUT: Final = 40
"""Seconds; longer than the longest long poll (20)."""

_THROTTLED: Final = ("Throttl", "RequestLimitExceeded", "TooManyRequests", "ServiceUnavailable", "InternalFailure")
_NO_CREDENTIALS: Final = ("NoCredentials", "PartialCredentials", "TokenRetrieval", "CredentialRetrieval", "SSOToken")
_BAD_CREDENTIALS: Final = (
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "MissingAuthenticationToken",
)
_SERVER_ERROR: Final = 500


class BotoTransport:
    """`call(action, payload) -> answer` on a boto3 client.

    Receives wait in threads of their own, so that a long poll never holds up a delete, nor the other way round.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._polls = ThreadPoolExecutor(_POLLS, thread_name_prefix="fanfold-poll")
        self._commands = ThreadPoolExecutor(_COMMANDS, thread_name_prefix="fanfold-sqs")

    async def call(self, action: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Make one request; `action` and `payload` are those of the SQS API.

        Raises:
            BrokerError: a subclass says why; `transient` whether another try may help.
        """
        method = getattr(self._client, re.sub(r"(?<!^)(?=[A-Z])", "_", action).lower())
        threads = self._polls if action == "ReceiveMessage" else self._commands
        try:
            answer: dict[str, Any] = await asyncio.get_running_loop().run_in_executor(
                threads, lambda: method(**payload)
            )
        except Exception as error:
            raise broker_error(error, action, str(payload.get("QueueUrl", ""))) from error
        return answer

    def close(self) -> None:
        """Let the threads end after what they do now."""
        self._polls.shutdown(wait=False, cancel_futures=True)
        self._commands.shutdown(wait=False)


def make_client(queue_url: str, *, region: str | None) -> Any:
    """A boto3 SQS client for a queue: its region and, where the host isn't AWS, its endpoint come from the URL.

    Raises:
        CredentialsError: boto3 can't make a client, for want of a region for instance.
    """
    import boto3  # noqa: PLC0415 - only who uses SQS pays for the import
    from botocore.config import Config  # noqa: PLC0415 - as above
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415 - as above

    config = Config(
        retries={"mode": "standard", "max_attempts": 3},
        connect_timeout=5,
        read_timeout=_READ_TIMEOUT,
        max_pool_connections=_POLLS + _COMMANDS,
        tcp_keepalive=True,
    )
    try:
        return boto3.client(
            "sqs",
            region_name=region or region_of(queue_url),
            endpoint_url=endpoint_of(queue_url),
            config=config,
        )
    except BotoCoreError as error:
        raise CredentialsError(
            f"no SQS client for {queue_url}: {error}. Set AWS_DEFAULT_REGION or pass region=…"
        ) from error


def region_of(queue_url: str) -> str | None:
    """The region that an AWS queue URL names, or None."""
    host = urlsplit(queue_url).hostname or ""
    found = re.fullmatch(r"sqs\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?|([a-z0-9-]+)\.queue\.amazonaws\.com", host)
    return found and (found.group(1) or found.group(2))


def endpoint_of(queue_url: str) -> str | None:
    """The endpoint of a queue URL whose host isn't AWS's; None for AWS, which boto3 finds itself."""
    parts = urlsplit(queue_url)
    host = parts.hostname or ""
    return None if host.endswith((".amazonaws.com", ".amazonaws.com.cn")) else f"{parts.scheme}://{parts.netloc}"


def broker_error(error: Exception, action: str, queue_url: str) -> BrokerError:
    """The error of our tree for one of boto3's, with the cure in its text."""
    answer = getattr(error, "response", None)
    if not isinstance(answer, dict):
        return _without_answer(error, action, queue_url)
    code = str(answer.get("Error", {}).get("Code", ""))
    text = str(answer.get("Error", {}).get("Message", error))
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if "NonExistentQueue" in code or "QueueDoesNotExist" in code:
        return QueueNotFoundError(
            f"queue {queue_url} doesn't exist; create it, or correct the URL (region, account, name)"
        )
    if "AccessDenied" in code or code == "AuthorizationError":
        granted = f"sqs:{action.removesuffix('Batch')}"
        return PermissionMissingError(
            granted, f"{granted} is denied on {queue_url}; add it to the role's policy ({text})"
        )
    if code.startswith(_BAD_CREDENTIALS):
        return CredentialsError(f"AWS refused the credentials ({code}): {text}. Renew them or check the role")
    if status >= _SERVER_ERROR or any(word in code for word in _THROTTLED):
        return BrokerUnavailableError(f"{action} on {queue_url}: {code}: {text}")
    return BrokerError(f"{action} on {queue_url}: {code}: {text}")


def _without_answer(error: Exception, action: str, queue_url: str) -> BrokerError:
    kind = type(error).__name__
    if kind.startswith(_NO_CREDENTIALS):
        return CredentialsError(
            f"no AWS credentials for {queue_url} ({error}); run with a role, AWS_PROFILE, or `aws sso login`"
        )
    if isinstance(error, OSError) or "Timeout" in kind or "Connection" in kind or kind == "HTTPClientError":
        return BrokerUnavailableError(f"{action}: {queue_url} can't be reached: {error}")
    return BrokerError(f"{action} on {queue_url}: {kind}: {error}")
