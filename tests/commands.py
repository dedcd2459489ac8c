"""Fanfold's command line as people and scripts meet it: real processes, in pipes and in terminals."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios

# Where the tests run in the background, SIGINT is ignored, and every process below inherits that.
_HEED_CTRL_C = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL)"
_RUN = 'os.execv(sys.executable, [sys.executable, "-m", "fanfold", *sys.argv[1:]])'
# The terminal becomes the process's own, so that what is typed as Ctrl-C is a signal, as it is for a person.
_OWN_TERMINAL = "import fcntl, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0)"
_FANFOLD = [sys.executable, "-c", f"{_HEED_CTRL_C}; {_RUN}"]
_FANFOLD_IN_TERMINAL = [sys.executable, "-c", f"{_HEED_CTRL_C}; {_OWN_TERMINAL}; {_RUN}"]
_PATIENCE = 300
_OURS = re.compile("FANFOLD_|SQS_|AWS_|NO_COLOR|FORCE_COLOR|TTY_|COLUMNS|LINES")
ESCAPE = "\x1b"


def environment(**variables):
    """This process's environment without what would speak to Fanfold, and with these variables."""
    inherited = {name: value for name, value in os.environ.items() if not _OURS.match(name)}
    return inherited | {"TERM": "xterm-256color"} | {name: str(value) for name, value in variables.items()}


def fanfold(*arguments, cwd, stdin=None, **variables):
    """Run a command in a pipe; answers exit code, standard output and standard error."""
    return subprocess.run(
        [*_FANFOLD, *map(str, arguments)],
        cwd=cwd,
        env=environment(**variables),
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )


@contextlib.contextmanager
def started(*arguments, cwd, **variables):
    """A command that goes on; killed at the end if it is still there."""
    process = subprocess.Popen(
        [*_FANFOLD, *map(str, arguments)],
        cwd=cwd,
        env=environment(**variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


class Terminal:
    """A command in a terminal of so many columns. A context manager."""

    def __init__(self, *arguments, cwd, columns=100, **variables):
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self.process = subprocess.Popen(
            [*_FANFOLD_IN_TERMINAL, *map(str, arguments)],
            cwd=cwd,
            env=environment(**variables),
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        self.shown = ""
        self._seen = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    def type(self, text):
        os.write(self._master, text.encode())

    def press_ctrl_c(self):
        self.type("\x03")

    def until(self, pattern):
        """Wait until it shows something new that matches `pattern`; answers the match."""
        while (found := re.compile(pattern).search(self.shown, self._seen)) is None:
            if not self._read():
                raise AssertionError(f"it ended without {pattern!r}; it showed {self.shown!r}")
        self._seen = found.end()
        return found

    def end(self):
        """Wait for its end; answers the exit code."""
        while self._read():
            pass
        return self.process.wait(_PATIENCE)

    def _read(self):
        ready, _, _ = select.select([self._master], [], [], _PATIENCE)
        if not ready:
            raise AssertionError(f"it shows nothing any more, and doesn't end; it showed {self.shown!r}")
        try:
            read = os.read(self._master, 65536)
        except OSError:  # Linux's way to say that the other side is closed
            return False
        self.shown += read.decode()
        return bool(read)


def in_a_terminal(*arguments, cwd, **options):
    """Run a command in a terminal to its end; answers the exit code and what it showed."""
    with Terminal(*arguments, cwd=cwd, **options) as terminal:
        return terminal.end(), terminal.shown
