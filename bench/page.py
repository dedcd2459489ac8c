"""Sections of `docs/performance.md` that are measured, and the charts beside it."""

from __future__ import annotations

import json
import os
import platform
import re
import sqlite3
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Final

import psutil

from conformance.environments import ROOT, Environment
from contest import REQUIREMENTS

PAGE: Final = ROOT / "docs" / "performance.md"
CHARTS: Final = ROOT / "docs" / "performance"
"""Where the charts are; the page links to them."""
_WHOLE: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Lines, or bars where `x` are words; `series` has each one's values in the order of `x`."""

    name: str
    title: str
    across: str
    up: str
    x: Sequence[float | str]
    series: Mapping[str, Sequence[float]]
    log: str = ""
    """Which axes are logarithmic: any of `x` and `y`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What one script measured: lines of Markdown, and charts."""

    name: str
    lines: Sequence[str]
    charts: Sequence[Chart] = field(default_factory=list)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table in Markdown."""
    return [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows)]


def figure(value: float) -> str:
    """A number with three digits, or all of those before its point."""
    return f"{value:,.0f}" if abs(value) >= _WHOLE else f"{value:.3g}"


def circumstances() -> str:
    """Date, machine and versions, and how busy it was."""
    memory = psutil.virtual_memory().total / 2**30
    load = os.getloadavg()[0]
    return (
        f"{datetime.now(UTC):%Y-%m-%d, %H:%M} UTC, {platform.machine()}, {psutil.cpu_count()} cores shared with other "
        f"work (load average {load:.1f}), {memory:.0f} GiB; Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}"
    )


def between_marks(text: str, section: Section) -> str:
    """The page with the section between its marks anew.

    Raises:
        ValueError: the page has no such marks.
    """
    begin, end = f"<!-- {section.name}: begin -->", f"<!-- {section.name}: end -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    charts = [line for chart in section.charts for line in ("", f"![{chart.title}](performance/{chart.name}.svg)")]
    body = "\n".join([begin, *section.lines, *charts, end])
    page, found = pattern.subn(lambda _: body, text)
    if not found:
        raise ValueError(f"{PAGE.name} has no {begin} … {end}; put them where the section belongs")
    return page


def write(section: Section) -> None:
    """Put the section into the page, and draw its charts; raises `UnavailableError` without matplotlib."""
    PAGE.write_text(between_marks(PAGE.read_text(encoding="utf-8"), section), encoding="utf-8")
    if section.charts:
        CHARTS.mkdir(exist_ok=True)
        python = Environment(name="plots", python=(3, 12), requirements=REQUIREMENTS).make()
        charts = json.dumps([asdict(chart) for chart in section.charts])
        program = [python, str(REQUIREMENTS.parent / "plots.py"), str(CHARTS)]
        subprocess.run(program, input=charts, text=True, check=True)  # noqa: S603 - our own program


def show(section: Section, *, to_page: bool) -> None:
    """Print the section, and write it into the page if that is wanted."""
    print(f"\n## {section.name}\n", *section.lines, sep="\n", flush=True)
    if to_page:
        write(section)
