"""Every call that a whole run makes of queue and ledger goes wrong once, in every way in which it can."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from injecting import (
    ACTS,
    LOOKS,
    Faults,
    assert_the_promise_is_kept,
    error_after,
    error_before,
    killed_after,
    killed_before,
    late,
    live,
    well,
    write_down,
)
from processes import KILLED, Site

from fanfold import Fanfold
from fanfold.testing import START, FakeClock

METHODS = [*((method, 10) for method in ACTS), *((method, 1) for method in LOOKS)]
"""Methods, and how many calls of each go wrong in turn: of what only looks, and comes again and again, the first."""

KILLS = [*((*each, killed_after) for each in METHODS), *((method, 3, killed_before) for method in ACTS)]
"""Before a call is where the one before it left: a few of what acts will do, for what was under way beside it."""

HOUR = 3_600.0
LATER = START + HOUR
"""When those go on who come after a killed process."""


@pytest.fixture
def make_file(tmp_path):
    """Makes queue and ledger on files that note the successes."""
    numbers, made = itertools.count(), []

    async def new():
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        site = Site(folder)
        made.append(site)
        url, path = f"{site.url}?synchronous=NORMAL", folder / "tasks.db"
        await make(url, path)
        return site, url, path

    yield new
    for site in made:
        site.end()


async def test_a_run_without_faults_calls_every_method_that_goes_wrong_below(make_file):
    _, url, path = await make_file()
    faults = Faults(FakeClock(), {(method, 1): well for method in LOOKS})
    await live(url, faults)
    await assert_the_promise_is_kept(url, path)
    assert set(faults.counts) == {method for method, _ in METHODS}


@pytest.mark.timeout(300)  # many runs, of half a second each
@pytest.mark.parametrize(("method", "most"), METHODS)
@pytest.mark.parametrize("fault", [error_before, error_after, late], ids=lambda fault: fault.__name__)
async def test_a_call_that_fails_or_is_late_breaks_no_promise(make_file, method, most, fault):
    for nth in range(1, most + 1):
        _, url, path = await make_file()
        faults = Faults(FakeClock(), {(method, nth): fault})
        await live(url, faults)
        await assert_the_promise_is_kept(url, path)
        if not faults.happened:
            break
    assert nth > 1 or faults.happened


@pytest.mark.timeout(300)  # as above
@pytest.mark.parametrize(("method", "most", "kill"), KILLS)
async def test_a_process_that_is_killed_before_or_after_a_call_breaks_no_promise(make_file, method, most, kill):
    for nth in range(1, most + 1):
        site, url, path = await make_file()
        exit_code = site.run(live_and_die, url, method, nth, kill)
        await live(url, Faults(FakeClock(LATER)))
        await assert_the_promise_is_kept(url, path)
        if exit_code != KILLED:
            break
    assert nth > 1 or exit_code == KILLED


@pytest.mark.parametrize("jump", [-HOUR, HOUR], ids=["back", "ahead"])
@pytest.mark.parametrize("step", [1, 5, 10])
async def test_a_clock_that_jumps_breaks_no_promise(make_file, jump, step):
    _, url, path = await make_file()
    await live(url, Faults(FakeClock(), jumps={step: jump}))
    await assert_the_promise_is_kept(url, path)


@pytest.mark.timeout(600)  # a failure is first made small
def test_whatever_goes_wrong_together_breaks_no_promise(tmp_path):
    numbers = itertools.count()
    ways = st.sampled_from([error_before, error_after, late])
    calls = st.tuples(st.sampled_from([*ACTS, *LOOKS]), st.integers(1, 8))

    @example({  # all is over before a round comes as far as the dead letter queue
        ("ledger.unsent", 1): error_before,
        ("broker.dead_letter_count", 1): error_before,
        ("ledger.stalled", 1): late,
    })  # fmt: skip
    @example({("broker.dead_letter", 1): error_before, ("ledger.claim", 1): error_after})  # run again before its letter
    @settings(max_examples=25, deadline=None)
    @given(st.dictionaries(calls, ways, min_size=2, max_size=12))
    def check(faults):
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        asyncio.run(live_and_check(folder, faults))

    check()


async def live_and_check(folder, faults):
    url, path = f"sqlite:///{folder}/tasks.db?synchronous=NORMAL", folder / "tasks.db"
    await make(url, path)
    await live(url, Faults(FakeClock(), faults))
    # Where one of these fails, the dead task may be run again before its letter is made.
    lettered = not {"ledger.finish", "broker.dead_letter"} & {method for method, _ in faults}
    await assert_the_promise_is_kept(url, path, lettered=lettered)


async def make(url, path):
    """A queue and a ledger whose file notes the successes."""
    async with Fanfold(url) as app:
        await app.status_async()
    write_down(path)


def live_and_die(url, method, nth, kill):
    asyncio.run(live(url, Faults(FakeClock(), {(method, nth): kill})))
