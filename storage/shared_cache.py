"""Short-lived values: within one process, or shared by all of them in Redis."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = structlog.get_logger()

KEYS_LIMIT = 100_000


class LocalCache:
    """Implements core.ports.SharedCache for one process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._values: OrderedDict[str, tuple[str, float]] = OrderedDict()

    async def get(self, key: str) -> str | None:
        value, until = self._values.get(key, ("", 0.0))
        return value if until > self._clock() else None

    async def put(self, key: str, value: str, ttl: timedelta) -> None:
        self._values[key] = (value, self._clock() + ttl.total_seconds())
        self._values.move_to_end(key)
        if len(self._values) > KEYS_LIMIT:
            self._values.popitem(last=False)

    async def add(self, key: str, value: str, ttl: timedelta) -> str:
        known = await self.get(key)
        if known is None:
            await self.put(key, value, ttl)
        return value if known is None else known

    async def remove(self, key: str, value: str) -> None:
        if await self.get(key) == value:
            del self._values[key]

    async def close(self) -> None:
        self._values.clear()


class RedisCache:
    """Implements core.ports.SharedCache for many processes.

    While Redis is away each process has a cache of its own: what is only shared to be quick goes on.
    """

    PREFIX = "xinyu:cache:"
    ANSWER_SECONDS = 0.5
    REMOVE = (
        "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end"
    )

    def __init__(self, redis: Redis) -> None:
        redis.connection_pool.connection_kwargs["socket_timeout"] = None  # as in storage/wakeups.py
        self._redis = redis
        self._own = LocalCache()
        self._reachable = True

    async def get(self, key: str) -> str | None:
        from redis.exceptions import RedisError

        try:
            async with asyncio.timeout(self.ANSWER_SECONDS):
                found = await self._redis.get(self.PREFIX + key)
        except (RedisError, OSError, TimeoutError) as error:
            self._note(error)
            return await self._own.get(key)
        self._note(None)
        return _text(found)

    async def put(self, key: str, value: str, ttl: timedelta) -> None:
        from redis.exceptions import RedisError

        await self._own.put(key, value, ttl)
        try:
            async with asyncio.timeout(self.ANSWER_SECONDS):
                await self._redis.set(self.PREFIX + key, value, px=_milliseconds(ttl))
        except (RedisError, OSError, TimeoutError) as error:
            self._note(error)

    async def add(self, key: str, value: str, ttl: timedelta) -> str:
        from redis.exceptions import RedisError

        try:
            async with asyncio.timeout(self.ANSWER_SECONDS):
                added = await self._redis.set(self.PREFIX + key, value, px=_milliseconds(ttl), nx=True)
                known = None if added else await self._redis.get(self.PREFIX + key)
        except (RedisError, OSError, TimeoutError) as error:
            self._note(error)
            return await self._own.add(key, value, ttl)
        self._note(None)
        return _text(known) or value

    async def remove(self, key: str, value: str) -> None:
        from redis.exceptions import RedisError

        await self._own.remove(key, value)
        try:
            async with asyncio.timeout(self.ANSWER_SECONDS):
                await self._redis.eval(self.REMOVE, 1, self.PREFIX + key, value)
        except (RedisError, OSError, TimeoutError) as error:
            self._note(error)

    async def close(self) -> None:
        await self._redis.aclose()

    def _note(self, error: Exception | None) -> None:
        """Once per change, not once per try."""
        if (error is None) != self._reachable:
            self._reachable = error is None
            log.warning("redis_cache", reachable=self._reachable, reason=type(error).__name__)


def _text(found: bytes | str | None) -> str | None:
    return found.decode() if isinstance(found, bytes) else found


def _milliseconds(ttl: timedelta) -> int:
    return max(1, round(ttl.total_seconds() * 1000))
