"""An SQS that always gives the same answers, in a process of its own: what a client costs without a server to wait for.

Prints its port, and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any, Final, cast

COUNT: Final = 10
"""Messages in each answer."""
_ID: Final = "0d1e2f30-1111-2222-3333-444455556666"
_BODY: Final = json.dumps(
    {
        "entity_id": "doc-123",
        "task_name": "yearBuilt",
        "task_config": {},
        "metadata": {"tenant": "acme"},
        "timestamp": "2026-11-24T02:00:00+00:00",
        "retry_count": 0,
        "total_tasks": 42,
        "fan_out_id": "f" * 26,
        "generation": 0,
    }
)
_SENT: Final = {
    "MessageId": _ID,
    "MD5OfMessageBody": "a" * 32,
    "MD5OfMessageAttributes": "b" * 32,
    "SequenceNumber": "18849496460467696128",
}
_RECEIVED: Final = {
    "MessageId": _ID,
    "ReceiptHandle": "A" * 180,
    "MD5OfBody": "a" * 32,
    "Body": _BODY,
    "Attributes": {
        "SenderId": "AIDAIT2UOQQY3AUEKVGXU",
        "ApproximateFirstReceiveTimestamp": "1700000000000",
        "ApproximateReceiveCount": "1",
        "SentTimestamp": "1700000000000",
        "SequenceNumber": "18849496460467696128",
        "MessageDeduplicationId": "doc-123-yearBuilt-" + "f" * 26,
        "MessageGroupId": "doc-123-yearBuilt",
    },
    "MD5OfMessageAttributes": "b" * 32,
    "MessageAttributes": {
        "entity_id": {"DataType": "String", "StringValue": "doc-123"},
        "task_name": {"DataType": "String", "StringValue": "yearBuilt"},
    },
}


def _answer(said: dict[str, Any]) -> bytes:
    body = json.dumps(said).encode()
    head = (
        f"HTTP/1.1 200 OK\r\nx-amzn-RequestId: {_ID}\r\nDate: Tue, 24 Nov 2026 08:00:00 GMT\r\n"
        f"Content-Type: application/x-amz-json-1.0\r\nconnection: keep-alive\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


_ANSWERS: Final = {
    b"SendMessageBatch": _answer({"Successful": [{"Id": str(i), **_SENT} for i in range(COUNT)]}),
    b"ReceiveMessage": _answer({"Messages": [_RECEIVED] * COUNT}),
    b"DeleteMessageBatch": _answer({"Successful": [{"Id": str(i)} for i in range(COUNT)]}),
}


class _Canned(asyncio.Protocol):
    def __init__(self) -> None:
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = dict(line.lower().split(b":", 1) for line in self._buffer[:end].split(b"\r\n")[1:])
            whole = end + 4 + int(head[b"content-length"])
            if len(self._buffer) < whole:
                return
            target = next(line for line in self._buffer[:end].split(b"\r\n") if b"AmazonSQS." in line)
            self._buffer = self._buffer[whole:]
            self._transport.write(_ANSWERS[target.rpartition(b".")[2]])


async def main() -> None:
    """Serve until the standard input ends."""
    server = await asyncio.get_running_loop().create_server(_Canned, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
