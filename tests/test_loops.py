from __future__ import annotations

import asyncio
import sys

import uvloop

from fanfold.loops import new_event_loop


def kind():
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return type(runner.get_loop())


def test_loops_are_of_uvloop_where_it_is_installed():
    assert kind() is uvloop.Loop


def test_and_asyncios_own_where_it_is_not(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert issubclass(kind(), asyncio.BaseEventLoop)
