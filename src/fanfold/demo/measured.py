"""Fields that are measured: every file is read, and Python sources are parsed."""

from __future__ import annotations

import ast
import base64
import hashlib
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Final

from fanfold.demo.distribution import Distribution, ListedFile
from fanfold.demo.stated import listed, opened
from fanfold.model import Json
from fanfold.outcome import Reject

_CHUNK: Final = 1 << 20

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def size_on_disk(task_config: dict[str, Json]) -> Json:
    """Bytes of all files that are there, and how many are listed but missing."""
    files = listed(opened(task_config))
    present = [file for file in files if file.location.is_file()]
    return {
        "bytes": sum(file.location.stat().st_size for file in present),
        "files": len(present),
        "missing": len(files) - len(present),
    }


def record_hashes(task_config: dict[str, Json]) -> Json:
    """Whether every file has the hash that RECORD gives it."""
    distribution = opened(task_config)
    hashed = [file for file in listed(distribution) if file.digest]
    if not hashed:
        raise Reject(f"{distribution} has no hashes in its list of files")
    missing = [file for file in hashed if not file.location.is_file()]
    wrong = [file.path for file in hashed if file not in missing and _digest(file) != file.digest]
    return {"verified": len(hashed) - len(missing) - len(wrong), "wrong": wrong, "missing": [f.path for f in missing]}


def lines_of_code(task_config: dict[str, Json]) -> Json:
    """Lines of Python that are neither blank nor only a comment."""
    distribution = opened(task_config)
    return sum(_code_lines(text) for _, text in _sources(distribution))


def longest_file(task_config: dict[str, Json]) -> Json:
    """The Python file with the most lines."""
    lines = {file.path: text.count("\n") + 1 for file, text in _sources(opened(task_config))}
    path = max(lines, key=lambda path: lines[path])
    return {"path": path, "lines": lines[path]}


def longest_function(task_config: dict[str, Json]) -> Json:
    """The function with the most lines."""
    distribution = opened(task_config)
    functions = [
        ((node.end_lineno or node.lineno) - node.lineno + 1, f"{file.path}:{node.lineno} {node.name}")
        for file, tree in _trees(distribution)
        for node in ast.walk(tree)
        if isinstance(node, _Function)
    ]
    if not functions:
        raise Reject(f"{distribution} has no functions in its Python files")
    lines, where = max(functions)
    return {"where": where, "lines": lines}


def docstrings(task_config: dict[str, Json]) -> Json:
    """Public functions and classes, and how many have a docstring."""
    distribution = opened(task_config)
    public = [
        node
        for _, tree in _trees(distribution)
        for node in ast.walk(tree)
        if isinstance(node, _Function | ast.ClassDef) and not node.name.startswith("_")
    ]
    if not public:
        raise Reject(f"{distribution} has no public functions or classes in its Python files")
    return {"public": len(public), "documented": sum(ast.get_docstring(node) is not None for node in public)}


def most_imported(task_config: dict[str, Json]) -> Json:
    """The ten modules that its sources import most often."""
    distribution = opened(task_config)
    counts = Counter(name for _, tree in _trees(distribution) for node in ast.walk(tree) for name in _imported(node))
    if not counts:
        raise Reject(f"{distribution} imports nothing in its Python files")
    return dict(counts.most_common(10))


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level and node.module:
        return [node.module.partition(".")[0]]
    return []


def _digest(file: ListedFile) -> str:
    hashed = hashlib.new(file.algorithm)
    with file.location.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            hashed.update(chunk)
    return base64.urlsafe_b64encode(hashed.digest()).rstrip(b"=").decode()


def _sources(distribution: Distribution) -> list[tuple[ListedFile, str]]:
    found = [
        (file, file.location.read_text(encoding="utf-8", errors="replace"))
        for file in listed(distribution)
        if file.suffix == ".py" and file.location.is_file()
    ]
    if not found:
        raise Reject(f"{distribution} has no Python files")
    return found


def _trees(distribution: Distribution) -> Iterator[tuple[ListedFile, ast.Module]]:
    for file, text in _sources(distribution):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the sources' own escapes and comparisons
            try:
                yield file, ast.parse(text)
            except (SyntaxError, ValueError, RecursionError):
                continue  # test data in another Python, or broken on purpose


def _code_lines(text: str) -> int:
    stripped = (line.strip() for line in text.splitlines())
    return sum(bool(line) and not line.startswith("#") for line in stripped)
