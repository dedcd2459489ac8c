from __future__ import annotations

import asyncio

from fanfold.sources.lanes import Lanes


async def in_turn(lanes, lane, log, name, gate=None):
    turn = lanes.join(lane)

    async def run():
        whole = await turn.wait()
        if gate is not None:
            await gate.wait()
        log.append((name, whole))
        lanes.leave(lane, turn, kept=whole)

    return asyncio.create_task(run())


async def test_a_lane_goes_in_the_order_of_joining():
    lanes, log, gate = Lanes(), [], asyncio.Event()
    first = await in_turn(lanes, "a", log, 1, gate)
    second = await in_turn(lanes, "a", log, 2)
    other = await in_turn(lanes, "b", log, 3)
    await other
    gate.set()
    await asyncio.gather(first, second)
    assert log == [(3, True), (1, True), (2, True)]


async def test_who_waits_behind_a_turn_that_was_broken_off_is_broken_off_too():
    lanes = Lanes()
    first, second, third = (lanes.join("a") for _ in range(3))
    lanes.leave("a", first, kept=False)
    assert not await second.wait()
    lanes.leave("a", second, kept=False)
    assert not await third.wait()


async def test_an_idle_lane_is_whole_again_and_takes_no_memory():
    lanes = Lanes()
    turn = lanes.join("a")
    lanes.leave("a", turn, kept=False)
    assert lanes._last == {}
    assert await lanes.join("a").wait()
