"""Works off conversations: lease one, wait out the burst, run the turn, commit, give the lease back.

Everything that must survive a crash is a row; what this module holds in memory only makes it
quick. A conversation that was woken but not worked on is found again by the sweeper.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog

from core.burst import BUNDLE_MAX_SECONDS, BurstRule, begin_at, joins, next_turn
from core.errors import RESTING, LeaseLost, ModelUnavailable, StoreUnavailable
from core.ids import new_id
from core.live import LiveReplies, LiveReply
from core.messages import FETCHED, ChatMessage, ConversationKind, Platform, Role, Segment, Source
from core.outbox import Outbox
from core.pauses import Pauses
from core.ports import (
    ClaimedConversation,
    Clock,
    Outcome,
    Pending,
    Sender,
    Store,
    Transaction,
    TurnResult,
    Wakeups,
)
from core.preview import Preview
from core.reply import Manner, addressed, spoken
from core.safety.rules import Risk, assess
from core.settings import ReplyStyle
from core.turn import Audience, Draft, MayManage, TurnParts, answer, prepare
from core.typing_sign import TypingSign
from core.wording import sayings

log = structlog.get_logger()

FAILED_TURN_BACKOFF = timedelta(seconds=5)
LATE_ANSWER_PAUSE = timedelta(seconds=30)
"""After a late answer failed again, before any is tried."""
UNCLAIMABLE_PAUSE = timedelta(minutes=1)
MAY_MANAGE_SECONDS = 5.0
ERASE_EVERY_SECONDS = 2.0
BUSY_SECONDS = 0.008
"""The loop is busy when one round through all that is ready takes so long."""
LONGEST_HOLD_SECONDS = 0.25
RESTART_PACE_SECONDS = 1.0
"""How long a model may go on answering before the turn is begun again, for more to be in it; doubled each time, so
that somebody who never stops typing gets an answer. What cannot wait does not."""
BURST_PACE_SECONDS = 0.4
"""The same while the burst is waited for: nobody was asked yet."""
RESTART_LIMIT = timedelta(seconds=60)
"""A turn whose first message is older is not begun again for new ones: somebody waits."""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    owner: str
    burst: BurstRule
    turns_at_once: int
    lease: timedelta = timedelta(seconds=30)
    sweep_seconds: float = 2.0
    late_answer_within: timedelta = timedelta(hours=12)
    window_messages: int = 40
    platforms: tuple[Platform, ...] = ()
    """Answer only there; empty: wherever an answer can reach its person."""
    sweeps: bool = True
    """Off in the terminal's own process, which answers only what was said there."""


class _Bell:
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
        self._watched = self._watched or any(reply.watchers for reply in self._replies)
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


