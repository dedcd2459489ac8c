"""One round of a peer: its script, in its own environment, in a process of its own; and what rounds come to."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from conformance.environments import ROOT, Environment

SCRIPTS: Final = Path(__file__).with_name("peers")
REQUIREMENTS: Final = SCRIPTS / "requirements"
LONGEST: Final = 120.0
"""Seconds after which a step of a round is given up."""
STEPS: Final = "enqueue", "drain"
SETTINGS: Final = {
    "AWS_ACCESS_KEY_ID": "bench",
    "AWS_SECRET_ACCESS_KEY": "bench",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": "127.0.0.1",
    "PYTHONPATH": str(ROOT / "src"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A library at one of its settings.

    `share`: the part of a round's tasks that it gets, since rates don't depend on it and slow ones would take for ever.
    """

    name: str
    environment: str
    script: str
    mode: str = ""
    share: float = 1.0
    fifo: bool = True

    def tasks(self, of: int) -> int:
        """Its part of a round's tasks."""
        return max(int(of * self.share), 1)

    def python(self) -> str:
        """The Python of its environment, made as pinned where it isn't there; raises `UnavailableError`."""
        return Environment(name=self.environment, python=(3, 12), requirements=REQUIREMENTS).make()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Enqueueing or draining, as the peer's process measured it."""

    tasks: int
    seconds: float
    cpu_seconds: float
    max_rss_mib: float
    settings: str
    versions: Mapping[str, str]

    @property
    def rate(self) -> float:
        """Tasks a second."""
        return self.tasks / self.seconds

    @property
    def cpu(self) -> float:
        """CPU of its process, µs a task."""
        return 1e6 * self.cpu_seconds / self.tasks


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Both steps of one round."""

    enqueue: Step
    drain: Step


class PeerFailedError(Exception):
    """A peer's script didn't do what it was asked; the text has the end of its output."""


def step(peer: Peer, name: str, url: str, tasks: int, environ: Mapping[str, str] | None = None) -> Step:
    """One step of a round.

    Raises:
        PeerFailedError: it ended with an error, said nothing, or took too long.
    """
    count = peer.tasks(tasks)
    command = [peer.python(), str(SCRIPTS / f"{peer.script}.py"), name, "--tasks", str(count), "--url", url]
    command += ["--mode", peer.mode] if peer.mode else []
    environment = os.environ | SETTINGS | dict(environ or {})
    try:
        done = subprocess.run(  # noqa: S603 - our own script
            command, capture_output=True, text=True, check=False, timeout=LONGEST, env=environment
        )
    except subprocess.TimeoutExpired as error:
        raise PeerFailedError(f"{peer.name}, {name}: not done after {LONGEST:g} s") from error
    line = done.stdout.strip().rpartition("\n")[2]
    if not line.startswith("{"):
        raise PeerFailedError(f"{peer.name}, {name}: {(done.stderr or done.stdout).strip()[-800:]}")
    said: dict[str, Any] = json.loads(line)
    return Step(tasks=count, **said)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a peer's rounds come to: medians."""

    enqueue: float
    drain: float
    enqueue_cpu: float
    drain_cpu: float
    memory: float
    """MiB resident at most, of the worker."""


def standing(rounds: Sequence[Round]) -> Standing:
    """Medians of rounds."""
    return Standing(
        enqueue=median(one.enqueue.rate for one in rounds),
        drain=median(one.drain.rate for one in rounds),
        enqueue_cpu=median(one.enqueue.cpu for one in rounds),
        drain_cpu=median(one.drain.cpu for one in rounds),
        memory=median(one.drain.max_rss_mib for one in rounds),
    )


def ratio(mine: Sequence[float], others: Sequence[float]) -> float:
    """The median of the rounds' ratios: what slowed one round down slowed both sides of it."""
    return median(one / other for one, other in zip(mine, others, strict=True))
