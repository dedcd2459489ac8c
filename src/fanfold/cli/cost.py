"""`fanfold cost` and `fanfold plan`: what a load costs, and whether it fits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click
from rich.table import Table

from fanfold.cli.common import as_json, to_people, to_scripts
from fanfold.deploy.cost import MONTH, Load, Requests, dollars, fit, naive, requests, table
from fanfold.deploy.simulation import Course, Scenario, simulate

F = TypeVar("F", bound=Callable[..., Any])

_TIMES: Final = (1, 10, 100)
_LOAD: Final = (
    click.option("--entities", type=int, required=True, help="Events a month."),
    click.option("--tasks", type=int, required=True, help="Tasks of each."),
    click.option("--seconds", type=float, required=True, help="Seconds a task takes."),
    click.option("--workers", type=int, default=1, show_default=True, help="Worker processes."),
    click.option("--concurrency", type=int, default=10, show_default=True, help="Tasks at once in each worker."),
    click.option("--bytes", type=int, default=1_000, show_default=True, help="Bytes of a message."),
    click.option("--failures", type=float, default=0.0, show_default=True, help="Share of runs that fail."),
    click.option("--active", type=float, default=1.0, show_default=True, help="Share of the month with work."),
    click.option("--region", default="us-east-1", show_default=True, help="Whose prices and quotas count."),
)


def _loaded(command: F) -> F:
    for option in reversed(_LOAD):
        command = option(command)
    return command


@click.command(short_help="Reckon requests and dollars a month.")
@_loaded
@as_json
def cost(*, region: str, as_json: bool, **options: Any) -> None:
    """Reckon requests and dollars a month, batched as Fanfold does it beside one message a request.

    \b
      fanfold cost --entities 100000 --tasks 42 --seconds 3 --workers 4
    """
    load = Load(**options)
    made = {"fanfold": requests(load), "one by one": naive(load)}
    if as_json:
        to_scripts({n: dataclasses.asdict(r) | {"dollars": dollars(r, region=region)} for n, r in made.items()})
        return
    to_people().print(_bill(made, region))
    prices = table()
    click.echo(f"Prices of {prices['read']}: {prices['prices']['source']}.")


@click.command(short_help="Say how many workers a load needs, and whether it fits.")
@_loaded
@click.option("--peak", type=float, default=1.0, show_default=True, help="The busiest hour, in averages.")
@click.option("--simulate", "simulated", type=int, metavar="TASKS", help="Also simulate so many tasks (needs simpy).")
@as_json
def plan(*, region: str, peak: float, simulated: int | None, as_json: bool, **options: Any) -> None:
    """Say how many workers a load needs, and how it stands to the quotas, also at 10 and 100 times the load.

    \b
      fanfold plan --entities 100000 --tasks 42 --seconds 3 --workers 4 --peak 5 --simulate 100000
    """
    load = Load(**options)
    fits = {times: fit(load, region=region, peak=peak * times) for times in _TIMES}
    courses = _courses(load, peak, simulated) if simulated is not None else {}
    if as_json:
        to_scripts(
            {
                "fits": {str(times): dataclasses.asdict(of) for times, of in fits.items()},
                "courses": {name: dataclasses.asdict(course) for name, course in courses.items()},
            }
        )
        return
    made = Table("", *(f"{times} x" for times in _TIMES), box=None, pad_edge=False)
    for field in dataclasses.fields(fits[1]):
        row = [getattr(of, field.name) for of in fits.values()]
        made.add_row(field.name.replace("_", " "), *(f"{value:,.2f}".removesuffix(".00") for value in row))
    to_people().print(made)
    for name, course in courses.items():
        click.echo(
            f"simulated, {name}: {course.done:,} done, {course.dead:,} dead in {course.seconds:,.0f} s; mean wait "
            f"{course.mean_wait:,.1f} s, longest {course.longest_wait:,.1f} s, at most {course.most_waiting:,} waiting"
        )


def _bill(made: dict[str, Requests], region: str) -> Table:
    bill = Table("a month", *made, box=None, pad_edge=False)
    for field in dataclasses.fields(Requests):
        bill.add_row(f"{field.name} requests", *(f"{getattr(of, field.name):,.0f}" for of in made.values()))
    bill.add_row("all requests", *(f"{of.total:,.0f}" for of in made.values()))
    bill.add_row("dollars", *(f"{dollars(of, region=region):,.2f}" for of in made.values()))
    return bill


def _courses(load: Load, peak: float, tasks: int) -> dict[str, Course]:
    rate = load.runs / (MONTH * load.active) * peak
    base = Scenario(
        tasks=tasks,
        seconds=max(load.seconds, 1e-3),
        slots=load.workers * load.concurrency,
        rate=rate,
        failures=load.failures,
    )
    length = tasks / rate
    trouble = (length * 0.2, length * 0.3)
    return {
        "as planned": simulate(base),
        "10 times the load": simulate(dataclasses.replace(base, rate=10 * rate)),
        "100 times the load": simulate(dataclasses.replace(base, rate=100 * rate)),
        "a tenth of the time nobody works": simulate(dataclasses.replace(base, outage=trouble)),
        "a tenth of the time every run fails": simulate(dataclasses.replace(base, poisoned=trouble)),
    }
