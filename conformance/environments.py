"""Virtual environments with pinned packages, and test suites out of source distributions, in a folder that git ignores.

Nothing of what is fetched is ever copied into the repository, and test files stay as they were shipped.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
CACHE: Final = ROOT / ".conformance"
REQUIREMENTS: Final = Path(__file__).with_name("requirements")


class UnavailableError(Exception):
    """Something that can't be had on this machine; the text says what and why. The run goes on without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A virtual environment of its own: `<name>.txt` in the requirements' folder holds its pins."""

    name: str
    python: tuple[int, int] = (3, 11)
    requirements: Path = REQUIREMENTS
    """The folder of its pins."""

    @property
    def folder(self) -> Path:
        """Where it is."""
        kind = "" if self.requirements == REQUIREMENTS else f"{self.requirements.parent.name}-"
        return CACHE / f"venv-{kind}{self.name}"

    @property
    def interpreter(self) -> str:
        """Its Python."""
        return str(self.folder / "bin" / "python")

    @property
    def _pins(self) -> str:
        return (self.requirements / f"{self.name}.txt").read_text(encoding="utf-8")

    def pinned(self, package: str) -> str:
        """The version of a package in it."""
        pins = dict(line.partition(" ")[0].split("==") for line in self._pins.splitlines() if "==" in line)
        return re.sub(r"[^\w.].*", "", pins[package])

    def make(self) -> str:
        """Make it if it isn't there as pinned; answers its Python.

        Raises:
            UnavailableError: no Python that is new enough, or the packages can't be had.
        """
        pins = self._pins
        stamp = self.folder / "pins.txt"
        if not stamp.exists() or stamp.read_text(encoding="utf-8") != pins:
            python = newest_python(self.python)
            print(f"installing {self.name} for {python} ...", flush=True)
            shutil.rmtree(self.folder, ignore_errors=True)
            _run([python, "-m", "venv", str(self.folder)], self.name)
            pip = [self.interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            _run([*pip, "--no-deps", "-r", str(self.requirements / f"{self.name}.txt")], self.name)
            stamp.write_text(pins, encoding="utf-8")
        return self.interpreter


def newest_python(least: tuple[int, int]) -> str:
    """The newest Python of this machine that works.

    Raises:
        UnavailableError: it is older than `least`.
    """
    found = subprocess.run([ROOT / "scripts" / "pythons.sh"], capture_output=True, text=True, check=True)
    newest = found.stdout.split()[-1] if found.stdout.split() else sys.executable
    ask = [newest, "-c", "import sys; print(*sys.version_info[:2])"]
    version = tuple(map(int, subprocess.run(ask, capture_output=True, text=True, check=True).stdout.split()))
    if version < least:
        raise UnavailableError(
            f"needs Python {least[0]}.{least[1]} or newer, and the newest that works here is {newest}"
        )
    return newest


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A source distribution, and what is taken out of it."""

    package: str
    version: str
    members: Sequence[str]
    """Files and folders, as they are called inside the distribution's top folder."""

    @property
    def folder(self) -> Path:
        """Where it is unpacked."""
        return CACHE / f"suite-{self.package}-{self.version}"

    def unpack(self, python: str, conftest: Path) -> Path:
        """Fetch by `python`'s pip and unpack what isn't there yet, with a conftest of ours in place of theirs.

        Answers the folder.

        Raises:
            UnavailableError: it can't be fetched.
        """
        if not (self.folder / "complete").exists():
            shutil.rmtree(self.folder, ignore_errors=True)
            with tarfile.open(self._fetched(python)) as archive:
                archive.extractall(self.folder, members=self._wanted(archive), filter="data")
            # Recorded answers are found by the path from the nearest pyproject.toml, and pytest's options end here.
            (self.folder / "pyproject.toml").write_text("[tool.pytest.ini_options]\n", encoding="utf-8")
            (self.folder / "complete").touch()
        shutil.copyfile(conftest, self.folder / "conftest.py")
        return self.folder

    def _fetched(self, python: str) -> Path:
        downloads = CACHE / "downloads"
        pip = [python, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        what = ["--no-deps", "--no-binary", ":all:", "--dest", str(downloads), f"{self.package}=={self.version}"]
        _run([*pip, *what], self.package)
        return next(downloads.glob(f"{self.package.replace('-', '_')}-{self.version}.tar.gz"))

    def _wanted(self, archive: tarfile.TarFile) -> list[tarfile.TarInfo]:
        wanted = []
        for member in archive.getmembers():
            member.name = member.name.partition("/")[2]
            if any(member.name == name or member.name.startswith(f"{name}/") for name in self.members):
                wanted.append(member)
        return wanted


def npm_install(name: str, packages: Sequence[str]) -> Path:
    """Install pinned packages from npm into a folder of their own; answers its `node_modules`.

    Raises:
        UnavailableError: no Node.js here, or a package can't be had.
    """
    if shutil.which("npm") is None:
        raise UnavailableError("needs Node.js with npm, which isn't installed here")
    prefix = CACHE / f"npm-{name}"
    stamp = prefix / "packages.txt"
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != " ".join(packages):
        print(f"installing {', '.join(packages)} ...", flush=True)
        shutil.rmtree(prefix, ignore_errors=True)
        prefix.mkdir(parents=True)
        _run(["npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", str(prefix), *packages], name)
        stamp.write_text(" ".join(packages), encoding="utf-8")
    return prefix / "node_modules"


def _run(command: Sequence[str], what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr or done.stdout).strip().splitlines()
        raise UnavailableError(f"{what} can't be installed: {reason[-1] if reason else done.returncode}")
