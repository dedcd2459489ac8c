from __future__ import annotations

import pytest

from fanfold.fold import FAN_OUT, alone, followed_in_thread, followed_on_loop

FAN_OUT_OF_TEST = object()


class Step:
    def __init__(self, log):
        self._log = log

    def run(self, fan_out):
        self._log.append(("step in a thread", fan_out))

    async def run_async(self, fan_out):
        self._log.append(("step on the loop", fan_out))


async def test_alone_it_is_the_step():
    log = []
    await alone(Step(log))(**{FAN_OUT: FAN_OUT_OF_TEST})
    assert log == [("step on the loop", FAN_OUT_OF_TEST)]


async def test_on_the_loop_the_fold_comes_first_and_gets_what_it_asked_for():
    log = []

    async def fold(**asked):
        log.append(asked)
        return 7

    assert await followed_on_loop(fold, Step(log))(entity_id="doc-1", **{FAN_OUT: FAN_OUT_OF_TEST}) == 7
    assert log == [{"entity_id": "doc-1"}, ("step on the loop", FAN_OUT_OF_TEST)]


def test_in_a_thread_the_fold_comes_first_and_the_step_stays_in_it():
    log = []

    def fold(**asked):
        log.append(asked)
        return 7

    assert followed_in_thread(fold, Step(log))(entity_id="doc-1", **{FAN_OUT: FAN_OUT_OF_TEST}) == 7
    assert log == [{"entity_id": "doc-1"}, ("step in a thread", FAN_OUT_OF_TEST)]


def test_after_a_fold_that_fails_there_is_no_step():
    log = []

    def fold():
        raise ValueError("odd")

    with pytest.raises(ValueError, match="odd"):
        followed_in_thread(fold, Step(log))(**{FAN_OUT: FAN_OUT_OF_TEST})
    assert log == []
