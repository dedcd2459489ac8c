from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from fanfold import Fanfold, Retry, testing
from fanfold.engine import doorbell
from fanfold.errors import ConfigurationError, FanfoldError
from fanfold.testing import START, FakeClock, drain, drain_async, embedded


@pytest.fixture
def app(tmp_path):
    with Fanfold(f"sqlite:///{tmp_path}/own.db") as made:
        yield made


async def asleep(clock, *seconds):
    sleepers = [asyncio.create_task(clock.sleep(length)) for length in seconds]
    await asyncio.sleep(0)
    return sleepers


def path_of(app):
    return Path(app.settings.queue_url.removeprefix("sqlite:///").partition("?")[0])


def test_a_fake_clock_stands_still_until_it_is_moved(clock):
    assert (clock.now(), clock.now()) == (START, START)
    clock.advance(1.5)
    assert clock.now() == START + 1.5


async def test_a_sleeper_wakes_when_its_time_has_come_and_no_sooner(clock):
    [sleeper] = await asleep(clock, 10)
    clock.advance(9.5)
    await asyncio.sleep(0)
    assert not sleeper.done()
    clock.advance(0.5)
    await sleeper


async def test_a_sleeper_counts_from_when_it_fell_asleep(clock):
    [first] = await asleep(clock, 10)
    clock.advance(5)
    [second] = await asleep(clock, 10)
    clock.advance(5)
    await first
    assert not second.done()
    clock.advance(5)
    await second


@pytest.mark.parametrize("seconds", [0, -1])
async def test_nobody_sleeps_for_no_time(clock, seconds):
    await clock.sleep(seconds)
    assert clock.sleepers == 0


async def test_the_clock_knows_how_many_sleep(clock):
    sleepers = await asleep(clock, 1, 2, 3)
    assert clock.sleepers == 3
    clock.advance(2)
    await asyncio.gather(*sleepers[:2])
    assert clock.sleepers == 1
    sleepers[2].cancel()
    await asyncio.wait(sleepers[2:])
    assert clock.sleepers == 0


def test_a_sleeper_in_another_threads_loop_wakes_too(clock):
    ready = threading.Event()

    async def sleeps():
        sleeper = asyncio.create_task(clock.sleep(60))
        await asyncio.sleep(0)
        ready.set()
        await sleeper

    thread = threading.Thread(target=asyncio.run, args=(sleeps(),))
    thread.start()
    ready.wait()
    clock.advance(60)
    thread.join()
    assert clock.sleepers == 0


def test_an_embedded_application_has_a_queue_of_its_own_and_its_own_settings_come_back(app):
    own = app.settings, app.clock, path_of(app)
    with embedded(app) as clock:
        assert path_of(app) != own[2]
        assert app.clock is clock
    assert (app.settings, app.clock, path_of(app)) == own


def test_what_was_embedded_is_gone_afterwards(app):
    with embedded(app):
        app.enqueue("doc-1", ["words"])
        path = path_of(app)
        assert path.exists()
    assert not path.parent.exists()


def test_an_embedded_application_leaves_its_own_queue_alone(app):
    app.enqueue("doc-1", ["words"])
    with embedded(app):
        assert app.status().messages_available == 0
    assert app.status().messages_available == 1


def test_it_is_gone_and_restored_where_the_test_fails(app):
    own, paths = app.settings, []

    def fails():
        with embedded(app):
            app.enqueue("doc-1", ["words"])
            paths.append(path_of(app))
            raise LookupError

    with pytest.raises(LookupError):
        fails()
    assert app.settings == own
    assert not paths[0].parent.exists()


def test_drain_answers_the_fan_outs_oldest_first_with_their_results(app):
    app.task("words")(lambda entity_id: entity_id.upper())
    with embedded(app):
        app.enqueue("doc-1", ["words"])
        app.enqueue("doc-2", ["words"])
        assert [fan_out.results for fan_out in drain(app)] == [{"words": "DOC-1"}, {"words": "DOC-2"}]


def test_drain_moves_the_clock_over_the_delays(app):
    @app.task
    def slow(context):
        if context.attempt < 3:
            raise Retry(delay=3600)
        return "at last"

    with embedded(app) as clock:
        app.enqueue("doc-1", ["slow"])
        [fan_out] = drain(app)
        assert fan_out.results == {"slow": "at last"}
        assert clock.now() >= START + 7200


def test_drain_runs_the_completion_too(app):
    completed = []
    app.task("words")(lambda: 42)
    app.on_complete(lambda fan_out: completed.append(fan_out.results))
    with embedded(app):
        app.enqueue("doc-1", ["words"])
        drain(app)
    assert completed == [{"words": 42}]


def test_an_empty_queue_is_drained_at_once(app):
    app.task("words")(lambda: 42)
    with embedded(app):
        assert drain(app) == []


def test_a_task_that_asks_for_retries_for_ever_ends_the_drain_with_an_error(app, monkeypatch):
    monkeypatch.setattr(testing, "_MAX_ROUNDS", 50)

    @app.task(max_attempts=1_000_000)
    def endless():
        raise Retry(delay=1)

    with embedded(app):
        app.enqueue("doc-1", ["endless"])
        with pytest.raises(FanfoldError, match="after 50 looks the queue isn't empty"):
            drain(app)


def test_after_drain_more_can_be_enqueued_and_drained(app):
    app.task("words")(lambda: 42)
    with embedded(app):
        app.enqueue("doc-1", ["words"])
        drain(app)
        app.enqueue("doc-2", ["words"])
        assert [fan_out.entity_id for fan_out in drain(app)] == ["doc-1", "doc-2"]


async def test_drain_works_in_a_test_with_a_loop_of_its_own(tmp_path):
    async with Fanfold(f"sqlite:///{tmp_path}/tasks.db", clock=FakeClock()) as app:
        app.task("words")(lambda: 42)
        await app.enqueue_async("doc-1", ["words"])
        [fan_out] = await drain_async(app)
        assert fan_out.results == {"words": 42}


async def test_drain_refuses_a_queue_that_isnt_embedded(tmp_path):
    class Elsewhere:
        url = "https://sqs.eu-west-1.amazonaws.com/1/tasks.fifo"

    async with Fanfold(f"sqlite:///{tmp_path}/tasks.db") as app:
        app.task("words")(lambda: 42)
        app.broker = lambda: asyncio.sleep(0, Elsewhere())
        with pytest.raises(ConfigurationError, match=r"eu-west-1.*; use `testing.embedded\(app\)`"):
            await drain_async(app)


class HastyClock(FakeClock):
    """Moved on by what a short sleeper wants just before it falls asleep, so that it counts from the moved clock."""

    async def sleep(self, seconds):
        if 0 < seconds < 20:
            self.advance(seconds)
        await super().sleep(seconds)


def test_a_delayed_retry_is_run_although_the_clock_moved_as_the_poll_fell_asleep(app, tmp_path, monkeypatch):
    monkeypatch.setattr(doorbell, "_TICK", 3_600)  # nobody else rings
    attempts = []

    @app.task("flaky")
    async def flaky(context):
        attempts.append(context.attempt)
        if context.attempt == 1:
            raise Retry("once more", delay=5)

    with app.replaced(clock=HastyClock(), queue_url=f"sqlite:///{tmp_path}/hasty.db"):
        app.enqueue("doc-1", ["flaky"])
        drain(app)
    assert attempts == [1, 2]
