"""The core as the program puts it together, for tests: the real store, intake, worker, outbox and model client.

Only what is outside is not real: the platform's end (a `Phone`), the model server, and a clock that can be put forward.
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from bot.logs import logging_to
from bot.metrics import Metrics
from core.burst import BurstRule
from core.dialogue import Dialogue
from core.intake import Intake
from core.live import LiveReplies
from core.messages import Delivery, IncomingMessage, Platform, Segment
from core.model.breaker import Breaker, BreakerRule
from core.model.client import ModelClient, ModelEndpoint, ModelLimits
from core.model.fallback import Candidate, FallbackModel, RetryRule
from core.model.prices import Price
from core.outbox import Channel, Outbox, OutboxOptions, Pace
from core.persona.card import load_personas
from core.phrases import load_phrases
from core.safety.protocol import load_protocols
from core.turn import TurnParts
from core.worker import Worker, WorkerOptions
from storage.keys import KEY_BYTES, KeyRing
from storage.rate_limits import LocalRateLimiter
from storage.sql.open import SqlStore, open_store
from storage.wakeups import LocalWakeups
from tests.fakes.model_server import KEY, MODEL, FakeModelServer

PATIENCE = 20.0
AT_ONCE = BurstRule(0.0, 0.0)
FAST = Pace(per_second=10_000, at_once=10_000)
STUBBORN = BreakerRule(failures=1_000_000)
_event_ids = itertools.count(1)


def said(
    text: str,
    chat: str = "chat",
    *,
    alone: bool = False,
    platform: Platform = Platform.TELEGRAM,
    event_id: str | None = None,
) -> IncomingMessage:
    """Somebody says something in a chat of their own."""
    event = event_id or f"event-{next(_event_ids)}"
    return IncomingMessage(platform, event, chat, f"person-{chat}", text, datetime.now(UTC), alone=alone)


@dataclass
class ForwardClock:
    """The real time, and what it was put forward by."""

    ahead: timedelta = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def forward(self, **units: float) -> None:
        self.ahead += timedelta(**units)


@dataclass(frozen=True)
class Received:
    delivery: Delivery
    at: float

    @property
    def text(self) -> str:
        return self.delivery.segment.text


@dataclass
class Phone:
    """A platform's end: takes deliveries, unless `trouble` raises, and remembers them."""

    received: list[Received] = field(default_factory=list)
    typing: list[str] = field(default_factory=list)
    attempts: list[Delivery] = field(default_factory=list)
    trouble: Callable[[Delivery], Exception | None] = lambda _: None
    render: Callable[[str], list[Segment]] = lambda text: [Segment(text)]
    most_at_once: int = 0
    previews: list[tuple[str, str]] = field(default_factory=list)
    preview_message_id: str | None = None
    """What stands in the chat for a preview; None where it goes away by itself."""
    managers: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._changed = asyncio.Event()
        self._sending = 0
        self.gate = asyncio.Event()
        """Clear it and the platform takes its time."""
        self.gate.set()

    async def send(self, delivery: Delivery) -> str | None:
        self.attempts.append(delivery)
        self._sending += 1
        self.most_at_once = max(self.most_at_once, self._sending)
        self._bump()
        try:
            await self.gate.wait()
            error = self.trouble(delivery)
            if error is not None:
                raise error
            self.received.append(Received(delivery, time.monotonic()))
            return f"m{len(self.received)}"
        finally:
            self._sending -= 1
            self._bump()

    async def show_typing(self, chat_id: str) -> None:
        self.typing.append(chat_id)
        self._bump()

    async def show_preview(
        self, chat_id: str, preview_id: int, text: str, message_id: str | None
    ) -> str | None:
        self.previews.append((chat_id, text))
        self._bump()
        return self.preview_message_id

    async def may_manage(self, chat_id: str, user_id: str) -> bool:
        return user_id in self.managers

    def texts(self, chat: str | None = None) -> list[str]:
        return [got.text for got in self.received if chat in (None, got.delivery.chat_id)]

    async def wait_until(self, holds: Callable[[], bool]) -> None:
        """Wait until something about this phone is true. Raises TimeoutError."""
        async with asyncio.timeout(PATIENCE):
            while not holds():
                await self._changed.wait()

    async def wait_for(self, count: int, chat: str | None = None) -> list[str]:
        """The texts received (in one chat), as soon as there are so many."""
        await self.wait_until(lambda: len(self.texts(chat)) >= count)
        return self.texts(chat)

    def _bump(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


@dataclass
class Companion:
    """A running core."""

    folder: Path
    store: SqlStore
    intake: Intake
    dialogue: Dialogue
    worker: Worker
    outbox: Outbox
    phone: Phone
    clock: ForwardClock
    metrics: Metrics
    owner: str
    _jobs: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self) -> None:
        self._jobs = [asyncio.create_task(self.worker.run()), asyncio.create_task(self.outbox.run())]

    async def stop(self, *, turns: float = 0, deliveries: float = 0) -> None:
        for job in self._jobs:
            job.cancel()
        results = await asyncio.gather(*self._jobs, return_exceptions=True)
        await self.worker.drain(turns)
        await self.outbox.drain(deliveries)
        await self.worker.let_go()
        broken = [result for result in results if not isinstance(result, asyncio.CancelledError)]
        assert not broken, broken
        self._jobs = []

    async def say(self, text: str, chat: str = "chat", **more: Any) -> int:
        """Somebody says something; the conversation's id."""
        accepted = await self.intake.accept(said(text, chat, **more))
        assert accepted is not None
        return accepted.conversation_id

    def rows(self, query: str, *values: object) -> list[Any]:
        return rows(self.folder, query, *values)

    def measured(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


def rows(folder: Path, query: str, *values: object) -> list[Any]:
    """What a query finds in the database of a folder."""
    with closing(sqlite3.connect(f"file:{folder}/xinyu.db?mode=ro", uri=True)) as database:
        return database.execute(query, values).fetchall()


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what has no event to wait on: a row that another thread writes. Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE):
        while not holds():
            await asyncio.sleep(0.02)


