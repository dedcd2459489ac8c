from __future__ import annotations

import pytest
from ledger_kinds import LEDGERS


@pytest.fixture(params=LEDGERS)
def connect(request, tmp_path, clock):
    """Makes ledgers on one store, as several processes would."""
    return lambda: LEDGERS[request.param](request, tmp_path, clock)


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
