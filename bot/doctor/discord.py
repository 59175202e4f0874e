"""The Discord bot: whether its token is taken, and what it may read."""

from __future__ import annotations

import asyncio
import importlib

from bot.discord import discord_settings
from bot.doctor.finding import Finding, State
from bot.doctor.surroundings import Surroundings

SECONDS = 8.0
FEW_SESSIONS = 20


async def discord(around: Surroundings) -> Finding:
    """The application and its gateway, without beginning a session."""
    if around.settings.discord_bot_token is None:
        return Finding("discord", State.SKIPPED, "没有设 DISCORD_BOT_TOKEN · not set")
    wanted = await asyncio.to_thread(discord_settings, around.settings)
    assert wanted is not None
    await asyncio.to_thread(importlib.import_module, "adapters.discord.check")  # the SDK takes a second
    from adapters.discord.check import ask_discord

    facts = await ask_discord(wanted, SECONDS)
    if isinstance(facts, str):
        found, advice = trouble(facts)
        return Finding("discord", State.FAIL, f"{found} ({facts})", advice)
    about = f"{facts.name}, 在 {facts.servers} 个服务器 · servers"
    if not facts.message_content:
        found = f"{about}；看不到没 @ 它的消息 · cannot read messages that do not name it"
        return Finding("discord", State.WARN, found, _INTENT)
    if facts.sessions_left < FEW_SESSIONS:
        found = f"{about}；还能连接 {facts.sessions_left} 次 · times it may still connect"
        minutes = facts.sessions_reset_seconds // 60
        return Finding("discord", State.WARN, found, f"{minutes} 分钟后恢复 · minutes until it is reset")
    if not facts.servers:
        return Finding("discord", State.OK, about, "`xinyu discord invite` 给出邀请链接 · prints the invite")
    return Finding("discord", State.OK, about)


def trouble(word: str) -> tuple[str, str]:
    """What a fixed word of the adapter's means, and what to do."""
    return _TROUBLE.get(word, ("没有正常回应 · answers oddly", _ADDRESS))


_INTENT = (
    "Developer Portal → Bot → Message Content Intent 打开；不打开只能在私信和被 @ 时回应 · "
    "switch it on there; without it: private chats and mentions only"
)
_ADDRESS = (
    "看网络、HTTPS_PROXY 和 DISCORD_API_BASE_URL · look at network, HTTPS_PROXY and DISCORD_API_BASE_URL"
)
_TROUBLE = {
    "refused_token": (
        "不认这个令牌 · refused the token",
        "Developer Portal → Bot → Reset Token，填进 DISCORD_BOT_TOKEN · reset it there and set it here",
    ),
    "unreachable": ("连不上 · unreachable", _ADDRESS),
    "timeout": ("没有回应 · no answer", _ADDRESS),
    "rate_limited": ("限流 · rate limited", "过一会儿再试 · try again later"),
}
