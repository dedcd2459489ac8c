"""`fanfold plan`: how many workers a load needs, whether it fits, and what happens when things go wrong."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Final

import click
from rich.progress import Progress
from rich.table import Table

from fanfold.cli.common import as_json, beside, to_people, to_scripts
from fanfold.cli.cost import loaded
from fanfold.deploy.description import check_region
from fanfold.deploy.fit import Fit, fit
from fanfold.deploy.load import Load
from fanfold.deploy.scenario import Course, scenarios
from fanfold.deploy.simulation import simulate

_TIMES: Final = (1, 10, 100)
_LABELS: Final = {
    "utilization": "share of slots that are busy",
    "wait_seconds": "seconds a task waits",
    "drain_seconds": "seconds to drain a month's tasks",
    "in_flight_limit": "in flight at most",
    "calls": "calls a second",
    "quota": "quota, calls a second",
}


@click.command(short_help="Say how many workers a load needs, and whether it fits.")
@loaded
@click.option("--high-throughput/--no-high-throughput", default=True, show_default=True, help="The queue's mode.")
@click.option(
    "--simulate",
    "simulated",
    type=click.IntRange(1, 10_000_000),
    metavar="TASKS",
    help="Also simulate so many tasks, and an outage, a bad deployment, 10 and 100 times the load. Needs simpy.",
)
@as_json
def plan(*, region: str, high_throughput: bool, simulated: int | None, as_json: bool, **options: Any) -> None:
    """Say how many workers a load needs and how it stands to the quotas, also at 10 and 100 times the load.

    \b
      fanfold plan --entities 100000 --tasks 42 --seconds 3 --workers 10 --peak 3
      fanfold plan --entities 100000 --tasks 42 --seconds 3 --workers 10 --simulate 100000
    """
    load = Load(**options)
    check_region(region)
    fits = {times: fit(load, region=region, high_throughput=high_throughput, times=times) for times in _TIMES}
    courses = {} if simulated is None else _simulated(load, simulated)
    if as_json:
        to_scripts({"fits": {str(times): _finite(of) for times, of in fits.items()}, "courses": _told(courses)})
        return
    to_people().print(_fits(fits))
    for times, of in fits.items():
        for problem in of.problems:
            click.echo(f"At {times} times the load: {problem}.")
    if courses:
        to_people().print(_courses(courses))


def _simulated(load: Load, tasks: int) -> dict[str, Course]:
    """All courses, under a progress bar: a million tasks take a while."""
    courses, console = {}, beside()
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        row = progress.add_task("", total=len(wanted := scenarios(load, tasks)))
        for name, scenario in wanted.items():
            progress.update(row, description=name)
            courses[name] = simulate(scenario)
            progress.advance(row)
    return courses


def _fits(fits: dict[int, Fit]) -> Table:
    shown = Table("in the busiest hour", *(f"{times} x" for times in fits), box=None, pad_edge=False)
    for field in dataclasses.fields(Fit):
        values = [getattr(of, field.name) for of in fits.values()]
        shown.add_row(_LABELS.get(field.name, field.name.replace("_", " ")), *map(_number, values))
    return shown


def _courses(courses: dict[str, Course]) -> Table:
    columns = ("simulated", "done", "dead", "runs", "seconds", "mean wait", "longest wait", "waiting", "in flight")
    shown = Table(*columns, box=None, pad_edge=False)
    for name, of in courses.items():
        counts = (of.done, of.dead, of.runs, of.seconds, of.mean_wait, of.longest_wait, of.most_waiting)
        shown.add_row(name, *map(_number, (*counts, of.most_in_flight)))
    return shown


def _number(value: float) -> str:
    if value == math.inf:
        return "for ever"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}".removesuffix(".00")


def _finite(of: Fit) -> dict[str, Any]:
    """For JSON, which has no infinity."""
    values = {name: None if value == math.inf else value for name, value in dataclasses.asdict(of).items()}
    return values | {"problems": of.problems}


def _told(courses: dict[str, Course]) -> dict[str, Any]:
    return {name: dataclasses.asdict(of) | {"mean_wait": of.mean_wait} for name, of in courses.items()}
