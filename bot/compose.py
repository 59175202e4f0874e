"""The composition root: settings in, a running set of parts out. The only place that knows all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import structlog
from prometheus_client import CollectorRegistry

from bot.clock import SystemClock
from bot.metrics import Metrics
from bot.presence import Presence
from bot.settings import Settings
from core.burst import BurstRule
from core.dialogue import Dialogue
from core.errors import ConfigError
from core.intake import Intake
from core.live import LiveReplies
from core.messages import Platform
from core.model.breaker import Breaker
from core.model.client import ModelClient, ModelEndpoint, ModelLimits
from core.model.fallback import Candidate, FallbackModel, RetryRule
from core.model.prices import DEFAULT_PRICES, load_prices
from core.outbox import Channel, Outbox, OutboxOptions
from core.passive import PassiveReplies
from core.persona.card import Personas, load_personas
from core.phrases import load_phrases
from core.ports import Wakeups
from core.safety.protocol import load_protocols
from core.turn import TurnParts
from core.worker import Worker, WorkerOptions
from storage.keys import KeyRing, load_or_create_key, parse_key
from storage.rate_limits import LocalRateLimiter
from storage.shared_cache import LocalCache, RedisCache
from storage.sql.open import SqlStore, open_store
from storage.sql.revision import has_people
from storage.wakeups import LocalWakeups, RedisWakeups

log = structlog.get_logger()

KEY_FILE = "encryption.key"
PASSIVE_LOOK_SECONDS = 0.3
"""Of five: how often a waiting webhook looks for what another process answered."""


@dataclass(frozen=True, slots=True)
class Companion:
    """The core with everything it needs from outside."""

    store: SqlStore
    intake: Intake
    dialogue: Dialogue
    worker: Worker
    outbox: Outbox
    model: FallbackModel
    personas: Personas
    metrics: Metrics
    presence: Presence
    clock: SystemClock
    limiter: LocalRateLimiter
    wakeups: Wakeups
    passive: PassiveReplies


def key_ring(settings: Settings) -> KeyRing:
    """The ring for ENCRYPTION_KEY, or for the embedded installation's own key file. Raises ConfigError."""
    if settings.encryption_key is not None:
        return KeyRing(parse_key(settings.encryption_key.get_secret_value()))
    return KeyRing(load_or_create_key(settings.data_dir / KEY_FILE))


@asynccontextmanager
async def opened_store(settings: Settings) -> AsyncIterator[SqlStore]:
    """The database alone, for commands. Raises ConfigError, StoreUnavailable."""
    _make_data_folder(settings)
    await asyncio.to_thread(_refuse_lost_key, settings)
    store = await open_store(settings.store_url, key_ring(settings))
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def composed(
    settings: Settings,
    *,
    channels: Mapping[Platform, Channel],
    sweeps: bool = True,
    only: Platform | None = None,
    alone: bool = True,
) -> AsyncIterator[Companion]:
    """The companion, its leases taken over from dead processes; nothing runs yet.

    `sweeps`: look for work that nobody woke us for. `only`: answer on that platform alone, and take no part in
    the wake-ups of other processes, who wait for what is woken here. `alone`: no other process stores messages.
    """
    async with AsyncExitStack() as stack:
        _make_data_folder(settings)
        presence = stack.enter_context(Presence(settings.data_dir / "run"))
        store = await stack.enter_async_context(opened_store(settings))
        await _take_over(store, presence)
        clock, live, limiter = SystemClock(), LiveReplies(), LocalRateLimiter()
        metrics = Metrics(CollectorRegistry())
        model = make_model(settings)
        stack.push_async_callback(model.close)
        wakeups = make_wakeups(settings, presence.owner) if only is None else LocalWakeups()
        stack.push_async_callback(wakeups.close)
        personas = load_personas(settings.persona_file, settings.personas_dir)
        outbox = Outbox(
            store, channels, limiter, clock, metrics, OutboxOptions(owner=presence.owner, sweeps=sweeps)
        )
        parts = TurnParts(
            model=model,
            personas=personas,
            phrases=load_phrases(),
            protocols=load_protocols(),
            window_tokens=settings.window_tokens,
            measures=metrics,
            store=store,
            default_zone=settings.timezone,
            clock=clock,
        )
        options = WorkerOptions(
            owner=presence.owner,
            burst=BurstRule(settings.burst_quiet_seconds, settings.burst_max_seconds),
            turns_at_once=settings.max_turns,
            look_seconds=None if alone else 1.0,
            sweeps=sweeps,
            platforms=() if only is None else (only,),
        )
        intake = Intake(store, wakeups, clock, metrics)
        stack.push_async_callback(intake.close)
        yield Companion(
            store=store,
            intake=intake,
            dialogue=Dialogue(intake, store, live),
            worker=Worker(store, wakeups, clock, live, outbox, parts, options),
            outbox=outbox,
            model=model,
            personas=personas,
            metrics=metrics,
            presence=presence,
            clock=clock,
            limiter=limiter,
            wakeups=wakeups,
            passive=PassiveReplies(
                intake, store, live, outbox, clock, None if alone else PASSIVE_LOOK_SECONDS
            ),
        )


