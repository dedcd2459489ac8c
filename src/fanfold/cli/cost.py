"""`fanfold cost`: what a load costs a month."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import click
from rich.table import Table

from fanfold.cli.common import as_json, to_people, to_scripts
from fanfold.deploy.cost import Bill, Requests, bill, naive, requests
from fanfold.deploy.load import PATTERNS, Load
from fanfold.deploy.prices import KNOWN, Prices, prices_of

F = TypeVar("F", bound=Callable[..., Any])

_SQS: Final = {"fifo": ("a million requests", "--price-per-million")}
_LEDGER: Final = {
    "dynamodb_write": ("a million write units", "--write-price"),
    "dynamodb_read": ("a million read units", "--read-price"),
}
"""The prices, with what they are for and the options that give them."""
_LOAD: Final = (
    click.option("--entities", type=int, required=True, help="Events a month."),
    click.option("--tasks", type=int, required=True, help="Tasks of each."),
    click.option("--seconds", type=float, required=True, help="Seconds a task takes."),
    click.option("--workers", type=int, default=1, show_default=True, help="Worker processes."),
    click.option("--concurrency", type=int, default=10, show_default=True, help="Tasks at once in each worker."),
    click.option("--bytes", type=int, default=1_000, show_default=True, help="Bytes of a message."),
    click.option("--failures", type=float, default=0.0, show_default=True, help="Share of runs that fail."),
    click.option("--active", type=float, default=1.0, show_default=True, help="Share of the month with work."),
    click.option(
        "--pattern",
        type=click.Choice(list(PATTERNS)),
        default="steady",
        show_default=True,
        help="How it comes in: evenly, or most at noon and none at midnight.",
    ),
    click.option("--peak", type=float, default=1.0, show_default=True, help="The busiest hour, in averages."),
    click.option("--lease", type=float, default=60.0, show_default=True, help="Seconds that a message is held for."),
    click.option(
        "--region", default="us-east-1", show_default=True, metavar="NAME", help="Whose prices and quotas count."
    ),
)


def loaded(command: F) -> F:
    """Add the options that describe a load."""
    for option in reversed(_LOAD):
        command = option(command)
    return command


@click.command(short_help="Reckon requests and dollars a month.")
@loaded
@click.option("--dynamodb", is_flag=True, help="Also the units of a ledger on DynamoDB.")
@click.option(
    "--price-per-million", "fifo", type=float, metavar="DOLLARS", help="For FIFO requests. [else: the table's]"
)
@click.option("--write-price", "dynamodb_write", type=float, metavar="DOLLARS", help="For a million write units.")
@click.option("--read-price", "dynamodb_read", type=float, metavar="DOLLARS", help="For a million read units.")
@as_json
def cost(
    *,
    region: str,
    dynamodb: bool,
    fifo: float | None,
    dynamodb_write: float | None,
    dynamodb_read: float | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Reckon requests and dollars a month, as Fanfold makes them beside one message a request.

    \b
      fanfold cost --entities 100000 --tasks 42 --seconds 3 --workers 10
      fanfold cost --entities 100000 --tasks 42 --seconds 3 --workers 10 --dynamodb --json
    """
    load = Load(**options)
    prices = prices_of(region, fifo=fifo, dynamodb_write=dynamodb_write, dynamodb_read=dynamodb_read)
    made = {"fanfold": requests(load), "one by one": naive(load)}
    bills = {name: bill(of, load, prices, ledger=dynamodb and name == "fanfold") for name, of in made.items()}
    if as_json:
        told = {name: _told(of, bills[name]) for name, of in made.items()}
        to_scripts({**told, "prices": dataclasses.asdict(prices)})
        return
    to_people().print(_shown(made, bills))
    _say(prices, [*_SQS, *(_LEDGER if dynamodb else {})])
    if load.utilization >= 1:
        click.echo("More comes in than these workers can do; `fanfold plan` says how many would.")


def _say(prices: Prices, used: Sequence[str]) -> None:
    """Say which prices these are, and which of them are another region's."""
    named = _SQS | _LEDGER
    known = [f"${getattr(prices, name):g} for {named[name][0]}" for name in used if name not in prices.assumed]
    if known:
        table_says = f"; from {prices.source}, read {prices.read}" if prices.source else ""
        click.echo(f"Prices of {prices.region}: {', '.join(known)}{table_says}.")
    for name in used:
        if name in prices.assumed:
            what, option = named[name]
            click.echo(
                f"No price of {what} in {prices.region} is in the table: reckoned with {KNOWN}'s "
                f"${getattr(prices, name):g}; give it by {option}."
            )


def _told(made: Requests, paid: Bill) -> dict[str, Any]:
    return dataclasses.asdict(made) | {"total": made.total, "bill": dataclasses.asdict(paid)}


def _shown(made: dict[str, Requests], bills: dict[str, Bill]) -> Table:
    shown = Table("a month", *made, box=None, pad_edge=False)
    for field in dataclasses.fields(Requests):
        shown.add_row(f"{field.name} requests", *(f"{getattr(of, field.name):,.0f}" for of in made.values()))
    shown.add_row("all requests", *(f"{of.total:,.0f}" for of in made.values()))
    shown.add_row("dollars for SQS", *(f"{of.sqs:,.2f}" for of in bills.values()))
    if bills["fanfold"].ledger:
        shown.add_row("DynamoDB write units", f"{bills['fanfold'].write_units:,.0f}", "")
        shown.add_row("DynamoDB read units", f"{bills['fanfold'].read_units:,.0f}", "")
        shown.add_row("dollars for DynamoDB", f"{bills['fanfold'].ledger:,.2f}", "")
    return shown
