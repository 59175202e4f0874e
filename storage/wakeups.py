"""Wake-ups: within one process, or between processes over a Redis stream."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = structlog.get_logger()

WAITING_LIMIT = 100_000
"""Beyond it wake-ups are dropped: the sweeper finds what they were for."""


class LocalWakeups:
    """Implements core.ports.Wakeups for one process."""

    def __init__(self) -> None:
        self._waiting: dict[int, None] = {}
        self._any = asyncio.Event()

    async def wake(self, conversation_id: int) -> None:
        if len(self._waiting) < WAITING_LIMIT:
            self._waiting[conversation_id] = None
            self._any.set()

    async def next(self) -> int:
        while not self._waiting:
            self._any.clear()
            await self._any.wait()
        conversation_id = next(iter(self._waiting))
        del self._waiting[conversation_id]
        return conversation_id

    async def close(self) -> None:
        self._waiting.clear()


class RedisWakeups:
    """Implements core.ports.Wakeups for many processes: each wake-up reaches one of them.

    Entries are acknowledged as they are read: a wake-up that dies with its reader is made good by
    the sweeper, like one that was dropped because Redis was away.
    """

    STREAM = "xinyu:wakeups"
    GROUP = "workers"
    BLOCK_MS = 5_000
    ANSWER_SECONDS = 2.0
    AGAIN_SECONDS = 1.0

    def __init__(self, redis: Redis, consumer: str) -> None:
        # The timeouts are ours, around whole calls. redis-py's own (5 s on a socket since its 8.0) would break off
        # each idle read, and its wait_for around a write swallows a cancellation (CPython issue 86296).
        redis.connection_pool.connection_kwargs["socket_timeout"] = None
        self._redis = redis
        self._consumer = consumer
        self._read: list[int] = []
        self._grouped = False
        self._reachable = True

    async def wake(self, conversation_id: int) -> None:
        from redis.exceptions import RedisError

        try:
            async with asyncio.timeout(self.ANSWER_SECONDS):
                await self._redis.xadd(
                    self.STREAM, {"c": conversation_id}, maxlen=WAITING_LIMIT, approximate=True
                )
        except (RedisError, OSError, TimeoutError) as error:
            self._note(reachable=False, error=error)

    async def next(self) -> int:
        from redis.exceptions import RedisError

        while not self._read:
            try:
                async with asyncio.timeout(self.BLOCK_MS / 1000 + self.ANSWER_SECONDS):
                    self._read = await self._next_entries()
                self._note(reachable=True)
            except (RedisError, OSError, TimeoutError) as error:
                self._note(reachable=False, error=error)
                self._grouped = False
                await asyncio.sleep(self.AGAIN_SECONDS)
        return self._read.pop()

    async def close(self) -> None:
        await self._redis.aclose()

    async def _next_entries(self) -> list[int]:
        if not self._grouped:
            await self._join_group()
        answer: Any = await self._redis.xreadgroup(
            self.GROUP, self._consumer, {self.STREAM: ">"}, count=64, block=self.BLOCK_MS, noack=True
        )
        return [int(fields[b"c"]) for _, entries in answer or () for _, fields in entries][::-1]

    async def _join_group(self) -> None:
        from redis.exceptions import ResponseError

        try:
            await self._redis.xgroup_create(self.STREAM, self.GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
        self._grouped = True

    def _note(self, *, reachable: bool, error: Exception | None = None) -> None:
        """Once per change, not once per try."""
        if reachable != self._reachable:
            self._reachable = reachable
            log.warning("redis_wakeups", reachable=reachable, reason=type(error).__name__)
