"""Which distributions are installed: in the running Python's folders, or in one that is named."""

from __future__ import annotations

import email
import importlib.metadata
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from email.message import Message
from typing import Final

from fanfold.demo.distribution import Distribution
from fanfold.demo.requirement import canonical
from fanfold.model import Json
from fanfold.outcome import Reject

_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]{0,99}")


@dataclass(frozen=True, slots=True)
class Installed:
    """A distribution by name and version, as METADATA spells them. `folder` is where to look, None: `sys.path`."""

    name: str
    version: str
    folder: str | None = None

    @property
    def key(self) -> str:
        """The name as packaging tools compare it: `Foo.Bar_baz` and `foo-bar-baz` are one distribution."""
        return canonical(self.name)

    @property
    def entity_id(self) -> str:
        """What its fan-out is about, such as `click-8.5.1`. It is a file's name too."""
        return f"{self.key}-{self.version}"

    @property
    def task_config(self) -> dict[str, Json]:
        """What a field's task needs to find it again, in whatever process it runs."""
        return {"distribution": self.key, "version": self.version, "folder": self.folder}


@dataclass(frozen=True, slots=True)
class Survey:
    """What there is: distributions by name, and the number of folders whose METADATA states no usable name and version.

    Such a folder is what an interrupted uninstallation leaves behind; there is nothing to call it by.
    """

    installed: Sequence[Installed]
    left_out: int


def survey(folder: str | None = None) -> Survey:
    """What is in `folder` (None: the running Python's folders); of two with one name, the first counts."""
    found: dict[str, Installed] = {}
    left_out = 0
    for candidate in importlib.metadata.distributions(path=_path(folder)):
        distribution = _readable(candidate)
        if distribution is None:
            left_out += 1
        else:
            stated = Installed(distribution.name, distribution.version, folder)
            found.setdefault(stated.key, stated)
    return Survey(sorted(found.values(), key=lambda stated: stated.key), left_out)


def opened(task_config: dict[str, Json]) -> Distribution:
    """The distribution that a task is about. Rejects where it, or this version of it, isn't installed any more."""
    name, version = task_config["distribution"], task_config["version"]
    others = []
    for distribution in named(name, task_config.get("folder")):
        if distribution.version == version:
            return distribution
        others.append(distribution.version)
    now = f"; version {others[0]} is now" if others else ""
    raise Reject(f"{name} {version} isn't installed any more{now}")


def named(name: str, folder: str | None = None) -> Iterator[Distribution]:
    """The distributions of that name, however its case and separators are spelled, in the order of `sys.path`.

    The lookup by name only reads the folders' names. It misses a distribution whose folder is spelled in another way
    than its METADATA, and where it finds none, all of them are read.
    """
    wanted = canonical(name)
    by_folder = _matching(importlib.metadata.distributions(name=name, path=_path(folder)), wanted)
    yield from by_folder or _matching(importlib.metadata.distributions(path=_path(folder)), wanted)


def everything(folder: str | None = None) -> Iterator[Distribution]:
    """Every distribution that can be read, in the order of `sys.path`."""
    readable = map(_readable, importlib.metadata.distributions(path=_path(folder)))
    return (distribution for distribution in readable if distribution is not None)


def _path(folder: str | None) -> list[str]:
    return sys.path if folder is None else [folder]


def _matching(candidates: Iterable[importlib.metadata.Distribution], wanted: str) -> list[Distribution]:
    readable = map(_readable, candidates)
    return [distribution for distribution in readable if distribution and canonical(distribution.name) == wanted]


def _readable(found: importlib.metadata.Distribution) -> Distribution | None:
    headers = _headers(found)
    name, version = (str(headers.get(key) or "").strip() for key in ("Name", "Version"))
    if _NAME.fullmatch(name) and _VERSION.fullmatch(version):
        return Distribution(found, name, version, headers)
    return None


def _headers(found: importlib.metadata.Distribution) -> Message:
    """METADATA, parsed; empty where there is none or it isn't UTF-8, as the specification wants it."""
    try:
        text = found.read_text("METADATA") or found.read_text("PKG-INFO") or found.read_text("")
    except UnicodeDecodeError:
        text = None
    return email.message_from_string(text or "")
