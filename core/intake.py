"""The way in: store an event once, durably, then wake its conversation. Adapters call this.

Events that arrive together are stored together: while one transaction is on its way to the disk,
the next is collected, so a burst of webhooks costs a few commits instead of one each.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from datetime import datetime

from core.errors import IdempotencyConflict, StoreUnavailable
from core.feedback import verdict_on
from core.messages import (
    ConversationKind,
    Deleted,
    Edited,
    IncomingMessage,
    Left,
    Moved,
    Platform,
    PlatformEvent,
    ReachChanged,
    Reacted,
)
from core.ports import Accepted, Clock, Measures, Store, Wakeups
from core.safety.rules import Risk, risk_of
from core.wording import kept_in_words

BATCH_LIMIT = 64
WAITING_LIMIT = 10_000
UNHEARD_SECONDS = 5.0
"""How long it is taken for granted that a group is still not listened to."""
UNHEARD_LIMIT = 10_000

_Entry = tuple[IncomingMessage, asyncio.Future[Accepted | None]]


class Intake:
    """Implements core.ports.Inbox."""

    def __init__(self, store: Store, wakeups: Wakeups, clock: Clock, measures: Measures) -> None:
        self._store = store
        self._wakeups = wakeups
        self._clock = clock
        self._measures = measures
        self._waiting: deque[_Entry] = deque()
        self._storing: asyncio.Task[None] | None = None
        self._unheard: dict[tuple[Platform, str], float] = {}
        """Places where nothing but what is meant for the bot is heard, and until when that is taken for granted."""
        self._looks_until = 0.0
        self.failed_at: datetime | None = None
        """When storing last failed, if nothing was stored since."""

    async def accept(self, message: IncomingMessage) -> Accepted | None:
        if len(self._waiting) >= WAITING_LIMIT:
            raise StoreUnavailable("too many messages wait to be stored")
        future: asyncio.Future[Accepted | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((message, future))
        if self._storing is None or self._storing.done():
            self._storing = asyncio.create_task(self._store_waiting(), name="intake")
        if message.command is not None and message.kind is ConversationKind.GROUP:
            self._looks_until = time.monotonic() + 2 * UNHEARD_SECONDS  # it may change what is heard
        accepted = await future
        if accepted is None:
            self._note_unheard(message)
            return None
        if accepted.duplicate:
            await self._check_same(message, accepted)
        else:
            self._measures.accepted(message.platform)
            await self._wakeups.wake(accepted.conversation_id)
        return accepted

    def overhears(self, platform: Platform, chat_id: str) -> bool:
        now = time.monotonic()
        return now < self._looks_until or self._unheard.get((platform, chat_id), 0.0) < now

    def _note_unheard(self, message: IncomingMessage) -> None:
        if message.addressed or message.bundle is not None:
            return  # that says nothing of the others
        if len(self._unheard) >= UNHEARD_LIMIT:
            self._unheard.clear()
        self._unheard[message.platform, message.chat_id] = time.monotonic() + UNHEARD_SECONDS

    async def note(self, event: PlatformEvent) -> None:
        now = self._clock.now()
        match event:
            case Edited():
                await self._edit(event, now)
            case Reacted():
                verdict = verdict_on(event.emojis)
                kept = await self._store.write(lambda tx: tx.feedback.react(event, verdict, now))
                if kept and event.emojis:
                    self._measures.feedback_given(verdict)
            case Deleted():
                waited = await self._store.write(lambda tx: tx.inbox.delete(event, now))
                if waited is not None:
                    await self._wakeups.wake(waited)
            case Left():
                await self._store.write(lambda tx: tx.conversations.leave(event, now))
            case ReachChanged(platform, chat_id, reachable):
                await self._store.write(
                    lambda tx: tx.conversations.set_reachable(platform, chat_id, reachable=reachable, now=now)
                )
            case Moved():
                conversation_id = await self._store.write(lambda tx: tx.conversations.move(event))
                if conversation_id is not None:
                    await self._wakeups.wake(conversation_id)

    async def _edit(self, event: Edited, now: datetime) -> None:
        known = await self._store.write(lambda tx: tx.inbox.edit(event, now))
        if known is None:  # a mention was added, say
            if not event.late or risk_of(event.message) is Risk.HIGH:
                await self.accept(event.message)
        elif not known.duplicate:
            await self._wakeups.wake(known.conversation_id)

    async def close(self) -> None:
        """Wait for what is on its way to the disk."""
        if self._storing is not None:
            await self._storing

    async def _store_waiting(self) -> None:
        while self._waiting:
            count = min(BATCH_LIMIT, len(self._waiting))
            taken = [self._waiting.popleft() for _ in range(count)]
            # Whoever gave up before the store was asked (a client that hung up) is not stored.
            await self._store_batch([entry for entry in taken if not entry[1].done()])

    async def _store_batch(self, batch: list[_Entry]) -> None:
        if not batch:
            return
        messages = [message for message, _ in batch]
        now = self._clock.now()
        try:
            accepted = await self._store.write(lambda tx: tx.inbox.add(messages, now))
        except Exception as error:  # noqa: BLE001 - it belongs to those who wait, who handle or log it
            if len(batch) == 1 or isinstance(error, StoreUnavailable):
                self.failed_at = now if isinstance(error, StoreUnavailable) else self.failed_at
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
            else:  # one of them cannot be stored: it must not take the others with it
                for entry in batch:
                    await self._store_batch([entry])
            return
        self.failed_at = None
        for (_, future), stored in zip(batch, accepted, strict=True):
            if not future.done():
                future.set_result(stored)

    async def _check_same(self, message: IncomingMessage, accepted: Accepted) -> None:
        said = await self._store.read(lambda tx: tx.inbox.text_of(accepted.inbox_id))
        if said is not None and said != kept_in_words(message):
            raise IdempotencyConflict
