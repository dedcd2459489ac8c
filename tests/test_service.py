from __future__ import annotations

import asyncio

import pytest

from fanfold.service import Deadline, Service


class Recorder(Service):
    """Writes down what is asked of it; its stop ends when it is let."""

    def __init__(self, *, fails=None):
        super().__init__()
        self.calls = []
        self.stopping = asyncio.Event()
        self.let = asyncio.Event()
        self.let.set()
        self.fails = fails

    async def _start(self):
        self.calls.append("start")

    async def _stop(self, deadline):
        self.calls.append(("stop", deadline))
        self.stopping.set()
        await self.let.wait()
        if self.fails is not None:
            raise self.fails

    def fail(self, error):
        self._failure = error
        self._done.set()


async def test_it_starts_once_however_often_it_is_asked():
    service = Recorder()
    await service.start()
    await service.start()
    assert service.calls == ["start"]


async def test_it_stops_once_however_often_it_is_asked():
    service = Recorder()
    await service.start()
    deadline = Deadline(5)
    await service.stop(deadline)
    await service.stop()
    assert service.calls == ["start", ("stop", deadline)]


async def test_a_second_stop_waits_for_the_first():
    service = Recorder()
    await service.start()
    service.let.clear()
    first, second = asyncio.create_task(service.stop()), asyncio.create_task(service.stop())
    await service.stopping.wait()
    assert not second.done()
    service.let.set()
    await asyncio.gather(first, second)
    assert len(service.calls) == 2


async def test_a_stop_goes_on_where_its_caller_is_cancelled():
    service = Recorder()
    await service.start()
    service.let.clear()
    caller = asyncio.create_task(service.stop())
    await service.stopping.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    service.let.set()
    await service.wait()
    assert len(service.calls) == 2


async def test_stopping_what_never_started_is_safe_and_stops_nothing():
    service = Recorder()
    await service.stop()
    await service.wait()
    assert service.calls == []


async def test_a_stop_has_30_seconds_unless_told():
    service = Recorder()
    await service.start()
    await service.stop()
    _, deadline = service.calls[1]
    assert 0 < deadline.remaining <= 30


async def test_wait_returns_when_it_has_stopped():
    service = Recorder()
    await service.start()
    waiting = asyncio.create_task(service.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    await service.stop()
    await waiting


async def test_wait_raises_what_ended_it():
    service = Recorder()
    await service.start()
    service.fail(LookupError("no queue"))
    with pytest.raises(LookupError, match="no queue"):
        await service.wait()


async def test_a_stop_that_fails_has_stopped_all_the_same():
    service = Recorder(fails=OSError("disk"))
    await service.start()
    with pytest.raises(OSError, match="disk"):
        await service.stop()
    await service.wait()


async def test_a_deadline_waits_for_all_and_says_that_they_are_done():
    gate = asyncio.Event()
    tasks = [asyncio.create_task(gate.wait()) for _ in range(3)]
    waiting = asyncio.create_task(Deadline(3600).wait(tasks))
    await asyncio.sleep(0)
    gate.set()
    assert await waiting


async def test_a_deadline_that_has_passed_says_that_they_are_not_and_leaves_them_running():
    task = asyncio.create_task(asyncio.Event().wait())
    assert not await Deadline(0).wait([task])
    assert not task.done()
    task.cancel()


async def test_with_nothing_to_wait_for_a_deadline_returns_at_once():
    assert await Deadline(3600).wait([])


async def test_an_earlier_deadline_ends_before_its_own():
    deadline = Deadline(3600)
    task = asyncio.create_task(asyncio.Event().wait())
    assert not await deadline.earlier(3600).wait([task])
    assert deadline.remaining > 3000
    task.cancel()


async def test_an_earlier_deadline_is_brought_forward_with_its_own():
    deadline = Deadline(3600)
    earlier = deadline.earlier(10)
    assert 3000 < earlier.remaining <= 3590
    task = asyncio.create_task(asyncio.Event().wait())
    waiting = asyncio.create_task(earlier.wait([task]))
    await asyncio.sleep(0)
    deadline.bring_forward()
    assert not await waiting
    assert earlier.remaining == 0
    task.cancel()


async def test_a_task_that_failed_is_done():
    async def fails():
        raise OSError

    task = asyncio.create_task(fails())
    assert await Deadline(3600).wait([task])
    assert isinstance(task.exception(), OSError)


async def test_a_second_signal_ends_every_wait_at_once():
    deadline = Deadline(3600)
    task = asyncio.create_task(asyncio.Event().wait())
    waits = [asyncio.create_task(deadline.wait([task])) for _ in range(2)]
    await asyncio.sleep(0)
    deadline.bring_forward()
    assert await asyncio.gather(*waits) == [False, False]
    assert deadline.remaining == 0
    task.cancel()


async def test_what_remains_is_never_negative():
    assert Deadline(-5).remaining == 0
