from __future__ import annotations

import random
import secrets
import sys

import pytest
from processes import Site
from serving import Site as ServedSite


@pytest.fixture
def make_site(tmp_path):
    made = []

    def make(**settings):
        made.append(Site(tmp_path, **settings))
        return made[-1]

    yield make
    for site in made:
        site.end()


@pytest.fixture
async def served(tmp_path):
    """Servers on one file, and connections to them."""
    made = ServedSite(tmp_path / "tasks.db")
    yield made
    made.end()


@pytest.fixture
def rng():
    seed = secrets.randbits(32)
    sys.stdout.write(f"seed of this run's random choices: {seed}\n")  # pytest shows it where the test fails
    return random.Random(seed)
