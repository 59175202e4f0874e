"""Answers that ride on the response to the request which brought the message: WeChat's passive replies.

A message is stored as any other and answered by the worker as any other. What is here waits for that and says which
deliveries go out with the response. One that rode is `sent` only when the response is out: until then a crash, or a
platform that lost the response and asks again, gets the very same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from core.errors import LeaseLost
from core.live import LiveReplies, LiveReply
from core.messages import Delivery, IncomingMessage
from core.outbox import Outbox
from core.ports import Clock, Inbox, Passable, Store, Transaction

ASKED_AGAIN_WITHIN = timedelta(seconds=20)
"""How long a platform may ask again for a response that it lost."""
TAKE_TRIES = 3
NO_EVENT = ""
IS_OPEN_SECONDS = 0.5
"""How often to look whether somebody still waits for the response."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A stored message whose platform waits for the response."""

    message: IncomingMessage
    inbox_id: int
    conversation_id: int
    times: int
    """How often it was brought by now."""
    since_first: timedelta
    live: LiveReply


@dataclass(frozen=True, slots=True)
class Taken:
    """What rides on a response, and how many more there are that could not."""

    deliveries: tuple[Delivery, ...]
    left: int


class PassiveReplies:
    def __init__(
        self,
        inbox: Inbox,
        store: Store,
        live: LiveReplies,
        outbox: Outbox,
        clock: Clock,
        look_seconds: float | None,
    ) -> None:
        """`look_seconds`: how often to look for what another process answered; None: there is none."""
        self._inbox = inbox
        self._store = store
        self._live = live
        self._outbox = outbox
        self._clock = clock
        self._look_seconds = look_seconds

    @asynccontextmanager
    async def receiving(self, message: IncomingMessage) -> AsyncIterator[Arrival]:
        """Store a message, or learn that it is known. Raises as Inbox.accept."""
        with self._live.watch(message.platform, message.event_id, reads=False) as live:
            accepted = await self._inbox.accept(message)
            assert accepted is not None, "nobody overhears a chat of two"
            times, since_first = 1, timedelta()
            if accepted.duplicate:
                tried = await self._store.write(lambda tx: tx.inbox.try_again(accepted.inbox_id))
                times = tried.times if tried is not None else 2
                since_first = self._clock.now() - tried.first_at if tried is not None else since_first
            yield Arrival(message, accepted.inbox_id, accepted.conversation_id, times, since_first, live)

    async def settled(self, arrival: Arrival, seconds: float, is_open: Callable[[], bool]) -> bool:
        """Wait until the message has its answer, if it needs one; False when that takes longer, or nobody is there
        any more to hear it."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + seconds
        if arrival.times > 1 and not await self._is_waiting(arrival):
            return True
        while arrival.live.outcome is None:
            left = ends - loop.time()
            if left <= 0 or not is_open():
                return False
            changed = await self._changed(arrival.live, min(left, self._look_seconds or IS_OPEN_SECONDS))
            if not changed and self._look_seconds is not None and not await self._is_waiting(arrival):
                return True  # another process answered it
        return True

    async def _is_waiting(self, arrival: Arrival) -> bool:
        return await self._store.read(lambda tx: tx.inbox.is_waiting(arrival.inbox_id))

    async def _changed(self, live: LiveReply, seconds: float) -> bool:
        """Whether something happens to the answer within so long."""
        try:
            async with asyncio.timeout(seconds):
                await live.changed()
        except TimeoutError:
            return False
        return True

    async def has_newer(self, arrival: Arrival) -> bool:
        """Whether a later message of the conversation waits: the answer can ride on the response to that."""
        news = await self._store.read(lambda tx: tx.inbox.news(arrival.conversation_id, arrival.inbox_id))
        return any(waiting.inbox_id > arrival.inbox_id for waiting in news)

    async def take(
        self, arrival: Arrival, choose: Callable[[Sequence[Delivery]], Sequence[Delivery]], *, rest_due: bool
    ) -> Taken:
        """What rides on the response to the message: the first few that are unsent, as `choose` says.

        `rest_due`: what does not fit may be pushed. Raises StoreUnavailable.
        """
        if not await self._has_any(arrival):  # at a crowd's deadline most have nothing, and a write is dear
            return Taken((), 0)
        for _ in range(TAKE_TRIES):
            try:
                taken = await self._store.write(
                    partial(self._take, arrival, choose=choose, rest_due=rest_due)
                )
            except LeaseLost:  # another process took one of them at this moment
                continue
            if rest_due:
                self._outbox.look_at(arrival.conversation_id)
            return taken
        return Taken((), 0)

    async def _has_any(self, arrival: Arrival) -> bool:
        now, event_id = self._clock.now(), arrival.message.event_id
        found = await self._store.read(
            lambda tx: tx.deliveries.passable(arrival.conversation_id, event_id, now)
        )
        return bool(found.deliveries)

    def _take(
        self,
        arrival: Arrival,
        tx: Transaction,
        *,
        choose: Callable[[Sequence[Delivery]], Sequence[Delivery]],
        rest_due: bool,
    ) -> Taken:
        now, event_id = self._clock.now(), arrival.message.event_id
        found: Passable = tx.deliveries.passable(arrival.conversation_id, event_id, now)
        chosen = found.deliveries if found.again else tuple(choose(found.deliveries))
        ids = [delivery.id for delivery in chosen if delivery.pending]
        if ids or (rest_due and not found.again and found.deliveries):
            until = now + ASKED_AGAIN_WITHIN
            tx.deliveries.pass_on(
                arrival.conversation_id, event_id, ids, now, until, rest_due=rest_due and not found.again
            )
        if found.again:
            left = len(tx.deliveries.passable(arrival.conversation_id, NO_EVENT, now).deliveries)
        else:
            left = len(found.deliveries) - len(chosen)
        return Taken(chosen, left)

    async def is_owed(self, arrival: Arrival) -> bool:
        """Whether anything of the conversation is still on its way to the person, in whosever hands."""
        return await self._store.read(
            lambda tx: tx.deliveries.is_owed(arrival.conversation_id, arrival.message.event_id)
        )

    async def arrived(self, arrival: Arrival, taken: Sequence[Delivery]) -> None:
        """The response is out, as far as can be known. Raises StoreUnavailable: it may go out once more."""
        now, event_id = self._clock.now(), arrival.message.event_id
        channel = self._outbox.channel(arrival.message.platform)
        needed = [channel.keeps(delivery.segment) or timedelta() for delivery in taken] if channel else []
        until = now + max([ASKED_AGAIN_WITHIN, *needed])
        await self._store.write(
            lambda tx: tx.deliveries.mark_passed(arrival.conversation_id, event_id, now, until)
        )
        self._outbox.look_at(arrival.conversation_id)  # what was behind it may go now
