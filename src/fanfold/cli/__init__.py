"""The command line: one module a command, or a group of commands that share their options."""

from __future__ import annotations

import sys
from typing import Any

import click

from fanfold import __version__
from fanfold.cli.cancel import cancel
from fanfold.cli.common import INTERRUPTED
from fanfold.cli.cost import cost
from fanfold.cli.demo import demo
from fanfold.cli.dlq import dlq
from fanfold.cli.doctor import doctor
from fanfold.cli.enqueue import enqueue
from fanfold.cli.kafka import kafka
from fanfold.cli.plan import plan
from fanfold.cli.provision import provision
from fanfold.cli.rerun import rerun
from fanfold.cli.serve import serve
from fanfold.cli.status import status
from fanfold.cli.template import template
from fanfold.cli.worker import worker
from fanfold.errors import FanfoldError


class _Commands(click.Group):
    """Turns our errors into a text on standard error and exit code 1, and Ctrl-C into exit code 130."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except FanfoldError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            click.echo("\nInterrupted.", err=True)
            sys.exit(INTERRUPTED)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fanfold")
def main() -> None:
    """Fan one event out into N tasks, work on them in parallel, fold them into one completion.

    \b
    A first minute:
      fanfold demo                               real work, several processes, nothing to set up
      fanfold worker app:app                     work on an application's tasks
      fanfold enqueue --app app:app doc-1 title  enqueue one event
      fanfold kafka app:app --group fields       enqueue the events of Kafka topics
      fanfold status                             what is waiting, running, done
      fanfold dlq group                          what was set aside, and why
      fanfold serve tasks.db                     the embedded queue as an SQS endpoint, for other languages

    Where queue and ledger are is said by the application, by --queue-url and --ledger, or by FANFOLD_QUEUE_URL (or
    SQS_TASK_QUEUE_URL) and FANFOLD_LEDGER. Exit codes: 0 fine, 1 an error, 2 wrong usage, 130 interrupted by Ctrl-C; a
    command that has more says so in its --help.
    """


for command in (
    worker,
    enqueue,
    kafka,
    status,
    demo,
    provision,
    template,
    doctor,
    cost,
    plan,
    cancel,
    rerun,
    dlq,
    serve,
):
    main.add_command(command)
