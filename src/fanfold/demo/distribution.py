"""Installed Python distributions as values: which there are, what their metadata states, which files they list.

The layout on disk is the packaging specification's "Recording installed projects": a `.dist-info` folder with METADATA,
RECORD, WHEEL, INSTALLER. The older `.egg-info` is read as far as it goes.
"""

from __future__ import annotations

import csv
import email
import importlib.metadata
import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

from fanfold.model import Json


@dataclass(frozen=True, slots=True)
class Installed:
    """An installed distribution by name and version, as METADATA spells them."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def key(self) -> str:
        """The name as packaging tools compare it: `Foo.Bar_baz` and `foo-bar-baz` are one distribution."""
        return canonical(self.name)

    @property
    def entity_id(self) -> str:
        """What its fan-out is about, such as `click-8.5.1`."""
        return f"{self.key}-{self.version}"

    @property
    def task_config(self) -> dict[str, Json]:
        """What a field's task needs to find it again, in whatever process it runs."""
        return {"distribution": self.key, "version": self.version}


@dataclass(frozen=True, slots=True)
class ListedFile:
    """One row of RECORD. `path` is as listed; `digest` is the urlsafe base64 of the hash, without padding.

    `algorithm` and `digest` are empty where the row has no hash. The file need not be there.
    """

    path: str
    location: Path
    algorithm: str = ""
    digest: str = ""

    @property
    def parts(self) -> tuple[str, ...]:
        """The path's parts; the first is a top-level module's name for most files."""
        return tuple(self.path.split("/"))

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.parts[-1]

    @property
    def suffix(self) -> str:
        """`.py` of `a/b.py`, in lower case; empty where there is none."""
        return Path(self.name).suffix.lower()


class Distribution:
    """One installed distribution, open for reading. Nothing is kept: every call reads the disk again."""

    def __init__(self, found: importlib.metadata.Distribution, stated: Installed, headers: Message) -> None:
        self.stated = stated
        self._found = found
        self._headers = headers

    def __str__(self) -> str:
        return str(self.stated)

    def headers(self, name: str) -> list[str]:
        """Every value of a METADATA header; `UNKNOWN`, which old tools wrote for nothing, counts as nothing."""
        values = (str(value).strip() for value in self._headers.get_all(name) or ())
        return [value for value in values if value and value != "UNKNOWN"]

    def header(self, name: str) -> str | None:
        """The first value of a METADATA header, or None."""
        return next(iter(self.headers(name)), None)

    def classifiers(self, prefix: str) -> list[str]:
        """What stands behind `prefix ::` in the classifiers, in their order."""
        start = f"{prefix} :: "
        return [value.removeprefix(start) for value in self.headers("Classifier") if value.startswith(start)]

    def requirements(self) -> list[str]:
        """Requirements as they are written, markers included."""
        return self._found.requires or []

    def entry_points(self) -> dict[str, list[str]]:
        """Names of the entry points by group, both in alphabetical order.

        Raises:
            ValueError: entry_points.txt has a line that isn't `name = object`.
        """
        try:
            found = sorted((point.group, point.name) for point in self._found.entry_points)
        except TypeError as error:  # importlib.metadata's way to say that a line has no "="
            raise ValueError("a line is not `name = object`") from error
        groups: dict[str, list[str]] = {}
        for group, name in found:
            groups.setdefault(group, []).append(name)
        return groups

    def text(self, name: str) -> str | None:
        """A file of the `.dist-info` folder, or None where there is none."""
        return self._found.read_text(name)

    def wheel(self) -> Message | None:
        """The headers of WHEEL, or None: the distribution wasn't installed from a wheel."""
        text = self.text("WHEEL")
        return None if text is None else email.message_from_string(text)

    def editable(self) -> bool:
        """Whether the files are used from where they are developed, so that RECORD doesn't list them."""
        origin = json.loads(self.text("direct_url.json") or "{}")
        return bool(origin.get("dir_info", {}).get("editable"))

    def files(self) -> list[ListedFile] | None:
        """The listed files, each once, in the order of RECORD; None where no list was left by the installer.

        RECORD is read here and not through `importlib.metadata`, which from Python 3.12 on hides files that are
        missing. An `.egg-info`'s list names files that never were to be installed, so there only what exists counts.
        """
        record = self.text("RECORD")
        if record is not None:
            return list({file.path: file for file in self._rows(record)}.values())
        listed = self._found.files
        if listed is None:
            return None
        located = {str(path): Path(str(path.locate())) for path in listed}
        return [ListedFile(path, location) for path, location in located.items() if location.exists()]

    def _rows(self, record: str) -> Iterator[ListedFile]:
        for row in csv.reader(record.splitlines()):
            if row:
                algorithm, _, digest = (row[1] if len(row) > 1 else "").partition("=")
                yield ListedFile(row[0], Path(str(self._found.locate_file(row[0]))), algorithm, digest.rstrip("="))


def canonical(name: str) -> str:
    """A name as the packaging specification normalises it: lower case, and one hyphen for any run of `-`, `_`, `.`."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed() -> list[Installed]:
    """The distributions of the running environment by name; of two with one name, the first on `sys.path` counts.

    Left out are folders that state no name and version: what an interrupted uninstallation leaves behind.
    """
    found: dict[str, Installed] = {}
    for distribution in _readable(importlib.metadata.distributions(path=sys.path)):
        found.setdefault(distribution.stated.key, distribution.stated)
    return sorted(found.values(), key=lambda stated: stated.key)


def find(name: str) -> Distribution | None:
    """The distribution of that name, however its case and separators are spelled; None: it isn't installed.

    The lookup by name only reads the folders' names. It misses a distribution whose folder is spelled in another way
    than its METADATA, and there all of them are read.
    """
    wanted = canonical(name)
    for candidates in (
        importlib.metadata.distributions(name=name, path=sys.path),
        importlib.metadata.distributions(path=sys.path),
    ):
        for distribution in _readable(candidates):
            if distribution.stated.key == wanted:
                return distribution
    return None


def _readable(candidates: Iterable[importlib.metadata.Distribution]) -> Iterator[Distribution]:
    for found in candidates:
        headers = _headers(found)
        name, version = (str(headers.get(key) or "").strip() for key in ("Name", "Version"))
        if name and version:
            yield Distribution(found, Installed(name, version), headers)


def _headers(found: importlib.metadata.Distribution) -> Message:
    """METADATA, parsed; empty where there is none or it isn't UTF-8, as the specification wants it."""
    try:
        text = found.read_text("METADATA") or found.read_text("PKG-INFO") or found.read_text("")
    except UnicodeDecodeError:
        text = None
    return email.message_from_string(text or "")
