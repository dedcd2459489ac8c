"""Sending dead letters back: the ledger first, the letter's delete last."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from fanfold.brokers.protocol import Broker
from fanfold.dead_letters import redriven
from fanfold.dead_letters.redriven import Edit, Verdict
from fanfold.dead_letters.standing import fan_out_of, standing
from fanfold.dead_letters.tally import Tally, text_of
from fanfold.ledgers.protocol import Finish, Ledger, Unsent
from fanfold.model import FOLD_NAME, DeadLetter, Json, TaskRecord
from fanfold.telemetry import Telemetry, fields_of

T = TypeVar("T")

_AT_ONCE: Final = 32
"""Fan-outs that are opened again at once."""


@dataclass(frozen=True, slots=True)
class _Decided:
    """A letter with what is to be done, by where its task stands."""

    letter: DeadLetter
    record: TaskRecord | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A letter to send, with its task's generation (None: the letter's next).

    `config` is what the ledger has of a task that began anew before, in a redrive that may have edited it.
    """

    letter: DeadLetter
    generation: int | None = None
    config: Mapping[str, Json] | None = None


class SendingBack:
    """Sends a piece of the chosen letters back to their queue.

    1. Where the ledger says that a task has been sent back and has begun, or is over, its letter is only a leftover.
    2. The ledger lets the others begin anew, pending, in their fan-out's next generation, with the configuration that
       an edit has given them: if nobody lives to send it, the workers will.
    3. They are sent in it, and their acceptance is waited for. Where that is all that waits in the fan-out, the ledger
       notes that it is sent; otherwise the workers look after the rest, as they do for every producer that died.
    4. What is answered may be deleted: what was sent, and the leftovers.

    Whatever ends it between two steps, the letters are there, and the next redrive finds the tasks where it left them.
    """

    def __init__(self, broker: Broker, ledger: Ledger | None, telemetry: Telemetry) -> None:
        self._broker = broker
        self._ledger = ledger
        self._telemetry = telemetry

    async def send_back(self, piece: Sequence[DeadLetter], tally: Tally, edit: Edit | None) -> list[DeadLetter]:
        """Send one piece back; answers the letters that are not needed any more."""
        records = await standing(self._ledger, piece)
        decided = [
            _Decided(one, known, redriven.verdict(one, known)) for one, known in zip(piece, records, strict=True)
        ]
        reopened = await self._reopen([d for d in decided if d.verdict is Verdict.RERUN], edit)
        over = [d.verdict is Verdict.LEFTOVER or _superseded(d.letter, reopened) for d in decided]
        leftovers = [d.letter for d, is_over in zip(decided, over, strict=True) if is_over]
        tally.leftovers += len(leftovers)
        wanted = [d for d, is_over in zip(decided, over, strict=True) if not is_over]
        sent = await self._send(self._generations(wanted, reopened, tally), tally, edit)
        await self._note_sent(reopened, sent)
        return sent + leftovers

    async def _reopen(self, dead: Sequence[_Decided], edit: Edit | None) -> dict[str, Unsent]:
        """Let dead tasks begin anew, with the configurations that they are sent with; answers what now waits there."""
        if self._ledger is None or not dead:
            return {}
        ledger = self._ledger
        # The queue may have moved a message before anybody told the ledger.
        if deaths := [death(d.letter) for d in dead if d.record is not None and not d.record.state.terminal]:
            await ledger.finish(deaths)
        names: dict[str, list[str]] = {}
        configs: dict[str, dict[str, Mapping[str, Json]]] = {}
        for d in dead:
            if d.letter.task is not None:
                fan_out_id = fan_out_of(d.letter) or ""
                names.setdefault(fan_out_id, []).append(d.letter.task.task_name)
                configs.setdefault(fan_out_id, {}).update(redriven.new_config(d.letter, d.record, edit))
        opened: dict[str, Unsent] = {}
        for some in _pieces(list(names.items()), _AT_ONCE):
            answers = await asyncio.gather(*(ledger.rerun(key, of, configs=configs[key]) for key, of in some))
            opened |= {key: unsent for (key, _), unsent in zip(some, answers, strict=True) if unsent is not None}
        return opened

    def _generations(self, decided: Iterable[_Decided], reopened: dict[str, Unsent], tally: Tally) -> list[_Wanted]:
        """The letters to send."""
        found: list[_Wanted] = []
        begun = {(key, name): unsent.fan_out.generation for key, unsent in reopened.items() for name in _begun(unsent)}
        for d in decided:
            if d.verdict is Verdict.SEND:
                found.append(_Wanted(d.letter))
            elif d.verdict is Verdict.RESEND and d.record is not None:
                found.append(_Wanted(d.letter, d.record.generation, d.record.task_config))
            elif d.verdict is Verdict.RERUN and d.letter.task is not None:
                generation = begun.get((fan_out_of(d.letter) or "", d.letter.task.task_name))
                if generation is None:
                    tally.fail(_not_begun(d.letter.task.task_name, str(fan_out_of(d.letter))))
                else:
                    found.append(_Wanted(d.letter, generation))
        return found

    async def _send(self, wanted: Sequence[_Wanted], tally: Tally, edit: Edit | None) -> list[DeadLetter]:
        messages = [
            redriven.message(each.letter, edit or redriven.as_known(each.config), generation=each.generation)
            for each in wanted
        ]
        results = await self._broker.send(messages)
        sent = [each.letter for each, result in zip(wanted, results, strict=True) if result.error is None]
        for result in results:
            if result.error is not None:
                tally.fail(text_of(result.error))
        tally.done += len(sent)
        for letter in sent:
            names = fields_of(letter.task) if letter.task is not None else {}
            self._telemetry.emit("dead_letter.redriven", message_id=letter.message_id, **names)
        return sent

    async def _note_sent(self, reopened: dict[str, Unsent], sent: Sequence[DeadLetter]) -> None:
        if self._ledger is None:
            return
        accepted = {(fan_out_of(letter), letter.task.task_name) for letter in sent if letter.task is not None}
        whole = [
            unsent.fan_out
            for key, unsent in reopened.items()
            if unsent.tasks and all((key, task.task_name) in accepted for task in unsent.tasks)
        ]
        for some in _pieces(whole, _AT_ONCE):
            await asyncio.gather(*(self._ledger.sent(fan_out.fan_out_id, fan_out.generation) for fan_out in some))


