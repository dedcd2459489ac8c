"""Queues that are made ready when the server starts: `--create orders.fifo`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from fanfold import limits
from fanfold.endpoint.polls import Receiver
from fanfold.engine.errors import SqsError
from fanfold.engine.queues import is_name
from fanfold.engine.service import CallContext
from fanfold.errors import ConfigurationError

_FIFO: Final = ".fifo"
_KEPT: Final = {"MessageRetentionPeriod": str(limits.MAX_RETENTION)}
"""SQS keeps messages four days where nobody says otherwise, and then loses them in silence."""


def dead_letter_name(name: str) -> str:
    """`orders-dlq.fifo` for `orders.fifo`."""
    return name.removesuffix(_FIFO) + "-dlq" + (_FIFO if name.endswith(_FIFO) else "")


def check_name(name: str) -> None:
    """Raises ConfigurationError where SQS has no queues of that name, or none of its dead letter queue's."""
    if not is_name(name) or not is_name(dead_letter_name(name)):
        raise ConfigurationError(
            f"--create {name}: a queue's name has letters, digits, hyphens and underscores, and its dead letter "
            "queue's at most 80 characters, with -dlq and .fifo"
        )


async def create(engine: Receiver, name: str, context: CallContext) -> str:
    """Create a queue that redrives to a dead letter queue of its own; answers its URL. One that is there stays.

    What is created keeps messages for 14 days, as long as SQS can.

    Raises:
        ConfigurationError: SQS refuses to.
    """
    try:
        dead = await _ensure(engine, dead_letter_name(name), _KEPT, context)
        asked = {"QueueUrl": dead, "AttributeNames": ["QueueArn"]}
        arn = (await engine.call("GetQueueAttributes", asked, context))["Attributes"]["QueueArn"]
        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": limits.DEFAULT_MAX_RECEIVES})
        return await _ensure(engine, name, {"RedrivePolicy": policy, **_KEPT}, context)
    except SqsError as error:
        raise ConfigurationError(f"--create {name}: {error.message}") from error


async def _ensure(engine: Receiver, name: str, attributes: Mapping[str, str], context: CallContext) -> str:
    try:
        found: str = (await engine.call("GetQueueUrl", {"QueueName": name}, context))["QueueUrl"]
    except SqsError as error:
        if error.shape != "QueueDoesNotExist":
            raise
    else:
        return found
    kind = {"FifoQueue": "true"} if name.endswith(_FIFO) else {}
    request: dict[str, Any] = {"QueueName": name, "Attributes": {**kind, **attributes}}
    made: str = (await engine.call("CreateQueue", request, context))["QueueUrl"]
    return made
