"""Real servers for the tests, on free loopback ports, ended by pid."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_SERVE = """
import sys
import threading
from moto.dynamodb.responses import DynamoHandler
from moto.server import ThreadedMotoServer
turn, answer = threading.Lock(), DynamoHandler.call_action
def one_at_a_time(self):
    with turn:
        return answer(self)
DynamoHandler.call_action = one_at_a_time
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
