"""From start to stop: what runs in which role, readiness, signals, and a shutdown that loses nothing."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from importlib.metadata import version as version_of
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import web

from adapters.web import page
from bot.api.access import Access, AccessRules
from bot.api.chat import ChatApi
from bot.api.schemas import PartReport, SystemInfo
from bot.api.system import SystemApi
from bot.compose import Companion, composed, make_cache
from bot.discord import DiscordParts, discord_parts
from bot.server import create_app
from bot.settings import Settings
from bot.telegram import TelegramParts, telegram_parts
from bot.wechat import WechatParts, wechat_parts
from core.errors import ConfigError, StoreUnavailable
from core.language import Language
from core.messages import Platform

if TYPE_CHECKING:  # the SDKs take a second
    from adapters.discord.gateway import ChannelState as GatewayState
    from adapters.telegram.receive import ChannelState

log = structlog.get_logger()

ROLES = frozenset({"serve", "work", "discord"})
"""serve: HTTP and the platforms' messages; work: turns and deliveries; discord: its gateway."""
PART_SECONDS = 2.0
CANNOT_WRITE = timedelta(seconds=15)
"""How long a failed write speaks against the database, unless one succeeds meanwhile. Then others may try again."""
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - what the operator may have set
DRAIN_REQUESTS_SECONDS = 1.0
UNREADABLE_SECONDS = 600.0


