"""A TCP proxy in a process of its own that counts requests to SQS, and makes the way to the server longer.

Each direction is delayed by half the round trip, and each connection's first bytes by a whole one besides, which its
handshake would have taken. Bytes keep their order, and as many as one likes are under way at once: it is distance, not
a narrow line. A line on its standard input is answered with the counts since the line before; it ends with its input.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, cast

_ACTION: Final = re.compile(rb"\nx-amz-target: *amazonsqs\.(\w+)|(?:^|[?&\n])action=(\w+)", re.IGNORECASE)
_LENGTH: Final = re.compile(rb"\ncontent-length: *(\d+)", re.IGNORECASE)


class Requests:
    """Finds the requests in a connection's bytes, however they were cut; counts them by action."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts
        self._buffer = b""

    def feed(self, data: bytes) -> None:
        """Take the next bytes of a client."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._buffer, 0, end)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < whole:
                return
            action = _ACTION.search(self._buffer, 0, whole)
            self._counts[(action[1] or action[2]).decode() if action else "other"] += 1
            self._buffer = self._buffer[whole:]


class _Way(asyncio.Protocol):
    """One end of a connection: what it gets is written to the other end, later."""

    def __init__(self, delay: float, requests: Requests | None) -> None:
        self.delay = delay
        self.first = 0.0
        self._requests = requests
        self._waiting: list[bytes] | None = []
        self._other: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def join(self, other: asyncio.WriteTransport) -> None:
        """From now on there is an other end."""
        self._other = other
        waiting, self._waiting = self._waiting or [], None
        for data in waiting:
            self._send(data)

    def data_received(self, data: bytes) -> None:
        if self._requests is not None:
            self._requests.feed(data)
        if self._waiting is not None:
            self._waiting.append(data)
        else:
            self._send(data)

    def _send(self, data: bytes) -> None:
        other = cast("asyncio.WriteTransport", self._other)
        if not self.delay and not self.first:
            other.write(data)
            return
        loop = asyncio.get_running_loop()
        at = max(loop.time() + self.delay, self.first)
        loop.call_at(at, other.write, data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if self._other is not None:
            asyncio.get_running_loop().call_later(self.delay, self._other.close)


async def serve(port: int, round_trip: float) -> None:
    """Listen, print the port, and answer with counts until the standard input ends."""
    loop, counts = asyncio.get_running_loop(), Counter[str]()
    joining: set[asyncio.Task[None]] = set()

    class Client(_Way):
        def __init__(self) -> None:
            super().__init__(round_trip / 2, Requests(counts))

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.first = loop.time() + 1.5 * round_trip if round_trip else 0.0
            joining.add(task := loop.create_task(self._connect()))
            task.add_done_callback(joining.discard)

        async def _connect(self) -> None:
            transport, server = await loop.create_connection(lambda: _Way(round_trip / 2, None), "127.0.0.1", port)
            server.join(self.transport)
            self.join(transport)

    server = await loop.create_server(Client, "127.0.0.1", 0, backlog=1_024)
    print(server.sockets[0].getsockname()[1], flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(counts), flush=True)
        counts.clear()


class Proxy:
    """A proxy that runs: where it listens, and what it has counted."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._input = cast("IO[str]", process.stdin)
        self._output = cast("IO[str]", process.stdout)
        self.port = int(self._output.readline())

    def counts(self) -> Counter[str]:
        """Requests by action since it was asked the last time."""
        self._input.write("\n")
        self._input.flush()
        return Counter(json.loads(self._output.readline()))


@contextmanager
def proxied(port: int, round_trip: float = 0.0) -> Iterator[Proxy]:
    """A proxy to a local port, with a round trip of so many seconds."""
    command = [sys.executable, str(Path(__file__)), "--to", str(port), "--round-trip", str(round_trip)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:  # type: ignore[call-overload]  # noqa: S603 - ours
        yield Proxy(process)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=int, required=True, help="the server's port")
    parser.add_argument("--round-trip", type=float, default=0.0, help="seconds")
    options = parser.parse_args()
    asyncio.run(serve(options.to, options.round_trip))
