"""The way out: deliver what turns decided, in order, at the pace a platform allows; retry, and bury what can't be.

A delivery is marked sent right after the platform took it. A crash between the two sends it again:
the one window in which a reply may be doubled (docs/architecture.md, "Nothing is lost").
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import structlog

from core.errors import ChatGoesOn, DeliveryFailed, HeldBack, RecipientGone, StoreUnavailable
from core.messages import ConversationKind, Delivery, Moved, Platform, Segment
from core.pauses import Pauses
from core.ports import Clock, Measures, RateLimiter, Sender, Store, Transaction

log = structlog.get_logger()


BROKEN_PAUSE = timedelta(minutes=1)
PACE_MEMORY = timedelta(minutes=1)
"""As far back as any platform counts."""
TYPING_AFTER_SECONDS = 0.3
DUE_SECONDS = 0.02
"""A look that comes a moment too early finds nothing."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a platform lets us send: tokens a second and how many at once."""

    per_second: float
    at_once: int


@dataclass(frozen=True, slots=True)
class Channel:
    """A platform that replies are pushed to."""

    sender: Sender
    render: Callable[[str], list[Segment]]
    """Cuts a reply into the pieces the platform takes, each a delivery of its own."""
    overall: Pace
    chat: Pace
    group: Pace
    room: Callable[[str], str] = lambda chat_id: chat_id
    """The chat that the platform counts messages in: a forum's topics share their group's pace."""
    rides: Callable[[str], timedelta] = lambda chat_id: timedelta()
    """How long after a message came its answer may ride on the response to it (core/passive.py). Then it is pushed."""
    bubbles: bool = True
    """Whether an answer may come in several short messages: where they are counted it does not."""
    keeps: Callable[[Segment], timedelta | None] = lambda segment: None
    """How long a sent segment is still needed there: a file that is fetched by a link."""
    previews: frozenset[ConversationKind] = frozenset()
    """Where an answer can be shown while it is written."""


@dataclass(frozen=True, slots=True)
class OutboxOptions:
    owner: str
    at_once: int = 256
    lease: timedelta = timedelta(seconds=30)
    sweep_seconds: float = 2.0
    attempts: int = 30
    """With the backoff below: about four hours of a platform being away."""
    first_backoff: timedelta = timedelta(seconds=1)
    longest_backoff: timedelta = timedelta(minutes=10)
    send_seconds: float = 60.0
    sweeps: bool = True