def death(letter: DeadLetter) -> Finish:
    """The end of a task whose letter the queue's own redrive policy made."""
    if letter.task is None or letter.task.fan_out_id is None:
        raise ValueError("only a task of a fan-out dies in the ledger")
    return Finish(
        fan_out_id=letter.task.fan_out_id,
        task_name=letter.task.task_name,
        attempt=None,
        failure=redriven.dropped(letter),
        dead=True,
        generation=letter.task.generation,
    )


def _superseded(letter: DeadLetter, reopened: Mapping[str, Unsent]) -> bool:
    """Whether it is a completion whose fan-out was opened again just now: there will be another."""
    unsent = reopened.get(fan_out_of(letter) or "")
    is_fold = letter.task is not None and letter.task.task_name == FOLD_NAME
    return is_fold and unsent is not None and unsent.fan_out.completed_at is None


def _begun(unsent: Unsent) -> set[str]:
    """The names that a re-run has let begin in the fan-out's present generation."""
    fan_out = unsent.fan_out
    names = {task.task_name for task in unsent.tasks if task.generation == fan_out.generation}
    # The fold that belongs to this generation has not begun: either there is none yet, or its tasks come first.
    return names | {FOLD_NAME} if fan_out.completed_at is not None and fan_out.fold_state is None else names


def _not_begun(task_name: str, fan_out_id: str) -> str:
    named = "the completion" if task_name == FOLD_NAME else f"task {task_name!r}"
    return f"{named} of fan-out {fan_out_id} was changed by somebody else meanwhile; repeat the redrive"


def _pieces(items: Sequence[T], size: int) -> Iterable[Sequence[T]]:
    return (items[at : at + size] for at in range(0, len(items), size))
