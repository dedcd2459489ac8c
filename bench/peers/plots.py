"""Draws charts: their description comes as JSON on the standard input, the folder for the SVG files as an argument."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams.update({"svg.hashsalt": "fanfold", "font.size": 10, "axes.grid": True, "grid.alpha": 0.3})
from matplotlib import pyplot as plt  # noqa: E402 - the backend is chosen before


def draw(chart: dict, folder: Path) -> None:
    """Draw one chart."""
    words = isinstance(chart["x"][0], str)
    height = 1.2 + 0.32 * len(chart["x"]) * len(chart["series"]) if words else 3.6
    figure, axes = plt.subplots(figsize=(7.2, height))
    for place, (name, values) in enumerate(chart["series"].items()):
        if words:
            width = 0.8 / len(chart["series"])
            bars = axes.barh([n + (place + 0.5) * width - 0.4 for n in range(len(values))], values, width, label=name)
            axes.bar_label(bars, fmt=lambda value: f"{value:,.4g}", padding=3, fontsize=8)
        else:
            axes.plot(chart["x"], values, marker="o", label=name)
    if words:
        axes.set_yticks(range(len(chart["x"])), chart["x"])
        axes.invert_yaxis()
        axes.margins(x=0.15)
        axes.set_xlabel(chart["up"])
    else:
        axes.set_xlabel(chart["across"])
        axes.set_ylabel(chart["up"])
    if "x" in chart["log"]:
        axes.set_xscale("log")
    if "y" in chart["log"]:
        axes.set_yscale("log")
    elif not words:
        axes.set_ylim(bottom=0)
    axes.set_title(chart["title"], fontsize=11)
    if len(chart["series"]) > 1:
        axes.legend(fontsize=8)
    figure.savefig(folder / f"{chart['name']}.svg", bbox_inches="tight", metadata={"Date": None})


for one in json.load(sys.stdin):
    draw(one, Path(sys.argv[1]))
