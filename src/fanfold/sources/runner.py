"""A source as a process: signals in, exit code out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fanfold.app import Fanfold
from fanfold.errors import FanfoldError
from fanfold.runner import Signals, close_in_time, exit_at_once, tasks_go_on, threads_go_on
from fanfold.service import Deadline
from fanfold.sources.extra import require_kafka
from fanfold.sources.settings import KafkaSettings


def run_source(app: Fanfold, settings: KafkaSettings, *, say: Callable[[FanfoldError], int] = lambda _: 1) -> None:
    """Run a source until SIGTERM or SIGINT (Ctrl-C), then stop it in order; a second signal stops it at once.

    A planner that can't be ended keeps an error from being raised: the process ends then, with the exit code that `say`
    answers when it is told of the error.

    Raises:
        PoisonEventError: it stopped by itself at an event that can't be enqueued.
        MissingExtraError, ConfigurationError, KafkaError, BrokerError, LedgerError: it couldn't start, or it ended.
    """
    require_kafka()
    with asyncio.Runner() as runner:
        error = runner.run(_ended(app, settings))
        if runner.run(tasks_go_on()) or threads_go_on():
            exit_at_once(0 if error is None else say(error))
    if error is not None:
        raise error


async def _ended(app: Fanfold, settings: KafkaSettings) -> FanfoldError | None:
    """Run it; answers what ended it, where that wasn't a signal."""
    try:
        await _serve(app, settings)
    except FanfoldError as error:
        return error
    finally:
        await close_in_time(app)
    return None


async def _serve(app: Fanfold, settings: KafkaSettings) -> None:
    from fanfold.sources.kafka import KafkaSource  # noqa: PLC0415 - only where Kafka's library is

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
