"""The Python sources of a distribution, read as Python reads them: in the encoding that each declares."""

from __future__ import annotations

import ast
import io
import tokenize
import warnings
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from fanfold.demo.distribution import Distribution, ListedFile
from fanfold.demo.stated import lacks
from fanfold.outcome import Reject

T = TypeVar("T")

_UNREADABLE: Final = (SyntaxError, ValueError, LookupError, OverflowError, RecursionError, MemoryError)
"""What reading and parsing raise for what isn't Python: broken on purpose, in another Python, nested too deep."""


class Sources:
    """The Python files that are there.

    Iterating over `texts` or `trees` leaves out what can't be read as Python, and counts it. It rejects where there
    are no Python files, or where none of them can be read.
    """

    def __init__(self, distribution: Distribution) -> None:
        self.unreadable = 0
        self._distribution = distribution
        self._files = [f for f in distribution.files() if f.suffix == ".py" and f.there]
        if not self._files:
            lacks(distribution, "Python files")

    def texts(self) -> Iterator[tuple[ListedFile, str]]:
        """Each file with its text; lines end in a newline character, however they end in the file."""
        return self._each(_text)

    def trees(self) -> Iterator[tuple[ListedFile, ast.Module]]:
        """Each file with its syntax tree."""
        return self._each(_tree)

    def _each(self, read: Callable[[bytes], T]) -> Iterator[tuple[ListedFile, T]]:
        first: str | None = None
        for file in self._files:
            try:
                yield file, read(file.location.read_bytes())
            except _UNREADABLE as error:
                self.unreadable += 1
                first = first or f"{file.path}: {error or type(error).__name__}"
        if self.unreadable == len(self._files):
            raise Reject(f"none of the Python files of {self._distribution} can be read ({first})")


def _text(raw: bytes) -> str:
    encoding, _ = tokenize.detect_encoding(io.BytesIO(raw).readline)
    return io.TextIOWrapper(io.BytesIO(raw), encoding).read()


def _tree(raw: bytes) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the sources' own escapes and comparisons
        return ast.parse(raw)
