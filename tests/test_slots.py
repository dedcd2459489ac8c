from __future__ import annotations

import asyncio

import pytest

from fanfold.slots import Slots


async def test_it_takes_as_many_as_are_wanted():
    slots = Slots(5)
    assert await slots.take(3, linger=0) == 3
    assert slots.free == 2


@pytest.mark.parametrize("limit", [5, 100])
async def test_it_takes_never_more_than_there_are(limit):
    slots = Slots(5)
    assert await slots.take(limit, linger=3600) == 5
    assert slots.free == 0


async def test_it_takes_what_is_free_when_others_are_busy():
    slots = Slots(5)
    await slots.take(3, linger=0)
    assert await slots.take(5, linger=0) == 2


async def test_with_none_free_it_waits_for_one():
    slots = Slots(2)
    await slots.take(2, linger=0)
    waiting = asyncio.create_task(slots.take(2, linger=0))
    await asyncio.sleep(0)
    assert not waiting.done()
    slots.give_back()
    assert await waiting == 1


async def test_it_lingers_until_as_many_are_free_as_are_wanted():
    slots = Slots(3)
    await slots.take(3, linger=0)
    slots.give_back()
    waiting = asyncio.create_task(slots.take(3, linger=3600))
    await asyncio.sleep(0)
    slots.give_back()
    await asyncio.sleep(0)
    assert not waiting.done()
    slots.give_back()
    assert await waiting == 3


async def test_where_nobody_gives_back_it_lingers_no_longer_than_said():
    slots = Slots(3)
    await slots.take(2, linger=0)
    assert await slots.take(3, linger=0.001) == 1


async def test_a_waiter_that_is_cancelled_takes_nothing():
    slots = Slots(1)
    await slots.take(1, linger=0)
    waiting = asyncio.create_task(slots.take(1, linger=0))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    slots.give_back()
    assert slots.free == 1


async def test_several_can_be_given_back_at_once():
    slots = Slots(5)
    await slots.take(5, linger=0)
    slots.give_back(4)
    assert await slots.take(10, linger=0) == 4
