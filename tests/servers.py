"""Real servers for the tests, on free loopback ports, ended by pid."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SERVE = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@contextmanager
def moto_server() -> Iterator[str]:
    """Moto's server in a process of its own; yields its endpoint. It ends with its standard input."""
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
        written = self.process.communicate(timeout=60)[1]
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