class Worker:
    def __init__(
        self,
        store: Store,
        wakeups: Wakeups,
        clock: Clock,
        live: LiveReplies,
        outbox: Outbox,
        parts: TurnParts,
        options: WorkerOptions,
    ) -> None:
        self._store = store
        self._wakeups = wakeups
        self._clock = clock
        self._live = live
        self._outbox = outbox
        self._parts = parts
        self._options = options
        self._ready: dict[int, None] = {}
        """Conversations to look at, first come first served: a busy one queues behind the others after each turn."""
        self._has_ready = asyncio.Event()
        self._at_work: dict[int, _Bell] = {}
        """Conversations that a task of ours works on, each with its bell for new messages."""
        self._late_again_at = clock.now()
        self._unclaimable = Pauses(clock, UNCLAIMABLE_PAUSE)
        self._platforms = options.platforms or (*FETCHED, *outbox.platforms)
        """Where this process can have an answer reach its person. Anybody else's message waits for who can."""
        self._slots = asyncio.Semaphore(options.turns_at_once)
        self._turns: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Work until cancelled. Turns go on until `drain`."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen(), name="wakeups")
            group.create_task(self._dispatch(), name="dispatch")
            group.create_task(self._renew_leases(), name="leases")
            if self._options.sweeps:
                group.create_task(self._sweep(), name="sweeper")
                group.create_task(self._erase_left(), name="eraser")

    async def drain(self, seconds: float) -> None:
        """Let running turns finish for so long, then give up the rest: their messages stay for the next start."""
        renewing = asyncio.create_task(self._renew_leases(), name="leases")
        if self._turns:
            await asyncio.wait(self._turns, timeout=seconds)
        for turn in self._turns:
            turn.cancel()
        await asyncio.gather(*self._turns, return_exceptions=True)
        renewing.cancel()

    async def let_go(self) -> None:
        """Give back every lease of this process: the last thing before it ends, when nothing is sent any more."""
        with suppress(StoreUnavailable):  # then they expire
            await self._store.write(lambda tx: tx.conversations.release_all(self._options.owner))

    # --- what to look at --------------------------------------------------------------------

    def look_at(self, conversation_id: int) -> None:
        """Something may have come for this conversation."""
        bell = self._at_work.get(conversation_id)
        if bell is not None:
            bell.ring()
        else:
            self._ready[conversation_id] = None
            self._has_ready.set()

    async def _listen(self) -> None:
        while True:
            self.look_at(await self._wakeups.next())

    async def _dispatch(self) -> None:
        while True:
            await self._has_ready.wait()
            await self._slots.acquire()
            await _until_loop_keeps_up()
            if not self._ready:
                self._slots.release()
                self._has_ready.clear()
                continue
            conversation_id = next(iter(self._ready))
            del self._ready[conversation_id]
            self._at_work[conversation_id] = _Bell()
            turn = asyncio.create_task(self._work(conversation_id), name="turn")
            self._turns.add(turn)
            turn.add_done_callback(self._turns.discard)

    async def _sweep(self) -> None:
        while True:
            try:
                for conversation_id in await self._abandoned():
                    if conversation_id not in self._at_work and not self._unclaimable.hold(conversation_id):
                        self.look_at(conversation_id)
            except StoreUnavailable as error:
                log.warning("sweep_failed", reason=str(error))
            await asyncio.sleep(self._options.sweep_seconds)

    async def _erase_left(self) -> None:
        """The last traces of people who had themselves erased go when their farewell is out."""
        while True:
            now = self._clock.now()
            try:
                if await self._store.read(
                    lambda tx: tx.people.is_leaving()
                ):  # a write would be one every time
                    await self._store.write(partial(_erase_left, now))
            except StoreUnavailable as error:
                log.warning("erasing_failed", reason=str(error))
            await asyncio.sleep(ERASE_EVERY_SECONDS)

    async def _abandoned(self) -> list[int]:
        """Those that wait and are in nobody's hands: neither another process's nor a task's of ours.

        A lease of ours without a task is what a claim or a commit left behind that got no answer.
        """
        now, owner = self._clock.now(), self._options.owner
        limit = self._options.turns_at_once + len(self._at_work)
        waiting = await self._store.read(
            lambda tx: tx.inbox.conversations_waiting(owner, now, limit, self._platforms)
        )
        if not self._parts.model.available or now < self._late_again_at:
            return waiting
        since = now - self._options.late_answer_within
        late = await self._store.read(
            lambda tx: tx.inbox.conversations_deferred(owner, since, now, limit, self._platforms)
        )
        return waiting + late

    async def _renew_leases(self) -> None:
        """Keep the leases of what is really at work: one that nothing works under must expire."""
        while True:
            await asyncio.sleep(self._options.lease.total_seconds() / 3)
            until = self._clock.now() + self._options.lease
            try:
                await self._store.write(partial(_renew, self._options.owner, tuple(self._at_work), until))
            except StoreUnavailable as error:
                log.warning("leases_not_renewed", reason=str(error))

    # --- one conversation -------------------------------------------------------------------

    async def _work(self, conversation_id: int) -> None:
        structlog.contextvars.bind_contextvars(conversation_id=conversation_id)  # in all that this task logs
        bell = self._at_work[conversation_id]
        claimed: ClaimedConversation | None = None
        try:
            claimed = await self._claim(conversation_id)
            if claimed is not None:
                await self._turn(claimed, bell)
        except LeaseLost:
            log.warning("lease_lost", conversation_id=conversation_id)
            self._parts.measures.turn_broke("lease_lost")
        except StoreUnavailable as error:  # the messages are safe: the sweeper comes back to them
            log.warning("turn_not_stored", conversation_id=conversation_id, reason=str(error))
            self._parts.measures.turn_broke("not_stored")
        except ModelUnavailable as error:
            # Of a late answer: it is still owed, but nothing new may wait for it.
            if error.reason != RESTING:
                self._late_again_at = self._clock.now() + LATE_ANSWER_PAUSE
            await self._release(conversation_id)
        except Exception:  # the task's top
            log.exception("turn_failed", conversation_id=conversation_id)
            self._parts.measures.turn_broke("failed")
            if (
                claimed is None
            ):  # a row that does not open, say: nothing was written, so the pause is ours to keep
                self._unclaimable.begin(conversation_id)
            else:
                await self._postpone(conversation_id)
        finally:
            del self._at_work[conversation_id]
            self._slots.release()
            if bell.rang.done():
                self.look_at(conversation_id)

    async def _claim(self, conversation_id: int) -> ClaimedConversation | None:
        now, options = self._clock.now(), self._options
        return await self._store.write(
            lambda tx: tx.conversations.claim(
                conversation_id,
                options.owner,
                now,
                now + options.lease,
                options.window_messages,
                self._platforms,
            )
        )

    async def _release(self, conversation_id: int) -> None:
        owner = self._options.owner
        with suppress(StoreUnavailable):  # then the sweeper finds it
            await self._store.write(lambda tx: tx.conversations.release(conversation_id, owner))

    async def _postpone(self, conversation_id: int) -> None:
        owner, not_before = self._options.owner, self._clock.now() + FAILED_TURN_BACKOFF
        with suppress(StoreUnavailable):  # then the sweeper finds it
            await self._store.write(lambda tx: tx.conversations.postpone(conversation_id, owner, not_before))

    async def _turn(self, claimed: ClaimedConversation, bell: _Bell) -> None:
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
        bell: _Bell,
        asked: int,
    ) -> Draft | None:
        """The answer, or None if a message came in time to be part of it. `asked`: how often a model was, before."""
        answering = asyncio.create_task(answer_, name="answer")
        loop = asyncio.get_running_loop()
        began, more = loop.time(), False
        try:
            while True:
                await asyncio.wait((answering, bell.rang), return_when=asyncio.FIRST_COMPLETED)
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
                    pace = RESTART_PACE_SECONDS * 2**asked if watchers.begun else BURST_PACE_SECONDS
                    settled = began + pace - loop.time()
                    if settled <= 0 or _cannot_wait(claimed, news):
                        return None
                    loop.call_later(settled, bell.ring)
        finally:
            answering.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait({answering})

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
        if not claimed.pending or _cannot_wait(claimed, news):
            return True  # a late answer: anything new goes first
        if not joins(messages, claimed.pending, news):
            return False
        age = self._clock.now() - messages[0].received_at
        return not watchers.shown and age <= RESTART_LIMIT

    async def _answer(
        self,
        claimed: ClaimedConversation,
        messages: tuple[Pending, ...],
        watchers: _Watchers,
        bell: _Bell,
        sign: TypingSign,
    ) -> Draft:
        prepared = prepare(self._parts, claimed, messages)
        channel = self._outbox.channel(claimed.platform)
        if prepared.risk.waits and claimed.pending:
            await self._wait_out(claimed, messages, bell)
        may_manage = _may_manage(channel.sender if channel else None)
        async with sign.shown(), watchers.previewing():
            return await answer(self._parts, claimed, prepared, watchers, may_manage)

    async def _wait_out(
        self, claimed: ClaimedConversation, messages: tuple[Pending, ...], bell: _Bell
    ) -> None:
        """Wait until the person has finished typing."""
        rule = self._options.burst.of(claimed.settings)
        seconds = (begin_at(messages, rule) - self._clock.now()).total_seconds()
        if seconds <= 0:
            return
        # Whatever the clocks say: one that was put back must not hold anybody up.
        await asyncio.sleep(min(seconds, max(rule.longest_seconds, BUNDLE_MAX_SECONDS)))
        if await self._news(claimed):
            bell.ring()  # another process stored it and woke somebody else

    def _preview(self, claimed: ClaimedConversation, messages: tuple[Pending, ...]) -> Preview | None:
        """Shows the answer while it is written: in private, where the platform can, unless it comes in bubbles."""
        channel = self._outbox.channel(claimed.platform)
        if (
            channel is None
            or not channel.previews
            or claimed.kind is not ConversationKind.PRIVATE
            or not claimed.pending  # a late answer comes when it is whole, and perhaps without a sound
            or self._style(claimed) is not ReplyStyle.WHOLE
            or messages[-1].message.command is not None
        ):
            return None
        owner = self._options.owner

        async def remember(message_id: str) -> None:
            await self._store.write(lambda tx: tx.conversations.set_preview(claimed.id, owner, message_id))

        async def may_send() -> bool:
            return await self._outbox.may_send(claimed.platform, claimed.chat_id, claimed.kind)

        return Preview(channel.sender, claimed.chat_id, may_send, remember, claimed.preview_message_id)

    def _style(self, claimed: ClaimedConversation) -> ReplyStyle:
        return claimed.settings.style or self._parts.persona.style

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
            return addressed(draft.done.segments, claimed, messages)
        of_model = draft.source is Source.MODEL
        preview = watchers.preview
        manner = Manner(
            style=self._style(claimed) if of_model else ReplyStyle.WHOLE,
            silent=not claimed.pending
            and claimed.person.is_quiet(self._clock.now(), self._parts.default_zone),
            feedback=of_model and bool(claimed.settings.feedback),
            replaces=preview.message_id if preview else claimed.preview_message_id,
        )
        return addressed(spoken(channel, draft.text, manner), claimed, messages)

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
            owner=self._options.owner,
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
            effect=draft.done.effect if draft.done else None,
            written=draft.written,
        )
        await self._store.write(lambda tx: tx.turns.commit(result))
        watchers.finish(Outcome(draft.turn_id, claimed.id, reply, draft.defer))
        self._outbox.look_at(claimed.id)
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


