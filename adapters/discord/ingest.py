"""What came over the gateway, on its way to being stored: each channel in its order, each thing until it is.

The gateway hands nothing over twice. What the store does not take now is tried again, and what a crash leaves here is
found in the channels' histories at the next start (catch_up.py).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import structlog

from core.errors import IdempotencyConflict, StoreUnavailable

log = structlog.get_logger()

Job = Callable[[], Awaitable[None]]

MOST_WAITING = 20_000
FIRST_WAIT_SECONDS = 0.25
LONGEST_WAIT_SECONDS = 10.0
HELD_SECONDS = 30.0
"""However long it takes to learn what was missed: nobody waits longer for it."""


class Ingest:
    def __init__(self) -> None:
        self._queues: dict[int, deque[Job]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting = 0
        self._open = asyncio.Event()
        self._open.set()
        self._opens_at: asyncio.TimerHandle | None = None
        self.troubled = False
        """Whether something could not be stored when it was last tried."""
        self.overflowed = False
        """Whether something was let go that the channels' histories still have."""

    def put(self, channel_id: int, job: Job, *, first: bool = False) -> None:
        """Do this after everything else of its channel, or with `first` before it."""
        if self._waiting >= MOST_WAITING:
            if not self.overflowed:
                log.error("discord_too_much_waits", count=self._waiting)
            self.overflowed = True
            return
        self._waiting += 1
        queue = self._queues.get(channel_id)
        if queue is None:
            queue = self._queues[channel_id] = deque()
            task = asyncio.create_task(self._work(channel_id, queue), name="discord-channel")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if first:
            queue.appendleft(job)
        else:
            queue.append(job)

    def hold(self) -> None:
        """Begin nothing: what was missed comes first."""
        self._open.clear()
        if self._opens_at is not None:
            self._opens_at.cancel()
        self._opens_at = asyncio.get_running_loop().call_later(HELD_SECONDS, self.go_on)

    def go_on(self) -> None:
        self._open.set()
        if self._opens_at is not None:
            self._opens_at.cancel()
            self._opens_at = None

    async def close(self, seconds: float) -> None:
        """Store what is here already, within so long; the rest is found in the histories."""
        self.go_on()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work(self, channel_id: int, queue: deque[Job]) -> None:
        while queue:
            await self._open.wait()
            job = queue.popleft()
            await self._do(job)
            self._waiting -= 1
        del self._queues[channel_id]

    async def _do(self, job: Job) -> None:
        wait = FIRST_WAIT_SECONDS
        while True:
            try:
                await job()
                self.troubled = False
                return
            except StoreUnavailable as error:
                if not self.troubled:
                    log.warning("discord_not_stored", reason=str(error))
                self.troubled = True
            except IdempotencyConflict:
                log.warning("message_known_with_another_text")
                return
            except Exception:  # the task's top: one message must not hold up all after it
                log.exception("discord_message_broke")
                return
            await asyncio.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)
