"""Fields about the files that a distribution ships: its list of files, and what the disk says of each."""

from __future__ import annotations

from collections import Counter
from typing import Final

from fanfold.demo.distribution import Distribution, ListedFile
from fanfold.demo.environment import opened
from fanfold.demo.stated import lacks
from fanfold.model import Json

_MODULES: Final = (".py", ".pyc", ".so", ".pyd")
_NATIVE: Final = (".so", ".pyd", ".dylib", ".dll")
_SHOWN: Final = 20
"""Paths in a result at most: it describes, it isn't a listing."""


def top_level_modules(task_config: dict[str, Json]) -> Json:
    """Modules and packages that it puts on the path, compiled ones too."""
    distribution = opened(task_config)
    found = {name for file in distribution.files() if (name := _module(file))}
    return sorted(found) or lacks(distribution, "Python modules")


def typed(task_config: dict[str, Json]) -> Json:
    """Whether it ships type information: a py.typed marker or stubs."""
    files = opened(task_config).files()
    return {"py_typed": any(f.name == "py.typed" for f in files), "stubs": sum(f.suffix == ".pyi" for f in files)}


def native_code(task_config: dict[str, Json]) -> Json:
    """Compiled extension modules and libraries."""
    distribution = opened(task_config)
    found = [file.path for file in distribution.files() if file.suffix in _NATIVE]
    return found[:_SHOWN] or lacks(distribution, "native code (.so, .pyd, .dylib, .dll)")


def file_types(task_config: dict[str, Json]) -> Json:
    """How many files there are of each kind: the ten most frequent suffixes."""
    counts = Counter(file.suffix or "none" for file in _there(opened(task_config)))
    return dict(counts.most_common(10))


def size_on_disk(task_config: dict[str, Json]) -> Json:
    """Bytes of all files that are there, and how many are listed but missing."""
    files = opened(task_config).files()
    present = [file for file in files if file.there]
    size = sum(file.location.stat().st_size for file in present)
    return {"bytes": size, "files": len(present), "missing": len(files) - len(present)}


def largest_file(task_config: dict[str, Json]) -> Json:
    """The file with the most bytes."""
    size, path = max((file.location.stat().st_size, file.path) for file in _there(opened(task_config)))
    return {"path": path, "bytes": size}


def _there(distribution: Distribution) -> list[ListedFile]:
    return [file for file in distribution.files() if file.there] or lacks(distribution, "files: all listed are missing")


def _module(file: ListedFile) -> str | None:
    """`pkg` of `pkg/a.py` and of `pkg.cpython-311-x86_64-linux-gnu.so`; None for what no import finds."""
    name = file.parts[0] if len(file.parts) > 1 else file.name.partition(".")[0]
    return name if file.suffix in _MODULES and name.isidentifier() and name != "__pycache__" else None
