"""Queues that are made ready when the server starts: `--create orders.fifo`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from fanfold.endpoint.polls import Receiver
from fanfold.engine.errors import SqsError
from fanfold.engine.service import CallContext
from fanfold.errors import ConfigurationError

MAX_RECEIVES: Final = 100
"""Receives before a message is set aside. A backstop for crash loops, well above the attempts of any application."""
_FIFO: Final = ".fifo"


def dead_letter_name(name: str) -> str:
    """`orders-dlq.fifo` for `orders.fifo`."""
    return name.removesuffix(_FIFO) + "-dlq" + (_FIFO if name.endswith(_FIFO) else "")


async def create(engine: Receiver, name: str, context: CallContext) -> str:
    """Create a queue that redrives to a dead letter queue of its own; answers its URL. One that is there stays.

    Raises:
        ConfigurationError: SQS has no queues of that name.
    """
    try:
        dead = await _ensure(engine, dead_letter_name(name), {}, context)
        asked = {"QueueUrl": dead, "AttributeNames": ["QueueArn"]}
        arn = (await engine.call("GetQueueAttributes", asked, context))["Attributes"]["QueueArn"]
        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": MAX_RECEIVES})
        return await _ensure(engine, name, {"RedrivePolicy": policy}, context)
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