async def run(settings: Settings, roles: frozenset[str], ready: Callable[[str], None]) -> None:
    """Run these roles until SIGTERM or SIGINT. `ready` is called with the server's address once it listens.

    Raises ConfigError, StoreUnavailable.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    telegram = await asyncio.to_thread(telegram_parts, settings)
    cache = make_cache(settings)
    wechat = await asyncio.to_thread(wechat_parts, settings, cache)
    discord = await asyncio.to_thread(discord_parts, settings)
    channels = {Platform.TELEGRAM: telegram.channel} if telegram else {}
    if wechat is not None:
        channels[Platform.WECHAT] = wechat.channel
    if discord is not None:
        channels[Platform.DISCORD] = discord.channel
    async with composed(
        settings, channels=channels, sweeps="work" in roles, alone=_alone(settings, roles)
    ) as companion:
        await _Process(settings, roles, companion, telegram, wechat, discord).run(stopping, ready)
    await cache.close()


def _alone(settings: Settings, roles: frozenset[str]) -> bool:
    """Whether this process does everything: on a database file, and no other process is woken or wakes."""
    needed = ROLES if settings.discord_bot_token is not None else ROLES - {"discord"}
    return roles >= needed and settings.redis_url is None and settings.store_url.startswith("sqlite")


class _Process:
    """One running process: its tasks, and the order in which they are stopped."""

    def __init__(
        self,
        settings: Settings,
        roles: frozenset[str],
        companion: Companion,
        telegram: TelegramParts | None,
        wechat: WechatParts | None,
        discord: DiscordParts | None,
    ) -> None:
        self._settings = settings
        self._roles = roles
        self._companion = companion
        self._telegram = telegram
        self._wechat = wechat
        self._discord = discord
        self._began = time.monotonic()
        self._stopping = asyncio.Event()

    async def run(self, stopping: asyncio.Event, ready: Callable[[str], None]) -> None:
        self._stopping = stopping
        runner = await self._start_server() if "serve" in self._roles else None
        tasks = [asyncio.create_task(job(), name=name) for name, job in self._jobs().items()]
        try:
            if runner is not None:
                host, port = runner.addresses[0][:2]
                ready(f"http://{'127.0.0.1' if host in EVERYWHERE else host}:{port}")
            gc.collect()
            gc.freeze()  # what the start made stays: looking through it again and again takes tenths of a second
            log.info("started", roles=",".join(sorted(self._roles)), pid=os.getpid())
            await self._until_stopped(stopping, tasks)
        finally:
            await self._stop(runner, tasks)

    def _jobs(self) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        jobs: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {}
        if "work" in self._roles:
            jobs |= {
                "worker": self._companion.worker.run,
                "outbox": self._companion.outbox.run,
                "model": self._companion.model.prepare,
            }
        if self._telegram is not None and "serve" in self._roles:
            telegram, intake = self._telegram, self._companion.intake
            jobs["telegram"] = lambda: telegram.receiver.run(intake)
        if self._wechat is not None:
            jobs["wechat"] = self._wechat.run
        if self._discord is not None and "discord" in self._roles:
            gateway, inbox, store = self._discord.gateway, self._companion.intake, self._companion.store
            jobs["discord"] = lambda: gateway.run(inbox, store)
        return jobs

    async def _until_stopped(self, stopping: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
        """Until a signal comes; a task that dies takes the process with it, to be started afresh."""
        stop = asyncio.create_task(stopping.wait())
        waiting: set[asyncio.Task[None] | asyncio.Task[bool]] = {stop, *tasks}
        while stop not in (await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED))[0]:
            for task in [task for task in waiting if task.done()]:
                task.result()
                waiting.discard(task)

    async def _stop(self, runner: web.AppRunner | None, tasks: list[asyncio.Task[None]]) -> None:
        """First nothing new comes in, then what runs may finish, then what is left stays in its rows."""
        began = time.monotonic()
        self._stopping.set()
        log.info("stopping")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._companion.worker.drain(self._settings.shutdown_seconds)
        left = self._settings.shutdown_seconds - (time.monotonic() - began)
        await self._companion.outbox.drain(max(1.0, left))
        await self._companion.worker.let_go()
        if runner is not None:
            await runner.cleanup()
        if self._telegram is not None:
            await self._telegram.close()
        if self._wechat is not None:
            await self._wechat.close()
        if self._discord is not None:
            await self._discord.close()
        log.info("stopped", seconds=round(time.monotonic() - began, 2))

    # --- the server -------------------------------------------------------------------------

    async def _start_server(self) -> web.AppRunner:
        settings, companion = self._settings, self._companion
        access = Access(companion.store, companion.limiter, companion.clock, _rules(settings))
        chat = ChatApi(companion.dialogue, companion.store, access, companion.clock, settings.timeout)
        system = SystemApi(access, companion.metrics, self._parts, self._info, self._stopping.is_set)
        version = version_of("xinyu")
        extra = page.routes(
            {language.value: name for language, name in companion.personas.default.names.items()},
            access_page(access),
        )
        if self._telegram is not None:
            extra += self._telegram.receiver.routes(companion.intake)
        if self._wechat is not None:
            extra += self._wechat.routes(companion.intake, companion.passive, companion.store)
        app = create_app(chat, system, access, companion.metrics, version, extra)
        runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=DRAIN_REQUESTS_SECONDS, keepalive_timeout=75
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, settings.host, settings.port, backlog=4096).start()
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            raise ConfigError(
                f"PORT {settings.port} on HOST {settings.host}: "
                + (
                    "taken. Is XinYu running already?"
                    if taken
                    else f"cannot listen there ({type(error).__name__})"
                )
                + " `xinyu doctor` tells more."
            ) from error
        return runner

    async def _parts(self) -> dict[str, PartReport]:
        parts = {"database": await self._database()}
        states = self._companion.model.states
        if not states:
            parts["model"] = PartReport(state="down", detail="not_configured")
        elif not self._companion.model.available:
            parts["model"] = PartReport(state="down", detail="resting_after_failures")
        else:
            resting = any(state != "closed" for state in states.values())
            parts["model"] = PartReport(
                state="degraded" if resting else "ok", detail=",".join(states.values())
            )
        if self._telegram is not None:
            parts["telegram"] = _of_channel(self._telegram.receiver.state)
        if self._wechat is not None:
            parts["wechat"] = _of_wechat(self._wechat)
        if self._discord is not None and "discord" in self._roles:
            parts["discord"] = _of_channel(self._discord.gateway.state)
        return parts

    async def _database(self) -> PartReport:
        try:
            async with asyncio.timeout(PART_SECONDS):
                await self._companion.store.read(lambda tx: tx.any_data_key())
        except (StoreUnavailable, TimeoutError):
            return PartReport(state="down", detail="no_answer")
        failed_at = self._companion.intake.failed_at
        if failed_at is not None and self._companion.clock.now() - failed_at < CANNOT_WRITE:
            return PartReport(state="down", detail="cannot_write")
        return PartReport(state="ok", detail="answers")

    def _info(self) -> SystemInfo:
        settings = self._settings
        platforms = ["web", "terminal"] + (["telegram"] if self._telegram else [])
        platforms += ["wechat"] if self._wechat else []
        platforms += ["discord"] if self._discord else []
        return SystemInfo(
            name=self._companion.personas.default.names[Language.ZH],
            version=version_of("xinyu"),
            database=settings.store_url.partition(":")[0].partition("+")[0],
            models=list(self._companion.model.states),
            platforms=platforms,
            features={
                "redis": settings.redis_url is not None,
                "knowledge": False,
                "memory": False,
                "agent": False,
            },
            uptime_seconds=round(time.monotonic() - self._began, 3),
        )


def _of_channel(state: ChannelState | GatewayState) -> PartReport:
    if not state.up:
        return PartReport(state="down", detail=state.detail)
    return PartReport(state="ok" if state.detail == "ok" else "degraded", detail=state.detail)


def _of_wechat(parts: WechatParts) -> PartReport:
    """Messages come by themselves; what can be wrong is the API."""
    now = time.monotonic()
    troubles = []
    for api in parts.apis.values():
        name = api.account.name or "main"
        trouble = "quota_exhausted" if api.quota_used_up else api.trouble
        if trouble:
            troubles.append(f"{name}:{trouble}")
        if api.unreadable_at is not None and now - api.unreadable_at < UNREADABLE_SECONDS:
            troubles.append(f"{name}:unreadable_messages")
    return PartReport(state="degraded" if troubles else "ok", detail=",".join(troubles) or "ok")


def access_page(access: Access) -> Callable[[web.Request], Awaitable[object]]:
    """The page is for those who may chat: today, this machine itself."""

    async def check(request: web.Request) -> object:
        return await access.caller(request, "chat")

    return check


def _rules(settings: Settings) -> AccessRules:
    hosts = {"localhost", "127.0.0.1", "::1", *settings.allowed_hosts}
    # Not PUBLIC_URL's: who asks for that comes from elsewhere, through a proxy that may not say so.
    return AccessRules(frozenset(hosts), frozenset(settings.cors_origins), settings.rate_limit_per_minute)