class Outbox:
    def __init__(
        self,
        store: Store,
        channels: Mapping[Platform, Channel],
        limiter: RateLimiter,
        clock: Clock,
        measures: Measures,
        options: OutboxOptions,
    ) -> None:
        self._store = store
        self._channels = channels
        self._limiter = limiter
        self._clock = clock
        self._measures = measures
        self._options = options
        self._at_work: dict[int, bool] = {}
        """Conversations that a task of ours delivers to; True: look again when done."""
        self._slots = asyncio.Semaphore(options.at_once)
        self._tasks: set[asyncio.Task[None]] = set()
        self._followers: set[asyncio.Task[None]] = set()
        self._closing = False
        self._broken = Pauses(clock, BROKEN_PAUSE)
        self._sent: dict[int, str | None] = {}
        """Deliveries that the platform took and whose rows do not say so yet: they must not go out again."""

    @property
    def platforms(self) -> tuple[Platform, ...]:
        """Where replies are pushed to."""
        return tuple(self._channels)

    def channel(self, platform: Platform) -> Channel | None:
        """How replies are pushed to a platform; None where clients fetch them."""
        return self._channels.get(platform)

    def look_at(self, conversation_id: int) -> None:
        """This conversation may have something to deliver."""
        if not self._channels or self._closing:
            return
        if conversation_id in self._at_work:
            self._at_work[conversation_id] = True
            return
        self._at_work[conversation_id] = False
        task = asyncio.create_task(self._work(conversation_id), name="delivery")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def look_at_after(
        self, conversation_id: int, pauses: Sequence[float], platform: Platform, chat_id: str
    ) -> None:
        """The same after each of these seconds, with a sign of typing meanwhile."""
        if self._closing:
            return
        task = asyncio.create_task(self._follow(conversation_id, pauses, platform, chat_id), name="pauses")
        self._followers.add(task)
        task.add_done_callback(self._followers.discard)

    async def _follow(
        self, conversation_id: int, pauses: Sequence[float], platform: Platform, chat_id: str
    ) -> None:
        channel = self._channels[platform]
        for pause in pauses:
            await asyncio.sleep(min(TYPING_AFTER_SECONDS, pause))
            await channel.sender.show_typing(chat_id)
            await asyncio.sleep(max(0.0, pause - TYPING_AFTER_SECONDS) + DUE_SECONDS)
            self.look_at(conversation_id)

    async def may_send(self, platform: Platform, chat_id: str, kind: ConversationKind) -> bool:
        """Whether one more message fits the pace at this moment; it is then counted."""
        for key, pace in self._paces(platform, chat_id, kind):
            if await self._limiter.try_take(key, pace.per_second, pace.at_once) is not None:
                return False
        return True

    async def hold(
        self, platform: Platform, chat_id: str, kind: ConversationKind, refused: DeliveryFailed
    ) -> None:
        """Send nothing into a chat, its topics included, for as long as the platform asks."""
        if refused.retry_after is not None:
            key, pace = self._paces(platform, chat_id, kind)[0]
            await self._limiter.hold(key, pace.per_second, pace.at_once, refused.retry_after)

    async def run(self) -> None:
        """Keep the leases of what is being delivered and find what is due, until cancelled."""
        await self._go_on_at_pace()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._renew_leases(), name="delivery-leases")
            if self._options.sweeps:
                group.create_task(self._sweep(), name="delivery-sweeper")

    async def _sweep(self) -> None:
        while True:
            try:
                for conversation_id in await self._due():
                    if conversation_id not in self._at_work and not self._broken.hold(conversation_id):
                        self.look_at(conversation_id)
            except StoreUnavailable as error:
                log.warning("outbox_sweep_failed", reason=str(error))
            await asyncio.sleep(self._options.sweep_seconds)

    async def _due(self) -> list[int]:
        now, owner = self._clock.now(), self._options.owner
        limit = self._options.at_once + len(self._at_work)
        return await self._store.read(
            lambda tx: tx.deliveries.conversations_due(owner, now, limit, self.platforms)
        )

    async def _renew_leases(self) -> None:
        while True:
            await asyncio.sleep(self._options.lease.total_seconds() / 3)
            until = self._clock.now() + self._options.lease
            try:
                await self._store.write(partial(_renew, self._options.owner, tuple(self._at_work), until))
            except StoreUnavailable as error:
                log.warning("delivery_leases_not_renewed", reason=str(error))

    async def _go_on_at_pace(self) -> None:
        """What was sent before a restart counts: the platform has not forgotten it."""
        now = self._clock.now()
        try:
            sent = await self._store.read(
                lambda tx: tx.deliveries.sent_since(self.platforms, now - PACE_MEMORY)
            )
        except StoreUnavailable as error:
            log.warning("pace_unknown", reason=str(error))
            return
        for delivery in sent:
            for key, pace in self._paces(delivery.platform, delivery.chat_id, delivery.kind):
                await self._limiter.recall(key, pace.per_second, now - delivery.sent_at)

    async def drain(self, seconds: float) -> None:
        """Let deliveries under way finish for so long; the rest stays for the next start."""
        self._closing = True
        for follower in self._followers:
            follower.cancel()
        await asyncio.gather(*self._followers, return_exceptions=True)
        renewing = asyncio.create_task(self._renew_leases(), name="delivery-leases")
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        renewing.cancel()

    async def _work(self, conversation_id: int) -> None:
        structlog.contextvars.bind_contextvars(conversation_id=conversation_id)  # in all that this task logs
        try:
            async with self._slots:
                paced = 0
                while deliveries := await self._claim(conversation_id):
                    fresh_until = time.monotonic() + self._options.lease.total_seconds() / 3
                    for delivery in deliveries:
                        if delivery.id != paced:
                            wait = await self._keep_pace(delivery)
                            if wait is not None:
                                await self._put_off(delivery, "held_by_platform", wait)
                                return
                            paced = delivery.id
                        if time.monotonic() > fresh_until:
                            break  # who was held up (a stopped process, a sleeping laptop) may have lost the lease
                        if not await self._deliver(delivery):
                            return
                        if self._at_work[conversation_id]:
                            self._at_work[conversation_id] = False
                            break  # something came that may be more urgent than the rest
        except StoreUnavailable as error:
            log.warning("delivery_not_stored", conversation_id=conversation_id, reason=str(error))
        except Exception:  # the task's top: a row that does not open, say. It must not spin.
            log.exception("delivery_broke", conversation_id=conversation_id)
            self._broken.begin(conversation_id)
        finally:
            if self._at_work.pop(conversation_id):
                self.look_at(conversation_id)

    async def _claim(self, conversation_id: int) -> list[Delivery]:
        now, options = self._clock.now(), self._options
        return await self._store.write(
            lambda tx: tx.deliveries.claim(conversation_id, options.owner, now, now + options.lease)
        )

    async def _deliver(self, delivery: Delivery) -> bool:
        """Send one delivery; whether the conversation's next one may follow."""
        channel = self._channels.get(delivery.platform)
        if channel is None:  # its channel is switched off: it waits until it is on again
            await self._put_off(delivery, "channel_off", self._options.longest_backoff)
            return False
        try:
            if delivery.id not in self._sent:
                async with asyncio.timeout(self._options.send_seconds):
                    self._sent[delivery.id] = await channel.sender.send(delivery)
        except RecipientGone:
            await self._bury(delivery)
            return False
        except HeldBack as error:
            await self._hold_back(delivery, error.reason)
            return False
        except ChatGoesOn as error:
            await self._go_along(delivery, error.new_chat_id)
            return False
        except DeliveryFailed as error:
            await self.hold(delivery.platform, delivery.chat_id, delivery.kind, error)
            return await self._failed(delivery, error)
        except TimeoutError:
            return await self._failed(delivery, DeliveryFailed("timeout"))
        except Exception:  # a sender's own fault: this delivery must not spin, nor hold the others for ever
            log.exception("sender_broke", delivery_id=delivery.id, platform=delivery.platform)
            return await self._failed(delivery, DeliveryFailed("internal_error"))
        now, message_id = self._clock.now(), self._sent[delivery.id]
        keep = channel.keeps(delivery.segment)
        keep_until = now + keep if keep else None
        await self._record(lambda tx: tx.deliveries.mark_sent(delivery.id, message_id, now, keep_until))
        del self._sent[delivery.id]
        self._measures.delivered(delivery.platform, "sent")
        return True

    async def _failed(self, delivery: Delivery, error: DeliveryFailed) -> bool:
        """Another attempt later, or the dead letters; whether the next delivery may follow."""
        attempts = delivery.attempts + 1
        log.warning(
            "delivery_failed",
            delivery_id=delivery.id,
            platform=delivery.platform,
            reason=error.reason,
            attempts=attempts,
        )
        rides = self._channels[delivery.platform].rides(delivery.chat_id)
        if rides and not error.permanent and attempts >= self._options.attempts:
            await self._hold_back(delivery, error.reason)  # it can still ride on a response
            return False
        if error.permanent or attempts >= self._options.attempts:
            now = self._clock.now()
            await self._record(
                lambda tx: tx.deliveries.mark_failed(
                    delivery.id, self._options.owner, error.reason, None, now
                )
            )
            self._measures.delivered(delivery.platform, "dead")
            return True
        await self._put_off(delivery, error.reason, error.retry_after or self._backoff(attempts))
        self._measures.delivered(delivery.platform, "retry")
        return False

    def _backoff(self, attempts: int) -> timedelta:
        """Exponential with full jitter, so that what failed together does not come back together."""
        doubled: timedelta = self._options.first_backoff * 2 ** min(attempts, 16)
        return min(doubled, self._options.longest_backoff) * random.uniform(0.5, 1.0)

    async def _put_off(self, delivery: Delivery, reason: str, wait: timedelta) -> None:
        now = self._clock.now()
        again = now + wait
        await self._record(
            lambda tx: tx.deliveries.mark_failed(delivery.id, self._options.owner, reason, again, now)
        )
        # Only for promptness: the sweeper finds it too.
        asyncio.get_running_loop().call_later(wait.total_seconds(), self.look_at, delivery.conversation_id)

    async def _bury(self, delivery: Delivery) -> None:
        now = self._clock.now()
        await self._record(
            lambda tx: tx.deliveries.bury_conversation(delivery.conversation_id, "recipient_gone", now)
        )
        self._measures.delivered(delivery.platform, "gone")
        log.info("recipient_gone", platform=delivery.platform, conversation_id=delivery.conversation_id)

    async def _hold_back(self, delivery: Delivery, reason: str) -> None:
        """The person has to write again before anything is taken for them."""
        now = self._clock.now()
        await self._record(lambda tx: tx.deliveries.hold(delivery.conversation_id, reason, now))
        self._measures.delivered(delivery.platform, "held")
        log.info("delivery_held", platform=delivery.platform, delivery_id=delivery.id, reason=reason)

    async def _go_along(self, delivery: Delivery, new_chat_id: str) -> None:
        """Its chat has another id now: what is owed there goes on under that."""
        event = Moved(delivery.platform, delivery.chat_id, new_chat_id)
        goes_on: list[int | None] = []
        await self._record(lambda tx: goes_on.append(tx.conversations.move(event)))
        if goes_on[-1] is not None:
            asyncio.get_running_loop().call_soon(self.look_at, goes_on[-1])

    async def _record(self, unit: Callable[[Transaction], object]) -> None:
        """Write down what the platform did, however long the store is away: a forgotten `sent` is a doubled reply."""
        wait = 0.1
        while True:
            try:
                await self._store.write(unit)
                return
            except StoreUnavailable as error:
                log.warning("delivery_not_recorded", reason=str(error))
            await asyncio.sleep(wait)
            wait = min(wait * 2, 5.0)

    async def _keep_pace(self, delivery: Delivery) -> timedelta | None:
        """Wait until the platform takes it; or how long it is to be put off, where that takes longer than a lease."""
        if delivery.platform not in self._channels or delivery.id in self._sent:
            return None
        paces = self._paces(delivery.platform, delivery.chat_id, delivery.kind)
        if delivery.segment.response is not None:
            paces = paces[1:]  # it has a way of its own, which is not counted with the chat's messages
        for key, pace in paces:
            wait = await self._limiter.try_take(key, pace.per_second, pace.at_once)
            if wait is not None and wait > self._options.lease:
                return wait
            if wait is not None:
                wait = await self._limiter.reserve(key, pace.per_second, pace.at_once)
                await asyncio.sleep(wait.total_seconds())
        return None

    def _paces(
        self, platform: Platform, chat_id: str, kind: ConversationKind
    ) -> tuple[tuple[str, Pace], ...]:
        """What a message there is counted under."""
        channel = self._channels[platform]
        place = channel.group if kind is ConversationKind.GROUP else channel.chat
        name = f"out:{platform}"
        return (f"{name}:{channel.room(chat_id)}", place), (name, channel.overall)


def _renew(owner: str, conversation_ids: tuple[int, ...], until: datetime, tx: Transaction) -> None:
    tx.deliveries.renew(owner, conversation_ids, until)
