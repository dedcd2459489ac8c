"""`fanfold serve`: the embedded queue as an SQS endpoint."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fanfold.cli import logs
from fanfold.cli.common import beside
from fanfold.settings import resolve
from fanfold.urls import SqliteUrl, is_sqlite, parse_sqlite

if TYPE_CHECKING:
    from fanfold.endpoint.endpoint import Endpoint, Plan

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("file", metavar="FILE")
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default="127.0.0.1:9324",
    show_default=True,
    help="Where to listen; port 0 takes a free one. Any but a loopback address needs keys.",
)
@click.option(
    "--create",
    metavar="QUEUE",
    multiple=True,
    help="Have this queue ready, with a dead letter queue (orders-dlq.fifo for orders.fifo); one that is there stays "
    "as it is. May be given several times.",
)
@click.option(
    "--keys",
    metavar="FILE",
    type=_FILE,
    help="Access keys, TOML or JSON: [[keys]] with id, secret, and role (producer, worker or operator). Nobody else "
    "may be allowed to read it. [env: FANFOLD_SERVE_KEYS, as ID:SECRET:ROLE,…]",
)
@click.option("--certificate", metavar="FILE", type=_FILE, help="Serve HTTPS with this certificate chain (PEM).")
@click.option("--private-key", metavar="FILE", type=_FILE, help="The certificate's private key (PEM).")
@click.option("--region", help="The region in ARNs and signatures. [env: FANFOLD_REGION, AWS_DEFAULT_REGION; "
              "default: us-east-1]")  # fmt: skip
@click.option(
    "--recreate-at-once",
    is_flag=True,
    help="Let a queue be created again at once after its deletion; SQS refuses that for 60 seconds. For tests.",
)
@click.option("--grace", type=float, metavar="SECONDS", help="Time to stop in. [env: FANFOLD_GRACE; default: 30]")
@click.option("--log-requests", is_flag=True, help="Log a line for each request; never a secret or a body.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="What is logged.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Lines for people, or JSON for machines; on standard error.",
)
@click.option("--json", "as_json", is_flag=True, help="Say where it listens as one line of JSON, for a script.")
def serve(
    *,
    file: str,
    region: str | None,
    grace: float | None,
    log_level: str,
    log_format: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Serve the queue in FILE to any SQS client.

    \b
      fanfold serve tasks.db --create tasks.fifo
      fanfold serve tasks.db --listen 0.0.0.0:9324 --keys keys.toml --certificate cert.pem --private-key key.pem

    AWS's SDKs find it by AWS_ENDPOINT_URL_SQS=http://127.0.0.1:9324, the AWS command line by --endpoint-url, Fanfold by
    the queue's URL. On loopback without keys, any credentials are good. With keys, every request's signature is
    checked.

    What a client was told is accepted is on the disk: it survives a kill and a power loss (with FILE as
    sqlite:///tasks.db?synchronous=NORMAL a kill, and calls are faster). Several servers, and
    programs that use FILE directly, may share it. SIGTERM or Ctrl-C stops it in order: waiting polls are answered,
    requests under way finish. A second one stops it at once; nothing accepted is lost either way.
    """
    logs.set_up(log_level, log_format)
    settings = resolve({"region": region, "grace": grace})
    address = parse_sqlite(file) if is_sqlite(file) or "://" in file else SqliteUrl(path=Path(file))
    plan = _plan(address, settings.region or "us-east-1", options)
    from fanfold.endpoint.process import run_endpoint  # noqa: PLC0415 - the other commands needn't load the server

    run_endpoint(plan, grace=settings.grace, on_start=_announce_json if as_json else _announce)


def _plan(file: SqliteUrl, region: str, options: dict[str, Any]) -> Plan:
    from fanfold.endpoint import address, keys  # noqa: PLC0415 - the other commands needn't load the server
    from fanfold.endpoint.endpoint import Plan  # noqa: PLC0415 - as above

    return Plan(
        file=file.path,
        synchronous=file.synchronous,
        listen=address.parse(options.pop("listen")),
        region=region,
        keys=keys.load(options.pop("keys"), os.environ),
        **options,
    )


def _announce_json(endpoint: Endpoint) -> None:
    host, _, port = endpoint.url.partition("://")[2].rpartition(":")
    said = {"url": endpoint.url, "host": host.strip("[]"), "port": int(port), "pid": os.getpid()}
    click.echo(json.dumps({**said, "queues": list(endpoint.queue_urls)}))


def _announce(endpoint: Endpoint) -> None:
    console = beside()
    told = "For AWS's SDKs (the AWS command line takes --endpoint-url):"
    console.print(f"Serving SQS at {endpoint.url}. {told}", soft_wrap=True)
    console.print(f"  export AWS_ENDPOINT_URL_SQS={endpoint.url}", soft_wrap=True)
    for url in endpoint.queue_urls:
        console.print(f"Queue: {url}", soft_wrap=True)
