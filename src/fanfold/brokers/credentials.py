"""AWS credentials for signatures: botocore's chain finds and renews them, in a thread."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, Protocol

from fanfold.brokers.signing import Keys
from fanfold.brokers.threads import Threads
from fanfold.errors import CredentialsError

_LOOK_EVERY: Final = 30.0
"""Seconds between looks at the chain: each one lets botocore renew what ends within its 15 minutes."""
_GOOD_FOR: Final = 60.0
"""Seconds for which what a look has found is signed with."""
_MARGIN: Final = 30
"""Seconds that credentials must last beyond that: the request that they sign is on its way for a while."""
_UNWRITABLE: Final = re.compile(r"[^\x21-\x7e]")


class Chain(Protocol):
    """What botocore calls credentials: with an end or without, renewed by `get_frozen_credentials` before it."""

    def get_frozen_credentials(self) -> Any:
        """The credentials of this moment: `access_key`, `secret_key`, `token`. May take seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    keys: Keys
    good_until: float


class Credentials:
    """The keys of this moment, for callers in any thread and event loop.

    1. The first use runs the chain (environment, files, SSO, web identity, role, container, instance) in a thread.
    2. Every 30 s of use, the thread looks at what the chain gave: what ends soon is renewed ahead of its end, and
       requests go on with the old keys meanwhile. Where renewing fails, the old ones serve as long as they last.
    3. Keys about to end, or unused for a minute, are looked at before they are used.
    4. `forget`, when AWS has refused the keys: the next use runs the chain anew, so that a changed file or profile is
       noticed without a restart.

    Nothing here blocks an event loop. Many callers wait for one look.
    """

    def __init__(self, make_chain: Callable[[], Chain | None], *, now: Callable[[], float] = time.monotonic) -> None:
        """Nothing is looked for yet.

        Args:
            make_chain: runs botocore's chain; None: there are no credentials.
            now: seconds on a clock that only goes forward.
        """
        self._make_chain = make_chain
        self._now = now
        self._threads = Threads("credentials", 1)
        self._guard = threading.Lock()
        self._chain: Chain | None = None
        self._found: _Found | None = None
        self._look_at = 0.0
        self._looking: Future[Keys] | None = None

    def at_hand(self) -> Keys | None:
        """Keys to sign with now, or None: then `get` them. Costs a comparison, and every 30 s a start of the thread."""
        found, now = self._found, self._now()
        if found is None or now >= found.good_until:
            return None
        if now >= self._look_at:
            self._look()
        return found.keys

    async def get(self) -> Keys:
        """Look now, and answer with the keys.

        Raises:
            CredentialsError: the chain has found none, or what it found can't be used.
            Exception: the chain's own, where it failed.
        """
        # One caller that is cancelled doesn't end the look that the others wait for.
        return await asyncio.shield(asyncio.wrap_future(self._look()))

    def forget(self, keys: Keys) -> None:
        """Don't use `keys` any more: AWS refused them. What has been found since then stays."""
        with self._guard:
            if self._found is not None and self._found.keys == keys:
                self._chain = self._found = None

    def close(self) -> None:
        """Let go of the thread. Idempotent; a later use takes one up again."""
        self._threads.close(wait=False)

    def _look(self) -> Future[Keys]:
        with self._guard:
            if self._looking is None or self._looking.done():
                self._look_at = self._now() + _LOOK_EVERY
                self._looking = self._threads.submit(self._found_now)
            return self._looking

    def _found_now(self) -> Keys:
        chain = self._chain or self._make_chain()
        if chain is None:
            raise CredentialsError("the chain of credential providers has found none")
        keys = self._keys_of(chain)
        good_for = 0.0 if _ends_within(chain, _GOOD_FOR + _MARGIN) else _GOOD_FOR
        with self._guard:
            self._chain, self._found = chain, _Found(keys=keys, good_until=self._now() + good_for)
        return keys

    def _keys_of(self, chain: Chain) -> Keys:
        try:
            frozen = chain.get_frozen_credentials()
        except Exception:
            last = self._found
            if last is None or _ends_within(chain, _MARGIN):
                raise
            return last.keys
        return _checked(Keys(access_key=frozen.access_key, secret_key=frozen.secret_key, token=frozen.token or None))


def _ends_within(chain: Chain, seconds: float) -> bool:
    # Credentials without an end don't have this method.
    refresh_needed = getattr(chain, "refresh_needed", None)
    return refresh_needed is not None and bool(refresh_needed(seconds))


def _checked(keys: Keys) -> Keys:
    for name, value in (("access key", keys.access_key), ("session token", keys.token or "")):
        found = _UNWRITABLE.search(value)
        if found is not None:
            raise CredentialsError(
                f"the AWS {name} has the character {found.group()!r} at {found.start()}; keys are printable ASCII "
                "without spaces. Look for a line end or quote that was copied with it"
            )
    return keys
