"""One installed distribution: what its metadata states, and which files it lists.

The layout on disk is the packaging specification's "Recording installed projects": a `.dist-info` folder with METADATA,
RECORD, WHEEL, INSTALLER. The older `.egg-info` is read as far as it goes. What is there but can't be read is no reason
to try again: it rejects the task, and says what is wrong with which file.
"""

from __future__ import annotations

import configparser
import csv
import email
import errno
import importlib.metadata
import io
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Final

import msgspec

from fanfold.demo import requirement
from fanfold.demo.requirement import Requirement
from fanfold.outcome import Reject

_NO_SECTION: Final = "\n"
"""A name that no section can have: no group's entries are another's defaults."""


class _Folder(msgspec.Struct, frozen=True):
    editable: bool = False


class _Origin(msgspec.Struct, frozen=True):
    """The part of direct_url.json that says how a folder was installed."""

    dir_info: _Folder | None = None


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

    @property
    def there(self) -> bool:
        """Whether it is a file on the disk, and not missing or something else."""
        try:
            return self.location.is_file()
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:  # no file can be called that
                return False
            raise


class Distribution:
    """One installed distribution, open for reading. Nothing is kept: every call reads the disk again."""

    def __init__(self, found: importlib.metadata.Distribution, name: str, version: str, headers: Message) -> None:
        self.name = name
        self.version = version
        self._found = found
        self._headers = headers

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

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

    def description(self) -> str:
        """The long description: METADATA's body, or its header in old ones; empty where there is none."""
        body = self._headers.get_payload()
        return (body if isinstance(body, str) else "").strip() or self.header("Description") or ""

    def requirements(self) -> list[Requirement]:
        """What it requires, with or without conditions, in the order of METADATA."""
        try:
            return [requirement.parse(text) for text in self._found.requires or []]
        except UnicodeDecodeError as error:
            raise Reject(f"the requirements of {self} are not UTF-8 (byte {error.start})") from error
        except ValueError as error:
            raise Reject(f"METADATA of {self}: {error}") from error

    def entry_points(self) -> dict[str, dict[str, str]]:
        """Entry points by group: names and the objects that they refer to, as they are written."""
        parser = configparser.ConfigParser(
            delimiters=("=",), interpolation=None, strict=False, default_section=_NO_SECTION
        )
        parser.optionxform = str  # type: ignore[assignment,method-assign] # names keep their case
        try:
            parser.read_string(self.text("entry_points.txt") or "", source="entry_points.txt")
        except configparser.Error as error:
            raise Reject(f"entry_points.txt of {self} is broken: {' '.join(str(error).split())}") from error
        return {group: dict(parser[group]) for group in parser.sections() if parser[group]}

    def text(self, name: str) -> str | None:
        """A file of the `.dist-info` folder, or None where there is none."""
        try:
            return self._found.read_text(name)
        except UnicodeDecodeError as error:
            raise Reject(f"{name} of {self} is not UTF-8 (byte {error.start})") from error

    def wheel(self) -> Message | None:
        """The headers of WHEEL, or None: the distribution wasn't installed from a wheel."""
        text = self.text("WHEEL")
        return None if text is None else email.message_from_string(text)

    def files(self) -> list[ListedFile]:
        """The listed files, each once, in the order of RECORD.

        RECORD is read here and not through `importlib.metadata`, which from Python 3.12 on hides files that are
        missing. An `.egg-info`'s list names files that never were to be installed, so there only what exists counts.
        """
        if self._editable():
            raise Reject(f"{self} is installed in place (editable): its RECORD doesn't list its files")
        record = self.text("RECORD")
        if record is not None:
            return list({file.path: file for file in self._rows(record)}.values())
        listed = self._found.files
        if listed is None:
            raise Reject(f"{self} has no RECORD: its installer left no list of files")
        located = {str(path): Path(str(path.locate())) for path in listed}
        return [ListedFile(path, location) for path, location in located.items() if location.exists()]

    def _editable(self) -> bool:
        text = self.text("direct_url.json")
        if text is None:
            return False
        try:
            origin = msgspec.json.decode(text, type=_Origin)
        except (msgspec.DecodeError, RecursionError) as error:
            raise Reject(f"direct_url.json of {self} is broken: {error}") from error
        return origin.dir_info is not None and origin.dir_info.editable

    def _rows(self, record: str) -> Iterator[ListedFile]:
        try:
            for row in csv.reader(io.StringIO(record, newline=""), strict=True):
                if row and row[0]:
                    algorithm, _, digest = (row[1] if len(row) > 1 else "").partition("=")
                    location = Path(str(self._found.locate_file(row[0])))
                    yield ListedFile(row[0], location, algorithm.lower(), digest.rstrip("="))
        except csv.Error as error:
            raise Reject(f"RECORD of {self} is broken: {error}") from error
