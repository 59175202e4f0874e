"""One turn of a conversation under our lease, from what waits to its commit; begun again while more comes.

The worker (core/worker.py) knows which conversation is next and holds its lease; what a turn says is in core/turn.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import structlog

from core.burst import BUNDLE_MAX_SECONDS, BurstRule, begin_at, joins, next_turn
from core.errors import DeliveryFailed
from core.ids import new_id
from core.live import LiveReplies, LiveReply
from core.loop_load import until_loop_keeps_up
from core.messages import ChatMessage, Role, Segment, Source
from core.outbox import Outbox
from core.ports import ClaimedConversation, Clock, Outcome, Pending, Sender, Store, TurnResult
from core.preview import Preview
from core.reply import Manner, addressed, spoken
from core.safety.rules import Risk, risk_of
from core.settings import ReplyStyle
from core.turn import Audience, Draft, MayManage, TurnParts, answer, prepare
from core.typing_sign import TypingSign
from core.wording import sayings

log = structlog.get_logger()

MAY_MANAGE_SECONDS = 5.0
RESTART_PACE_SECONDS = 1.0
"""How long a model may go on answering before the turn is begun again, for more to be in it; doubled each time, so
that somebody who never stops typing gets an answer. What cannot wait does not."""
BURST_PACE_SECONDS = 0.4
"""The same while the burst is waited for: nobody was asked yet. Well below the quiet that ends a burst."""
RESTART_LIMIT = timedelta(seconds=60)
"""A turn whose first message is older is not begun again for new ones: somebody waits."""


class Bell:
    """Rings for a conversation's new messages while a turn is at work: a future, where an Event needs a task."""

    rang: asyncio.Future[None]

    def __init__(self) -> None:
        self.clear()

    def ring(self) -> None:
        if not self.rang.done():
            self.rang.set_result(None)

    def clear(self) -> None:
        self.rang = asyncio.get_running_loop().create_future()


class _Watchers:
    """Whoever watches one of a turn's messages: their live replies, written to as one."""

    def __init__(self, replies: Sequence[LiveReply], preview: Preview | None) -> None:
        self._replies = replies
        self.preview = preview
        self.begun = False
        """Whether an answer was begun: a model was asked."""
        self._watched = False

    @property
    def shown(self) -> bool:
        """Whether anybody has seen a part of this answer."""
        return self._watched or (self.preview is not None and self.preview.shown)

    def begin(self, turn_id: int) -> None:
        self.begun = True
        for audience in self._audiences:
            audience.begin(turn_id)

    def append(self, text: str) -> None:
        self._watched = self._watched or any(reply.readers for reply in self._replies)
        for audience in self._audiences:
            audience.append(text)

    def previewing(self) -> AbstractAsyncContextManager[None]:
        return nullcontext() if self.preview is None else self.preview.running()

    @property
    def _audiences(self) -> tuple[Audience, ...]:
        return (*self._replies,) if self.preview is None else (*self._replies, self.preview)

    def finish(self, outcome: Outcome) -> None:
        for reply in self._replies:
            reply.finish(outcome)


