"""What runs in a child process: calls, one after the other, for as long as the parent lives and not a moment longer."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, Final

from fanfold.calling import outcome_of
from fanfold.outcome import Completed

BEGUN: Final = None
"""What a child says between having loaded a call, for which it may import the application, and making it."""

_SET_PARENT_DEATH_SIGNAL: Final = 1
"""PR_SET_PDEATHSIG of Linux' prctl(2)."""


def serve(pipe: Connection) -> None:
    """Make the calls that come through `pipe` until it ends: `(name, pickled call)` in, `BEGUN` and an outcome out."""
    lead_group()
    leave_signals_to_parent()
    end_with_parent()
    with suppress(EOFError, OSError):  # the parent is gone, or has done with us
        while True:
            name, call = pipe.recv()
            outcome = outcome_of(name, partial(_make, call, pipe))
            pipe.send(Completed(None, outcome.encoded) if isinstance(outcome, Completed) else outcome)


def lead_group() -> None:
    """Make this process the first of a group, in which what it starts is killed with it."""
    if hasattr(os, "setsid"):
        os.setsid()


def kill_group(leader: int | None) -> None:
    """Kill a process that leads a group and all in it; nothing where it doesn't (yet), or there are no groups."""
    if leader is not None and hasattr(os, "killpg"):
        with suppress(ProcessLookupError):
            os.killpg(leader, signal.SIGKILL)


def leave_signals_to_parent() -> None:
    """Ignore what asks a whole service to stop (systemd signals every process): the parent decides who goes on.

    What this process forks doesn't ignore it, as it would if the signals were blocked or ignored as such.
    """
    us = os.getpid()

    def decline(number: int, _: FrameType | None) -> None:
        if os.getpid() != us:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, decline)


def end_with_parent() -> None:
    """See to it that this process doesn't outlive its parent, even one that was killed.

    A successor of the parent takes the task over when its lease ends; by then nobody else must be at it. On Linux the
    kernel sees to it, whatever this process does; elsewhere a thread, as soon as it gets a turn.
    """
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):  # another libc
            ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    watch_parent()


def watch_parent() -> None:
    """End this process and its group when its parent has ended; at once, where it already has."""

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            kill_group(os.getpid())
            os._exit(1)

    threading.Thread(target=watch, name="fanfold-parent", daemon=True).start()


def _make(call: bytes, pipe: Connection) -> Any:
    function = pickle.loads(call)  # noqa: S301 - our parent's own bytes
    pipe.send(BEGUN)
    return function()
