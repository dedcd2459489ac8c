"""The command line: `fanfold worker | enqueue | status | dlq | provision | template | doctor | cost | plan | demo`."""

from __future__ import annotations

from typing import Any

import click

from fanfold import __version__
from fanfold.cli.cost import cost, plan
from fanfold.cli.demo import demo
from fanfold.cli.dlq import dlq
from fanfold.cli.doctor import doctor
from fanfold.cli.enqueue import enqueue
from fanfold.cli.provision import provision
from fanfold.cli.status import status
from fanfold.cli.template import template
from fanfold.cli.worker import worker
from fanfold.errors import FanfoldError


class _Commands(click.Group):
    """Turns our errors into one line on standard error and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except FanfoldError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fanfold")
def main() -> None:
    """Fan one event out into N tasks, work on them in parallel, fold them into one completion.

    \b
    A first minute:
      fanfold demo                               real work, several processes, nothing to set up
      fanfold worker app:app                     work on an application's tasks
      fanfold enqueue --app app:app doc-1 title  enqueue one event
      fanfold status                             what is waiting, running, done
      fanfold dlq group                          what was set aside, and why

    Where queue and ledger are is said by the application, by --queue-url and --ledger, or by FANFOLD_QUEUE_URL (or
    SQS_TASK_QUEUE_URL) and FANFOLD_LEDGER. Exit codes: 0 fine, 1 an error, 2 wrong usage.
    """


for command in (worker, enqueue, status, dlq, provision, template, doctor, cost, plan, demo):
    main.add_command(command)
