"""Token buckets, as the generic cell rate algorithm keeps them: one number a key.

The number is the time at which the bucket will be full again; see ITU-T I.371, "GCRA".
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta

KEYS_LIMIT = 100_000
ROUNDING = 1e-6
"""Seconds. Less than this is no wait but how floating point numbers add up."""


class LocalRateLimiter:
    """Implements core.ports.RateLimiter within one process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()

    async def reserve(self, key: str, rate: float, burst: int) -> timedelta:
        wait, full_at = self._look(key, rate, burst)
        self._keep(key, full_at)
        return timedelta(seconds=max(0.0, wait))

    async def try_take(self, key: str, rate: float, burst: int) -> timedelta | None:
        wait, full_at = self._look(key, rate, burst)
        if wait > ROUNDING:
            return timedelta(seconds=wait)
        self._keep(key, full_at)
        return None

    async def hold(self, key: str, rate: float, burst: int, wait: timedelta) -> None:
        empty_until = self._clock() + wait.total_seconds() + (burst - 1) / rate
        self._keep(key, max(self._full_at.get(key, empty_until), empty_until))

    async def recall(self, key: str, rate: float, ago: timedelta) -> None:
        then = self._clock() - ago.total_seconds()
        self._keep(key, max(self._full_at.get(key, then), then) + 1 / rate)

    def _look(self, key: str, rate: float, burst: int) -> tuple[float, float]:
        """How long until a token is there (≤ 0: now), and when the bucket is full after it is taken."""
        now = self._clock()
        full_at = max(self._full_at.get(key, now), now) + 1 / rate
        return full_at - now - burst / rate, full_at

    def _keep(self, key: str, full_at: float) -> None:
        self._full_at[key] = full_at
        self._full_at.move_to_end(key)
        if len(self._full_at) > KEYS_LIMIT:
            self._full_at.popitem(last=False)
