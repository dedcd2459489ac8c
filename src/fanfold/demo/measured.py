"""Fields that are measured: every file is read, and Python sources are parsed."""

from __future__ import annotations

import ast
import base64
import hashlib
from collections import Counter
from typing import Final

from fanfold.demo.distribution import ListedFile
from fanfold.demo.environment import opened
from fanfold.demo.sources import Sources
from fanfold.demo.stated import lacks
from fanfold.model import Json
from fanfold.outcome import Reject

_CHUNK: Final = 1 << 20
_HASHES: Final = hashlib.algorithms_guaranteed - {"shake_128", "shake_256"}  # those two have no length of their own
_SHOWN: Final = 20

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def record_hashes(task_config: dict[str, Json]) -> Json:
    """Whether every file has the hash that RECORD gives it."""
    distribution = opened(task_config)
    hashed = [file for file in distribution.files() if file.digest]
    if not hashed:
        lacks(distribution, "hashes in its list of files")
    if odd := [file for file in hashed if file.algorithm not in _HASHES]:
        raise Reject(
            f"RECORD of {distribution} gives {odd[0].path} a {odd[0].algorithm!r} hash, which nobody can check"
        )
    there = [file for file in hashed if file.there]
    wrong = [file.path for file in there if _digest(file) != file.digest]
    missing = len(hashed) - len(there)
    return {"verified": len(there) - len(wrong), "missing": missing, "wrong": len(wrong), "which": wrong[:_SHOWN]}


def lines_of_code(task_config: dict[str, Json]) -> Json:
    """Lines of Python that are neither blank nor only a comment."""
    sources = Sources(opened(task_config))
    lines = sum(_code_lines(text) for _, text in sources.texts())
    return {"lines": lines, "unreadable": sources.unreadable}


def longest_file(task_config: dict[str, Json]) -> Json:
    """The Python file with the most lines."""
    sources = Sources(opened(task_config))
    lines, path = max((_lines(text), file.path) for file, text in sources.texts())
    return {"path": path, "lines": lines, "unreadable": sources.unreadable}


def longest_function(task_config: dict[str, Json]) -> Json:
    """The function with the most lines."""
    distribution = opened(task_config)
    sources = Sources(distribution)
    functions = [
        ((node.end_lineno or node.lineno) - node.lineno + 1, f"{file.path}:{node.lineno} {node.name}")
        for file, tree in sources.trees()
        for node in ast.walk(tree)
        if isinstance(node, _Function)
    ]
    lines, where = max(functions or lacks(distribution, "functions in its Python files"))
    return {"where": where, "lines": lines, "unreadable": sources.unreadable}


def docstrings(task_config: dict[str, Json]) -> Json:
    """Public functions and classes, and how many have a docstring."""
    distribution = opened(task_config)
    sources = Sources(distribution)
    public = [
        ast.get_docstring(node, clean=False) is not None
        for _, tree in sources.trees()
        for node in ast.walk(tree)
        if isinstance(node, _Function | ast.ClassDef) and not node.name.startswith("_")
    ] or lacks(distribution, "public functions or classes in its Python files")
    return {"public": len(public), "documented": sum(public), "unreadable": sources.unreadable}


def type_annotations(task_config: dict[str, Json]) -> Json:
    """Functions, and how many annotate what they take and what they return."""
    distribution = opened(task_config)
    sources = Sources(distribution)
    functions = [
        _annotated(node) for _, tree in sources.trees() for node in ast.walk(tree) if isinstance(node, _Function)
    ] or lacks(distribution, "functions in its Python files")
    return {"functions": len(functions), "annotated": sum(functions), "unreadable": sources.unreadable}


def most_imported(task_config: dict[str, Json]) -> Json:
    """The ten modules that its sources import most often."""
    distribution = opened(task_config)
    trees = Sources(distribution).trees()
    counts = Counter(name for _, tree in trees for node in ast.walk(tree) for name in _imported(node))
    return dict(counts.most_common(10)) or lacks(distribution, "imports in its Python files")


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level and node.module:
        return [node.module.partition(".")[0]]
    return []


def _annotated(function: _Function) -> bool:
    """Whether all of it is annotated, but for `self` and `cls`, which nobody annotates."""
    taken = function.args
    named = [*taken.posonlyargs, *taken.args, *taken.kwonlyargs, *filter(None, (taken.vararg, taken.kwarg))]
    wanting = [argument.arg for argument in named if argument.annotation is None]
    return function.returns is not None and not set(wanting) - {"self", "cls"}


def _digest(file: ListedFile) -> str:
    hashed = hashlib.new(file.algorithm)
    with file.location.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            hashed.update(chunk)
    return base64.urlsafe_b64encode(hashed.digest()).rstrip(b"=").decode()


def _code_lines(text: str) -> int:
    stripped = (line.strip() for line in text.split("\n"))
    return sum(bool(line) and not line.startswith("#") for line in stripped)


def _lines(text: str) -> int:
    return text.count("\n") + (not text.endswith("\n") and text != "")