def fallback_model(
    server: FakeModelServer,
    *,
    rule: RetryRule = RetryRule(tries=1),
    limits: ModelLimits = ModelLimits(),
    breaker: BreakerRule = STUBBORN,
    prices: Mapping[str, Price] = {},
) -> FallbackModel:
    client = ModelClient(ModelEndpoint(server.base_url, KEY, MODEL), limits, prices)
    return FallbackModel([Candidate(client, Breaker(breaker))], rule)


@asynccontextmanager
async def companion(
    folder: Path,
    model: FallbackModel,
    *,
    burst: BurstRule = AT_ONCE,
    phone: Phone | None = None,
    pace: Pace = FAST,
    chat_pace: Pace = FAST,
    turns_at_once: int = 64,
    options: OutboxOptions = OutboxOptions(owner="", sweep_seconds=0.05),
    owner: str = "this-process",
    sweep_seconds: float = 0.05,
    lease: timedelta = timedelta(seconds=30),
    running: bool = True,
    channel: bool = True,
) -> AsyncIterator[Companion]:
    """A core on the database in a folder. `running=False`: `start` it when the test is ready.

    `channel=False`: Telegram is switched off in this process.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(logging_to(folder / "log", terminal=StringIO()))
        store = await open_store(f"sqlite:///{folder / 'xinyu.db'}", KeyRing(bytes(KEY_BYTES)))
        stack.push_async_callback(store.close)
        stack.push_async_callback(model.close)
        phone = phone or Phone()
        clock, live, metrics, wakeups = (
            ForwardClock(),
            LiveReplies(),
            Metrics(CollectorRegistry()),
            LocalWakeups(),
        )
        telegram = Channel(phone, phone.render, overall=pace, chat=chat_pace, group=chat_pace)
        outbox = Outbox(
            store,
            {Platform.TELEGRAM: telegram} if channel else {},
            LocalRateLimiter(lambda: time.monotonic() + clock.ahead.total_seconds()),
            clock,
            metrics,
            replace(options, owner=owner),
        )
        parts = TurnParts(
            model,
            load_personas(),
            load_phrases(),
            load_protocols(),
            2000,
            metrics,
            store,
            "Asia/Shanghai",
            clock,
        )
        worker = Worker(
            store,
            wakeups,
            clock,
            live,
            outbox,
            parts,
            WorkerOptions(
                owner=owner,
                burst=burst,
                turns_at_once=turns_at_once,
                lease=lease,
                sweep_seconds=sweep_seconds,
            ),
        )
        intake = Intake(store, wakeups, clock, metrics)
        stack.push_async_callback(intake.close)
        made = Companion(
            folder=folder,
            store=store,
            intake=intake,
            dialogue=Dialogue(intake, store, live),
            worker=worker,
            outbox=outbox,
            phone=phone,
            clock=clock,
            metrics=metrics,
            owner=owner,
        )
        stack.push_async_callback(made.stop)
        if running:
            made.start()
        yield made