class TurnRunner:
    def __init__(
        self,
        store: Store,
        clock: Clock,
        live: LiveReplies,
        outbox: Outbox,
        parts: TurnParts,
        owner: str,
        burst: BurstRule,
        look_seconds: float | None,
    ) -> None:
        """`owner`: who holds the leases under which the turns run.

        `look_seconds`: how often to look for messages that another process may have stored and told somebody else of.
        """
        self._store = store
        self._clock = clock
        self._live = live
        self._outbox = outbox
        self._parts = parts
        self._owner = owner
        self._burst = burst
        self._look_seconds = look_seconds

    async def run(self, claimed: ClaimedConversation, bell: Bell) -> None:
        """One turn from claim to commit; begun again while more comes and nothing was shown."""
        asked = 0
        channel = self._outbox.channel(claimed.platform)
        sign = TypingSign(channel.sender if channel else None, claimed.chat_id)
        while True:
            messages = next_turn(claimed.pending) or claimed.deferred
            events = [(pending.message.platform, pending.message.event_id) for pending in messages]
            with self._live.answering(events) as replies:
                watchers = _Watchers(replies, self._preview(claimed, messages))
                answering = self._answer(claimed, messages, watchers, bell, sign)
                draft = await self._attempt(answering, claimed, messages, watchers, bell, asked)
                if draft is not None:
                    if draft.source is not Source.PROTOCOL:
                        await until_loop_keeps_up()  # a crowd's answers come back together
                    await self._commit(claimed, messages, draft, watchers)
                    break
            asked += watchers.begun
            left = watchers.preview.message_id if watchers.preview else claimed.preview_message_id
            claimed = replace(claimed, pending=await self._pending(claimed.id), preview_message_id=left)
        if len(claimed.pending) > len(messages):
            bell.ring()

    async def _attempt(
        self,
        answer_: Coroutine[Any, Any, Draft],
        claimed: ClaimedConversation,
        messages: tuple[Pending, ...],
        watchers: _Watchers,
        bell: Bell,
        asked: int,
    ) -> Draft | None:
        """The answer, or None if a message came in time to be part of it. `asked`: how often a model was, before."""
        answering = asyncio.create_task(answer_, name="answer")
        loop = asyncio.get_running_loop()
        began, more = loop.time(), False
        try:
            while True:
                await asyncio.wait(
                    (answering, bell.rang), timeout=self._look_seconds, return_when=asyncio.FIRST_COMPLETED
                )
                if answering.done():
                    if more:
                        bell.ring()
                    return answering.result()
                bell.clear()
                news = await self._news(claimed)
                if not news:
                    continue
                more = True
                if self._begins_again(claimed, messages, news, watchers):
                    pace = RESTART_PACE_SECONDS * 2**asked if watchers.begun else self._burst_pace(claimed)
                    settled = began + pace - loop.time()
                    if settled <= 0 or _in_danger(news):
                        return None
                    loop.call_later(settled, bell.ring)
        finally:
            answering.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait({answering})

    def _burst_pace(self, claimed: ClaimedConversation) -> float:
        return min(BURST_PACE_SECONDS, self._burst.of(claimed.settings).quiet_seconds / 3)

    async def _news(self, claimed: ClaimedConversation) -> tuple[Pending, ...]:
        """What came, or was changed, since the conversation was read."""
        newest = claimed.pending[-1].inbox_id if claimed.pending else 0
        found = await self._store.read(lambda tx: tx.inbox.news(claimed.id, newest))
        known = set(claimed.pending)
        return tuple(waiting for waiting in found if waiting not in known)

    def _begins_again(
        self,
        claimed: ClaimedConversation,
        messages: tuple[Pending, ...],
        news: tuple[Pending, ...],
        watchers: _Watchers,
    ) -> bool:
        """Whether what came meanwhile belongs to this turn, or may not wait for its end."""
        known = {waiting.inbox_id for waiting in claimed.pending}
        edited = any(waiting.inbox_id in known for waiting in news)
        if not claimed.pending or edited or _in_danger(news):
            return True  # to a late answer anything new goes first, and what was edited is not what they say
        if not joins(messages, claimed.pending, news):
            return False
        age = self._clock.now() - messages[0].received_at
        return not watchers.shown and age <= RESTART_LIMIT

    async def _answer(
        self,
        claimed: ClaimedConversation,
        messages: tuple[Pending, ...],
        watchers: _Watchers,
        bell: Bell,
        sign: TypingSign,
    ) -> Draft:
        prepared = prepare(self._parts, claimed, messages)
        channel = self._outbox.channel(claimed.platform)
        if prepared.risk.waits and claimed.pending:
            await self._wait_out(claimed, messages, bell)
        may_manage = _may_manage(channel.sender if channel else None)
        # Where an answer has a way of its own the platform shows that it is thought about.
        typing = nullcontext() if messages[-1].message.response is not None else sign.shown()
        async with typing, watchers.previewing():
            return await answer(self._parts, claimed, prepared, watchers, may_manage)

    async def _wait_out(
        self, claimed: ClaimedConversation, messages: tuple[Pending, ...], bell: Bell
    ) -> None:
        """Wait until the person has finished typing."""
        rule = self._burst.of(claimed.settings)
        seconds = (begin_at(messages, rule) - self._clock.now()).total_seconds()
        if seconds <= 0:
            return
        # Whatever the clocks say: one that was put back must not hold anybody up.
        await asyncio.sleep(min(seconds, max(rule.longest_seconds, BUNDLE_MAX_SECONDS)))
        if await self._news(claimed):
            bell.ring()  # another process stored it and woke somebody else

    def _preview(self, claimed: ClaimedConversation, messages: tuple[Pending, ...]) -> Preview | None:
        """Shows the answer while it is written: where the platform can, unless it comes in bubbles."""
        channel = self._outbox.channel(claimed.platform)
        if (
            channel is None
            or claimed.kind not in channel.previews
            or not claimed.pending  # a late answer comes when it is whole, and perhaps without a sound
            or self._style(claimed) is not ReplyStyle.WHOLE
            or messages[-1].message.command is not None
            or messages[-1].message.response is not None
        ):
            return None
        owner = self._owner

        async def remember(message_id: str) -> None:
            await self._store.write(lambda tx: tx.conversations.set_preview(claimed.id, owner, message_id))

        async def may_send() -> bool:
            return await self._outbox.may_send(claimed.platform, claimed.chat_id, claimed.kind)

        async def refused(error: DeliveryFailed) -> None:
            await self._outbox.hold(claimed.platform, claimed.chat_id, claimed.kind, error)

        return Preview(
            channel.sender, claimed.chat_id, may_send, remember, refused, claimed.preview_message_id
        )

    def _style(self, claimed: ClaimedConversation) -> ReplyStyle:
        return claimed.settings.style or self._parts.personas.of(claimed.settings.persona).style

    async def _pending(self, conversation_id: int) -> tuple[Pending, ...]:
        return await self._store.read(lambda tx: tx.inbox.pending(conversation_id))

    def _segments(
        self,
        claimed: ClaimedConversation,
        messages: tuple[Pending, ...],
        draft: Draft,
        watchers: _Watchers,
    ) -> tuple[Segment, ...]:
        """What goes out through the outbox; nothing where the client fetches the reply itself."""
        channel = self._outbox.channel(claimed.platform)
        if channel is None:
            return ()
        if draft.done is not None:
            return addressed(_in_place_of(claimed.preview_message_id, draft.done.segments), claimed, messages)
        of_model = draft.source is Source.MODEL
        preview = watchers.preview
        manner = Manner(
            style=self._style(claimed) if of_model else ReplyStyle.WHOLE,
            silent=not claimed.pending
            and claimed.person.is_quiet(self._clock.now(), self._parts.default_zone),
            urgent=draft.source is Source.PROTOCOL,
            feedback=of_model and bool(claimed.settings.feedback),
            replaces=preview.message_id if preview else claimed.preview_message_id,
        )
        return addressed(spoken(channel, draft.text, manner), claimed, messages)

    def _push_after(self, claimed: ClaimedConversation, messages: tuple[Pending, ...]) -> datetime | None:
        """When the answer may be pushed, where it may ride on the response to one of its messages till then."""
        channel = self._outbox.channel(claimed.platform)
        rides = channel.rides(claimed.chat_id) if channel else timedelta()
        if not rides or not claimed.pending:
            return None
        return max(pending.received_at for pending in messages) + rides

    async def _commit(
        self,
        claimed: ClaimedConversation,
        messages: tuple[Pending, ...],
        draft: Draft,
        watchers: _Watchers,
    ) -> None:
        now = self._clock.now()
        late = not claimed.pending
        reply = ChatMessage(new_id(), draft.turn_id, Role.ASSISTANT, draft.text, draft.source, now)
        result = TurnResult(
            turn_id=draft.turn_id,
            conversation_id=claimed.id,
            owner=self._owner,
            addressee=messages[0],
            answered=() if late else messages,
            late=messages if late else (),
            moved_on=claimed.deferred if draft.source is Source.MODEL and not late else (),
            said=() if late else _history_of(messages, draft),
            reply=reply,
            segments=self._segments(claimed, messages, draft, watchers),
            defer=draft.defer,
            usage=draft.usage,
            finished_at=now,
            push_after=self._push_after(claimed, messages),
            effect=draft.done.effect if draft.done else None,
            written=draft.written,
        )
        await self._store.write(lambda tx: tx.turns.commit(result))
        watchers.finish(Outcome(draft.turn_id, claimed.id, reply, draft.defer))
        self._outbox.look_at(claimed.id)
        if (
            result.push_after is not None and result.push_after > now
        ):  # only for promptness: the sweeper finds it too
            loop = asyncio.get_running_loop()
            loop.call_later((result.push_after - now).total_seconds(), self._outbox.look_at, claimed.id)
        pauses = [segment.pause_seconds for segment in result.segments if segment.pause_seconds]
        if pauses:
            self._outbox.look_at_after(claimed.id, pauses, claimed.platform, claimed.chat_id)
        waited = (now - messages[0].received_at).total_seconds()
        self._parts.measures.turn_finished(claimed.platform, draft.outcome, waited)
        log.info(
            "turn_finished",
            conversation_id=claimed.id,
            turn_id=draft.turn_id,
            platform=claimed.platform,
            outcome=draft.outcome,
            messages=len(messages),
            seconds=round(waited, 3),
        )


