"""What tests let child processes do. A module of its own, so that a child imports little."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from fanfold.outcome import Reject, Retry
from fanfold.processes import Processes


class OddError(Exception):
    """Can be pickled but not unpickled: its constructor wants more than what it hands on."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


class UnpicklableError(Exception):
    def __reduce__(self):
        raise RuntimeError("not to be pickled")


class OddRetry(Retry):
    def __init__(self, code, text):
        super().__init__(text, delay=code)


def pid():
    return os.getpid()


def raises_odd():
    raise OddError(7, "odd")


def raises_unpicklable():
    raise UnpicklableError("sealed")


def raises_local():
    class LocalError(Exception):
        pass

    raise LocalError("nobody can import me")


def raises_keyboard_interrupt():
    raise KeyboardInterrupt


def raises_system_exit():
    sys.exit(3)


def raises_odd_retry():
    raise OddRetry(77, "later")


def raises_a_timeout():
    raise TimeoutError("the far side was slow")


def raises_os_error():
    raise BrokenPipeError("their own pipe")


def returns_reject():
    return Reject("no roof")


def returns_a_lambda():
    return lambda: None


def returns_a_local_dataclass():
    @dataclasses.dataclass
    class Local:
        page: int = 7

    return Local()


def returns_text(size):
    return "x" * size


def takes_more_memory_than_it_may():
    """Ask for a gigabyte more than its limit lets it have; the limit is taken back afterwards."""
    gigabyte = 2**30
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (gigabyte, before[1]))
    try:
        return len(bytearray(2 * gigabyte))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def is_a_parent(said):
    """Let a child run what never ends."""

    async def never_returns():
        call = pickle.dumps(partial(never_ends, said))
        await Processes(1).run("task", call, seconds=3600)

    asyncio.run(never_returns())


def exits():
    os._exit(9)


def is_killed():
    os.kill(os.getpid(), signal.SIGKILL)


def never_ends(said):
    """Say its pid through a FIFO, and never end."""
    say(said, os.getpid())
    while True:
        time.sleep(3600)  # only who is killed gets out of here


def starts_another(said):
    """Start a program, say both pids, and wait for it."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"]) as other:
        say(said, os.getpid(), other.pid)


def meets(said, gate):
    """Say its pid, and end when the test opens the gate."""
    say(said, os.getpid())
    os.close(os.open(gate, os.O_RDONLY))
    return os.getpid()


def survives_signals():
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.raise_signal(number)
    return "still here"


def fork_is_ended_by(number):
    """Fork, let the child be sent a signal, and answer which one ended it."""
    forked = os.fork()
    if not forked:
        signal.raise_signal(number)
        os._exit(0)
    return os.WTERMSIG(os.waitpid(forked, 0)[1])


def say(fifo, *pids):
    with Path(fifo).open("w") as file:
        file.write(" ".join(map(str, pids)) + "\n")
