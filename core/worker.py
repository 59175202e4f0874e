"""Works off conversations: lease one, wait out the burst, run the turn, commit, give the lease back.

Everything that must survive a crash is a row; what this module holds in memory only makes it
quick. A conversation that was woken but not worked on is found again by the sweeper.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import structlog

from core.burst import BurstRule
from core.errors import RESTING, LeaseLost, ModelUnavailable, StoreUnavailable
from core.live import LiveReplies
from core.loop_load import until_loop_keeps_up
from core.messages import FETCHED, Platform
from core.outbox import Outbox
from core.pauses import Pauses
from core.ports import ClaimedConversation, Clock, Store, Transaction, Wakeups
from core.turn import TurnParts
from core.turn_runner import Bell, TurnRunner

log = structlog.get_logger()

FAILED_TURN_BACKOFF = timedelta(seconds=5)
LATE_ANSWER_PAUSE = timedelta(seconds=30)
"""After a late answer failed again, before any is tried."""
UNCLAIMABLE_PAUSE = timedelta(minutes=1)
ERASE_EVERY_SECONDS = 2.0


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
    look_seconds: float | None = None
    """How often a running turn looks for what other processes stored for it; None: there are none."""
    sweeps: bool = True
    """Off in the terminal's own process, which answers only what was said there."""


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
        self._parts = parts
        self._runner = TurnRunner(
            store, clock, live, outbox, parts, options.owner, options.burst, options.look_seconds
        )
        self._options = options
        self._ready: dict[int, None] = {}
        """Conversations to look at, first come first served: a busy one queues behind the others after each turn."""
        self._has_ready = asyncio.Event()
        self._at_work: dict[int, Bell] = {}
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
            await until_loop_keeps_up()
            if not self._ready:
                self._slots.release()
                self._has_ready.clear()
                continue
            conversation_id = next(iter(self._ready))
            del self._ready[conversation_id]
            self._at_work[conversation_id] = Bell()
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
        """What is left of people who had themselves erased goes when their farewell is out; so do words kept for a
        retry."""
        while True:
            now = self._clock.now()
            try:
                # Only reading costs nothing: a write would be one every time.
                if await self._store.read(lambda tx: tx.people.is_leaving()):
                    await self._store.write(partial(_erase_left, now))
                if await self._store.read(partial(_has_kept, now)):
                    await self._store.write(partial(_forget_kept, now))
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
                await self._runner.run(claimed, bell)
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


def _renew(owner: str, conversation_ids: tuple[int, ...], until: datetime, tx: Transaction) -> None:
    tx.conversations.renew(owner, conversation_ids, until)


def _has_kept(now: datetime, tx: Transaction) -> bool:
    return tx.deliveries.has_kept(now)


def _forget_kept(now: datetime, tx: Transaction) -> None:
    tx.deliveries.forget_kept(now)


def _erase_left(now: datetime, tx: Transaction) -> None:
    tx.people.erase_left(now)