def _refuse_lost_key(settings: Settings) -> None:
    """A new key in the place of a lost one opens nothing, and would look like the right one to a backup."""
    file = settings.data_dir / KEY_FILE
    if settings.encryption_key is None and not file.exists() and has_people(settings.store_url):
        raise ConfigError(
            f"{file} is gone, and the database was written with it: restore it from your backup"
        )


def _make_data_folder(settings: Settings) -> None:
    """What people said lies there: it is nobody else's to read, sealed or not."""
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)


def model_endpoints(settings: Settings) -> list[ModelEndpoint]:
    """DEFAULT_MODEL and FALLBACK_MODELS, without those that need a key and have none.

    The key goes to the host it was given for and to no other.
    """
    key = settings.llm_api_key.get_secret_value() if settings.llm_api_key else ""
    own_host = urlsplit(settings.llm_base_url).hostname
    endpoints = []
    for entry in (settings.default_model, *settings.fallback_models):
        name, _, base_url = entry.partition("@")
        host = urlsplit(base_url or settings.llm_base_url).hostname
        its_key = key if host == own_host else ""
        if its_key or host != _DEFAULT_HOST:
            endpoints.append(ModelEndpoint(base_url or settings.llm_base_url, its_key, name))
    return endpoints


def make_model(settings: Settings) -> FallbackModel:
    """The default model and its fallbacks, each behind its breaker."""
    prices = load_prices(settings.prices_file or DEFAULT_PRICES)
    limits = ModelLimits(
        first_token_seconds=settings.model_first_token_seconds,
        stall_seconds=settings.model_stall_seconds,
        connections=settings.max_model_calls,
    )
    return FallbackModel(
        [
            Candidate(ModelClient(endpoint, limits, prices), Breaker())
            for endpoint in model_endpoints(settings)
        ],
        RetryRule(calls_at_once=settings.max_model_calls),
    )


def make_wakeups(settings: Settings, consumer: str) -> Wakeups:
    if settings.redis_url is None:
        return LocalWakeups()
    from redis.asyncio import Redis

    return RedisWakeups(Redis.from_url(settings.redis_url.get_secret_value()), consumer)


def make_cache(settings: Settings) -> LocalCache | RedisCache:
    """What processes share for a short while. Connects when it is first used."""
    if settings.redis_url is None:
        return LocalCache()
    from redis.asyncio import Redis

    return RedisCache(Redis.from_url(settings.redis_url.get_secret_value()))


async def _take_over(store: SqlStore, presence: Presence) -> None:
    """Give back the leases of processes of this machine that died."""
    owners = await store.read(lambda tx: tx.conversations.lease_owners())
    for owner in await asyncio.to_thread(presence.dead_among, owners):
        await store.write(lambda tx, owner=owner: tx.conversations.release_all(owner))  # type: ignore[misc]
        log.info("leases_taken_over", owner=owner)


_DEFAULT_HOST = urlsplit(str(Settings.model_fields["llm_base_url"].default)).hostname
