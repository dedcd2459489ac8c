"""Stages: which fan-outs led to one, and which its completion enqueued."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.text import Text
from rich.tree import Tree

from fanfold.app import Fanfold
from fanfold.cli import shown
from fanfold.cli.common import one_line
from fanfold.errors import UnknownFanOutError
from fanfold.model import FanOut

_DEEPEST: Final = 50
"""Stages that are followed each way."""
_WIDEST: Final = 100
"""Fan-outs of one completion that are followed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A fan-out in a chain; None where the ledger keeps it no longer. `depth` counts from the first one."""

    fan_out_id: str
    depth: int
    fan_out: FanOut | None


def chain(app: Fanfold, fan_out: FanOut) -> Sequence[Link]:
    """What led to a fan-out, itself, and what came of it, parents first: one link where it stands alone."""
    above = _above(app, fan_out)
    links = [Link(fan_out_id=key, depth=depth, fan_out=found) for depth, (key, found) in enumerate(reversed(above))]
    itself = Link(fan_out_id=fan_out.fan_out_id, depth=len(above), fan_out=fan_out)
    return [*links, itself, *_below(app, itself)]


def tree(links: Sequence[Link], of: FanOut) -> Tree:
    """A chain for people."""
    root = Tree(_label(links[0], of), guide_style="")
    nodes = {0: root}
    for link in links[1:]:
        nodes[link.depth] = nodes[link.depth - 1].add(_label(link, of))
    return root


def records(links: Sequence[Link]) -> list[dict[str, Any]]:
    """A chain for a script."""
    return [
        {
            "fan_out_id": link.fan_out_id,
            "depth": link.depth,
            "entity_id": link.fan_out.entity_id if link.fan_out else None,
            "state": shown.state(link.fan_out) if link.fan_out else "forgotten",
        }
        for link in links
    ]


def _above(app: Fanfold, fan_out: FanOut) -> list[tuple[str, FanOut | None]]:
    found: list[tuple[str, FanOut | None]] = []
    parent = fan_out.parent
    while parent is not None and len(found) < _DEEPEST:
        at = _summary(app, parent)
        found.append((parent, at))
        parent = at.parent if at is not None else None
    return found


def _below(app: Fanfold, link: Link) -> Iterator[Link]:
    if link.depth > 2 * _DEEPEST:
        return
    for child in reversed(app.fan_outs(parent=link.fan_out_id, limit=_WIDEST)):
        below = Link(fan_out_id=child.fan_out_id, depth=link.depth + 1, fan_out=child)
        yield below
        yield from _below(app, below)


def _summary(app: Fanfold, fan_out_id: str) -> FanOut | None:
    try:
        return app.fan_out(fan_out_id).summary()
    except UnknownFanOutError:
        return None


def _label(link: Link, of: FanOut) -> Text:
    line = shown.progress_line(link.fan_out) if link.fan_out else f"{link.fan_out_id}  kept no longer"
    return one_line(line, style="bold" if link.fan_out_id == of.fan_out_id else "")
