from __future__ import annotations

import pytest
from ledger_kinds import LARGE, LEDGERS


@pytest.fixture(params=LEDGERS)
def connect(request, tmp_path, clock):
    """Makes ledgers on one store, as several processes would."""
    return lambda: LEDGERS[request.param](request, tmp_path, clock)


@pytest.fixture
def count(request):
    """How many tasks a large plan has in a ledger of this kind."""
    return LARGE[request.node.callspec.params["connect"]]


@pytest.fixture
async def ledger(connect):
    made = connect()
    await made.start()
    yield made
    await made.close()


@pytest.fixture
async def other(connect):
    made = connect()
    await made.start()
    yield made
    await made.close()