def _renew(owner: str, conversation_ids: tuple[int, ...], until: datetime, tx: Transaction) -> None:
    tx.conversations.renew(owner, conversation_ids, until)


def _erase_left(now: datetime, tx: Transaction) -> None:
    tx.people.erase_left(now)


async def _until_loop_keeps_up() -> None:
    """Begin no turn while others keep the loop busy: a webhook's answer must not queue behind all of them."""
    loop = asyncio.get_running_loop()
    asked, seconds = loop.time(), BUSY_SECONDS
    while seconds >= BUSY_SECONDS and loop.time() - asked < LONGEST_HOLD_SECONDS:
        passed = loop.time()
        await asyncio.sleep(0)  # once through everything that is ready
        seconds = loop.time() - passed


def _cannot_wait(claimed: ClaimedConversation, news: Sequence[Pending]) -> bool:
    """What is being answered is not what they say any more, or somebody is in danger."""
    known = {waiting.inbox_id for waiting in claimed.pending}
    return any(waiting.inbox_id in known or assess(waiting.message.text) is Risk.HIGH for waiting in news)


def _history_of(messages: Sequence[Pending], draft: Draft) -> tuple[ChatMessage, ...]:
    """What the messages leave in the history; a command's only if it is to be written down."""
    if not draft.written:
        return ()
    source = Source.COMMAND if draft.done is not None else Source.PERSON
    return tuple(
        ChatMessage(
            saying.first.inbox_id, draft.turn_id, Role.USER, saying.text, source, saying.first.received_at
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
