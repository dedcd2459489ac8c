"""Endpoints to ask: our own, and other implementations of SQS, each a process of its own on a free loopback port."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final
from urllib.error import HTTPError, URLError

from conformance.environments import CACHE, Environment, UnavailableError, npm_install
from fanfold import __version__

ACCOUNT: Final = "000000000000"
REGION: Final = "us-east-1"
_START: Final = 90.0
"""Seconds that a server may take to answer for the first time."""
_FAUXQS: Final = "2.4.1"
_NODE: Final = "22.23.3"
"""Fauxqs needs a newer Node.js than many machines have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A server that answers. One that we didn't start has no `pid`, and no `version` that we know."""

    name: str
    url: str
    version: str = ""
    pid: int | None = None


Start = Callable[[], AbstractContextManager[Endpoint]]


@contextmanager
def fanfold(*options: str, file: Path | None = None, synchronous: str = "FULL") -> Iterator[Endpoint]:
    """`fanfold serve`, durable, on a throw-away file unless one is given."""
    with tempfile.TemporaryDirectory() as folder:
        path = (file or Path(folder, "serve.db")).absolute()
        command = [sys.executable, "-m", "fanfold", "serve", f"sqlite:///{path}?synchronous={synchronous}"]
        with _process([*command, "--listen", "127.0.0.1:0", "--json", *options], stdout=subprocess.PIPE) as process:
            line = process.stdout.readline() if process.stdout is not None else b""
            if not line:
                raise UnavailableError("`fanfold serve` ended before it said where it listens; its error is above")
            name = "fanfold" if synchronous == "FULL" else f"fanfold, {synchronous}"
            yield Endpoint(name=name, url=json.loads(line)["url"], version=__version__, pid=process.pid)


@contextmanager
def moto() -> Iterator[Endpoint]:
    """Moto's server, in memory."""
    environment = Environment(name="moto")
    python = environment.make()
    port = free_port()
    command = [python, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _server("moto", environment.pinned("moto"), command, port, {"MOTO_ACCOUNT_ID": ACCOUNT}) as endpoint:
        yield endpoint


@contextmanager
def localstack() -> Iterator[Endpoint]:
    """LocalStack's SQS without Docker ("host mode"), in memory, with AWS's waits after a purge and a deletion."""
    environment = Environment(name="localstack", python=(3, 13))
    python = environment.make()
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "SERVICES": "sqs",
            "STRICT_SERVICE_LOADING": "1",
            "GATEWAY_LISTEN": f"127.0.0.1:{port}",
            "LOCALSTACK_HOST": f"127.0.0.1:{port}",
            "SQS_ENDPOINT_STRATEGY": "off",
            "SQS_DELAY_PURGE_RETRY": "1",
            "SQS_DELAY_RECENTLY_DELETED": "1",
            "DISABLE_EVENTS": "1",
            "LS_LOG": "warning",
            "DNS_ADDRESS": "0",
            "SKIP_SSL_CERT_DOWNLOAD": "1",
            "FILESYSTEM_ROOT": folder,
        }
        version = environment.pinned("localstack-core")
        command = [python, "-m", "localstack.runtime.main"]
        with _server("localstack", version, command, port, settings) as endpoint:
            yield endpoint


@contextmanager
def ministack() -> Iterator[Endpoint]:
    """Ministack, in memory."""
    environment = Environment(name="ministack")
    python = environment.make()
    port = free_port()
    settings = {
        "SERVICES": "sqs",
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "MINISTACK_HOST": "127.0.0.1",
        "LOG_LEVEL": "WARNING",
    }
    version = environment.pinned("ministack")
    with _server("ministack", version, [python, "-m", "ministack"], port, settings) as endpoint:
        yield endpoint


@contextmanager
def fauxqs() -> Iterator[Endpoint]:
    """Fauxqs, of npm, in memory."""
    packages = npm_install("fauxqs", [f"fauxqs@{_FAUXQS}", f"node@{_NODE}"])
    node = str(packages / ".bin" / "node")
    port = free_port()
    app = (packages / "fauxqs" / "dist" / "app.js").as_uri()
    # Its own command line writes a line for every request; measured beside others, it would be paying for that.
    start = f"import {{ startFauxqs }} from {app!r}; await startFauxqs({{ port: {port}, logger: false }});"
    with _server("fauxqs", _FAUXQS, [node, "--input-type=module", "-e", start], port, {}) as endpoint:
        yield endpoint


PEERS: Final[Mapping[str, Start]] = {
    "fanfold": fanfold,
    "moto": moto,
    "localstack": localstack,
    "ministack": ministack,
    "fauxqs": fauxqs,
}


def free_port() -> int:
    """A loopback port that was free a moment ago, for servers that can't say which one they took."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _server(
    name: str, version: str, command: Sequence[str], port: int, settings: Mapping[str, str]
) -> Iterator[Endpoint]:
    CACHE.mkdir(exist_ok=True)
    with (CACHE / f"server-{name}.log").open("w") as log, _process(command, stdout=log, settings=settings) as process:
        url = f"http://127.0.0.1:{port}"
        _until_answering(name, url, process)
        yield Endpoint(name=name, url=url, version=version, pid=process.pid)


@contextmanager
def _process(
    command: Sequence[str], *, stdout: int | IO[str], settings: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    environ = {**os.environ, **(settings or {})}
    stderr = None if stdout == subprocess.PIPE else subprocess.STDOUT
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=environ)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _until_answering(name: str, url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START
    while not _answers(url):
        if process.poll() is not None:
            raise UnavailableError(f"{name} ended while it started: see {CACHE}/server-{name}.log")
        if time.monotonic() > deadline:
            raise UnavailableError(f"{name} doesn't answer within {_START:g} s: see {CACHE}/server-{name}.log")
        time.sleep(0.1)


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 - the address is ours
    except HTTPError:
        return True  # any answer is one
    except (URLError, OSError):
        return False
    return True
