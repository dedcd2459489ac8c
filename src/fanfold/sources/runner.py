"""A source as a process: signals in, exit code out."""

from __future__ import annotations

import asyncio

from fanfold.app import Fanfold
from fanfold.runner import Signals, exit_at_once, threads_go_on
from fanfold.service import Deadline
from fanfold.sources.extra import require_kafka
from fanfold.sources.settings import KafkaSettings


def run_source(app: Fanfold, settings: KafkaSettings) -> None:
    """Run a source until SIGTERM or SIGINT (Ctrl-C), then stop it in order; a second signal stops it at once.

    Raises:
        PoisonEventError: it stopped by itself at an event that can't be enqueued.
        MissingExtraError, ConfigurationError, KafkaError, BrokerError, LedgerError: it couldn't start, or it ended.
    """
    require_kafka()
    with asyncio.Runner() as runner:
        runner.run(_serve(app, settings))
        if threads_go_on():  # a planner that nobody can end
            exit_at_once(0)


async def _serve(app: Fanfold, settings: KafkaSettings) -> None:
    from fanfold.sources.kafka import KafkaSource  # noqa: PLC0415 - only where Kafka's library is

    async with app:
        source = KafkaSource(app, settings)
        signals = Signals()
        await source.start()
        over = asyncio.create_task(source.wait())
        asked = asyncio.create_task(signals.first.wait())
        await asyncio.wait({over, asked}, return_when="FIRST_COMPLETED")
        asked.cancel()
        signals.on_second(source.hurry)
        await source.stop(Deadline(app.settings.grace))
        await over
