"""Terraform's language, HCL: values and blocks as text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

_STEP: Final = "  "
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Raw:
    """An expression of HCL, written as it is."""

    text: str


@dataclass(frozen=True, slots=True)
class Block:
    """A block of HCL: its kind, its labels, what stands in it, and the blocks inside."""

    kind: str
    labels: Sequence[str]
    body: Mapping[str, Any]
    blocks: Sequence[Block] = ()


def document(blocks: Sequence[Block]) -> str:
    """A file of blocks, as text."""
    return "\n".join(f"{written(block)}\n" for block in blocks)


def written(block: Block, indent: str = "") -> str:
    """A block as text."""
    head = " ".join([block.kind, *(json.dumps(label) for label in block.labels)])
    inner = indent + _STEP
    lines = [f"{inner}{name} = {value(of, inner)}" for name, of in block.body.items()]
    lines += [written(each, inner) for each in block.blocks]
    return "\n".join([f"{indent}{head} {{", *lines, f"{indent}}}"])


def value(of: Any, indent: str = "") -> str:
    """A value as text; its further lines are indented by `indent`."""
    if isinstance(of, Raw):
        return of.text
    inner = indent + _STEP
    if isinstance(of, Mapping):
        return _lines("{", [f"{_key(name)} = {value(each, inner)}" for name, each in of.items()], "}", indent, end="")
    if isinstance(of, list | tuple):
        return _lines("[", [value(each, inner) for each in of], "]", indent, end=",")
    # In text, ${ and %{ begin expressions.
    return json.dumps(of, ensure_ascii=False).replace("${", "$${").replace("%{", "%%{")


def encoded(of: Any) -> Raw:
    """An expression for the JSON of a value, in which there may be other expressions."""
    return Raw(f"jsonencode({value(of, _STEP)})")


def _lines(start: str, lines: Sequence[str], stop: str, indent: str, *, end: str) -> str:
    if not lines:
        return start + stop
    return "\n".join([start, *(f"{indent}{_STEP}{line}{end}" for line in lines), f"{indent}{stop}"])


def _key(name: str) -> str:
    return name if _IDENTIFIER.fullmatch(name) else json.dumps(name)