def _in_danger(news: Sequence[Pending]) -> bool:
    return any(risk_of(waiting.message) is Risk.HIGH for waiting in news)


def _in_place_of(message_id: str | None, segments: tuple[Segment, ...]) -> tuple[Segment, ...]:
    """The segments, the first of them where half an answer was left standing."""
    if message_id is None or not segments or segments[0].replaces is not None:
        return segments
    return (replace(segments[0], replaces=message_id), *segments[1:])


def _history_of(messages: Sequence[Pending], draft: Draft) -> tuple[ChatMessage, ...]:
    """What the messages leave in the history; a command's only if it is to be written down."""
    if not draft.written:
        return ()
    source = Source.COMMAND if draft.done is not None else Source.PERSON
    return tuple(
        ChatMessage(
            saying.first.inbox_id, draft.turn_id, Role.USER, saying.kept, source, saying.first.received_at
        )
        for saying in sayings(messages)
    )


def _may_manage(sender: Sender | None) -> MayManage:
    """Where nothing is pushed, nobody is an administrator of anything."""

    async def nobody(chat_id: str, user_id: str) -> bool:
        return False

    async def ask(chat_id: str, user_id: str) -> bool:
        assert sender is not None
        async with asyncio.timeout(MAY_MANAGE_SECONDS):
            return await sender.may_manage(chat_id, user_id)

    return ask if sender is not None else nobody
