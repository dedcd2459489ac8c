"""Real servers for the tests, on free loopback ports, ended by pid."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

_SERVE = """
import sys
import threading
from moto.dynamodb.models.table import Table
from moto.dynamodb.responses import DynamoHandler
from moto.server import ThreadedMotoServer
turn, answer = threading.Lock(), DynamoHandler.call_action
def one_at_a_time(self):
    with turn:
        return answer(self)
DynamoHandler.call_action = one_at_a_time
whole = Table.query
def of_one_partition(self, hash_key, *rest, **named):
    index = rest[6]
    self.wanted = None if index else hash_key
    try:
        return whole(self, hash_key, *rest, **named)
    finally:
        self.wanted = None
def unsorted(self):
    sets = self.items.values() if getattr(self, "wanted", None) is None else [self.items.get(self.wanted, {})]
    return [item for each in sets for item in each.values()]
Table.query, Table.all_items = of_one_partition, unsorted
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


def table_of(folder):
    """The name of the DynamoDB table that a test's folder stands for."""
    return f"t{hashlib.sha256(str(folder).encode()).hexdigest()[:20]}"


@contextmanager
def moto_server() -> Iterator[str]:
    """Moto's server in a process of its own; yields its endpoint. It ends with its standard input.

    Its threads would see each other's half-done conditional writes, which DynamoDB's clients never do: they take turns.
    And it sorts a whole table for each look into one partition; here it doesn't.
    """
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _SERVE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


class FanfoldServer:
    """`fanfold serve` in a process of its own, on a free port."""

    def __init__(self, file: Path, *arguments: str, **environ: str) -> None:
        """Return when it accepts requests."""
        command = [sys.executable, "-m", "fanfold", "serve", str(file), "--json", "--listen", "127.0.0.1:0", *arguments]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | environ
        )
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(self.end())
        said = json.loads(line)
        self.url, self.port, self.queues = said["url"], said["port"], said["queues"]

    def end(self) -> str:
        """Stop it in order; answers what it wrote to standard error."""
        self.process.terminate()
        return self.finish()

    def kill(self) -> str:
        """Kill it; answers what it wrote to standard error."""
        self.process.kill()
        return self.finish()

    def finish(self) -> str:
        """Wait for its end; answers what it wrote to standard error."""
        written = self.process.communicate(timeout=300)[1]
        return str(written)


@contextmanager
def fanfold_server(file: Path, *arguments: str, **environ: str) -> Iterator[FanfoldServer]:
    """`fanfold serve` until the block is left."""
    server = FanfoldServer(file, *arguments, **environ)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.end()


class Line:
    """A line to a server on this machine, for the running loop. `cut` breaks it with all that goes over it."""

    def __init__(self, port: int) -> None:
        self._far_end = port
        self._ends: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server
        self.port = 0

    async def mend(self) -> None:
        """Lay it, or mend it: its port stays the same."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """From now on nobody answers, and what was open is reset."""
        self._server.close()
        for end in self._ends:
            end.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._far_end)
        ends = {writer, far_writer}
        self._ends |= ends
        await asyncio.gather(_carry(reader, far_writer), _carry(far_reader, writer))
        self._ends -= ends


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(2**16):
            writer.write(chunk)
    except OSError:
        pass  # it was cut
    writer.close()


@asynccontextmanager
async def line_to(endpoint: str) -> AsyncIterator[Line]:
    """A line to a server for the length of a block."""
    line = Line(int(endpoint.rpartition(":")[2]))
    await line.mend()
    try:
        yield line
    finally:
        line.cut()
